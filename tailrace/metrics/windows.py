"""Metric rows as windows of event time: what is left of the log, merged over minutes, partitions and labels.
Pure.

Minutes count from 1970 here. Values are those of the rows: microseconds where the unit is "s", 1e-12 of the
currency where it is "{currency}", else the unit itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from tailrace.records import MetricRow

MINUTE_US: Final = 60_000_000
"""What sizes and times of windows count in. How much a row covers is `row_period.ROW_PERIOD_US`."""
OTHERS: Final = "(others)"
"""Stands for the values of the groups that `top` merged."""

Labels = tuple[tuple[str, str], ...]
"""A row's labels, sorted by name."""
Identity = tuple[int, str, int, Labels]
"""What a row is the value of: partition, metric, start, labels."""
Group = tuple[str, ...]
"""Values of the labels that rows are grouped by, in their order; empty text where a row has no such label."""
Change = tuple[bytes, MetricRow | None]
"""A record of trace.metrics: its key, and its row; None: the key's row is gone."""
Windows = dict[tuple[int, Group], "Cell"]
"""What is in each window, by its first minute and group; windows without rows are left out."""


class Cell(msgspec.Struct, frozen=True):
    """Rows of one metric, merged. `Cell()` is none at all: merged with it, a cell stays as it is."""

    count: int = 0
    sum: int = 0
    minimum: int | None = None
    maximum: int | None = None
    bounds: tuple[int, ...] | None = None
    """Upper bounds of the buckets, ascending; empty for counters; None without rows."""
    buckets: tuple[int, ...] = ()
    """Observations a bucket, one bucket more than bounds; a counter's are all in one."""

    @classmethod
    def of(cls, row: MetricRow) -> Cell:
        """The cell of a row in which `problem` finds none."""
        buckets = tuple(row.buckets) if row.bounds else (row.count,)
        return cls(row.count, row.sum, row.minimum, row.maximum, tuple(row.bounds), buckets)

    def merged(self, other: Cell) -> Cell:
        """Both together; order and grouping of merges do not matter.

        Histograms with different bounds are merged onto the bounds that both have. How many observations are
        at most such a bound stays exact; what is lost is where they are between two of them, so quantiles get
        coarser, not wrong."""
        if self.bounds is None or other.bounds is None:
            return other if self.bounds is None else self
        if self.bounds == other.bounds:
            bounds, mine, theirs = self.bounds, self.buckets, other.buckets
        else:
            bounds = tuple(sorted(set(self.bounds) & set(other.bounds)))
            mine, theirs = (
                _onto(bounds, self.bounds, self.buckets),
                _onto(bounds, other.bounds, other.buckets),
            )
        return Cell(
            self.count + other.count,
            self.sum + other.sum,
            min((v for v in (self.minimum, other.minimum) if v is not None), default=None),
            max((v for v in (self.maximum, other.maximum) if v is not None), default=None),
            bounds,
            tuple(a + b for a, b in zip(mine, theirs, strict=True)),
        )

    def quantile(self, q: float) -> float | None:
        return quantile(q, self.bounds or (), self.buckets, self.minimum, self.maximum)


def _onto(common: Sequence[int], bounds: Sequence[int], buckets: Sequence[int]) -> tuple[int, ...]:
    """The buckets of fewer bounds, all of which are among `bounds`."""
    out, at = [0] * (len(common) + 1), 0
    for bound, n in zip(bounds, buckets, strict=False):
        out[at] += n
        if at < len(common) and bound == common[at]:
            at += 1
    out[at] += buckets[-1]
    return tuple(out)


def quantile(
    q: float, bounds: Sequence[int], buckets: Sequence[int], minimum: int | None, maximum: int | None
) -> float | None:
    """The value that a share `q` of the observations does not exceed; None without observations, or with
    nothing known of where they are. Raises ValueError for q outside 0..1.

    Linear inside the bucket, as Prometheus' histogram_quantile, where the first bucket begins at 0; then
    clamped to minimum and maximum. Unlike there, the last bucket ends at the maximum and a first bucket with
    negative values begins at the minimum, where they are known."""
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile is from 0 to 1, not {q}")
    rank, below, before, n = q * sum(buckets), 0, 0, -1
    for at, count in enumerate(buckets):
        if not count:
            continue
        n, before = at, below
        below += count
        if below >= rank:
            break
    if n < 0 or (not bounds and maximum is None):
        return None
    lower = bounds[n - 1] if n else (minimum if minimum is not None and (minimum < 0 or not bounds) else 0)
    upper = bounds[n] if n < len(bounds) else (lower if maximum is None else maximum)
    lower = min(lower, upper)
    found = lower + (upper - lower) * min(1.0, (rank - before) / buckets[n])
    if minimum is not None:
        found = max(found, minimum)
    return found if maximum is None else min(found, maximum)


