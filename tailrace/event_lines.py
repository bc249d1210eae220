"""Trace events as JSON lines: one event per line, with the field names of `TraceEvent`. Pure functions."""

from __future__ import annotations

import datetime
from typing import Any, Final

import msgspec

from tailrace.content import BODY_CONTENT, EVENT_CONTENT, JsonText
from tailrace.errors import InvalidEvent
from tailrace.loose import from_json
from tailrace.records import TraceEvent

_TIMES: Final = ("started_at", "ended_at", "published_at", "root_started_at")
_HEX: Final = {"otel_trace_id": 16, "otel_span_id": 8, "otel_parent_span_id": 8}
_EXAMPLE: Final = "write microseconds UTC or RFC 3339 text, for example 2026-11-01T12:00:00Z"
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_plain = msgspec.json.Decoder().decode


def parse(line: bytes) -> TraceEvent:
    """Parses one line into an event. The event is not completed yet.

    Content (inputs, outputs, tool.tool_inputs, …) is any JSON and is kept as written. Times are
    integers (microseconds UTC) or RFC 3339 text with a time zone. OpenTelemetry ids are hex.

    Raises:
        InvalidEvent: names the field; ``line`` if the line is not a JSON object.
    """
    try:
        raw = _fields(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as e:
        raise InvalidEvent("line", f"is not a JSON object: {e}") from None
    values = {name: _value(name, value) for name, value in raw.items()}
    try:
        return msgspec.convert(values, TraceEvent)
    except msgspec.ValidationError:  # for a number in attributes, for example
        values = from_json(values)
    try:
        return msgspec.convert(values, TraceEvent)
    except msgspec.ValidationError as e:
        raise _named(e) from None


def _value(name: str, raw: msgspec.Raw) -> Any:
    try:
        if name in EVENT_CONTENT:
            return _content(raw)
        if name in BODY_CONTENT and bytes(raw).lstrip()[:1] == b"{":
            inner = BODY_CONTENT[name][1]
            return {k: _content(v) if k in inner else _plain(v) for k, v in _fields(raw).items()}
        value = _plain(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as e:
        raise InvalidEvent(name, f"is not valid JSON: {e}") from None
    if name in _TIMES and isinstance(value, str):
        return _microseconds(name, value)
    return _from_hex(name, value) if name in _HEX and value is not None else value


def _content(raw: msgspec.Raw) -> JsonText | None:
    text = bytes(raw).decode().strip()
    return None if text == "null" else JsonText(text)


def _microseconds(name: str, text: str) -> int:
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidEvent(name, f"is not a valid time: {text[:40]!r}; {_EXAMPLE}") from None
    if at.tzinfo is None:
        example = at.replace(tzinfo=datetime.UTC).isoformat().replace("+00:00", "Z")
        raise InvalidEvent(name, f"has no time zone: {text[:40]!r}; for example {example}")
    return (at - _EPOCH) // datetime.timedelta(microseconds=1)


def _from_hex(name: str, value: Any) -> bytes:
    digits = 2 * _HEX[name]
    try:
        if isinstance(value, str) and len(value) == digits:
            return bytes.fromhex(value)
    except ValueError:
        pass
    raise InvalidEvent(name, f"must be {digits} hex digits")


def _named(error: msgspec.ValidationError) -> InvalidEvent:
    """Turns ``Object contains unknown field `x` - at `$.tool` `` into an error about the field `tool.x`."""
    problem, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").removeprefix(".")
    if problem.startswith("Object ") and problem.endswith("`"):
        name = problem.rsplit("`", 2)[1]
        known = (
            "is missing"
            if "missing" in problem
            else "is not a field of an event; see `tailrace schemas show TraceEvent`"
        )
        return InvalidEvent(f"{path}.{name}" if path else name, known)
    return InvalidEvent(path or "line", f"is wrong: {problem}")
