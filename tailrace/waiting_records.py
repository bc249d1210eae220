"""Records that have no producer yet: theirs has failed, and the next one is not there."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from tailrace import greenlets
from tailrace.delivery_reports import OnDelivery


class Record(NamedTuple):
    """A record as it is handed to a producer, with the number and the listener of its event."""

    number: int
    event_id: str
    listener: OnDelivery | None
    key: bytes | None
    value: bytes


class WaitingRecords:
    """Records that wait, in their order, and by when each must be delivered. Thread-safe.

    What a producer has taken once keeps its deadline while it is with the next one.

    Args:
        most: records that may wait.
        most_bytes: bytes of their values.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = greenlets.real_lock()
        self.records: deque[Record] = deque()
        """In their order; to be read only."""
        self.deadlines: dict[int, float] = {}
        """By the number of the event; to be read only."""
        self._bytes = 0

    def full(self) -> bool:
        """Whether no new record may wait. What a producer gives back was bounded there."""
        return len(self.records) >= self._most or self._bytes >= self._most_bytes

    def keep(self, record: Record, seconds: float) -> None:
        """Adds a record; `seconds` is the time it has left, if that is not known yet."""
        with self._lock:
            self.deadlines.setdefault(record.number, time.monotonic() + seconds)
            self.records.append(record)
            self._bytes += len(record.value)

    def late(self, number: int) -> bool:
        """Whether the time of a record that has waited here is over."""
        deadline = self.deadlines.get(number)
        return deadline is not None and deadline <= time.monotonic()

    def first(self, size: int) -> list[Record]:
        """The first records whose values have `size` bytes together; at least one, if there are some."""
        with self._lock:
            found: list[Record] = []
            for record in self.records:
                size -= len(record.value)
                if found and size < 0:
                    break
                found.append(record)
            return found

    def drop_first(self) -> None:
        with self._lock:
            self._bytes -= len(self.records.popleft().value)

    def settled(self, number: int) -> None:
        """Forgets a record's deadline."""
        self.deadlines.pop(number, None)
