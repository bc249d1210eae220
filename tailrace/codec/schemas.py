"""The schemas that ship with the package: every version of every record, by name and by fingerprint."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any, Final

from fastavro.schema import fingerprint as _fingerprint
from fastavro.schema import to_parsing_canonical_form

from tailrace import _contract

Schema = dict[str, Any]


@functools.cache
def history(name: str) -> tuple[Schema, ...]:
    """All versions of a record's schema, oldest first; the last one is what is written. KeyError: no such record."""
    return tuple(json.loads(text) for text in _contract.HISTORY[name])


def current(name: str) -> Schema:
    """The schema that this version writes."""
    return history(name)[-1]


def fingerprint(schema: Schema | str) -> bytes:
    """CRC-64-AVRO of the Parsing Canonical Form: 8 bytes in the order in which they stand on the wire (Avro 1.12,
    "Single object encoding")."""
    return bytes.fromhex(_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@functools.cache
def by_fingerprint() -> dict[bytes, tuple[str, Schema]]:
    """fingerprint -> (record name, schema), for all versions of all records."""
    return {fingerprint(s): (name, s) for name in _contract.HISTORY for s in history(name)}


def enums() -> Iterator[Schema]:
    """The enums in the current schemas of all records."""

    def inside(t: Any) -> Iterator[Schema]:
        if isinstance(t, list):
            for branch in t:
                yield from inside(branch)
        elif isinstance(t, dict):
            if t["type"] == "enum":
                yield t
            for part in (t["type"], t.get("items"), t.get("values"), *(f["type"] for f in t.get("fields", ()))):
                if isinstance(part, (dict, list)):
                    yield from inside(part)

    for name in NAMES:
        yield from inside(current(name))


NAMES: Final = tuple(_contract.HISTORY)
"""Names of all record types."""
