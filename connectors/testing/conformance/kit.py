"""What the checks of the conformance kit share.

The sink, records whose ids can be found again, and the real batch sender between the sink and a hostile
server. Only time is not real: waits between tries are recorded instead of waited for.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import ssl
import tempfile
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeVar
from unittest import mock

import msgspec

from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.delivery.batch_sender import BatchSender
from connectors.delivery.batching import BatchLimits, Buffer
from connectors.delivery.gate import Sleep
from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin, Sink, Skip, Spec, spec_of
from connectors.sdk.http import Http, Response
from connectors.sdk.outcomes import Rejected
from connectors.testing import samples
from connectors.testing.conformance.hostile_server import OK, Answer, HostileServer, Plan, Received
from connectors.testing.samples import Sample

T = TypeVar("T")

WAITS: Final = 200
"""Waits between tries after which a batch counts as stuck."""
IMPATIENT: Final = 0.5
"""Seconds after which the kit gives up in the sink's place if the server hangs on purpose."""


@functools.cache
def _context(cafile: str | None = None) -> ssl.SSLContext:
    """A TLS context that trusts no authority."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Stuck(AssertionError):
    """A batch did not finish."""


class Record(msgspec.Struct, frozen=True):
    """A record that the sink sends."""

    number: int
    name: str
    """Name of the sample."""
    enriched: Enriched
    payload: Payload

    @property
    def id(self) -> str:
        return self.enriched.event.event_id or ""

    @property
    def item(self) -> Item:
        event = self.enriched.event
        source = RecordOrigin(
            "trace.enriched",
            0,
            self.number,
            self.number,
            event_id=event.event_id,
            trace_id=event.trace_id,
            kind=event.kind,
        )
        return Item(self.payload, source)


class Watched:
    """The real transport, which records the time limits that the sink sets.

    Args:
        limit: seconds that a request may take at most, whatever the sink sets.
    """

    def __init__(self, http: Http) -> None:
        self._http = http
        self.limit: float | None = None
        self.asked: list[float] = []
        """Time limit in seconds of each request."""

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        self.asked.append(seconds)
        return await self._http.request(
            method, url, body, headers, seconds=seconds if self.limit is None else min(seconds, self.limit)
        )


class Bench:
    """One sink with one batch sender and one server. Use it with `async with`."""

    def __init__(self, sink: Sink, server: HostileServer | None, limits: BatchLimits) -> None:
        self.sink, self.server, self._limits = sink, server, limits
        self.slept: list[float] = []
        """Seconds of each wait between two tries."""
        self._now = 1000.0

    async def __aenter__(self) -> Bench:
        # loading the system's authorities would take most of a check's time, and the server uses plain HTTP
        with mock.patch("ssl.create_default_context", _context):
            self._transport = AiohttpTransport()
        self.http = Watched(self._transport)
        self._stuck = asyncio.Event()
        self.batch_sender = batch_sender(self.sink, self.http, self._sleep, lambda: self._now)
        return self

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self.sink, "close", None)
        if close is not None:
            await close()
        await self._transport.close()

    @property
    def requests(self) -> list[Received]:
        return [] if self.server is None else self.server.requests

    async def deliver(self, records: Sequence[Record]) -> dict[str, RecordResult]:
        """Event id -> result.

        Sends batches as large as the sink wants, one after the other, like a partition.
        """
        buffer: Buffer[Record] = Buffer(self._limits)
        for record in records:
            buffer.add(record, record.payload.size, 0.0)
        results: dict[str, RecordResult] = {}
        while batch := buffer.take():
            settled = await self._settled(Batch(tuple(r.item for r in batch)))
            results |= {r.id: result for r, result in zip(batch, settled, strict=True)}
        return results

    async def _settled(self, batch: Batch) -> list[RecordResult]:
        """The results of a batch. Raises `Stuck`."""
        work = asyncio.ensure_future(self.batch_sender.deliver(batch))
        stuck = asyncio.ensure_future(self._stuck.wait())
        try:
            await asyncio.wait({work, stuck}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        finally:
            work.cancel()
            stuck.cancel()
            await asyncio.wait({work, stuck}, timeout=5)
        raise Stuck(
            f"after {WAITS} waits the sink still retries the same records: {self.batch_sender.activity}"
        )

    async def _sleep(self, seconds: float) -> None:
        """Advances the clock without waiting."""
        self.slept.append(seconds)
        self._now += seconds
        if len(self.slept) > WAITS:
            self._stuck.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)


def batch_sender(sink: Sink, http: Http, sleep: Sleep, clock: Callable[[], float]) -> BatchSender:
    """The runner's batch sender, with the bench's clock."""
    return BatchSender("kit", sink, http, sleep=sleep, random=lambda: 0.5, clock=clock)


class Kit:
    """What a conformance test declares about its sink.

    Override what does not fit. Everything except `sink` has a default.
    """

    sink: ClassVar[Any] = None
    """The sink's class."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """The sink's settings.

    In texts, {endpoint} stands for the server's base URL, {secret} for a value that must not leak,
    {folder} for an empty folder.
    """
    transport: ClassVar[Literal["http"] | None] = "http"
    """None: the sink does not send over HTTP, and the checks that need a server are skipped."""
    exceptions: ClassVar[Mapping[str, str]] = {}
    """Check -> why it does not apply to this sink; it is skipped with that reason."""
    per_kind: ClassVar[int] = 1
    """Copies of each sample in large batches."""
    examples: ClassVar[int] = 40
    """Generated events for `map`, in addition to the written ones, if hypothesis is installed; 0: none."""

    # -- hooks
    def accepted(self, request: Received) -> Answer:
        """How the vendor answers a request that it accepts."""
        return OK

    def refused(self, request: Received, status: int, headers: Mapping[str, str]) -> Answer:
        """How the vendor answers with a status other than 2xx."""
        body = b'{"message": "as scripted"}'
        return Answer(status, {"Content-Type": "application/json", **headers}, body)

    def partial(self, request: Received, refused: Collection[str]) -> Answer | None:
        """How the vendor answers if it accepts a request except the records with these event ids.

        None: the vendor has no such answer.
        """
        return None

    def ids_in(self, request: Received) -> Collection[str]:
        """Event ids of the records in a request; a list if it is in the order of the request.

        The default searches the body for each record's event id, source id, span id (hex, base64 or
        bytes) and marked name.
        """
        found: dict[str, int] = {}
        for event_id, tokens in self._known.items():
            places = [at for at in map(request.body.find, tokens) if at >= 0]
            if places:
                found[event_id] = min(places)
        return sorted(found, key=found.__getitem__)

    def same(self, first: Received, again: Received) -> bool:
        """Whether a repeated request is equal to the first."""
        return (first.method, first.path, first.body) == (again.method, again.path, again.body)

    def make(self, settings: Any) -> Sink:
        """Creates the sink from its settings."""
        made: Sink = self.sink(settings)
        return made

    # -- used by the checks
    @property
    def spec(self) -> Spec:
        return spec_of(self.sink)

    @property
    def _known(self) -> dict[str, tuple[bytes, ...]]:
        """Event id -> what stands for it in a body."""
        found: dict[str, tuple[bytes, ...]] = self.__dict__.setdefault("_tokens", {})
        return found

    @property
    def sent(self) -> dict[str, Record]:
        """Event id -> record, for all records of this check; for your own `ids_in`."""
        found: dict[str, Record] = self.__dict__.setdefault("_sent", {})
        return found

    @property
    def folder(self) -> Path:
        found: tempfile.TemporaryDirectory[str] = self.__dict__.setdefault(
            "_folder", tempfile.TemporaryDirectory(prefix="tailrace-kit-")
        )
        return Path(found.name)

    def secret(self, setting: str) -> str:
        return f"kit-secret-{setting}-5d41402abc4b2a76"

    @property
    def secrets(self) -> list[str]:
        """Values for {secret} in the settings."""
        return [self.secret(name) for name, value in self.settings.items() if "{secret}" in str(value)]

    def values(self, endpoint: str = "http://127.0.0.1:9", secret: str = "") -> dict[str, Any]:
        """The settings with all placeholders filled in.

        Args:
            secret: used instead of the marked secrets.
        """

        def fill(value: Any, name: str) -> Any:
            if isinstance(value, str):
                value = value.replace("{endpoint}", endpoint).replace("{folder}", str(self.folder))
                return value.replace("{secret}", secret or self.secret(name))
            if isinstance(value, Mapping):
                return {k: fill(v, name) for k, v in value.items()}
            return value

        return {name: fill(value, name) for name, value in self.settings.items()}

    def build(self, endpoint: str = "http://127.0.0.1:9") -> Sink:
        """A new sink for that endpoint."""
        return self.make(msgspec.convert(self.values(endpoint), self.spec.settings, strict=False))

    def mapped(
        self, sink: Sink, chosen: Iterable[tuple[str, Sample]], start: int = 0
    ) -> Iterator[tuple[int, str, Enriched, Payload | Skip | Rejected]]:
        """(number, name of the sample, record, result of map), numbered from `start`."""
        read = samples.reader(self.spec.fields)
        for number, (name, sample) in enumerate(chosen, start):
            record = read(sample, number)
            yield number, name, record, sink.map(record)

    def records(self, sink: Sink, count: int = 0, start: int = 0, **changed: Any) -> list[Record]:
        """Copies of the samples that the sink sends.

        Args:
            count: number of copies, all of one sample; 0: some of each.
            start: number of the first copy; another one gives other ids.
            changed: fields of the event to change.
        """
        found = samples.samples()
        names = [n for n in found for _ in range(self.per_kind)]
        if count:
            names = [self._first_sent(sink)] * count
        chosen = [(name, samples.copy(found[name], start + i, **changed)) for i, name in enumerate(names)]
        out = []
        for (number, name, enriched, payload), (_, sample) in zip(
            self.mapped(sink, chosen, start), chosen, strict=True
        ):
            if isinstance(payload, Payload):
                record = Record(number, name, enriched, payload)
                out.append(record)
                self.sent[record.id], self._known[record.id] = record, _tokens(sample, number)
        assert out, "map returns no payload for any sample: the kit has nothing to send"
        return out

    def _first_sent(self, sink: Sink) -> str:
        """Name of the first sample that the sink sends."""
        found = self.mapped(sink, samples.samples().items())
        first = next((name for _, name, _, payload in found if isinstance(payload, Payload)), None)
        assert first is not None, "map returns no payload for any sample: the kit has nothing to send"
        return first

    @property
    def limits(self) -> BatchLimits:
        return BatchLimits(self.spec.max_records, self.spec.max_bytes)

    def run(self, check: Callable[[Bench], Coroutine[Any, Any, T]], plan: Plan | None = None) -> T:
        """Runs `check` on a new bench.

        Args:
            plan: what the server answers; None: it accepts everything.
        """

        async def inside(server: HostileServer | None) -> T:
            endpoint = "http://127.0.0.1:9" if server is None else server.endpoint
            async with Bench(self.build(endpoint), server, self.limits) as bench:
                return await check(bench)

        if self.transport is None:
            return asyncio.run(inside(None))
        with HostileServer(plan or self.accepted) as server:
            return asyncio.run(inside(server))

    @contextmanager
    def unreachable(self) -> Iterator[str]:
        """An endpoint where nothing listens."""
        with HostileServer() as server:
            endpoint = server.endpoint
        yield endpoint

    def first(self, times: int, answer: Callable[[Received], Answer], *, data: bool = True) -> Plan:
        """A plan: `answer` to the first `times` requests, then accept.

        Args:
            data: count only requests with records.
        """
        count = 0

        def plan(request: Received) -> Answer:
            nonlocal count
            if count >= times or (data and not self.ids_in(request)):
                return self.accepted(request)
            count += 1
            return answer(request)

        return plan

    def status(self, status: int, **headers: str) -> Callable[[Received], Answer]:
        """An answer with that status; header names with _ for -."""
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return lambda request: self.refused(request, status, named)

    def skip(self, reason: str) -> None:
        import pytest

        pytest.skip(reason)

    def needs(self, check: str, *, http: bool = True) -> None:
        """Skips a check that the sink declares as an exception, or that needs HTTP."""
        if check in self.exceptions:
            self.skip(self.exceptions[check])
        if http and self.transport is None:
            self.skip("the sink does not send over HTTP")

    def stored(self, bench: Bench) -> set[str]:
        """Event ids in requests that were answered with a 2xx."""
        return {
            event_id for request in bench.requests if request.accepted for event_id in self.ids_in(request)
        }

    def triggered(self, bench: Bench) -> None:
        """Fails if the kit cannot find records in the sink's requests."""
        broken = [r.problem for r in bench.requests if r.problem]
        assert not broken, f"a request cannot be read: {broken[0]}"
        assert any(self.ids_in(r) for r in bench.requests), (
            f"{len(bench.requests)} requests were made, but none of them holds the id of a record. "
            "If the ids have another form there, override ids_in(request)"
        )


def _tokens(sample: Sample, number: int) -> tuple[bytes, ...]:
    event, span = sample.event, sample.context.span_id
    texts = (
        event.event_id,
        event.source_id or "",
        span.hex(),
        base64.b64encode(span).decode(),
        samples.marker(number),
    )
    return (*(t.encode() for t in texts if t), span)
