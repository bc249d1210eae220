"""What `tailrace metrics` answers: which metrics there are, and one of them in windows. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from tailrace.commands.metrics.formatting import MONEY, near
from tailrace.metrics.windows import OTHERS, Labels, Windows, labels_of, minute_of, top, windows
from tailrace.records import MetricRow

SHOWN: Final = 36
"""Windows that are shown without a range."""
QUANTILES: Final = (0.5, 0.95, 0.99)
CURRENCY: Final = "currency"


class Query(msgspec.Struct, frozen=True):
    """A question: sizes and the range in minutes, since 1970 those of the range; None: as far as there are
    rows."""

    size: int = 5
    step: int = 5
    start: float | None = None
    end: float | None = None
    by: tuple[str, ...] = ()
    filters: Mapping[str, frozenset[str]] = {}
    """Values a label may have."""
    quantiles: tuple[float, ...] = QUANTILES


class Answer(msgspec.Struct, frozen=True):
    """One metric in windows."""

    metric: str
    unit: str
    histogram: bool
    asked: Query
    """With the range, the labels and the quantiles that were taken."""
    found: Windows
    notes: tuple[str, ...] = ()
    """What a reader should know of these numbers, a sentence each."""


class UnknownName(ValueError):
    """There is no such label; the message says which there are."""


def select(rows: Sequence[MetricRow], asked: Query) -> list[MetricRow]:
    """The rows that all filters let through. Raises `UnknownName` for a label, of the filters or of `by`,
    that no row has."""
    names = {name for row in rows for name in row.labels}
    for name in (*asked.filters, *asked.by):
        if rows and name not in names:
            raise UnknownName(f"no row has the label {name!r}: {near(name, names)}")
    return [row for row in rows if all(row.labels.get(n) in values for n, values in asked.filters.items())]


class Listed(msgspec.Struct):
    """One metric, all of its rows in the range together; money a currency."""

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
    """The metrics with a row in the range, by name."""
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
    """One metric's windows. rows: all of the metric; selected: those that the filters let through.

    Without an end the range ends with the newest row that is not later than `now` (minutes since 1970),
    without a start it has `SHOWN` windows. Money is never added over currencies."""
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
            "tokens of workflows include those of their nodes, so they are counted twice here: --by "
            "operation_type keeps them apart"
        )
    histogram = any(row.bounds for row in mine)
    taken = msgspec.structs.replace(
        asked, start=start, end=end, by=by, quantiles=asked.quantiles if histogram else ()
    )
    found = windows(mine, asked.size, asked.step, by, start, end)
    return Answer(metric, unit, histogram, taken, found, tuple(notes))


def shown(one: Answer, n: int) -> Answer:
    """The answer with the n groups of the largest sums; the others are merged, and the notes say so."""
    kept = [i for i, name in enumerate(one.asked.by) if one.unit == MONEY and name == CURRENCY]
    found, merged = top(one.found, n, kept)
    if not merged:
        return one
    note = (
        f"kept apart are the largest by sum, {n} of {n + merged}; the rest is in {OTHERS}: --top "
        f"{n + merged} keeps all apart"
    )
    return msgspec.structs.replace(one, found=found, notes=(*one.notes, note))
