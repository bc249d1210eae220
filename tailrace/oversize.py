"""Truncates events that exceed the topic's size limit. Pure functions."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from tailrace.codec import schemas
from tailrace.content import JsonText
from tailrace.records import TraceEvent

KEPT: Final = 1024
"""Bytes of a truncated field that are kept."""


def _kinds(schema: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Maps the dotted path of every leaf field to "json" or "text" for content, "" for anything else."""
    found: dict[str, str] = {}
    for field in schema["fields"]:
        path = prefix + field["name"]
        inner = field["type"][1] if isinstance(field["type"], list) else field["type"]
        if isinstance(inner, dict) and inner["type"] == "record":
            found |= _kinds(inner, path + ".")
        else:
            found[path] = field.get("content", "")
    return found


_FIELDS: Final = _kinds(schemas.current("TraceEvent"))
CONTENT: Final = {path: kind for path, kind in _FIELDS.items() if kind}
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
        return sum(map(_size, value)) + sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 0


def sizes(event: TraceEvent) -> list[tuple[int, str]]:
    """(bytes, dotted path) of every field that holds text, largest first.

    The event's content must be JSON text already.
    """
    found = ((_size(_value(event, path)), path) for path in _FIELDS)
    return sorted((f for f in found if f[0]), reverse=True)


def cut(value: str, kind: str) -> str:
    """The replacement for a content field that is too long.

    It holds the start of the field, its size in bytes and its SHA-256, so that a reader can tell what
    is missing.
    """
    raw = value.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(raw).hexdigest()
    start = raw[:KEPT].decode("utf-8", "ignore")
    if kind == "text":
        return f"{start}… [truncated by tailrace: {len(raw)} bytes, sha256 {digest}]"
    marker = {"truncated": True, "bytes": len(raw), "sha256": digest, "start": start}
    return JsonText(msgspec.json.encode(marker).decode())


def _shorter(value: Any, kind: str) -> Any:
    """`cut`, where a list of texts becomes a list of one truncated text."""
    return cut(value, kind) if isinstance(value, str) else [cut("\n".join(value), kind)]


def truncate(event: TraceEvent, excess: int) -> TraceEvent:
    """The event with its largest content fields truncated until `excess` bytes are saved.

    May save less, if no further field can be shortened.
    """
    for size, path in sizes(event):
        if excess <= 0:
            break
        if path not in CONTENT or size <= KEPT:
            continue
        outer, _, inner = path.partition(".")
        shorter = _shorter(_value(event, path), CONTENT[path])
        saved = size - _size(shorter)
        if saved <= 0:  # the marker is longer than the text it replaces
            continue
        change = msgspec.structs.replace(getattr(event, outer), **{inner: shorter}) if inner else shorter
        event = msgspec.structs.replace(event, **{outer: change})
        excess -= saved
    return event
