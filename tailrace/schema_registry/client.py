"""The few requests to a schema registry that tailrace makes (Confluent's REST interface, v1; Apicurio's
ccompat API is the same)."""

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
"""Compatibility that a subject must have: every version reads every other."""
MAX_ANSWER: Final = 4 << 20
NO_SCHEMA: Final = 40403
_MEDIA: Final = "application/vnd.schemaregistry.v1+json"
_AGAIN: Final = frozenset({408, 425, 429, *range(500, 600)})


class Registered(msgspec.Struct, frozen=True):
    """A version of a subject."""

    id: int
    schema: str
    version: int = 0
    subject: str = ""
    schemaType: str = "AVRO"
    references: tuple[Any, ...] = ()

    @property
    def unusable(self) -> str | None:
        """Why it cannot be read whatever it says; None: it is an Avro schema in one piece."""
        if self.schemaType != "AVRO":
            return f"is {self.schemaType}, not Avro"
        return "refers to other subjects, which is not supported" if self.references else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the credentials elsewhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Client:
    """Asks one registry. Each call is one request, blocks for at most about `timeout_seconds`, and may be
    made in any thread.

    Raises, in every call, `RegistryUnavailable` (no answer, or one that says to try again) or
    `RegistryRefused`; neither names a password or token."""

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
        """The schema with an id; None: there is none."""
        found = self._get(f"/schemas/ids/{schema_id}")
        return None if found is None else self._registered({"id": schema_id, **found})

    def versions(self, subject: str) -> list[int]:
        """Numbers of a subject's versions; none where there is no such subject."""
        found = self._get(f"/subjects/{_part(subject)}/versions")
        if found is not None and not (isinstance(found, list) and all(type(n) is int for n in found)):
            raise self._strange("a list of versions")
        return found or []

    def version(self, subject: str, version: int) -> Registered | None:
        found = self._get(f"/subjects/{_part(subject)}/versions/{version}")
        return None if found is None else self._registered(found)

    def lookup(self, subject: str, schema: str) -> int | None:
        """The id that a schema has under a subject; None: it has none."""
        found = self._get(f"/subjects/{_part(subject)}", {"schema": schema})
        return None if found is None else self._id(found)

    def register(self, subject: str, schema: str) -> int:
        """The id that a schema has under a subject from now on. 409: it is not compatible with the versions
        there."""
        return self._id(self._ask("POST", f"/subjects/{_part(subject)}/versions", {"schema": schema}))

    def level(self, subject: str) -> str | None:
        """The compatibility that holds for a subject, its own or the registry's; None: nobody said."""
        found = self._get(f"/config/{_part(subject)}?defaultToGlobal=true")
        if found is None:
            found = self._get("/config")
        level = found.get("compatibilityLevel") if isinstance(found, dict) else None
        return level if isinstance(level, str) else None

    def set_level(self, subject: str, level: str) -> None:
        self._ask("PUT", f"/config/{_part(subject)}", {"compatibility": level})

    def incompatible(self, subject: str, schema: str) -> list[str]:
        """What the registry finds wrong with a schema as the next version of a subject; nothing for a
        subject's first."""
        path = f"/compatibility/subjects/{_part(subject)}/versions?verbose=true"
        found = self._get(path, {"schema": schema})
        if not isinstance(found, dict) or found.get("is_compatible") is not False:
            return []
        said = found.get("messages") or [found.get("reason") or "it does not say why"]
        return [self._safe(str(text)) for text in said]

    # -- inside
    def _get(self, path: str, body: Any = None) -> Any:
        """As `_ask`; None where the registry says that there is no such thing."""
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
        """The body, within the time and to MAX_ANSWER bytes."""
        found = b""
        while piece := response.read1(65_536):
            found += piece
            if len(found) > MAX_ANSWER or self._clock() > deadline:
                raise RegistryUnavailable(
                    f"registry.url {self.url}: the answer is too long, or takes too long"
                )
        return found

    def _refusal(self, e: urllib.error.HTTPError, deadline: float) -> Exception:
        try:
            found = msgspec.json.decode(self._read(e, deadline))
        except (msgspec.DecodeError, RegistryUnavailable, OSError, http.client.HTTPException):
            found = None
        answer = found if isinstance(found, dict) else {}
        said = self._safe(str(answer.get("message") or e.reason or "no reason given"))
        if e.code in _AGAIN:
            return RegistryUnavailable(f"registry.url {self.url} answers {e.code}: {said}")
        code = answer.get("error_code")
        hint = "; see registry.user, registry.password, registry.token" if e.code in (401, 403) else ""
        if e.code == 404 and not isinstance(code, int):
            hint = "; is it the address of a schema registry, with its path?"
        text = f"registry.url {self.url} answers {e.code}: {said}{hint}"
        return RegistryRefused(e.code, code if isinstance(code, int) else 0, text)

    def _json(self, data: bytes) -> Any:
        try:
            return msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise self._strange("JSON") from None

    def _registered(self, found: Any) -> Registered:
        try:
            return msgspec.convert(found, Registered)
        except msgspec.ValidationError:
            raise self._strange("a schema") from None

    def _id(self, found: Any) -> int:
        schema_id = found.get("id") if isinstance(found, dict) else None
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
        raise ConfigError(f"registry.ca_file: {ca_file}: {e.strerror or e}") from None


def _part(subject: str) -> str:
    return quote(subject, safe="")
