"""`tailrace publish`: publishes events from JSON lines."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final, Self

import click
import msgspec

from tailrace import clients, kafka, topics
from tailrace.commands.formats import Notes, adapter_from, converted, format_options, shown
from tailrace.commands.input_lines import Line, lines_of
from tailrace.commands.options import common, settings_from
from tailrace.delivery_reports import DeliveryReport
from tailrace.errors import ConfigError, InvalidEvent, KafkaUnavailable, QueueFull, TopicMismatch
from tailrace.formats import DEFAULT, Converted
from tailrace.processes import set_up_logging
from tailrace.publisher import Publisher
from tailrace.records import TraceEvent
from tailrace.settings import Settings

_EVERY: Final = 5.0
"""Seconds between two progress lines."""
_TURN: Final = 0.5
"""Seconds to wait for the queue, or for the last deliveries, between two checks for signals."""
_SHOWN: Final = 20
"""Failed deliveries that are printed; further ones are only counted."""


class _Run:
    """The counts of one run, and its messages on stderr."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lines = self.events = self.invalid = self.failed = 0
        self.full = False
        """Whether the queue stayed full: nothing more is published."""
        self.left = 0
        """Events that were made and are not published, because the queue stayed full."""
        self.stopped_at: str | None = None
        self.refused_at: str | None = None
        """The first line that was refused."""
        self._clock, self._said = clock, clock()

    def refused(self, where: str, problem: object) -> None:
        self.invalid += 1
        self.refused_at = self.refused_at or where
        click.echo(f"{where}: {shown(problem)}", err=True)

    def reported(self, report: DeliveryReport) -> None:
        if report.ok:
            return
        self.failed += 1
        if self.failed <= _SHOWN:
            click.echo(f"not delivered: event {report.event_id}: {report.error}", err=True)

    def progress(self, delivered: int) -> None:
        if self._clock() - self._said >= _EVERY:
            self._said = self._clock()
            click.echo(f"{self.lines:,} lines read, {delivered:,} events delivered", err=True)


class _Full(Exception):
    """The queue stayed full."""


class _Stopped(Exception):
    """A signal came while the command waited for a line."""


class _Signals:
    """SIGINT and SIGTERM: the first one ends reading, the second one ends the wait for deliveries."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.again = False
        self._reading = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {n: signal.signal(n, self._came) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _came(self, number: int, frame: object) -> None:
        if self.number is not None:
            self.again = True
            return
        self.number = number
        if self._reading:
            raise _Stopped

    def lines(self, file: IO[bytes]) -> Iterator[Line]:
        """The file's lines. Raises `_Stopped` on a signal, but never while a line is being published."""

        def read(size: int) -> bytes:
            self._reading = True
            try:
                if self.number is not None:
                    raise _Stopped
                return file.readline(size)
            finally:
                self._reading = False

        return lines_of(read)


def _lines(files: tuple[IO[bytes], ...], signals: _Signals) -> Iterator[tuple[str, Line]]:
    for file in files:
        name = "stdin" if file is sys.stdin.buffer else file.name
        for line in signals.lines(file):
            yield f"{name}:{line.number}", line


def _require_topic(settings: Settings, seconds: float) -> None:
    admin, _ = kafka.wait_for_broker(
        settings.kafka, deadline=seconds, say=lambda text: click.echo(text, err=True)
    )
    name = topics.TopicNames.of(settings.topics).events
    deadline, said = time.monotonic() + seconds, False
    while name not in topics.describe(admin, [name]):
        missing = f"{name} is missing: run `tailrace topics create`"
        if time.monotonic() >= deadline:
            raise TopicMismatch(missing)
        if not said:
            click.echo(f"{missing}; waiting for it", err=True)
            said = True
        time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))


