"""Groups the records of one partition into batches, in order, by number, bytes and age. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class BatchLimits(NamedTuple):
    """The limits of one batch."""

    max_records: int = 500
    max_bytes: int = 4_000_000
    """Limit of the sum of `Payload.size`, before compression. A larger payload is a batch of its own."""
    max_age: float = 0.2
    """Seconds that a batch may wait for more records, counted from its first."""


class Buffer(Generic[T]):
    """Mapped records of one partition that wait to be sent, in offset order.

    It accepts every record. The caller must stop reading the partition while it is `full`; what was already
    read still goes in. All times are from one monotonic clock, in seconds.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.limits: Final = limits
        self._waiting: deque[tuple[T, int, float]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """Sum of the sizes of waiting records."""
        return self._bytes

    def add(self, item: T, size: int, now: float) -> None:
        """Adds a record.

        Args:
            item: The record.
            size: Its bytes in the request.
            now: The time now.
        """
        self._waiting.append((item, size, now))
        self._bytes += size

    @property
    def full(self) -> bool:
        """Whether a complete batch waits."""
        return len(self._waiting) >= self.limits.max_records or self._bytes >= self.limits.max_bytes

    def due(self, now: float) -> bool:
        """Whether to send a batch now: it is full, or its first record has waited `max_age`."""
        return bool(self._waiting) and (self.full or now - self._waiting[0][2] >= self.limits.max_age)

    def take(self) -> list[T]:
        """Removes and returns the next batch, up to the limits; at least one record if any waits."""
        batch: list[T] = []
        size = 0
        while self._waiting and len(batch) < self.limits.max_records:
            item, n, _ = self._waiting[0]
            if batch and size + n > self.limits.max_bytes:
                break
            self._waiting.popleft()
            batch.append(item)
            size += n
        self._bytes -= size
        return batch

    def clear(self) -> None:
        """Drops all waiting records."""
        self._waiting.clear()
        self._bytes = 0
