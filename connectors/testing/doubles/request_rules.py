"""Rules of HTTP requests that vendors share: refusals, gzip bodies, fixed rate windows. Pure."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Final

WINDOW_SECONDS: Final = 60.0


class RequestRefused(Exception):
    """The request is answered with `status`, and nothing of it is kept."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def too_large(limit: int, what: str = "bytes") -> RequestRefused:
    return RequestRefused(413, f"the request has more than {limit} {what}")


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """The body before its Content-Encoding.

    Args:
        encoding: The Content-Encoding header; gzip (one or more members) and identity are known.
        limit: Largest size of the result, in bytes.

    Raises:
        RequestRefused: 400 not gzip or cut off, 413 over the limit, 415 another encoding.
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
    """Raises `refusal` unless header `name` is `value`. An empty value requires nothing."""
    if value and headers.get(name) != value:
        raise refusal


def basic_authorization(user: str, password: str) -> str:
    """The Authorization header of HTTP Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class RateWindow:
    """A limit of requests or items a minute, in fixed windows that start with their first request.

    Args:
        limit: How many fit into a window; 0: any number. May be changed.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._start, self._used = 0.0, 0

    def take(self, count: int, now: float) -> float | None:
        """Counts them, if they fit; else the seconds until the next window.

        Args:
            now: Unix seconds.
        """
        if now - self._start >= WINDOW_SECONDS:
            self._start, self._used = now, 0
        if 0 < self.limit < self._used + count:
            return self.end - now
        self._used += count
        return None

    @property
    def end(self) -> float:
        """Of the window, Unix seconds."""
        return self._start + WINDOW_SECONDS

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self._used)