@click.command()
@click.argument("files", nargs=-1, type=click.File("rb"), metavar="[FILE|-]...")
@common
@format_options
@click.option(
    "--strict", is_flag=True, help="Stop at the first invalid line; the lines before it are published."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for a broker, for the topic, for space in the queue, and for the last deliveries.",
)
@click.option("--json", "as_json", is_flag=True, help='Print {"lines": …, "delivered": …, "refused": …, …}.')
def publish(
    files: tuple[IO[bytes], ...],
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    format_name: str,
    timezones: tuple[str, ...],
    explain: bool,
    strict: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Publish events from JSON lines. Without a FILE they are read from stdin.

    One event per line, with the field names of `tailrace schemas show TraceEvent`. kind, started_at and
    ended_at are required. Times are microseconds UTC or RFC 3339 text with a time zone, OpenTelemetry ids are
    hex, inputs and outputs are any JSON.

    --format dify reads Dify's own records instead: {"app_id", "trace_info_type", "trace_info"}, and its
    telemetry envelopes. A line waits for others that tell what it lacks, so lines of a turn belong together:
    what waits at the end of the input, or after a signal, is published with what is known by then.

    Exit status: 0 all events are delivered; 1 a line is invalid (printed as FILE:LINE: field) or an event was
    not delivered within --timeout; 2 settings or options are wrong, or the topic is missing; 130 or 143 after
    Ctrl-C or SIGTERM. A signal stops reading; the lines read so far are delivered, within --timeout. A second
    signal ends that wait.

    \b
    Examples:
      tailrace publish events.jsonl
      zcat old.jsonl.gz | tailrace publish --strict --json
      tailrace publish --format dify --explain dify.jsonl
      tailrace publish --format dify --timezone timers=Asia/Shanghai dify.jsonl

    \b
    One line, wrapped here:
      {"kind": "tool", "name": "search", "inputs": {"q": "x"}, "started_at": "2026-11-01T12:00:00Z",
       "ended_at": "2026-11-01T12:00:01.5Z"}
    """
    try:
        adapter = adapter_from(format_name, timezones)
    except ConfigError as e:
        click.echo(f"tailrace publish: {e}", err=True)
        sys.exit(2)
    settings = settings_from(config, bootstrap_servers, assignments)
    settings = msgspec.structs.replace(
        settings,
        publisher=msgspec.structs.replace(
            settings.publisher, when_full="block", block_seconds=min(timeout, _TURN)
        ),
    )
    set_up_logging("WARNING")
    clients.check_publisher(settings)
    try:
        _require_topic(settings, timeout)
    except KafkaUnavailable as e:
        click.echo(f"nothing is published: {e}", err=True)
        sys.exit(1)
    run, notes = _Run(), Notes(explain, lambda text: click.echo(text, err=True))
    publisher = Publisher(settings=settings, on_delivery=run.reported)
    with _Signals() as signals:
        try:
            for where, line in _lines(files or (sys.stdin.buffer,), signals):
                run.lines += 1
                found = converted(adapter, where, line)
                _take_all(found, publisher, run, notes, timeout, signals)
                if strict and run.invalid:
                    break
        except _Full:
            pass
        except _Stopped:
            click.echo(f"stopped reading; waiting up to {timeout:g} s for the last deliveries", err=True)
        with contextlib.suppress(_Full):
            _take_all(adapter.end(), publisher, run, notes, timeout, signals)
        if run.left:
            run.events += run.left
            click.echo(f"{run.left:,} more events, of lines before that, are not published", err=True)
        if strict and run.stopped_at is None:
            run.stopped_at = run.refused_at
        deadline = time.monotonic() + timeout
        while (
            not publisher.flush(min(_TURN, max(0.0, deadline - time.monotonic())))
            and time.monotonic() < deadline
            and not signals.again
        ):
            run.progress(publisher.counts.delivered)
        undelivered = publisher.close(timeout=0).undelivered
        delivered = publisher.counts.delivered
        plain = format_name == DEFAULT
        _conclude(run, notes, delivered, len(undelivered), signals.number, as_json, plain)
    if signals.number is not None:
        sys.exit(128 + signals.number)
    sys.exit(0 if delivered == run.events and not run.invalid else 1)


def _take_all(
    made: Iterable[Converted],
    publisher: Publisher,
    run: _Run,
    notes: Notes,
    timeout: float,
    signals: _Signals,
) -> None:
    """Publishes what a format made of lines. Raises `_Full`; what is not published then is in `run.left`."""
    rest = iter(made)
    try:
        for found in rest if not run.full else ():
            _take(found, publisher, run, notes, timeout, signals)
            run.progress(publisher.counts.delivered)
    finally:
        run.left += sum(1 for _ in rest)


def _take(
    found: Converted, publisher: Publisher, run: _Run, notes: Notes, timeout: float, signals: _Signals
) -> None:
    """Publishes an event that was made from a line, or says why there is none.

    Raises:
        _Full: the queue stayed full; nothing more is published.
    """
    notes.take(found)
    if found.event is None:
        run.refused(found.where, found.problem)
        return
    try:
        _publish(publisher, found.event, timeout, signals)
    except InvalidEvent as e:
        run.refused(found.where, e)
        return
    except QueueFull as e:
        click.echo(
            f"{found.where}: stopped; this line and the following ones are not published: {e}",
            err=True,
        )
        run.stopped_at, run.full = found.where, True
        run.events += 1
        raise _Full from None
    run.events += 1


def _publish(publisher: Publisher, event: TraceEvent, timeout: float, signals: _Signals) -> None:
    """Publishes one event; waits for space in the queue up to `timeout` seconds or until a signal comes.

    Raises:
        QueueFull: the queue stayed full.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            publisher.publish(event)
            return
        except QueueFull:
            if signals.number is not None or time.monotonic() >= deadline:
                raise


def _conclude(
    run: _Run, notes: Notes, delivered: int, open_: int, number: int | None, as_json: bool, plain: bool
) -> None:
    """Prints the counts. `plain`: each line is an event, and nothing is noted."""
    failed = run.failed
    interrupted = None if number is None else signal.Signals(number).name
    if as_json:
        counts = {
            "lines": run.lines,
            "delivered": delivered,
            "refused": run.invalid,
            "not_delivered": failed,
            "stopped_at": run.stopped_at,
            "interrupted": interrupted,
            **({} if plain else {"events": run.events, "notes": notes.table()}),
        }
        click.echo(json.dumps(counts))
        return
    for text in notes.summary():
        click.echo(text, err=True)
    parts = [f"{delivered:,} delivered"]
    if run.invalid:
        parts.append(f"{run.invalid:,} refused")
    if failed:
        parts.append(f"{failed:,} not delivered" + (f", {open_:,} of them timed out" if open_ else ""))
    if run.stopped_at:
        parts.append(f"stopped at {run.stopped_at}")
    if interrupted:
        parts.append(f"{interrupted} after {run.lines:,} lines were read")
    said = "events" if plain else f"lines, {run.events:,} events"
    click.echo(f"{run.lines:,} {said}: " + ", ".join(parts))
