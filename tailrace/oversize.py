"""Events over the topic's limit: which content is large, and what is left of it when it is cut. Pure
functions."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from tailrace.codec import schemas
from tailrace.content import JsonText
from tailrace.records import TraceEvent

KEPT: Final = 1024
"""Bytes of a cut field that stay readable."""


def _kinds(schema: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted path of every field that is no record -> "json" or "text" content, "" for what is no content."""
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
"""Dotted path of every content field -> "json" or "text"."""


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
    """(bytes, dotted path) of the fields that hold text, largest first. The event's content must be JSON
    text."""
    found = ((_size(_value(event, path)), path) for path in _FIELDS)
    return sorted((f for f in found if f[0]), reverse=True)


def cut(value: str, kind: str) -> str:
    """What is left of a content field: its start, its size in bytes and its SHA-256, so that one can tell
    what was lost."""
    raw = value.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(raw).hexdigest()
    start = raw[:KEPT].decode("utf-8", "ignore")
    if kind == "text":
        return f"{start}… [truncated by tailrace: {len(raw)} bytes, sha256 {digest}]"
    marker = {"truncated": True, "bytes": len(raw), "sha256": digest, "start": start}
    return JsonText(msgspec.json.encode(marker).decode())


def _shorter(value: Any, kind: str) -> Any:
    """A list of texts becomes one text and its marker."""
    return cut(value, kind) if isinstance(value, str) else [cut("\n".join(value), kind)]


def truncate(event: TraceEvent, excess: int) -> TraceEvent:
    """The event with its largest content fields cut until `excess` bytes are saved, or cutting saves nothing
    more."""
    for size, path in sizes(event):
        if excess <= 0:
            break
        if path not in CONTENT or size <= KEPT:
            continue
        outer, _, inner = path.partition(".")
        shorter = _shorter(_value(event, path), CONTENT[path])
        saved = size - _size(shorter)
        if saved <= 0:  # the marker is longer than what it would replace
            continue
        change = msgspec.structs.replace(getattr(event, outer), **{inner: shorter}) if inner else shorter
        event = msgspec.structs.replace(event, **{outer: change})
        excess -= saved
    return event
