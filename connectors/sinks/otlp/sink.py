"""Sends traces to an OTLP receiver: over HTTP as protobuf or JSON, or over gRPC.

The protocol is OTLP 1.x; span names and attributes are those of seed 003.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson

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
    Retry,
    Secret,
    Skip,
    Split,
    sink,
)
from connectors.otlp import as_json, wire
from connectors.otlp.answers import error_message, partial_success
from connectors.otlp.grpc_client import METHOD, GrpcClient
from connectors.otlp.outcomes import described, redacted
from connectors.sdk import endpoint, policy, redact
from connectors.sdk.compression import gzip
from connectors.sdk.http import place
from connectors.sdk.outcomes import Outcome
from connectors.sinks.otlp.mapping import FIELDS, JSON, PROTOBUF, to_span
from tailrace import __version__
from tailrace.errors import ConfigError

PATH: Final = "/v1/traces"
_FIX: Final = "endpoint, api_key, headers"
VARIABLES: Final = {
    "ENTERPRISE_OTLP_ENDPOINT": "endpoint",
    "ENTERPRISE_OTLP_HEADERS": "headers",
    "ENTERPRISE_OTLP_API_KEY": "api_key",
    "ENTERPRISE_OTLP_PROTOCOL": "protocol",
    "ENTERPRISE_INCLUDE_CONTENT": "include_content",
    "ENTERPRISE_SERVICE_NAME": "service_name",
}
"""Environment variable -> setting. Seed 003, section 2."""

Body = tuple[str | None, bytes]
"""Host name, for the resource; and one encoded span."""


@sink("otlp", max_records=500, max_bytes=4_000_000, fields=FIELDS, environment=VARIABLES, cut=True)
class Otlp:
    """Traces to any OTLP receiver, such as OpenTelemetry Collector, Jaeger or Tempo."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        endpoint: str = ""
        """Base URL, e.g. http://otel-collector:4318. /v1/traces is added, unless the URL ends with it.

        For gRPC: scheme, host and port, e.g. http://otel-collector:4317.
        """
        traces_endpoint: str = ""
        """Full URL for traces, used unchanged instead of `endpoint`; HTTP only."""
        headers: dict[str, Secret] = {}
        """Sent with each request, e.g. x-scope-orgid=tenant1; over gRPC as metadata."""
        api_key: Secret = ""
        """Sent as Authorization: Bearer."""
        protocol: Literal["http/protobuf", "http/json", "grpc", "http"] = "http/protobuf"
        """http means http/protobuf."""
        timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
        """Seconds for one request with its response."""
        compression: Literal["gzip", "none"] = "gzip"
        service_name: str = "dify"
        """Resource attribute service.name."""
        include_content: bool = True
        """Whether content is sent: inputs, outputs, queries."""
        content_on_spans: bool = False
        """Whether workflow and node spans have content, too, e.g. as dify.workflow.inputs."""
        ca_file: str | None = None
        """PEM file with the certificate authorities of the endpoint.

        Default: the system's; over gRPC those that gRPC ships.
        """
        cert_file: str | None = None
        """PEM file with the client's certificate and its chain."""
        key_file: str | None = None
        """PEM file with the private key of `cert_file`, without a password."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            settings: The instance's settings.
            now: Unix seconds, for Retry-After dates.

        Raises:
            ConfigError: A setting is not valid.
            MissingPackage: The protocol is grpc and the package for it is not installed.
        """
        if settings.protocol == "grpc" and settings.traces_endpoint:
            raise ConfigError(
                "traces_endpoint: cannot be used with protocol grpc; set endpoint, e.g. http://localhost:4317"
            )
        if bool(settings.cert_file) != bool(settings.key_file):
            missing = "key_file" if settings.cert_file else "cert_file"
            raise ConfigError(f"{missing}: is missing; set both cert_file and key_file, or neither")
        self._timeout, self._zip, self._now = settings.timeout, settings.compression == "gzip", now
        if not settings.endpoint and not settings.traces_endpoint:
            raise ConfigError("endpoint: is required, e.g. http://localhost:4318")
        headers = endpoint.headers(settings.headers)
        if settings.api_key:
            headers |= endpoint.headers({"Authorization": f"Bearer {settings.api_key}"}, setting="api_key")
        self._secrets = (settings.api_key, *settings.headers.values())
        self._json = settings.protocol == "http/json"
        self._encoding: Any = as_json if self._json else wire
        self._service = settings.service_name
        self._scope: bytes = self._encoding.scope("tailrace", __version__)
        self._include, self._on_spans = settings.include_content, settings.content_on_spans
        self._grpc: GrpcClient | None = None
        if settings.protocol == "grpc":
            self._grpc = GrpcClient(
                endpoint.checked(settings.endpoint),
                headers,
                gzip=self._zip,
                ca_file=settings.ca_file,
                cert_file=settings.cert_file,
                key_file=settings.key_file,
            )
        else:
            self._url = (
                endpoint.checked(settings.traces_endpoint, setting="traces_endpoint")
                if settings.traces_endpoint
                else endpoint.url(settings.endpoint, PATH)
            )
            self._headers = {
                "Content-Type": "application/json" if self._json else "application/x-protobuf",
                **headers,
            }
            if self._zip:
                self._headers["Content-Encoding"] = "gzip"

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        encoding = JSON if self._json else PROTOBUF
        span = to_span(event, encoding, self._include, self._on_spans)
        if type(span) is not bytes:
            return span  # type: ignore[return-value] # bytes have no subclass here
        return Payload((event.event.host_name, span), len(span) + self._json)

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        body = self.request(batch.bodies)
        if self._grpc is not None:
            outcome = await self._grpc.export(body, len(batch), self._timeout, fix=_FIX)
        else:
            packed = gzip(body) if self._zip else body
            answer = await http.request("POST", self._url, packed, self._headers, seconds=self._timeout)
            outcome = self._decide(answer, len(batch))
        return redacted(outcome, described(self._shown(), len(batch), len(body)), self._secrets)

    async def check(self, http: Http) -> Health:
        """Sends a request without spans. Receivers answer it like any other."""
        empty, seconds = self.request([]), min(self._timeout, 10.0)
        where = place(self._url) if self._grpc is None else self._grpc.place
        try:
            if self._grpc is not None:
                outcome = await self._grpc.export(empty, 0, seconds, fix=_FIX)
            else:
                packed = gzip(empty) if self._zip else empty
                answer = await http.request("POST", self._url, packed, self._headers, seconds=seconds)
                outcome = self._decide(answer, 0)
        except NoAnswer as e:
            return Health(False, str(e))
        match outcome:
            case Delivered() | Rejected() | Split():  # an empty request may be refused for being empty
                return Health(True)
            case Paused(reason=reason):
                return Health(False, redact.safe(f"{where}: {reason}; see {_FIX}", self._secrets, 700))
            case Retry(reason=reason):
                return Health(False, redact.safe(f"{where} answers with {reason}", self._secrets, 700))
            case _:
                return Health(False, f"{where}: the answer is not understood")

    async def close(self) -> None:
        """Closes the gRPC channel, if there is one. Must run on the loop that sent."""
        if self._grpc is not None:
            await self._grpc.close()

    def request(self, bodies: Sequence[Body]) -> bytes:
        """An ExportTraceServiceRequest with one ResourceSpans per host; a host's spans keep their order."""
        groups: dict[str | None, list[bytes]] = {}
        for host, span in bodies:
            spans = groups.get(host)
            if spans is None:
                spans = groups[host] = []
            spans.append(span)
        body: bytes = self._encoding.request(
            [(self._resource(host), self._scope, spans) for host, spans in groups.items()]
        )
        return body

    def render(self, payload: Payload) -> Any:
        """The span with its resource as OTLP/JSON, for every protocol."""
        body = self.request([payload.body])
        if self._json:
            document = orjson.loads(body)
        else:
            from connectors.otlp.rendering import as_document

            document = as_document(body)
        [group] = document["resourceSpans"]
        return {"resource": group["resource"], **group["scopeSpans"][0]["spans"][0]}

    def _resource(self, host: str | None) -> bytes:
        """The resource of a host's spans. Seed 003, section 3."""
        resource: bytes = self._encoding.resource(("service.name", self._service, "host.name", host))
        return resource

    def _decide(self, answer: Response, records: int) -> Outcome:
        """The outcome of an HTTP response."""
        good = answer.status // 100 == 2
        detail = "" if good else redact.safe(error_message(answer), self._secrets)
        outcome = policy.decide(policy.DEFAULT, answer, self._now(), detail=detail, fix=_FIX)
        if isinstance(outcome, Delivered):
            rejected, message = partial_success(answer)
            return Delivered(min(rejected, records), redact.safe(message, self._secrets))
        return outcome

    def _shown(self) -> str:
        """The call, without what may be a secret."""
        grpc = self._grpc
        return f"POST {place(self._url)}{PATH}" if grpc is None else f"{grpc.place}{METHOD}"
