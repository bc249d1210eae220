"""`connectors.sdk.http.Http` with aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp

from connectors.sdk.http import NoAnswer, Response, place
from tailrace import __version__
from tailrace.errors import ConfigError

BODY: Final = 65_536
"""Bytes of an answer that are kept; the rest is not read."""


def tls_context(
    ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None
) -> ssl.SSLContext:
    """Reads the files. Raises `ConfigError` that names the one that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as e:
        raise ConfigError(f"ca_file: {ca_file} cannot be read: {e}") from None
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, password="")  # or OpenSSL asks at the terminal
        except (OSError, ssl.SSLError) as e:
            raise ConfigError(f"cert_file: {cert_file} and key_file {key_file} cannot be used: {e}") from None
    return context


class AiohttpTransport:
    """Keep-alive connections, no redirects, no cookies, no proxy from the environment.

    To be made on the loop that uses it. ca_file: certificate authorities instead of the system's. cert_file,
    key_file: the certificate that this client shows, and its key without a password. Raises `ConfigError`.
    """

    def __init__(
        self, ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None
    ) -> None:
        context = tls_context(ca_file, cert_file, key_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=30.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"tailrace/{__version__}"},
            raise_for_status=False,
        )

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(
                    method,
                    url,
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as answer,
            ):
                found = {k.lower(): v for k, v in answer.headers.items()}
                return Response(answer.status, found, await _start(answer))
        except TimeoutError:
            raise NoAnswer("timeout", f"{place(url)} did not answer within {seconds:g} s") from None
        except aiohttp.ClientConnectorCertificateError:
            raise NoAnswer(
                "certificate", f"{place(url)} has a certificate that is not trusted; see ca_file"
            ) from None
        except aiohttp.ClientConnectorError as e:
            raise NoAnswer(
                "unreachable", f"{place(url)}: {e.os_error.strerror or type(e).__name__}"
            ) from None
        except (aiohttp.InvalidURL, ValueError) as e:
            raise NoAnswer("bad_request", f"{place(url)}: {type(e).__name__}") from None
        except (aiohttp.ClientError, OSError) as e:
            raise NoAnswer("broken", f"{place(url)}: {type(e).__name__}") from None

    async def close(self) -> None:
        await self._session.close()


async def _start(answer: aiohttp.ClientResponse) -> bytes:
    """The body, or its first `BODY` bytes; then the connection is not used again."""
    out = bytearray()
    while len(out) < BODY:
        chunk = await answer.content.read(BODY - len(out))
        if not chunk:
            return bytes(out)
        out += chunk
    answer.close()
    return bytes(out)
