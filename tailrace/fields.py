"""The fields of `TraceEvent` by path, and what may become of their values. Pure.

An event's identity, its times and the fields of the header that the processor reads are kept as they are: a
value of another type is refused. Everything else is converted, and what is text is cut if the event is too
large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from tailrace.codec import schemas

HEADER_TEXTS: Final = frozenset({"name", "error", "app_name", "workspace_name", "host_name"})
"""Fields of the header that are for people."""
_JSON_TEXTS: Final = frozenset({"dataset_retrieval.embedding_models", "span.links", "span.resource"})
"""Fields that hold JSON text but are not content."""
_MARKS: Final = ("content_changes", "content_refs")


class Field(NamedTuple):
    """One leaf field."""

    type: str
    """Its Avro type, without null: string, long, array, …"""
    text: str
    """json or text if it holds that; map for a map of texts; empty if it is not text."""
    symbols: tuple[str, ...]
    """Of an enum."""
    nullable: bool
    free: bool
    """Whether any value is taken, and converted."""
    cut: bool
    """Whether it may be cut."""


def _fields(schema: Mapping[str, Any], prefix: str, header: bool) -> Iterator[tuple[str, Field]]:
    for field in schema["fields"]:
        path, kind = prefix + field["name"], field["type"]
        nullable = isinstance(kind, list)
        inner = kind[1] if nullable else kind
        name = inner if isinstance(inner, str) else inner["type"]
        if name == "record":
            yield from _fields(inner, path + ".", header)
        else:
            yield path, _field(path, field, inner, name, nullable, header)
        if not prefix and field["name"] == schema.get("header_last"):
            header = False


def _field(path: str, field: Mapping[str, Any], inner: Any, name: str, nullable: bool, header: bool) -> Field:
    text = {"string": "text", "array": "text", "map": "map"}.get(name, "")
    if field.get("content") == "json" or path in _JSON_TEXTS:
        text = "json"
    free = path not in _MARKS and (not header or path in HEADER_TEXTS)
    symbols = tuple(inner["symbols"]) if name == "enum" else ()
    return Field(name, text, symbols, nullable, free, free and bool(text) and not path.endswith("_id"))


FIELDS: Final[Mapping[str, Field]] = dict(_fields(schemas.current("TraceEvent"), "", True))
"""Dotted path -> field, in the order of the schema."""
