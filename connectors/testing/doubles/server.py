"""Base class of all doubles: the HTTP server, fault plans, size limits, and the record of exchanges."""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Self, TypedDict, TypeVar

import msgspec
from aiohttp import web

from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.request_rules import RequestRefused, decompress, too_large

_RESET_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""Value of SO_LINGER with which close() sends RST."""
_HARMLESS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
    }
)
"""Headers that carry no credential. Vendors have keys under many names, so the others are left out."""
FaultPlan = TypeVar("FaultPlan", bound=Faults)


class ServerOptions(TypedDict, total=False):
    """Keyword arguments of every double."""

    host: str
    """Default: 127.0.0.1."""
    port: int
    """Default: 0, a free port."""
    max_bytes: int
    """Size limit of a request, before and after decompression. Default: the vendor's."""
    keep_exchanges: bool
    """Whether `exchanges` is filled. Default: True."""


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its answer. The client may not have received the answer."""

    method: str
    path: str
    status: int
    """0: the request had no complete answer."""
    headers: dict[str, str]
    """Request headers, names in lower case, without those that may carry a credential."""
    body: bytes
    """The body as sent; empty if it was not read."""


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """An admitted request with its body."""

    request: web.Request
    group: str
    number: int
    """Number of the request since the double started, from 1."""
    body: bytes
    """The body as sent, compressed or not."""
    fault: str | None
    """The request's fault by the plan."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    content_type: str | None = "application/json"


def json_answer(status: int, document: Any) -> Answer:
    """An answer with a JSON body."""
    return Answer(status=status, body=msgspec.json.encode(document))


