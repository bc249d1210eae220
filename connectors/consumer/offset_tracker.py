"""Tracks which records of a partition were read and acknowledged, and which offset may be committed. Pure.

A record is acknowledged when it needs no more work: it was delivered or filtered, or its dead letter is
written.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from tailrace.ledger.sink_ledger import SinkLedger, Tally

DELIVERED: Final = Tally(delivered=1)
FILTERED: Final = Tally(filtered=1)
DEAD_LETTERED: Final = Tally(dead_lettered=1)


class SubmittedRecord:
    """One record that was read. It is acknowledged once `tally` is set."""

    __slots__ = ("appended_at", "generation", "offset", "reason", "sequence", "tally")

    def __init__(
        self, offset: int, sequence: int | None, generation: int | None, appended_at: int = 0
    ) -> None:
        self.offset, self.sequence, self.generation = offset, sequence, generation
        self.appended_at = appended_at
        """Append time, milliseconds UTC."""
        self.tally: Tally | None = None
        self.reason: str | None = None
        """Why it was filtered or dead-lettered."""


class Gap(NamedTuple):
    """A break in the sequence numbers: numbers that never came, or that came again."""

    generation: int
    expected: int
    got: int | None
    offset: int
    """Offset of the record with the unexpected number."""
    missing: int
    repeated: int


class OffsetTracker:
    """The records of one partition that were read and are not yet in the acknowledged prefix.

    The acknowledged prefix is everything before the first record that is not acknowledged.
    """

    def __init__(self, ledger: SinkLedger, next_offset: int) -> None:
        self.ledger = ledger
        """The counts of the acknowledged prefix."""
        self.next_offset = next_offset
        """The offset to commit: where a restart reads first."""
        self.reasons: Counter[tuple[str, str]] = Counter()
        """(outcome, reason) -> records that the last `advance` counted as filtered or dead_lettered."""
        self._open: deque[SubmittedRecord] = deque()

    def __len__(self) -> int:
        """Records that were read and are not in the acknowledged prefix."""
        return len(self._open)

    @property
    def oldest(self) -> int | None:
        """Append time of the first record that is not acknowledged, milliseconds UTC; None if there is none.

        May be called from any thread.
        """
        try:
            return self._open[0].appended_at
        except IndexError:
            return None

    def read(
        self, offset: int, sequence: int | None, generation: int | None, appended_at: int = 0
    ) -> SubmittedRecord:
        """Adds the next record. Offsets must rise."""
        record = SubmittedRecord(offset, sequence, generation, appended_at)
        self._open.append(record)
        return record

    def pass_to(self, position: int) -> None:
        """Moves `next_offset` to `position`, past transaction markers; not while a record is open."""
        if not self._open and position > self.next_offset:
            self.next_offset = position

    def advance(self) -> tuple[Tally, list[Gap]]:
        """Moves the acknowledged prefix forward as far as it goes, and counts its records in the ledger.

        Returns:
            The counts that were added, and breaks in the sequence numbers to report.
        """
        acknowledged, gaps = Tally(), []
        self.reasons.clear()
        for run in self._runs():
            before, last = self.ledger, run[-1]
            tally = Tally.sum(t.tally for t in run if t.tally is not None)
            after = self.ledger = before.settle(tally, last.sequence, last.generation)
            self.next_offset = last.offset + 1
            acknowledged = Tally.sum((acknowledged, tally))
            if tally.filtered or tally.dead_lettered:
                self._explain(run)
            if after.generation != before.generation:
                before = SinkLedger(after.generation)
            missing, repeated = after.gaps - before.gaps, after.repeated - before.repeated
            if missing or repeated:
                first = run[0]
                gaps.append(
                    Gap(after.generation, before.last + 1, first.sequence, first.offset, missing, repeated)
                )
        return acknowledged, gaps

    def _explain(self, run: list[SubmittedRecord]) -> None:
        for record in run:
            if record.reason is not None and record.tally is not None:
                self.reasons["filtered" if record.tally.filtered else "dead_lettered", record.reason] += 1

    def _runs(self) -> Iterator[list[SubmittedRecord]]:
        """Acknowledged records from the front, split where sequence numbers are not consecutive."""
        while self._open and self._open[0].tally is not None:
            run = [self._open.popleft()]
            while self._open and self._open[0].tally is not None and self._follows(run[-1], self._open[0]):
                run.append(self._open.popleft())
            yield run

    def _follows(self, last: SubmittedRecord, following: SubmittedRecord) -> bool:
        if following.generation != last.generation:
            return False
        if last.sequence is None or following.sequence is None:
            return last.sequence is None and following.sequence is None
        return following.sequence == last.sequence + 1 and last.sequence > self.ledger.last
