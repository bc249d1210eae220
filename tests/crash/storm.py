"""A load in shares, and what happens to the workers that process it.

They are killed, stopped, and joined by others that leave again.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from tailrace import Publisher
from tailrace.delivery_reports import DeliveryReport
from tailrace.ledger.pipeline_identity import consumer_group
from tailrace.records import TraceEvent
from tests.crash.kills import TRICKLE, OpenTransactions, signalled, state_of, worker_of
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until

TAKEN: Final = "took over partitions"
"""What a worker logs when it takes over partitions."""
PATIENCE: Final = 20.0
"""Seconds that a worker that joins for a moment waits for partitions."""
STARTED: Final = "worker 0 started"
_TAKEN: Final = re.compile(TAKEN + r" \[([\d, ]+)\]")

_pause: Final = threading.Event()


class Feed:
    """Publishes events in a thread.

    What `allow` lets through is published at a steady pace, the rest at a trickle.
    """

    def __init__(self, pipeline: Pipeline, events: list[TraceEvent], per_second: float) -> None:
        self.reports: list[DeliveryReport] = []
        self._pipeline, self._events, self._per_second = pipeline, events, per_second
        self._allowed = self._done = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def allow(self, share: float) -> None:
        """Lets a share of all events through, in addition to what was allowed before."""
        self._allowed = min(len(self._events), self._allowed + round(share * len(self._events)))

    def idle(self) -> bool:
        """Whether all that was allowed is published. Raises what the thread raised."""
        if self._error is not None:
            raise self._error
        return self._done >= self._allowed

    def used_up(self) -> bool:
        return self.idle() and self._done == len(self._events)

    def finish(self, deadline: float = 120.0) -> list[DeliveryReport]:
        """Publishes the rest and waits for all reports."""
        self.allow(1.0)
        self._thread.join(deadline)
        assert not self._thread.is_alive(), (
            f"{self._done} of {len(self._events)} events published in {deadline:g} s"
        )
        self.idle()
        return self.reports

    def _run(self) -> None:
        try:
            with Publisher(settings=self._pipeline.settings) as publisher:
                due = time.monotonic()
                for event in self._events:
                    due = max(due, time.monotonic() - 0.1) + 1 / (
                        self._per_second if self._done < self._allowed else TRICKLE
                    )
                    if (ahead := due - time.monotonic()) > 0.005:
                        _pause.wait(ahead)
                    publisher.publish(event, self.reports.append)
                    self._done += 1
                assert publisher.flush(60), "events without a report"
        except BaseException as e:
            self._error = e


class Kill(msgspec.Struct, frozen=True):
    """SIGKILL to a worker."""

    of: str
    when: str
    held: int
    """Records of its open transaction."""
    waiting: int
    """Records of trace.events that no position had passed."""

    def __str__(self) -> str:
        return f"{self.of} {self.when} {self.held}/{self.waiting}"


class Join(msgspec.Struct, frozen=True):
    """A worker that joined for a moment."""

    of: str
    seconds: float
    took: bool
    """Whether it got partitions."""
    group: str
    """If it got none: the group's members and their partitions before it left."""

    def __str__(self) -> str:
        return f"{self.of} {self.seconds:.1f} s{'' if self.took else f', no partition: {self.group}'}"


class Stop(msgspec.Struct, frozen=True):
    """SIGSTOP to a worker, and SIGCONT when its partitions had another owner."""

    of: str
    held: int
    seconds: float
    ended_after: float
    """Seconds from SIGCONT to the end of the process."""

    def __str__(self) -> str:
        return (
            f"{self.of} for {self.seconds:.1f} s with {self.held} records open, ended {self.ended_after:.2f} "
            "s after"
        )


def waiting(pipeline: Pipeline) -> int:
    return sum(a.pending for a in pipeline.ledger_report().streams)


def flowing(pipeline: Pipeline, feed: Feed, alive: Iterable[Child]) -> None:
    """Waits until each partition has a living owner.

    That is when every worker has partitions, and then every partition has made progress.
    """
    wait_until(lambda: all(map(owning, alive)), 60, "every worker has partitions", alive=alive)
    before = {a.partition: a.events_in for a in pipeline.ledger_report().streams}

    def all_moved() -> bool:
        assert not feed.used_up(), "all events are published, and there is more to do"
        return all(a.events_in > before[a.partition] for a in pipeline.ledger_report().streams)

    wait_until(all_moved, 60, "every partition makes progress", alive=alive, every=0.1)


def owning(supervisor: Child) -> bool:
    """Whether the worker that runs now has taken over partitions."""
    return TAKEN in supervisor.output().rpartition(STARTED)[2]


def taken(text: str) -> set[int]:
    """Partitions that were taken over, by the log of a worker."""
    return {int(n) for found in _TAKEN.findall(text) for n in found.split(",")}