class Double(ABC, Generic[FaultPlan]):
    """A server in this process that replaces a vendor's in tests.

        async with OpikDouble() as double:
            ...  # requests to double.endpoint

    Not thread-safe; use it on one event loop. Faults and `max_bytes` may be changed while it runs.

    Args:
        faults: The fault plan.
        server: See `ServerOptions`.
    """

    groups: ClassVar[tuple[str, ...]]
    """Names of the groups of requests. A fault plan may be for one of them."""
    default_max_bytes: ClassVar[int]
    """The vendor's size limit of a request."""
    headers_kept: ClassVar[frozenset[str]] = frozenset()
    """Headers of the vendor's, in lower case, that exchanges keep as well. None carries a credential."""

    def __init__(self, faults: FaultPlan, server: ServerOptions) -> None:
        self.max_bytes = server.get("max_bytes", self.default_max_bytes)
        self.exchanges: list[Exchange] = []
        """All requests to handlers made by `handle`. Empty without `keep_exchanges`."""
        self.requests = 0
        """Number of these requests."""
        self.accepted = 0
        """Number of them that were answered with a status of 2xx."""
        self.stopping = asyncio.Event()
        """Set when the double stops."""
        self.faults = faults
        self._keep = server.get("keep_exchanges", True)
        self._host, self._port = server.get("host", "127.0.0.1"), server.get("port", 0)
        self._runner: web.AppRunner | None = None

    # -- for subclasses
    @abstractmethod
    def routes(self) -> Iterable[web.RouteDef]:
        """The routes. Requests that are counted, recorded and may fail need a handler made by `handle`."""

    @abstractmethod
    def error_answer(self, refused: RequestRefused) -> Answer:
        """The answer to a refused request, in the vendor's format."""

    def admit(self, request: web.Request, group: str) -> Mapping[str, str]:
        """Checks credentials and rate limits before a request is handled.

        Args:
            request: The request.
            group: Its group; empty: none.

        Returns:
            Headers for the answer.

        Raises:
            RequestRefused: The request is not admitted.
        """
        return {}

    @abstractmethod
    def ready(self) -> Mapping[str, str]:
        """What a client has to know, for `--json`."""

    @abstractmethod
    def greeting(self) -> str:
        """The line that says where the double listens."""

    def summary(self) -> str:
        """The line that is printed at the end; empty: none."""
        return ""

    def path_kept(self, request: web.Request) -> str:
        """The path that exchanges keep. A vendor that takes credentials in it has them masked."""
        return request.path

    async def break_off(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        """Ends the connection of an accepted request without a complete answer."""
        return abort(request)

    # -- life cycle
    @property
    def endpoint(self) -> str:
        """Base URL of the server."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listens. Raises OSError."""
        app = web.Application()
        app.add_routes(self.routes())
        self._runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, shutdown_timeout=1.0, handle_signals=False
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, reuse_address=True).start()
        except OSError:
            await self.stop()
            raise
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Answers the requests in flight without delay, ends those that hang, and closes the server."""
        self.stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- answering
    @property
    def faults(self) -> FaultPlan:
        """The fault plan. Setting it restarts the count of requests.

        Raises:
            ValueError: The plan is for a group that this double does not have.
        """
        return self._faults

    @faults.setter
    def faults(self, faults: FaultPlan) -> None:
        if faults.only not in ("", *self.groups):
            raise ValueError(f"only: {faults.only!r} is not one of {', '.join(self.groups)}")
        self._faults, self._matching = faults, 0

    def handle(
        self, group: str, take: Callable[[Incoming], Answer]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Makes a handler that reads the body, applies the plan's faults, and records the exchange.

        Args:
            group: One of `groups`; empty: no faults happen to its requests.
            take: Stores what an admitted request has, and returns the answer. May raise `RequestRefused`.
        """

        async def handler(request: web.Request) -> web.StreamResponse:
            return await self._handle(request, group, take)

        return handler

    async def _handle(
        self, request: web.Request, group: str, take: Callable[[Incoming], Answer]
    ) -> web.StreamResponse:
        self.requests += 1
        number, faults, fault = self.requests, self._faults, self._next_fault(group)
        body, headers = b"", dict[str, str]()
        if fault == "reset" and faults.reset == "request":
            await request.content.readany()
            self._record(request, 0, body)
            return abort(request)
        try:
            body = await self._read(request)
            if fault == "status":
                raise RequestRefused(faults.status, f"status {faults.status} as scripted", faults.headers)
            headers.update(self.admit(request, group))
            answer = take(Incoming(request=request, group=group, number=number, body=body, fault=fault))
        except RequestRefused as e:
            answer = self.error_answer(e)
            headers.update(e.headers)
        accepted = answer.status // 100 == 2
        broken = accepted and fault in ("reset", "hang")
        self._record(request, 0 if broken else answer.status, body)
        await self._pause(faults.delay)
        if broken:
            if fault == "hang":
                await self.stopping.wait()
                return abort(request)
            return await self.break_off(request, answer)
        return web.Response(
            status=answer.status,
            body=answer.body,
            headers={**answer.headers, **headers},
            content_type=answer.content_type,
        )

    def decompressed(self, request: web.Request, body: bytes) -> bytes:
        """The decompressed body. Raises `RequestRefused`."""
        return decompress(body, request.headers.get("Content-Encoding", ""), self.max_bytes)

    def _next_fault(self, group: str) -> str | None:
        if not group or self._faults.only not in ("", group):
            return None
        self._matching += 1
        return self._faults.at(self._matching)

    async def _read(self, request: web.Request) -> bytes:
        """Reads the body as sent. Refuses one that is too large, by Content-Length without reading it."""
        if (request.content_length or 0) > self.max_bytes:
            raise too_large(self.max_bytes)
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self.max_bytes:
                raise too_large(self.max_bytes)
        return bytes(body)

    def _record(self, request: web.Request, status: int, body: bytes) -> None:
        self.accepted += status // 100 == 2
        if self._keep:
            kept = _HARMLESS | self.headers_kept
            headers = {name: v for k, v in request.headers.items() if (name := k.lower()) in kept}
            self.exchanges.append(
                Exchange(
                    method=request.method,
                    path=self.path_kept(request),
                    status=status,
                    headers=headers,
                    body=body,
                )
            )

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self.stopping.wait(), seconds)
            except TimeoutError:
                pass


def abort(
    request: web.BaseRequest, response: web.StreamResponse | None = None, *, reset: bool = True
) -> web.StreamResponse:
    """Ends the connection in its current state.

    Args:
        request: The request whose connection is ended.
        response: The response that was partly sent; None: none.
        reset: Whether the client sees a reset (RST) instead of the end of the stream.

    Returns:
        A response for aiohttp, which can no longer be sent.
    """
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
        transport.abort()
    return web.Response() if response is None else response
