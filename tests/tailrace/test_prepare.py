"""From any event to what is produced: refused only for identity, times and fields of the header."""

from __future__ import annotations

import threading
import tracemalloc
import uuid
from decimal import Decimal
from typing import Any
from unittest.mock import MagicMock

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import codec, event_lines, identity, kinds, records
from tailrace.content import BODY_CONTENT, Limits
from tailrace.conversion import Conversion
from tailrace.errors import EventTooLarge, InvalidEvent
from tailrace.fields import FIELDS, HEADER_TEXTS
from tailrace.prepare import Prepared, prepared
from tailrace.records import ChangeKind, ContentChange, Kind, TraceEvent
from tests.tailrace import odd_values as odd

NOW = 1_764_000_000_000_000
LIMITS = Limits(200_000, True)
HEADER = sorted(path for path, field in FIELDS.items() if not field.free)
RESULT = ("evaluation.number", "evaluation.label", "evaluation.flag")
"""An evaluation without a valid result or a name is refused (tests/tailrace/test_evaluations.py)."""
FREE = sorted(path for path, field in FIELDS.items() if field.free and path not in RESULT)


def holding(path: str, value: Any) -> TraceEvent:
    outer, _, inner = path.partition(".")
    kind = next((Kind(k) for k, body in kinds.BODY.items() if body == outer), Kind.GENERATE_NAME)
    base = TraceEvent(kind=kind, source_id="s", started_at=NOW, ended_at=NOW)
    if not inner:
        return msgspec.structs.replace(base, **{path: value})
    made = {inner: value}
    if outer == "evaluation":  # which also needs a name, a trace and a result
        base = msgspec.structs.replace(base, name="n", trace_id="T")
        made |= {} if path in RESULT else {"flag": True}
    return msgspec.structs.replace(base, **{outer: BODY_CONTENT[outer][0](**made)})


def read(event: TraceEvent, path: str, limits: Limits = LIMITS) -> Any:
    """The field of the event as a reader gets it."""
    value: Any = codec.decode(prepared(event, NOW, limits).value, TraceEvent)
    for part in path.split("."):
        value = getattr(value, part)
    return value


def outcome(event: TraceEvent, limits: Limits = LIMITS) -> Prepared | InvalidEvent:
    """What is produced, or why it is refused."""
    try:
        return prepared(event, NOW, limits)
    except InvalidEvent as e:
        return e


def odd_ones() -> list[Any]:
    return [
        None,
        "",
        "text",
        "\ud800",
        "x" * 300_000,
        5,
        -1,
        2**63,
        10**5000,
        True,
        1.5,
        float("nan"),
        b"bytes",
        [],
        ["a", 1, None, "\ud800"],
        ("a",),
        {},
        {"a": 1, 5: None, "b": "\ud800"},
        {"a"},
        range(10**9),
        ValueError("x"),
        object(),
        odd.Client(),
        odd.Hostile(),
        [odd.Hostile()],
        *(x for v in odd.odd_types() for x in (v, [v], {"a": v})),
        MagicMock(),
        [MagicMock(spec=str)],
        {odd.Hostile(): odd.Hostile()},
        odd.OddStr("s"),
        [odd.OddStr("s")],
        odd.OddInt(5),
        odd.OddDict({"a": 1}),
        odd.OddList([1]),
        odd.Model(),
        odd.circle(),
        odd.nested(10_000),
        np.int64(5),
        np.arange(3),
        records.Tool(),
        Kind.TOOL,
    ]


ODD = odd_ones()


@pytest.mark.parametrize("path", FREE)
def test_any_value_is_taken_where_it_is_not_identity_time_or_header(path: str) -> None:
    for value in ODD:
        found = outcome(holding(path, value))
        if isinstance(found, EventTooLarge):  # ids are not cut
            assert path.endswith("_id")
            assert found.field == path
            assert type(value) in (str, range)
            continue
        assert isinstance(found, Prepared)
        event = codec.decode(found.value, TraceEvent)
        assert len(found.value) + len(found.key or b"") <= LIMITS.most
        assert all(c.field == path for c in event.content_changes)
        assert odd.SECRET.encode() not in found.value


@pytest.mark.parametrize("path", HEADER)
def test_a_wrong_value_of_the_header_is_refused_with_its_field_named(path: str) -> None:
    for value in ODD:
        found = outcome(holding(path, value))
        if isinstance(found, Prepared):
            codec.decode(found.value, TraceEvent)
            continue
        assert found.field.removesuffix("[]") in (path, "trace_id")
        assert odd.SECRET not in str(found)
        assert len(str(found)) < 600


