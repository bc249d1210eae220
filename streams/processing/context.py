"""Encodes the context header of an enriched record by hand; tests check it against the schema."""

from __future__ import annotations

from typing import Final

from tailrace.codec.varint import zigzag
from tailrace.codec.wire import frame_of
from tailrace.records import ParentKind

_FRAME: Final = frame_of("TraceContext")
_PARENT: Final = {str(k): zigzag(i) for i, k in enumerate(ParentKind)}
_NO_MARKS: Final = b"\0"


def marks(found: tuple[bytes, ...]) -> bytes:
    """An Avro array of strings."""
    if not found:
        return _NO_MARKS
    return b"".join((zigzag(len(found)), *(zigzag(len(m)) + m for m in found), b"\0"))


def encode(
    position: bytes,
    source_offset: int,
    appended_at: bytes,
    span_id: bytes,
    parent_span_id: bytes | None,
    parent_source_id: bytes | None,
    parent_kind: str,
    found: tuple[bytes, ...],
    enriched: bytes,
    shared: bytes,
) -> bytes:
    """One framed `TraceContext`.

    Args:
        position: generation and sequence, encoded.
        appended_at: encoded; repeats within a batch.
        enriched: see `Enricher.fields`.
        shared: see `Trace.shared`.
    """
    parent = b"\0" if parent_span_id is None else b"\2" + parent_span_id
    source = b"\0" if parent_source_id is None else b"\2" + zigzag(len(parent_source_id)) + parent_source_id
    tail = _NO_MARKS if not found else marks(found)
    return b"".join(
        (
            _FRAME,
            position,
            zigzag(source_offset),
            appended_at,
            span_id,
            parent,
            source,
            _PARENT[parent_kind],
            tail,
            enriched,
            shared,
        )
    )
