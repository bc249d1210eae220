"""How many records of a sink may become dead letters before it has to stop: a rule over the last answers.
Pure.

A sink that refuses everything has a fault of its own, and its records are healthy; one that refuses a record
in a hundred has met bad records. What tells them apart is the share of rejections, and how many come in a
row."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

import msgspec

WINDOW: Final = 500
"""Records that the share is taken of: the last ones that were delivered or rejected."""
SAMPLE: Final = 100
"""Fewer than these say nothing about a share."""


class DeadLetterLimits(msgspec.Struct, frozen=True):
    """What a sink may give up. 0 switches a limit off."""

    ratio: float = 0.2
    """Largest share of dead letters in the last `WINDOW` records, once there are `SAMPLE`."""
    consecutive: int = 50
    """Most dead letters without a delivery between them."""


LIMITS: Final = DeadLetterLimits()


class DeadLetterLimiter:
    """Counts one sink's deliveries and rejections over all its partitions. Safe to call from several
    threads."""

    def __init__(self, limits: DeadLetterLimits) -> None:
        self.limits = limits
        """May be replaced; what was counted stays."""
        self._runs: deque[tuple[bool, int]] = deque()  # (rejected, how many), oldest first
        self._settled = self._rejected = self._in_a_row = 0
        self._lock = threading.Lock()

    def delivered(self, count: int = 1) -> None:
        """`count` records were accepted, one after the other."""
        if count > 0:
            with self._lock:
                self._in_a_row = 0
                self._add(False, min(count, WINDOW))

    def reject(self) -> str:
        """Asks to dead-letter one record. Empty: it may be, and is counted. Else the limit it would exceed,
        by its setting, and nothing is counted."""
        with self._lock:
            over = self._over()
            if not over:
                self._in_a_row += 1
                self._add(True, 1)
            return over

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
