"""Sends calls and feedback to W&B Weave, its Cloud or a host of its own, by its REST API (seed 004)."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote, urlsplit

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
from connectors.otlp import wire
from connectors.otlp.answers import partial_success
from connectors.sdk import endpoint, redact
from connectors.sdk.compression import gzip
from connectors.sdk.contract import Secret
from connectors.sdk.http import place
from connectors.sinks.weave import project as setup
from connectors.sinks.weave import requests, responses
from connectors.sinks.weave.agents import to_span
from connectors.sinks.weave.mapping import FIELDS, call_of, to_call
from connectors.sinks.weave.scores import Feedback
from tailrace import __version__
from tailrace.errors import ConfigError

MOST: Final = 1000
"""Most calls in a request."""
_API: Final = "https://api.wandb.ai"
_TRACES: Final = "https://trace.wandb.ai"
_PAGES: Final = "https://wandb.ai"
_OWN: Final = "(the key's own)"
"""Stands for the entity where it is not known."""
_FIX: Final = "api_key, host"
_SCOPE: Final = wire.scope("tailrace", __version__)
VARIABLES: Final = {
    "WANDB_BASE_URL": "host",
    "WF_TRACE_SERVER_URL": "trace_url",
    "WANDB_API_KEY": "api_key",
    "WANDB_ENTITY": "entity",
    "WANDB_PROJECT": "project",
}
"""Environment variable -> setting; the variables of W&B's own SDKs."""
Body = bytes | tuple[Feedback, ...]
"""What a record becomes: a call, or feedback."""


