"""Line plots in the terminal, drawn by plotext (extra `metrics`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import click
import msgspec

from tailrace.commands.metrics.formatting import MONEY, SECONDS, at, human
from tailrace.errors import MissingPackage

COLOURS: Final = (
    "cyan",
    "yellow",
    "magenta",
    "green",
    "red",
    "blue",
    "bright_white",
    "bright_red",
    "bright_black",
)
"""Colours of the lines, in their order, by click's names."""
_NUMBERS: Final = (6, 3, 5, 2, 1, 4, 15, 9, 8)
"""The same colours as plotext's numbers."""
_MARKS: Final = "abcdefghi"
"""Markers of the lines where there are no colours."""
_DAY: Final = 1440
_ROUND: Final = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, _DAY, 2 * _DAY, 5 * _DAY, 10 * _DAY)
"""Minutes between two times on the x axis."""


class Line(msgspec.Struct, frozen=True):
    """One line of the plot: its name, and its value in each window (None: no value)."""

    name: str
    values: Sequence[float | None]


def ticks(high: float, unit: str, wanted: int = 5) -> list[float]:
    """About `wanted` round values from 0 to at least `high`.

    They are integers if the unit has no fractions; durations above a minute are round in minutes or
    hours.
    """
    base = 1.0
    if unit == SECONDS and high > 100e6:
        base = 60e6 if high < 7200e6 else 3600e6
    top = max(high / base, 1e-9 if unit == MONEY else 1.0)
    size = 10.0 ** math.floor(math.log10(top / wanted))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size * wanted >= top * 0.999)
    if unit != MONEY and base == 1.0:
        step = max(1.0, math.ceil(step))
    return [n * step * base for n in range(math.ceil(top / step - 1e-9) + 1)]


def runs(values: Sequence[float | None]) -> Iterator[tuple[list[int], list[float]]]:
    """The stretches without a gap, as indices and values."""
    places: list[int] = []
    found: list[float] = []
    for n, value in enumerate([*values, None]):
        if value is not None:
            places.append(n)
            found.append(value)
        elif places:
            yield places, found
            places, found = [], []


def times(starts: Sequence[int], width: int) -> tuple[list[int], list[str]]:
    """Indices and labels of the x axis, at round times: hours and minutes, and the day where it changes."""
    whole, room = starts[-1] - starts[0], max(2, width // 14)
    every = next((r for r in _ROUND if whole <= r * room), whole)
    places = [n for n, start in enumerate(starts) if start % every == 0] or [0]
    texts, day = [], ""
    for n in places:
        today = at(starts[n], "%b %d")
        form = "%b %d" if every % _DAY == 0 else "%H:%M" if today == day else "%b %d %H:%M"
        texts.append(at(starts[n], form))
        day = today
    return places, texts


def draw(
    title: str,
    starts: Sequence[int],
    lines: Sequence[Line],
    unit: str,
    width: int,
    height: int,
    colours: bool,
) -> list[str]:
    """The plot and its legend, as lines of text.

    Args:
        starts: the first minute of each window.

    Raises:
        MissingPackage: plotext is not installed.
    """
    try:
        import plotext as plot
    except ModuleNotFoundError:
        raise MissingPackage("the plot needs plotext: pip install 'tailrace[metrics]'") from None
    high = max((v for line in lines for v in line.values if v is not None), default=0)
    marks = ticks(high, unit)
    plot.clear_figure()
    plot.theme("clear")
    plot.limit_size(False, False)
    plot.plot_size(width, height)
    for n, line in enumerate(lines):
        marker = "braille" if colours or len(lines) == 1 else _MARKS[n % len(_MARKS)]
        style = {"marker": marker, "color": _NUMBERS[n % len(_NUMBERS)]} if colours else {"marker": marker}
        for places, values in runs(line.values):
            (plot.plot if len(places) > 1 else plot.scatter)(places, values, **style)
    plot.ylim(0, marks[-1])
    plot.xlim(0, max(1, len(starts) - 1))
    plot.yticks(marks, [human(v, unit) if v else "0" for v in marks])
    plot.xticks(*times(starts, width))
    drawn = plot.build().splitlines()
    if not colours:
        drawn = [click.unstyle(text) for text in drawn]
    legend = []
    for n, line in enumerate(lines):
        mark = click.style("━━", fg=COLOURS[n % len(COLOURS)]) if colours else _MARKS[n % len(_MARKS)]
        legend.append(f"{mark} {line.name}")
    return [title, *(text.rstrip() for text in drawn), *(legend if len(lines) > 1 else [])]