def freeze_in_transaction(
    pipeline: Pipeline, supervisor: Child, deadline: float = 60.0
) -> tuple[int, dict[int, int]]:
    """SIGSTOP to the worker while it has a transaction open.

    Every partition must have a living owner: then a transaction that stays open while others commit is the
    stopped worker's.

    Returns: its process id, and partition -> records in its transaction.
    """
    watch, until = OpenTransactions(pipeline, pipeline.names.enriched), time.monotonic() + deadline
    try:
        while time.monotonic() < until:
            pid = worker_of(supervisor)
            if not watch.open() or not signalled(pid, signal.SIGSTOP):
                continue
            _pause.wait(0.1)  # what it has sent arrives, a commit in flight ends
            held = watch.open()
            for _ in range(4):
                if not held:
                    break
                _pause.wait(0.1)
                held = dict(held.items() & watch.open().items())
            if held and state_of(pid) == "T":
                return pid, {n: records for n, (_, records) in held.items()}
            signalled(pid, signal.SIGCONT)
    finally:
        watch.close()
    raise AssertionError(
        f"no open transaction of {supervisor} was met within {deadline:g} s\n{supervisor.tail()}"
    )


def kill_in_transaction(pipeline: Pipeline, name: str, supervisor: Child) -> Kill:
    pid, held = freeze_in_transaction(pipeline, supervisor)
    behind = waiting(pipeline)
    os.kill(pid, signal.SIGKILL)
    return Kill(name, "in a transaction", sum(held.values()), behind)


def kill_at(
    pipeline: Pipeline, name: str, supervisor: Child, when: str, after: float, not_pid: int
) -> tuple[Kill, int]:
    """SIGKILL to a worker, `after` seconds from when it runs.

    Args:
        pipeline: the pipeline.
        name: the supervisor's name, for the report.
        supervisor: whose worker is killed.
        when: when that is, in words, for the report.
        after: seconds.
        not_pid: the worker that was killed before; its successor is waited for.

    Returns: the kill, and the worker's process id.
    """
    pid = successor(supervisor, not_pid)
    _pause.wait(after)
    assert signalled(pid, signal.SIGKILL), f"worker {pid} had ended\n{supervisor.tail()}"
    return Kill(name, when, 0, waiting(pipeline)), pid


def kill_twice(pipeline: Pipeline, name: str, supervisor: Child, rng: random.Random) -> list[Kill]:
    """SIGKILL at any moment, and again to the next worker while it starts, takes over or has just begun."""
    first, pid = kill_at(pipeline, name, supervisor, "at any moment", rng.uniform(0, 0.5), 0)
    second, _ = kill_at(pipeline, name, supervisor, "while it starts", rng.uniform(0, 3), pid)
    return [first, second]


def successor(supervisor: Child, pid: int) -> int:
    """The worker that runs after `pid`."""

    def other() -> int:
        found = worker_of(supervisor)
        return found if found != pid and state_of(found) not in ("", "Z") else 0

    return wait_until(other, 60, f"a worker runs after {pid}", alive=(supervisor,))


def stop_until_fenced(
    pipeline: Pipeline, name: str, supervisor: Child, other: Child, rng: random.Random
) -> Stop:
    """SIGSTOP inside a transaction until `other` has the partitions, and a moment longer.

    The fenced worker must then end by itself, and a new one must be started.
    """
    before = len(other.output())
    began = time.monotonic()
    pid, held = freeze_in_transaction(pipeline, supervisor)
    session = pipeline.settings.streams.session_timeout_ms / 1000
    wait_until(
        lambda: held.keys() <= taken(other.output()[before:]),
        session + 60,
        f"another takes over {[*held]}",
        alive=(supervisor, other),
    )
    _pause.wait(max(0.0, began + session + 0.5 - time.monotonic()) + rng.uniform(0, 2))
    continued = time.monotonic()
    assert state_of(pid) == "T"
    os.kill(pid, signal.SIGCONT)
    wait_until(
        lambda: state_of(pid) in ("", "Z"),
        60,
        f"the fenced worker {pid} ends by itself",
        alive=(supervisor,),
        every=0.01,
    )
    ended = time.monotonic()
    successor(supervisor, pid)
    return Stop(name, sum(held.values()), continued - began, ended - continued)


def storm(
    pipeline: Pipeline, guests: dict[str, Child], rounds: int, alive: tuple[Child, ...], rng: random.Random
) -> list[Join]:
    """Starts workers and ends them with SIGTERM, `rounds` times.

    Some end when they have partitions or have waited long enough for them, some at any moment.
    """
    found = []
    for _ in range(rounds):
        began = time.monotonic()
        for child in guests.values():
            child.start()
        for name, child in rng.sample(list(guests.items()), len(guests)):
            wait_until(_says(child, STARTED), 60, f"{name} has a worker", alive=(child, *alive))
            until = time.monotonic() + (PATIENCE if rng.random() < 0.6 else rng.uniform(0, 2.5))
            while time.monotonic() < until and not owning(child):
                _pause.wait(0.05)
            took = owning(child)
            group = "" if took else members(pipeline)
            assert child.sigterm(60) == 0, child.tail()
            found.append(Join(name, time.monotonic() - began, took, group))
    return found


def members(pipeline: Pipeline) -> str:
    """The consumer group as the broker sees it."""
    name = consumer_group(pipeline.settings)
    group = pipeline.admin.describe_consumer_groups([name])[name].result(30)
    held = {
        m.group_instance_id: [tp.partition for tp in m.assignment.topic_partitions] for m in group.members
    }
    return f"{group.state.name} {held}"


def _says(child: Child, text: str) -> Callable[[], bool]:
    return lambda: text in child.output()
