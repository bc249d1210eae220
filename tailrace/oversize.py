"""Events over the topic's limit: which content is large, and what is left of it when it is cut. Pure functions."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from tailrace.codec import schemas
from tailrace.content import JsonText
from tailrace.identity import BODIES
from tailrace.records import TraceEvent

KEPT: Final = 1024
"""Characters of a cut field that stay readable."""


def _kinds(schema: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted path of every content field -> "json" or "text"."""
    found = {}
    for field in schema["fields"]:
        path = prefix + field["name"]
        if field.get("content"):
            found[path] = field["content"]
        for branch in field["type"] if isinstance(field["type"], list) else ():
            if isinstance(branch, dict) and branch["type"] == "record":
                found |= _kinds(branch, path + ".")
    return found


CONTENT: Final = _kinds(schemas.current("TraceEvent"))
"""Dotted path of every content field -> "json" or "text"."""


def sizes(event: TraceEvent) -> list[tuple[int, str]]:
    """(bytes, dotted path) of the content fields that are set, largest first. The event's content must be JSON text."""
    found = []
    for path in CONTENT:
        value: Any = event
        for part in path.split("."):
            value = getattr(value, part) if value is not None else None
        if isinstance(value, str):
            found.append((len(value.encode("utf-8", "surrogatepass")), path))
    return sorted(found, reverse=True)


def cut(value: str, kind: str) -> str:
    """What is left of a content field: its start, its size in bytes and its SHA-256, so that one can tell what was lost."""
    raw = value.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(raw).hexdigest()
    if kind == "text":
        return f"{value[:KEPT]}… [truncated by tailrace: {len(raw)} bytes, sha256 {digest}]"
    marker = {"truncated": True, "bytes": len(raw), "sha256": digest, "start": value[:KEPT]}
    return JsonText(msgspec.json.encode(marker).decode())


def truncate(event: TraceEvent, excess: int) -> TraceEvent:
    """The event with its largest content fields cut until `excess` bytes are saved, or nothing large is left."""
    for size, path in sizes(event):
        if excess <= 0 or size <= 2 * KEPT:
            break
        outer, _, inner = path.partition(".")
        holder = getattr(event, outer) if inner else event
        shorter = cut(getattr(holder, inner or outer), CONTENT[path])
        change = msgspec.structs.replace(holder, **{inner: shorter}) if inner else shorter
        event = msgspec.structs.replace(event, **{outer: change})
        excess -= size - len(shorter.encode())
    return event


assert {p.split(".")[0] for p in CONTENT if "." in p} <= {*BODIES, "origin"}
