"""Content fields take anything; what JSON can represent is written as it is."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import uuid
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import JsonText, codec, identity, records
from tailrace.content import Limits, all_changes, json_text, with_json_text
from tailrace.errors import EventTooLarge
from tailrace.records import ChangeKind, ContentChange, Kind, TraceEvent

NOW = 1_764_000_000_000_000
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


class Word(str):
    """A subclass of str, as template engines use."""

    def __str__(self) -> str:
        return "not this"


class Number(int):
    pass


class Ratio(float):
    pass


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


@given(json_values.filter(lambda v: v is not None))
def test_values_are_written_as_json_that_means_the_same(value: Any) -> None:
    text = json_text(value, "inputs")
    assert text is not None
    assert json.loads(text) == value


@given(json_values)
def test_json_text_is_sent_as_it_stands(value: Any) -> None:
    text = json.dumps(value, indent=3, ensure_ascii=False)
    assert json_text(JsonText(text), "inputs") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", '"text"'),
        ('{"a": 1}', '"{\\"a\\": 1}"'),  # a plain str is a string, even if it looks like JSON
        (float("nan"), "null"),
        (float("inf"), "null"),
        ([float("-inf")], "[null]"),
        (Decimal("1.10"), '"1.10"'),
        (b"\x00\xff", '"AP8="'),
        (bytearray(b"\x00\xff"), '"AP8="'),
        (datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC), '"2026-11-01T00:00:00Z"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ((1, 2), "[1,2]"),
        ({1: 2}, '{"1":2}'),
        (Colour.RED, '"red"'),
        (Point(1), '{"x":1}'),
        (Word("word"), '"word"'),
        ({Word("key"): Word("word")}, '{"key":"word"}'),
        (Number(3), "3"),
        (Ratio(1.5), "1.5"),
        ({"a": JsonText("[1, 2]")}, '{"a":[1, 2]}'),  # JSON inside other content stays JSON
        (0, "0"),
        ("", '""'),
        ({}, "{}"),
        (False, "false"),
    ],
)
def test_values_that_json_lacks_are_written_as_the_closest_one(value: Any, text: str) -> None:
    assert json_text(value, "inputs") == text


def test_none_stays_none() -> None:
    assert json_text(None, "inputs") is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "{'a': 1}", "NaN", "1 2", '{"a": 01}', "\x00", "[" * 100_000 + "]" * 100_000],
    ids=range(8),
)
def test_text_that_is_said_to_be_json_but_is_not_becomes_a_json_string(text: str) -> None:
    made: list[ContentChange] = []
    assert json.loads(str(json_text(JsonText(text), "inputs", made=made))) == text
    assert json.loads(str(json_text({"a": JsonText(text)}, "inputs"))) == {"a": text}
    assert made == [ContentChange(field="inputs", change=ChangeKind.CONVERTED, count=1)]


@given(st.text())
def test_json_text_is_taken_exactly_if_it_is_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=lambda c: 1 / 0)
        valid = True
    except (ValueError, ZeroDivisionError):
        valid = False
    taken = json_text(JsonText(text), "inputs")
    assert taken == (text if valid else msgspec.json.encode(text).decode())


def test_json_text_that_is_too_large_is_cut_as_json() -> None:
    made: list[ContentChange] = []
    text = json.dumps({"a": "x" * 5_000, "b": [*range(500)]})
    (name, kept), *_ = json.loads(str(json_text(JsonText(text), "inputs", Limits(2_000, True), made))).items()
    assert name == "a"
    assert kept.startswith("x" * 1_800)
    assert kept.endswith("x… [cut]")
    assert made == [ContentChange(field="inputs", change=ChangeKind.CUT, bytes=len(text))]
    with pytest.raises(EventTooLarge) as caught:
        json_text(JsonText(text), "inputs", Limits(2_000, False))
    assert caught.value.field == "inputs"


def test_content_is_found_at_the_top_and_in_bodies_and_nothing_else_is_touched() -> None:
    event = TraceEvent(
        kind=Kind.TOOL,
        started_at=1,
        ended_at=2,
        name="name",
        inputs={"q": 1},
        origin=records.Origin(message_data=[1], created_by_role="role"),
        tool=records.Tool(tool_inputs="plain", description="plain"),
    )
    changes = with_json_text(event)
    assert changes == {
        "inputs": '{"q":1}',
        "origin": records.Origin(message_data="[1]", created_by_role="role"),
        "tool": records.Tool(tool_inputs='"plain"', description="plain"),
    }
    assert with_json_text(TraceEvent(kind=Kind.TOOL, started_at=NOW, ended_at=NOW, tool=records.Tool())) == {}


@given(json_values)
def test_content_survives_the_whole_way(value: Any) -> None:
    done = identity.complete(
        TraceEvent(kind=Kind.SPAN, source_id="s", started_at=NOW, ended_at=NOW, outputs=value), NOW
    )
    got = codec.decode(codec.encode(done), TraceEvent).outputs
    assert (msgspec.json.decode(got) if got is not None else None) == value


def test_changes_are_merged_by_field_and_kind() -> None:
    cut = ContentChange(field="inputs", change=ChangeKind.CUT, bytes=7)
    converted = ContentChange(field="inputs", change=ChangeKind.CONVERTED, count=2)
    assert all_changes(
        (cut, converted), [converted, ContentChange(field="inputs", change=ChangeKind.CUT)]
    ) == (
        cut,
        ContentChange(field="inputs", change=ChangeKind.CONVERTED, count=4),
    )
    assert all_changes(object(), [cut]) == all_changes([object()], [cut]) == (cut,)


def test_changes_that_an_event_has_already_stay() -> None:
    before = ContentChange(field="outputs", change=ChangeKind.CUT, bytes=7)
    event = TraceEvent(
        kind=Kind.SPAN, source_id="s", started_at=NOW, ended_at=NOW, inputs={1j}, content_changes=[before]
    )
    done = identity.complete(event, NOW)
    assert done.content_changes == (
        before,
        ContentChange(field="inputs", change=ChangeKind.CONVERTED, count=2),
    )
    assert codec.decode(codec.encode(done), TraceEvent).content_changes == list(done.content_changes)
