"""Text, JSON and lists are cut to a number of bytes, and stay what they are."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailrace.cutting import MARK, SHORT, cut_json, cut_map, cut_text, cut_texts, level, written

strings = st.builds(lambda a, n: a * n, st.text(max_size=4), st.integers(0, 200))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | strings,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(strings, inner, max_size=6),
    max_leaves=30,
)


def texts(value: Any, ascii_only: bool, indent: int | None) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent)


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(0, 5000))
def test_only_the_largest_are_cut_to_one_level(sizes: list[int], excess: int) -> None:
    cut = level(sizes, excess)
    saved = sum(max(0, s - cut) for s in sizes)
    assert saved >= excess or cut == 0
    if 0 < excess <= sum(sizes):
        assert sum(max(0, s - cut - 1) for s in sizes) < excess  # one more byte each would not do


@given(values, st.booleans(), st.sampled_from([None, 2]), st.integers(0, 3000))
@example([None, "\x1f" * 12, [], [None] * 3], False, 2, 113)
@settings(max_examples=400, deadline=None)
def test_json_stays_json(value: Any, ascii_only: bool, indent: int | None, room: int) -> None:
    text = texts(value, ascii_only, indent)
    cut = cut_json(text, room)
    if len(text.encode()) <= room:
        assert cut == text
    elif cut is not None:
        assert len(cut.encode()) <= room
        msgspec.json.decode(cut.encode())  # also refuses lone surrogates
        assert type(json.loads(cut)) is type(value)
    else:
        assert room < SHORT + 8 or isinstance(value, int)


@given(values, st.sampled_from([None, 2]), st.integers(0, 3000), st.integers(0, 3000))
@settings(max_examples=300, deadline=None)
def test_the_start_of_json_text_becomes_json_or_nothing(
    value: Any, indent: int | None, length: int, room: int
) -> None:
    start = texts(value, True, indent)[:length]
    cut = cut_json(start, min(room, len(start) - 1))
    if cut is not None:
        assert len(cut) <= room
        json.loads(cut)


@pytest.mark.parametrize("depth", [1, 5, 40])
def test_space_before_a_closing_bracket_counts(depth: int) -> None:
    value: Any = list(range(20))
    for _ in range(depth):
        value = [value]
    text = texts(value, True, 4)
    for room in range(2 * depth + 3, len(text)):
        cut = cut_json(text, room)
        assert cut is not None
        assert len(cut) <= room
        json.loads(cut)


def test_the_longest_strings_are_cut_first_and_the_rest_of_a_document_stays() -> None:
    value = {
        "messages": [{"role": "user", "content": "é" * 50_000}, {"content": "short"}],
        "usage": {"in": 5},
    }
    text = texts(value, False, None)
    cut = json.loads(str(cut_json(text, 20_000)))
    content = cut["messages"][0].pop("content")
    assert content.endswith("é… [cut]")
    assert 19_800 < len(json.dumps(cut)) + len(content.encode()) <= 20_000
    assert cut == {"messages": [{"role": "user"}, {"content": "short"}], "usage": {"in": 5}}


def test_items_are_left_out_at_the_end_where_there_is_no_long_string() -> None:
    text = json.dumps({"before": True, "numbers": [*range(10_000)], "after": 1})
    cut = json.loads(str(cut_json(text, 1_000)))
    kept = cut["numbers"]
    assert cut == {"before": True, "numbers": [*range(len(kept))]}
    assert 180 < len(kept) < 250


@pytest.mark.parametrize("text", ["é", "😀", "a", "\n", '"', "\\", "\x00", "\\u", "\\\\u12"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_no_character_and_no_escape_is_cut(text: str, ascii_only: bool) -> None:
    whole = text * 200
    for room in range(60, 160):
        cut = cut_json(json.dumps(whole, ensure_ascii=ascii_only), room)
        assert cut is not None
        msgspec.json.decode(cut.encode())
        kept = json.loads(cut).removesuffix(MARK.decode())
        assert whole.startswith(kept)
        assert len(cut.encode()) <= room


@given(st.text(), st.integers(0, 300))
def test_text_keeps_its_start(text: str, room: int) -> None:
    raw = text.encode("utf-8", "replace").decode()
    cut = cut_text(raw, room)
    assert len(cut.encode()) <= room
    assert raw.startswith(cut.removesuffix(MARK.decode()))


@given(st.lists(strings, max_size=8), st.integers(0, 2000))
def test_lists_and_maps_of_text_fit_afterwards(items: list[str], room: int) -> None:
    cut = cut_texts(items, room)
    assert sum(written(len(x.encode())) for x in cut) <= room
    if sum(written(len(x.encode())) for x in items) <= room:
        assert cut == items
    named = {f"{i}": x for i, x in enumerate(items)}
    shorter = cut_map(named, room)
    assert sum(written(len(k)) + written(len(x.encode())) for k, x in shorter.items()) <= room
    if sum(written(len(k)) + written(len(x.encode())) for k, x in named.items()) <= room:
        assert shorter == named


def test_a_long_text_in_a_list_is_cut_before_short_ones() -> None:
    assert cut_texts(["a" * 500, "b" * 50, "c"], 200) == ["a" * 136 + MARK.decode(), "b" * 50, "c"]
    assert cut_map({"a": "a" * 500, "b": "b"}, 100) == {"a": "a" * 83 + MARK.decode(), "b": "b"}


@pytest.mark.parametrize("escape", ["\\ud83d", "\\uD800", "\\ud8", "\\", "\\\\", "\\ud83d\\ude00"])
def test_a_long_run_of_escapes_that_are_no_characters_is_cut(escape: str) -> None:
    """Invalid pairs, one after the other: the whole run of them may have to go."""
    text = '"' + escape * 200_000 + '"'
    for room in (100_000, 100_001, 100_005):
        cut = cut_json(text, room)
        assert cut is not None
        assert cut.startswith('"')
        assert cut.endswith('"')
        assert len(cut) <= room
        kept = cut[1:-1].removesuffix(MARK.decode())
        assert text[1:].startswith(kept)


def test_many_short_strings_take_no_more_memory_than_a_few_copies_of_the_text() -> None:
    """Content from a store may have a hundred megabytes of them."""
    text = "[" + '"",' * 100_000 + '""]'
    tracemalloc.start()
    try:
        cut = cut_json(text, 100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cut is not None
    assert 99_990 < len(cut) <= 100_000
    assert peak < 8 * len(text)