def problem(row: MetricRow) -> str | None:
    """Why a row cannot be counted; None if it can."""
    if any(a >= b for a, b in zip(row.bounds, row.bounds[1:], strict=False)):
        return "its bounds do not ascend"
    if row.count < 0 or any(n < 0 for n in row.buckets):
        return "a count is negative"
    if row.bounds and len(row.buckets) != len(row.bounds) + 1:
        return f"{len(row.buckets)} buckets do not fit {len(row.bounds)} bounds"
    if row.bounds and sum(row.buckets) != row.count:
        return f"the buckets hold {sum(row.buckets)} observations, not {row.count}"
    return None


def minute_of(row: MetricRow) -> int:
    return row.minute // MINUTE_US


def labels_of(row: MetricRow) -> Labels:
    return tuple(sorted(row.labels.items()))


def fold(changes: Iterable[Change]) -> list[MetricRow]:
    """The rows that are left: the last one of each (partition, metric, labels, start), unless its key's last
    record took it away. The same whether the topic has been compacted or not. changes: in log order, as far
    as they have the same key."""
    rows: dict[Identity, tuple[bytes, MetricRow]] = {}
    of_key: dict[bytes, Identity] = {}
    known: dict[Labels, Labels] = {}
    for key, row in changes:
        if key in of_key:
            del rows[of_key.pop(key)]
        if row is not None:
            labels = labels_of(row)
            identity = (row.partition, row.metric, row.minute, known.setdefault(labels, labels))
            if identity in rows:  # of another key: that one holds nothing any more
                of_key.pop(rows[identity][0], None)
            of_key[key] = identity
            rows[identity] = key, row
    return [row for _, row in rows.values()]


def group_of(row: MetricRow, by: Sequence[str]) -> Group:
    return tuple(row.labels.get(name, "") for name in by)


def windows(
    rows: Iterable[MetricRow],
    size: int,
    step: int,
    by: Sequence[str] = (),
    after: float = -math.inf,
    until: float = math.inf,
) -> Windows:
    """Each group's rows in each window, merged; in order of time.

    A window is `size` minutes, its first one included; one begins every `step` minutes, counted from 1970.
    With step = size they tumble, each row is in one of them; with a smaller step they overlap. after, until:
    minutes; the windows are those that end after `after`, up to the first that ends at or after `until`, and
    each is whole."""
    pane = math.gcd(
        size, step
    )  # every window is a number of whole panes, so rows are merged into these first
    panes: Windows = {}
    for row in rows:
        minute = minute_of(row)
        if after - size <= minute < until + step:
            key = minute // pane * pane, group_of(row, by)
            panes[key] = panes.get(key, Cell()).merged(Cell.of(row))
    out: Windows = {}
    for (minute, group), cell in panes.items():
        for start in range(minute // step * step, minute - size, -step):
            if after < start + size < until + step:
                out[start, group] = out.get((start, group), Cell()).merged(cell)
    return dict(sorted(out.items()))


def top(found: Windows, n: int, kept: Collection[int] = ()) -> tuple[Windows, int]:
    """The n groups with the largest sums as they are, the others merged, and how many these are. kept: places
    in the group whose values are not merged over, e.g. that of the currency."""
    sums: dict[Group, int] = {}
    for (_, group), cell in found.items():
        sums[group] = sums.get(group, 0) + cell.sum
    if len(sums) <= n:
        return found, 0
    first = sorted(sums, key=lambda g: (-sums[g], g))[:n]
    names: Mapping[Group, Group] = {
        g: g if g in first else tuple(v if i in kept else OTHERS for i, v in enumerate(g)) for g in sums
    }
    out: Windows = {}
    for (start, group), cell in found.items():
        key = start, names[group]
        out[key] = out.get(key, Cell()).merged(cell)
    return dict(sorted(out.items())), len(sums) - n