@sink("weave", max_records=MOST, max_bytes=30_000_000, fields=FIELDS, environment=VARIABLES, cut=True)
class Weave:
    """Calls, user feedback and evaluations to W&B Weave, its Cloud or a host of its own."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        api_key: Secret
        """Copy it from https://wandb.ai/authorize."""
        project: str
        """Name of the project, which must exist, see create_project."""
        entity: str = ""
        """Team or user that owns the project; empty: the default entity of the key's user."""
        host: str = "https://api.wandb.ai"
        """Base URL of W&B; of a dedicated one e.g. https://acme.wandb.io."""
        trace_url: str = ""
        """Base URL of Weave's API; empty: https://trace.wandb.ai, for another host its path /traces."""
        view: Literal["calls", "agents"] = "calls"
        """calls: Weave's traces, threads and cost, with feedback. agents: spans for its Agents view."""
        create_project: bool = False
        """Whether the check makes a project that does not exist; needs the extra weave."""
        timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
        """Seconds for one request with its response."""
        compression: Literal["gzip", "none"] = "none"
        """Weave's own clients send this uncompressed; gzip is for hosts that take it."""
        ca_file: str | None = None
        """PEM file with the certificate authorities of the server; default: the system's."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            settings: The instance's settings.
            now: Unix seconds, for Retry-After dates.

        Raises:
            ConfigError: A setting is not valid.
        """
        self._host, self._traces = _urls(settings)
        key = settings.api_key
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                "api_key: is not a valid W&B key, which is printable ASCII without spaces; copy it from "
                "https://wandb.ai/authorize"
            )
        self._project = _name(settings.project, "project")
        if not self._project:
            raise ConfigError("project: is empty; give the name of the W&B project, e.g. support")
        self._entity = _name(settings.entity, "entity")
        self._timeout, self._now, self._zip = settings.timeout, now, settings.compression == "gzip"
        token = base64.b64encode(f"api:{key}".encode()).decode()
        self._plain = {
            "Accept": "application/json",
            "Authorization": f"Basic {token}",
            "Content-Type": "application/json",
        }
        self._headers = {**self._plain, "Content-Encoding": "gzip"} if self._zip else self._plain
        self._secrets = (key, token)
        self._create = settings.create_project
        self._agents = settings.view == "agents"
        self._span_headers = {
            **self._plain,
            "Accept": "application/x-protobuf",
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
        }

    # -- what records become
    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        if self._agents:
            span = to_span(event)
            return Payload(span, len(span)) if isinstance(span, bytes) else span
        found = to_call(event)
        if isinstance(found, bytes):
            return Payload(found, len(found) + len(self._project) + 64)
        if isinstance(found, tuple):
            return Payload(found, sum(len(f.body or b"") + 200 for f in found), len(found))
        return found

    def render(self, payload: Payload) -> dict[str, Any]:
        """The call, or the span as OTLP/JSON.

        Of a rating or an evaluation it is the feedback that it becomes, and the ids of what is deleted.
        """
        if self._agents:
            from connectors.otlp.rendering import as_document

            group: dict[str, Any] = as_document(self._request([payload.body]))["resourceSpans"][0]
            span: dict[str, Any] = group["scopeSpans"][0]["spans"][0]
            return span
        project_id = f"{self._entity or _OWN}/{self._project}"
        body: Body = payload.body
        if isinstance(body, bytes):
            call: dict[str, Any] = orjson.loads(requests.calls_body(project_id, [body]))["batch"][0]
            return call
        found: dict[str, Any] = {}
        for item in body:
            if item.body is None:
                found.setdefault("deleted_feedback", []).append(item.id)
            else:
                given = orjson.loads(requests.feedback_body(project_id, item))
                found.setdefault("feedback", []).append(given)
        return found

    def link(self, trace_id: str) -> str | None:
        """The page of a trace's root call; None while the entity is not known, and for the Agents view."""
        if not self._entity or self._agents:  # a page of the Agents view needs more than the trace
            return None
        try:
            call = call_of(trace_id)
        except UnicodeEncodeError:
            return None
        at = "/".join(quote(part, safe="") for part in (self._entity, self._project))
        return f"{_PAGES if self._host == _API else self._host}/{at}/r/call/{call}"

    # -- sending
    async def send(self, batch: Batch, http: Http) -> Outcomes:
        """Sends the calls in one request, then the feedback. Each request's records have its outcome."""
        if len(batch) > MOST:
            return Split()
        failed = await self._find_entity(http)
        if failed is not None:
            return failed
        if self._agents:
            return await self._send_spans(batch.bodies, http)
        bodies: list[Body] = batch.bodies
        calls = [body for body in bodies if isinstance(body, bytes)]
        outcome: Outcome = Delivered()
        if calls:
            outcome = await self._send_calls(calls, http)
            if len(calls) == len(bodies) or isinstance(outcome, Retry | Paused):
                return outcome
            if isinstance(outcome, Rejected) and len(calls) > 1:  # it is not known yet which call is at fault
                outcome = Split("rejected", status=outcome.status)
        outcomes: list[Outcome] = []
        held: Outcome | None = None
        for body in bodies:
            if isinstance(body, bytes):
                outcomes.append(outcome)
                continue
            if held is None:
                found = await self._send_feedback(body, http)
                held = found if isinstance(found, Retry | Paused) else None
            outcomes.append(found if held is None else held)
        return outcomes

    async def _send_calls(self, calls: Sequence[bytes], http: Http) -> Outcome:
        body = requests.calls_body(self._project_id, calls)
        path = requests.calls_path(self._entity, self._project)
        return await self._post(path, body, f"{len(calls)} calls", http)

    def _request(self, spans: Sequence[bytes]) -> bytes:
        """An ExportTraceServiceRequest with the project, without which Weave drops spans in silence."""
        entity = self._entity or _OWN
        resource = wire.resource(["wandb.entity", entity, "wandb.project", self._project])
        return wire.request([(resource, _SCOPE, spans)])

    async def _send_spans(self, spans: Sequence[bytes], http: Http) -> Outcome:
        body = self._request(spans)
        answer = await http.request(
            "POST", self._traces + requests.SPANS, gzip(body), self._span_headers, seconds=self._timeout
        )
        if answer.status // 100 == 2:
            if responses.is_page(answer):
                return responses.not_weave(answer)
            refused, detail = partial_success(answer)
            return Delivered(min(refused, len(spans)), redact.safe(detail, self._secrets))
        return self._decided(answer, f"{len(spans)} spans", len(body))

    async def _send_feedback(self, items: Sequence[Feedback], http: Http) -> Outcome:
        """The outcome of a record's feedback: the first that is not a success."""
        for item in items:
            path = requests.PURGE if item.body is None else requests.REPLACE
            body = requests.feedback_body(self._project_id, item)
            try:
                outcome = await self._post(path, body, "1 feedback", http)
            except NoAnswer as e:  # not raised: the calls of this batch are already delivered
                return Retry(reason=str(e))
            if not isinstance(outcome, Delivered):
                return outcome
        return Delivered()

    async def _post(self, path: str, body: bytes, what: str, http: Http) -> Outcome:
        sent = gzip(body) if self._zip else body
        answer = await http.request("POST", self._traces + path, sent, self._headers, seconds=self._timeout)
        if answer.status // 100 == 2:
            return responses.taken(answer)
        return self._decided(answer, what, len(body))

    def _decided(self, answer: Response, what: str, size: int) -> Outcome:
        outcome = responses.outcome(answer, self._now(), self._detail(answer))
        if isinstance(outcome, Rejected):
            said = f"POST {place(self._traces)}, {what}, {size} bytes before compression"
            return msgspec.structs.replace(outcome, request=said)
        return outcome

    @property
    def _project_id(self) -> str:
        return f"{self._entity}/{self._project}"

    async def _find_entity(self, http: Http) -> Outcome | None:
        """Asks W&B whose key it is, unless the entity is known. Returns what stands in the way; else None."""
        if self._entity:
            return None
        answer = await http.request(
            "POST",
            f"{self._host}/graphql",
            requests.VIEWER,
            self._plain,
            seconds=min(self._timeout, 10.0),
        )
        if answer.status // 100 != 2:
            failed = responses.outcome(answer, self._now(), self._detail(answer))
            if isinstance(failed, Rejected | Split):  # no record is at fault: none was sent
                return Paused(f"W&B does not say whose key it is (status {answer.status})", _FIX)
            return msgspec.structs.replace(failed, fix=_FIX) if isinstance(failed, Paused) else failed
        entity = responses.entity(answer)
        if entity is None:
            if not isinstance(responses.taken(answer), Delivered):
                return msgspec.structs.replace(responses.not_weave(answer), fix=_FIX)
            return Paused("W&B does not know the key's user (unauthorized)", _FIX)
        self._entity = entity
        return None

    def _detail(self, answer: Response) -> str:
        return redact.safe(responses.message(answer), self._secrets)

    # -- the check
    async def check(self, http: Http) -> Health:
        """Counts the calls of the project, which needs the same credentials as writing.

        If there is no such project and `create_project` is set, makes it with Weave's package.
        """
        try:
            failed = await self._find_entity(http)
            if failed is None:
                failed = await self._count(http)
            if isinstance(failed, Paused) and self._missing(failed):
                said = await self._make()
                if said is not None:
                    return Health(False, said)
                failed = await self._count(http)
        except NoAnswer as e:
            return Health(False, f"{e}; see host, trace_url")
        at = place(self._traces)
        if failed is None:
            return Health(True, f"project {redact.safe(self._project_id, self._secrets, 200)}")
        match failed:
            case Paused(reason=reason, fix=fix):
                return Health(False, f"{at}: {reason}; see {fix}")
            case Retry(reason=reason):
                return Health(False, f"{at} answers with {reason}")
            case _:
                return Health(False, f"{at} answers, but is not Weave's API; see host, trace_url")

    async def _count(self, http: Http) -> Outcome | None:
        """Counts the calls of the project. Returns what stands in the way; None for a count."""
        answer = await http.request(
            "POST",
            self._traces + requests.STATS,
            requests.stats_body(self._project_id),
            self._plain,
            seconds=min(self._timeout, 10.0),
        )
        if answer.status // 100 != 2:
            return responses.outcome(answer, self._now(), self._detail(answer))
        return None if responses.is_count(answer) else Rejected("not_weave")

    def _missing(self, failed: Paused) -> bool:
        return failed.reason.startswith("not_found")

    async def _make(self) -> str | None:
        """Makes the project. Returns what stands in the way, for people; None if it exists now."""
        missing = f"there is no project {redact.safe(self._project_id, self._secrets, 200)}"
        if not self._create:
            return f"{missing}; make it in W&B, or set create_project; see entity, project"
        if not setup.installed():
            return (
                f"{missing}, and create_project needs Weave's package: pip install 'tailrace[weave]', or "
                "make the project in W&B; see create_project"
            )
        variables = setup.environment(self._secrets[0], self._host, self._traces, os.environ)
        said = await setup.make(self._entity, self._project, variables)
        if not said:
            return None
        why = redact.safe(said, self._secrets)
        return f"{missing}, and Weave's package cannot make it: {why}; see api_key"


def _urls(settings: Weave.Settings) -> tuple[str, str]:
    """Base URLs of W&B and of Weave's API. Never of W&B's Cloud for another host. Raises `ConfigError`."""
    host = endpoint.base(
        settings.host, setting="host", vendor="W&B", example=f"{_API} or https://acme.wandb.io"
    ).geturl()
    if urlsplit(host).hostname in ("wandb.ai", "www.wandb.ai", "trace.wandb.ai"):
        host = _API
    if settings.trace_url:
        example = f"{_TRACES} or https://acme.wandb.io/traces"
        traces = endpoint.base(settings.trace_url, setting="trace_url", vendor="Weave", example=example)
        return host, traces.geturl()
    return host, _TRACES if host == _API else f"{host}/traces"


def _name(text: str, setting: str) -> str:
    """The name of an entity or a project. Raises `ConfigError`."""
    name = text.strip()
    if "/" in name or any(not c.isprintable() for c in name) or not _is_unicode(name):
        raise ConfigError(f"{setting}: is not a valid name; give it without slashes, e.g. support")
    return name


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