def test_the_fields_that_are_refused_are_those_of_the_header() -> None:
    schema = codec.schemas.current("TraceEvent")
    names = [f["name"] for f in schema["fields"]]
    header = set(names[: names.index(schema["header_last"]) + 1])
    refused = {path.partition(".")[0] for path in HEADER}
    assert refused == header - HEADER_TEXTS | {"content_changes", "content_refs"}


COUNTS = [
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "revision",
    "started_at",
    "ended_at",
    "root_started_at",
]


@pytest.mark.parametrize("path", [*COUNTS, "input_price", "total_price", "token_classes.cache_read"])
def test_what_only_behaves_like_a_number_is_refused(path: str) -> None:
    """A mock has `__index__`, `__float__` and `strip`: it would be one token, or a price of 1."""
    values: list[Any] = [MagicMock(), MagicMock(spec=int), MagicMock(spec=str), odd.Indexed()]
    for value in values:
        found = outcome(holding(path, value))
        assert isinstance(found, InvalidEvent)
        assert found.field == path


def test_whole_numbers_of_known_types_are_numbers() -> None:
    values: list[Any] = [30, 30.0, np.int64(30), np.uint8(30), np.float64(30), Decimal(30), odd.OddInt(30)]
    for value in values:
        event = msgspec.structs.replace(holding("input_tokens", value), total_price=value)
        assert read(event, "input_tokens") == 30
        assert Decimal(read(event, "total_price")) == 30


def test_what_is_wrong_inside_a_list_is_refused_with_its_field_named() -> None:
    def change(**values: Any) -> ContentChange:
        return ContentChange(**{"field": "f", "change": ChangeKind.CUT, **values})

    wrong = [
        ("dataset_ids", [object()]),
        ("dataset_ids", [odd.Hostile()]),
        ("dataset_ids", odd.odd_types()),
        ("content_changes", [change(count="x")]),
        ("content_changes", [change(field=[])]),
        ("content_changes", [change(change={})]),
        ("content_changes", [change(bytes=odd.Hostile())]),
    ]
    for path, value in wrong:
        for inputs in ("text", object()):  # the latter makes a change of its own
            found = outcome(msgspec.structs.replace(holding(path, value), inputs=inputs))
            assert isinstance(found, InvalidEvent)
            assert found.field.startswith(path + "[]")


class Raising(float):
    def __float__(self) -> float:
        raise RuntimeError(odd.SECRET)

    __int__ = __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __repr__ = __float__  # type: ignore[assignment]
    __hash__ = float.__hash__


def _raising(_: object) -> Any:
    raise RuntimeError(odd.SECRET)


Classless: Any = type("Classless", (), {"__class__": property(_raising)})


def test_an_object_whose_methods_raise_is_refused_with_its_field_named() -> None:
    for path in ("started_at", "ended_at", "root_started_at", "evaluation.number"):
        found = outcome(holding(path, Raising(5)))
        assert isinstance(found, InvalidEvent)
        assert found.field == path
    for path in ("token_classes", "evaluation", "tool", "evaluation.label", "evaluation.number"):
        if "." in path:
            found = outcome(holding(path, Classless()))
        else:
            found = outcome(msgspec.structs.replace(holding("name", "n"), **{path: Classless()}))
        assert isinstance(found, InvalidEvent)
        assert found.field == path


def test_a_value_that_defeats_its_conversion_is_refused_with_its_field_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError(odd.SECRET)

    monkeypatch.setattr(Conversion, "of", broken)
    for path in ("inputs", "attributes", "tool.tool_outputs", "span.resource"):
        found = outcome(holding(path, {1: object()}))
        assert isinstance(found, InvalidEvent)
        assert found.field == path
        assert odd.SECRET not in str(found)


def test_a_kind_is_one_of_ours() -> None:
    base = holding("name", "n")
    same = msgspec.structs.replace(base, kind=odd.OddStr("tool"))
    assert codec.decode(prepared(same, NOW, LIMITS).value, TraceEvent).kind == Kind.TOOL
    wrong: tuple[Any, ...] = (odd.Hostile(), 5, None, "dream", Kind.UNKNOWN, {})
    for value in wrong:
        with pytest.raises(InvalidEvent) as caught:
            prepared(msgspec.structs.replace(base, kind=value), NOW, LIMITS)
        assert caught.value.field == "kind"


def test_only_our_events_are_events() -> None:
    wrong: tuple[Any, ...] = (odd.Hostile(), None, {}, "event", records.Tool(), TraceEvent)
    for value in wrong:
        with pytest.raises(InvalidEvent) as caught:
            prepared(value, NOW, LIMITS)
        assert caught.value.field == "event"


