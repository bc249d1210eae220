"""Converts values that do not have the type of their field, where an event need not be refused for it. Pure.

It is called only for an event that cannot be encoded as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, Final
from uuid import UUID

import msgspec

from tailrace.codec.encoder import UNLIMITED, wrong
from tailrace.content import BODY_CONTENT, Limits, all_changes, inconvertible
from tailrace.conversion import Conversion, JsonText, TooLarge, as_text, start
from tailrace.conversion.text import sound
from tailrace.cutting import cut_json
from tailrace.errors import InvalidEvent
from tailrace.fields import FIELDS, Field
from tailrace.records import ChangeKind, ContentChange, EvaluationTarget, Kind, SpanKind, TraceEvent

_PLAIN: Final = (str, int, float, bytes, bytearray, list, tuple, dict, msgspec.Struct, type(None))
_ENUMS: Final = tuple(map(id, (Kind, SpanKind, EvaluationTarget)))
"""By identity: a metaclass may define ==."""
_OWN: Final = (*map(id, (*_PLAIN, bool)), *_ENUMS)
_OF_EVALUATIONS: Final = ("name", "evaluation.number", "evaluation.label", "evaluation.flag")
"""Fields that an evaluation is refused for, although they take any value."""
_LONG: Final = 1 << 63
_JSON: Final = ("{", "[", '"')
_TIMES: Final = 8
"""A list that is this many times as long as an event may be is cut item by item."""
_TEXTS: Final = frozenset(
    name for name, field in FIELDS.items() if field.type == "string" and not field.free and "." not in name
)
"""Fields of the header that are ids or other texts, and are not converted from any other type."""


def has_uuids(event: object) -> bool:
    """Whether an id of an event is a UUID object, which `strict` writes as text."""
    if not issubclass(type(event), TraceEvent):
        return False
    return any(issubclass(type(getattr(event, name)), UUID) for name in _TEXTS)


def strict(event: TraceEvent) -> TraceEvent:
    """The event with texts of type str in its header, instead of subclasses of it and of UUID objects.

    Raises:
        InvalidEvent: it is not an event.
    """
    if not issubclass(type(event), TraceEvent):
        raise wrong("event", event, "a tailrace.TraceEvent")
    changes: dict[str, Any] = {}
    for name in TraceEvent.__struct_fields__:
        value = getattr(event, name)
        t = type(value)
        if t is not str and id(t) not in _ENUMS and issubclass(t, str):
            changes[name] = str.__str__(value)
        elif issubclass(t, UUID) and name in _TEXTS:
            changes[name] = UUID.__str__(value)
        elif name not in FIELDS or FIELDS[name].free:
            continue
        elif issubclass(t, (list, tuple)):
            base: Any = list if issubclass(t, list) else tuple
            changes[name] = [str.__str__(x) if issubclass(type(x), str) else x for x in base.__iter__(value)]
    return msgspec.structs.replace(event, **changes)


def refusal(event: TraceEvent) -> InvalidEvent:
    """The error for an event of which a field of the header holds an object that cannot even be looked at."""
    expected = "of a type that the field takes; see `tailrace schemas show TraceEvent`"
    read = [path for path, field in FIELDS.items() if not field.free or path in _OF_EVALUATIONS]
    odd: list[tuple[str, Any]] = []
    for path in read:
        found, value = _at(event, path)
        if not issubclass(type(value), _PLAIN):
            return wrong(found, value, expected)
        if issubclass(type(value), (list, tuple)):
            base: Any = list if issubclass(type(value), list) else tuple
            items = [x for x in base.__iter__(value) if not issubclass(type(x), _PLAIN)]
            if items:
                return wrong(f"{found}[]", items[0], expected)
        if id(type(value)) not in _OWN and not issubclass(type(value), msgspec.Struct):
            odd.append((found, value))  # of a subclass, whose methods may raise
    if odd:
        return wrong(*odd[0], expected)
    return InvalidEvent("event", f"has a field that is not {expected}")


def _at(event: TraceEvent, path: str) -> tuple[str, Any]:
    """The value of a field; that of its body if it is of another class."""
    value: Any = event
    at = ""
    for part in path.split("."):
        if value is None or not issubclass(type(value), msgspec.Struct):
            break
        value, at = getattr(value, part), f"{at}.{part}" if at else part
    return at, value


def converted(event: TraceEvent, limits: Limits) -> TraceEvent:
    """The event with every field converted that takes any value.

    Fields with ids, times, and those of the header that the processor reads stay as they are.

    Args:
        event: one whose content is JSON text already.
        limits: what is too large.

    Raises:
        InvalidEvent: it is not an event.
        EventTooLarge: a value is too large and is not to be cut.
    """
    event = strict(event)
    made: list[ContentChange] = []
    changes = _changes(event, "", limits, made)
    for name, (cls, _) in BODY_CONTENT.items():
        body = getattr(event, name)
        if type(body) is cls and (inner := _changes(body, name + ".", limits, made)):
            changes[name] = msgspec.structs.replace(body, **inner)
    refs, marks = event.content_refs, event.content_changes
    if made or not _is_list(marks):
        changes["content_changes"] = all_changes(marks, made)
    if not _is_list(refs):
        changes["content_refs"] = ()
    return msgspec.structs.replace(event, **changes)


def from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event, from JSON, converted as `converted` does it. They may have any size.

    Args:
        values: name -> value; those of bodies are objects, content is JSON text.
    """
    limits = Limits(UNLIMITED)
    made: list[ContentChange] = []
    found = dict(values) | _changed(values, "", limits, made)
    for name in BODY_CONTENT:
        body = values.get(name)
        if type(body) is dict:
            found[name] = body | _changed(body, name + ".", limits, made)
    said = found.get("content_changes", ())
    if made and isinstance(said, (list, tuple)):
        found["content_changes"] = [*said, *made]
    return found


