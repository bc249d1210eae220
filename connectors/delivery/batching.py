"""How records of one partition become batches: in order, bounded by records and bytes, not older than
allowed. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class BatchLimits(NamedTuple):
    """Bounds of one batch."""

    max_records: int = 500
    max_bytes: int = 4_000_000
    """Sum of the payloads' sizes, before compression. A single payload above it is a batch of its own."""
    max_age: float = 0.2
    """Seconds that a batch may wait for more records after its first."""


class Buffer(Generic[T]):
    """Mapped records of one partition that wait to be sent, in offset order.

    It does not refuse anything: the caller stops reading the partition while it is `full`, and what it had
    already read by then still goes in. Times are of any one monotonic clock."""

    def __init__(self, limits: BatchLimits) -> None:
        self.limits: Final = limits
        self._waiting: deque[tuple[T, int, float]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        return self._bytes

    def add(self, item: T, size: int, now: float) -> None:
        self._waiting.append((item, size, now))
        self._bytes += size

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._waiting) >= self.limits.max_records or self._bytes >= self.limits.max_bytes

    def due(self, now: float) -> bool:
        """Whether a batch should go out: it is full, or its first record is old enough."""
        return bool(self._waiting) and (self.full or now - self._waiting[0][2] >= self.limits.max_age)

    def take(self) -> list[T]:
        """The next batch: as many as the limits allow, at least one if there is any."""
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
        self._waiting.clear()
        self._bytes = 0
