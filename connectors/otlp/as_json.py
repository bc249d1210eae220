"""OTLP trace requests as JSON (the protocol's JSON mapping). Pure.

It has the functions of `connectors.otlp.wire`, with other bytes. Trace and span ids are hexadecimal,
64-bit integers are strings, enums are numbers, and empty fields are left out. Encoded texts are joined:
a dict per span would cost more in garbage collection than all of this. Text with lone surrogates raises
TypeError (`orjson.JSONEncodeError`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from connectors.otlp.memo import CAP
from connectors.otlp.wire import UNSET, Value
from tailrace.memo import Memo

_STATUS: Final = (b"{}", b'{"code":1}', b'{"code":2}')


def attribute(key: str, value: Value) -> bytes:
    """One attribute, ready to join; like `wire.attribute`."""
    return attributes((key, value))[0]


def attributes(pairs: Iterable[Any]) -> list[bytes]:
    """Attributes from name, value, name, value, …; None is left out. Like `wire.attributes`."""
    out: list[bytes] = []
    given = pairs if isinstance(pairs, list) else list(pairs)
    for i in range(0, len(given), 2):
        value = given[i + 1]
        if value is None:
            continue
        key: str = given[i]
        start = _PREFIXES[key]
        if isinstance(value, str):
            out.append(start + b'{"stringValue":' + orjson.dumps(value) + b"}}")
        else:
            out.append(start + any_value(value) + b"}")
    return out


def span(
    trace_id: bytes,
    span_id: bytes,
    parent_span_id: bytes | None,
    name: str,
    kind: int,
    start_ns: int,
    end_ns: int,
    attributes: Iterable[bytes],
    status_code: int = UNSET,
    status_message: str = "",
    links: Iterable[bytes] = (),
    trace_state: str = "",
) -> bytes:
    """One span, ready for `request`; like `wire.span`.

    Raises OverflowError for times that do not fit into unsigned 64 bits.
    """
    if not (0 <= start_ns < 1 << 64 and 0 <= end_ns < 1 << 64):
        raise OverflowError("a time must fit into 64 bits")
    parts = [b'{"traceId":"', trace_id.hex().encode(), b'","spanId":"', span_id.hex().encode()]
    if trace_state:
        parts += (b'","traceState":', orjson.dumps(trace_state), b',"name":')
    else:
        parts.append(b'","name":')
    parts.append(orjson.dumps(name))
    if parent_span_id:
        parts += (b',"parentSpanId":"', parent_span_id.hex().encode(), b'"')
    parts.append(
        b',"kind":%d,"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":['
        % (kind, start_ns, end_ns)
    )
    parts.append(b",".join(attributes))
    linked = b",".join(links)
    parts.append(b'],"links":[' + linked + b'],"status":' if linked else b'],"status":')
    parts.append(_status(status_code, status_message) if status_message else _STATUS[status_code])
    parts.append(b"}")
    return b"".join(parts)


def link(trace_id: bytes, span_id: bytes, pairs: Iterable[Any] = ()) -> bytes:
    """One link of a span, ready to join; like `wire.link`."""
    head = b'{"traceId":"%b","spanId":"%b","attributes":[' % (trace_id.hex().encode(), span_id.hex().encode())
    return head + b",".join(attributes(pairs)) + b"]}"


def resource(pairs: Iterable[Any]) -> bytes:
    """A resource, ready for `request`; like `wire.resource`."""
    return b'{"attributes":[' + b",".join(attributes(pairs)) + b"]}"


def scope(name: str, version: str = "") -> bytes:
    """An instrumentation scope, ready for `request`; like `wire.scope`."""
    return orjson.dumps({"name": name, "version": version} if version else {"name": name})


def request(groups: Iterable[tuple[bytes, bytes, Sequence[bytes]]]) -> bytes:
    """An ExportTraceServiceRequest of (resource, scope, spans), each made by the functions above."""
    found = [
        b'{"resource":'
        + its_resource
        + b',"scopeSpans":[{"scope":'
        + its_scope
        + b',"spans":['
        + b",".join(spans)
        + b"]}]}"
        for its_resource, its_scope, spans in groups
    ]
    return b'{"resourceSpans":[' + b",".join(found) + b"]}"


def prefix(key: str) -> bytes:
    """All of an attribute that comes before its AnyValue."""
    return _PREFIXES[key]


def _prefix(key: str) -> bytes:
    return b'{"key":' + orjson.dumps(key) + b',"value":'


_PREFIXES: Final[Memo[str, bytes]] = Memo(_prefix, CAP)


def _status(code: int, message: str) -> bytes:
    text = b'{"message":' + orjson.dumps(message)
    return text + b',"code":%d}' % code if code else text + b"}"


def any_value(value: Value) -> bytes:
    """AnyValue, by the value's Python type."""
    if isinstance(value, str):
        return b'{"stringValue":' + orjson.dumps(value) + b"}"
    if isinstance(value, bool):
        return b'{"boolValue":true}' if value else b'{"boolValue":false}'
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise OverflowError("an integer attribute must fit into 64 bits")
        return b'{"intValue":"%d"}' % value
    if isinstance(value, float):
        if math.isfinite(value):
            return b'{"doubleValue":' + orjson.dumps(value) + b"}"
        return (
            b'{"doubleValue":"NaN"}'
            if math.isnan(value)
            else b'{"doubleValue":"%bInfinity"}' % (b"-" if value < 0 else b"")
        )
    items = [b'{"stringValue":' + orjson.dumps(item) + b"}" for item in value]
    return b'{"arrayValue":{"values":[' + b",".join(items) + b"]}}"
