"""Traces to any OTLP/HTTP receiver, as protobuf (OpenTelemetry protocol 1.x; span names and attributes of seed 003)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from connectors import (
    Batch,
    Delivered,
    Enriched,
    Health,
    Http,
    NoAnswer,
    Outcomes,
    Paused,
    Payload,
    Rejected,
    Response,
    Skip,
    Split,
    policy,
    redact,
    sink,
)
from connectors.compression import gzip
from connectors.http import place
from connectors.sinks.otlp_span import FIELDS, Content, any_value, to_span
from tailrace import __version__
from tailrace.errors import ConfigError

PATH: Final = "/v1/traces"
_VARIABLES: Final = {
    "ENTERPRISE_OTLP_ENDPOINT": "endpoint",
    "ENTERPRISE_OTLP_HEADERS": "headers",
    "ENTERPRISE_OTLP_API_KEY": "api_key",
    "ENTERPRISE_OTLP_PROTOCOL": "protocol",
    "ENTERPRISE_INCLUDE_CONTENT": "include_content",
    "ENTERPRISE_SERVICE_NAME": "service_name",
}
"""Seed 003, section 2."""


def from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """Settings by the variables of seed 003, section 2."""
    return {field: env[name] for name, field in _VARIABLES.items() if env.get(name)}


class Span(msgspec.Struct, frozen=True):
    """One span, serialised, and the host whose resource it belongs to."""

    host: str | None
    data: bytes


@sink("otlp", max_records=500, max_bytes=4_000_000, fields=FIELDS, environment=from_environment)
class Otlp:
    """Traces to any OTLP/HTTP receiver: OpenTelemetry Collector, Jaeger, Tempo, and all that speak the protocol."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        endpoint: str
        """Base URL, e.g. http://otel-collector:4318; /v1/traces is added unless it ends with it."""
        headers: dict[str, str] = {}
        """Sent with each request, e.g. x-scope-orgid=tenant1."""
        api_key: str = ""
        """Sent as Authorization: Bearer."""
        protocol: Literal["http"] = "http"
        timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
        """Seconds for one request, answer included."""
        compression: Literal["gzip", "none"] = "gzip"
        service_name: str = "dify"
        """Resource attribute service.name."""
        include_content: bool = True
        """Whether inputs and outputs are sent at all."""
        content_on_spans: bool = False
        """Whether workflow and node spans carry them too, as dify.workflow.inputs, …"""
        ca_file: str | None = None
        """Certificate authorities of the endpoint, PEM; default: the system's."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        """now: Unix seconds, for Retry-After dates. Raises `ConfigError`."""
        self._url = _traces_url(settings.endpoint)
        self._timeout, self._zip, self._now = settings.timeout, settings.compression == "gzip", now
        self._headers = {"Content-Type": "application/x-protobuf", **_checked(settings.headers)}
        if settings.api_key:
            self._headers["Authorization"] = f"Bearer {settings.api_key}"
            _checked({"api_key": settings.api_key})
        if self._zip:
            self._headers["Content-Encoding"] = "gzip"
        self._secrets = (settings.api_key, *settings.headers.values())
        self._service = settings.service_name
        self._content = Content(settings.include_content, settings.content_on_spans)

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        span = to_span(event, self._content)
        if isinstance(span, Skip | Rejected):
            return span
        data = span.SerializeToString(deterministic=True)
        return Payload(Span(event.event.host_name, data), len(data) + 8)

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        body = self.request(batch.bodies)
        answer = await http.request(
            "POST", self._url, gzip(body) if self._zip else body, self._headers, seconds=self._timeout
        )
        detail = (
            "" if answer.status // 100 == 2 else redact.masked(redact.clean(error_message(answer)), self._secrets)
        )
        match policy.decide(policy.OTLP, answer, self._now(), detail=detail, fix="endpoint, api_key, headers"):
            case Delivered():
                rejected, message = partial_success(answer)
                return Delivered(min(rejected, len(batch)), redact.masked(message, self._secrets))
            case Rejected() as rejection:
                request = f"POST {place(self._url)}{PATH}, {len(batch)} spans, {len(body)} bytes before compression"
                return msgspec.structs.replace(rejection, request=request)
            case outcome:
                return outcome

    async def check(self, http: Http) -> Health:
        """Sends a request without spans, which receivers answer like any other."""
        empty = self.request([])
        try:
            answer = await http.request(
                "POST",
                self._url,
                gzip(empty) if self._zip else empty,
                self._headers,
                seconds=min(self._timeout, 10.0),
            )
        except NoAnswer as e:
            return Health(False, str(e))
        match policy.decide(policy.OTLP, answer, self._now()):
            case Delivered() | Rejected() | Split():  # an empty request may be refused for being empty
                return Health(True)
            case Paused(reason=reason):
                return Health(False, f"{place(self._url)}: {reason}; see endpoint, api_key, headers")
            case _:
                return Health(False, f"{place(self._url)} answers with status {answer.status}")

    def request(self, spans: list[Span]) -> bytes:
        """An ExportTraceServiceRequest, one ResourceSpans a host; within a host in the order given."""
        request = ExportTraceServiceRequest()
        groups: dict[str | None, Any] = {}
        for span in spans:
            scoped = groups.get(span.host)
            if scoped is None:
                scoped = groups[span.host] = self._resource(request.resource_spans.add(), span.host).scope_spans.add()
                scoped.scope.name, scoped.scope.version = "tailrace", __version__
            scoped.spans.add().MergeFromString(span.data)
        return bytes(request.SerializeToString(deterministic=True))

    def _resource(self, group: ResourceSpans, host: str | None) -> ResourceSpans:
        """Seed 003, section 3."""
        group.resource.attributes.append(KeyValue(key="service.name", value=any_value(self._service)))
        if host is not None:
            group.resource.attributes.append(KeyValue(key="host.name", value=any_value(host)))
        return group


def _traces_url(endpoint: str) -> str:
    if not endpoint.lower().startswith(("http://", "https://")):
        raise ConfigError("endpoint: must start with http:// or https://; e.g. http://localhost:4318")
    try:
        parts = urlsplit(endpoint)
        usable = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.fragment:
        raise ConfigError(f"endpoint: {place(endpoint)} is not the URL of a receiver; e.g. http://localhost:4318")
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(PATH) else path + PATH).geturl()


def _checked(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Headers that HTTP can carry. Raises `ConfigError` that names the header, never its value."""
    for name, value in headers.items():
        if not name or not all((c.isalnum() and c.isascii()) or c in "!#$%&'*+-.^_`|~" for c in name):
            raise ConfigError(f"headers: {redact.clean(name, 40)!r} is no name of a header")
        if any(c in value for c in "\r\n\0"):
            raise ConfigError(f"{name}: its value has line breaks, which a header cannot carry")
    return headers


