"""The encoder refuses values of the wrong type, with the dotted path of the field.

What publish() converts before is in test_prepare.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import codec, identity, kinds, records
from tailrace.codec import schemas
from tailrace.content import BODY_CONTENT, EVENT_CONTENT
from tailrace.errors import InvalidEvent
from tailrace.records import Kind, TraceEvent
from tests.tailrace import generated

EVENT = schemas.current("TraceEvent")
KIND_OF = {"origin": Kind.GENERATE_NAME, **{body: Kind(kind) for kind, body in kinds.BODY.items()}}
JSON = {*EVENT_CONTENT, *(f"{body}.{f}" for body, (_, fields) in BODY_CONTENT.items() for f in fields)}
"""Fields that take any JSON."""


class Loud:
    """Its repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Origin:
    """An application's own class of the same name."""


def nested() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


ANY = [object(), Loud(), 1.5, 2 + 1j, nested(), lambda: None, Origin(), {1}]
NUMBERS = [0, 5, -1, True, False]
TEXTS = ["", "text", b"", b"bytes", bytearray(b"x")]
COLLECTIONS = [[], (), {}, ["a"], {"a": "b"}]
LONE = ["\ud800", "a\udfff", "ok" * 3000 + "\udc80"]
HUGE = [2**63, -(2**63) - 1, 10**5000]


def wrong_values(t: Any) -> Iterator[tuple[Any, str]]:
    """A value that is not of type t, and what follows the field's path in the error."""
    if isinstance(t, list):
        yield from wrong_values(t[1])
        return
    kind = t if isinstance(t, str) else t["type"]
    if isinstance(t, str) and t.startswith("Otel"):
        kind, t = "fixed", {"size": 8}
    wrong: dict[str, list[Any]] = {
        "string": [*NUMBERS, *COLLECTIONS, *TEXTS[2:], *LONE],
        "boolean": [0, 1, *TEXTS, *COLLECTIONS],
        "int": [True, False, *TEXTS, *COLLECTIONS, *HUGE, 2**31],
        "long": [True, False, *TEXTS, *COLLECTIONS, *HUGE],
        "double": [True, False, *TEXTS, *COLLECTIONS, 10**5000],
        "fixed": [*NUMBERS, *TEXTS, *COLLECTIONS, b"x" * 15, b"x" * 9, "x" * 8, "x" * 16],
        "enum": [*NUMBERS, *TEXTS, *COLLECTIONS, "dream", "\ud800", ["span"]],
        "array": [*NUMBERS, *TEXTS, {}, {"a": "b"}, None],
        "map": [*NUMBERS, *TEXTS, [], ["a"], None],
        "record": [*NUMBERS, *TEXTS, *COLLECTIONS],
    }
    for value in [*wrong[kind], *ANY]:
        if not (kind == "array" and isinstance(value, list)) and not (
            kind == "double" and type(value) is float
        ):
            yield value, ""
    if kind == "array":
        for value, _ in wrong_values(t["items"]):
            yield ["fine", value], "[]"
    if kind == "map":
        for value, _ in wrong_values(t["values"]):
            yield {"fine": "x", "key": value}, "{}"
        for key in (5, None, b"k", "\ud800"):
            yield {key: "x"}, " (key)"
    if kind == "record":
        yield records.Moderation() if t["name"] != "Moderation" else records.Tool(), ""


def cases() -> list[Any]:
    found = []
    for field in EVENT["fields"]:
        t = field["type"]
        for value, suffix in wrong_values(t):
            found.append((field["name"], value, field["name"] + suffix))
        inner = t[1] if isinstance(t, list) else t
        if isinstance(inner, dict) and inner["type"] == "record":
            for part in inner["fields"]:
                for value, suffix in wrong_values(part["type"]):
                    found.append(
                        (f"{field['name']}.{part['name']}", value, f"{field['name']}.{part['name']}{suffix}")
                    )
    return [c for c in found if c[0] not in JSON]


def event_with(path: str, value: Any) -> TraceEvent:
    outer, _, inner = path.partition(".")
    base = TraceEvent(kind=KIND_OF.get(outer, Kind.TOOL), source_id="s", started_at=1, ended_at=2)
    if not inner:
        return msgspec.structs.replace(base, **{outer: value})
    t = next(f["type"] for f in EVENT["fields"] if f["name"] == outer)[1]
    return msgspec.structs.replace(base, **{outer: records.BY_NAME[t["name"]](**{inner: value})})


CASES = cases()
PATHS = sorted({c[0] for c in CASES})


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_value_is_refused_with_its_field_named(path: str) -> None:
    for name, value, expected in CASES:
        if name != path:
            continue
        with pytest.raises(InvalidEvent) as caught:
            codec.encode(identity.complete(event_with(path, value), 3))
        assert caught.value.field == expected, type(value)
        assert str(caught.value).startswith(f"{expected}: ")
        assert len(str(caught.value)) < 600


def test_every_field_that_is_not_free_json_is_among_the_cases() -> None:
    all_paths = {f["name"] for f in EVENT["fields"]}
    for body, (cls, _) in BODY_CONTENT.items():
        all_paths |= {f"{body}.{f}" for f in cls.__struct_fields__}
    assert set(PATHS) == all_paths - JSON


def test_missing_times_are_refused() -> None:
    for field in ("started_at", "ended_at"):
        with pytest.raises(InvalidEvent) as caught:
            codec.encode(identity.complete(event_with(field, None), 3))
        assert caught.value.field == field


def test_an_id_that_others_are_derived_from_is_the_one_named() -> None:
    for kind, field in (
        (Kind.WORKFLOW_RUN, "workflow_run_id"),
        (Kind.MESSAGE, "message_id"),
        (Kind.SPAN, "message_id"),
    ):
        for value in (5, b"x", "\ud800", ["a"]):
            event = msgspec.structs.replace(TraceEvent(kind=kind, started_at=1, ended_at=2), **{field: value})
            with pytest.raises(InvalidEvent) as caught:
                codec.encode(identity.complete(event, 3))
            assert caught.value.field == field


def test_a_foreign_class_that_looks_like_a_body_is_refused() -> None:
    class Span:
        """As OpenTelemetry's: has attributes that ours has too."""

        events = ("x",)
        attributes_json = "{}"

    bodies: tuple[Any, ...] = (Span(), {"events": []})
    for body in bodies:
        with pytest.raises(InvalidEvent) as caught:
            codec.encode(identity.complete(event_with("span", body), 3))
        assert caught.value.field == "span"


@given(
    field=st.sampled_from(EVENT["fields"]),
    value=st.one_of(
        st.integers(),
        st.text(),
        st.binary(),
        st.floats(),
        st.booleans(),
        st.lists(st.integers()),
        st.dictionaries(st.text(), st.text()),
    ),
)
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_field_is_written_as_avro_has_it_or_refused_with_that_field_named(
    field: Any, value: Any
) -> None:
    event = event_with(field["name"], value)
    try:
        done = identity.complete(event, 3)
        body, refused = codec.encode(done)[10:], None
    except InvalidEvent as e:
        refused = e.field.split(" ")[0].rstrip("[]{}")
    if refused is None:
        plain = msgspec.to_builtins(done, builtin_types=(bytes,))
        assert generated.written(EVENT, plain) == body
    else:
        assert refused == field["name"]


def test_only_our_events_are_events() -> None:
    things: tuple[Any, ...] = (None, {}, "event", records.Tool())
    for thing in things:
        with pytest.raises(InvalidEvent) as caught:
            identity.complete(thing, 3)
        assert caught.value.field == "event"
