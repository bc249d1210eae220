"""What becomes of values that are not JSON: nothing of them is called, consumed or leaked."""

from __future__ import annotations

import array
import asyncio
import collections
import datetime
import decimal
import fractions
import io
import ipaddress
import json
import pathlib
import re
import sys
import threading
import tracemalloc
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import JsonText, codec, identity
from tailrace.content import Limits, json_text
from tailrace.conversion import CIRCLE, DEEP, NODES
from tailrace.cutting import DEPTH
from tailrace.errors import EventTooLarge
from tailrace.records import ChangeKind, ContentChange, Kind, TraceEvent
from tests.tailrace import odd_values as odd

NOW = 1_764_000_000_000_000
CUT = Limits(100_000, True)


def generator() -> Any:
    yield odd.SECRET


async def coroutine() -> str:
    return odd.SECRET


async def async_generator() -> Any:
    yield odd.SECRET


HERE = "tests.tailrace.odd_values"
KINDS: dict[str, tuple[Any, Any, int]] = {
    # -- JSON's own
    "dict": ({"a": [1, 2.5, None, True]}, {"a": [1, 2.5, None, True]}, 0),
    "string": ("text", "text", 0),
    "JSON text inside": ({"a": JsonText("[1, 2]")}, {"a": [1, 2]}, 0),
    "NaN and infinity": ([float("nan"), float("inf")], [None, None], 0),
    # -- with a form of their own
    "tuple": ((1, 2), [1, 2], 0),
    "integer keys": ({1: 2}, {"1": 2}, 0),
    "bytes": (b"\x00\xff", "AP8=", 0),
    "bytearray": (bytearray(b"\x00\xff"), "AP8=", 0),
    "memoryview": (memoryview(b"\x00\xff"), "AP8=", 0),
    "datetime": (datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC), "2026-11-01T00:00:00Z", 0),
    "date": (datetime.date(2026, 11, 1), "2026-11-01", 0),
    "timedelta": (datetime.timedelta(days=1), "P1D", 0),
    "UUID": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001", 0),
    "Decimal": (decimal.Decimal("1.10"), "1.10", 0),
    "other keys": (
        {b"a": 1, odd.Colour.RED: 2, uuid.UUID(int=1): 3, 1.5: 4},
        {"YQ==": 1, "red": 2, str(uuid.UUID(int=1)): 3, "1.5": 4},
        0,
    ),
    "other keys beside an object": (
        {odd.Colour.RED: object(), b"a": 1, odd.Word("w"): 1},
        {"red": "object", "YQ==": 1, "w": 1},
        1,
    ),
    "enum": ([odd.Colour.RED, odd.Level.HIGH], ["red", 3], 0),
    "subclasses of str, int and float": ([odd.Word("w"), odd.Number(3), odd.Ratio(1.5)], ["w", 3, 1.5], 0),
    "subclasses of dict and list": (
        [collections.Counter("aab"), collections.OrderedDict(a=1), collections.UserDict(a=1)],
        [{"a": 2, "b": 1}, {"a": 1}, {"a": 1}],
        0,
    ),
    # -- collections
    "set": ({1}, [1], 1),
    "frozenset": (frozenset("a"), ["a"], 1),
    "deque": (collections.deque([1, 2]), [1, 2], 1),
    "range": (range(3), [0, 1, 2], 1),
    "array": (array.array("d", [1.5]), [1.5], 1),
    "views of a dict": ([{"a": 1}.keys(), {"a": 1}.items()], [["a"], [["a", 1]]], 2),
    "mapping proxy": (types.MappingProxyType({"a": {1}}), {"a": [1]}, 1),
    "None as a key": ({None: 1}, {"null": 1}, 1),
    "tuple as a key": ({(1, 2): 3}, {"[1,2]": 3}, 1),
    "objects as keys": ({object(): 1, "object": 2}, {"object": 1, "object (2)": 2}, 2),
    # -- objects by their fields
    "pydantic model": (
        odd.Model.model_validate({"more": 2}),
        {"x": 1, "key": "pydantic.types.SecretStr", "more": 2},
        2,
    ),
    "pydantic class whose types hide their values": (
        [odd.Masking(children=[odd.Masking()]), odd.MaskingPoint()],
        [
            {"x": 1, "path": "/a", "children": [{"x": 1, "path": "/a", "children": []}]},
            {"x": 1},
        ],
        5,
    ),
    "pydantic class with a serializer of its own": (odd.Whole(), f"{HERE}.Whole", 1),
    "dataclass": ([odd.Point(1), odd.Slotted(2)], [{"x": 1}, {"x": 2}], 2),
    "attrs class": (odd.Shape(1), {"x": 1}, 1),
    "msgspec struct": (odd.Plan(1), {"x": 1}, 1),
    "named tuple": (odd.Pair(1, "a"), {"x": 1, "y": "a"}, 1),
    "namespace": (types.SimpleNamespace(a=1), {"a": 1}, 1),
    # -- as text
    "exception": (
        [ValueError("boom"), KeyError(), OSError(2, "gone", "f"), odd.Refusal(401)],
        ["ValueError: boom", "KeyError", "FileNotFoundError: [Errno 2] gone: 'f'", f"{HERE}.Refusal: 401"],
        4,
    ),
    "exception with several arguments": (
        [ValueError("a", 1), RuntimeError("retry", KeyError("k")), ValueError(*range(20))],
        [
            "ValueError: (a, 1)",
            "RuntimeError: (retry, KeyError: k)",
            f"ValueError: ({', '.join(map(str, range(20)))})",
        ],
        4,
    ),
    "path": (pathlib.PurePosixPath("/tmp/x"), "/tmp/x", 1),
    "complex": (2 + 1j, "(2+1j)", 1),
    "fraction, address, pattern": (
        [fractions.Fraction(1, 3), ipaddress.ip_address("10.0.0.1"), re.compile("a+")],
        ["1/3", "10.0.0.1", "a+"],
        3,
    ),
    "class": (odd.Client, f"{HERE}.Client", 1),
    "function": ([generator, len, odd.Client().__repr__], ["generator", "len", "Client.__repr__"], 3),
    "huge integer": ([2**64, -(10**30), 10**5000], [2**64, -(10**30), "(integer of 16610 bits)"], 1),
    "lone surrogate": (["a\ud800b", {"\udfff": 1}], ["a\ufffdb", {"\ufffd": 1}], 2),
    "circular data": (odd.circle(), {"x": 1, "self": CIRCLE, "list": [CIRCLE]}, 2),
    "text that is said to be JSON but is not": (JsonText("{'a': 1}"), "{'a': 1}", 1),
    # -- numpy and pandas
    "numpy scalars": (
        [np.float32(1.5), np.int64(3), np.bool_(True), np.str_("a"), np.longdouble(0.5), np.complex64(1j)],
        [1.5, 3, True, "a", 0.5, "1j"],
        6,
    ),
    "numpy times": (
        [np.datetime64("2026-11-01T00:00:00.5", "ns"), np.timedelta64(5, "s"), np.datetime64("NaT")],
        ["2026-11-01T00:00:00.500000", "PT5S", None],
        3,
    ),
    "numpy arrays": (
        [np.array([[1, 2], [3, 4]]), np.array([0.5]), np.array([object()]), np.zeros((2, 0))],
        [[[1, 2], [3, 4]], [0.5], ["object"], [[], []]],
        5,
    ),
    "pandas frame": (
        pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["r", "s"]),
        {"columns": ["a", "b"], "index": ["r", "s"], "data": [[1, "x"], [2, None]]},
        1,
    ),
    "pandas series and index": (
        [pd.Series([1, 2]), pd.Series([1], index=["k"]), pd.Index(["a"])],
        [[1, 2], {"index": ["k"], "data": [1]}, ["a"]],
        3,
    ),
    "pandas scalars": (
        [pd.Timestamp("2026-11-01T00:00:00Z"), pd.NaT, pd.NA, pd.Timedelta(1, "s"), pd.Period("2026-11")],
        ["2026-11-01T00:00:00Z", None, None, "PT1S", "2026-11"],
        3,
    ),
    # -- only the name of the type
    "object": (object(), "object", 1),
    "object of the application": ([odd.Client()], [f"{HERE}.Client"], 1),
    "hostile object": (
        {"a": odd.Hostile(), odd.Hostile(): 1},
        {"a": f"{HERE}.Hostile", f"{HERE}.Hostile": 1},
        2,
    ),
    "lock, module": ([threading.Lock(), sys], ["_thread.lock", "module"], 2),
}
"""Name -> value, what is written, how many values count as converted."""


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_value_is_written(name: str) -> None:
    value, expected, count = KINDS[name]
    made: list[ContentChange] = []
    text = json_text(value, "inputs", made=made)
    assert text is not None
    assert json.loads(text) == expected
    assert odd.SECRET not in text
    changes = [ContentChange(field="inputs", change=ChangeKind.CONVERTED, count=count)] if count else []
    assert made == changes


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_value_can_be_published_in_every_place(name: str) -> None:
    value, expected, count = KINDS[name]
    event = TraceEvent(
        kind=Kind.TOOL, source_id="s", started_at=NOW, ended_at=NOW, inputs=value, outputs=[{"deep": value}]
    )
    read = codec.decode(codec.encode(identity.complete(event, NOW)), TraceEvent)
    assert json.loads(read.inputs) == expected
    assert json.loads(read.outputs) == [{"deep": expected}]
    assert [c.count for c in read.content_changes] == [count] * 2 * bool(count)


