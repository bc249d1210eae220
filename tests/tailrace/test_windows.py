"""Windows over metric rows: merged in any order, each row counted once, as brute force counts them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.metrics.windows import (
    MINUTE_US,
    OTHERS,
    Cell,
    Change,
    fold,
    group_of,
    minute_of,
    problem,
    quantile,
    top,
    windows,
)
from tailrace.records import MetricRow

BOUNDS = (5, 10, 25, 50, 100, 250)


def row(minute: int = 0, labels: dict[str, str] | None = None, **fields: Any) -> MetricRow:
    given: dict[str, Any] = {
        "partition": 0,
        "metric": "m",
        "unit": "{token}",
        "count": 1,
        "sum": 1,
        "source_offset": 0,
    }
    return MetricRow(minute=minute * MINUTE_US, labels=labels or {}, **{**given, **fields})


def of(observations: list[int], bounds: tuple[int, ...], minute: int = 0, **fields: Any) -> MetricRow:
    """The row of a histogram with these observations."""
    held = Counter(
        next((n for n, bound in enumerate(bounds) if v <= bound), len(bounds)) for v in observations
    )
    return row(
        minute,
        count=len(observations),
        sum=sum(observations),
        bounds=bounds,
        buckets=[held[n] for n in range(len(bounds) + 1)] if bounds else [],
        minimum=min(observations, default=None),
        maximum=max(observations, default=None),
        **fields,
    )


some_bounds = st.sets(st.sampled_from(BOUNDS), max_size=6).map(lambda s: tuple(sorted(s)))
some_values = st.lists(st.integers(-10, 400), max_size=12)
some_rows = st.builds(
    lambda values, bounds, minute, a, b, partition: of(
        values, bounds, minute, labels={"a": a, **({"b": b} if b else {})}, partition=partition
    ),
    some_values,
    some_bounds,
    st.integers(-200, 200),
    st.sampled_from("xy"),
    st.sampled_from(["", "p", "q"]),
    st.integers(0, 2),
)
cells = some_rows.map(Cell.of) | st.just(Cell())


def merged(found: list[Cell]) -> Cell:
    out = Cell()
    for cell in found:
        out = out.merged(cell)
    return out


# -- merging


@given(cells, cells, cells)
def test_merging_is_commutative_and_associative(a: Cell, b: Cell, c: Cell) -> None:
    assert a.merged(b) == b.merged(a)
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(Cell()) == a


@given(some_values, some_bounds, some_values, some_bounds)
def test_merged_counts_are_exact_at_the_common_bounds(
    mine: list[int], my_bounds: tuple[int, ...], theirs: list[int], their_bounds: tuple[int, ...]
) -> None:
    cell = Cell.of(of(mine, my_bounds)).merged(Cell.of(of(theirs, their_bounds)))
    assert cell.bounds == tuple(sorted(set(my_bounds) & set(their_bounds)))
    assert sum(cell.buckets) == cell.count == len(mine) + len(theirs)
    assert cell.sum == sum(mine) + sum(theirs)
    assert (cell.minimum, cell.maximum) == (
        min(mine + theirs, default=None),
        max(mine + theirs, default=None),
    )
    for n, bound in enumerate(cell.bounds):
        assert sum(cell.buckets[: n + 1]) == sum(v <= bound for v in mine + theirs)


# -- quantiles


@given(some_values, some_bounds, st.floats(0, 1))
def test_a_quantile_is_within_its_buckets_edges_and_the_extremes(
    values: list[int], bounds: tuple[int, ...], q: float
) -> None:
    cell = Cell.of(of(values, bounds))
    found = cell.quantile(q)
    if not values:
        assert found is None
        return
    assert found is not None
    assert min(values) <= found <= max(values)
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]  # the observation that has the rank
    n = next((i for i, bound in enumerate(bounds) if exact <= bound), len(bounds))
    assert found <= (bounds[n] if n < len(bounds) else max(values))
    assert found >= (bounds[n - 1] if n else min(values))


@given(some_values.filter(bool), some_bounds, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_ascend(values: list[int], bounds: tuple[int, ...], p: float, q: float) -> None:
    cell = Cell.of(of(values, bounds))
    low, high = cell.quantile(min(p, q)), cell.quantile(max(p, q))
    assert low is not None
    assert high is not None
    assert low <= high + 1e-9


@pytest.mark.parametrize(
    ("q", "bounds", "buckets", "extremes", "found"),
    [
        (0.5, (10, 20), (0, 10, 0), (None, None), 15.0),  # as histogram_quantile
        (0.25, (10, 20), (4, 4, 0), (None, None), 5.0),
        (0.99, (10, 20), (0, 0, 5), (None, None), 20.0),  # as there: the last bound, without a maximum
        (0.5, (10, 20), (0, 0, 4), (20, 60), 40.0),
        (0.5, (-5, 20), (4, 0, 0), (None, None), -5.0),
        (0.5, (10, 20), (4, 0, 0), (4, 8), 5.0),
        (0.0, (10, 20), (4, 0, 0), (4, 8), 4.0),
        (1.0, (10, 20), (4, 0, 0), (4, 8), 8.0),
        (0.5, (10, 20), (4, 0, 0), (-10, 8), 0.0),
        (0.5, (), (4,), (10, 20), 15.0),  # no bounds in common
        (0.5, (), (4,), (None, None), None),
        (0.5, (10,), (0, 0), (None, None), None),
        (0.5, (), (), (None, None), None),
    ],
)
def test_quantiles_are_linear_inside_the_bucket(
    q: float,
    bounds: tuple[int, ...],
    buckets: tuple[int, ...],
    extremes: tuple[int | None, int | None],
    found: float | None,
) -> None:
    assert quantile(q, bounds, buckets, *extremes) == found


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        quantile(q, (1,), (1, 1), None, None)


# -- windows


@given(st.lists(some_rows, max_size=25), st.integers(1, 90), st.sampled_from([(), ("a",), ("b", "a")]))
def test_tumbling_windows_add_up_to_the_total(rows: list[MetricRow], size: int, by: tuple[str, ...]) -> None:
    found = windows(rows, size, size, by)
    assert merged(list(found.values())) == merged([Cell.of(r) for r in rows])
    assert all(start % size == 0 for start, _ in found)


@given(
    st.lists(some_rows, max_size=15),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([(), ("a",), ("b", "a")]),
    st.none() | st.tuples(st.integers(-150, 150), st.integers(0, 100), st.sampled_from([0.0, 0.25])),
)
def test_windows_equal_brute_force(
    rows: list[MetricRow], size: int, step: int, by: tuple[str, ...], span: tuple[int, int, float] | None
) -> None:
    after, until = (-math.inf, math.inf) if span is None else (span[0] + span[2], span[0] + span[1] + span[2])
    want = {}
    for start in range(-300, 300):
        if start % step or not after < start + size < until + step:
            continue
        for group in {group_of(r, by) for r in rows}:
            mine = [
                Cell.of(r) for r in rows if start <= minute_of(r) < start + size and group_of(r, by) == group
            ]
            if mine:
                want[start, group] = merged(mine)
    found = windows(rows, size, step, by, after, until)
    assert found == want
    assert list(found) == sorted(found)


def test_a_range_has_whole_windows_on_both_sides() -> None:
    rows = [row(minute) for minute in range(100)]
    assert {start: cell.count for (start, _), cell in windows(rows, 5, 5, (), 12, 22).items()} == {
        10: 5,
        15: 5,
        20: 5,
    }
    assert [start for start, _ in windows(rows, 10, 5, (), 20, 30)] == [15, 20]  # ending at 25 and 30
    assert [start for start, _ in windows(rows, 5, 5, (), 10, 20)] == [10, 15]


@given(st.lists(some_rows, max_size=25), st.integers(1, 4))
def test_groups_beyond_the_top_are_merged_and_not_lost(rows: list[MetricRow], n: int) -> None:
    found = windows(rows, 10, 10, ("a", "b"))
    groups = {group for _, group in found}
    few, left = top(found, n, kept=(0,))
    assert left == max(0, len(groups) - n)
    assert merged(list(few.values())) == merged(list(found.values()))
    mixed = {group for _, group in few} - groups
    assert all(group[1] == OTHERS and group[0] in "xy" for group in mixed)
    assert len({group for _, group in few} & groups) == min(n, len(groups))


# -- what is left of the log


@given(
    st.lists(
        st.tuples(
            st.sampled_from("kl"), st.integers(0, 1), st.sampled_from("xy"), st.integers(0, 9) | st.none()
        )
    )
)
def test_the_last_record_of_a_key_is_kept_and_compaction_changes_nothing(
    log: list[tuple[str, int, str, int | None]],
) -> None:
    changes: list[Change] = [
        (
            f"{key}{minute}{a}".encode(),
            None if value is None else row(minute, {"k": key, "a": a}, count=value),
        )
        for key, minute, a, value in log
    ]
    last = dict(changes)
    want = sorted((key, r.count) for key, r in last.items() if r is not None)
    found = fold(changes)
    assert sorted((f"{r.labels['k']}{minute_of(r)}{r.labels['a']}".encode(), r.count) for r in found) == want
    assert sorted(
        map(str, fold([c for n, c in enumerate(changes) if c[0] not in dict(changes[n + 1 :])]))
    ) == sorted(map(str, found))


def test_identity_is_in_the_value_whatever_the_key() -> None:
    first, second = row(count=1), row(count=2)
    assert fold([(b"a", first), (b"b", second)]) == [second]
    assert fold([(b"a", first), (b"b", second), (b"a", None)]) == [second]
    assert fold([(b"a", first), (b"a", row(1))]) == [row(1)]
    assert len(fold([(b"a", row(partition=0)), (b"b", row(partition=1)), (b"c", row(metric="n"))])) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"bounds": [2, 1], "buckets": [0, 1, 0]}, "ascend"),
        ({"bounds": [1, 1], "buckets": [0, 1, 0]}, "ascend"),
        ({"count": -1}, "negative"),
        ({"bounds": [1], "buckets": [2, -1]}, "negative"),
        ({"bounds": [1], "buckets": [1]}, "do not fit"),
        ({"bounds": [1], "buckets": [1, 1]}, "2 observations, not 1"),
    ],
)
def test_a_row_that_contradicts_itself_is_not_counted(fields: dict[str, Any], said: str) -> None:
    assert said in (problem(row(**fields)) or "")


@given(some_rows)
def test_a_consistent_row_has_no_problem(one: MetricRow) -> None:
    assert problem(one) is None
