"""`tailrace ledger`: checks that no record is lost or counted twice, and shows where records wait."""

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
from tailrace.ledger.report import LedgerReport, SinkAccount, StreamAccount, read_report


def total(accounts: Sequence[StreamAccount | SinkAccount], field: str) -> int:
    return sum(int(getattr(a, field)) for a in accounts)


def lines(report: LedgerReport, partitions: bool) -> list[str]:
    """The report as text: a line for the processor and one per sink.

    With `partitions`, also a line for each of their partitions.
    """
    out = []

    def stream(name: str, rows: Sequence[StreamAccount]) -> None:
        good = all(r.balanced for r in rows)
        out.append(
            f"{name:<22} events in {total(rows, 'events_in')} = enriched {total(rows, 'enriched')}"
            f" + links {total(rows, 'links')} + duplicates {total(rows, 'duplicates')}"
            f" + dead-lettered {total(rows, 'dead_lettered')}; pending {total(rows, 'pending')}"
            f"  {'balanced' if good else 'NOT BALANCED'}"
        )
        out.extend(f"  partition {r.partition}: {r.problem}" for r in rows if r.problem)

    def sink(name: str, rows: Sequence[SinkAccount]) -> None:
        good = all(r.balanced for r in rows)
        out.append(
            f"{name:<22} passed {total(rows, 'passed')} = delivered {total(rows, 'delivered')}"
            f" + filtered {total(rows, 'filtered')} + dead-lettered {total(rows, 'dead_lettered')}"
            + (f" - foreign records {total(rows, 'unnumbered')}" if total(rows, "unnumbered") else "")
            + f"; pending {total(rows, 'pending')}"
            + (f"; GAPS {total(rows, 'gaps')}" if total(rows, "gaps") else "")
            + f"  {'balanced' if good else 'NOT BALANCED'}"
        )
        out.extend(f"  partition {r.partition}: {r.problem}" for r in rows if r.problem)

    stream("streams", report.streams)
    if partitions:
        for row in report.streams:
            stream(f"  partition {row.partition}", [row])
    for name in dict.fromkeys(a.sink for a in report.sinks):
        mine = [a for a in report.sinks if a.sink == name]
        sink(f"sink {name}", mine)
        if partitions:
            for account in mine:
                sink(f"  partition {account.partition}", [account])
    return out


@click.command()
@common
@click.option("--partitions", is_flag=True, help="Print a line for each partition too.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def ledger(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    partitions: bool,
    as_json: bool,
) -> None:
    """Check that no record is missing: for the processor and each sink, records in equal records out.

    The counts are those of each last commit, so they are right at any time, also while everything runs.

    Exit status: 0 everything balances; 1 it does not: records were lost or counted twice; 2 settings or
    options are wrong.

    \b
    Examples:
      tailrace ledger
      tailrace ledger --partitions -b kafka:9092
      tailrace ledger --json | jq .balanced
    """
    settings = settings_from(config, bootstrap_servers, assignments)
    admin, _ = kafka.wait_for_broker(settings.kafka, deadline=10, say=lambda text: click.echo(text, err=True))
    try:
        report = read_report(admin, settings)
    except KafkaException as e:
        raise KafkaUnavailable(e.args[0].str()) from None
    if as_json:
        click.echo(
            json.dumps(
                {**msgspec.to_builtins(report), "balanced": report.balanced, "settled": report.settled}
            )
        )
    else:
        for line in lines(report, partitions):
            click.echo(line)
    sys.exit(0 if report.balanced else 1)
