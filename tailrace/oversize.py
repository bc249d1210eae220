"""Cuts events that exceed the topic's size limit. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tailrace.codec import schemas
from tailrace.content import all_changes
from tailrace.cutting import cut_json, cut_map, cut_text, cut_texts, written
from tailrace.fields import FIELDS
from tailrace.records import ChangeKind, ContentChange, TraceEvent

_ROOM: Final = 12
"""Bytes of a `ContentChange` besides its path, at most."""


def _content(schema: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for field in schema["fields"]:
        path = prefix + field["name"]
        inner = field["type"][1] if isinstance(field["type"], list) else field["type"]
        if isinstance(inner, dict) and inner["type"] == "record":
            found |= _content(inner, path + ".")
        elif "content" in field:
            found[path] = field["content"]
    return found


CONTENT: Final = _content(schemas.current("TraceEvent"))
"""Maps the dotted path of every content field to "json" or "text"."""


def _value(event: TraceEvent, path: str) -> Any:
    value: Any = event
    for part in path.split("."):
        value = getattr(value, part) if value is not None else None
    return value


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return _sum(value) + _sum(value.values())
    return _sum(value) if isinstance(value, (list, tuple)) else 0


def _sum(values: Iterable[Any]) -> int:
    return sum(map(written, map(_size, values)))


def sizes(event: TraceEvent) -> list[tuple[int, str]]:
    """(bytes, dotted path) of every field that holds text, largest first.

    The event's content must be JSON text already.
    """
    found = ((_size(_value(event, path)), path) for path in FIELDS)
    return sorted((f for f in found if f[0]), reverse=True)


def _shorter(value: Any, path: str, room: int) -> Any:
    text = FIELDS[path].text
    if text == "json" and (path in CONTENT or value.lstrip().startswith(("{", "[", '"'))):
        return cut_json(value, room)
    if text == "map":
        return cut_map(value, room)
    return cut_text(value, room) if isinstance(value, str) else cut_texts(value, room)


def truncate(event: TraceEvent, excess: int) -> TraceEvent:
    """The event with its largest fields cut, so that `excess` bytes are saved.

    All fields that are cut get the same length, and no field is cut that is shorter. Ids, times and the
    fields of the header that the processor reads are not cut. May save less, if the rest is too small.

    Args:
        event: one that can be encoded.
        excess: bytes.
    """
    if excess <= 0:
        return event
    found = [(size, path) for size, path in sizes(event) if FIELDS[path].cut and size > len(path) + _ROOM]
    saved, longest = 0, 0
    for count, (size, path) in enumerate(found, 1):
        saved += size
        excess += len(path) + _ROOM
        longest = max((saved - excess) // count, 0)
        if count == len(found) or longest >= found[count][0]:
            break
    cut = [(size, path) for size, path in found if size > longest]
    bodies: dict[str, dict[str, Any]] = {}
    for _, path in cut:
        outer, _, inner = path.rpartition(".")
        shorter = _shorter(_value(event, path), path, longest)
        bodies.setdefault(outer, {})[inner] = shorter
    changes = bodies.pop("", {})
    for outer, inner_changes in bodies.items():
        changes[outer] = msgspec.structs.replace(getattr(event, outer), **inner_changes)
    made = (ContentChange(field=path, change=ChangeKind.CUT, bytes=size) for size, path in cut)
    changes["content_changes"] = all_changes(event.content_changes, made)
    return msgspec.structs.replace(event, **changes)
