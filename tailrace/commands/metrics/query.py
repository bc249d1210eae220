"""The answers of `tailrace metrics`: the list of metrics, or one metric in windows. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from tailrace.commands.metrics.formatting import MONEY, near
from tailrace.metrics.windows import OTHERS, Labels, Windows, labels_of, minute_of, top, windows
from tailrace.records import MetricRow

SHOWN: Final = 36
"""Windows shown if no range is given."""
QUANTILES: Final = (0.5, 0.95, 0.99)
CURRENCY: Final = "currency"


class Query(msgspec.Struct, frozen=True):
    """What the user wants to see.

    Sizes are minutes; the range is in minutes since 1970. None: as far as there are rows.
    """

    size: int = 5
    step: int = 5
    start: float | None = None
    end: float | None = None
    by: tuple[str, ...] = ()
    filters: Mapping[str, frozenset[str]] = {}
    """Label -> the values it may have."""
    quantiles: tuple[float, ...] = QUANTILES


class Answer(msgspec.Struct, frozen=True):
    """One metric in windows."""

    metric: str
    unit: str
    histogram: bool
    asked: Query
    """The query, with the range, labels and quantiles that were used."""
    found: Windows
    notes: tuple[str, ...] = ()
    """What a reader should know about these numbers, one sentence each."""


class UnknownName(ValueError):
    """A label does not exist. The message lists the labels that do."""


def select(rows: Sequence[MetricRow], asked: Query) -> list[MetricRow]:
    """The rows that pass all filters.

    Raises:
        UnknownName: no row has a label of the filters or of `by`.
    """
    names = {name for row in rows for name in row.labels}
    for name in (*asked.filters, *asked.by):
        if rows and name not in names:
            raise UnknownName(f"no row has the label {name!r}: {near(name, names)}")
    return [row for row in rows if all(row.labels.get(n) in values for n, values in asked.filters.items())]


class Listed(msgspec.Struct):
    """One metric: all its rows in the range together, money per currency."""

    metric: str
    unit: str
    currency: str | None
    first: int
    last: int
    count: int = 0
    sum: int = 0
    labels: set[str] = msgspec.field(default_factory=set)
    series: set[Labels] = msgspec.field(default_factory=set)


def listed(rows: Iterable[MetricRow], asked: Query) -> list[Listed]:
    """The metrics that have rows in the range, sorted by name."""
    found: dict[tuple[str, str, str], Listed] = {}
    for row in rows:
        minute = minute_of(row)
        if asked.start is not None and minute < math.floor(asked.start):
            continue
        if asked.end is not None and minute >= asked.end:
            continue
        currency = row.labels.get(CURRENCY, "") if row.unit == MONEY else ""
        one = found.setdefault(
            (row.metric, row.unit, currency), Listed(row.metric, row.unit, currency or None, minute, minute)
        )
        one.first, one.last = min(one.first, minute), max(one.last, minute)
        one.count, one.sum = one.count + row.count, one.sum + row.sum
        one.labels.update(row.labels)
        one.series.add(labels_of(row))
    return [found[key] for key in sorted(found)]


def answer(
    metric: str, rows: Sequence[MetricRow], selected: Sequence[MetricRow], asked: Query, now: float
) -> Answer:
    """One metric in windows.

    Without an end, the range ends at the newest row that is not later than `now`. Without a start it
    has `SHOWN` windows. Money is never added across currencies.

    Args:
        rows: all rows of the metric.
        selected: those that pass the filters.
        now: minutes since 1970.
    """
    if not rows:
        return Answer(metric, "", False, msgspec.structs.replace(asked, quantiles=()), {})
    minutes = [minute_of(row) for row in selected or rows]
    newest = max((m for m in minutes if m <= now), default=max(minutes))
    unit = max(rows, key=minute_of).unit
    mine = [row for row in selected if row.unit == unit]
    end = newest + 1 if asked.end is None else asked.end
    whole = math.ceil(end / asked.step) * asked.step
    start = whole - SHOWN * asked.step if asked.start is None else asked.start
    by = asked.by
    if unit == MONEY and CURRENCY not in by and any(CURRENCY in row.labels for row in mine):
        by = (*by, CURRENCY)
    notes = []
    if len(mine) < len(selected):
        notes.append(f"{len(selected) - len(mine)} rows in another unit than {unit} are left out")
    operations = {row.labels.get("operation_type") for row in mine}
    if metric.startswith("dify.tokens.") and "operation_type" not in by and len(operations) > 1:
        notes.append(
            "tokens of workflows include those of their nodes, so they are counted twice here; "
            "--by operation_type separates them"
        )
    histogram = any(row.bounds for row in mine)
    taken = msgspec.structs.replace(
        asked, start=start, end=end, by=by, quantiles=asked.quantiles if histogram else ()
    )
    found = windows(mine, asked.size, asked.step, by, start, end)
    return Answer(metric, unit, histogram, taken, found, tuple(notes))


def shown(one: Answer, n: int) -> Answer:
    """The answer with the `n` groups of the largest sums; the others are merged, and a note says so."""
    kept = [i for i, name in enumerate(one.asked.by) if one.unit == MONEY and name == CURRENCY]
    found, merged = top(one.found, n, kept)
    if not merged:
        return one
    note = (
        f"shown are the {n} largest groups by sum, of {n + merged}; the rest is in {OTHERS}; "
        f"--top {n + merged} shows all"
    )
    return msgspec.structs.replace(one, found=found, notes=(*one.notes, note))
