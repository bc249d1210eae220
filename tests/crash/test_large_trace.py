"""One trace of a hundred thousand operations.

Other partitions go on meanwhile, and the trace stays small in memory and in trace.state.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from streams.processing.operations import MOST
from tailrace import Publisher, codec
from tailrace.broker import Broker
from tailrace.partitioner import partition_of
from tailrace.records import Kind, TraceContext, TraceEvent, TraceSummary
from tests.crash.kills import worker_of
from tests.harness import enriched, kept
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until
from tests.streams.events import event, uuid

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(600)]

LARGE: Final = 1
"""Number of the large run."""
SMALL: Final = 5
"""Nodes of a small run."""
PACE: Final = 200
"""Events of small runs a second."""
BYTES_AN_OPERATION: Final = 200
LONGEST_RECORD: Final = 64 * 1024
MOST_GROWTH: Final = 200 * 1024 * 1024
LONGEST_WAIT: Final = 5.0
"""Seconds from log to log for an event of a small run meanwhile; or half of what the large run takes.

What was fetched of a busy partition is applied before what is fetched later of another.
"""

_pause: Final = threading.Event()


def node(run: int, n: int, now: int) -> TraceEvent:
    """Node `n` of a run: 15 tokens for a tenth of a cent, every hundredth failed."""
    failed = n % 100 == 0
    return event(
        n=n,
        run=run,
        started_at=now + n,
        ended_at=now + n + 1000,
        name=f"node {n}",
        node_type="llm",
        model_provider="openai",
        model_name="gpt-4o-mini",
        input_tokens=10,
        output_tokens=5,
        total_tokens=15,
        total_price="0.001",
        currency="USD",
        status="failed" if failed else "succeeded",
        error="it broke" if failed else None,
    )


def root(run: int, nodes: int, now: int) -> TraceEvent:
    return event(
        Kind.WORKFLOW_RUN,
        run=run,
        name="workflow",
        status="succeeded",
        started_at=now,
        ended_at=now + 2000 + nodes,
    )


class Smalls:
    """Publishes small runs to other partitions at a steady pace, in a thread."""

    def __init__(self, pipeline: Pipeline, avoid: int, now: int) -> None:
        self.published = 0
        self._pipeline, self._avoid, self._now = pipeline, avoid, now
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _events(self) -> Iterator[TraceEvent]:
        run = LARGE
        while True:
            run += 1
            if partition_of(uuid(run).encode(), self._pipeline.settings.topics.partitions) == self._avoid:
                continue
            yield from (node(run, n, self._now) for n in range(1, SMALL + 1))
            yield root(run, SMALL, self._now)

    def _run(self) -> None:
        try:
            with Publisher(settings=self._pipeline.settings) as publisher:
                for e in self._events():
                    if self._stop.wait(1 / PACE) and self.published % (SMALL + 1) == 0:
                        break
                    publisher.publish(e)
                    self.published += 1
                assert publisher.flush(60)
        except BaseException as e:
            self._error = e

    def __enter__(self) -> Smalls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        if self._error is not None:
            raise self._error


class Memory:
    """Resident bytes of a process, sampled."""

    def __init__(self) -> None:
        self.first = self.peak = 0


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@contextmanager
def measured(pid: int) -> Iterator[Memory]:
    memory, stop = Memory(), threading.Event()
    memory.first = memory.peak = resident(pid)

    def sample() -> None:
        while not stop.wait(0.05):
            memory.peak = max(memory.peak, resident(pid))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        stop.set()
        thread.join()


def publish_large(pipeline: Pipeline, nodes: int, now: int) -> None:
    with Publisher(settings=pipeline.settings) as publisher:
        for n in range(1, nodes + 1):
            publisher.publish(node(LARGE, n, now))
        publisher.publish(root(LARGE, nodes, now))
    assert publisher.counts.delivered == nodes + 1


def summary_of(pipeline: Pipeline, revision: int, alive: tuple[Child, ...]) -> TraceSummary:
    """The large trace's summary, once it counts `revision` events."""

    def there() -> TraceSummary | None:
        found = kept.read_kept(pipeline.bootstrap, pipeline.names).summaries
        large = [s for (trace, _, _), s in found.items() if trace == uuid(LARGE)]
        return large[0] if len(large) == 1 and large[0].revision == revision else None

    found = wait_until(there, 60, f"the summary counts {revision} events", alive=alive, every=0.5)
    assert found is not None
    return found


