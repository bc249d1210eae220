"""Errors planted into requests that are right, each of which a vendor's judge must find."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.vendor.inside import Request

GONE: Final = object()
SPAN: Final = "resourceSpans/0/scopeSpans/0/spans/0"
OWN: Final = f"{SPAN}/attributes"
RESOURCE: Final = "resourceSpans/0/resource/attributes"
CALL: Final = "batch/0"


class Planted(NamedTuple):
    """One error: the value at a path of the body of the first request that has something there."""

    end: str
    """What the request's path ends with."""
    where: str
    """Keys and positions, with slashes; the last key may be new. In a list of attributes their keys."""
    value: Any
    """GONE takes the key away."""
    says: str
    """What one of the judge's errors contains."""


BODIES: Final[dict[str, Sequence[Planted]]] = {
    "alibaba": (
        Planted("traces", f"{OWN}/gen_ai.usage.totl_tokens", {"intValue": "1"}, "unknown attribute"),
        Planted("traces", f"{OWN}/input.type", {"stringValue": "x"}, "input.type: unknown attribute"),
        Planted("traces", f"{OWN}/gen_ai.usage.input_tokens", {"stringValue": "12"}, "must be int"),
        Planted("traces", f"{OWN}/gen_ai.usage.input_tokens", {"intValue": "-1"}, "is negative"),
        Planted("traces", f"{OWN}/gen_ai.span.kind", {"stringValue": "SPAN"}, "not an allowed value"),
        Planted("traces", f"{OWN}/gen_ai.span.kind", {"stringValue": "CHAIN"}, "no longer in the convent"),
        Planted("traces", f"{OWN}/gen_ai.span.kind", GONE, "gen_ai.span.kind is missing"),
        Planted("traces", f"{OWN}/gen_ai.operation.name", {"stringValue": "x"}, "not an allowed value"),
        Planted("traces", f"{OWN}/gen_ai.input.messages", {"stringValue": "hello"}, "must be a JSON array"),
        Planted("traces", f"{RESOURCE}/acs.arms.service.feature", GONE, "service.feature is missing"),
        Planted("traces", f"{RESOURCE}/acs.unheard", {"stringValue": "x"}, "acs.unheard: unknown attribute"),
    ),
    "langfuse": (
        Planted("/v1/traces", f"{SPAN}/traceid", "x", ".traceid: unknown key"),
        Planted("/v1/traces", f"{SPAN}/name", 3, ".name: 3 is not str"),
        Planted("/v1/traces", f"{SPAN}/attributes/0/key", "langfuse.unheard", "not an attribute of the SDK"),
        Planted("/v1/traces", "resourcespans", [], ".resourcespans: unknown key"),
        Planted("/scores", "dataType", "bogus", ".dataType: 'bogus' is not one of"),
        Planted("/scores", "traceID", "x", ".traceID: unknown key"),
        Planted("/scores", "trace_id", "x", ".trace_id: unknown key"),
        Planted("/scores", "name", GONE, "name"),
        Planted("/scores", "timestamp", "yesterday", "yesterday"),
        Planted("/scores", "value", ["good"], ".value: is a list"),
    ),
    "opik": (
        Planted("/traces/batch", "traces/0/ofThread", "x", ".ofThread: unknown key"),
        Planted("/traces/batch", "projects", [], ".projects: unknown key"),
        Planted("/traces/batch", "traces/0/source", "bogus", ".source: 'bogus' is not one of"),
        Planted("/traces/batch", "traces/0/end_time", "yesterday", "not an ISO 8601 time"),
        Planted("/traces/batch", "traces/0/end_time", "2026-03-01T12:00:00", "not an ISO 8601 time"),
        Planted("/traces/batch", "traces/0/error_info", {"message": "m"}, "exception_type"),
        Planted("/traces/batch", "traces/0/id", "00000003-0000-4000-8000-000000000003", "version 7"),
        Planted("/spans/batch", "spans/0/type", "bogus", ".type: 'bogus' is not one of"),
        Planted("/spans/batch", "spans/0/usage", {"total_tokens": 1.5}, ".usage.total_tokens: 1.5 is not"),
        Planted("/spans/batch", "spans/0/usage", {"total_tokens": "15"}, ".usage.total_tokens: '15' is not"),
        Planted("/spans/batch", "spans/0/total_estimated_cost", "0.1", "'0.1' is not float"),
        Planted("/spans/batch", "spans/0/tags", "one", ".tags: 'one' is not a list"),
        Planted("/spans/batch", "spans/0/start_time", GONE, "start_time"),
        Planted("/traces/feedback-scores", "scores/0/source", "bogus", ".source: 'bogus' is not one of"),
        Planted("/traces/feedback-scores", "scores/0/value", GONE, "value"),
        Planted("/threads/feedback-scores", "scores/0/thread_id", GONE, "thread_id"),
        Planted("/threads/feedback-scores", "scores/0/value", "good", "'good' is not float"),
        Planted("/feedback-scores/delete", "name", GONE, "name"),
        Planted("/feedback-scores/delete", "names", [], ".names: unknown key"),
    ),
    "weave": (
        Planted("/agents/otel/v1/traces", f"{RESOURCE}/wandb.project", GONE, "no wandb.project"),
        Planted("/agents/otel/v1/traces", f"{OWN}/gen_ai.usage.tokens", {"intValue": "1"}, "unknown attr"),
        Planted(
            "/agents/otel/v1/traces", f"{OWN}/gen_ai.usage.input_tokens", {"stringValue": "12"}, "not an int"
        ),
        Planted(
            "/agents/otel/v1/traces", f"{OWN}/gen_ai.input.messages", {"stringValue": "hi"}, "JSON array"
        ),
        Planted("/agents/otel/v1/traces", f"{OWN}/gen_ai.operation.name", {"stringValue": "run"}, "not one"),
        Planted("/calls/complete", f"{CALL}/endedAt", "x", ".endedAt: unknown key"),
        Planted(
            "/calls/complete",
            f"{CALL}/summary",
            {"usage": {"m": {"prompt_tokens_details": {"reasoning_tokens": 9}}}},
            "m.prompt_tokens_details:",
        ),
        Planted(
            "/calls/complete",
            f"{CALL}/summary",
            {"usage": {"m": {"completion_tokens_details": {"reasoning_tokens": "9"}}}},
            "are not integers",
        ),
        Planted("/calls/complete", "calls", [], ".calls: unknown key"),
        Planted("/calls/complete", f"{CALL}/ended_at", GONE, "ended_at: missing"),
        Planted("/calls/complete", f"{CALL}/started_at", "yesterday", "not an ISO 8601 time"),
        Planted("/calls/complete", f"{CALL}/started_at", "2026-03-01T12:00:00", "not an ISO 8601 time"),
        Planted("/calls/complete", f"{CALL}/started_at", 1772366400, "1772366400 is not"),
        Planted("/calls/complete", f"{CALL}/op_name", 3, ".op_name: 3 is not str"),
        Planted("/calls/complete", f"{CALL}/inputs", "text", ".inputs: 'text' is not"),
        Planted("/calls/complete", f"{CALL}/project_id", "else/where", "is not the path's"),
        Planted(
            "/calls/complete", f"{CALL}/summary", {"usage": {"m": {"total_tokens": "9"}}}, "total_tokens: '9'"
        ),
        Planted("/calls/complete", f"{CALL}/summary", {"usage": {"m": {"toks": 9}}}, ".toks: unknown key"),
        Planted("/feedback/replace", "weaveRef", "x", ".weaveRef: unknown key"),
        Planted("/feedback/replace", "weave_ref", GONE, "weave_ref: missing"),
        Planted("/feedback/replace", "payload", "good", ".payload: 'good' is not"),
    ),
    "otlp": (
        Planted("/v1/traces", f"{SPAN}/traceID", "x", "not an ExportTraceServiceRequest"),
        Planted("/v1/traces", f"{SPAN}/traceId", "00" * 16, "with a bit set"),
        Planted("/v1/traces", f"{SPAN}/spanId", "ab" * 7, "is not 8 bytes"),
        Planted("/v1/traces", f"{SPAN}/kind", "SPAN_KIND_CLIENT", "is not a number"),
        Planted("/v1/traces", f"{SPAN}/kind", 9, "9 is not a span kind"),
        Planted("/v1/traces", f"{SPAN}/startTimeUnixNano", "soon", "not an ExportTraceServiceRequest"),
        Planted("/v1/traces", f"{SPAN}/endTimeUnixNano", "1", "ends before it starts"),
        Planted("/v1/traces", f"{SPAN}/name", "", "no name"),
        Planted("/v1/traces", f"{SPAN}/attributes/0/value", {}, "has no value"),
        Planted("/v1/traces", f"{SPAN}/attributes/0/value", {"text": "x"}, "not an ExportTraceService"),
    ),
}
"""Vendor -> errors in JSON, or in the JSON document of a protobuf message."""


