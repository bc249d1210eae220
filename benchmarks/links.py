"""The cost of links: turns of a chatflow applied with and without them, µs of CPU per event.

    python benchmarks/links.py [--turns 4000] [--rounds 9] [--json]

It runs in one process, without a broker. A turn is ten node events, their workflow run and the message,
keyed by the message. The run is not the trace's key, so each run sends one link to the run's own
partition. Two parts are measured. Creating links, at the partition that sees the turn: with and without
links, unit by unit in turns; reported are the median of the differences and, for a machine that others
use, the difference of each unit's quickest rounds. Applying the link records, where they arrive. State
is collected as often as a unit is committed, and its limits are so low that traces expire and links are
dropped during the run.

"Without" means that the rule that asks for a link always returns None; its call stays. Not included:
what Kafka's client needs for the link's record and its state records, whose number and size are
printed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from benchmarks.stream_load import text
from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.limits import StateLimits
from streams.processing.state import State
from tailrace import Kind, Message, NodeExecution, TraceEvent, WorkflowRun, codec
from tailrace.identity import complete, kafka_key
from tailrace.processes import collect_seldom

NODES = 10
TURN = NODES + 2
UNIT = 1200
"""Records per unit of work: 100 turns."""
UNIT_MS = 100
NOW = 1_763_700_000_000
KEPT = 10
"""Units for which traces and links are kept."""
LIMITS = StateLimits(
    idle_ms=KEPT * UNIT_MS,
    max_traces=200_000,
    dedupe_ms=3_600_000,
    start_bytes=KEPT * UNIT // TURN * 32,
    link_bytes=KEPT * UNIT // TURN * 600,
)
VALUE = 2_000_000


class Source(NamedTuple):
    """A record as the consumer passes it on."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes


def turns(count: int) -> Iterator[TraceEvent]:
    """Turns of a chatflow, in the order in which the engine ends things: nodes, run, message."""
    for turn in range(count):
        run, message = f"{turn:08x}-0000-4000-8000-{turn:012x}", f"{turn:08x}-0000-4000-9000-{turn:012x}"
        for n in range(TURN):
            at = NOW * 1000 + turn * 5000 + n
            about: dict[str, Any] = {
                "message_id": message,
                "started_at": at,
                "ended_at": at + 1000,
                "tenant_id": f"tenant-{turn % 20}",
                "app_id": f"app-{turn % 50}",
                "app_name": f"App {turn % 50}",
                "user_id": f"user-{turn % 1000}",
                "conversation_id": f"c-{turn % 500}",
                "status": "succeeded",
                "inputs": {"query": text(turn + n, 28)},
                "outputs": {"text": text(turn + n + 1, 28)},
            }
            if n < NODES:
                own = {"source_id": f"{turn:08x}-{n:04x}-4000-a000-{turn:012x}", "workflow_run_id": run}
                body: dict[str, Any] = {
                    "node_execution": NodeExecution(node_id=f"n{n}", index=n + 1),
                    "node_type": "llm",
                }
                yield msgspec.convert({"kind": Kind.NODE_EXECUTION, **own, **body, **about}, TraceEvent)
            elif n == NODES:
                body = {"workflow_run": WorkflowRun(workflow_id=f"w-{turn % 50}", steps=NODES)}
                yield msgspec.convert(
                    {"kind": Kind.WORKFLOW_RUN, "workflow_run_id": run, **body, **about}, TraceEvent
                )
            else:
                yield msgspec.convert({"kind": Kind.MESSAGE, "message": Message(), **about}, TraceEvent)


