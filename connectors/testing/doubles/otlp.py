"""A local OTLP/HTTP trace receiver that keeps every span it is sent, and fails as scripted.

    python -m connectors.testing.doubles.otlp --port 0 --file spans.jsonl

A span is in the file before its request is answered, so killing the receiver loses nothing that it accepted.
It appends: restarted on the same file and port it goes on where it was. Redeliveries are kept as often as
they come."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Self

import click
import msgspec
from aiohttp import web

from connectors.testing.doubles import otlp_request
from connectors.testing.doubles.otlp_request import CONTENT_TYPE, Refused
from connectors.testing.doubles.received import TEAR, Key, ReceivedSpan, encode_lines, read_spans
from connectors.testing.doubles.serving import Listener, abort

PATH: Final = "/v1/traces"


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong, by number of the request since the start: first those answered with `status`, then
    those reset, then those accepted in part, then all is well. A count of 0 is without end."""

    status: int = 0
    """HTTP status of the first `status_first` requests, of which nothing is kept; 0: none."""
    status_first: int = 1
    retry_after: str | None = None
    """Retry-After header that goes with `status`."""
    reset: Literal["request", "response"] | None = None
    """request: connection reset while the body is being sent, nothing kept. response: all kept, connection
    closed in the middle of the answer's body, after a status of 200."""
    reset_first: int = 1
    partial_rejected: int = 0
    """Spans, from the request's end, that are rejected by partial_success and not kept."""
    partial_first: int = 1
    partial_message: str = "rejected as scripted"
    delay: float = 0.0
    """Seconds between keeping a request's spans and answering it; every request, whatever the answer."""

    def at(self, n: int) -> Literal["status", "reset", "partial"] | None:
        """What happens to request `n`, from 1."""
        steps: tuple[tuple[Literal["status", "reset", "partial"], bool, int], ...] = (
            ("status", self.status > 0, self.status_first),
            ("reset", self.reset is not None, self.reset_first),
            ("partial", self.partial_rejected > 0, self.partial_first),
        )
        for name, active, first in steps:
            if active:
                if first == 0 or n <= first:
                    return name
                n -= first
        return None


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and how it was answered. An answer that was decided on may not have arrived."""

    number: int
    status: int
    """0: connection reset before an answer."""
    spans: int
    """Spans kept."""
    body_bytes: int
    """As sent, compressed or not."""
    headers: dict[str, str]
    """Names in lower case."""


class OtlpReceiver:
    """The receiver, in this process.

        async with OtlpReceiver("spans.jsonl") as r:
            ...  # POST to r.endpoint + "/v1/traces"
            r.spans

    path: where spans go, None for memory only. port: 0 takes a free one. max_bytes: limit of a request,
    before and after decompression. keep: hold spans and exchanges in memory too. faults may be replaced while
    it runs; counting goes on. Not thread-safe; one event loop."""

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults | None = None,
        max_bytes: int = 64 * 1024 * 1024,
        keep: bool = True,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.path = Path(path) if path is not None else None
        self.faults = faults or Faults()
        self.spans: list[ReceivedSpan] = []
        """Every span kept, those of an earlier run on the same file first. Empty without keep."""
        self.exchanges: list[Exchange] = []
        """Every request of this run. Empty without keep."""
        self._max_bytes, self._keep, self._clock = max_bytes, keep, clock
        self._number = self._requests = self._count = 0
        self._keys: set[Key] = set()
        self._file: IO[bytes] | None = None
        self._listener = Listener(host, port)

    async def start(self) -> None:
        """Opens the file and listens. Raises OSError, ValueError for a file that is not a receiver's."""
        if self.path is not None:
            self._resume(self.path)
        app = web.Application()
        app.add_routes(
            [web.post(PATH, self._traces), web.get("/healthz", self._healthz), web.get("/stats", self._stats)]
        )
        try:
            await self._listener.start(app)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Answers what is under way, without its delay, then closes."""
        await self._listener.stop()
        if self._file is not None:
            self._file.close()
            self._file = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def endpoint(self) -> str:
        """Base URL; the traces' path comes after it."""
        return self._listener.url

    @property
    def stats(self) -> dict[str, int]:
        """requests: since the start; spans and distinct_spans (by trace and span id): in the file."""
        return {"requests": self._requests, "spans": self._count, "distinct_spans": len(self._keys)}

    # -- keeping
    def _resume(self, path: Path) -> None:
        before = read_spans(path)
        self._remember(before)
        self._number = max((s.request for s in before), default=0)
        self._file = path.open("ab")
        if path.stat().st_size:
            with path.open("rb") as f:
                f.seek(-1, os.SEEK_END)
                if f.read(1) != b"\n":
                    self._file.write(TEAR)
                    self._file.flush()

    def _store(self, spans: list[ReceivedSpan]) -> None:
        if self._file is not None:
            self._file.write(encode_lines(spans))
            self._file.flush()
        self._remember(spans)

    def _remember(self, spans: list[ReceivedSpan]) -> None:
        self._count += len(spans)
        self._keys.update((s.trace_id, s.span_id) for s in spans)
        if self._keep:
            self.spans += spans

    # -- answering
    async def _traces(self, request: web.Request) -> web.StreamResponse:
        self._requests += 1
        self._number += 1
        number, faults = self._number, self.faults
        fault = faults.at(self._requests)
        body, kept, rejected = b"", 0, 0
        headers = {}
        try:
            if fault == "reset" and faults.reset == "request":
                await request.content.readany()
                self._note(request, number, 0, 0, body)
                return abort(request)
            body = await self._body(request)
            if fault == "status":
                if faults.retry_after is not None:
                    headers["Retry-After"] = faults.retry_after
                raise Refused(faults.status, f"status {faults.status} as scripted")
            spans = otlp_request.parse(self._plain(request, body), number, self._clock())
            if fault == "partial":
                rejected = min(faults.partial_rejected, len(spans))
                spans = spans[: len(spans) - rejected]
            self._store(spans)
            kept, status = len(spans), 200
            answer = otlp_request.success(rejected, faults.partial_message if fault == "partial" else "")
        except Refused as e:
            status, answer = e.status, otlp_request.failure(e.status, e.message)
        self._note(request, number, status, kept, body)
        await self._pause(faults.delay)
        if fault == "reset" and status == 200:
            half = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Content-Length": "64"})
            await half.prepare(request)
            await half.write(bytes(32))
            return abort(request, half, reset=False)
        return web.Response(status=status, body=answer, headers=headers, content_type=CONTENT_TYPE)

    async def _body(self, request: web.Request) -> bytes:
        """The body as sent, read to its end unless Content-Length says that it is too large."""
        too_large = Refused(413, f"the request has more than {self._max_bytes} bytes")
        if (request.content_length or 0) > self._max_bytes:
            raise too_large
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self._max_bytes:
                raise too_large
        return bytes(body)

    def _plain(self, request: web.Request, body: bytes) -> bytes:
        if request.content_type != CONTENT_TYPE:
            raise Refused(415, f"Content-Type {request.content_type} is not supported; send {CONTENT_TYPE}")
        return otlp_request.decompress(
            body, request.headers.get("Content-Encoding", "").strip().lower(), self._max_bytes
        )

    def _note(self, request: web.Request, number: int, status: int, spans: int, body: bytes) -> None:
        if self._keep:
            headers = {k.lower(): v for k, v in request.headers.items()}
            self.exchanges.append(
                Exchange(number=number, status=status, spans=spans, body_bytes=len(body), headers=headers)
            )

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._listener.stopping.wait(), seconds)
            except TimeoutError:
                pass

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats)


