"""The HTTP interface that sinks use. It is small, so that tests can replace the client.

`connectors.delivery.aiohttp_transport` implements it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from tailrace.errors import TailraceError


class Response(msgspec.Struct, frozen=True):
    """An HTTP response with any status."""

    status: int
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    body: bytes = b""
    """The decompressed body; only the start of a long one."""


class NoAnswer(TailraceError):
    """No usable response: refused, reset, timed out, TLS error.

    Whether the request took effect is not known.

    Args:
        reason: Short and machine-readable, e.g. "timeout".
        detail: For a person; without credentials.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Http(Protocol):
    """Safe to call from several tasks of one event loop."""

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        """Sends one request and waits for the whole response. Redirects are not followed.

        Args:
            method: For example "POST".
            url: The full URL.
            body: The request body; empty: none.
            headers: Request headers.
            seconds: Timeout for the request with its response.

        Raises:
            NoAnswer: There is no usable response. Its text has neither credentials nor the URL's path or
                query.
        """
        ...


def place(url: str) -> str:
    """Scheme, host and port of a URL, for logs. The other parts may hold keys and are left out."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        host = parts.hostname or "?"
        return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
    except ValueError:
        return "an invalid URL"
