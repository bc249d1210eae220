"""`tailrace metrics`: shows trace.metrics in windows of event time."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import click
from confluent_kafka import KafkaException

from tailrace import kafka
from tailrace.commands.metrics import formatting, query, views
from tailrace.commands.metrics.plot import draw
from tailrace.commands.options import common, settings_from
from tailrace.errors import KafkaUnavailable, MissingPackage
from tailrace.metrics.rows import Reading, read
from tailrace.metrics.windows import Change, fold, minute_of
from tailrace.records import MetricRow
from tailrace.topics import TopicNames

_EVERY: Final = 5.0
"""Seconds between two progress lines."""
_WINDOWS: Final = 50_000
"""More windows are not plotted. (30 days have 43,200 minutes.)"""
_WIDTH, _NARROW, _HEIGHT = 100, 40, 20
"""Columns of a plot that does not go to a terminal, the fewest of one that does, lines of both."""


def _warn(line: str) -> None:
    click.echo(line, err=True)


def _parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A click callback that calls `parse` and turns its ValueError into a usage error."""

    def callback(_: click.Context, __: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None else parse(value)
        except ValueError as e:
            raise click.BadParameter(str(e)) from None

    return callback


def _moment(value: str) -> float:
    return formatting.moment(value, time.time())


def _labels(value: Iterable[str]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for one in value:
        name, sep, wanted = one.partition("=")
        if not sep or not name:
            raise ValueError(f"{one!r} is not label=value; for example model_name=gpt-4o")
        found[name] = found.get(name, frozenset()) | {wanted}
    return found


def _names(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for one in value for name in one.split(",") if name.strip()))


def _progress(clock: Callable[[], float] = time.monotonic) -> Callable[[Reading], None]:
    said = clock()

    def say(reading: Reading) -> None:
        nonlocal said
        if clock() - said >= _EVERY:
            said = clock()
            _warn(f"{reading.records:,} records read, {reading.offsets:,} offsets in the topic")

    return say


def _only(changes: Iterable[Change], metric: str | None, names: set[str]) -> Iterator[Change]:
    """The changes of one metric; rows of other metrics become deletions, so that they use no memory.

    Adds the name of every metric it meets to `names`.
    """
    for key, row in changes:
        if row is not None:
            names.add(row.metric)
        yield key, row if row is None or metric in (None, row.metric) else None


@click.command()
@click.argument("metric", required=False)
@common
@click.option(
    "--window",
    "size",
    default="5m",
    show_default=True,
    callback=_parsed(formatting.minutes),
    metavar="DURATION",
    help="Length of a window, for example 1m, 15m, 1h or 1d.",
)
@click.option(
    "--every",
    "step",
    callback=_parsed(formatting.minutes),
    metavar="DURATION",
    help="Time between window starts; if shorter than --window, windows overlap. Default: as --window.",
)
@click.option(
    "--from",
    "start",
    callback=_parsed(_moment),
    metavar="TIME",
    help="Show windows that end after this. Default: 36 windows.",
)
@click.option(
    "--to",
    "end",
    callback=_parsed(_moment),
    metavar="TIME",
    help="Show windows up to the one that contains this. Default: the newest row.",
)
@click.option(
    "--by",
    multiple=True,
    callback=_parsed(_names),
    metavar="LABEL,…",
    help="Group by these labels; values are summed over the others.",
)
@click.option(
    "--label",
    "filters",
    multiple=True,
    callback=_parsed(_labels),
    metavar="LABEL=VALUE",
    help="Only rows with this label value. May be repeated; one label twice means either value.",
)
@click.option(
    "--quantile",
    "quantiles",
    multiple=True,
    type=click.FloatRange(0, 1),
    help="Quantile of histograms, from 0 to 1; may be repeated. Default: 0.5, 0.95, 0.99.",
)
@click.option(
    "--top",
    "most",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Groups in the table and the plot, the largest sums first; the others are merged.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='Print one JSON object, with every group: {"metric": …, "rows": […], …}.',
)
@click.option(
    "--plot/--no-plot", default=None, help="Also draw a plot. Default: if standard output is a terminal."
)
def metrics(
    metric: str | None,
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    size: int,
    step: int | None,
    start: float | None,
    end: float | None,
    by: tuple[str, ...],
    filters: dict[str, frozenset[str]],
    quantiles: tuple[float, ...],
    most: int,
    as_json: bool,
    plot: bool | None,
) -> None:
    """Show a METRIC in windows of event time; without one, list all metrics.

    Windows are aligned to 1970 UTC and shown whole. TIME is ISO 8601 (UTC if it has no time zone), now, or a
    time before now such as -30m, -1h or -2d. In JSON, values in the unit "s" are integers in microseconds,
    and money is decimal text.

    Exit status: 0 also if there is nothing to show; 2 settings or options are wrong, or the metric, label or
    topic does not exist. Unreadable rows are reported on stderr and skipped.

    \b
    Examples:
      tailrace metrics
      tailrace metrics dify.tokens.total --window 1h --by model_name --label operation_type=node_execution
      tailrace metrics dify.node.duration --by node_type --from -6h --quantile 0.95
      tailrace metrics dify.requests.total --window 1h --every 5m --from 2026-11-01T08:00 --to now
      tailrace metrics dify.errors.total --window 1d --json | jq '.rows[].sum'
    """
    asked = query.Query(size, step or size, start, end, by, filters, quantiles or query.QUANTILES)
    if asked.step > size:
        raise click.BadParameter("must not be longer than --window", param_hint="--every")
    if start is not None and end is not None and start >= end:
        raise click.BadParameter("must be before --to", param_hint="--from")
    settings = settings_from(config, bootstrap_servers, assignments)
    kafka.wait_for_broker(settings.kafka, deadline=10, say=_warn)
    reading, names = Reading(), set[str]()
    try:
        rows = fold(_only(read(settings, reading, _progress()), metric, names))
    except KafkaException as e:
        raise KafkaUnavailable(e.args[0].str()) from None
    for line in reading.problems:
        _warn(f"not readable: {line}")
    if reading.unreadable > len(reading.problems):
        _warn(f"not readable: {reading.unreadable - len(reading.problems)} more")
    if metric and names and metric not in names:
        raise click.BadParameter(
            f"there is no metric {metric!r}: {formatting.near(metric, names)}", param_hint="METRIC"
        )
    try:
        selected = query.select(rows, asked)
    except query.UnknownName as e:
        raise click.BadParameter(str(e), param_hint="--label, --by") from None
    if not rows:
        topic = TopicNames.of(settings.topics).metrics
        if reading.records:
            _warn(f"{topic} has records, but no rows of {metric or 'any metric'} any more")
        else:
            _warn(f"{topic} has no rows: `tailrace process` writes them from published events")
    elif not selected:
        _warn("no row has these labels; " + "; ".join(_values(rows, name) for name in filters))
    if metric is None:
        found = query.listed(selected, asked)
        if as_json:
            _print_json({"metrics": [views.listed_document(one) for one in found]}, reading)
        elif found:
            _print(views.list_lines(found))
        elif selected:
            _warn("no metric has rows in this range")
        return
    one = query.answer(metric, rows, selected, asked, time.time() / 60)
    one = one if as_json else query.shown(one, most)
    for note in one.notes:
        _warn(f"note: {note}")
    if as_json:
        _print_json(views.document(one), reading)
    elif one.found:
        _show(one, sys.stdout.isatty() if plot is None else plot)
    elif selected:
        first, last = min(map(minute_of, selected)), max(map(minute_of, selected))
        _warn(
            f"{metric} has no rows in this range; "
            f"it has some from {formatting.at(first)} to {formatting.at(last)} UTC"
        )


def _values(rows: Iterable[MetricRow], name: str) -> str:
    found = sorted({row.labels[name] for row in rows if name in row.labels})
    return f"{name} is {', '.join(map(formatting.label, found[:10]))}" + (
        f" or one of {len(found) - 10} more" if len(found) > 10 else ""
    )


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _print_json(found: dict[str, Any], reading: Reading) -> None:
    click.echo(json.dumps({**found, "records": reading.records, "unreadable": reading.unreadable}))


def _show(one: query.Answer, plot: bool) -> None:
    _print([views.title(one), *views.window_lines(one)])
    if not plot:
        return
    if not 1 < len(views.spanned(one)) <= _WINDOWS:
        _warn(
            "no plot: it needs at least two windows"
            if len(views.spanned(one)) < 2
            else f"no plot: more than {_WINDOWS:,} windows"
        )
        return
    name, starts, lines = views.plotted(one)
    terminal = sys.stdout.isatty()
    width = max(_NARROW, shutil.get_terminal_size((_WIDTH, 24)).columns) if terminal else _WIDTH
    try:
        drawn = draw(name, starts, lines, one.unit, width, _HEIGHT, terminal and "NO_COLOR" not in os.environ)
    except MissingPackage as e:
        _warn(str(e))
        return
    _print(["", *drawn])
