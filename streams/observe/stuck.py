"""When a worker counts as hung: pure; time is passed in, monotonic seconds."""

from __future__ import annotations

from typing import Final

import msgspec

TAKE_OVER: Final = 10
"""A take-over may last this many times the limit, and so may what it keeps the event loop from: a large state
takes its time."""


class Verdict(msgspec.Struct, frozen=True):
    """What is hung, and for how long."""

    what: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.what} for {self.seconds:.0f} s"


class Stuck:
    """Knows for each partition since when its position stands still though there are records behind it.

    limit: seconds without progress, more than 0. Each method returns a verdict once that is over, or None.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._still: dict[int, tuple[int, float]] = {}
        """Partition -> its position, and when it was first seen there with records behind it."""
        self._unknown: dict[int, float] = {}
        """When a partition's end was asked for in vain last."""
        self._paused = float("-inf")

    def observe(self, partition: int, position: int, end: int, now: float) -> Verdict | None:
        """position: committed next offset. end: next offset of what there is to read; not above position:
        nothing."""
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
        """A partition whose take-over began then and is not done."""
        self._still.pop(partition, None)
        waited = now - max(began, self._unknown.get(partition, began), self._paused)
        return (
            Verdict(f"partition {partition} is being taken over", waited)
            if waited >= self._limit * TAKE_OVER
            else None
        )

    def loop(self, ticked: float, busy: bool, now: float) -> Verdict | None:
        """ticked: when the event loop ran last. busy: it is taking over partitions."""
        waited = now - max(ticked, self._paused)
        limit = self._limit * (TAKE_OVER if busy else 1)
        return Verdict("the event loop stands still", waited) if waited >= limit else None

    def unknown(self, partition: int, now: float) -> None:
        """Kafka did not say where the partition ends: nobody could have made progress."""
        self._still.pop(partition, None)
        self._unknown[partition] = now

    def paused(self, now: float) -> None:
        """The whole process stood still (SIGSTOP, a suspended machine): all clocks start again."""
        self._still.clear()
        self._paused = now

    def keep(self, partitions: set[int]) -> None:
        """Forgets the others."""
        for n in (self._still.keys() | self._unknown.keys()) - partitions:
            self._still.pop(n, None)
            self._unknown.pop(n, None)
