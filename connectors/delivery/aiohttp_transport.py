"""Implements `connectors.sdk.http.Http` with aiohttp."""

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
"""Most bytes of a response's body that are read."""


def tls_context(
    ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None
) -> ssl.SSLContext:
    """Reads the TLS files of a sink's settings.

    Args:
        ca_file: Certificate authorities, PEM; None: the system's.
        cert_file: The client's certificate, PEM; None: no client certificate.
        key_file: The private key of `cert_file`, without a password; None: it is in `cert_file`.

    Raises:
        ConfigError: A file cannot be used. The message names the setting and the file.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as e:  # ValueError: the name has a NUL
        raise ConfigError(f"ca_file: {ca_file} cannot be read: {e}; it must be a PEM file") from None
    if cert_file is not None:
        try:
            # Without a password argument OpenSSL would ask for one at the terminal.
            context.load_cert_chain(cert_file, key_file, password="")
        except (OSError, ValueError) as e:  # ValueError: the name has a NUL
            raise ConfigError(
                f"cert_file: {cert_file} and key_file {key_file} cannot be used: {e}; they must be a PEM "
                "certificate and its private key without a password"
            ) from None
    return context


class AiohttpTransport:
    """HTTP client with keep-alive; without redirects, cookies and proxies from the environment.

    Must be created on the event loop that uses it.
    """

    def __init__(
        self, ca_file: str | None = None, cert_file: str | None = None, key_file: str | None = None
    ) -> None:
        """Arguments and exceptions as for `tls_context`."""
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
                lower_case = {k.lower(): v for k, v in answer.headers.items()}
                return Response(answer.status, lower_case, await _read_start(answer))
        except TimeoutError:
            raise NoAnswer("timeout", f"{place(url)} did not answer within {seconds:g} s") from None
        except aiohttp.ClientConnectorCertificateError:
            raise NoAnswer(
                "certificate", f"{place(url)} has a certificate that is not trusted; set ca_file"
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
        """Closes all connections."""
        await self._session.close()


async def _read_start(answer: aiohttp.ClientResponse) -> bytes:
    """Reads the body, or its first `BODY` bytes. After a longer body the connection is closed."""
    out = bytearray()
    while len(out) < BODY:
        chunk = await answer.content.read(BODY - len(out))
        if not chunk:
            return bytes(out)
        out += chunk
    answer.close()
    return bytes(out)
