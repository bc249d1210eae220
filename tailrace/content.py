"""Content fields: JSON text that nothing between the publisher and the sink parses."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from tailrace import records
from tailrace.codec import schemas
from tailrace.conversion import JsonText, TooLarge, start
from tailrace.cutting import cut_json
from tailrace.errors import EventTooLarge, InvalidEvent
from tailrace.plain_data import room_after
from tailrace.records import ChangeKind, ContentChange

__all__ = [
    "BODY_CONTENT",
    "EVENT_CONTENT",
    "LIMITS",
    "JsonText",
    "Limits",
    "all_changes",
    "json_text",
    "with_json_text",
]

_encode: Final = msgspec.json.Encoder().encode
_check: Final = msgspec.json.Decoder(msgspec.Raw).decode


_ESCAPED: Final = 6
"""Bytes of a character at most, in JSON: a control character is written as an escape."""


class Limits(NamedTuple):
    """How much content an event may have."""

    most: int = 1_000_000
    """Bytes of one field. What exceeds it is neither walked nor copied."""
    cut: bool = False
    """Whether a field that exceeds it is cut. If not, the event is refused."""
    stores: bool = False
    """Whether there is a content store."""

    def too_large(self, field: str) -> EventTooLarge:
        """The error for a field that is too large alone."""
        return EventTooLarge(field, f"has more than {self.most} bytes; {self.help()}")

    def help(self) -> str:
        """What the limit is, and what can be done about it."""
        limit = f"the limit of an event is {self.most} (topics.max_event_bytes minus 64 KiB). "
        raised = "Raise topics.max_event_bytes and the topic's max.message.bytes"
        store = "" if self.stores else ", or set content.store"
        return limit + raised + store + ("" if self.cut else ", or set publisher.oversize = truncate")


LIMITS: Final = Limits()


def inconvertible(field: str) -> InvalidEvent:
    """The error for a value whose classes defeat its conversion: a last resort that names the field."""
    return InvalidEvent(field, "holds an object that cannot be converted; give its data or text instead")


def all_changes(given: Any, made: Iterable[ContentChange]) -> tuple[ContentChange, ...]:
    """The changes that an event has already, with those that were made now; one for each field and kind.

    Args:
        given: the `content_changes` of the event, which may be anything.
        made: the new ones.
    """
    found: dict[tuple[str, str], ContentChange] = {}
    listed = type(given) is list or type(given) is tuple
    before = [c for c in given if type(c) is ContentChange] if listed else []
    odd = [c for c in before if not _is_sound(c)]
    for c in (*(c for c in before if _is_sound(c)), *made):
        old = found.get((c.field, c.change), c)
        count = c.count if old is c else old.count + c.count
        found[c.field, c.change] = ContentChange(
            field=c.field, change=c.change, count=count, bytes=max(old.bytes, c.bytes)
        )
    return (*found.values(), *odd)


def _is_sound(c: ContentChange) -> bool:
    """Whether the values are of their types. The encoder refuses others, and names them."""
    texts = type(c.field) is str and issubclass(type(c.change), str)
    return texts and type(c.count) is int and type(c.bytes) is int


def json_text(
    value: Any, field: str, limits: Limits = LIMITS, made: list[ContentChange] | None = None
) -> str | None:
    """`value` as JSON text. None stays None.

    `JsonText` is validated and kept; everything else is encoded, also a plain str. NaN and infinities
    become null, bytes become base64, dates RFC 3339, Decimal a string. What JSON cannot represent is
    converted: docs/publishing.md says to what.

    Args:
        value: any object.
        field: path of the field, for errors and changes.
        limits: what is too large.
        made: gets the changes.

    Raises:
        EventTooLarge: the value is too large and is not to be cut.
    """
    if value is None:
        return None
    t = type(value)
    if t is JsonText:
        same = _checked(value, field, limits, made)
        if same is not None:
            return same
    elif t is str:
        if len(value) <= limits.most:
            try:
                return _bounded(_encode(value), field, limits, made)
            except UnicodeEncodeError:
                pass
    else:
        try:
            if room_after(value, limits.most) >= 0:
                text = _encode(value)
                if len(text) <= limits.most:
                    return text.decode()
                if len(text) <= _ESCAPED * limits.most:  # else it has huge keys
                    return _bounded(text, field, limits, made)
        except EventTooLarge:
            raise
        except Exception:  # a lone surrogate, a huge integer, or changed by another thread meanwhile
            return _converted(value, field, limits, made)
    return _converted(value, field, limits, made)


def _checked(value: JsonText, field: str, limits: Limits, made: list[ContentChange] | None) -> str | None:
    """The text itself, cut if it is too large; None if it is not JSON."""
    text: str | None = str(value)
    size = len(value)
    try:
        if size > limits.most:
            if not limits.cut:
                raise limits.too_large(field)
            text = cut_json(value[: limits.most], limits.most - 1)
        if text is not None:
            _check(text.encode())
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None
    if size > limits.most and text is not None and made is not None:
        made.append(ContentChange(field=field, change=ChangeKind.CUT, bytes=size))
    return text


def _converted(value: Any, field: str, limits: Limits, made: list[ContentChange] | None) -> str | None:
    conversion = start(limits.most, limits.cut)
    try:
        text = _encode(conversion.of(value))
    except TooLarge:
        raise limits.too_large(field) from None
    except Exception:
        raise inconvertible(field) from None
    if made is not None:
        made.extend(conversion.changes(field))
    return _bounded(text, field, limits, None if conversion.lost else made)


def _bounded(raw: bytes, field: str, limits: Limits, made: list[ContentChange] | None) -> str | None:
    """JSON text that is valid; cut as JSON if it is too large: escapes make it longer than its value."""
    if len(raw) <= limits.most:
        return raw.decode()
    if not limits.cut:
        raise limits.too_large(field)
    if made is not None:
        made.append(ContentChange(field=field, change=ChangeKind.CUT, bytes=len(raw)))
    return cut_json(raw.decode(), limits.most)


def _content_fields(schema: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f["name"] for f in schema["fields"] if f.get("content") == "json")


def _bodies() -> dict[str, tuple[type[Any], tuple[str, ...]]]:
    """Maps each TraceEvent field that holds a nested record to its class and its JSON content fields."""
    found = {}
    for field in schemas.current("TraceEvent")["fields"]:
        for branch in field["type"] if isinstance(field["type"], list) else ():
            if isinstance(branch, dict) and branch["type"] == "record":
                found[field["name"]] = (records.BY_NAME[branch["name"]], _content_fields(branch))
    return found


EVENT_CONTENT: Final = _content_fields(schemas.current("TraceEvent"))
BODY_CONTENT: Final = _bodies()

_BODIES: Final = tuple((name, *found) for name, found in BODY_CONTENT.items() if found[1])
_PLACES: Final = (*((name, None, ()) for name in EVENT_CONTENT), *_BODIES)
"""Field of TraceEvent -> class of the body and its content fields; no class for content itself."""
_places: Final = attrgetter(*(place[0] for place in _PLACES))


def with_json_text(event: records.TraceEvent, limits: Limits = LIMITS) -> dict[str, Any]:
    """The fields of `event` whose content must be replaced by JSON text, with the new values.

    Raises:
        EventTooLarge: a value is too large and is not to be cut.
    """
    changes: dict[str, Any] = {}
    made: list[ContentChange] = []
    for i, value in enumerate(_places(event)):
        if value is None:
            continue
        name, cls, fields = _PLACES[i]
        if cls is None:
            changes[name] = json_text(value, name, limits, made)
        elif type(value) is cls:  # the encoder rejects another class
            inner = {
                f: json_text(v, f"{name}.{f}", limits, made)
                for f in fields
                if (v := getattr(value, f)) is not None
            }
            if inner:
                changes[name] = msgspec.structs.replace(value, **inner)
    if made:
        changes["content_changes"] = all_changes(event.content_changes, made)
    return changes
