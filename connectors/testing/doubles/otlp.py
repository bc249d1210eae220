"""A local OTLP/HTTP trace receiver that stores every span and fails as scripted.

    python -m connectors.testing.doubles.otlp --port 0 --file spans.jsonl

A span is written to the file before its request is answered, so killing the receiver loses nothing that it
accepted. The file is appended to: restarted with the same file and port it continues where it was.
Redeliveries are stored each time they come.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, ClassVar, Final, Unpack

import click
from aiohttp import web

from connectors.testing.doubles import otlp_request
from connectors.testing.doubles.command import FaultOptions, double_command
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.otlp_request import CONTENT_TYPE
from connectors.testing.doubles.received import TEAR, Key, ReceivedSpan, encode_lines, read_spans
from connectors.testing.doubles.request_rules import RequestRefused
from connectors.testing.doubles.server import Answer, Double, Incoming, ServerOptions, abort

PATH: Final = "/v1/traces"
MAX_BYTES: Final = 64 * 1024 * 1024


class OtlpFaults(Faults, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults of the receiver. Requests with partial success come after those that hang."""

    partial_rejected: int = 0
    """Spans at the end of a request that are rejected by partial_success and not stored."""
    partial_first: int = 1
    partial_message: str = "rejected as scripted"

    def steps(self) -> Iterator[tuple[str, bool, int]]:
        yield from Faults.steps(self)
        yield "partial", self.partial_rejected > 0, self.partial_first


class OtlpReceiver(Double[OtlpFaults]):
    """The receiver, in this process.

        async with OtlpReceiver("spans.jsonl") as r:
            ...  # POST to r.endpoint + "/v1/traces"
            r.spans

    Args:
        path: The file for the spans; None: they are stored in memory only.
        faults: The fault plan.
        keep_spans: Whether spans are kept in memory, too.
        clock: Microseconds UTC.
        server: See `ServerOptions`.
    """

    groups: ClassVar[tuple[str, ...]] = ("traces",)
    default_max_bytes: ClassVar[int] = MAX_BYTES

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        faults: OtlpFaults | None = None,
        keep_spans: bool = True,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        **server: Unpack[ServerOptions],
    ) -> None:
        super().__init__(faults or OtlpFaults(), server)
        self.path = Path(path) if path is not None else None
        self.spans: list[ReceivedSpan] = []
        """All stored spans; those of earlier runs with the same file first. Empty without `keep_spans`."""
        self._keep_spans, self._clock = keep_spans, clock
        self._earlier_requests = self._count = 0
        self._keys: set[Key] = set()
        self._file: IO[bytes] | None = None

    @property
    def stats(self) -> dict[str, int]:
        """requests: since the start. spans, and distinct_spans (by trace and span id): in the file."""
        return {"requests": self.requests, "spans": self._count, "distinct_spans": len(self._keys)}

    async def start(self) -> None:
        """Opens the file and listens.

        Raises:
            OSError: The file cannot be opened, or the port is in use.
            ValueError: The file was not written by a receiver.
        """
        if self.path is not None:
            self._resume(self.path)
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        if self._file is not None:
            self._file.close()
            self._file = None

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(PATH, self.handle("traces", self._take_spans)),
            web.get("/healthz", self._healthz),
            web.get("/stats", self._stats),
        ]

    def error_answer(self, refused: RequestRefused) -> Answer:
        body = otlp_request.failure(refused.status, refused.message)
        return Answer(status=refused.status, body=body, content_type=CONTENT_TYPE)

    async def break_off(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        """Ends the connection in the middle of the answer's body, after a status of 200."""
        half = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "Content-Length": "64"})
        await half.prepare(request)
        await half.write(bytes(32))
        return abort(request, half, reset=False)

    def _take_spans(self, incoming: Incoming) -> Answer:
        request = incoming.request
        if request.content_type != CONTENT_TYPE:
            raise RequestRefused(
                415, f"Content-Type {request.content_type} is not supported; send {CONTENT_TYPE}"
            )
        number = self._earlier_requests + incoming.number
        spans = otlp_request.parse(self.decompressed(request, incoming.body), number, self._clock())
        rejected, message = 0, ""
        if incoming.fault == "partial":
            rejected, message = min(self.faults.partial_rejected, len(spans)), self.faults.partial_message
            spans = spans[: len(spans) - rejected]
        self._store(spans)
        return Answer(body=otlp_request.success(rejected, message), content_type=CONTENT_TYPE)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats)

    # -- storage
    def _resume(self, path: Path) -> None:
        before = read_spans(path)
        self._remember(before)
        self._earlier_requests = max((s.request for s in before), default=0)
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
        if self._keep_spans:
            self.spans += spans

    # -- as a command
    def ready(self) -> Mapping[str, str]:
        return {"endpoint": self.endpoint, "file": str(self.path)}

    def greeting(self) -> str:
        return (
            f"OTLP traces at {self.endpoint}{PATH}, stored in {self.path}; counts at {self.endpoint}/stats."
        )

    def summary(self) -> str:
        s = self.stats
        return (
            f"stopped: {s['requests']} requests, {s['spans']} spans in the file, "
            f"{s['distinct_spans']} distinct"
        )


@double_command(max_bytes=MAX_BYTES)
@click.option(
    "--file",
    "path",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the spans, one JSON document per line; it is appended to.",
)
@click.option("--partial-rejected", default=0, help="Reject this many spans of a request by partial_success.")
@click.option("--partial-first", default=1, show_default=True, help="How many requests; 0: all.")
def main(
    server: ServerOptions, faults: FaultOptions, *, path: Path, partial_rejected: int, partial_first: int
) -> OtlpReceiver:
    """Receive OTLP/HTTP traces and store every span in a file."""
    plan = OtlpFaults(**faults, partial_rejected=partial_rejected, partial_first=partial_first)
    return OtlpReceiver(path, faults=plan, keep_spans=False, **server)


if __name__ == "__main__":
    main()
