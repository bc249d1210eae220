"""Memos keep what repeats, and never more bytes than their bound."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.memo import LONGEST, Memo, size_of

ROOT = Path(__file__).resolve().parents[2]
keys = st.recursive(
    st.text() | st.binary() | st.integers() | st.none(), lambda inner: st.tuples(inner, inner), max_leaves=4
)


@given(st.lists(keys, max_size=30), st.integers(1, 5))
def test_it_answers_as_the_function_and_stays_within_its_entries(asked: list[Any], most: int) -> None:
    memo: Memo[Any, Any] = Memo(lambda key: ("made", key), most)
    for key in asked:
        assert memo[key] == ("made", key)
        assert len(memo) <= most


@pytest.mark.parametrize(
    "key", ["x" * LONGEST * 2, b"x" * (LONGEST + 1), ("a", ("x" * LONGEST, None)), ("x" * 300, b"x" * 300)]
)
def test_a_long_key_is_answered_and_not_kept(key: Any) -> None:
    numbers = itertools.count(1)
    memo: Memo[Any, int] = Memo(lambda _: next(numbers), 100)
    assert (memo[key], memo[key]) == (1, 2)
    assert not memo


def test_what_repeats_is_computed_once() -> None:
    numbers = itertools.count(1)
    memo: Memo[str, int] = Memo(lambda _: next(numbers), 2)
    assert [memo[k] for k in ("a", "b", "a", "b")] == [1, 2, 1, 2]
    assert memo["c"] == 3
    assert dict(memo) == {"c": 3}


ALLOWED = {
    "connectors/otlp/memo.py:Varints": "numbers",
    "connectors/otlp/memo.py:Prefixes": "numbers",
    "connectors/otlp/memo.py:Keys": "keeps no name over LONGEST",
    "connectors/preview/unplaced.py:_defaults": "classes of records",
    "connectors/sdk/redact.py:escaped": "secrets of the settings",
    "connectors/sdk/redact.py:forms": "secrets of the settings",
    "connectors/sinks/langfuse/mapping.py:_class": "types and levels, of which there are few",
    "streams/processing/header.py:_reader_of": "frames, of 5 or 10 bytes",
    "streams/processing/links.py:zigzag": "numbers",
    "streams/processing/metrics/series.py:_text": "label values, which are cut",
    "streams/processing/metrics/series.py:longs": "bounds of histograms",
    "tailrace/content_store/claims.py:_wide": "limits of the settings",
    "tailrace/conversion/declared.py:by_fields": "classes of the application, few of which are alive",
    "tailrace/memo.py:Memo": "this",
}
"""Other caches, and why their keys are short. Those of the codec have names and frames of schemas as keys."""


def caches(path: Path) -> Iterator[str]:
    """Functions with a cache of functools, and subclasses of dict that compute missing values."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            if any("cache" in ast.unparse(d) for d in node.decorator_list):
                yield node.name
        elif isinstance(node, ast.ClassDef):
            if any(isinstance(x, ast.FunctionDef) and x.name == "__missing__" for x in node.body):
                yield node.name
        elif isinstance(node, ast.Call) and re.match(r"functools\.(lru_)?cache", call(node)):
            yield from (ast.unparse(arg) for arg in node.args if isinstance(arg, ast.Name))


def call(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_other_caches_have_short_keys() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{name}"
        for package in ("tailrace", "streams", "connectors", "ingress")
        for path in (ROOT / package).rglob("*.py")
        for name in caches(path)
        if not path.is_relative_to(ROOT / "connectors" / "testing")
    }
    assert {name for name in found if not name.startswith("tailrace/codec/")} == ALLOWED.keys()


def test_sizes_are_those_of_the_texts() -> None:
    assert size_of(("ab", b"cde", ("f",), None)) >= 6
    assert size_of("é" * 10) == 10
