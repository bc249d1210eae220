"""Schemas by name and by frame.

It has every version of every record that ships with the package, and the schemas that are learned at run
time from files and from a schema registry.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from fastavro.schema import fingerprint as _fingerprint
from fastavro.schema import to_parsing_canonical_form

from tailrace import _schema_history
from tailrace.errors import DecodeError, UnknownSchema

Schema = dict[str, Any]
MARKER: Final = b"\xc3\x01"
"""First two bytes of Avro's single-object encoding, version 1; the schema's fingerprint follows."""
BODY: Final = 10
"""Offset of the Avro body in single-object encoding."""
ID_BODY: Final = 5
"""Offset of the Avro body in Confluent's wire format: zero byte, then 4 bytes of schema id, big endian."""


@functools.cache
def history(name: str) -> tuple[Schema, ...]:
    """All versions of a record's schema, oldest first. The last one is what this version writes.

    Raises:
        KeyError: There is no such record.
    """
    return tuple(json.loads(text) for text in _schema_history.HISTORY[name])


def current(name: str) -> Schema:
    """The schema that this version writes."""
    return history(name)[-1]


def fingerprint(schema: Schema | str) -> bytes:
    """CRC-64-AVRO of the Parsing Canonical Form, 8 bytes in wire order (Avro 1.12, single objects)."""
    return bytes.fromhex(_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@functools.cache
def by_fingerprint() -> dict[bytes, tuple[str, Schema]]:
    """Fingerprint -> (record name, schema), for all versions of all records."""
    return {fingerprint(s): (name, s) for name in _schema_history.HISTORY for s in history(name)}


def enums() -> Iterator[Schema]:
    """The enums in the current schemas of all records."""

    def inside(t: Any) -> Iterator[Schema]:
        if isinstance(t, list):
            for branch in t:
                yield from inside(branch)
        elif isinstance(t, dict):
            if t["type"] == "enum":
                yield t
            for part in (
                t["type"],
                t.get("items"),
                t.get("values"),
                *(f["type"] for f in t.get("fields", ())),
            ):
                if isinstance(part, (dict, list)):
                    yield from inside(part)

    for name in NAMES:
        yield from inside(current(name))


class Known(NamedTuple):
    """What a frame names: one of our records, and the writer's schema."""

    name: str
    schema: Schema


class Resolver:
    """Maps frames to schemas. Thread-safe. What is known is never forgotten.

    A frame is everything before a value's body, so its length is the body's offset.
    """

    def __init__(self) -> None:
        self.want: Callable[[bytes], None] = lambda frame: None
        """Called for an unknown frame; must not block. `tailrace.schema_registry` fetches the schema."""
        self._learned: dict[bytes, Known | DecodeError] = {}

    def find(self, frame: bytes) -> Known:
        """The schema that a frame names.

        Raises:
            UnknownSchema: The schema is not known.
            DecodeError: The schema is known, but cannot be read as one of our records.
        """
        entry = self._learned.get(frame) or self._shipped().get(frame)
        if entry is None:
            raise UnknownSchema(frame)
        if isinstance(entry, DecodeError):
            raise type(entry)(entry.reason, entry.detail)
        return entry

    def find_or_want(self, frame: bytes) -> Known:
        """As `find`. An unknown schema is also requested by `want`, and may be known later."""
        try:
            return self.find(frame)
        except UnknownSchema:
            self.want(frame)
            raise

    def knows(self, frame: bytes) -> bool:
        """Whether the schema is known, readable or not."""
        return frame in self._learned or frame in self._shipped()

    def add(self, frame: bytes, entry: Known | DecodeError) -> None:
        """Adds a schema, or why it cannot be read. An earlier entry for the frame stays."""
        self._learned.setdefault(frame, entry)

    @staticmethod
    @functools.cache
    def _shipped() -> dict[bytes, Known]:
        return {MARKER + fp: Known(*named) for fp, named in by_fingerprint().items()}


def id_frame(schema_id: int) -> bytes:
    """The frame of a schema id in Confluent's wire format."""
    return b"\0" + schema_id.to_bytes(4, "big")


known: Final = Resolver()
"""The resolver of this process."""
NAMES: Final = tuple(_schema_history.HISTORY)
"""Names of all record types."""
