"""Content fields take anything that JSON can hold."""

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
from tailrace.content import json_text, with_json_text
from tailrace.errors import InvalidEvent
from tailrace.records import Kind, TraceEvent

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


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"a": object()},
        2 + 1j,
        lambda: None,
        {(1, 2): 3},
        "\ud800",
        ["a\udfff"],
        deep(100_000),
        range(3),
        memoryview,
        JsonText(""),
        JsonText("{"),
        JsonText("{'a': 1}"),
        JsonText("NaN"),
        JsonText("1 2"),
        JsonText('"\ud800"'),
        JsonText("[" * 100_000 + "]" * 100_000),
        {"a": JsonText("{")},
        JsonText('{"a": 01}'),
        JsonText("\x00"),
    ],
    ids=range(20),
)
def test_what_json_cannot_hold_is_refused_with_the_field_named(value: Any) -> None:
    with pytest.raises(InvalidEvent) as caught:
        json_text(value, "tool.tool_inputs")
    assert caught.value.field == "tool.tool_inputs"
    assert len(str(caught.value)) < 300


@given(st.text())
def test_json_text_is_taken_exactly_if_it_is_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=lambda c: 1 / 0)
        valid = True
    except (ValueError, ZeroDivisionError):
        valid = False
    if valid:
        assert json_text(JsonText(text), "inputs") == text
        return
    with pytest.raises(InvalidEvent):
        json_text(JsonText(text), "inputs")


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
    assert with_json_text(TraceEvent(kind=Kind.TOOL, started_at=1, ended_at=2, tool=records.Tool())) == {}


@given(json_values)
def test_content_survives_the_whole_way(value: Any) -> None:
    done = identity.complete(
        TraceEvent(kind=Kind.SPAN, source_id="s", started_at=NOW, ended_at=NOW, outputs=value), NOW
    )
    got = codec.decode(codec.encode(done), TraceEvent).outputs
    assert (msgspec.json.decode(got) if got is not None else None) == value
