"""The header reader gives the event's values."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from streams.processing.header import NAMES, PATHS, REQUIRED, read
from tailrace import codec
from tailrace.codec import schemas
from tailrace.records import TraceEvent
from tests.harness import foreign
from tests.tailrace import generated

ENUMS = frozenset({"kind", "span_kind", "evaluation_target", "evaluation_source"})
"""Attributes that are the names of symbols."""


def as_read(value: Any) -> Any:
    """An event's value as `Header` has it: texts as UTF-8."""
    if isinstance(value, str):
        return value.encode()
    return list(map(as_read, value)) if isinstance(value, (list, tuple)) else value


def at(event: TraceEvent, path: str) -> Any:
    found: Any = event
    for name in path.split("."):
        found = None if found is None else getattr(found, name)
    return found


@given(generated.events())
@settings(max_examples=60, deadline=None)
def test_every_attribute_is_the_events_field_and_null_if_that_is_empty(event: TraceEvent) -> None:
    header = read(foreign.encode(event))
    for name, path in zip(NAMES, PATHS, strict=True):
        value = at(event, path)
        if name not in REQUIRED and (value == "" or (isinstance(value, bytes) and not any(value))):
            value = None
        expected = value if name in ENUMS else as_read(value)
        assert getattr(header, name) == expected, name


def test_a_record_of_the_schema_that_we_write_is_read_without_a_dict() -> None:
    """All attributes of `Header` are set, in their order."""
    assert codec.decoder_for(schemas.current("TraceEvent"), PATHS)[1] == PATHS
