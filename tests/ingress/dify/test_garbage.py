"""Any line: a documented refusal that names a field, or an event that can be published. Nothing else."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingress.dify import DifyLines
from ingress.dify.lines import REPAIRED
from ingress.dify.task import MORE
from ingress.dify.window import Window
from tailrace import codec
from tailrace.commands.formats import Notes
from tailrace.errors import InvalidEvent
from tailrace.formats import Converted
from tailrace.identity import complete
from tests.ingress.dify import samples
from tests.ingress.dify.converting import NOW

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(
        [
            "2026-03-01T12:00:00",
            "9999-12-31T23:59:59",
            "0001-01-01",
            "-1",
            "1e999",
            "\ud800",
            "\0",
            "∞",
            " ",
            "0",
        ]
    )
    | st.sampled_from([1e300, -1e300, 1 << 70, -(1 << 70), 253402300799, 10**400])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
LINES = [
    *samples.CLASSES.values(),
    *samples.iteration(),
    *samples.nested(),
    samples.feedback(3),
    samples.app("app_created"),
    {**samples.feedback(3), "payload": {}, "metadata": {"payload_ref": "x"}},
]


def checked(found: list[Converted]) -> None:
    notes = Notes(True, lambda text: text.encode())
    for one in found:
        assert (one.event is None) != (one.problem is None)
        notes.take(one)
        if one.event is None:
            assert isinstance(one.problem, InvalidEvent)
            str(one.problem).encode()
            continue
        try:
            codec.encode(complete(one.event, NOW))
        except InvalidEvent as e:
            str(e).encode()
    json.dumps(notes.table())


def through(*lines: bytes) -> list[Converted]:
    adapter = DifyLines(window=Window(lines=3), clock=lambda: NOW)
    found = [one for n, line in enumerate(lines) for one in adapter.line(str(n), line)]
    return [*found, *adapter.end()]


def dumped(line: Any) -> bytes:
    return json.dumps(line).encode()


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A line with other values in some fields, without some, and with new ones."""
    line = copy.deepcopy(draw(st.sampled_from(LINES)))
    for _ in range(draw(st.integers(1, 4))):
        place = line
        while True:
            objects = [k for k, v in place.items() if isinstance(v, dict)]
            if not objects or draw(st.booleans()):
                break
            place = place[draw(st.sampled_from(objects))]
        name = draw(st.sampled_from(sorted(place)) if place and draw(st.booleans()) else st.text())
        if draw(st.booleans()):
            place[name] = draw(anything)
        else:
            place.pop(name, None)
    return line


@given(st.lists(spoilt(), min_size=1, max_size=6))
@settings(deadline=None, max_examples=400)
def test_any_value_in_any_field(lines: list[Any]) -> None:
    found = through(*map(dumped, lines))
    checked(found)
    assert {int(one.where) for one in found} == set(range(len(lines))), "each line is an event or refused"


@given(anything)
@settings(deadline=None, max_examples=200)
def test_any_json(value: Any) -> None:
    [one] = through(dumped(value))
    checked([one])
    assert one.event is None


@given(st.binary(max_size=200))
@example(b"")
@example(b'{"trace_info_type": "MessageTraceInfo", "trace_info": ' + b"[" * 100_000)
@example(
    b'{"trace_info_type": "MessageTraceInfo", "trace_info": {"inputs": '
    + b"[" * 50_000
    + b"]" * 50_000
    + b"}}"
)
@example(b'{"trace_info_type": "MessageTraceInfo", "trace_info": {"message_id": "\\ud800"}}')
@example(b'{"trace_info_type": "\\ud800", "trace_info": {}}')
@settings(deadline=None)
def test_any_bytes(line: bytes) -> None:
    checked(through(line))


@given(st.integers(0, len(LINES) - 1), st.data())
@settings(deadline=None, max_examples=150)
def test_a_line_that_is_cut_anywhere(index: int, data: st.DataObject) -> None:
    whole = dumped(LINES[index])
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    [one] = through(cut)
    assert one.problem is not None
    assert one.problem.field == "line"


