"""OTLP trace requests (opentelemetry-proto 1.x) as protobuf bytes, joined by hand. Pure and deterministic.

    parts = attributes(["dify.app_id", app, "gen_ai.usage.input_tokens", 12, "user.id", None])
    entry = span(trace_id, span_id, parent, "dify.workflow.run", INTERNAL, start_ns, end_ns, parts, OK)
    body = request([(resource(["service.name", "dify"]), scope("tailrace", "1.0"), [entry, …])])

Fields are in the order of their numbers, as the protobuf classes write them; the tests compare with those
classes. Text with lone surrogates raises UnicodeEncodeError when it is encoded, in the record's own `map`,
so it never reaches a batch. `connectors.otlp.as_json` has the same functions for OTLP/JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, Final

from connectors.otlp.memo import Keys, Varints, int_value

Value = str | int | float | bool | Sequence[str]

INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3
PRODUCER: Final = 4
CONSUMER: Final = 5
"""Span kinds."""
UNSET: Final = 0
OK: Final = 1
ERROR: Final = 2
"""Status codes."""

ATTRIBUTE: Final = b"\x4a"
"""Tag of Span.attributes, field 9."""

_KEYS: Final = Keys(ATTRIBUTE)
_RESOURCE: Final = Keys(b"\x0a")  # Resource.attributes, field 1
_LINK: Final = Keys(b"\x22")  # Span.Link.attributes, field 4
_VARINT: Final = Varints()
_TIMES: Final = Struct("<BQBQ").pack
_DOUBLE: Final = Struct("<d").pack
_STATUS: Final = (b"\x7a\x00", b"\x7a\x02\x18\x01", b"\x7a\x02\x18\x02")


def attribute(key: str, value: Value) -> bytes:
    """One attribute of a span, ready to join.

    The value's type decides: bool, int, float (a double) and str stay what they are; any other sequence
    becomes an array of strings.

    Raises:
        UnicodeEncodeError: text that UTF-8 cannot encode.
        OverflowError: an int that does not fit into 64 bits.
    """
    return b"".join(attributes((key, value)))


def attributes(pairs: Iterable[Any]) -> list[bytes]:
    """Attributes of a span from name, value, name, value, …, ready to join; None is left out.

    The caller must not repeat a name. Raises as `attribute`.
    """
    out: list[bytes] = []
    given = pairs if isinstance(pairs, list) else list(pairs)
    for i in range(0, len(given), 2):
        value = given[i + 1]
        if value is None:
            continue
        key: str = given[i]
        if isinstance(value, str):
            text = value.encode()
            out.append(_KEYS[key][len(text)])
            out.append(text)
        else:
            out.append(_KEYS[key].around(any_value(value)))
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
    """One span as an entry of `ScopeSpans.spans`; its length is its size in a request.

    Args:
        trace_id: 16 bytes.
        span_id: 8 bytes.
        parent_span_id: None or empty for a root.
        start_ns: Unix nanoseconds, unsigned 64-bit.
        end_ns: Unix nanoseconds, unsigned 64-bit.
        attributes: from `attributes`.
        links: from `link`.

    Raises:
        struct.error: a time does not fit.
        UnicodeEncodeError: text that UTF-8 cannot encode.
    """
    label = name.encode()
    parts = [b"\x0a", _VARINT[len(trace_id)], trace_id, b"\x12", _VARINT[len(span_id)], span_id]
    if trace_state:
        state = trace_state.encode()
        parts += (b"\x1a", _VARINT[len(state)], state)
    if parent_span_id:
        parts += (b"\x22", _VARINT[len(parent_span_id)], parent_span_id)
    if label:
        parts += (b"\x2a", _VARINT[len(label)], label)
    if kind:
        parts += (b"\x30", _VARINT[kind])
    parts.append(_TIMES(0x39, start_ns, 0x41, end_ns))
    parts += attributes
    parts += links
    parts.append(_status(status_code, status_message) if status_message else _STATUS[status_code])
    data = b"".join(parts)
    return b"\x12" + _VARINT[len(data)] + data


def link(trace_id: bytes, span_id: bytes, pairs: Iterable[Any] = ()) -> bytes:
    """One link of a span, ready to join. `pairs` are its attributes: name, value, name, value, …"""
    data = (
        b"\x0a"
        + _VARINT[len(trace_id)]
        + trace_id
        + b"\x12"
        + _VARINT[len(span_id)]
        + span_id
        + _fields(_LINK, pairs)
    )
    return b"\x6a" + _VARINT[len(data)] + data


def resource(pairs: Iterable[Any]) -> bytes:
    """`ResourceSpans.resource`, ready for `request`.

    `pairs` are its attributes: name, value, name, value, …
    """
    data = _fields(_RESOURCE, pairs)
    return b"\x0a" + _VARINT[len(data)] + data


def scope(name: str, version: str = "") -> bytes:
    """`ScopeSpans.scope`, ready for `request`."""
    data = b""
    for tag, text in ((b"\x0a", name.encode()), (b"\x12", version.encode())):
        if text:
            data += tag + _VARINT[len(text)] + text
    return b"\x0a" + _VARINT[len(data)] + data


def request(groups: Iterable[tuple[bytes, bytes, Sequence[bytes]]]) -> bytes:
    """An ExportTraceServiceRequest of (resource, scope, spans), each made by the functions above."""
    out: list[bytes] = []
    for its_resource, its_scope, spans in groups:
        scoped = len(its_scope) + sum(map(len, spans))
        size = _VARINT[scoped]
        out += (
            b"\x0a",
            _VARINT[len(its_resource) + 1 + len(size) + scoped],
            its_resource,
            b"\x12",
            size,
            its_scope,
        )
        out += spans
    return b"".join(out)


def _status(code: int, message: str) -> bytes:
    """Span.status with a message.

    A status without a message is in `_STATUS`; the unset one is empty but present.
    """
    text = message.encode()
    inner = b"\x12" + _VARINT[len(text)] + text + (b"\x18" + _VARINT[code] if code else b"")
    return b"\x7a" + _VARINT[len(inner)] + inner


def _fields(keys: Keys, pairs: Iterable[Any]) -> bytes:
    it = iter(pairs)
    return b"".join([keys[k].around(any_value(v)) for k, v in zip(it, it, strict=True) if v is not None])


def any_value(value: Value) -> bytes:
    """AnyValue, by the value's Python type."""
    if isinstance(value, str):
        text = value.encode()
        return b"\x0a" + _VARINT[len(text)] + text
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return int_value(value)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE(value)
    items: list[bytes] = []
    for item in value:
        text = item.encode()
        data = b"\x0a" + _VARINT[len(text)] + text
        items += (b"\x0a", _VARINT[len(data)], data)
    array = b"".join(items)
    return b"\x2a" + _VARINT[len(array)] + array
