"""Sends traces to Alibaba Cloud: Cloud Monitor (CMS 2.0), ARMS, Managed Service for OpenTelemetry.

The protocol is OTLP, over HTTP or gRPC; the attributes are those of Alibaba's GenAI conventions.
"""

from __future__ import annotations

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
    Secret,
    Skip,
    Split,
    sink,
)
from connectors.otlp import wire
from connectors.otlp.answers import partial_success
from connectors.otlp.grpc_client import METHOD, GrpcClient
from connectors.otlp.outcomes import described, redacted
from connectors.sdk import policy, redact
from connectors.sdk.compression import gzip
from connectors.sdk.http import place
from connectors.sinks.alibaba.endpoints import CMS, Target, over_grpc, over_http
from connectors.sinks.alibaba.mapping import AS_SEED, CURRENT, FIELDS, to_span
from connectors.sinks.alibaba.responses import QUOTAS, STATUSES, error_text, no_receiver, over_quota
from tailrace import __version__
from tailrace.errors import ConfigError
from tailrace.memo import Memo

MAX_BYTES: Final = 2_000_000
"""Most bytes of a request before compression. Alibaba documents none; larger ones have been refused."""
FEATURE: Final = "genai_app"
"""Of the resource attribute `acs.arms.service.feature`: the console shows the views for LLM applications."""
EMPTY: Final = "takes a request without spans"
LATER: Final = "whether spans are stored is seen when they are sent"
_SCOPE: Final = wire.scope("tailrace", __version__)
_AROUND: Final = 16 + len(_SCOPE)
"""Bytes of a ResourceSpans besides its resource and its spans, at most."""

Whose = tuple[str | None, str | None]
"""Host name and environment, for the resource."""
Body = tuple[bytes, bytes]
"""The resource of one span, and the span, both encoded."""


