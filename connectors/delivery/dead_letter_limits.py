"""Limits how many records of a sink may become dead letters before the sink pauses. Pure.

If a vendor refuses one record in a hundred, these records are bad. If it refuses all of them, the fault is
elsewhere and the records are good. The share of rejections and their number in a row tell the two apart.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

import msgspec

WINDOW: Final = 500
"""Number of last records, delivered or rejected, from which the share is computed."""
SAMPLE: Final = 100
"""Smallest number of records from which a share is computed."""


class DeadLetterLimits(msgspec.Struct, frozen=True):
    """The dead-letter limits of a sink. 0 switches a limit off."""

    ratio: float = 0.2
    """Largest share of dead letters in the last `WINDOW` records, from `SAMPLE` records on."""
    consecutive: int = 50
    """Most dead letters in a row, without a delivery between them."""


LIMITS: Final = DeadLetterLimits()


class DeadLetterLimiter:
    """Counts one sink's deliveries and rejections over all its partitions. Thread-safe."""

    def __init__(self, limits: DeadLetterLimits) -> None:
        self.limits = limits
        """May be replaced at any time; the counts stay."""
        self._runs: deque[tuple[bool, int]] = deque()  # (rejected, how many), oldest first
        self._settled = self._rejected = self._in_a_row = 0
        self._lock = threading.Lock()

    def delivered(self, count: int = 1) -> None:
        """Counts `count` records that were accepted."""
        if count > 0:
            with self._lock:
                self._in_a_row = 0
                self._add(False, min(count, WINDOW))

    def reject(self) -> str:
        """Asks whether one record may be dead-lettered, and counts it if so.

        Returns:
            Empty if it may. Else the limit that it would exceed, with the setting's name in parentheses; then
            it is not counted.
        """
        with self._lock:
            over = self._over()
            if not over:
                self._in_a_row += 1
                self._add(True, 1)
            return over

    def take_back(self, count: int) -> None:
        """Forgets the last `count` rejections: their records do not become dead letters after all."""
        with self._lock:
            self._in_a_row = max(0, self._in_a_row - count)
            kept: list[tuple[bool, int]] = []
            while count and self._runs:
                rejected, n = self._runs.pop()
                gone = min(n, count) if rejected else 0
                count -= gone
                self._settled -= gone
                self._rejected -= gone
                if n > gone:
                    kept.append((rejected, n - gone))
            self._runs.extend(reversed(kept))

    def _over(self) -> str:
        limits = self.limits
        if limits.consecutive and self._in_a_row >= limits.consecutive:
            return f"{self._in_a_row} dead letters in a row (dead_letter_consecutive)"
        if not limits.ratio:
            return ""
        rejected, settled = self._rejected + 1, self._settled + 1
        if settled > WINDOW:
            settled = WINDOW
            rejected -= self._runs[0][0]
        if settled >= SAMPLE and rejected > limits.ratio * settled:
            return f"{self._rejected} dead letters of the last {self._settled} records (dead_letter_ratio)"
        return ""

    def _add(self, rejected: bool, count: int) -> None:
        runs = self._runs
        if runs and runs[-1][0] == rejected:
            runs[-1] = (rejected, runs[-1][1] + count)
        else:
            runs.append((rejected, count))
        self._settled += count
        self._rejected += count if rejected else 0
        while (excess := self._settled - WINDOW) > 0:
            was, n = runs[0]
            gone = min(n, excess)
            self._settled -= gone
            self._rejected -= gone if was else 0
            if gone == n:
                runs.popleft()
            else:
                runs[0] = (was, n - gone)