def test_at_least_44_kinds_are_listed() -> None:
    assert len(KINDS) >= 44


def test_odd_subclasses_of_plain_types_are_read_without_their_methods() -> None:
    value = odd.OddDict({"k": odd.OddInt(7)})
    text = json_text([value, odd.OddList([1]), odd.OddStr("s")], "inputs")
    assert json.loads(str(text)) == [{"k": 7}, [1], "s"]


@pytest.mark.parametrize(
    "make",
    [
        odd.Stream,
        generator,
        async_generator,
        lambda: iter([1, 2]),
        lambda: map(str, [1]),
        lambda: zip([1], [2], strict=True),
        lambda: enumerate([1]),
        lambda: io.StringIO("text"),
        lambda: io.BytesIO(b"bytes"),
    ],
    ids=["stream", "generator", "async generator", "iterator", "map", "zip", "enumerate", "text", "file"],
)
def test_nothing_is_consumed(make: Callable[[], Any]) -> None:
    value, same = make(), make()
    for place in (value, [value], {"a": (value,)}, {value: 1}, {"b": {"c": [value, {1}]}}):
        assert odd.SECRET not in str(json_text(place, "inputs"))
    if isinstance(value, odd.Stream):
        assert value.taken == 0
    elif isinstance(value, types.AsyncGeneratorType):
        assert asyncio.run(anext(value)) == odd.SECRET
    elif isinstance(value, (io.StringIO, io.BytesIO)):
        assert value.read() == same.read()
    else:
        assert list(value) == list(same)


