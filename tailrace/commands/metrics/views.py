"""The answers of `tailrace metrics` as tables, as plot lines, and as JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from tailrace.commands.metrics.formatting import SECONDS, at, human, label, percentile, plain, span, table
from tailrace.commands.metrics.plot import Line
from tailrace.commands.metrics.query import Answer, Listed
from tailrace.metrics.windows import OTHERS, Cell, Group, Windows

PLOTTED: Final = 0.95
"""The quantile that is plotted when there is one line per group, if it is among the requested ones."""
_ISO: Final = "%Y-%m-%dT%H:%MZ"


def list_lines(found: Sequence[Listed]) -> list[str]:
    rows = [
        (
            one.metric,
            one.unit,
            f"{len(one.series):,}",
            f"{one.count:,}",
            human(one.sum, one.unit) + (f" {one.currency}" if one.currency else ""),
            at(one.first),
            at(one.last),
            ",".join(sorted(one.labels)),
        )
        for one in found
    ]
    return table(
        ("metric", "unit", "series", "count", "sum", "first (UTC)", "last (UTC)", "labels"),
        rows,
        (0, 1, 5, 6, 7),
    )


def listed_document(one: Listed) -> dict[str, Any]:
    return {
        "metric": one.metric,
        "unit": one.unit,
        "currency": one.currency,
        "series": len(one.series),
        "count": one.count,
        "sum": plain(one.sum, one.unit),
        "labels": sorted(one.labels),
        "first": at(one.first, _ISO),
        "last": at(one.last, _ISO),
    }


def document(one: Answer) -> dict[str, Any]:
    """The answer for JSON.

    Values in the unit "s" are integers in microseconds, money is decimal text, others are integers.
    """
    asked = one.asked
    return {
        "metric": one.metric,
        "unit": one.unit,
        "values_in": "microseconds" if one.unit == SECONDS else one.unit,
        "histogram": one.histogram,
        "window_minutes": asked.size,
        "every_minutes": asked.step,
        "from": None if asked.start is None else at(math.floor(asked.start), _ISO),
        "to": None if asked.end is None else at(math.ceil(asked.end), _ISO),
        "by": list(asked.by),
        "filters": {name: sorted(values) for name, values in asked.filters.items()},
        "rows": [_row(one, start, group, cell) for (start, group), cell in one.found.items()],
        "notes": list(one.notes),
    }


def _row(one: Answer, start: int, group: Group, cell: Cell) -> dict[str, Any]:
    return {
        "start": at(start, _ISO),
        "end": at(start + one.asked.size, _ISO),
        "labels": dict(zip(one.asked.by, group, strict=True)),
        "count": cell.count,
        "sum": plain(cell.sum, one.unit),
        "minimum": plain(cell.minimum, one.unit),
        "maximum": plain(cell.maximum, one.unit),
        "quantiles": {f"{q:g}": plain(cell.quantile(q), one.unit) for q in one.asked.quantiles},
    }


def title(one: Answer) -> str:
    asked = one.asked
    parts = [one.metric, one.unit, f"windows of {span(asked.size)}"]
    if asked.step != asked.size:
        parts[-1] += f" every {span(asked.step)}"
    parts += [f"by {', '.join(asked.by)}"] if asked.by else []
    parts += [f"{name}={'|'.join(sorted(values))}" for name, values in asked.filters.items()]
    return "  ".join(parts)


def ranked(found: Windows) -> list[Group]:
    """The groups, the largest sum first; the merged rest last."""
    sums: dict[Group, int] = {}
    for (_, group), cell in found.items():
        sums[group] = sums.get(group, 0) + cell.sum
    return sorted(sums, key=lambda g: (OTHERS in g, -sums[g], g))


def spanned(one: Answer) -> range:
    """The first minutes of all windows, from the first with rows to the last."""
    return range(min(s for s, _ in one.found), max(s for s, _ in one.found) + 1, one.asked.step)


def window_lines(one: Answer) -> list[str]:
    """The answer as a table: one line per window and group."""
    asked, unit = one.asked, one.unit
    heads = ["window (UTC)", *asked.by, "count", "sum"]
    if one.histogram:
        heads += ["mean", *(percentile(q) for q in asked.quantiles), "min", "max"]
    rows, before, rank = [], None, {group: n for n, group in enumerate(ranked(one.found))}
    for (start, group), cell in sorted(one.found.items(), key=lambda item: (item[0][0], rank[item[0][1]])):
        row = [
            at(start) if start != before else "",
            *map(label, group),
            f"{cell.count:,}",
            human(cell.sum, unit, aligned=True),
        ]
        if one.histogram:
            mean = cell.sum / cell.count if cell.count else None
            row += [
                human(v, unit)
                for v in (mean, *(cell.quantile(q) for q in asked.quantiles), cell.minimum, cell.maximum)
            ]
        rows.append(row)
        before = start
    return table(heads, rows, range(1 + len(asked.by)))


def plotted(one: Answer) -> tuple[str, list[int], list[Line]]:
    """What to plot: a title, the first minute of each window, and the lines.

    For a counter: its sums, 0 where there are no rows. For a histogram: its quantiles; if there are
    several groups, one line per group, of one quantile.
    """
    asked = one.asked
    starts, groups = list(spanned(one)), ranked(one.found)
    names = {g: ", ".join(map(label, g)) or one.metric for g in groups}
    per = f"in {span(asked.size)}"
    if not one.histogram:
        cells = [(g, [one.found.get((s, g), Cell()) for s in starts]) for g in groups]
        return (
            f"{one.metric}: sum {per}",
            starts,
            [Line(names[g], [c.sum for c in mine]) for g, mine in cells],
        )

    def quantiles(group: Group, q: float) -> list[float | None]:
        return [one.found.get((s, group), Cell()).quantile(q) for s in starts]

    if len(groups) == 1:
        lines = [Line(percentile(q), quantiles(groups[0], q)) for q in asked.quantiles]
        return f"{one.metric}: {', '.join(n.name for n in lines)} {per}", starts, lines
    q = PLOTTED if PLOTTED in asked.quantiles else asked.quantiles[-1]
    return f"{one.metric}: {percentile(q)} {per}", starts, [Line(names[g], quantiles(g, q)) for g in groups]
