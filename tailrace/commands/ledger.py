"""`tailrace ledger`: does everything that went in come out, and where is it?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click
import msgspec
from confluent_kafka import KafkaException

from tailrace import kafka
from tailrace.commands.options import common, settings_from
from tailrace.errors import KafkaUnavailable
from tailrace.ledger.report import LedgerReport, SinkAccount, StreamAccount, read_books


def total(accounts: Sequence[StreamAccount | SinkAccount], field: str) -> int:
    return sum(int(getattr(a, field)) for a in accounts)


def lines(books: LedgerReport, partitions: bool) -> list[str]:
    """The books as text: a line for the processor and one a sink; with `partitions`, one each."""
    out = []

    def stream(name: str, rows: Sequence[StreamAccount]) -> None:
        good = all(r.balanced for r in rows)
        out.append(
            f"{name:<22} events in {total(rows, 'events_in')} = enriched {total(rows, 'enriched')} + links "
            f"{total(rows, 'links')} + "
            f"duplicates {total(rows, 'duplicates')} + dead-lettered {total(rows, 'dead_lettered')}; pending "
            f"{total(rows, 'pending')}"
            f"  {'balanced' if good else 'NOT BALANCED'}"
        )
        out.extend(f"  partition {r.partition}: {r.problem}" for r in rows if r.problem)

    def sink(name: str, rows: Sequence[SinkAccount]) -> None:
        good = all(r.balanced for r in rows)
        out.append(
            f"{name:<22} passed {total(rows, 'passed')} = delivered {total(rows, 'delivered')} + filtered "
            f"{total(rows, 'filtered')} + "
            f"dead-lettered {total(rows, 'dead_lettered')}"
            + (f" - foreign records {total(rows, 'unnumbered')}" if total(rows, "unnumbered") else "")
            + f"; pending {total(rows, 'pending')}"
            + (f"; GAPS {total(rows, 'gaps')}" if total(rows, "gaps") else "")
            + f"  {'balanced' if good else 'NOT BALANCED'}"
        )
        out.extend(f"  partition {r.partition}: {r.problem}" for r in rows if r.problem)

    stream("streams", books.streams)
    if partitions:
        for row in books.streams:
            stream(f"  partition {row.partition}", [row])
    for name in dict.fromkeys(a.sink for a in books.sinks):
        mine = [a for a in books.sinks if a.sink == name]
        sink(f"sink {name}", mine)
        if partitions:
            for account in mine:
                sink(f"  partition {account.partition}", [account])
    return out


@click.command()
@common
@click.option("--partitions", is_flag=True, help="A line for each partition too.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def ledger(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    partitions: bool,
    as_json: bool,
) -> None:
    """Check that nothing is missing: for the processor and for each sink, what went in is what came out.

    The counts are those of each last commit, so they are right at any moment, while everything runs. Exit
    code 1 if something does not balance: records are lost or were counted twice.

    \b
    Examples:
      tailrace ledger
      tailrace ledger --partitions -b kafka:9092
      tailrace ledger --json | jq .balanced
    """
    settings = settings_from(config, bootstrap_servers, assignments)
    admin, _ = kafka.wait_for_broker(settings.kafka, deadline=10, say=lambda text: click.echo(text, err=True))
    try:
        books = read_books(admin, settings)
    except KafkaException as e:
        raise KafkaUnavailable(e.args[0].str()) from None
    if as_json:
        click.echo(
            json.dumps({**msgspec.to_builtins(books), "balanced": books.balanced, "settled": books.settled})
        )
    else:
        for line in lines(books, partitions):
            click.echo(line)
    sys.exit(0 if books.balanced else 1)
