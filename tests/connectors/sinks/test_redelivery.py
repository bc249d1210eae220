"""A whole topic sent again, three times, in other batches: vendors' stores hold what they held, OTLP spans
are the same bytes."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import pytest

from connectors.testing.doubles.langfuse import LangfuseDouble
from connectors.testing.doubles.opik import OpikDouble
from connectors.testing.doubles.otlp import OtlpReceiver
from tailrace import Publisher
from tailrace.broker import Broker
from tailrace.ledger.report import read_report
from tailrace.settings import Settings
from tests.golden.events import completed
from tests.harness.mixed import mixed
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until

pytestmark = pytest.mark.kafka

SINKS: Final = ("langfuse", "opik", "otlp")
BATCHES: Final = (500, 7, 50, 23)
"""Records of a request at most, a round each: the same records are neighbours of others every time."""
MIXED: Final = 400
_REQUEST_TO_SPAN: Final = (1, 2, 2)
"""Field numbers: resource_spans, scope_spans, spans."""

Spans = dict[tuple[str, str], list[bytes]]
"""By trace id and span id what was received, in that order."""


def inner(message: bytes, number: int) -> Iterator[bytes]:
    """The values of a length-delimited field of a protobuf message, as they are on the wire."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        match tag & 7:
            case 0:
                varint()
            case 1:
                at += 8
            case 2:
                size = varint()
                if tag >> 3 == number:
                    yield message[at : at + size]
                at += size
            case 5:
                at += 4
            case other:
                raise ValueError(f"wire type {other}")


def raw_spans(request: bytes) -> Iterator[bytes]:
    found = [request]
    for number in _REQUEST_TO_SPAN:
        found = [part for message in found for part in inner(message, number)]
    yield from found


class Raw(OtlpReceiver):
    """Keeps each span as the bytes that came, with the resource left out."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: Spans = {}

    def decompressed(self, request: Any, body: bytes) -> bytes:
        plain = super().decompressed(request, body)
        for span in raw_spans(plain):
            [trace], [own] = inner(span, 1), inner(span, 2)
            self.raw.setdefault((trace.hex(), own.hex()), []).append(span)
        return plain


class Vendors:
    """The three doubles on a loop of their own, in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _start(self) -> None:
        self.langfuse, self.opik, self.otlp = LangfuseDouble(), OpikDouble(), Raw()
        for double in (self.langfuse, self.opik, self.otlp):
            await double.start()

    async def _stop(self) -> None:
        for double in (self.langfuse, self.opik, self.otlp):
            await double.stop()

    def env(self, most: int) -> dict[str, str]:
        return {
            "TAILRACE_SINKS_LANGFUSE_HOST": self.langfuse.endpoint,
            "TAILRACE_SINKS_LANGFUSE_PUBLIC_KEY": self.langfuse.public_key,
            "TAILRACE_SINKS_LANGFUSE_SECRET_KEY": self.langfuse.secret_key,
            "TAILRACE_SINKS_OPIK_URL": self.opik.url,
            "TAILRACE_SINKS_OTLP_ENDPOINT": self.otlp.endpoint,
            **{f"TAILRACE_SINKS_{name.upper()}_MAX_RECORDS": str(most) for name in SINKS},
        }

    def stored(self) -> dict[str, list[Any]]:
        """What the two stores hold, by their own rules of merging."""
        langfuse: dict[str, Any] = msgspec.to_builtins(self.langfuse.store.state())
        opik = copy.deepcopy(self.opik.store.state())
        return {f"langfuse {k}": v for k, v in langfuse.items()} | {f"opik {k}": v for k, v in opik.items()}

    def take_spans(self) -> Spans:
        found, self.otlp.raw = self.otlp.raw, {}
        return found


def settled(settings: Settings, pipeline: Pipeline) -> dict[str, tuple[int, int, int, int]]:
    """Sink -> passed, delivered, filtered and dead-lettered records, of books that balance and have nothing
    open."""
    books = read_report(pipeline.admin, settings)
    assert books.balanced, books
    assert books.settled, books
    found: dict[str, tuple[int, int, int, int]] = {}
    for a in books.sinks:
        assert a.gaps == a.unnumbered == 0, a
        before = found.get(a.sink, (0, 0, 0, 0))
        now = (a.passed, a.delivered, a.filtered, a.dead_lettered)
        found[a.sink] = tuple(x + y for x, y in zip(before, now, strict=True))  # type: ignore[assignment]
    return found


def test_a_topic_that_is_redelivered_three_times_leaves_what_it_left_once(
    broker: Broker, tmp_path: Path
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    events = [*completed().values(), *mixed(11, MIXED, time.time_ns() // 1000)]
    with Publisher(settings=pipeline.settings) as publisher:
        for event in events:
            publisher.publish(event)
    with pipeline.process() as process:

        def applied() -> bool:
            streams = pipeline.ledger_report().streams
            return sum(a.events_in - a.links for a in streams) >= len(events) and not any(
                a.pending for a in streams
            )

        wait_until(applied, 60, "all is applied", alive=(process,), every=0.2)
        assert process.sigterm(60) == 0, process.tail()
    enriched = sum(a.enriched for a in pipeline.ledger_report().streams)
    assert enriched > MIXED

    with Vendors() as vendors:
        states: list[dict[str, list[Any]]] = []
        spans: list[Spans] = []
        counts = []
        writes = []
        for number, most in enumerate(BATCHES):
            prefix = f"{pipeline.settings.connect.group_prefix}round{number}-"
            connect = msgspec.structs.replace(pipeline.settings.connect, group_prefix=prefix)
            env = {**vendors.env(most), "TAILRACE_CONNECT_GROUP_PREFIX": prefix}
            before = vendors.langfuse.requests, len(vendors.opik.exchanges), len(vendors.otlp.exchanges)
            with pipeline.tailrace(
                "connect", *SINKS, "--until-caught-up", name=f"round{number}", env=env
            ) as child:
                assert child.wait(90) == 0, child.tail()
            after = vendors.langfuse.requests, len(vendors.opik.exchanges), len(vendors.otlp.exchanges)
            writes.append(tuple(x - y for x, y in zip(after, before, strict=True)))
            states.append(vendors.stored())
            spans.append(vendors.take_spans())
            counts.append(settled(msgspec.structs.replace(pipeline.settings, connect=connect), pipeline))

    first, sent = states[0], sum(map(len, spans[0].values()))
    print(f"\n{enriched} records; {writes} requests; {sent} OTLP spans of {len(spans[0])} ids")
    print({k: len(v) for k, v in first.items()}, counts[0])
    # something of every type is there, and a round is a whole redelivery
    assert first["langfuse problems"] == []
    least = {
        "langfuse observations": 100,
        "langfuse scores": 1,
        "opik traces": 30,
        "opik spans": 100,
        "opik scores": 1,
    }
    assert all(len(first[name]) >= most for name, most in least.items()), {
        k: len(v) for k, v in first.items()
    }
    assert len(spans[0]) > 100
    assert set(counts[0]) == set(SINKS)
    assert all(passed == enriched and delivered > 100 for passed, delivered, *_ in counts[0].values()), counts
    assert counts[0]["otlp"][1] == sent
    assert all(len({w[i] for w in writes}) == len(BATCHES) for i in range(3)), (
        f"the batches were no others: {writes}"
    )
    # and nothing has changed
    for number in range(1, len(BATCHES)):
        assert counts[number] == counts[0]
        for name, rows in first.items():
            assert states[number][name] == rows, f"{name} after round {number}"
        assert spans[number] == spans[0], f"spans of round {number}"
