"""What a running sink says about itself: counts since the process started, and how it stands now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from tailrace.ledger.sink_ledger import Tally

REASONS: Final = 50
"""Reasons that are told apart; a sink gives few."""

State = Literal["waiting", "running", "stopping", "stopped", "failed"]
"""waiting: for the broker or the topics. stopping: draining. failed: ended by an error, see Status.error."""


_CLASS: Final = re.compile(r"[a-z][a-z_]{0,39}(?![a-z_])")


def pause_class(paused: str) -> str:
    """The kind of reason that a pause has, as a label: its first word, since what follows may be a vendor's
    message."""
    found = _CLASS.match(paused)
    return found.group() if found else "other"


class SinkCounts(msgspec.Struct):
    """Records of one sink over all its partitions, by outcome; only what is settled in offset
    order counts."""

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
    filtered_by: dict[str, int] = {}
    """Reason -> filtered; reasons beyond the first `REASONS` as `other`."""
    dead_lettered_by: dict[str, int] = {}

    def add(self, tally: Tally, reasons: Mapping[tuple[str, str], int] = MappingProxyType({})) -> None:
        """reasons: see `OffsetTracker.reasons`."""
        self.delivered += tally.delivered
        self.filtered += tally.filtered
        self.dead_lettered += tally.dead_lettered
        self.rejected_unidentified += tally.rejected_unidentified
        self.retried += tally.retried
        for (outcome, reason), n in reasons.items():
            by = self.filtered_by if outcome == "filtered" else self.dead_lettered_by
            name = reason if reason in by or len(by) < REASONS else "other"
            by[name] = by.get(name, 0) + n

    def copy(self) -> SinkCounts:
        """As it is now; from any thread."""
        return msgspec.structs.replace(
            self, filtered_by=self.filtered_by.copy(), dead_lettered_by=self.dead_lettered_by.copy()
        )


class Status(msgspec.Struct, frozen=True):
    """One sink at one moment."""

    sink: str
    state: State
    partitions: int
    lag: int
    """Offsets behind the end, over the partitions of this process (transaction markers count); -1: not known
    yet."""
    in_flight: int
    """Records read and not settled."""
    counts: SinkCounts
    requests: int
    retrying: int
    """Batches that wait for another try now."""
    paused: str
    """Why the sink is paused; empty: it isn't."""
    error: str
    limited: int = 0
    """Requests that wait for a rate limit now."""

    def line(self) -> str:
        """For the log."""
        c = self.counts
        text = (
            f"{self.sink}: {self.state}, {c.delivered} delivered, {c.filtered} filtered, {c.dead_lettered} "
            "dead-lettered"
        )
        for label, n in (
            ("rejected unidentified", c.rejected_unidentified),
            ("sequence numbers lost", c.gaps),
            ("repeated", c.repeated),
            ("batches waiting to retry", self.retrying),
            ("requests waiting for a rate limit", self.limited),
        ):
            text += f", {n} {label}" if n else ""
        lag = "unknown" if self.lag < 0 else str(self.lag)
        text += f"; {self.in_flight} in flight, lag {lag}, {self.partitions} partitions"
        return text + (f"; PAUSED: {self.paused}" if self.paused else "")
