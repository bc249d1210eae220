"""Merges metric rows into windows of event time, over minutes, partitions and labels. Pure.

Minutes count from 1970. Values are those of the rows: microseconds if the unit is "s", 1e-12 of the
currency if it is "{currency}", else the unit itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from tailrace.records import MetricRow

MINUTE_US: Final = 60_000_000
"""What sizes and times of windows count in. How much a row covers is `row_period.ROW_PERIOD_US`."""
OTHERS: Final = "(others)"
"""Stands for the label values of the groups that `top` merged."""

Labels = tuple[tuple[str, str], ...]
"""A row's labels, sorted by name."""
Identity = tuple[int, str, int, Labels]
"""What identifies a row: partition, metric, start, labels."""
Group = tuple[str, ...]
"""Values of the labels that rows are grouped by, in that order; empty if a row lacks the label."""
Change = tuple[bytes, MetricRow | None]
"""A record of trace.metrics: its key and its row. None: the key's row is deleted."""
Windows = dict[tuple[int, Group], "Cell"]
"""(first minute, group) -> what is in that window. Windows without rows are left out."""


class Cell(msgspec.Struct, frozen=True):
    """Merged rows of one metric. `Cell()` is empty: merging it changes nothing."""

    count: int = 0
    sum: int = 0
    minimum: int | None = None
    maximum: int | None = None
    bounds: tuple[int, ...] | None = None
    """Upper bounds of the buckets, ascending; empty for counters; None without rows."""
    buckets: tuple[int, ...] = ()
    """Observations per bucket, one more than there are bounds. A counter has a single bucket."""

    @classmethod
    def of(cls, row: MetricRow) -> Cell:
        """The cell of a row for which `problem` is None."""
        buckets = tuple(row.buckets) if row.bounds else (row.count,)
        return cls(row.count, row.sum, row.minimum, row.maximum, tuple(row.bounds), buckets)

    def merged(self, other: Cell) -> Cell:
        """Both cells together. Merging is commutative and associative.

        Histograms with different bounds are merged onto the bounds they share. The counts up to a
        shared bound stay exact. Between two of them the distribution is lost, so quantiles become
        coarser, not wrong.
        """
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
    """The buckets for fewer bounds, all of which are among `bounds`."""
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
    """The value that a share `q` of the observations does not exceed.

    None if there are no observations, or if nothing is known about where they are. Interpolates
    linearly inside the bucket, like Prometheus' histogram_quantile, where the first bucket begins at 0;
    the result is clamped to minimum and maximum. Unlike there, the last bucket ends at the maximum, and
    a first bucket with negative values begins at the minimum, if these are known.

    Raises:
        ValueError: `q` is not within 0..1.
    """
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
        return "its bounds are not ascending"
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
    """The live rows: the last one of each (partition, metric, labels, start).

    A row is dropped if the last record of its key deleted it. The result does not depend on whether the
    topic has been compacted.

    Args:
        changes: in log order, at least for records of the same key.
    """
    rows: dict[Identity, tuple[bytes, MetricRow]] = {}
    of_key: dict[bytes, Identity] = {}
    known: dict[Labels, Labels] = {}
    for key, row in changes:
        if key in of_key:
            del rows[of_key.pop(key)]
        if row is not None:
            labels = labels_of(row)
            identity = (row.partition, row.metric, row.minute, known.setdefault(labels, labels))
            if identity in rows:  # from another key, which now holds no row
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
    """The rows of each group in each window, merged; in order of time.

    A window has `size` minutes, including its first. One begins every `step` minutes, counted from
    1970. With step = size they tumble: each row is in one window. With a smaller step they overlap.

    Args:
        rows: the rows of one metric.
        size: minutes.
        step: minutes.
        by: labels to group by.
        after: minutes; only windows that end after it.
        until: minutes; up to the first window that ends at or after it. Every window is complete.
    """
    pane = math.gcd(size, step)  # windows consist of whole panes, so rows are merged into panes first
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
    """The `n` groups with the largest sums, the others merged into one; and how many were merged.

    Args:
        found: the windows.
        n: groups to keep.
        kept: indices of labels whose values are not merged, e.g. that of the currency.
    """
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