def test_a_coroutine_is_not_awaited() -> None:
    waiting = coroutine()
    assert json_text({"a": waiting}, "inputs") == '{"a":"coroutine"}'
    assert asyncio.run(waiting) == odd.SECRET


@pytest.mark.parametrize("levels", [DEPTH - 1, DEPTH, DEPTH + 1, 100_000])
def test_nesting_is_cut_off_at_a_depth(levels: int) -> None:
    made: list[ContentChange] = []
    text = str(json_text(odd.nested(levels), "inputs", made=made))
    json.loads(text)
    assert text.count("[") == min(levels + 1, DEPTH)
    assert (DEEP in text) == bool(made) == (levels >= DEPTH)


def test_exceptions_in_exceptions_do_not_grow_with_each_level() -> None:
    sizes = []
    for levels in (20, 40, 60):
        error: Exception = ValueError("x")
        for _ in range(levels):
            error = RuntimeError("retry", error)
        sizes.append(len(str(json_text(error, "inputs"))))
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]


def test_exceptions_that_double_at_each_level_are_bounded() -> None:
    error: Any = ValueError("x")
    for _ in range(60):
        error = ValueError(error, [error])
    with pytest.raises(EventTooLarge):
        json_text(error, "inputs")
    made: list[ContentChange] = []
    size = len(str(json_text(error, "inputs", CUT, made)))
    assert size < 20 * CUT.most
    assert [m.change for m in made] == [ChangeKind.CONVERTED, ChangeKind.CUT]


