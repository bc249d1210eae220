"""A load that is a function of its seed, published at a steady pace.

An event becomes an obligation when its delivery report is a success.

    python -m tests.harness.load --bootstrap 127.0.0.1:9092 --seed 7 --events 20000 --seconds 30 --ledger x
"""

from __future__ import annotations

import argparse
import functools
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from tailrace.errors import QueueFull
from tailrace.publisher import Publisher
from tailrace.records import Kind, NodeExecution, Span, SpanKind, TraceEvent, WorkflowRun
from tests.harness.ledger import Ledger, event_id_of

NODE_TYPES: Final = (
    "start",
    "knowledge-retrieval",
    "llm",
    "iteration",
    "code",
    "http-request",
    "if-else",
    "tool",
    "template-transform",
    "end",
)
"""Nodes of a run, in order. The fifth and sixth run inside the iteration; the llm has one span of its own."""
_LLM, _ITERATION, _INSIDE = 3, 4, (5, 6)
SLOTS: Final = (1, 2, -_LLM, 3, 5, 6, 4, 7, 8, 9, 10, 0)
"""Order of a run's events: node n, -n the span inside node n, 0 the run. Children first, the run last."""
PER_RUN: Final = len(SLOTS)
TOGETHER: Final = 8
"""Runs at the same time, their events interleaved."""
_BLOCK: Final = PER_RUN * TOGETHER
_FIXED: Final = {Kind.WORKFLOW_RUN: 460, Kind.NODE_EXECUTION: 490, Kind.SPAN: 480}
"""Bytes of an encoded event without its text."""
WORDS: Final = (
    "answer",
    "broker",
    "context",
    "delivery",
    "embedding",
    "forecast",
    "gateway",
    "harbour",
    "invoice",
    "journal",
    "kernel",
    "ledger",
    "measure",
    "network",
    "offset",
    "partition",
    "question",
    "replay",
    "stream",
    "token",
    "upstream",
    "vector",
    "weather",
    "yield",
    "a",
    "of",
    "the",
    "is",
    "to",
    "42",
    "3.14",
    "naïve",
    "Zürich",
    "日本語",
    "😀",
    '"quoted"',
    "back\\slash",
    "new\nline",
    "tab\tbed",
    "<html>&amp;</html>",
    "{}",
    "null",
)
_WORD_BYTES: Final = sum(len(w.encode()) + 1 for w in WORDS) / len(WORDS)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """`events` events in `seconds` seconds of wall time. 0 seconds: as fast as possible.

    An event is a function of the load's name, its seed and its index, except for what the publisher adds
    (host, time of publication).
    """

    seed: int
    events: int
    seconds: float = 0.0
    name: str = "load"
    event_bytes: int = 1000
    """Average encoded size. An event may be a quarter smaller or larger."""
    started_at: int = 1_767_225_600_000_000
    """Start of the first run, microseconds UTC. Use the current time if a backend refuses old spans."""


