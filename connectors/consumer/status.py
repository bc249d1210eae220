"""The status of a running sink: its counts since the process started, and its current state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from tailrace.ledger.sink_ledger import Tally

REASONS: Final = 50
"""Most reasons that are counted separately."""

State = Literal["waiting", "running", "stopping", "stopped", "failed"]
"""waiting: for broker or topics. stopping: draining. failed: ended by an error, see `Status.error`."""

_CLASS: Final = re.compile(r"[a-z][a-z_]{0,39}(?![a-z_])")


def pause_class(paused: str) -> str:
    """The first word of a pause's reason, as a metric label; `other` if it is not a plain word.

    The rest of the reason may be a vendor's message.
    """
    word = _CLASS.match(paused)
    return word.group() if word else "other"


class SinkCounts(msgspec.Struct):
    """Counts of one sink over all its partitions.

    A record's outcome counts once the record is in the acknowledged prefix of its partition.
    """

    read: int = 0
    delivered: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    rejected_unidentified: int = 0
    """Part of `delivered`: not stored by the vendor, which did not say which records."""
    retried: int = 0
    """Times that records were sent again."""
    gaps: int = 0
    """Sequence numbers that never came."""
    repeated: int = 0
    """Records whose sequence number had come before."""
    rehydrated: int = 0
    """Records that got their content back from the content store."""
    incomplete: int = 0
    """Records that went on without content that they refer to."""
    incomplete_by: dict[str, int] = {}
    """Reason -> incomplete records."""
    filtered_by: dict[str, int] = {}
    """Reason -> filtered records. Reasons beyond the first `REASONS` count as `other`."""
    dead_lettered_by: dict[str, int] = {}
    """Reason -> dead-lettered records, in the same way."""

    def add(self, tally: Tally, reasons: Mapping[tuple[str, str], int] = MappingProxyType({})) -> None:
        """Adds the counts of acknowledged records.

        Args:
            tally: The counts.
            reasons: As `OffsetTracker.reasons`.
        """
        self.delivered += tally.delivered
        self.filtered += tally.filtered
        self.dead_lettered += tally.dead_lettered
        self.rejected_unidentified += tally.rejected_unidentified
        self.retried += tally.retried
        for (outcome, reason), n in reasons.items():
            by = self.filtered_by if outcome == "filtered" else self.dead_lettered_by
            name = reason if reason in by or len(by) < REASONS else "other"
            by[name] = by.get(name, 0) + n

    def content(self, reason: str | None) -> None:
        """Counts a record with references to stored content.

        Args:
            reason: Why content is missing (`connectors.content.refs.REASONS`); None: all of it came.
        """
        if reason is None:
            self.rehydrated += 1
            return
        self.incomplete += 1
        self.incomplete_by[reason] = self.incomplete_by.get(reason, 0) + 1

    def copy(self) -> SinkCounts:
        """A copy of the current counts. May be called from any thread."""
        return msgspec.structs.replace(
            self,
            filtered_by=self.filtered_by.copy(),
            dead_lettered_by=self.dead_lettered_by.copy(),
            incomplete_by=self.incomplete_by.copy(),
        )


class Status(msgspec.Struct, frozen=True):
    """The status of one sink at one moment."""

    sink: str
    state: State
    partitions: int
    lag: int
    """Offsets up to the ends of this process's partitions, transaction markers included; -1: not known."""
    in_flight: int
    """Records that were read and are not acknowledged."""
    counts: SinkCounts
    requests: int
    """Calls of the sink's `send` since the process started."""
    retrying: int
    """Batches that wait to be sent again now."""
    paused: str
    """Why the sink is paused; empty if it is not."""
    error: str
    """Why the sink failed; empty if it did not."""
    limited: int = 0
    """Requests that wait for a rate limit now."""

    def line(self) -> str:
        """The status as one line, for the log."""
        c = self.counts
        text = (
            f"{self.sink}: {self.state}, {c.delivered} delivered, {c.filtered} filtered, {c.dead_lettered} "
            "dead-lettered"
        )
        for label, n in (
            ("rejected unidentified", c.rejected_unidentified),
            ("sequence numbers lost", c.gaps),
            ("repeated", c.repeated),
            ("without their stored content", c.incomplete),
            ("batches waiting to retry", self.retrying),
            ("requests waiting for a rate limit", self.limited),
        ):
            text += f", {n} {label}" if n else ""
        lag = "unknown" if self.lag < 0 else str(self.lag)
        text += f"; {self.in_flight} in flight, lag {lag}, {self.partitions} partitions"
        return text + (f"; PAUSED: {self.paused}" if self.paused else "")
