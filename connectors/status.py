"""What a running sink says about itself: counts since the process started, and how it stands now."""

from __future__ import annotations

from typing import Literal

import msgspec

from tailrace.ledger import Tally

State = Literal["waiting", "running", "stopping", "stopped", "failed"]
"""waiting: for the broker or the topics. stopping: draining. failed: ended by an error, see Status.error."""


class Counts(msgspec.Struct):
    """Records of one sink over all its partitions, by what became of them; only what is settled in offset order counts."""

    read: int = 0
    delivered: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    rejected_unidentified: int = 0
    """Part of delivered: not stored by the sink, which didn't say which."""
    retried: int = 0
    """Sends beyond a record's first."""
    gaps: int = 0
    """Sequence numbers that never came."""
    repeated: int = 0
    """Records whose sequence number had come before."""

    def add(self, tally: Tally) -> None:
        self.delivered += tally.delivered
        self.filtered += tally.filtered
        self.dead_lettered += tally.dead_lettered
        self.rejected_unidentified += tally.rejected_unidentified
        self.retried += tally.retried


class Status(msgspec.Struct, frozen=True):
    """One sink at one moment."""

    sink: str
    state: State
    partitions: int
    lag: int
    """Offsets behind the end, over the partitions of this process (transaction markers count); -1: not known yet."""
    in_flight: int
    """Records read and not settled."""
    counts: Counts
    requests: int
    retrying: int
    """Batches that wait for another try now."""
    paused: str
    """Why the sink is paused; empty: it isn't."""
    error: str

    def line(self) -> str:
        """For the log."""
        c = self.counts
        text = f"{self.sink}: {self.state}, {c.delivered} delivered, {c.filtered} filtered, {c.dead_lettered} dead-lettered"
        for label, n in (
            ("rejected unidentified", c.rejected_unidentified), ("sequence numbers lost", c.gaps), ("repeated", c.repeated),
            ("batches waiting to retry", self.retrying),
        ):  # fmt: skip
            text += f", {n} {label}" if n else ""
        lag = "unknown" if self.lag < 0 else str(self.lag)
        text += f"; {self.in_flight} in flight, lag {lag}, {self.partitions} partitions"
        return text + (f"; PAUSED: {self.paused}" if self.paused else "")