def position(load: Load, i: int) -> tuple[int, int]:
    """Run and slot of event `i`.

    The last block is incomplete and not interleaved, so that at most one run is incomplete.
    """
    block, at = divmod(i, _BLOCK)
    if (block + 1) * _BLOCK <= load.events:
        return block * TOGETHER + at % TOGETHER, SLOTS[at // TOGETHER]
    return block * TOGETHER + at // PER_RUN, SLOTS[at % PER_RUN]


def _uuid(load: Load, *what: str | int) -> str:
    digest = blake2b("\0".join(map(str, (load.name, load.seed, *what))).encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def _text(rng: random.Random, size: float) -> str:
    """A text of about `size` bytes."""
    return " ".join(rng.choices(WORDS, k=max(1, round(size / _WORD_BYTES))))


def event_at(load: Load, i: int) -> TraceEvent:
    """Event `i` of the load."""
    run, slot = position(load, i)
    run_id = _uuid(load, "run", run)
    shape = random.Random(f"{load.name}/{load.seed}/{run}")
    rng = random.Random(f"{load.name}/{load.seed}/{run}/{slot}")
    begin = load.started_at + run * 100_000
    kind = Kind.WORKFLOW_RUN if slot == 0 else Kind.NODE_EXECUTION if slot > 0 else Kind.SPAN
    text = (load.event_bytes - _FIXED[kind]) * rng.uniform(0.8, 1.2)
    failed = slot != 0 and rng.random() < 0.03
    common = TraceEvent(
        kind=kind,
        workflow_run_id=run_id,
        tenant_id=_uuid(load, "tenant", shape.randrange(3)),
        app_id=_uuid(load, "app", shape.randrange(5)),
        user_id=f"user-{shape.randrange(1000)}",
        environment="test",
        started_at=begin,
        ended_at=begin,
        status="failed" if failed else "succeeded",
        error="it broke: Zeitüberschreitung" if failed else None,
        invoke_from="api",
        inputs={"query": _text(rng, text * 0.3)},
        outputs={"text": _text(rng, text * 0.7)},
    )
    change = msgspec.structs.replace
    workflow_id = _uuid(load, "workflow", shape.randrange(5))
    if slot == 0:
        tokens = rng.randrange(50, 5000)
        return change(
            common,
            name="workflow",
            ended_at=begin + 1_100_000,
            total_tokens=tokens,
            workflow_run=WorkflowRun(
                workflow_id=workflow_id, workflow_version="1", elapsed_time=1_100_000, steps=len(NODE_TYPES)
            ),
        )
    started = begin + abs(slot) * 100_000 + rng.randrange(1000)
    took = rng.randrange(1000, 90_000)
    if slot < 0:
        return change(
            common,
            source_id=_uuid(load, "span", run, slot),
            parent_id=_uuid(load, "node", run, -slot),
            name="chat completion",
            started_at=started,
            ended_at=started + took,
            span_kind=SpanKind.LLM,
            model_provider="openai",
            model_name="gpt-4o",
            input_tokens=rng.randrange(10, 4000),
            output_tokens=rng.randrange(1, 1000),
            span=Span(otel_kind="client", finish_reason="stop"),
        )
    node_type = NODE_TYPES[slot - 1]
    return change(
        common,
        source_id=_uuid(load, "node", run, slot),
        parent_id=_uuid(load, "node", run, _ITERATION) if slot in _INSIDE else None,
        name=f"{node_type} {slot}",
        started_at=started,
        ended_at=started + took,
        node_type=node_type,
        tool_name="search" if node_type == "tool" else None,
        node_execution=NodeExecution(
            node_id=f"node-{slot}",
            workflow_id=workflow_id,
            index=slot,
            predecessor_node_id=f"node-{slot - 1}" if slot > 1 else None,
            iteration_id=f"node-{_ITERATION}" if slot in _INSIDE else None,
            elapsed_time=took,
        ),
    )


def events(load: Load) -> Iterator[TraceEvent]:
    """All events of the load, in order."""
    return (event_at(load, i) for i in range(load.events))


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """How a load was published."""

    published: int
    """Events handed to the publisher; fewer than the load's if it was stopped."""
    acked: int
    unacked: int
    seconds: float
    latest: float
    """Largest delay against its pace, in seconds."""


def publish(
    load: Load,
    publisher: Publisher,
    ledger: Ledger,
    *,
    stop: threading.Event | None = None,
    settle_seconds: float = 120.0,
    hold: Callable[[int], float] | None = None,
) -> Published:
    """Publishes the load at its pace and waits for every report.

    An event without a report after `settle_seconds` is noted as unacked. If the queue is full, it waits.
    Raises AssertionError if the publisher gives an event another id than the contract says.

    Args:
        load: the load.
        publisher: publishes it.
        ledger: notes obligations.
        settle_seconds: seconds after the last event.
        stop: ends the load early.
        hold: index of an event -> seconds that it waits in addition. All later events are shifted by them.
    """
    stop = stop or threading.Event()
    began, latest, done = time.monotonic(), 0.0, 0
    acked, unacked = ledger.acked, ledger.unacked
    ledger.started(load.name, load.seed, load.events)
    held = 0.0
    for i, event in enumerate(events(load)):
        held += hold(i) if hold else 0.0
        ahead = began + held + i * load.seconds / load.events - time.monotonic()
        if stop.is_set() or (ahead > 0.002 and stop.wait(ahead)):
            break
        if load.seconds:
            latest = max(latest, -ahead)
        if not _publish_one(publisher, event, functools.partial(ledger.report, event, i, load.seed), stop):
            break
        done += 1
    for event_id in publisher.flush(settle_seconds).undelivered:
        ledger.not_acked(event_id, f"no report after {settle_seconds:g} s")
    return Published(
        published=done,
        acked=ledger.acked - acked,
        unacked=ledger.unacked - unacked,
        seconds=time.monotonic() - began,
        latest=latest,
    )


def _publish_one(
    publisher: Publisher, event: TraceEvent, report: functools.partial[None], stop: threading.Event
) -> bool:
    while True:
        try:
            given = publisher.publish(event, report)
        except QueueFull:
            if stop.wait(0.1):
                return False
            continue
        if given != event_id_of(event):
            raise AssertionError(
                f"{event.kind} {event.source_id} was given the id {given}, must be {event_id_of(event)}"
            )
        return True


def probe(publisher: Publisher, ledger: Ledger, seed: int, number: int = 0) -> Published:
    """One complete new run, published at once. It must still get through when the faults are over."""
    return publish(Load(seed=seed, events=PER_RUN, name=f"probe-{number}"), publisher, ledger)


def main() -> None:
    p = argparse.ArgumentParser(description="Publish a load and keep its ledger.")
    p.add_argument("--bootstrap", required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--events", type=int, default=20_000)
    p.add_argument("--seconds", type=float, default=0.0)
    p.add_argument("--name", default="load")
    p.add_argument("--now", action="store_true", help="runs start now, not on a fixed day")
    p.add_argument("--ledger", type=Path, required=True)
    a = p.parse_args()
    load = Load(seed=a.seed, events=a.events, seconds=a.seconds, name=a.name)
    if a.now:
        load = msgspec.structs.replace(load, started_at=time.time_ns() // 1000)
    with Ledger(a.ledger) as ledger, Publisher(a.bootstrap) as publisher:
        print(msgspec.json.encode(publish(load, publisher, ledger)).decode(), flush=True)


if __name__ == "__main__":
    main()
