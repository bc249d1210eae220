"""Tokens for SASL OAUTHBEARER, as librdkafka gets them with sasl.oauthbearer.method = oidc.

Only the processor's consumer needs this; librdkafka's clients ask for their own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from streams.runtime.tls import load_authorities
from tailrace import kafka_security
from tailrace.settings import pairs

SECONDS: Final = 10.0
"""Longest time that the token endpoint may take."""
_MOST: Final = 1 << 20
_SHARE: Final = 0.8
"""Share of its life after which a token is replaced."""
_UNKNOWN_LIFE: Final = 60.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow: the secret would go to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class TokenProvider(AbstractTokenProvider):
    """Gets a token from the endpoint with the client's id and secret, and keeps it while it is valid.

    Args:
        client: the properties of `kafka.client`, checked by `kafka_security.problems`.
        clock: Unix seconds.
    """

    def __init__(self, client: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        self._url = kafka_security.oauth(client, "sasl.oauthbearer.token.endpoint.url")
        user = kafka_security.oauth(client, "sasl.oauthbearer.client.id")
        secret = kafka_security.oauth(client, "sasl.oauthbearer.client.secret")
        self._basic = base64.b64encode(f"{user}:{secret}".encode()).decode()
        self._scope = client.get("sasl.oauthbearer.scope", "")
        self._extensions = pairs(client.get("sasl.oauthbearer.extensions", ""))
        handlers: list[Any] = [_NoRedirect]
        if self._url.lower().startswith("https:"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            load_authorities(context, client, "https.ca")
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)
        self._clock = clock
        self._token, self._until = "", 0.0

    async def token(self) -> str:
        """A valid token. Raises `KafkaConnectionError`, so that the connection is tried again."""
        if self._clock() >= self._until:
            began = self._clock()
            document = await asyncio.get_running_loop().run_in_executor(None, self._ask)
            self._token, life = document["access_token"], _life(document, began)
            self._until = began + life * _SHARE
        return self._token

    def extensions(self) -> dict[str, str]:
        return self._extensions

    def _ask(self) -> dict[str, Any]:
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        request = urllib.request.Request(
            self._url,
            urllib.parse.urlencode(form).encode(),
            {
                "Authorization": f"Basic {self._basic}",
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
            },
        )
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                document = json.loads(answer.read(_MOST))
        except urllib.error.HTTPError as e:
            self._failed(f"status {e.code}")
        except (OSError, ValueError) as e:
            self._failed(type(getattr(e, "reason", e)).__name__)
        if not isinstance(document, dict) or not isinstance(document.get("access_token"), str):
            self._failed("no access_token in its answer")
        return document

    def _failed(self, why: str) -> NoReturn:
        raise KafkaConnectionError(f"kafka.client.sasl.oauthbearer.token.endpoint.url: {why}")


def _life(document: Mapping[str, Any], now: float) -> float:
    """Seconds that a token is valid, by its own `exp`, else by the answer's `expires_in`."""
    parts = str(document["access_token"]).split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        return max(0.0, float(claims["exp"]) - now)
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        pass  # not a JWT
    try:
        return max(0.0, float(document["expires_in"]))
    except (KeyError, TypeError, ValueError):
        return _UNKNOWN_LIFE
