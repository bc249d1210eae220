"""An HTTP server that keeps every request and answers as planned: well, late, partly, or not at all.

It runs in its own thread, so that it also answers a sink that blocks its event loop.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Literal, Self

import msgspec
from aiohttp import web

from connectors.testing.doubles.server import abort

Fault = Literal["", "hang", "reset_request", "reset_answer"]
MAX_BYTES: Final = 64 * 1024 * 1024


class Received(msgspec.Struct):
    """One request as received."""

    number: int
    """Counted from 1."""
    method: str
    path: str
    """Including the query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Decompressed."""
    problem: str = ""
    """Why the body could not be decompressed."""
    status: int = 0
    """The status it was answered with; 0: without a complete answer."""

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


class Answer(msgspec.Struct, frozen=True):
    """What the server does with one request."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    fault: Fault = ""
    """A fault, if any.

    hang: no answer. reset_request: the connection breaks during the request's body. reset_answer: it
    breaks after half of the answer.
    """
    delay: float = 0.0
    """Seconds before the answer, and between its two halves."""


OK: Final = Answer()
Plan = Callable[[Received], Answer]
"""plan(request) -> its answer. Called in the server's thread, one request at a time."""


class HostileServer:
    """The server.

    Args:
        plan: what to answer; may be replaced at any time.
    """

    def __init__(self, plan: Plan = lambda request: OK) -> None:
        self.plan = plan
        self.requests: list[Received] = []
        self.endpoint = ""
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="hostile-server", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(30):
            raise RuntimeError("the server of the conformance kit did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def wait(self, requests: int, seconds: float = 30.0) -> bool:
        """Whether that many requests arrive within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.requests) >= requests, seconds)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        server = web.Server(self._handle, access_log=None, auto_decompress=False)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.content.read()
        headers = {k.lower(): v for k, v in request.headers.items()}
        body, problem = plain(raw, headers.get("content-encoding", ""))
        received = Received(len(self.requests) + 1, request.method, request.path_qs, headers, body, problem)
        answer = Answer(400, body=problem.encode()) if problem else self.plan(received)
        if answer.fault == "":
            received.status = answer.status
        with self._changed:
            self.requests.append(received)
            self._changed.notify_all()
        return await self._answer(request, received, answer)

    async def _answer(
        self, request: web.BaseRequest, received: Received, answer: Answer
    ) -> web.StreamResponse:
        if answer.fault == "hang":
            await self._over.wait()
            return abort(request)
        if answer.fault == "reset_request":
            return abort(request)
        if answer.fault == "" and answer.delay == 0:
            return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)
        body = answer.body if answer.fault == "" else answer.body + b" " * 1000
        half = len(body) // 2
        response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
        response.content_length = len(body)
        await asyncio.sleep(answer.delay)
        await response.prepare(request)
        await response.write(body[:half])
        await asyncio.sleep(answer.delay)
        if answer.fault == "reset_answer":
            return abort(request, response)
        await response.write(body[half:])
        await response.write_eof()
        return response


def plain(body: bytes, encoding: str) -> tuple[bytes, str]:
    """The body without its Content-Encoding, and what is wrong with it."""
    match encoding.strip().lower():
        case "" | "identity":
            return body, ""
        case "gzip" | "x-gzip":
            wbits = 31
        case "deflate":
            wbits = 15
        case _:
            return body, f"Content-Encoding {encoding!r} is not known to the conformance kit"
    try:
        unzip = zlib.decompressobj(wbits)
        found = unzip.decompress(body, MAX_BYTES)
    except zlib.error as e:
        return b"", f"the body is not {encoding}: {e}"
    return (found, "") if unzip.eof else (b"", f"the {encoding} body is cut off")