def test_the_text_of_a_system_error_is_cut() -> None:
    error = OSError(5, "x" * 3_000_000)
    with pytest.raises(EventTooLarge):
        json_text(error, "inputs")
    assert len(str(json_text(error, "inputs", CUT))) <= CUT.most


def test_keys_that_have_one_text_stay_apart_and_are_counted() -> None:
    made: list[ContentChange] = []
    uid = uuid.UUID(int=5)
    text = json_text({1: "a", "1": "b", uid: "c", str(uid): "d", 2: "e"}, "inputs", made=made)
    assert json.loads(str(text)) == {"1": "a", "1 (2)": "b", str(uid): "c", f"{uid} (4)": "d", "2": "e"}
    assert [m.count for m in made] == [2]


def test_the_hour_that_comes_twice_stays_the_one_it_was() -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    times = [made(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1) for made in (datetime.datetime, odd.Time)]
    assert json.loads(str(json_text(times, "inputs"))) == ["2026-10-25T02:30:00+01:00"] * 2


def test_times_that_python_cannot_hold_are_text() -> None:
    far, small = np.datetime64(10**15, "Y"), np.timedelta64(3, "ns")
    stamp = pd.Timestamp("2026-10-25 01:30:00.123456789", tz="UTC")
    values = [far, small, np.array([far]), np.array([small]), stamp, pd.Timedelta(1, "ns")]
    assert json.loads(str(json_text(values, "inputs"))) == [
        "1000000000001970",
        "3 nanoseconds",
        ["1000000000001970"],
        ["3 nanoseconds"],
        "2026-10-25T01:30:00.123456789+00:00",
        "P0DT0H0M0.000000001S",
    ]
    empty = np.array(["2026-01-01", "NaT"], dtype="M8[D]")
    assert json.loads(str(json_text(empty, "inputs"))) == ["2026-01-01T00:00:00", None]


def test_masked_cells_are_null() -> None:
    rows = np.ma.array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
    values = [rows, rows[0], np.ma.array(7, mask=True), np.ma.array([1.5])]
    assert json.loads(str(json_text(values, "inputs"))) == [[[1, None], [3, 4]], [1, None], None, [1.5]]


def test_many_small_tables_are_cut_by_the_work_they_take() -> None:
    made: list[ContentChange] = []
    table = pd.DataFrame({"a": [1]})
    text = str(json_text([table] * 20_000, "inputs", Limits(1_000_000, True), made))
    assert 1_000 < len(json.loads(text)) < 2_000
    assert made[-1].change == ChangeKind.CUT


def test_the_same_value_twice_is_not_a_circle() -> None:
    shared = {"a": object()}
    assert json_text([shared, shared], "inputs") == '[{"a":"object"},{"a":"object"}]'


def test_a_value_that_contains_itself_many_times_ends() -> None:
    value: dict[str, Any] = {}
    value.update({str(i): [value] for i in range(300)})
    text = str(json_text({"a": value}, "inputs"))
    assert text.count(CIRCLE) == 300


def test_a_value_that_doubles_at_each_level_is_bounded() -> None:
    value: Any = [object()]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(EventTooLarge):
        json_text(value, "inputs")
    assert len(str(json_text(value, "inputs", CUT))) < 20 * CUT.most