def planted(found: Planted, requests: Iterable[Request]) -> Request:
    """The first request with the error's path that has it, with the error in it.

    Raises:
        AssertionError: There is none.
    """
    *path, last = found.where.split("/")
    for request in requests:
        if not request.path.endswith(found.end):
            continue
        body = copy.deepcopy(request.body)
        try:
            inner = body
            for key in path:
                inner = inner[_position(inner, key)]
            if found.value is GONE:
                del inner[_position(inner, last)]
            elif isinstance(inner, list) and not last.isdigit():
                inner[:] = [a for a in inner if a["key"] != last] + [{"key": last, "value": found.value}]
            else:
                inner[_position(inner, last)] = found.value
        except (LookupError, TypeError, ValueError):
            continue
        return request._replace(body=body)
    raise AssertionError(f"no request has {found.where}, with a path that ends with {found.end}")


def _position(inner: Any, key: str) -> Any:
    """The key of an object; the position in a list, in one of attributes that of the attribute."""
    if not isinstance(inner, list):
        return key
    return int(key) if key.isdigit() else [a["key"] for a in inner].index(key)


# -- protobuf messages, which have other ways to be wrong than their documents
def _changed(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    def change_first(raw: bytes) -> bytes:
        message = ExportTraceServiceRequest.FromString(raw)
        change(message.resource_spans[0].scope_spans[0].spans[0])
        changed: bytes = message.SerializeToString()
        return changed

    return change_first


def _with_unknown_field(span: Any) -> None:
    span.MergeFromString(b"\xfa\x07\x01x")  # field 127, a text


def _with_twin(span: Any) -> None:
    span.attributes.append(span.attributes[0])


MESSAGES: Final[dict[str, tuple[Callable[[bytes], bytes], str]]] = {
    "cut": (lambda raw: raw[:-3], "not an ExportTraceServiceRequest"),
    "an unknown field": (_changed(_with_unknown_field), "spans: unknown field 127"),
    "a field of the request": (lambda raw: raw + b"\xfa\x07\x01x", "request: unknown field 127"),
    "a short trace id": (_changed(lambda s: setattr(s, "trace_id", b"abc")), "trace_id"),
    "no span id": (_changed(lambda s: s.ClearField("span_id")), "span_id"),
    "its own parent": (_changed(lambda s: setattr(s, "parent_span_id", s.span_id)), "its own parent"),
    "an unknown status": (_changed(lambda s: setattr(s.status, "code", 7)), "status 7"),
    "an attribute twice": (_changed(_with_twin), "2 times"),
    "a link to nowhere": (_changed(lambda s: s.links.add()), "links.trace_id"),
}
"""Name -> a change of an ExportTraceServiceRequest, and what one of the judge's errors contains."""


def planted_messages(requests: Iterable[Request]) -> Iterator[tuple[str, Request, str]]:
    """The first protobuf request, with each error of MESSAGES in it: name, request, what is said."""
    request = next(r for r in requests if r.raw)
    for name, (change, says) in MESSAGES.items():
        raw = base64.b64encode(change(base64.b64decode(request.raw))).decode()
        yield name, request._replace(raw=raw), says
