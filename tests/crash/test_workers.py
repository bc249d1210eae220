"""kill -9, joins, leaves and a stop under load.

In the end every row, total and summary is what a recount of the log says.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from tailrace.broker import Broker
from tailrace.codec import decode_versioned
from tailrace.delivery_reports import DeliveryReport
from tailrace.records import PartitionPosition
from tests.crash.storm import (
    TAKEN,
    Feed,
    Join,
    Kill,
    Stop,
    flowing,
    kill_in_transaction,
    kill_twice,
    stop_until_fenced,
    storm,
)
from tests.harness import enriched, kept
from tests.harness.mixed import mixed, root_of
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until
from tests.harness.recount import Recount, recount
from tests.harness.recount_events import Logged, applied
from tests.streams.processing.test_recount import HOURS, estimate, normalise

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(900)]


class Size(msgspec.Struct, frozen=True):
    events: int
    per_second: float
    session_timeout_ms: int
    in_transaction: int
    """Kills inside an open transaction."""
    twice: int
    """Kills at any moment, each followed by one of the worker that starts after it."""
    rounds: int
    """Times that two more workers join and leave."""


FULL = Size(events=50_000, per_second=600, session_timeout_ms=6000, in_transaction=5, twice=2, rounds=4)
SMALL = Size(events=6000, per_second=300, session_timeout_ms=3000, in_transaction=1, twice=1, rounds=1)
SHARES = {"kill": 1, "twice": 1, "storm": 2, "stop": 2}
"""Shares of the load by what happens meanwhile. One more share follows undisturbed."""


def worker(pipeline: Pipeline, name: str, rng: random.Random) -> Child:
    """A supervisor of one worker with short intervals. It is not started yet."""
    env = {
        "TAILRACE_STREAMS_COMMIT_INTERVAL_MS": str(rng.choice([50, 100])),
        "TAILRACE_STREAMS_METRICS_INTERVAL_MS": "300",
        "TAILRACE_STREAMS_METRICS_HORIZON_HOURS": str(HOURS),
    }
    return pipeline.tailrace("process", "--instance-id", name, name=name, env=env)


def test_kills_a_storm_and_a_stop_leave_what_a_recount_of_the_log_says(
    broker: Broker, tmp_path: Path, seed: int, full: bool
) -> None:
    size = FULL if full else SMALL
    rng = random.Random(seed)
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, session_timeout_ms=size.session_timeout_ms)
    events = list(mixed(seed, size.events, time.time_ns() // 1000))
    residents = {name: worker(pipeline, name, rng) for name in ("first", "second")}
    guests = {name: worker(pipeline, name, rng) for name in ("third", "fourth")}
    plan = ["kill"] * size.in_transaction + ["twice"] * size.twice + ["storm", "stop"]
    rng.shuffle(plan)
    share = 1 / (1 + sum(SHARES[what] for what in plan))
    victims = [*residents] * len(
        plan
    )  # in turns: after each end a supervisor waits longer before it restarts
    kills: list[Kill] = []
    joins: list[Join] = []
    stops: list[Stop] = []
    alive = tuple(residents.values())
    with ExitStack() as stack:
        for child in alive:
            stack.enter_context(child)
        for child in guests.values():
            stack.callback(child.close)
        began = time.monotonic()
        feed = Feed(pipeline, events, size.per_second)
        for what in plan:
            feed.allow(SHARES[what] * share)
            flowing(pipeline, feed, alive)
            name = victims.pop()
            match what:
                case "kill":
                    kills.append(kill_in_transaction(pipeline, name, residents[name]))
                case "twice":
                    kills += kill_twice(pipeline, name, residents[name], rng)
                case "storm":
                    joins += storm(pipeline, guests, size.rounds, alive, rng)
                case "stop":
                    other = next(c for n, c in residents.items() if n != name)
                    stops.append(stop_until_fenced(pipeline, name, residents[name], other, rng))
            wait_until(feed.idle, 120, "the share is published", alive=alive)
        reports = feed.finish()
        published = time.monotonic() - began
        wait_until(
            lambda: pipeline.ledger_report().settled, 120, "all of the log is applied", alive=alive, every=0.2
        )
        log = kept.read_log(pipeline.bootstrap, pipeline.names.events)
        expected = recount(log, root_of=root_of, estimate=estimate, normalise=normalise, horizon_hours=HOURS)
        agree(pipeline, expected, alive)
        settled = time.monotonic() - began
        codes = [child.sigterm(60) for child in alive]
    assert codes == [0, 0], "\n".join(child.tail() for child in alive)

    logs = {name: child.log_path.read_text() for name, child in (residents | guests).items()}
    print(
        f"\nseed {seed}: {len(events)} events in {published:.0f} s, exact after {settled:.0f} s; "
        f"{' '.join(plan)}"
    )
    print(f"kills {len(kills)}, records in the open transaction / waiting:", *kills, sep="\n  ")
    print(f"joins {len(joins)}:", *joins, sep="\n  ")
    print("stops:", *stops, sep="\n  ")
    print(
        "take-overs:",
        sum(text.count(TAKEN) for text in logs.values()),
        "of",
        *(f"{name} {text.count(TAKEN)}" for name, text in logs.items()),
    )
    print(
        "workers ended:", dict(Counter(e for t in logs.values() for e in re.findall(r"ended \((.*?)\)", t)))
    )
    check_published(reports, log, len(events))
    check_enriched(pipeline, log)
    check_metrics(pipeline, expected)
    assert len(kills) == size.in_transaction + 2 * size.twice
    assert all(k.held and k.waiting for k in kills if k.when == "in a transaction")
    assert len(joins) == len(guests) * size.rounds
    assert all(s.seconds > size.session_timeout_ms / 1000 for s in stops)
    assert pipeline.ledger_report().balanced


def agree(pipeline: Pipeline, expected: Recount, alive: tuple[Child, ...]) -> None:
    """Waits until the topics say what the recount says.

    Rows are written at most metrics_interval_ms after their events.
    """
    differences: list[str] = []

    def same() -> bool:
        differences[:] = kept.compare(expected, kept.read_kept(pipeline.bootstrap, pipeline.names))
        return not differences

    try:
        wait_until(same, 60, "the topics are what the recount says", alive=alive, every=0.2)
    except AssertionError as e:
        raise AssertionError(
            "\n".join(["the topics differ from the recount:", *differences, str(e)])
        ) from None


def check_published(reports: list[DeliveryReport], log: list[Logged], events: int) -> None:
    """Every event was acknowledged, and is in the log where its report said."""
    assert len(reports) == events
    assert not [r for r in reports if not r.ok][:3]
    there = {(x.partition, x.offset): x.event.event_id for x in log}
    assert not [r for r in reports if there.get((r.partition, r.offset)) != r.event_id][:3]
    links = len(log) - events
    print(
        f"acked {len(reports)}, in the log {len(log)}: {links} links, {events - len(applied(log))} duplicates"
    )


def check_enriched(pipeline: Pipeline, log: list[Logged]) -> None:
    """Each applied event exactly once, in the log's order, its bytes unchanged, numbered without gaps."""
    topic = enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched)
    source = {
        (s.partition, s.offset): s for s in enriched.read_source(pipeline.bootstrap, pipeline.names.events)
    }
    assert all(r.context for r in topic.committed)
    found = [(r.partition, r.context.source_offset) for r in topic.committed if r.context]
    owed = Counter((x.partition, x.offset) for x in applied(log))
    counted = Counter(found)
    lost, twice = owed - counted, counted - owed
    altered = [
        (r.partition, r.offset)
        for place, r in zip(found, topic.committed, strict=True)
        if (s := source[place]).digest != r.digest or s.key != r.key
    ]
    gaps = enriched.sequence_gaps(topic.committed)
    in_order = {
        n: [r.context.source_offset for r in topic.committed if r.partition == n and r.context]
        for n in range(pipeline.settings.topics.partitions)
    }
    unsorted = [n for n, offsets in in_order.items() if offsets != sorted(offsets)]
    aborted = len(topic.uncommitted) - len(topic.committed)
    print(
        f"enriched {len(found)} of {owed.total()}: lost {lost.total()}, twice {twice.total()}, altered "
        f"{len(altered)}, "
        f"gaps {len(gaps)}; records of aborted transactions {aborted}"
    )
    assert (lost, twice, altered, gaps, unsorted) == (Counter(), Counter(), [], [], [])
    assert aborted > 0, "no kill hit a transaction"


