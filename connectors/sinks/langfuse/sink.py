"""Sends traces and scores to Langfuse, Cloud or self-hosted from version 3.22.

Observations go to its OTLP endpoint, feedback and evaluations to the scores API. The older batch API is not
used: Langfuse Cloud and self-hosted v4 no longer accept traces there.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

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
from connectors.otlp import wire
from connectors.sdk import endpoint, policy, redact
from connectors.sdk.compression import gzip
from connectors.sdk.contract import Secret
from connectors.sdk.http import place
from connectors.sinks.langfuse.mapping import FIELDS, SCORED, to_span
from connectors.sinks.langfuse.responses import STATUSES, error_text, fix, partly, suspended
from connectors.sinks.langfuse.values import MAX_ID, environment
from tailrace import __version__
from tailrace.errors import ConfigError

TRACES: Final = "/api/public/otel/v1/traces"
SCORES: Final = "/api/public/scores"
PROJECTS: Final = "/api/public/projects"
_PASTED: Final = ("/v1/traces", "/otel", "/api/public")
"""Endings of the setting host that are removed, because people paste them; the outermost first."""
VARIABLES: Final = {
    "LANGFUSE_HOST": "host",
    "LANGFUSE_BASE_URL": "host",
    "LANGFUSE_PUBLIC_KEY": "public_key",
    "LANGFUSE_SECRET_KEY": "secret_key",
    "LANGFUSE_TRACING_ENVIRONMENT": "environment",
    "LANGFUSE_RELEASE": "release",
}
"""Environment variable -> setting; the variables of Langfuse's own SDKs."""
_SCOPE: Final = wire.scope("tailrace", __version__)
_RESOURCE: Final = wire.resource(())


class Score(msgspec.Struct, frozen=True):
    """The body of a score, as JSON."""

    data: bytes


