"""Schemas by name and by what stands before a value: those that ship with the package, every version of every
record, and those learned at run time, from files and from a schema registry."""

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
"""First two bytes of an Avro single object, version 1; the schema's fingerprint follows."""
BODY: Final = 10
"""Where the Avro body of a single object starts."""
ID_BODY: Final = 5
"""Where it starts in Confluent's wire format: after a zero byte and the registry's id of the schema, 4 bytes,
big endian."""


@functools.cache
def history(name: str) -> tuple[Schema, ...]:
    """All versions of a record's schema, oldest first; the last one is what is written. KeyError: no such
    record."""
    return tuple(json.loads(text) for text in _schema_history.HISTORY[name])


def current(name: str) -> Schema:
    """The schema that this version writes."""
    return history(name)[-1]


def fingerprint(schema: Schema | str) -> bytes:
    """CRC-64-AVRO of the Parsing Canonical Form: 8 bytes in the order in which they stand on the wire (Avro
    1.12, "Single object encoding")."""
    return bytes.fromhex(_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@functools.cache
def by_fingerprint() -> dict[bytes, tuple[str, Schema]]:
    """fingerprint -> (record name, schema), for all versions of all records."""
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
    """The record that a frame says a value is, by our name, and its writer's schema."""

    name: str
    schema: Schema


class Resolver:
    """Frame (all that stands before a value's body: its length is where the body starts) -> schema. What is
    known stays known.

    Any thread may ask and any may add. want: called by readers that miss a frame, and does not block: whoever
    can find its schema looks for it (`tailrace.schema_registry`)."""

    def __init__(self) -> None:
        self.want: Callable[[bytes], None] = lambda frame: None
        self._learned: dict[bytes, Known | DecodeError] = {}

    def find(self, frame: bytes) -> Known:
        """Raises `UnknownSchema`, or the `DecodeError` that says why its schema cannot be read."""
        found = self._learned.get(frame) or self._shipped().get(frame)
        if found is None:
            raise UnknownSchema(frame)
        if isinstance(found, DecodeError):
            raise type(found)(found.reason, found.detail)
        return found

    def find_or_want(self, frame: bytes) -> Known:
        """As `find`; what is not known is asked for, and may be known later."""
        try:
            return self.find(frame)
        except UnknownSchema:
            self.want(frame)
            raise

    def knows(self, frame: bytes) -> bool:
        """Whether the schema is known, or known to be of no use."""
        return frame in self._learned or frame in self._shipped()

    def add(self, frame: bytes, found: Known | DecodeError) -> None:
        """Learns a schema, or why it cannot be read. What was learned before stays."""
        self._learned.setdefault(frame, found)

    @staticmethod
    @functools.cache
    def _shipped() -> dict[bytes, Known]:
        return {MARKER + fp: Known(*found) for fp, found in by_fingerprint().items()}


def id_frame(schema_id: int) -> bytes:
    """What stands before a value in Confluent's wire format."""
    return b"\0" + schema_id.to_bytes(4, "big")


known: Final = Resolver()
"""This process's."""
NAMES: Final = tuple(_schema_history.HISTORY)
"""Names of all record types."""