def check_summary(s: TraceSummary, nodes: int, now: int) -> None:
    assert (s.complete, s.truncated, s.name, s.status) == (True, True, "workflow", "succeeded")
    assert dict(s.counts) == {"node_execution": nodes, "workflow_run": 1}
    assert (s.input_tokens, s.output_tokens, s.total_tokens) == (10 * nodes, 5 * nodes, 15 * nodes)
    assert {c: Decimal(v) for c, v in s.cost.items()} == {"USD": Decimal(nodes) / 1000}
    assert (s.errors, s.first_error, s.cost_estimated) == (nodes // 100, "it broke", False)
    assert (s.started_at, s.ended_at) == (now, max(now + 2000 + nodes, now + nodes + 1000))
    assert len(s.slowest) == 5


def test_a_large_trace_delays_no_other_partition_and_stays_small(
    broker: Broker, tmp_path: Path, full: bool
) -> None:
    nodes = 100_000 if full else 2 * MOST
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    now = time.time_ns() // 1000
    home = partition_of(uuid(LARGE).encode(), pipeline.settings.topics.partitions)
    with pipeline.process() as process:
        with Smalls(pipeline, home, now) as smalls:
            pipeline.wait_for_enriched(2 * PACE, alive=(process,))  # warmed up
            worker = worker_of(process)
            with measured(worker) as memory:
                began = time.monotonic()
                publish_large(pipeline, nodes, now)

                def all_of_it() -> bool:
                    return pipeline.ledger_report().streams[home].enriched == nodes + 1

                wait_until(all_of_it, 300, "the large trace is enriched", alive=(process,), every=0.2)
                seconds = time.monotonic() - began
        total = nodes + 1 + smalls.published
        pipeline.wait_for_enriched(total, alive=(process,))
        summary = summary_of(pipeline, nodes + 1, (process,))
        assert worker_of(process) == worker
        assert process.sigterm(60) == 0, process.tail()
    check_summary(summary, nodes, now)

    during, waits = meanwhile(pipeline, home)
    sizes = [
        len(m.value() or b"")
        for m in enriched.read(pipeline.bootstrap, pipeline.names.state, committed=True)[0]
        if m.key() == b"t/" + uuid(LARGE).encode() or m.key().startswith(b"o/" + uuid(LARGE).encode())
    ]
    growth = memory.peak - memory.first
    print(
        f"\n{nodes} operations in {seconds:.1f} s; of {smalls.published} events of other partitions {during} "
        "were enriched meanwhile, "
        f"after {waits[len(waits) // 2]} ms (median), {waits[-1]} ms at most"
    )
    print(
        f"trace.state: {len(sizes)} records of {sum(sizes)} bytes, {sum(sizes) / nodes:.0f} an operation, "
        f"longest {max(sizes)}; "
        f"worker {memory.first >> 20} MiB, {growth >> 20} MiB more at most"
    )
    assert during >= 10, "other partitions waited for the large trace"
    assert waits[-1] < 1000 * max(LONGEST_WAIT, seconds / 2)
    assert sum(sizes) < nodes * BYTES_AN_OPERATION
    assert max(sizes) <= LONGEST_RECORD
    assert growth < MOST_GROWTH
    resumed(pipeline, nodes, now, total)


def meanwhile(pipeline: Pipeline, home: int) -> tuple[int, list[int]]:
    """What other partitions did while the large trace was enriched.

    Returns: how many of their records were written meanwhile, and how long those waited that were published
    between its first event and its last record: milliseconds from append to append, sorted.
    """
    messages, _ = enriched.read(pipeline.bootstrap, pipeline.names.enriched, committed=True)
    large = [m for m in messages if m.partition() == home]
    first, last = large[0].timestamp()[1], large[-1].timestamp()[1]
    begun = context_of(large[0]).appended_at
    others = [(m.timestamp()[1], context_of(m).appended_at) for m in messages if m.partition() != home]
    during = sum(first <= stamp <= last for stamp, _ in others)
    return during, sorted(stamp - appended for stamp, appended in others if begun <= appended <= last)


def context_of(message: Any) -> TraceContext:
    return codec.decode(message.headers()[0][1], TraceContext)


def resumed(pipeline: Pipeline, nodes: int, now: int, total: int) -> None:
    """The next worker takes over the large trace and adds to it."""
    with Publisher(settings=pipeline.settings) as publisher:
        publisher.publish(node(LARGE, nodes + 1, now))
    with pipeline.process() as process:
        pipeline.wait_for_enriched(total + 1, alive=(process,))
        s = summary_of(pipeline, nodes + 2, (process,))
        assert process.sigterm(60) == 0, process.tail()
    assert s.counts["node_execution"] == nodes + 1
    assert (s.complete, s.truncated, s.total_tokens) == (True, True, 15 * (nodes + 1))
