"""`tailrace render`: prints what a sink would send for the events of a file."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO

import click
import msgspec

from connectors.config.instances import Instance, instance
from connectors.content.fetcher import ContentFetcher, open_fetcher
from connectors.content.fitting import fitted
from connectors.content.sink_content import SinkContent
from connectors.preview.render import Admit, Rendered, lines, render_all
from connectors.sdk.contract import Enriched, Skip
from tailrace import codec
from tailrace.commands.formats import Notes, adapter_from, converted, format_options, shown
from tailrace.commands.input_lines import lines_of
from tailrace.commands.options import common, settings_from
from tailrace.errors import ConfigError, InvalidEvent, MissingPackage
from tailrace.formats import Adapter, Converted, Note
from tailrace.identity import complete
from tailrace.records import TraceEvent


@click.command()
@click.argument("sink")
@click.argument("file", type=click.File("rb"), default="-", metavar="[FILE|-]")
@common
@format_options
@click.option("--pretty", is_flag=True, help="Indented JSON, several lines per event.")
def render(
    sink: str,
    file: IO[bytes],
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    format_name: str,
    timezones: tuple[str, ...],
    explain: bool,
    pretty: bool,
) -> None:
    """Print what SINK would send for events, one JSON line per event.

    Nothing is sent, and Kafka is not needed.

    FILE has events as for `tailrace publish`; - is stdin. They are enriched together, like those of one
    partition. Content that they refer to is read from content.store, if that is set. A line has event_id,
    kind and payload, and the link to the vendor's page of the trace if the sink knows it; or filtered,
    rejected or dead_letter if nothing would be sent. A summary is printed to standard error. With --format,
    the lines are of another system: dify. With --explain, a line also has unplaced: the fields with a value
    that the sink has no place for.

    Exit status: 0 all lines are events; 1 some are not (printed as FILE:LINE: field); 2 settings or options
    are wrong.

    \b
    Examples:
      tailrace render otlp events.jsonl --set sinks.otlp.endpoint=http://localhost:4318
      tailrace render console - --pretty < events.jsonl
      tailrace render console --format dify --timezone Asia/Shanghai --explain dify.jsonl
    """
    try:
        adapter = adapter_from(format_name, timezones)
        settings = settings_from(config, bootstrap_servers, assignments)
        chosen = instance(settings, sink)
        fetcher = open_fetcher(settings.content)
    except ConfigError as e:
        click.echo(f"tailrace render: {e}", err=True)
        sys.exit(2)
    refused: list[str] = []
    notes = Notes(explain, lambda text: click.echo(text, err=True))
    lines_read: Counter[str] = Counter()
    found = list(_events(file, adapter, notes, refused, lines_read))
    counts: Counter[str] = Counter()
    rows = render_all(chosen, [event for _, event in found], _with_content(chosen, fetcher), explain=explain)
    try:
        for text in lines(_taken(rows, [where for where, _ in found], sink, notes, counts), pretty=pretty):
            click.echo(text)
    except MissingPackage as e:
        click.echo(f"tailrace render: {e}", err=True)
        sys.exit(2)
    for problem in refused:
        click.echo(problem, err=True)
    parts = [
        f"{counts[name]:,} {name}"
        for name in ("rendered", "filtered", "rejected", "dead-lettered")
        if counts[name]
    ]
    if refused:
        parts.append(f"{len(refused):,} invalid")
    for text in notes.summary():
        click.echo(text, err=True)
    click.echo(f"{lines_read.total():,} lines: " + (", ".join(parts) or "nothing"), err=True)
    sys.exit(1 if refused else 0)


def _with_content(chosen: Instance, fetcher: ContentFetcher | None) -> Admit:
    """What is applied to a record before `map`: filters, then its stored content, then the content policy."""
    if fetcher is None:
        return chosen.admit
    content = SinkContent(chosen.name, fetcher, chosen.fetched, lambda reason: None)

    def admit(record: Enriched) -> Enriched | Skip:
        admitted = chosen.admit(record)
        if isinstance(admitted, Skip) or not record.event.content_refs:
            return admitted
        admitted = chosen.admit(content.complete(record))
        return admitted if isinstance(admitted, Skip) else fitted(admitted, chosen.sink.map, chosen.cut_to)[0]

    return admit


def _events(
    file: IO[bytes], adapter: Adapter, notes: Notes, refused: list[str], read: Counter[str]
) -> Iterator[tuple[str, TraceEvent]]:
    """The file's events, completed, each with the line that it is from.

    Args:
        file: the lines.
        adapter: of their format.
        notes: counts what the format noted.
        refused: gets invalid lines, with line number and field.
        read: counts the lines.
    """
    for found in _converted(file, adapter, read):
        notes.take(found)
        try:
            if found.event is None:
                refused.append(f"{found.where}: {shown(found.problem)}")
                continue
            event = complete(found.event, time.time_ns() // 1000)
            codec.encode(event)  # checks ranges and sizes too
            yield found.where, event
        except InvalidEvent as e:
            refused.append(f"{found.where}: {shown(e)}")


def _converted(file: IO[bytes], adapter: Adapter, read: Counter[str]) -> Iterator[Converted]:
    name = "stdin" if file is sys.stdin.buffer else getattr(file, "name", "stdin")
    name = "stdin" if name in ("-", "<stdin>") else name
    for line in lines_of(file.readline):
        read[name] += 1
        yield from converted(adapter, f"{name}:{line.number}", line)
    yield from adapter.end()


def _taken(
    rows: Iterable[Rendered], wheres: Iterable[str], sink: str, notes: Notes, counts: Counter[str]
) -> Iterator[Rendered]:
    """The rows, counted, with notes of what the sink has no place for."""
    for row, where in zip(rows, wheres, strict=True):
        counts[row.outcome] += 1
        if row.unplaced is not msgspec.UNSET:
            sent = row.filtered is msgspec.UNSET
            why = f"{sink} has no place for it" if sent else f"{sink} does not send it: {row.filtered}"
            left = tuple(Note("unplaced", name, why) for name in row.unplaced)
            notes.take(Converted(where, None, notes=left))
        yield row