CONVERSIONS: list[tuple[str, Any, Any, int]] = [
    (
        "attributes",
        {"a": 1, "b": True, "c": 1.5, "d": "text"},
        {"a": "1", "b": "true", "c": "1.5", "d": "text"},
        3,
    ),
    ("attributes", {5: {"x": [1]}, "gone": None}, {"5": '{"x":[1]}'}, 1),
    ("attributes", {("a", 1): odd.Client()}, {'["a",1]': "tests.tailrace.odd_values.Client"}, 2),
    ("attributes", [1, 2], {"value": "[1,2]"}, 1),
    ("attributes", None, {}, 0),
    ("tags", {"only"}, ["only"], 1),
    ("tags", ["a", 1, None, 2.5], ["a", "1", "2.5"], 2),
    ("tags", "prod", ["prod"], 0),
    ("tags", None, [], 0),
    ("error", ValueError("boom"), "ValueError: boom", 1),
    ("error", {"code": 5}, '{"code":5}', 1),
    ("error", "a\ud800", "a\ufffd", 1),
    ("name", 5, "5", 1),
    ("app_name", odd.Colour.RED, "red", 0),
    ("tool.description", b"\x00", "AA==", 0),
    ("tool.file_urls", "https://h/f", ["https://h/f"], 0),
    ("tool.time_cost", 30.0, 30, 0),
    ("tool.time_cost", "fast", None, 1),
    ("tool.time_cost", np.int64(5), 5, 0),
    ("tool.time_cost", 2**63, None, 1),
    ("tool.call_id", 7, "7", 1),
    ("origin.agent_based", "yes", None, 1),
    ("origin.agent_based", np.bool_(True), True, 1),
    ("evaluation.number", np.float32(0.5), 0.5, 1),
    ("evaluation.source", "person", "person", 0),
    ("evaluation.source", "robot", None, 1),
    ("span.links", [{"trace": 1}], '[{"trace":1}]', 0),
]


@pytest.mark.parametrize(("path", "value", "expected", "count"), CONVERSIONS)
def test_values_are_converted_to_the_type_of_their_field(
    path: str, value: Any, expected: Any, count: int
) -> None:
    event = holding(path, value)
    assert read(event, path) == expected
    changes = [ContentChange(field=path, change=ChangeKind.CONVERTED, count=count)] if count else []
    assert read(event, "content_changes") == changes


class Fewer(list[str]):
    def __len__(self) -> int:
        return 1


class More(list[str]):
    def __iter__(self) -> Any:
        return iter(["z"] * 9)


class MorePairs(dict[str, str]):
    def __len__(self) -> int:
        return 9

    def items(self) -> Any:
        return [("z", "z")] * 5


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("dataset_ids", Fewer(["a", "b"]), ["a", "b"]),
        ("dataset_ids", More(["a", "b"]), ["a", "b"]),
        ("tags", Fewer(["a", "b"]), ["a", "b"]),
        ("tags", More(["a", "b"]), ["a", "b"]),
        ("attributes", MorePairs(a="b"), {"a": "b"}),
    ],
)
def test_a_record_is_what_its_lists_hold_whatever_their_classes_say(
    path: str, value: Any, expected: Any
) -> None:
    """Also of use where another thread changes them: what is written is counted once."""
    assert read(holding(path, value), path) == expected


def test_a_list_or_dict_that_another_thread_changes_makes_no_corrupt_record() -> None:
    tags, attributes = ["t"] * 300, {f"k{n}": "v" for n in range(300)}
    event = msgspec.structs.replace(holding("tags", tags), attributes=attributes)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            tags.append("x")
            attributes["x"] = "1"
            del tags[300:], attributes["x"]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            codec.decode(prepared(event, NOW, LIMITS).value, TraceEvent)
    finally:
        stop.set()
        thread.join()


def test_nothing_is_converted_in_an_event_that_can_be_encoded() -> None:
    event = holding("attributes", {"a": "b"})
    assert prepared(event, NOW, LIMITS).value == codec.encode(identity.complete(event, NOW))


def test_a_body_of_another_class_is_refused() -> None:
    """It is an error in the program, not in its data."""

    class Span:
        events = ("x",)

    bodies: tuple[Any, ...] = (Span(), {"events": []}, odd.Hostile(), "span")
    for body in bodies:
        with pytest.raises(InvalidEvent) as caught:
            prepared(holding("span", body), NOW, LIMITS)
        assert caught.value.field == "span"


def test_a_secret_of_a_value_is_not_in_the_error_that_refuses_it() -> None:
    for value in (odd.Client(), [odd.Client()], {"a": odd.Client()}, odd.Model(), odd.Refusal(5)):
        with pytest.raises(InvalidEvent) as caught:
            prepared(holding("status", value), NOW, LIMITS)
        assert odd.SECRET not in str(caught.value)


@pytest.mark.parametrize("path", ["error", "attributes", "tags", "tool.description", "inputs", "session_id"])
def test_text_that_is_far_too_large_is_not_encoded_first(path: str) -> None:
    large: Any = {"attributes": {"a": "x" * 10**8}, "tags": ["x" * 10**8]}.get(path, "x" * 10**8)
    for limits in (LIMITS, LIMITS._replace(cut=False)):
        peak = _peak(holding(path, large), limits)
        assert peak < 30 * LIMITS.most


