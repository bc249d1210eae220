"""Requests to a schema registry: Confluent's REST interface, v1, which Apicurio's ccompat API has as well."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tailrace.errors import ConfigError, RegistryRefused, RegistryUnavailable
from tailrace.settings import Registry

LEVEL: Final = "FULL_TRANSITIVE"
"""The compatibility level that a subject should have: every version can read every other one."""
MAX_ANSWER: Final = 4 << 20
NO_SCHEMA: Final = 40403
_MEDIA: Final = "application/vnd.schemaregistry.v1+json"
_AGAIN: Final = frozenset({408, 425, 429, *range(500, 600)})


class Registered(msgspec.Struct, frozen=True):
    """A registered schema: a version of a subject."""

    id: int
    schema: str
    version: int = 0
    subject: str = ""
    schemaType: str = "AVRO"
    references: tuple[Any, ...] = ()

    @property
    def unusable(self) -> str | None:
        """Why the schema cannot be used at all; None if it is an Avro schema without references."""
        if self.schemaType != "AVRO":
            return f"is {self.schemaType}, not Avro"
        return "refers to other subjects, which is not supported" if self.references else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects, which would send the credentials to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Client:
    """Client of one registry. Thread-safe.

    Each call makes one request (`level` up to two) and blocks for at most about `timeout_seconds` per
    request.

    Every call may raise `RegistryUnavailable` (no answer, or one that says to try again) and
    `RegistryRefused`. Their texts have no password or token.
    """

    def __init__(self, settings: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = settings.url.rstrip("/")
        self._seconds, self._clock = settings.timeout_seconds, clock
        self._headers = {
            "Accept": f"{_MEDIA}, application/json",
            "Content-Type": _MEDIA,
            "User-Agent": "tailrace",
        }
        self._secrets = [s for s in (settings.password, settings.token) if s]
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        elif settings.user:
            basic = base64.b64encode(f"{settings.user}:{settings.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}"
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if self.url.startswith("https"):
            handlers.append(urllib.request.HTTPSHandler(context=_context(settings.ca_file)))
        self._opener = urllib.request.build_opener(*handlers)

    def schema(self, schema_id: int) -> Registered | None:
        """The schema with an id; None if there is none."""
        answer = self._get(f"/schemas/ids/{schema_id}")
        return None if answer is None else self._registered({"id": schema_id, **answer})

    def versions(self, subject: str) -> list[int]:
        """The numbers of a subject's versions; empty if there is no such subject."""
        answer = self._get(f"/subjects/{_part(subject)}/versions")
        if answer is not None and not (isinstance(answer, list) and all(type(n) is int for n in answer)):
            raise self._strange("a list of versions")
        return answer or []

    def version(self, subject: str, version: int) -> Registered | None:
        """One version of a subject; None if there is none."""
        answer = self._get(f"/subjects/{_part(subject)}/versions/{version}")
        return None if answer is None else self._registered(answer)

    def lookup(self, subject: str, schema: str) -> int | None:
        """The id of a schema under a subject; None if it is not registered there."""
        answer = self._get(f"/subjects/{_part(subject)}", {"schema": schema})
        return None if answer is None else self._id(answer)

    def register(self, subject: str, schema: str) -> int:
        """Registers a schema under a subject and returns its id.

        Raises:
            RegistryRefused: With status 409 if it is not compatible with the subject's versions.
        """
        return self._id(self._ask("POST", f"/subjects/{_part(subject)}/versions", {"schema": schema}))

    def level(self, subject: str) -> str | None:
        """The compatibility level of a subject, its own or the registry's; None if none is set."""
        answer = self._get(f"/config/{_part(subject)}?defaultToGlobal=true")
        if answer is None:
            answer = self._get("/config")
        level = answer.get("compatibilityLevel") if isinstance(answer, dict) else None
        return level if isinstance(level, str) else None

    def set_level(self, subject: str, level: str) -> None:
        """Sets the compatibility level of a subject."""
        self._ask("PUT", f"/config/{_part(subject)}", {"compatibility": level})

    def incompatible(self, subject: str, schema: str) -> list[str]:
        """Why a schema is not compatible as the next version of a subject; empty if it is compatible."""
        path = f"/compatibility/subjects/{_part(subject)}/versions?verbose=true"
        answer = self._get(path, {"schema": schema})
        if not isinstance(answer, dict) or answer.get("is_compatible") is not False:
            return []
        reasons = answer.get("messages") or [answer.get("reason") or "it does not say why"]
        return [self._safe(str(text)) for text in reasons]

    # -- requests
    def _get(self, path: str, body: Any = None) -> Any:
        """As `_ask`; None if the registry answers that there is no such thing."""
        try:
            return self._ask("GET" if body is None else "POST", path, body)
        except RegistryRefused as e:
            if e.status == 404 and 40400 <= e.code < 40500:
                return None
            raise

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self._headers, method=method)
        deadline = self._clock() + self._seconds
        try:
            with self._opener.open(request, timeout=self._seconds) as response:
                return self._json(self._read(response, deadline))
        except urllib.error.HTTPError as e:
            with e:
                raise self._refusal(e, deadline) from None
        except (OSError, http.client.HTTPException) as e:
            reason = getattr(e, "reason", None) or e
            raise RegistryUnavailable(
                self._safe(f"registry.url {self.url} does not answer: {reason}")
            ) from None

    def _read(self, response: Any, deadline: float) -> bytes:
        """Reads a body of at most `MAX_ANSWER` bytes before the deadline."""
        body = b""
        while piece := response.read1(65_536):
            body += piece
            if len(body) > MAX_ANSWER or self._clock() > deadline:
                raise RegistryUnavailable(
                    f"registry.url {self.url}: the answer is too long, or takes too long"
                )
        return body

    def _refusal(self, e: urllib.error.HTTPError, deadline: float) -> Exception:
        try:
            document = msgspec.json.decode(self._read(e, deadline))
        except (msgspec.DecodeError, RegistryUnavailable, OSError, http.client.HTTPException):
            document = None
        answer = document if isinstance(document, dict) else {}
        message = self._safe(str(answer.get("message") or e.reason or "no reason given"))
        if e.code in _AGAIN:
            return RegistryUnavailable(f"registry.url {self.url} answers {e.code}: {message}")
        code = answer.get("error_code")
        hint = "; see registry.user, registry.password, registry.token" if e.code in (401, 403) else ""
        if e.code == 404 and not isinstance(code, int):
            hint = "; it must be the URL of a schema registry with its path, e.g. http://localhost:8081"
        text = f"registry.url {self.url} answers {e.code}: {message}{hint}"
        return RegistryRefused(e.code, code if isinstance(code, int) else 0, text)

    def _json(self, data: bytes) -> Any:
        try:
            return msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise self._strange("JSON") from None

    def _registered(self, answer: Any) -> Registered:
        try:
            return msgspec.convert(answer, Registered)
        except msgspec.ValidationError:
            raise self._strange("a schema") from None

    def _id(self, answer: Any) -> int:
        schema_id = answer.get("id") if isinstance(answer, dict) else None
        if type(schema_id) is not int or not 0 <= schema_id < 1 << 32:
            raise self._strange("a schema id of 4 bytes")
        return schema_id

    def _strange(self, wanted: str) -> RegistryRefused:
        return RegistryRefused(200, 0, f"registry.url {self.url} answers with something that is not {wanted}")

    def _safe(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())[:500]


def _context(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as e:
        raise ConfigError(f"registry.ca_file: {ca_file} cannot be read: {e.strerror or e}") from None


def _part(subject: str) -> str:
    return quote(subject, safe="")
