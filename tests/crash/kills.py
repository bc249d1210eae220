"""Kills at the worst moments.

A worker dies inside an open transaction. A connector dies between "accepted" and "committed".
"""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time
import urllib.request
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import Consumer, TopicPartition

from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until

TRICKLE: Final = 30
"""Events a second beyond what is allowed, so that no pipeline is idle when something happens to it."""

_pause = threading.Event()


def worker_of(supervisor: Child) -> int:
    """Process id of the supervisor's only worker, once there is one."""
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
    return int(
        wait_until(
            lambda: children.read_text().split(), 30, "the supervisor has a worker", alive=(supervisor,)
        )[0]
    )


def state_of(pid: int) -> str:
    """The kernel's code for a process's state: T stopped, Z ended and not waited for, empty: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def signalled(pid: int, number: int) -> bool:
    """Sends a signal. False if the process has ended meanwhile."""
    if state_of(pid) in ("", "Z"):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class OpenTransactions:
    """Sees transactions on a topic while they are open: records beyond the last stable offset."""

    def __init__(self, pipeline: Pipeline, topic: str) -> None:
        self._partitions = [TopicPartition(topic, n) for n in range(pipeline.settings.topics.partitions)]
        self._readers = [
            Consumer(
                {
                    "bootstrap.servers": pipeline.bootstrap,
                    "group.id": "watch",
                    "isolation.level": level,
                    "enable.auto.commit": False,
                }
            )
            for level in ("read_uncommitted", "read_committed")
        ]

    def open(self) -> dict[int, tuple[int, int]]:
        """Partition with an open transaction -> last stable offset, and the records beyond it."""
        found = {}
        for tp in self._partitions:
            stable = self._readers[1].get_watermark_offsets(tp, timeout=10)[1]
            records = self._readers[0].get_watermark_offsets(tp, timeout=10)[1] - stable
            if records > 0:
                found[tp.partition] = stable, records
        return found

    def records(self) -> int:
        """Records of open transactions. 0 between transactions."""
        return sum(records for _, records in self.open().values())

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


def kill_in_transaction(pipeline: Pipeline, supervisor: Child, deadline: float = 60.0) -> tuple[int, int]:
    """SIGKILL to the worker while it has an open transaction and events wait.

    The worker is stopped first (SIGSTOP), to see that the transaction stays open and is not committed under
    the kill.

    Returns: records in the transaction, and events that waited.
    """
    watch, until, closed = OpenTransactions(pipeline, pipeline.names.enriched), time.monotonic() + deadline, 0
    try:
        while time.monotonic() < until:
            pid = worker_of(supervisor)
            if not watch.records():
                closed = pid  # later ones are this worker's, not left behind by a killed one
                continue
            if closed != pid or not signalled(pid, signal.SIGSTOP):
                continue
            _pause.wait(0.1)  # what it has sent arrives, a commit in flight ends
            held, lag = watch.records(), sum(a.pending for a in pipeline.ledger_report().streams)
            if held and lag and state_of(pid) == "T":
                os.kill(pid, signal.SIGKILL)
                return held, lag
            signalled(pid, signal.SIGCONT)
    finally:
        watch.close()
    raise AssertionError(f"no open transaction was met within {deadline:g} s\n{supervisor.tail()}")


def grown(endpoint: str, before: int) -> bool:
    return stored(endpoint) > before


class ConnectorKill(msgspec.Struct, frozen=True):
    lag: int
    """Enriched records that the group had not committed."""
    exposed: int
    """Of those, spans that the receiver held already: they will be sent again."""


def stored(endpoint: str) -> int:
    """Distinct spans that the receiver holds."""
    with urllib.request.urlopen(f"{endpoint}/stats", timeout=10) as answer:
        return int(json.load(answer)["distinct_spans"])


def kill_between_accepted_and_committed(
    pipeline: Pipeline, connector: Child, endpoint: str, deadline: float = 60.0
) -> ConnectorKill:
    """SIGKILL to the connector when the receiver has spans whose offsets are not committed.

    It is stopped first, as in `kill_in_transaction`.
    """
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        wait_until(
            functools.partial(grown, endpoint, stored(endpoint)),
            deadline,
            "the receiver gets spans",
            alive=(connector,),
            every=0.005,
        )
        connector.signal(signal.SIGSTOP)
        _pause.wait(0.1)
        report = pipeline.ledger_report()
        committed, lag = sum(a.delivered for a in report.sinks), sum(a.pending for a in report.sinks)
        exposed = stored(endpoint) - committed
        if exposed > 0 and lag:
            connector.sigkill()
            return ConnectorKill(lag, exposed)
        connector.signal(signal.SIGCONT)
    raise AssertionError(
        f"the connector committed all that was accepted for {deadline:g} s\n{connector.tail()}"
    )
