"""A decorator that makes a sink from one function, for backends that take JSON over HTTP.

    @http_sink("acme", path="/v1/events")
    def acme(record: Enriched) -> dict[str, object] | Skip:
        '''Operations to Acme.'''
        return {"id": record.context.span_id.hex(), "name": record.event.name}

The function is the sink's `map`. The decorator adds settings for address, key and headers, compression,
outcomes by HTTP status, and `check`.
"""

from __future__ import annotations

import base64
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from connectors.sdk import endpoint, policy, redact
from connectors.sdk.compression import gzip
from connectors.sdk.contract import Batch, Enriched, Health, Payload, Rates, Secret, Skip, sink
from connectors.sdk.http import Http, NoAnswer, Response, place
from connectors.sdk.outcomes import Delivered, Outcome, Outcomes, Paused, Rejected, Retry, Split
from connectors.sdk.policy import Table

Form = Literal["array", "lines", "single"]
"""array: one JSON array per request. lines: one JSON document per line. single: one request per record."""
Mapper = Callable[..., Any]
"""function(record) or function(record, settings).

Returns JSON-compatible Python objects, bytes that are JSON, `Skip`, or `Rejected`.
"""

_TYPES: Final[Mapping[Form, str]] = {
    "array": "application/json",
    "lines": "application/x-ndjson",
    "single": "application/json",
}
_ENDS: Final[Mapping[Form, tuple[bytes, bytes, bytes]]] = {
    "array": (b"[", b",", b"]"),
    "lines": (b"", b"\n", b"\n"),
    "single": (b"", b"", b""),
}
_encode: Final = msgspec.json.Encoder().encode
FIX: Final = "endpoint, api_key, headers"


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of every sink that `http_sink` makes. A subclass may add fields."""

    endpoint: str
    """Base URL. The sink's path is added, unless the URL ends with it."""
    api_key: Secret = ""
    headers: dict[str, Secret] = {}
    """Sent with each request, e.g. x-scope-orgid=tenant1."""
    timeout: Annotated[float, msgspec.Meta(ge=1)] = 30.0
    """Seconds for one request with its response."""
    compression: Literal["gzip", "none"] = "gzip"
    ca_file: str | None = None
    """PEM file with the certificate authorities of the endpoint; default: the system's."""


class Target(msgspec.Struct, frozen=True):
    """The decorator's arguments."""

    function: Mapper
    with_settings: bool
    method: str
    path: str
    form: Form
    auth: str
    table: Table
    check_path: str | None


