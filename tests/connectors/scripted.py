"""An OTLP receiver in a thread. The test decides every answer."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from connectors.testing.doubles import otlp_request


class Answer(msgspec.Struct, frozen=True):
    status: int = 200
    headers: Mapping[str, str] = {}
    rejected: int = 0
    """Rejected spans in partial_success."""
    message: str = ""
    delay: float = 0.0
    """Seconds."""
    what: Literal["answer", "hang", "reset", "store"] = "answer"
    """store: keeps the spans and never answers."""


OK = Answer()
Plan = Callable[[int, list[str]], Answer]
"""plan(number of the request from 1, event ids in it) -> its answer. A status of 200 stores the spans."""


class ScriptedReceiver:
    def __init__(self, plan: Plan = lambda n, events: OK) -> None:
        self.plan = plan
        self.stored: Counter[str] = Counter()
        """Event id -> times accepted."""
        self.order: list[str] = []
        self.requests: list[list[str]] = []
        """Event ids of each request that had any, whatever its answer."""
        self.headers: list[Mapping[str, str]] = []
        self.endpoint = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        app = web.Application(client_max_size=1 << 26)
        app.add_routes([web.post("/v1/traces", self._traces)])
        runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _traces(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = zlib.decompress(body, 31)
        events = event_ids(body)
        if not events:  # what the sink's check sends
            return web.Response(body=otlp_request.success(), content_type="application/x-protobuf")
        self.requests.append(events)
        self.headers.append({k.lower(): v for k, v in request.headers.items()})
        answer = self.plan(len(self.requests), events)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.what == "store":
            self.stored.update(events)
            self.order += events
        if answer.what in ("hang", "store"):
            await self._over.wait()
        if answer.what == "reset":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if answer.status == 200:
            self.stored.update(events)
            self.order += events
            data = otlp_request.success(answer.rejected, answer.message)
        else:
            data = otlp_request.failure(answer.status, answer.message or "as scripted")
        return web.Response(
            status=answer.status,
            headers=dict(answer.headers),
            body=data,
            content_type="application/x-protobuf",
        )


def event_ids(body: bytes) -> list[str]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        attribute(span, "tailrace.event_id")
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def attribute(span: Any, name: str) -> str:
    return str(next(a.value.string_value for a in span.attributes if a.key == name))
