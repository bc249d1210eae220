"""The `Observed` of a worker that does not exist."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from streams.observe.observed import Observed
from streams.processing.limits import StateLimits
from streams.processing.state import FRESH, State


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Loop:
    """Accepts calls for later and never makes them."""

    def call_later(self, *args: object) -> None:
        pass


def partition(number: int, next_offset: int = 0, **counts: int) -> Any:
    """A `Partition` with a state at that position."""
    state = State(StateLimits(1, 1, 1, 1))
    state._restore_position(msgspec.structs.replace(FRESH, next_offset=next_offset, **counts))
    return SimpleNamespace(number=number, state=state)


def worker(*partitions: Any, clock: Clock | None = None) -> tuple[Observed, Clock]:
    """A member of the group that works on these partitions."""
    clock = clock or Clock()
    seen = Observed(clock)
    seen.of(SimpleNamespace(partitions={p.number: p for p in partitions}))
    seen.tick(Loop())
    seen.took_over(partitions, 0.0, 0.0, 0)
    seen.given(p.number for p in partitions)
    return seen, clock
