"""`tailrace publish`: events from JSON lines to Kafka."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Final

import click
import msgspec

from tailrace import kafka, topics
from tailrace.commands.options import common, settings_from
from tailrace.delivery import DeliveryReport
from tailrace.errors import InvalidEvent, KafkaUnavailable, QueueFull, TopicMismatch
from tailrace.event_lines import parse
from tailrace.processes import set_up_logging
from tailrace.publisher import Publisher
from tailrace.settings import Settings

_EVERY: Final = 5.0
"""Seconds between two lines of progress."""
_SHOWN: Final = 20
"""Failed deliveries that are named; the rest is counted."""


class _Run:
    """One run of the command: its counts, and what it says on stderr."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lines = self.invalid = self.failed = 0
        self.stopped_at: str | None = None
        self._clock, self._said = clock, clock()

    def refused(self, where: str, problem: object) -> None:
        self.invalid += 1
        click.echo(f"{where}: {problem}", err=True)

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


def _lines(files: tuple[IO[bytes], ...]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        name = "stdin" if file is sys.stdin.buffer else file.name
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{name}:{number}", line


def _require_topic(settings: Settings, seconds: float) -> None:
    admin, _ = kafka.wait_for_broker(settings.kafka, deadline=seconds, say=lambda text: click.echo(text, err=True))
    name = topics.Names.of(settings.topics).events
    if name not in topics.describe(admin, [name]):
        raise TopicMismatch(f"{name} is missing: run `tailrace topics create`")


@click.command()
@click.argument("files", nargs=-1, type=click.File("rb"), metavar="[FILE|-]...")
@common
@click.option("--strict", is_flag=True, help="Stop at the first line that is refused; what came before is published.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for a broker, for room in the queue, and at the end for the last deliveries.",
)
@click.option("--json", "as_json", is_flag=True, help='Print {"lines": …, "delivered": …, "refused": …, …}.')
def publish(
    files: tuple[IO[bytes], ...],
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    strict: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Publish events from JSON lines; from stdin without a FILE.

    One event a line, with the field names of `tailrace schemas show TraceEvent`. kind, started_at and ended_at are needed.
    Times are microseconds UTC or RFC 3339 text with a zone, OpenTelemetry ids are hex, inputs and outputs any JSON.

    Exit status: 0 all is delivered; 1 a line was refused (named FILE:LINE: field) or an event was not delivered within
    --timeout; 2 settings or options are wrong, or the topic is not there.

    \b
    Examples:
      tailrace publish events.jsonl
      zcat old.jsonl.gz | tailrace publish --strict --json

    \b
    A line, in two:
      {"kind": "tool", "name": "search", "inputs": {"q": "x"}, "started_at": "2026-11-01T12:00:00Z",
       "ended_at": "2026-11-01T12:00:01.5Z"}
    """
    settings = settings_from(config, bootstrap_servers, assignments)
    settings = msgspec.structs.replace(
        settings, publisher=msgspec.structs.replace(settings.publisher, when_full="block", block_seconds=timeout)
    )
    set_up_logging("WARNING")
    try:
        _require_topic(settings, timeout)
    except KafkaUnavailable as e:
        click.echo(f"nothing is published: {e}", err=True)
        sys.exit(1)
    run = _Run()
    publisher = Publisher(settings=settings, on_delivery=run.reported)
    for where, line in _lines(files or (sys.stdin.buffer,)):
        run.lines += 1
        try:
            publisher.publish(parse(line))
        except InvalidEvent as e:
            run.refused(where, e)
            if strict:
                run.stopped_at = where
                break
        except QueueFull as e:
            click.echo(f"{where}: stopped here, this line and those after it are not published: {e}", err=True)
            run.stopped_at = where
            break
        run.progress(publisher.counts.delivered)
    deadline = time.monotonic() + timeout
    while not publisher.flush(min(1.0, max(0.0, deadline - time.monotonic()))) and time.monotonic() < deadline:
        run.progress(publisher.counts.delivered)
    undelivered = publisher.close(timeout=0).undelivered
    delivered = publisher.counts.delivered
    _conclude(run, delivered, len(undelivered), as_json)
    sys.exit(0 if delivered == run.lines else 1)


def _conclude(run: _Run, delivered: int, open_: int, as_json: bool) -> None:
    failed = run.failed
    if as_json:
        counts = {
            "lines": run.lines, "delivered": delivered, "refused": run.invalid, "not_delivered": failed,
            "stopped_at": run.stopped_at,
        }  # fmt: skip
        click.echo(json.dumps(counts))
        return
    parts = [f"{delivered:,} delivered"]
    if run.invalid:
        parts.append(f"{run.invalid:,} refused")
    if failed:
        parts.append(f"{failed:,} not delivered" + (f", {open_:,} of them given up at the time-out" if open_ else ""))
    if run.stopped_at:
        parts.append(f"stopped at {run.stopped_at}")
    click.echo(f"{run.lines:,} events: " + ", ".join(parts))