async def _serve(receiver: OtlpReceiver, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with receiver:
        ready = {"endpoint": receiver.endpoint, "file": str(receiver.path), "pid": os.getpid()}
        if as_json:
            click.echo(msgspec.json.encode(ready))
        else:
            click.echo(
                f"OTLP traces at {receiver.endpoint}{PATH}, kept in {receiver.path}; counts at "
                f"{receiver.endpoint}/stats. Ctrl-C stops it."
            )
        await stop.wait()
    if not as_json:
        s = receiver.stats
        click.echo(
            f"stopped: {s['requests']} requests, {s['spans']} spans in the file, {s['distinct_spans']} "
            "distinct"
        )


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0 takes a free one.")
@click.option(
    "--file",
    "path",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON lines, one a span; appended to.",
)
@click.option("--max-bytes", default=64 * 1024 * 1024, show_default=True, help="Larger requests get a 413.")
@click.option("--delay", default=0.0, help="Seconds between keeping a request's spans and answering it.")
@click.option("--status", default=0, help="Answer the first requests with this status.")
@click.option("--status-first", default=1, show_default=True, help="How many; 0 is all.")
@click.option("--retry-after", default=None, help="Retry-After header that goes with --status.")
@click.option(
    "--reset",
    default=None,
    type=click.Choice(["request", "response"]),
    help="Break the connection in the middle of which body.",
)
@click.option("--reset-first", default=1, show_default=True, help="How many; 0 is all.")
@click.option("--partial-rejected", default=0, help="Reject this many spans of a request by partial_success.")
@click.option("--partial-first", default=1, show_default=True, help="In how many requests; 0 is all.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON line with endpoint, file and pid when ready."
)
def main(
    host: str,
    port: int,
    path: Path,
    max_bytes: int,
    delay: float,
    status: int,
    status_first: int,
    retry_after: str | None,
    reset: Literal["request", "response"] | None,
    reset_first: int,
    partial_rejected: int,
    partial_first: int,
    as_json: bool,
) -> None:
    """Receive OTLP/HTTP traces and keep every span in a file."""
    faults = Faults(
        delay=delay,
        status=status,
        status_first=status_first,
        retry_after=retry_after,
        reset=reset,
        reset_first=reset_first,
        partial_rejected=partial_rejected,
        partial_first=partial_first,
    )

    async def run() -> None:
        await _serve(
            OtlpReceiver(path, host=host, port=port, faults=faults, max_bytes=max_bytes, keep=False), as_json
        )

    try:
        asyncio.run(run())
    except (OSError, ValueError) as e:
        raise click.ClickException(str(e)) from None


if __name__ == "__main__":
    main()