@sink("alibaba", max_records=500, max_bytes=MAX_BYTES, fields=FIELDS)
class Alibaba:
    """Traces to Alibaba Cloud Monitor (CMS 2.0), ARMS and Managed Service for OpenTelemetry."""

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        endpoint: str
        """Endpoint of the console, e.g. http://tracing-cn-heyuan.arms.aliyuncs.com."""
        license_key: Secret
        """Licence key, which the console also calls authentication token."""
        app_name: str = "dify_app"
        """Name of the application in the console: resource attribute service.name."""
        protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
        family: Literal["auto", "xtrace", "sls", "cms"] = "auto"
        """Path of the endpoint; auto: cms with a workspace, else by the host. HTTP only."""
        workspace: str = ""
        """Workspace of CMS 2.0, e.g. default-cms-1234567890-cn-hangzhou."""
        project: str = ""
        """Project of CMS 2.0; empty: the first label of the endpoint's host."""
        kinds: Literal["current", "seed"] = "current"
        """seed: gen_ai.span.kind CHAIN and TASK, as in Dify, instead of WORKFLOW, ENTRY and STEP."""
        usage: Literal["leaves", "all"] = "leaves"
        """all: also runs, chatflow messages and iterations have tokens, which count twice then."""
        timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0
        """Seconds for one request with its response."""
        compression: Literal["gzip", "none"] = "gzip"
        ca_file: str | None = None
        """PEM file with the certificate authorities of the endpoint.

        Default: the system's; over gRPC those that gRPC ships.
        """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            settings: The instance's settings.
            now: Unix seconds, for Retry-After dates.

        Raises:
            ConfigError: A setting is not valid.
            MissingPackage: The protocol is grpc and the package for it is not installed.
        """
        if not settings.app_name:
            raise ConfigError("app_name: is empty; give the application a name, e.g. shop")
        self._timeout, self._zip, self._now = settings.timeout, settings.compression == "gzip", now
        self._secrets = (settings.license_key,)
        self._dialect = AS_SEED if settings.kinds == "seed" else CURRENT
        self._every_usage = settings.usage == "all"
        self._service, self._workspace = settings.app_name, settings.workspace
        self._resources: Memo[Whose, bytes] = Memo(self._resource, 1024)
        self._grpc: GrpcClient | None = None
        self._target: Target
        if settings.protocol == "grpc":
            self._target = over_grpc(
                settings.endpoint,
                settings.license_key,
                workspace=settings.workspace,
                family=settings.family,
                project=settings.project,
            )
            self._grpc = GrpcClient(
                self._target.url,
                self._target.headers,
                gzip=self._zip,
                ca_file=settings.ca_file,
                cert_file=None,
                key_file=None,
            )
            self._shown = self._grpc.place + METHOD
        else:
            self._target = over_http(
                settings.endpoint,
                settings.license_key,
                family=settings.family,
                workspace=settings.workspace,
                project=settings.project,
            )
            self._shown = f"POST {place(self._target.url)}{self._target.shown}"
        self._headers = {"Content-Type": "application/x-protobuf", **self._target.headers}
        if self._zip:
            self._headers["Content-Encoding"] = "gzip"

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        about = event.event
        span = to_span(about, event.context, self._dialect, self._every_usage)
        if not isinstance(span, bytes):
            return span
        try:
            resource = self._resources[about.host_name, about.environment]
        except UnicodeEncodeError:
            return Rejected("not_encodable", "host_name or environment has a lone surrogate")
        return Payload((resource, span), len(span) + len(resource) + _AROUND)

    def render(self, payload: Payload) -> Any:
        """The span with its resource, as OTLP/JSON."""
        from connectors.otlp.rendering import as_document

        [group] = as_document(self.request([payload.body]))["resourceSpans"]
        return {"resource": group["resource"], **group["scopeSpans"][0]["spans"][0]}

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        body = self.request(batch.bodies)
        if len(body) > MAX_BYTES:  # settings may raise the limits of a batch
            return Split()
        if self._grpc is not None:
            outcome = await self._grpc.export(
                body, len(batch), self._timeout, fix=self._fix(0), quotas=QUOTAS
            )
        else:
            packed = gzip(body) if self._zip else body
            answer = await http.request(
                "POST", self._target.url, packed, self._headers, seconds=self._timeout
            )
            outcome = self._decide(answer, len(batch))
        return redacted(outcome, described(self._shown, len(batch), len(body)), self._secrets)

    async def check(self, http: Http) -> Health:
        """Finds out what can be known without sending a span.

        CMS 2.0 and gRPC take a request without spans. Where the key is part of the path, HEAD says whether
        the path exists, but not whether the key is valid. Neither says that spans will be stored.
        """
        seconds = min(self._timeout, 10.0)
        try:
            if self._grpc is not None:
                outcome = await self._grpc.export(b"", 0, seconds, fix=self._fix(0), quotas=QUOTAS)
                known = EMPTY
            elif self._target.family == CMS:
                headers = {k: v for k, v in self._headers.items() if k != "Content-Encoding"}
                answer = await http.request("POST", self._target.url, b"", headers, seconds=seconds)
                outcome, known = self._decide(answer, 0), EMPTY
            else:
                answer = await http.request("HEAD", self._target.url, b"", {}, seconds=seconds)
                if answer.status == 405:  # the path is there, and takes POST only
                    answer = Response(200)
                outcome, known = self._decide(answer, 0), "has the path; it does not check the licence key"
        except NoAnswer as e:
            return Health(False, str(e))
        where = place(self._target.url)
        match outcome:
            case Delivered():
                return Health(True, f"{where} {known}; {LATER}")
            case Rejected() | Split() if known == EMPTY:  # it may be refused for being empty
                return Health(True, f"{where} refuses a request without spans, which it may; {LATER}")
            case Rejected(status=status) | Split(status=status):
                return Health(False, f"{where} answers HEAD with status {status}; see endpoint, family")
            case Paused(reason=reason, fix=settings):
                return Health(False, redact.safe(f"{where}: {reason}; see {settings}", self._secrets, 700))
            case Retry(reason=reason):
                return Health(False, redact.safe(f"{where} answers with {reason}", self._secrets, 700))
            case _:
                return Health(False, f"{where}: the answer is not understood")

    async def close(self) -> None:
        """Closes the gRPC channel, if there is one. Must run on the loop that sent."""
        if self._grpc is not None:
            await self._grpc.close()

    def request(self, bodies: Sequence[Body]) -> bytes:
        """An ExportTraceServiceRequest: one ResourceSpans for each host and environment, spans in order."""
        groups: dict[bytes, list[bytes]] = {}
        for resource, span in bodies:
            spans = groups.get(resource)
            if spans is None:
                spans = groups[resource] = []
            spans.append(span)
        return wire.request([(resource, _SCOPE, spans) for resource, spans in groups.items()])

    def _resource(self, whose: Whose) -> bytes:
        host, environment = whose
        return wire.resource(
            (
                "service.name",
                self._service,
                "host.name",
                host or None,
                "deployment.environment",
                environment or None,
                "acs.arms.service.feature",
                FEATURE,
                "acs.cms.workspace",
                self._workspace or None,
            )
        )

    # -- outcomes
    def _fix(self, status: int) -> str:
        """Names of the settings to look at when everything is refused with `status`."""
        if status in (401, 403):
            return "license_key, project, workspace" if self._target.family == CMS else "license_key"
        return "endpoint, license_key, family" if self._grpc is None else "endpoint, license_key"

    def _decide(self, answer: Response, records: int) -> Outcome:
        """The outcome of an HTTP response."""
        code = over_quota(answer)
        if code is not None:
            after = policy.retry_after(answer.headers.get("retry-after"), self._now())
            return Retry(after, f"status 403: {code}", busy=True)
        wrong = no_receiver(answer)
        if wrong is not None:
            return Paused(wrong, "endpoint, family")
        good = answer.status // 100 == 2
        detail = "" if good else redact.safe(error_text(answer), self._secrets)
        outcome = policy.decide(STATUSES, answer, self._now(), detail=detail, fix=self._fix(answer.status))
        if isinstance(outcome, Delivered):
            rejected, message = partial_success(answer)
            return Delivered(min(rejected, records), redact.safe(message, self._secrets))
        return outcome