@sink("langfuse", max_records=500, max_bytes=4_000_000, fields=FIELDS, environment=VARIABLES, cut=True)
class Langfuse:
    """Traces, user feedback and evaluations to Langfuse, Cloud or self-hosted (3.22 and later)."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        public_key: str
        """Public key of the project's API credentials, pk-lf-…"""
        secret_key: Secret
        """Secret key of the same credentials, sk-lf-…"""
        host: str = "https://cloud.langfuse.com"
        """Base URL; for other regions e.g. https://us.cloud.langfuse.com."""
        environment: str = ""
        """Environment of all observations and scores; empty: each event's own."""
        release: str = ""
        """Release of all observations."""
        usage: Literal["leaves", "all"] = "leaves"
        """all: also runs, chatflow messages and iterations have tokens and costs, which count twice then."""
        scores: Literal["single", "list"] = "single"
        """single: one request per score. list: one request per batch, for servers from v4 on."""
        timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
        """Seconds for one request with its response."""
        compression: Literal["gzip", "none"] = "gzip"
        ca_file: str | None = None
        """PEM file with the certificate authorities of a self-hosted server; default: the system's."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            settings: The instance's settings.
            now: Unix seconds, for Retry-After dates.

        Raises:
            ConfigError: A setting is not valid.
        """
        self._host = _host(settings.host)
        self._timeout, self._zip, self._now = settings.timeout, settings.compression == "gzip", now
        token = _token(settings)
        self._json_headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Authorization": f"Basic {token}",
            "x-langfuse-ingestion-version": "4",
        }
        if self._zip:
            self._headers["Content-Encoding"] = "gzip"
        self._secrets = (settings.secret_key, token)
        self._environment = environment(settings.environment)
        if settings.environment and not self._environment:
            raise ConfigError(
                "environment: has no character that Langfuse accepts (a-z, 0-9, - and _); e.g. production"
            )
        self._constant = b"".join(
            wire.attributes(
                [
                    "langfuse.environment",
                    self._environment or None,
                    "langfuse.release",
                    settings.release[:MAX_ID] or None,
                ]
            )
        )
        self._every_usage = settings.usage == "all"
        self._list = settings.scores == "list"

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        own = not self._environment
        try:
            scored = SCORED.get(event.event.kind)
            if scored is not None:
                score = scored(event.event, event.context, own, self._environment)
                if not isinstance(score, dict):
                    return score
                body = Score(msgspec.json.encode(score))
                return Payload(body, len(body.data))
            span = to_span(event.event, event.context, self._constant, own, self._every_usage)
        except UnicodeEncodeError:
            return Rejected("not_utf8", "a text has a lone surrogate, which UTF-8 cannot represent")
        return Payload(span, len(span)) if isinstance(span, bytes) else span

    def render(self, payload: Payload) -> Any:
        """The span as OTLP/JSON, or the score."""
        if isinstance(payload.body, Score):
            return msgspec.json.decode(payload.body.data)
        from connectors.otlp.rendering import as_document

        return as_document(self.request([payload.body]))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        """Sends the spans in one request, then the scores. Each request's records have its outcome."""
        spans = [i for i, body in enumerate(batch.bodies) if not isinstance(body, Score)]
        if len(spans) == len(batch):
            return await self._send_spans(batch.bodies, http)
        outcomes: list[Outcome] = [Delivered()] * len(batch)
        if spans:
            outcome = await self._send_spans([batch.items[i].payload.body for i in spans], http)
            if isinstance(outcome, Retry | Paused):
                return outcome
            if isinstance(outcome, Rejected) and len(spans) > 1:  # it is not known yet which span is at fault
                outcome = Split("rejected", status=outcome.status)
            for i in spans:
                outcomes[i] = outcome
        others = [i for i, body in enumerate(batch.bodies) if isinstance(body, Score)]
        bodies = [batch.items[i].payload.body.data for i in others]
        of_scores = await (self._send_list(bodies, http) if self._list else self._send_each(bodies, http))
        for i, outcome in zip(others, of_scores, strict=True):
            outcomes[i] = outcome
        return outcomes

    async def check(self, http: Http) -> Health:
        """Reads the project that the keys belong to."""
        try:
            answer = await http.request(
                "GET", self._host + PROJECTS, b"", self._json_headers, seconds=min(self._timeout, 10.0)
            )
        except NoAnswer as e:
            return Health(False, str(e))
        where = place(self._host)
        match self._decide(answer):
            case Delivered():
                name = project(answer)
                if name is None:
                    return Health(False, f"{where} answers, but is not Langfuse's API; see host")
                return Health(True, f"project {redact.safe(name, self._secrets, 100)}")
            case Paused(reason=reason, fix=settings):
                return Health(
                    False, f"{where}: {reason}; see {settings}" if settings else f"{where}: {reason}"
                )
            case _:
                return Health(False, f"{where} answers with status {answer.status}")

    def request(self, spans: Sequence[bytes]) -> bytes:
        """An ExportTraceServiceRequest."""
        return wire.request([(_RESOURCE, _SCOPE, spans)])

    # -- requests and their outcomes
    async def _send_spans(self, spans: Sequence[bytes], http: Http) -> Outcome:
        body = self.request(spans)
        answer = await http.request(
            "POST",
            self._host + TRACES,
            gzip(body) if self._zip else body,
            self._headers,
            seconds=self._timeout,
        )
        return self._decide(
            answer, f"POST {place(self._host)}{TRACES}, {len(spans)} spans, {len(body)} bytes"
        )

    async def _send_each(self, scores: Sequence[bytes], http: Http) -> list[Outcome]:
        """One request per score, in order. After a retry or a pause the remaining scores wait, too."""
        outcomes: list[Outcome] = []
        for data in scores:
            [outcome] = await self._post(data, [data], http)
            if isinstance(outcome, Retry | Paused):
                return outcomes + [outcome] * (len(scores) - len(outcomes))
            outcomes.append(outcome)
        return outcomes

    async def _send_list(self, scores: Sequence[bytes], http: Http) -> list[Outcome]:
        outcomes = await self._post(b"[" + b",".join(scores) + b"]", scores, http)
        if len(outcomes) > 1 and all(isinstance(o, Rejected) and o.status != 207 for o in outcomes):
            # The whole list was refused; it is not known yet which score is at fault.
            return [Split("rejected", status=400)] * len(outcomes)
        return outcomes

    async def _post(self, body: bytes, scores: Sequence[bytes], http: Http) -> list[Outcome]:
        """Sends one request to the scores API.

        Args:
            body: The request's body.
            scores: The scores in it, encoded.
            http: The HTTP client.

        Returns:
            One outcome per score, in order.
        """
        try:
            answer = await http.request(
                "POST", self._host + SCORES, body, self._json_headers, seconds=self._timeout
            )
        except NoAnswer as e:  # not raised: the spans of this batch are already delivered
            return [Retry(reason=str(e))] * len(scores)
        request = f"POST {place(self._host)}{SCORES}, {len(scores)} scores, {len(body)} bytes"
        if answer.status == 207:
            return partly(answer, scores, request, self._secrets)
        return [self._decide(answer, request)] * len(scores)

    def _decide(self, answer: Response, request: str = "") -> Outcome:
        detail = "" if answer.status // 100 == 2 else redact.safe(error_text(answer), self._secrets)
        if suspended(answer):
            return Paused(f"quota (status 403): {detail}")
        outcome = policy.decide(STATUSES, answer, self._now(), detail=detail, fix=fix(answer.status))
        if isinstance(outcome, Rejected):
            return msgspec.structs.replace(outcome, request=request)
        return outcome


def _host(text: str) -> str:
    """The base URL, without the endings in `_PASTED`. Raises `ConfigError`."""
    parts = endpoint.base(text, setting="host", vendor="Langfuse", example="https://cloud.langfuse.com")
    path = parts.path
    for end in _PASTED:
        path = path.removesuffix(end)
    return parts._replace(path=path.rstrip("/")).geturl()


def _token(settings: Langfuse.Settings) -> str:
    """The token for HTTP Basic. Raises `ConfigError` that names the setting, never its value."""
    for name, key in (("public_key", settings.public_key), ("secret_key", settings.secret_key)):
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"{name}: is not a valid Langfuse key, which is printable ASCII without spaces, e.g. "
                f"{'pk' if name == 'public_key' else 'sk'}-lf-…"
            )
    if ":" in settings.public_key:
        raise ConfigError("public_key: has a colon; give only the public key, pk-lf-…")
    if settings.public_key.startswith("sk-lf-") and settings.secret_key.startswith("pk-lf-"):
        raise ConfigError(
            "public_key: has a secret key (sk-lf-…), and secret_key has a public one: swap the two values"
        )
    return base64.b64encode(f"{settings.public_key}:{settings.secret_key}".encode()).decode()


def project(answer: Response) -> str | None:
    """Name of the project that the keys belong to; None if the response is not Langfuse's."""
    try:
        name = msgspec.json.decode(answer.body)["data"][0]["name"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return None
    return name if isinstance(name, str) else None