def test_every_field_with_each_odd_value() -> None:
    """Each field of each class once with each kind of value, so that none depends on luck."""
    odd: list[Any] = [
        None,
        "",
        "x",
        0,
        -1,
        1.5,
        1 << 70,
        1e300,
        True,
        [],
        {},
        ["x", 1, None, {}],
        {"a": [1]},
        "\ud800",
    ]
    for name, line in samples.CLASSES.items():
        for where in ("trace_info", "metadata"):
            holder = line["trace_info"] if where == "trace_info" else line["trace_info"]["metadata"]
            for field in holder:
                for value in odd:
                    changed = copy.deepcopy(line)
                    place = (
                        changed["trace_info"] if where == "trace_info" else changed["trace_info"]["metadata"]
                    )
                    place[field] = value
                    found = through(dumped(changed))
                    assert found, (name, field, value)
                    checked(found)
                    for one in found:
                        if one.event is not None:
                            codec.encode(complete(one.event, NOW))


def test_deep_content_is_kept_or_refused() -> None:
    deep = b"[" * 900 + b"]" * 900
    line = dumped(samples.message(3, 0, 1)).replace(b'"It ships tomorrow."', deep)
    checked(through(line))


# -- what Python writes and JSON cannot hold


@pytest.mark.parametrize(
    ("member", "kept"),
    [
        (rb'"a\ud83d"', '"a\ufffd"'),
        (b'{"score": NaN, "n": [-Infinity, 1.50]}', '{"score":null,"n":[null,1.50]}'),
        (rb'{"\ud800k": 12345678901234567890123}', '{"\ufffdk":12345678901234567890123}'),
    ],
)
def test_surrogates_and_nan_are_replaced_and_that_is_said(member: bytes, kept: str) -> None:
    """One score that is NaN does not lose the turn."""
    line = dumped(samples.message(3, 0, 1)).replace(b'"It ships tomorrow."', member)
    [one] = through(line)
    assert one.event is not None
    assert one.event.outputs == kept
    assert ("changed", "trace_info.outputs", REPAIRED) in [tuple(note) for note in one.notes]
    assert one.event.inputs == '[{"role":"user","text":"Where is my order?"}]'
    checked([one])


def test_the_comment_of_a_rating_is_repaired_too() -> None:
    [one] = through(dumped(samples.feedback(3)).replace(b'"Helpful"', rb'"Help\udc00ful"'))
    assert one.event is not None
    assert one.event.feedback is not None
    assert one.event.feedback.content == "Help\ufffdful"
    assert ("changed", "payload.content", REPAIRED) in [tuple(note) for note in one.notes]


@pytest.mark.parametrize(
    ("field", "member"),
    [
        ("trace_info.message_id", rb'"message_id": "a\ud83d"'),
        ("trace_info.start_time", b'"start_time": NaN'),
        ("trace_info_type", rb'"trace_info_type": "\ud800"'),
    ],
)
def test_in_an_id_a_type_or_a_time_they_are_refused(field: str, member: bytes) -> None:
    name = field.rpartition(".")[2].encode()
    other = member.replace(b"\\", b"\\\\")
    line = re.sub(rb'"' + name + rb'": "[^"]*"', other, dumped(samples.message(3, 0, 1)), count=1)
    [one] = through(line)
    assert one.problem is not None
    assert one.problem.field == field


@pytest.mark.parametrize(
    "line", [b'{"a": NaN', b"[NaN]", b"NaN", b'{"trace_info": NaN}', b'{"a": nan}', b"\xff"]
)
def test_what_is_no_record_even_then_is_refused(line: bytes) -> None:
    [one] = through(line)
    assert one.problem is not None
    assert one.problem.field in ("line", "trace_info_type")


def test_a_line_of_very_many_unknown_fields_has_a_bounded_number_of_notes() -> None:
    unknown: dict[str, Any] = {f"x{n}": n for n in range(5000)}
    line = samples.message(3, 0, 1, **unknown)
    [one] = through(dumped(line))
    assert one.event is not None
    assert len(one.notes) < 120
    assert ("unplaced", "trace_info", MORE) in [tuple(note) for note in one.notes]
    assert len(one.event.attributes) == 32


def test_of_a_name_that_is_there_twice_the_last_one_counts() -> None:
    line = dumped(samples.message(3, 0, 1))
    [one] = through(line.replace(b'"outputs":', b'"outputs": "first", "outputs":'))
    assert one.event is not None
    assert one.event.outputs == '"It ships tomorrow."'
