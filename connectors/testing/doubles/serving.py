"""What every double is as a server: listening, closing, and breaking a connection off."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

from aiohttp import web

_RESET_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send RST."""


class Listener:
    """An aiohttp application on an address. port: 0 takes a free one. stopping: set when it closes, for what
    hangs."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self.stopping = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self, app: web.Application) -> None:
        """Listens; bodies arrive as they are sent. Raises OSError."""
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
        """Answers what is under way, then closes."""
        self.stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()


def abort(
    request: web.Request, response: web.StreamResponse | None = None, *, reset: bool = True
) -> web.StreamResponse:
    """Ends the connection as it is; what it returns (`response`) is what aiohttp finds it can no longer
    send."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
        transport.abort()
    return web.Response() if response is None else response