class HttpSink:
    """Base class of the classes that `http_sink` makes."""

    Settings: ClassVar[type[HttpSettings]] = HttpSettings
    target: ClassVar[Target]

    def __init__(self, settings: HttpSettings, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            settings: The instance's settings.
            now: Unix seconds, for Retry-After dates.

        Raises:
            ConfigError: `endpoint`, `api_key` or `headers` is not valid.
        """
        self._options, self._now, target = settings, now, self.target
        self._url = endpoint.url(settings.endpoint, target.path)
        self._check_url = (
            None if target.check_path is None else endpoint.url(settings.endpoint, target.check_path)
        )
        key = settings.api_key
        basic = base64.b64encode(key.encode()).decode()
        self._headers = {"Content-Type": _TYPES[target.form]}
        self._secrets: tuple[str, ...] = (key, basic, *settings.headers.values())
        if key and target.auth:
            name, _, value = target.auth.partition(":")
            credentials = value.strip().replace("{api_key}", key).replace("{basic}", basic)
            self._headers |= endpoint.headers({name.strip(): credentials}, setting="api_key")
        self._headers |= endpoint.headers(settings.headers)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {place(self._url)}>"

    def map(self, record: Enriched) -> Payload | Skip | Rejected:
        target = self.target
        mapped = target.function(record, self._options) if target.with_settings else target.function(record)
        if isinstance(mapped, Skip | Rejected):
            return mapped
        try:
            body = bytes(mapped) if isinstance(mapped, bytes | bytearray) else _encode(mapped)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as e:
            return Rejected(
                "not_json", f"what {target.function.__name__} returns is not JSON: {redact.where(e)}"
            )
        if target.form == "lines" and b"\n" in body:
            return Rejected("not_a_line", f"what {target.function.__name__} returns has line breaks")
        return Payload(body, len(body) + 1)

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        if self.target.form == "single":
            return await self._one_by_one(batch, http)
        start, between, end = _ENDS[self.target.form]
        body = start + between.join(batch.bodies) + end
        return self._decide(await self._request(http, body), len(batch), len(body))

    async def _one_by_one(self, batch: Batch, http: Http) -> list[Outcome]:
        """One request per record, in order. After a retry or a pause the remaining records wait, too."""
        outcomes: list[Outcome] = []
        for body in batch.bodies:
            try:
                outcome = self._decide(await self._request(http, body), 1, len(body))
            except NoAnswer as e:
                outcome = Retry(reason=str(e))
            outcomes.append(outcome)
            if isinstance(outcome, Retry | Paused):
                return outcomes + [outcome] * (len(batch) - len(outcomes))
        return outcomes

    async def _request(self, http: Http, body: bytes) -> Response:
        zipped = self._options.compression == "gzip" and bool(body)
        headers = {**self._headers, "Content-Encoding": "gzip"} if zipped else self._headers
        return await http.request(
            self.target.method,
            self._url,
            gzip(body) if zipped else body,
            headers,
            seconds=self._options.timeout,
        )

    def _decide(self, answer: Response, records: int, size: int) -> Outcome:
        outcome = policy.decide(self.target.table, answer, self._now(), detail=self._detail(answer), fix=FIX)
        if isinstance(outcome, Rejected):
            sent = (
                f"{self.target.method} {place(self._url)}, {records} records, {size} bytes before compression"
            )
            return msgspec.structs.replace(outcome, request=sent)
        return outcome

    def _detail(self, answer: Response) -> str:
        if answer.status // 100 == 2:
            return ""
        # Masked before it is cut: half a key would not be recognised.
        return redact.clean(redact.masked(answer.body[:4000].decode("utf-8", "replace"), self._secrets), 300)

    async def check(self, http: Http) -> Health:
        """Checks address and credentials with one request.

        It is a GET of `check_path` if the sink has one; else an empty array, for the form "array"; else a GET
        of the endpoint.
        """
        seconds = min(self._options.timeout, 10.0)
        try:
            if self._check_url is not None:
                answer = await http.request("GET", self._check_url, b"", self._headers, seconds=seconds)
            elif self.target.form == "array":
                answer = await self._request(http, b"[]")
            else:
                answer = await http.request("GET", self._url, b"", self._headers, seconds=seconds)
        except NoAnswer as e:
            return Health(False, f"{e}; see endpoint")
        if (
            self._check_url is None
            and self.target.form != "array"
            and answer.status in (400, 404, 405, 406, 415)
        ):
            return Health(True, "the endpoint answers, but does not say whether the key is valid")
        match policy.decide(self.target.table, answer, self._now()):
            case Delivered():
                return Health(True)
            case Rejected() | Split() if self._check_url is None:  # refused for being empty
                return Health(True)
            case Paused(reason=reason):
                return Health(False, f"{place(self._url)}: {reason}; see {FIX}")
            case _:
                return Health(False, f"{place(self._url)} answers with status {answer.status}")


def http_sink(
    name: str,
    *,
    path: str = "",
    form: Form = "array",
    method: str = "POST",
    auth: str = "Authorization: Bearer {api_key}",
    table: Mapping[int | str, policy.Action] | None = None,
    check_path: str | None = None,
    settings: type[HttpSettings] = HttpSettings,
    fields: Iterable[str] | None = None,
    max_records: int = 500,
    max_bytes: int = 4_000_000,
    rates: Rates | None = None,
) -> Callable[[Mapper], type[HttpSink]]:
    """Decorator that makes a function a sink of type `name`. See `Mapper` for the function.

    Args:
        name: The sink type, as instances name it in their setting `type`.
        path: Added to the setting `endpoint`, e.g. "/v1/events".
        form: How the records of a batch are joined to requests, see `Form`.
        method: The HTTP method of `send`.
        auth: The header that carries the setting `api_key`, if it is set. {api_key} stands for the key,
            {basic} for its Base64 form (for user:password).
        table: HTTP status or class -> action, for what differs from `policy.DEFAULT`.
        check_path: Path that `check` requests with GET, e.g. that of the account.
        settings: A subclass of `HttpSettings` with further settings. A function with two parameters gets
            them.
        fields: As for `sink`.
        max_records: As for `sink`.
        max_bytes: As for `sink`.
        rates: As for `sink`.

    Raises:
        TypeError: `fields` has an unknown name.
    """

    def make(function: Mapper) -> type[HttpSink]:
        with_settings = len(inspect.signature(function).parameters) > 1
        status_table = policy.table(table or {})
        target = Target(function, with_settings, method, path, form, auth, status_table, check_path)
        members = {
            "Settings": settings,
            "target": target,
            "rates": rates,
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
        }
        made = type(function.__name__, (HttpSink,), members)
        return sink(name, max_records=max_records, max_bytes=max_bytes, fields=fields)(made)

    return make
