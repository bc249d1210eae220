"""Sends traces, spans and ratings to Opik, Comet's Cloud or self-hosted, by its REST API (seed 000)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
import orjson

from connectors import (
    Batch,
    Delivered,
    Enriched,
    Health,
    Http,
    NoAnswer,
    Outcome,
    Outcomes,
    Paused,
    Payload,
    Rejected,
    Response,
    Retry,
    Skip,
    Split,
    sink,
)
from connectors.sdk import endpoint, redact
from connectors.sdk.compression import gzip
from connectors.sdk.contract import Rates, Secret
from connectors.sdk.http import place
from connectors.sinks.opik import responses
from connectors.sinks.opik.mapping import FIELDS, payload, remedy, to_parts
from connectors.sinks.opik.requests import MOST, Call, calls, combine, to_be_held
from connectors.sinks.opik.scores import SPANS, THREADS, Parts
from tailrace.errors import ConfigError

_CLOUD: Final = "comet.com"
_EXAMPLE: Final = "https://www.comet.com/opik/api or http://localhost:5173/api"
_CLOUD_RATES: Final = Rates(events_per_minute=5000, requests_per_minute=2000)
_CLOUD_HOURS: Final = 24.0
_MARGIN_MS: Final = 300_000
"""Most milliseconds by which the clocks of Opik and of this machine may differ.

Used when Opik refuses one record as too old, to decide which other records are too old as well.
"""
VARIABLES: Final = {
    "OPIK_URL_OVERRIDE": "url",
    "OPIK_API_KEY": "api_key",
    "OPIK_WORKSPACE": "workspace",
    "OPIK_PROJECT_NAME": "project_name",
}
"""Environment variable -> setting; the variables of Opik's own SDK."""


