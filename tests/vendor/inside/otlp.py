"""OTLP's judge: the protocol's published messages, in protobuf and JSON, and what its specification asks for.

https://opentelemetry.io/docs/specs/otlp/ and opentelemetry/proto/trace/v1/trace.proto
"""

from __future__ import annotations

import base64
import binascii
import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf import json_format, unknown_fields  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.vendor.inside import Request, serve

REQUIRES: Final[tuple[str, ...]] = ()
VARIANTS: Final[tuple[dict[str, str], ...]] = (
    {"protocol": "http/json"},
    {"protocol": "http/json", "content_on_spans": "true"},
)
IDS: Final = ("traceId", "spanId", "parentSpanId")


def problems(request: Request) -> Iterator[str]:
    try:
        message = _parsed(request)
    except (DecodeError, json_format.ParseError, binascii.Error, ValueError, TypeError) as e:
        yield f"not an ExportTraceServiceRequest: {e}"
        return
    yield from _unknown(message, "request")
    if not request.raw:
        yield from _names_of_enums(request.body)
    spans = [s for r in message.resource_spans for scope in r.scope_spans for s in scope.spans]
    if not spans:
        yield "no spans"
    for group in message.resource_spans:
        yield from _keys(group.resource.attributes, "resource")
    for span in spans:
        yield from (f"span {span.span_id.hex()}: {text}" for text in _of_span(span))


def is_otlp(request: Request) -> bool:
    return bool(request.raw) or (isinstance(request.body, dict) and "resourceSpans" in request.body)


def _parsed(request: Request) -> ExportTraceServiceRequest:
    if request.raw:
        read: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(base64.b64decode(request.raw))
        return read
    document = copy.deepcopy(request.body)
    for span in _spans(document):
        for carrier in (span, *span.get("links", ())):
            for name in IDS:
                if name in carrier:
                    carrier[name] = base64.b64encode(bytes.fromhex(carrier[name])).decode()
    message = ExportTraceServiceRequest()
    json_format.ParseDict(document, message, ignore_unknown_fields=False)
    return message


def _spans(document: Any) -> Iterator[dict[str, Any]]:
    for group in document["resourceSpans"]:
        for scope in group.get("scopeSpans", ()):
            yield from scope.get("spans", ())


def _names_of_enums(document: Any) -> Iterator[str]:
    """In JSON an enum is its number, never its name."""
    for span in _spans(document):
        for where, value in (
            ("kind", span.get("kind", 0)),
            ("status.code", span.get("status", {}).get("code", 0)),
        ):
            if type(value) is not int:
                yield f"span {span.get('spanId')}: {where}: {value!r} is not a number"


def _unknown(message: Any, where: str) -> Iterator[str]:
    """Fields that the published messages do not have."""
    yield from (f"{where}: unknown field {f.field_number}" for f in unknown_fields.UnknownFieldSet(message))
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for inner in value if descriptor.is_repeated else [value]:
            yield from _unknown(inner, f"{where}.{descriptor.name}")


def _of_span(span: Any) -> Iterator[str]:
    yield from _id("trace_id", span.trace_id, 16)
    yield from _id("span_id", span.span_id, 8)
    if span.parent_span_id:
        yield from _id("parent_span_id", span.parent_span_id, 8)
    if span.parent_span_id == span.span_id:
        yield "is its own parent"
    if not span.name:
        yield "no name"
    if span.kind not in Span.SpanKind.values():
        yield f"kind {span.kind} is not a span kind"
    if span.status.code not in Status.StatusCode.values():
        yield f"status {span.status.code} is not a status code"
    if not span.start_time_unix_nano:
        yield "no start"
    if span.end_time_unix_nano < span.start_time_unix_nano:
        yield "ends before it starts"
    yield from _keys(span.attributes, "attributes")
    for link in span.links:
        yield from _id("links.trace_id", link.trace_id, 16)
        yield from _id("links.span_id", link.span_id, 8)
        yield from _keys(link.attributes, "links.attributes")
    for event in span.events:
        if not event.name or not event.time_unix_nano:
            yield "an event without name or time"
        yield from _keys(event.attributes, "events.attributes")


def _id(where: str, value: bytes, size: int) -> Iterator[str]:
    if len(value) != size or not any(value):
        yield f"{where}: {value.hex() or 'none'} is not {size} bytes with a bit set"


def _keys(attributes: Iterable[Any], where: str) -> Iterator[str]:
    names = Counter(a.key for a in attributes)
    yield from (f"{where}: {key!r} {n} times" for key, n in names.items() if n > 1)
    if "" in names:
        yield f"{where}: an attribute without a key"
    yield from (f"{where}: {a.key!r} has no value" for a in attributes if a.value.WhichOneof("value") is None)


if __name__ == "__main__":
    serve(problems)
