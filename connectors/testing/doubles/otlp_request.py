"""Parses OTLP trace requests, enforcing the documented rules, and encodes the answers."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from connectors.testing.doubles.received import ReceivedSpan, SpanEvent, SpanLink
from connectors.testing.doubles.request_rules import RequestRefused

CONTENT_TYPE: Final = "application/x-protobuf"
_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_RPC_CODES: Final = {400: 3, 413: 8, 415: 3, 429: 8, 502: 14, 503: 14, 504: 4}
"""HTTP status -> google.rpc.Code, if there is a similar one. For others it is 2 (unknown)."""


def parse(body: bytes, number: int, received_at: int) -> list[ReceivedSpan]:
    """The spans of one ExportTraceServiceRequest.

    Args:
        body: The request, decompressed.
        number: Number of the request, for `ReceivedSpan.request`.
        received_at: Microseconds UTC.

    Raises:
        RequestRefused: 400 for a malformed message or an id that is not valid.
    """
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except Exception as e:  # protobuf's DecodeError, for which protobuf has no type stubs
        raise RequestRefused(400, f"the body is not a valid ExportTraceServiceRequest: {e}") from None
    spans: list[ReceivedSpan] = []
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                where = f"span {len(spans)} ({span.name!r})"
                spans.append(
                    ReceivedSpan(
                        request=number,
                        received_at=received_at,
                        trace_id=_id(span.trace_id, 16, f"{where}: trace_id"),
                        span_id=_id(span.span_id, 8, f"{where}: span_id"),
                        parent_span_id=_parent(span.parent_span_id, where),
                        name=span.name,
                        kind=_named(_KINDS, span.kind),
                        start_ns=span.start_time_unix_nano,
                        end_ns=span.end_time_unix_nano,
                        attributes=_attributes(span.attributes),
                        status=_named(_STATUSES, span.status.code),
                        status_message=span.status.message,
                        trace_state=span.trace_state,
                        events=[
                            SpanEvent(
                                name=e.name, time_ns=e.time_unix_nano, attributes=_attributes(e.attributes)
                            )
                            for e in span.events
                        ],
                        links=[
                            SpanLink(
                                trace_id=_id(link.trace_id, 16, f"{where}: trace_id of a link"),
                                span_id=_id(link.span_id, 8, f"{where}: span_id of a link"),
                                attributes=_attributes(link.attributes),
                            )
                            for link in span.links
                        ],
                        scope=scoped.scope.name,
                        scope_version=scoped.scope.version,
                        resource=resource,
                    )
                )
    return spans


def _id(value: bytes, size: int, what: str) -> str:
    if len(value) != size:
        raise RequestRefused(400, f"{what} has {len(value)} bytes, must have {size}")
    if not any(value):
        raise RequestRefused(400, f"{what} is all zero")
    return value.hex()


def _parent(value: bytes, where: str) -> str | None:
    return _id(value, 8, f"{where}: parent_span_id") if value else None


def _named(names: tuple[str, ...], n: int) -> str:
    return names[n] if 0 <= n < len(names) else str(n)


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    if kind is None:
        return None
    value = getattr(any_value, kind)
    if kind == "array_value":
        return [_value(v) for v in value.values]
    if kind == "kvlist_value":
        return _attributes(value.values)
    if kind == "bytes_value":
        return {"bytes": base64.b64encode(value).decode()}
    if kind == "double_value" and not math.isfinite(value):
        return {"double": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


def success(rejected: int = 0, message: str = "") -> bytes:
    """Body of a 200: ExportTraceServiceResponse; with partial_success for rejections or a message."""
    answer = ExportTraceServiceResponse()
    if rejected or message:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = message
    return bytes(answer.SerializeToString())


def failure(status: int, message: str) -> bytes:
    """Body of an error: google.rpc.Status (1 code, 2 message)."""
    text = message.encode()
    return b"\x08" + bytes([_RPC_CODES.get(status, 2)]) + b"\x12" + _varint(len(text)) + text


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)
