"""Tables of rows: which value is taken, when nothing is written, what is refused at import, and that each
encoding writes what the functions for single attributes write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mapping.attributes import JsonAttribute, TextAttribute, WireAttribute
from connectors.mapping.members import JsonMember, joined, json_value
from connectors.mapping.rows import (
    ENCODED,
    JSON,
    SECONDS,
    TEXTS,
    Key,
    RecordValues,
    Row,
    Table,
    fields_of,
    names_of,
    plan,
)
from connectors.otlp import as_json, wire
from connectors.otlp.memo import CAP
from tailrace.records import Kind, Origin, Tool, TraceContext, TraceEvent
from tests.connectors.enriching import make_context, make_event


def source(context: dict[str, Any] | None = None, **event: Any) -> RecordValues:
    made = make_event(1, **event)
    return RecordValues(made, make_context(made, **(context or {})))


def members(table: Table, of: RecordValues, *, empty_texts: bool = True) -> dict[str, Any]:
    out: list[bytes] = []
    plan(table, JsonMember, empty_texts=empty_texts).write(of, out)
    found: dict[str, Any] = orjson.loads(joined(out))
    return found


# -- which value
def test_a_field_of_the_event_of_a_body_and_of_the_context() -> None:
    table = (
        Row("a", "tenant_id"),
        Row("b", "node_execution.node_id"),
        Row("c", "context.app_name"),
        Row("d", "started_at"),
        Row("e", "tags"),
        Row("f", "origin.agent_based"),
        Row("g", lambda event, context: f"{event.name} of {context.app_name}"),
        Row("h", "name", str.upper),
    )
    of = source(
        {"app_name": "app"}, started_at=7, tags=["x", "y"], origin=Origin(agent_based=False), name="n"
    )
    assert members(table, of) == {
        "a": "tenant",
        "b": "n",
        "c": "app",
        "d": 7,
        "e": ["x", "y"],
        "f": False,
        "g": "n of app",
        "h": "N",
    }


@pytest.mark.parametrize(
    ("first", "second", "third", "want"),
    [
        ("1", "2", "3", "1"),
        (None, "2", "3", "2"),
        ("", None, "3", "3"),
        (None, None, None, None),
        (None, "2", None, "2"),
        ("", "", "", ""),
        ("1", None, None, "1"),
    ],
)
def test_the_first_path_that_has_a_value_counts(
    first: str | None, second: str | None, third: str | None, want: str | None
) -> None:
    of = source({"user_id": third}, origin=Origin(invoked_by=first), user_id=second)
    found = members((Row("by", "origin.invoked_by or user_id or context.user_id"),), of)
    assert found == ({} if want is None else {"by": want})
    if first is None:
        assert members((Row("by", "origin.invoked_by or user_id"),), source(user_id="u")) == {"by": "u"}


# -- nothing to write
def test_what_has_no_value_is_left_out() -> None:
    table = (
        Row("a", "tool.call_id"),
        Row("b", "error"),
        Row("c", "tags"),
        Row("d", lambda event, context: None),
    )
    assert members(table, source()) == {}
    assert members(table, source(tool=Tool())) == {}


def test_what_is_empty_is_left_out_where_it_is_asked_for() -> None:
    of = source(error="", status="", input_tokens=0, output_tokens=0)
    table = (
        Row("error", "error", empty=False),
        Row("status", "status"),
        Row("in", "input_tokens", empty=False),
        Row("out", "output_tokens"),
    )
    assert members(table, of) == {"status": "", "out": 0}
    assert members(table, of, empty_texts=False) == {"out": 0}


def test_a_text_instead_of_each_value_that_is_there() -> None:
    out: list[bytes] = []
    table = (Row("in", "inputs"), Row("out", "outputs"), Row("name", "name", str.upper))
    plan(table, JsonMember).write_instead(source(inputs="secret", name="n"), out, "ref")
    assert orjson.loads(joined(out)) == {"in": "ref", "name": "ref"}


def test_whether_a_name_has_a_value() -> None:
    made = plan((Row("a", "error", empty=False), Row("b", "tags"), Row("c", "name")), WireAttribute)
    of = source(error="", name="")
    assert [made.has(name, of) for name in ("a", "b", "c", "d")] == [False, False, True, False]
    assert made.has("b", source(tags=["x"]))


# -- tables
@pytest.mark.parametrize(
    "path", ["tenant", "tool.call", "tool_id.x", "context.kind", "node_execution", "tenant_id or nope", ""]
)
def test_a_path_that_does_not_exist_or_is_no_value_is_refused(path: str) -> None:
    with pytest.raises(TypeError, match="attribute"):
        plan((Row("attribute", path),), JsonMember)


@pytest.mark.parametrize("path", ["context.span_id", "attributes", "tenant_id or input_tokens"])
def test_a_type_without_a_form_has_to_name_one(path: str) -> None:
    with pytest.raises(TypeError, match="form"):
        plan((Row("attribute", path),), JsonMember)


def test_fields_and_names_of_tables() -> None:
    table = (
        Row("a", "tool.call_id or app_id or context.app_id"),
        Row("b", lambda event, context: event.name),
        Row("c", "kind"),
    )
    assert fields_of(table, (Row("d", "name"),)) == {"tool", "app_id", "kind", "name"}
    assert names_of(table) == {"a", "b", "c"}


# -- encodings
texts = st.text() | st.text(max_size=3).map(lambda t: t * 60)
integers = st.integers(-(2**63), 2**63 - 1)
Write = Callable[[Key, list[bytes]], None]


def values() -> st.SearchStrategy[tuple[Any, Write]]:
    """A value, and how a key is given it."""
    return st.one_of(
        texts.map(lambda v: (v, lambda key, out: key.text(out, v))),
        texts.map(lambda v: (v, lambda key, out: key.encoded(out, v.encode()))),
        integers.map(lambda v: (v, lambda key, out: key.integer(out, v))),
        st.booleans().map(lambda v: (v, lambda key, out: key.flag(out, v))),
        st.lists(texts, min_size=1, max_size=3).map(lambda v: (v, lambda key, out: key.texts(out, v))),
        integers.map(lambda v: (v / 1e6, lambda key, out: key.seconds(out, v))),
    )


@given(st.text(max_size=20), st.lists(values(), max_size=6))
def test_an_attribute_is_what_the_encoders_of_single_attributes_write(name: str, found: list[Any]) -> None:
    for make, encode in ((WireAttribute, wire.attribute), (JsonAttribute, as_json.attribute)):
        key = make(name)
        for value, write in found * 2:
            out: list[bytes] = []
            write(key, out)
            assert b"".join(out) == encode(name, value)


@given(st.lists(texts | integers | st.booleans() | st.lists(texts, min_size=1, max_size=3), max_size=8))
def test_members_are_the_object_that_orjson_writes(found: list[Any]) -> None:
    keys = [JsonMember(f"k{i}") for i in range(len(found))]
    for _ in range(2):
        out: list[bytes] = []
        for key, value in zip(keys, found, strict=True):
            if isinstance(value, str):
                key.text(out, value)
            elif isinstance(value, bool):
                key.flag(out, value)
            elif isinstance(value, int):
                key.integer(out, value)
            else:
                key.texts(out, value)
        assert joined(out) == orjson.dumps({f"k{i}": v for i, v in enumerate(found)})


@pytest.mark.parametrize("length", [0, 1, 127, 128, 5000])
def test_more_texts_than_a_member_keeps(length: int) -> None:
    key = JsonMember("k")
    for i in [*range(600), *range(600)]:
        out: list[bytes] = []
        key.text(out, f"{i}" + "x" * length)
        assert joined(out) == orjson.dumps({"k": f"{i}" + "x" * length})


def test_more_integers_than_an_attribute_keeps() -> None:
    key = WireAttribute("k")
    for i in [*range(CAP + 10), *range(10)]:
        out: list[bytes] = []
        key.integer(out, i)
        assert out == [wire.attribute("k", i)]


def test_attributes_as_texts() -> None:
    def written(write: Write) -> bytes:
        out: list[bytes] = []
        write(TextAttribute("k"), out)
        return b"".join(out)

    assert written(lambda key, out: key.integer(out, -12)) == wire.attribute("k", "-12")
    assert written(lambda key, out: key.flag(out, True)) == wire.attribute("k", "true")
    assert written(lambda key, out: key.flag(out, False)) == wire.attribute("k", "false")
    assert written(lambda key, out: key.texts(out, ["a", '"'])) == wire.attribute("k", '["a","\\""]')
    assert written(lambda key, out: key.seconds(out, 1_500_000)) == wire.attribute("k", "1.5")
    assert written(lambda key, out: key.json(out, "{}")) == wire.attribute("k", "{}")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (None, None),
        ("null", None),
        ('{"a": 1}', '{"a": 1}'),
        ("[1", '"[1"'),
        ("", '""'),
        ("half \\", '"half \\\\"'),
    ],
)
def test_content_as_a_json_value(text: str | None, want: str | None) -> None:
    found = json_value(text)
    assert (None if found is None else found.decode()) == want
    of = source(inputs=text, name=text)
    assert members((Row("c", "inputs"), Row("n", "name", JSON)), of) == (
        {} if want is None else {"c": json.loads(want), "n": json.loads(want)}
    )


def test_forms_of_functions() -> None:
    def microseconds(event: TraceEvent, context: TraceContext) -> int:
        return 2_500_000

    table = (
        Row("s", microseconds, SECONDS),
        Row("l", lambda event, context: ("a",), TEXTS),
        Row("e", lambda event, context: b'{"x":1}', ENCODED),
        Row("k", "kind"),
    )
    assert members(table, source(kind=Kind.TOOL)) == {"s": 2.5, "l": ["a"], "e": {"x": 1}, "k": "tool"}


def test_a_member_whose_texts_do_not_repeat_stops_keeping_them() -> None:
    unique, repeated = JsonMember("event_id"), JsonMember("model")
    for n in range(2000):
        out: list[bytes] = []
        unique.text(out, f"e{n}")
        repeated.text(out, f"m{n % 400 // 4}")
        assert orjson.loads(joined(out)) == {"event_id": f"e{n}", "model": f"m{n % 400 // 4}"}
    assert len(unique._texts) == 0
    assert 0 < len(repeated._texts) <= 256
