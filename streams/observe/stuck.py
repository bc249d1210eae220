"""Decides when a worker counts as hung. Pure; times are passed in, in monotonic seconds."""

from __future__ import annotations

from typing import Final

import msgspec

TAKE_OVER: Final = 10
"""Factor of the limit that a take-over, and the event loop during it, may take.

Reading a large state takes time.
"""


class Verdict(msgspec.Struct, frozen=True):
    """What is hung, and for how long."""

    what: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.what} for {self.seconds:.0f} s"


class Stuck:
    """Tracks since when the position of each partition has not moved although there are records to read.

    Each method returns a verdict once the limit is exceeded, or None.

    Args:
        limit: seconds without progress, more than 0.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._still: dict[int, tuple[int, float]] = {}
        """Partition -> its position, and when it was first seen there with records after it."""
        self._unknown: dict[int, float] = {}
        """When Kafka last failed to report the partition's end."""
        self._paused = float("-inf")

    def observe(self, partition: int, position: int, end: int, now: float) -> Verdict | None:
        """Notes a partition's position.

        Args:
            partition: its number.
            position: the committed next offset.
            end: the next offset after the records to read; not above `position` if there are none.
            now: the time.
        """
        if end <= position:
            self._still.pop(partition, None)
            return None
        seen = self._still.get(partition)
        if seen is None or seen[0] != position:
            self._still[partition] = (position, now)
            return None
        waited = now - seen[1]
        what = f"partition {partition} makes no progress: position {position}, end {end}"
        return Verdict(what, waited) if waited >= self._limit else None

    def taking_over(self, partition: int, began: float, now: float) -> Verdict | None:
        """A partition whose take-over began at `since` is not done."""
        self._still.pop(partition, None)
        waited = now - max(began, self._unknown.get(partition, began), self._paused)
        return (
            Verdict(f"partition {partition} is being taken over", waited)
            if waited >= self._limit * TAKE_OVER
            else None
        )

    def loop(self, ticked: float, busy: bool, now: float) -> Verdict | None:
        """Checks the event loop.

        Args:
            ticked: when it last ran.
            busy: whether it is taking over partitions.
            now: the time.
        """
        waited = now - max(ticked, self._paused)
        limit = self._limit * (TAKE_OVER if busy else 1)
        return Verdict("the event loop is blocked", waited) if waited >= limit else None

    def unknown(self, partition: int, now: float) -> None:
        """Kafka did not report the partition's end, so no progress was possible."""
        self._still.pop(partition, None)
        self._unknown[partition] = now

    def paused(self, now: float) -> None:
        """The whole process was paused (SIGSTOP, a suspended machine): restarts all timers."""
        self._still.clear()
        self._paused = now

    def keep(self, partitions: set[int]) -> None:
        """Forgets all other partitions."""
        for n in (self._still.keys() | self._unknown.keys()) - partitions:
            self._still.pop(n, None)
            self._unknown.pop(n, None)