def partial_success(answer: Response) -> tuple[int, str]:
    """Spans that a 2xx says were not stored, and its message. An answer that cannot be read rejected nothing."""
    try:
        if "json" in answer.headers.get("content-type", ""):
            part = json.loads(answer.body).get("partialSuccess") or {}
            return max(0, int(part.get("rejectedSpans", 0))), str(part.get("errorMessage", ""))
        success = ExportTraceServiceResponse.FromString(answer.body).partial_success
    except Exception:  # protobuf's DecodeError, which it ships without types, and whatever else an answer can be
        return 0, ""
    return max(0, success.rejected_spans), success.error_message


def error_message(answer: Response) -> str:
    """What an error's body says: the message of a google.rpc.Status in protobuf or JSON, else its text, if it is text."""
    kind = answer.headers.get("content-type", "")
    if "protobuf" in kind:
        try:  # google.rpc.Status, which opentelemetry-proto does not ship, has its code and message in the same two fields
            return str(ExportTracePartialSuccess.FromString(answer.body).error_message)
        except Exception:  # protobuf's DecodeError, which it ships without types
            return ""
    text = answer.body[:4000].decode("utf-8", "replace")
    if "json" in kind:
        try:
            document = json.loads(answer.body)
        except ValueError:
            return text
        found = document.get("message") if isinstance(document, dict) else None
        return str(found) if found else text
    return text if kind.startswith("text/plain") else ""