def check_metrics(pipeline: Pipeline, expected: Recount) -> None:
    """Rows, totals, summaries and counts still equal the recount after the workers have ended."""
    found = kept.read_kept(pipeline.bootstrap, pipeline.names)
    differences = kept.compare(expected, found)
    positions = kept.last(kept.read_records(pipeline.bootstrap, pipeline.names.state))
    evicted = sum(
        decode_versioned(value, PartitionPosition).evicted
        for (_, key), value in positions.items()
        if key == b"p"
    )
    incomplete = sum(not s.complete for s in expected.summaries.values())
    print(
        f"rows {len(found.rows)} of {len(expected.rows)}, totals {len(found.totals)} of "
        f"{len(expected.totals)}, "
        f"summaries {len(found.summaries)} of {len(expected.summaries)} ({incomplete} without a root), "
        f"evicted {evicted}, differences {len(differences)}"
    )
    for n, counts in sorted(found.counts.items()):
        print(f"partition {n}: {counts}, must be {expected.counts[n]}")
    assert differences == []
    assert found.counts == expected.counts
    assert found.rows.keys() == expected.rows.keys()
    assert evicted == 0
    assert len(found.counts) == pipeline.settings.topics.partitions
    assert all(c.late and c.skewed and c.corrections for c in found.counts.values()), "the load has them all"