@sink("opik", max_records=500, max_bytes=10_000_000, fields=FIELDS, environment=VARIABLES, cut=True)
class Opik:
    """Traces, spans and feedback scores to Opik, on Comet's Cloud or self-hosted."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        url: str = "https://www.comet.com/opik/api"
        """Base URL of the API. /api is added, unless the URL ends with it."""
        api_key: Secret = ""
        """Required on Comet's Cloud; self-hosted servers do not need one."""
        workspace: str = ""
        project_name: str = "Default Project"
        """Opik creates the project if it does not exist."""
        timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
        """Seconds for one request with its response."""
        compression: Literal["gzip", "none"] = "gzip"
        id_window_hours: Annotated[float, msgspec.Meta(ge=0)] | None = None
        """Most hours between an id's time and the time when its event arrived; 0: no limit.

        Default: 24 on comet.com, else 0.
        """
        id_time_ms: Annotated[int, msgspec.Meta(ge=0, lt=1 << 43)] = 0
        """Time of all ids (Unix milliseconds), to send new copies of records that are too old.

        0: the start of the trace.
        """
        ca_file: str | None = None
        """PEM file with the certificate authorities of the server; default: the system's."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            settings: The instance's settings.
            now: Unix seconds, for Retry-After dates and the age of ids.

        Raises:
            ConfigError: A setting is not valid.
        """
        self._base = base_url(settings.url)
        cloud = is_cloud(self._base)
        if cloud and not settings.api_key:
            raise ConfigError("api_key: is required for Opik on comet.com; copy it from your user menu there")
        if not settings.project_name.strip():
            raise ConfigError("project_name: is empty; remove it to use Opik's Default Project")
        self._project, self._timeout, self._now = settings.project_name, settings.timeout, now
        self._zip = settings.compression == "gzip"
        hours = settings.id_window_hours
        self._hours = (_CLOUD_HOURS if cloud else 0.0) if hours is None else hours
        self._window_ms, self._id_time_ms = round(self._hours * 3_600_000), settings.id_time_ms
        self.rates = _CLOUD_RATES if cloud else Rates()
        """Opik's rate limits."""
        self._reading = {"Accept": "application/json"}
        for name, field, value in (
            ("Authorization", "api_key", settings.api_key),
            ("Comet-Workspace", "workspace", settings.workspace),
        ):
            if any(not c.isprintable() for c in value):
                raise ConfigError(f"{field}: has line breaks or control characters; remove them")
            if value:
                self._reading[name] = value
        self._writing = {**self._reading, "Content-Type": "application/json"}
        if self._zip:
            self._writing["Content-Encoding"] = "gzip"
        self._secrets = (settings.api_key,)

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        parts = to_parts(event, self._project, self._window_ms, self._id_time_ms)
        if not isinstance(parts, tuple):
            return parts
        return payload(parts)

    def render(self, payload: Payload) -> dict[str, list[Any]]:
        """The objects of a payload: traces, spans, scores (of traces), span_scores, thread_scores, and
        withdrawn_scores."""
        trace, span, score, _ = payload.body
        objects: dict[str, list[Any]] = {}
        if trace is not None:
            objects["traces"] = [orjson.loads(trace)]
        if span is not None:
            objects["spans"] = [orjson.loads(span)]
        if score is not None:
            entity, rated, name, body = score
            if body is None:
                objects["withdrawn_scores"] = [{"of": entity, "id": rated, "name": name}]
            else:
                of = {SPANS: "span_scores", THREADS: "thread_scores"}.get(entity, "scores")
                objects[of] = [orjson.loads(body)]
        return objects

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        if len(batch) > MOST:
            return Split()
        bodies: list[Parts] = batch.bodies
        answered: list[tuple[Call, Outcome]] = []
        held: list[int] = []
        for call in calls(bodies):
            if to_be_held(call, answered):
                held += call.records
                continue
            outcome = await self._request(call, http)
            answered.append((call, outcome))
            if isinstance(outcome, Retry | Paused):
                break  # the whole batch is sent again, so the other requests would be in vain
        return combine(len(bodies), answered, self._too_old(bodies, answered), frozenset(held))

    async def _request(self, call: Call, http: Http) -> Outcome:
        body = gzip(call.body) if self._zip else call.body
        answer = await http.request(
            call.method, self._base + call.path, body, self._writing, seconds=self._timeout
        )
        if answer.status // 100 == 2:
            return Delivered()
        outcome = responses.outcome(answer, self._now(), self._detail(answer))
        if call.rates:
            outcome = responses.of_scores(answer, outcome, f"/{THREADS}/" in call.path)
        if not isinstance(outcome, Rejected):
            return outcome
        request = (
            f"{call.method} {place(self._base)}{call.path}, {len(call.records)} records, {len(call.body)} "
            "bytes before compression"
        )
        detail = remedy(self._window()) if outcome.reason == responses.TOO_OLD else outcome.detail
        return msgspec.structs.replace(outcome, request=request, detail=detail)

    def _too_old(self, bodies: list[Parts], answered: list[tuple[Call, Outcome]]) -> frozenset[int]:
        """All records that are too old, once Opik has refused one of them for that; else none."""
        if not any(isinstance(o, Rejected) and o.reason == responses.TOO_OLD for _, o in answered):
            return frozenset()
        before = self._now() * 1000 - (self._hours or _CLOUD_HOURS) * 3_600_000 - _MARGIN_MS
        return frozenset(i for i, parts in enumerate(bodies) if parts[2] is None and parts[3] < before)

    def _window(self) -> str:
        return f"{self._hours:g} h" if self._hours else "hours"

    def _detail(self, answer: Response) -> str:
        return redact.safe(responses.message(answer), self._secrets)

    async def check(self, http: Http) -> Health:
        """Reads the list of projects, for which Opik wants the same credentials as for writing."""
        url = f"{self._base}/v1/private/projects?size=1"
        try:
            answer = await http.request("GET", url, b"", self._reading, seconds=min(self._timeout, 10.0))
        except NoAnswer as e:
            return Health(False, f"{e}; see url")
        at = place(self._base)
        if answer.status // 100 == 2:
            if _is_page(answer):
                return Health(True)
            return Health(False, f"{at} answers, but is not Opik's API; see url, which must end with /api")
        match responses.outcome(answer, self._now(), self._detail(answer)):
            case Paused(reason=reason, fix=fix):
                return Health(False, f"{at}: {reason}; see {fix}")
            case _:
                return Health(False, f"{at} answers with status {answer.status}")


def base_url(url: str) -> str:
    """The base URL of the API, ending with /api. Raises `ConfigError`."""
    parts = endpoint.base(url, setting="url", vendor="Opik", example=_EXAMPLE)
    path = parts.path
    if "/v1/" in f"{path}/":
        raise ConfigError(f"url: is the URL of a single endpoint; give the part before /v1, e.g. {_EXAMPLE}")
    if not path and is_cloud(url):
        path = "/opik"
    return parts._replace(path=path if path.endswith("/api") else f"{path}/api").geturl()


def is_cloud(url: str) -> bool:
    """Whether the URL is that of Comet's Cloud, which has rate limits and an id window of 24 h."""
    host = (urlsplit(url).hostname or "").lower()
    return host == _CLOUD or host.endswith(f".{_CLOUD}")


def _is_page(answer: Response) -> bool:
    """Whether a response is a page of projects, and not e.g. the start page of a web application."""
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and "content" in document
