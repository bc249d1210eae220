"""Cuts the content of a record whose payload is larger than the sink's requests may be. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from connectors.sdk.contract import Enriched, Payload
from tailrace.fields import FIELDS
from tailrace.oversize import sizes, truncate

TRIES: Final = 4
"""Most times that a record is cut: JSON inside a text has escapes, a payload is larger than its content."""
_ROOM: Final = 0.95
"""Share of the limit that is aimed at."""

T = TypeVar("T")


def fitted(record: Enriched, map_: Callable[[Enriched], T], most: int) -> tuple[Enriched, T]:
    """A record whose content is cut until its payload is small enough, and what it is mapped to.

    Args:
        record: The record.
        map_: What the sink gets of a record, and maps to a payload or something else.
        most: Bytes that its payload may have; 0: any number.

    Raises:
        Exception: What `map_` raises.
    """
    mapped = map_(record)
    for _ in range(TRIES if most else 0):
        if not isinstance(mapped, Payload) or mapped.size <= most:
            break
        record = smaller(record, mapped.size, most)
        mapped = map_(record)
    return record, mapped


def smaller(record: Enriched, size: int, most: int) -> Enriched:
    """The record with its largest fields cut; `content_changes` says which, and how large they were.

    Args:
        record: The record.
        size: Bytes of its payload.
        most: Bytes that its payload may have.
    """
    content = sum(n for n, path in sizes(record.event) if FIELDS[path].cut)
    excess = content - int(content * most / max(size, 1) * _ROOM)
    return msgspec.structs.replace(record, event=truncate(record.event, excess))
