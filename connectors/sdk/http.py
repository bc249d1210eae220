"""The HTTP that a sink may use: one small interface, so that tests and other clients can stand in for
aiohttp.

`connectors.delivery.aiohttp_transport` has the implementation that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from tailrace.errors import TailraceError


class Response(msgspec.Struct, frozen=True):
    """An answer, whatever its status."""

    status: int
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    body: bytes = b""
    """Its start, if it is long; decompressed."""


class NoAnswer(TailraceError):
    """No usable answer: refused, reset, timed out, TLS. Whether the request took effect is not known."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Http(Protocol):
    """Safe to call from several tasks of one event loop."""

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        """Sends `body` by `method` (GET, POST, PUT, …; empty: none) and waits up to `seconds` for the whole
        answer. Redirects are not followed: a 3xx is an answer.

        Raises `NoAnswer`, whose text has neither credentials nor the URL's path and query.
        """
        ...


def place(url: str) -> str:
    """Where a URL points, fit for logs: scheme, host and port. Keys may be in any other part of it."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or '?'}{port}"
    except ValueError:
        return "an invalid URL"