def sources(records: Iterable[tuple[bytes, bytes]], each: int = UNIT) -> list[list[Source]]:
    """Records in units, `UNIT_MS` apart."""
    found: list[list[Source]] = []
    for offset, (key, value) in enumerate(records):
        if offset % each == 0:
            found.append([])
        found[-1].append(Source(offset, NOW + (offset // each) * UNIT_MS, key, value))
    return found


class Side:
    """A timed owner of a partition."""

    def __init__(self, linked: bool = True) -> None:
        self._state, self._applier = (
            State(LIMITS),
            EventProcessor("trace.events", 0, VALUE, VALUE, link_runs=linked),
        )
        self._state.next_offset = 0
        self.links: list[tuple[bytes, bytes]] = []
        self.stored: list[bytes | None] = []
        """State records of links; None is a tombstone."""

    def work(self, records: list[Source]) -> float:
        """Applies a unit and collects the state's changes, as for a commit; returns seconds of CPU."""
        unit = TransactionBatch()
        began = time.process_time()
        self._applier.apply(self._state, records, unit)
        changes = self._state.close(flush=False).state
        took = time.process_time() - began
        assert not unit.dead_letters
        self.links += unit.links
        self.stored += [v for k, v in changes if k.startswith(b"l/")]
        return took


def both(units: list[list[Source]], turn: int = 0) -> tuple[Side, list[tuple[float, float]]]:
    """Runs every unit with and without links, one after the other.

    So a slow moment of the machine affects both. Returns the side with links, and both times of each
    unit once something expires in each.

    Args:
        turn: decides which side begins; it alternates with `turn` and with each unit.
    """
    linked, bare = Side(), Side(linked=False)
    times = []
    gc.collect()
    for i, records in enumerate(units):
        if (i + turn) % 2:
            a = linked.work(records)
            b = bare.work(records)
        else:
            b = bare.work(records)
            a = linked.work(records)
        times.append((a / len(records) * 1e6, b / len(records) * 1e6))
    assert not bare.links
    return linked, times[KEPT + 1 :]


def alone(units: list[list[Source]]) -> tuple[Side, list[float]]:
    """Applies units of link records: the time of each, per event that they link."""
    side = Side()
    gc.collect()
    times = [side.work(records) / (len(records) * TURN) * 1e6 for records in units]
    return side, times[KEPT + 1 :]


def quickest(rounds: list[list[float]]) -> float:
    """The mean over units of each one's quickest round: the least disturbed by other processes."""
    least: list[float] = [min(times) for times in zip(*rounds, strict=True)]
    return statistics.mean(least)


def main() -> None:
    parser = argparse.ArgumentParser(description="µs of CPU per event that links cost.")
    parser.add_argument("--turns", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=9, help="with and without, each")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if (least := (KEPT + 5) * UNIT // TURN) > args.turns:
        parser.error(f"--turns: at least {least}, or nothing expires")

    collect_seldom()  # as a worker does
    done = [complete(e, NOW * 1000) for e in turns(args.turns)]
    n = len(done)
    units = sources(((kafka_key(e) or "").encode(), codec.encode(e)) for e in done)
    linked, _ = both(units)  # also warms up
    assert len(linked.links) == args.turns
    arriving = sources(linked.links, UNIT // TURN)

    rounds, received = [], []
    for turn in range(args.rounds):
        rounds.append(both(units, turn)[1])
        owner, times = alone(arriving)
        received.append(times)
    pairs = [pair for found in rounds for pair in found]
    apart = statistics.quantiles((a - b for a, b in pairs), n=4)
    there = statistics.quantiles((t for found in received for t in found), n=4)
    sent, arrived = apart[1], there[1]
    quick_sent = quickest([[a for a, _ in found] for found in rounds]) - quickest(
        [[b for _, b in found] for found in rounds]
    )
    quick_arrived = quickest(received)
    written = [v for v in owner.stored if v is not None]
    rows = {
        "with": statistics.median(a for a, _ in pairs),
        "without": statistics.median(b for _, b in pairs),
        "sent": sent,
        "received": arrived,
        "total": sent + arrived,
        "quickest_sent": quick_sent,
        "quickest_received": quick_arrived,
    }
    machine = f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
    if args.json:
        print(json.dumps({"machine": machine, "events": n, "us": rows, "pairs": pairs}))
        return
    print(
        f"{machine}; {args.turns} turns of {TURN} events, {args.rounds} rounds, {len(pairs)} pairs of units"
    )
    print(f"{'µs CPU an event':<44}{'median':>10}{'middle half':>18}{'quickest':>12}")
    print(f"{'applied with links':<44}{rows['with']:>10.2f}")
    print(f"{'applied without links':<44}{rows['without']:>10.2f}")
    for name, (low, middle, high), quick in (
        ("links made (paired differences)", apart, quick_sent),
        ("link records applied where they arrive", there, quick_arrived),
    ):
        print(f"{name:<44}{middle:>10.2f}{low:>9.2f} to {high:>5.2f}{quick:>12.2f}")
    print(f"{'both':<44}{sent + arrived:>10.2f}{'':>18}{quick_sent + quick_arrived:>12.2f}")
    print(
        f"a run: 1 link record of {sum(len(v) for _, v in linked.links) // args.turns} B, "
        f"{len(written) / args.turns:.1f} state record of {sum(map(len, written)) // len(written)} B, "
        f"{(len(owner.stored) - len(written)) / args.turns:.1f} tombstone"
    )


if __name__ == "__main__":
    main()