class Zone(datetime.tzinfo):
    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta:
        raise RuntimeError("no")

    dst = utcoffset

    def tzname(self, when: datetime.datetime | None) -> str:
        raise RuntimeError("no")


def test_a_time_zone_that_raises_costs_only_its_own_value() -> None:
    when = datetime.datetime(2026, 11, 1, tzinfo=Zone())
    assert json_text({"a": when, "b": 1}, "inputs") == '{"a":"datetime.datetime","b":1}'


HUGE: dict[str, Callable[[], Any]] = {
    "range": lambda: range(10**30),
    "text": lambda: "x" * 10**8,
    "text inside": lambda: {"messages": [{"content": "é" * 10**7}]},
    "bytes": lambda: bytes(10**8),
    "JSON text": lambda: JsonText("[" + "1," * 10**6 + "1]"),
    "list": lambda: [0] * 10**7,
    "set": lambda: {*range(10**6)},
    "array": lambda: np.zeros(10**9, dtype=np.int8),
    "wide array": lambda: np.zeros((1, 10**8), dtype=np.float32),
    "long frame": lambda: pd.DataFrame(np.zeros((10**6, 3))),
    "wide frame": lambda: pd.DataFrame(np.zeros((3, 10**5))),
    "series": lambda: pd.Series(np.zeros(10**6)),
    "objects": lambda: [object()] * 10**6,
    "keys": lambda: {(i,): i for i in range(200_000)},
    "long keys": lambda: {f"{i}" + "k" * 10_000: i for i in range(1_000)},
    "attribute of an object": lambda: odd.Plan("x" * 10**8),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", HUGE)
def test_what_is_too_large_is_cut_before_it_is_converted(name: str) -> None:
    value = HUGE[name]()
    made: list[ContentChange] = []
    tracemalloc.start()
    text = str(json_text(value, "inputs", CUT, made))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    json.loads(text)
    assert peak < 150 * CUT.most  # bounded by the limit: the values are a hundred times as large
    assert len(text) <= 12 * CUT.most
    (cut,) = (c for c in made if c.change == ChangeKind.CUT)
    assert cut.bytes > CUT.most


@pytest.mark.parametrize("name", HUGE)
def test_what_is_too_large_is_refused_before_it_is_converted(name: str) -> None:
    value = HUGE[name]()
    tracemalloc.start()
    with pytest.raises(EventTooLarge, match=r"more than 100000 bytes.*publisher\.oversize") as caught:
        json_text(value, "tool.tool_inputs", Limits(100_000, False))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.field == "tool.tool_inputs"
    assert peak < 150 * 100_000


def test_the_number_of_values_is_bounded_too() -> None:
    text = str(json_text([object()] * (NODES + 5), "inputs", Limits(10**9, True)))
    assert text.count("object") == NODES - 1


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
STRANGE: list[Any] = [
    object(),
    odd.Hostile(),
    odd.Client(),
    odd.OddStr("s"),
    odd.OddInt(5),
    odd.OddDict({"a": 1}),
    odd.Model(),
    odd.Point(1),
    ValueError("x"),
    np.arange(3),
    pd.DataFrame({"a": [1]}),
    range(3),
    "\ud800",
    10**5000,
    float("nan"),
    odd.circle(),
    JsonText("{"),
    JsonText('"\ud800"'),
]
strange = st.integers(0, len(STRANGE) - 1).map(lambda i: STRANGE[i])  # Hypothesis must not call their repr
anything = st.recursive(
    plain | strange | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.tuples(st.integers()), inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(collections.deque)
    ),
    max_leaves=12,
)


@given(anything, st.integers(10, 2000), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_value_becomes_json_or_is_refused_for_its_size(value: Any, most: int, cut: bool) -> None:
    try:
        text = json_text(value, "inputs", Limits(most, cut))
    except EventTooLarge:
        assert not cut
        return
    if text is not None:
        json.loads(text.encode())
        assert odd.SECRET not in text
