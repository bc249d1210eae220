"""Trace events as JSON lines: one event per line, with the field names of `TraceEvent`. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_type_hints

import msgspec

from tailrace import lenient_json, times
from tailrace.codec.encoder import UNLIMITED, whole
from tailrace.content import BODY_CONTENT, EVENT_CONTENT, JsonText, Limits, all_changes
from tailrace.errors import ConfigError, InvalidEvent
from tailrace.fields import FIELDS
from tailrace.formats import Converted, Options
from tailrace.loose import from_json
from tailrace.records import ChangeKind, ContentChange, Kind, TraceEvent
from tailrace.shapes import FILES, JSON_TEXTS, files, json_or_text

_HEX: Final = {"otel_trace_id": 16, "otel_span_id": 8, "otel_parent_span_id": 8}
_PRICES: Final = frozenset({"input_price", "output_price", "total_price"})
_ENDS: Final = ("started_at", "ended_at")
_ANY_SIZE: Final = Limits(UNLIMITED)
"""The publisher knows what is too large."""
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_plain = msgspec.json.Decoder().decode


def parse(line: bytes) -> TraceEvent:
    """Parses one line into an event. The event is not completed yet.

    Content (inputs, outputs, tool.tool_inputs, …) is any JSON and is kept as written. Times are
    integers (microseconds UTC) or RFC 3339 text with a time zone. Prices are text or numbers, which are
    read digit by digit. OpenTelemetry ids are hex. null is a missing value, also for lists and maps. Lone
    surrogates become U+FFFD and NaN and infinities null, in fields that take any value.

    Raises:
        InvalidEvent: names the field; ``line`` if the line is not a JSON object.
    """
    made: list[ContentChange] = []
    try:
        raw = _fields(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as e:
        repaired = _repaired(line, made)
        if repaired is None:
            raise InvalidEvent("line", f"is not a JSON object: {e}") from None
        raw = _fields(repaired)
    values = {name: found for name, value in raw.items() if (found := _value(name, value)) is not _MISSING}
    untimed = [name for name in _ENDS if values.get(name) is None] if _may_be_untimed(values) else []
    values.update((name, 0) for name in untimed)
    try:
        event = _event(values)
    except msgspec.ValidationError as e:
        raise _named(e) from None
    changes: dict[str, Any] = dict.fromkeys(untimed)
    if made:
        changes["content_changes"] = all_changes(event.content_changes, made)
    return msgspec.structs.replace(event, **changes) if changes else event


def _repaired(line: bytes, made: list[ContentChange]) -> bytes | None:
    """The line as JSON, if it is JSON but for lone surrogates and NaN; else None.

    Args:
        line: what is not JSON.
        made: gets the changes.

    Raises:
        InvalidEvent: one of these is in a field of the header. Names it.
    """
    try:
        data = lenient_json.read(line)
        if type(data) is not dict:
            return None
        found: dict[str, Any] = {}
        for name, value in data.items():
            if name in BODY_CONTENT and type(value) is dict:
                found[name] = {k: _repaired_field(f"{name}.{k}", x, made) for k, x in value.items()}
            else:
                found[name] = _repaired_field(name, value, made)
        return lenient_json.text(found)
    except InvalidEvent:
        raise
    except (ValueError, RecursionError):
        return None


def _repaired_field(path: str, value: Any, made: list[ContentChange]) -> Any:
    repair = lenient_json.Repair()
    found = repair.of(value)
    if repair.changed:
        if path in FIELDS and not FIELDS[path].free:
            raise InvalidEvent(path, "has a lone surrogate, NaN or an infinity, which its field cannot hold")
        made.append(ContentChange(field=path, change=ChangeKind.CONVERTED, count=repair.changed))
    return found


def _event(values: dict[str, Any]) -> TraceEvent:
    try:
        return msgspec.convert(values, TraceEvent)
    except msgspec.ValidationError:  # for a number in attributes, for example
        return msgspec.convert(from_json(values), TraceEvent)


def _may_be_untimed(values: Mapping[str, Any]) -> bool:
    return bool(values.get("kind") == Kind.PROMPT_GENERATION)


def _value(name: str, raw: msgspec.Raw) -> Any:
    """A field's value; `_MISSING` for the null of a field that is never null."""
    try:
        if name in EVENT_CONTENT:
            return _content(raw)
        if name in BODY_CONTENT and bytes(raw).lstrip()[:1] == b"{":
            return _body(name, _fields(raw))
        value = _plain(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as e:
        raise InvalidEvent(name, f"is not valid JSON: {e}") from None
    if value is None:
        return _MISSING if name in _DEFAULTED[""] else None
    if name in _HEX:
        return _from_hex(name, value)
    if name in times.TIMES and isinstance(value, str):
        return times.from_text(name, value) if value else None
    if name in _PRICES and type(value) in (int, float):
        return bytes(raw).decode().strip()
    return _number(value) if name in _INTEGERS[""] else value


def _body(name: str, raw: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    content, listed, texts = BODY_CONTENT[name][1], FILES.get(name), JSON_TEXTS.get(name, ())
    found: dict[str, Any] = {}
    for field, part in raw.items():
        if field in content:
            found[field] = _content(part)
            continue
        value = _plain(part)
        if field == listed:
            value = files(value, f"{name}.{field}", _ANY_SIZE)
        elif field in texts:
            value = json_or_text(value, f"{name}.{field}", _ANY_SIZE)
        elif field in _INTEGERS[name]:
            value = _number(value)
        if value is not None or field not in _DEFAULTED[name]:
            found[field] = value
    return found


def _number(value: Any) -> Any:
    """30 for 30.0; other values are not changed."""
    number = whole(value) if isinstance(value, float) else None
    return value if number is None else number


_MISSING: Final = object()


_CLASSES: Final[dict[str, type[Any]]] = {
    "": TraceEvent,
    **{name: cls for name, (cls, _) in BODY_CONTENT.items()},
}
"""Body, or "" for the event itself -> its class."""
_DEFAULTED: Final = {
    body: frozenset(f.name for f in msgspec.structs.fields(cls) if not f.required and f.default is not None)
    for body, cls in _CLASSES.items()
}
"""Body -> fields that are never null: lists, maps, revision."""
_INTEGERS: Final = {
    body: frozenset(name for name, hint in get_type_hints(cls).items() if hint in (int, int | None))
    for body, cls in _CLASSES.items()
}


def _content(raw: msgspec.Raw) -> JsonText | None:
    text = bytes(raw).decode().strip()
    return None if text == "null" else JsonText(text)


def _from_hex(name: str, value: Any) -> bytes | None:
    if value == "":
        return None
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


class EventLines:
    """The format `jsonl`: each line is an event (`parse`), and none is kept back."""

    def line(self, where: str, raw: bytes) -> Iterable[Converted]:
        try:
            return (Converted(where, parse(raw)),)
        except InvalidEvent as e:
            return (Converted(where, None, e),)

    def end(self) -> Iterable[Converted]:
        return ()


def adapter(options: Options) -> EventLines:
    """The factory of the format `jsonl`.

    Raises:
        ConfigError: a time zone is given; times of events have one.
    """
    if options.timezone:
        raise ConfigError("--timezone is not for --format jsonl, whose times have a zone; leave it out")
    return EventLines()
