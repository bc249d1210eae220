"""A topic delivered again from its start, by connectors with new groups and other batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tailrace import Publisher, TraceEvent
from tailrace.ledger.report import read_report
from tailrace.settings import Settings
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until

Counts = tuple[int, int, int, int]
"""Passed, delivered, filtered and dead-lettered records."""


def enrich(pipeline: Pipeline, events: Iterable[TraceEvent]) -> int:
    """Publishes the events and has a processor apply them. Returns the number of enriched records."""
    published = 0
    with Publisher(settings=pipeline.settings) as publisher:
        for event in events:
            publisher.publish(event)
            published += 1
    with pipeline.process() as process:

        def applied() -> bool:
            streams = pipeline.ledger_report().streams
            return sum(a.events_in - a.links for a in streams) >= published and not any(
                a.pending for a in streams
            )

        wait_until(applied, 120, "all is applied", alive=(process,), every=0.2)
        assert process.sigterm(60) == 0, process.tail()
    return sum(a.enriched for a in pipeline.ledger_report().streams)


def deliver(
    pipeline: Pipeline, sinks: Sequence[str], env: Mapping[str, str], number: int
) -> dict[str, Counts]:
    """Has connectors deliver the whole topic, once. Returns what their ledgers say.

    Args:
        sinks: Names of instances.
        env: Their settings.
        number: Of the round, from 0.
    """
    prefix = f"{pipeline.settings.connect.group_prefix}round{number}-"
    whole = {**env, "TAILRACE_CONNECT_GROUP_PREFIX": prefix}
    with pipeline.tailrace("connect", *sinks, "--until-caught-up", name=f"round{number}", env=whole) as child:
        assert child.wait(300) == 0, child.tail()
    connect = msgspec.structs.replace(pipeline.settings.connect, group_prefix=prefix)
    return settled(msgspec.structs.replace(pipeline.settings, connect=connect), pipeline)


def settled(settings: Settings, pipeline: Pipeline) -> dict[str, Counts]:
    """What the ledgers of each sink say, which balance and have nothing open."""
    books = read_report(pipeline.admin, settings)
    assert books.balanced, books
    assert books.settled, books
    found: dict[str, Counts] = {}
    for a in books.sinks:
        assert a.gaps == a.unnumbered == 0, a
        before = found.get(a.sink, (0, 0, 0, 0))
        now = (a.passed, a.delivered, a.filtered, a.dead_lettered)
        found[a.sink] = tuple(x + y for x, y in zip(before, now, strict=True))  # type: ignore[assignment]
    return found
