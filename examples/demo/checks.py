"""What must hold at the end of the demo. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from examples.demo import held
from examples.demo.held import Traces
from examples.demo.trees import Comparison
from tailrace.commands.ledger import lines, total
from tailrace.ledger.report import LedgerReport

BALANCED: Final = "the counts balance"


def passed(report: LedgerReport, sink: str) -> int:
    """Records that a sink is done with."""
    return _sum(report, sink, "passed")


def arrived(report: LedgerReport, published: int, sinks: Mapping[str, object]) -> bool:
    """Whether everything that was published is enriched, and every sink is done with all of it."""
    return (
        report.settled
        and total(report.streams, "events_in") == published
        and all(passed(report, name) == total(report.streams, "enriched") for name in sinks)
    )


def problems(published: int, report: LedgerReport, has: Mapping[str, Traces]) -> Iterator[str]:
    """What does not balance between the publisher, the ledger and the backends, as sentences.

    Args:
        published: Events that Kafka has acknowledged.
        report: The ledger's.
        has: Name of a sink -> what its backend has.
    """
    if not report.balanced:
        yield "the ledger does not balance"
    enriched = total(report.streams, "enriched")
    if enriched != published:
        yield f"{published} events are published, {enriched} enriched"
    for name, traces in has.items():
        delivered, stored = _sum(report, name, "delivered"), sum(t.operations for t in traces.values())
        if not delivered == stored == enriched:
            yield f"{enriched} events are enriched, {delivered} delivered to {name}, which has {stored}"
    if dead := _dead(report):
        yield f"{dead} records are in the dead letters"
    yield from held.different(has)


def summary(
    published: int, report: LedgerReport, has: Mapping[str, Traces], trees: Comparison
) -> Iterator[str]:
    """The counts as text, the lines of `tailrace ledger` among them, then what was compared."""
    enriched, sent = total(report.streams, "enriched"), total(report.sinks, "delivered")
    yield (
        f"published {published}, enriched {enriched}, delivered {sent} to {len(has)} backends, "
        f"dead-lettered {_dead(report)}"
    )
    yield from (f"  {line}" for line in lines(report, False))
    apart = sum(1 for _ in held.different(has))
    same = f"{apart} differences" if apart else "operations, tokens and cost are equal"
    free = [name for name, traces in has.items() if all(t.cost is None for t in traces.values())]
    yield f"{len(set[str]().union(*has.values()))} traces at {len(has)} backends: {same}" + (
        f"; {', '.join(free)} has no cost" if free else ""
    )
    right = f"{len(trees.different)} differences" if trees.different else "as recorded"
    yield f"trees of {trees.runs} runs: {right}"


def _dead(report: LedgerReport) -> int:
    return total(report.streams, "dead_lettered") + total(report.sinks, "dead_lettered")


def _sum(report: LedgerReport, sink: str, field: str) -> int:
    return total([account for account in report.sinks if account.sink == sink], field)