def _peak(event: TraceEvent, limits: Limits) -> int:
    tracemalloc.start()
    outcome(event, limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


some = st.dictionaries(st.sampled_from(sorted(FIELDS)), st.integers(0, len(ODD) - 1), min_size=1, max_size=6)


@given(some, st.sampled_from([Kind.TOOL, Kind.SPAN, Kind.NODE_EXECUTION, Kind.EVALUATION]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_an_event_with_anything_in_any_field_is_prepared_or_refused_as_documented(
    chosen: dict[str, int], kind: Kind, cut: bool
) -> None:
    bodies: dict[str, dict[str, Any]] = {}
    for path, index in chosen.items():
        outer, _, inner = path.rpartition(".")
        if not outer or outer in (kinds.BODY.get(kind), "origin", "token_classes"):
            bodies.setdefault(outer, {})[inner] = ODD[index]
    own = bodies.pop("", {})
    event = TraceEvent(kind=kind, source_id="s", started_at=NOW, ended_at=NOW)
    made = {name: records.BY_NAME[_class(name)](**values) for name, values in bodies.items()}
    event = msgspec.structs.replace(event, **made, **own)
    found = outcome(event, Limits(100_000, cut))
    if isinstance(found, EventTooLarge):
        assert not cut or not FIELDS[found.field].cut
        return
    if isinstance(found, InvalidEvent):
        of_evaluation = kind == Kind.EVALUATION and found.field in ("evaluation", "name", *RESULT)
        assert of_evaluation or not FIELDS[found.field.split(" ")[0].rstrip("[]{}")].free
        return
    done = codec.decode(found.value, TraceEvent)
    assert len(found.value) + len(found.key or b"") <= 100_000
    for path, field in FIELDS.items():
        if field.text == "json" and "." not in path and (text := getattr(done, path)) is not None:
            msgspec.json.decode(text.encode())


def _class(body: str) -> str:
    return "".join(word.title() for word in body.split("_"))


def test_a_json_line_is_converted_like_an_event() -> None:
    line = {
        "kind": "tool",
        "source_id": "s",
        "started_at": NOW,
        "ended_at": NOW,
        "attributes": {"a": 1, "b": {"c": True}, "d": None},
        "tags": ["x", 5],
        "error": {"code": 7},
        "inputs": {"q": 1},
        "tool": {"description": 5, "time_cost": "fast", "tool_inputs": [1]},
    }
    event = event_lines.parse(msgspec.json.encode(line))
    found = codec.decode(prepared(event, NOW, LIMITS).value, TraceEvent)
    assert found.attributes == {"a": "1", "b": '{"c":true}'}
    assert (found.tags, found.error, found.inputs) == (["x", "5"], '{"code":7}', '{"q":1}')
    assert found.tool == records.Tool(description="5", tool_inputs="[1]", file_urls=[])
    assert {c.field: c.count for c in found.content_changes} == {
        "attributes": 2,
        "tags": 1,
        "error": 1,
        "tool.description": 1,
        "tool.time_cost": 1,
    }
    for name, value in (("status", 5), ("input_tokens", "5"), ("nothing", 1), ("source_id", 5)):
        with pytest.raises(InvalidEvent) as caught:
            event_lines.parse(msgspec.json.encode(line | {name: value}))
        assert caught.value.field == name


UUIDS = sorted(p for p in HEADER if FIELDS[p].type == "string" and not p.endswith(("price", "currency")))


@pytest.mark.parametrize("path", UUIDS)
def test_a_uuid_object_is_its_text_in_every_id(path: str) -> None:
    class Own(uuid.UUID):
        def __str__(self) -> str:
            raise AssertionError("called")

    text = "00000000-0000-0000-0000-00000000002a"
    want = prepared(holding(path, text), NOW, LIMITS)
    for value in (uuid.UUID(text), Own(text)):
        found = prepared(holding(path, value), NOW, LIMITS)
        assert found.key == want.key
        assert codec.decode(found.value, TraceEvent) == codec.decode(want.value, TraceEvent)


@pytest.mark.parametrize("value", [7, "30", b"7"])
@pytest.mark.parametrize("path", ["trace_id", "parent_id", "input_tokens"])
def test_other_types_of_ids_and_of_numbers_are_refused(path: str, value: Any) -> None:
    if (path, value) == ("input_tokens", 7) or (path != "input_tokens" and type(value) is str):
        assert prepared(holding(path, value), NOW, LIMITS)
        return
    with pytest.raises(InvalidEvent, match=path):
        prepared(holding(path, value), NOW, LIMITS)