def _changes(record: Any, prefix: str, limits: Limits, made: list[ContentChange]) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return _changed(values, prefix, limits, made)


def _changed(
    values: Mapping[str, Any], prefix: str, limits: Limits, made: list[ContentChange]
) -> dict[str, Any]:
    """The values that must be converted, in the type of their fields."""
    changes: dict[str, Any] = {}
    for name, value in values.items():
        field = FIELDS.get(prefix + name)
        if field is None or not field.free or type(value) is JsonText:
            continue
        try:
            held = _held(value, field, limits)
            fits = _fits(held, field, limits.most)
        except Exception:
            raise inconvertible(prefix + name) from None
        if fits:
            if held is not value:
                changes[name] = held
            if _size(held) < _size(value):
                made.append(ContentChange(field=prefix + name, change=ChangeKind.CUT, bytes=_size(value)))
            continue
        conversion = start(limits.most, limits.cut)
        try:
            changes[name] = _in_type(conversion.of(value), field, conversion)
        except TooLarge:
            raise limits.too_large(prefix + name) from None
        except Exception:
            raise inconvertible(prefix + name) from None
        made += conversion.changes(prefix + name)
    return changes


def _held(value: Any, field: Field, limits: Limits) -> Any:
    """A value that can be cut later: what a list or dict of texts holds now, the start of JSON text.

    Another thread may change a list or dict. Of one that has more items than an event may have bytes, the
    first are kept. Any other value is not changed.
    """
    t, most = type(value), limits.most
    if t is str and field.text == "json" and limits.cut and len(value) > most:
        return cut_json(sound(value[:most]), most) if value.lstrip()[:1] in _JSON else value
    if t is list or t is tuple:
        if len(value) <= most:
            return tuple(value)
        return tuple(value[:most]) if limits.cut and _is_short(value[:most], most) else value
    if t is dict:
        if len(value) <= most // 2:
            return dict.copy(value)
        kept = dict(islice(dict.copy(value).items(), most // 2)) if limits.cut else value
        return kept if limits.cut and _is_short(kept, most) and _is_short(kept.values(), most) else value
    return value


def _is_short(values: Collection[Any], most: int) -> bool:
    """Whether they are texts that are not too long together to be cut one by one."""
    return all(type(x) is str for x in values) and sum(map(len, values)) <= _TIMES * most


def _size(value: Any) -> int:
    """Bytes of text, or of a list or dict of texts, at least."""
    if type(value) is str:
        return len(value)
    return len(value) if _is_list(value) or type(value) is dict else 0


def _is_list(value: Any) -> bool:
    return type(value) is list or type(value) is tuple


def _fits(value: Any, field: Field, most: int) -> bool:
    """Whether the value can be encoded as it is."""
    if value is None:
        return field.nullable
    t = type(value)
    if field.type == "string":
        return _is_text(value, most)
    if field.type == "array":
        return _is_list(value) and len(value) <= most and all(_is_text(x, most) for x in value)
    if field.type == "map":
        return (
            t is dict
            and len(value) <= most
            and all(_is_text(k, most) and _is_text(x, most) for k, x in value.items())
        )
    if field.type == "boolean":
        return t is bool
    if field.type == "double":
        return t is float or (t is int and abs(value) < 1 << 1000)
    if field.type == "enum":
        return issubclass(t, str) and str.__str__(value) in field.symbols
    return t is int and -_LONG <= value < _LONG


def _is_text(value: Any, most: int) -> bool:
    if type(value) is not str or len(value) > most:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_type(data: Any, field: Field, conversion: Conversion) -> Any:
    """Converted data in the type of its field; None if it has no such value."""
    if field.type == "array":
        items = data if type(data) is list else [data]
        return [_text(x, conversion) for x in items if x is not None]
    if field.type == "map":
        pairs = data if type(data) is dict else {"value": data}
        return {k: _text(x, conversion) for k, x in pairs.items() if x is not None}
    if data is None:
        return None
    if field.type == "string":
        return _text(data, conversion)
    found = _scalar(data, field)
    if type(found) is not type(data):
        conversion.converted += 1
    return found


def _text(data: Any, conversion: Conversion) -> str:
    if type(data) is str:
        return data
    conversion.converted += 1
    return as_text(data)


def _scalar(data: Any, field: Field) -> Any:
    if field.type == "boolean":
        return data if type(data) is bool else None
    if field.type == "double":
        return float(data) if type(data) in (int, float) else None
    if field.type == "enum":
        return data if type(data) is str and data in field.symbols else None
    if type(data) is float and data.is_integer():
        data = int(data)
    return data if type(data) is int and -_LONG <= data < _LONG else None
