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

from tailrace import codec, identity, kinds, records, shapes, times
from tailrace.codec import schemas
from tailrace.content import BODY_CONTENT, EVENT_CONTENT
from tailrace.errors import InvalidEvent
from tailrace.records import Kind, TraceEvent
from tests.tailrace import generated

NOW = 1_764_000_000_000_000
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


FILES = {f"{body}.{field}" for body, field in shapes.FILES.items()}
JSON_TEXTS = {f"{body}.{field}" for body, fields in shapes.JSON_TEXTS.items() for field in fields}
PRICES = {"input_price", "output_price", "total_price"}


def is_taken(path: str, value: Any) -> bool:
    """Whether a field takes a value that is not of its type, because applications have it in that form."""
    if path in FILES:
        items = value if isinstance(value, list) else [value]
        return (
            all(isinstance(x, (str, dict, list, tuple)) or x is None for x in items) and "\ud800" not in items
        )
    if path in JSON_TEXTS:
        return isinstance(value, (dict, list, tuple))
    if path in PRICES:
        return type(value) in (int, float) and value >= 0
    return path in times.TIMES and value == "" and path not in ("started_at", "ended_at")


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
        "array": [*NUMBERS, *TEXTS, {}, {"a": "b"}],
        "map": [*NUMBERS, *TEXTS, [], ["a"]],
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
    return [c for c in found if c[0] not in JSON and not is_taken(c[0], c[1])]


def event_with(path: str, value: Any) -> TraceEvent:
    outer, _, inner = path.partition(".")
    base = TraceEvent(kind=KIND_OF.get(outer, Kind.TOOL), source_id="s", started_at=NOW, ended_at=NOW)
    if not inner:
        return msgspec.structs.replace(base, **{outer: value})
    t = next(f["type"] for f in EVENT["fields"] if f["name"] == outer)[1]
    body = {inner: value}
    if outer == "evaluation":  # which needs a name, a trace and a result
        base = msgspec.structs.replace(base, name="n", trace_id="T")
        body |= {} if inner in ("number", "label", "flag") else {"flag": True}
    return msgspec.structs.replace(base, **{outer: records.BY_NAME[t["name"]](**body)})


CASES = cases()
PATHS = sorted({c[0] for c in CASES})


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_value_is_refused_with_its_field_named(path: str) -> None:
    for name, value, expected in CASES:
        if name != path:
            continue
        with pytest.raises(InvalidEvent) as caught:
            codec.encode(identity.complete(event_with(path, value), NOW))
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
            codec.encode(identity.complete(event_with(field, None), NOW))
        assert caught.value.field == field


def test_an_id_that_others_are_derived_from_is_the_one_named() -> None:
    for kind, field in (
        (Kind.WORKFLOW_RUN, "workflow_run_id"),
        (Kind.MESSAGE, "message_id"),
        (Kind.SPAN, "message_id"),
    ):
        for value in (5, b"x", "\ud800", ["a"]):
            event = msgspec.structs.replace(
                TraceEvent(kind=kind, started_at=NOW, ended_at=NOW), **{field: value}
            )
            with pytest.raises(InvalidEvent) as caught:
                codec.encode(identity.complete(event, NOW))
            assert caught.value.field == field


def test_a_foreign_class_that_looks_like_a_body_is_refused() -> None:
    class Span:
        """As OpenTelemetry's: has attributes that ours has too."""

        events = ("x",)
        attributes_json = "{}"

    bodies: tuple[Any, ...] = (Span(), {"events": []})
    for body in bodies:
        with pytest.raises(InvalidEvent) as caught:
            codec.encode(identity.complete(event_with("span", body), NOW))
        assert caught.value.field == "span"


def as_written(plain: dict[str, Any]) -> dict[str, Any]:
    """An event as fastavro needs it, after what the encoder does to empty values and whole numbers."""
    found: dict[str, Any] = generated.without_empty(EVENT, plain)
    for field in EVENT["fields"]:
        kind = field["type"][1] if isinstance(field["type"], list) else field["type"]
        value = found[field["name"]]
        if kind in ("int", "long") or (isinstance(kind, dict) and kind.get("logicalType")):
            found[field["name"]] = None if value is None else int(value)
    return found


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
        done = identity.complete(event, NOW)
        body, refused = codec.encode(done)[10:], None
    except InvalidEvent as e:
        refused = e.field.split(" ")[0].rstrip("[]{}")
    if refused is None:
        plain = msgspec.to_builtins(done, builtin_types=(bytes,))
        assert generated.written(EVENT, as_written(plain)) == body
    else:
        assert refused == field["name"]


def test_only_our_events_are_events() -> None:
    things: tuple[Any, ...] = (None, {}, "event", records.Tool())
    for thing in things:
        with pytest.raises(InvalidEvent) as caught:
            identity.complete(thing, NOW)
        assert caught.value.field == "event"
