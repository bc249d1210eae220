"""Rules for HTTP requests that vendors have in common: refusals, gzip bodies, rate windows. Pure."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Final

WINDOW_SECONDS: Final = 60.0


class RequestRefused(Exception):
    """The request is answered with `status`, and nothing of it is stored."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def too_large(limit: int, what: str = "bytes") -> RequestRefused:
    """The refusal of a request that is over a size limit."""
    return RequestRefused(413, f"the request has more than {limit} {what}")


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompresses a body.

    Args:
        body: The body as sent.
        encoding: The Content-Encoding header: gzip (one or more members), identity, or empty.
        limit: Most bytes of the result.

    Raises:
        RequestRefused: 400 for a body that is not gzip or cut off, 413 over the limit, 415 for another
            encoding.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise RequestRefused(415, f"Content-Encoding {encoding} is not supported; send gzip or none")
    out = bytearray()
    try:
        while body:
            member = zlib.decompressobj(wbits=31)
            out += member.decompress(body, limit + 1 - len(out))
            if len(out) > limit:
                raise too_large(limit, "bytes uncompressed")
            if not member.eof:
                raise RequestRefused(400, "the gzip body is cut off")
            body = member.unused_data
    except zlib.error as e:
        raise RequestRefused(400, f"the body is not gzip: {e}") from None
    return bytes(out)


def require_header(headers: Mapping[str, str], name: str, value: str, refusal: RequestRefused) -> None:
    """Raises `refusal` unless the header `name` is `value`. An empty value accepts any header."""
    if value and headers.get(name) != value:
        raise refusal


def basic_authorization(user: str, password: str) -> str:
    """The value of the Authorization header for HTTP Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class RateWindow:
    """A limit per minute, in fixed windows that start with their first request.

    Args:
        limit: Most requests or items in a window; 0: no limit. May be changed later.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._start, self._used = 0.0, 0

    def take(self, count: int, now: float) -> float | None:
        """Counts requests or items if they are within the limit.

        Args:
            count: How many.
            now: Unix seconds.

        Returns:
            None if they were counted; else the seconds until the next window.
        """
        if now - self._start >= WINDOW_SECONDS:
            self._start, self._used = now, 0
        if 0 < self.limit < self._used + count:
            return self.end - now
        self._used += count
        return None

    @property
    def end(self) -> float:
        """End of the window, Unix seconds."""
        return self._start + WINDOW_SECONDS

    @property
    def remaining(self) -> int:
        """How many are left in the window."""
        return max(0, self.limit - self._used)
