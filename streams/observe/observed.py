"""A worker's observable state. The event loop's thread writes it; the HTTP and watchdog threads read it.

Only this module looks into Owner, Partition and State for that purpose. There is no work per record:
hooks are called once per unit of work and once per take-over, and a failure in a hook must not end the
worker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sized
from typing import Any, Final

import msgspec

log: Final = logging.getLogger("streams.observe.observed")

COUNTS: Final = (
    "events_in",
    "enriched",
    "links",
    "duplicates",
    "dead_lettered",
    "evicted",
    "units",
    "corrections",
    "skewed",
    "late",
    "overflowed",
    "summaries",
    "split_runs",
    "forgotten_starts",
    "forgotten_links",
)
"""Fields of `PartitionPosition` that are counts, if this version has them."""
SIZES: Final = {
    "open_traces": "traces",
    "remembered_events": "dedupe",
    "remembered_links": "known_links",
    "remembered_starts": "starts",
    "restored_records": "restored_records",
    "restored_bytes": "restored_bytes",
    "written_bytes": "written",
    "metric_groups": "metric_groups",
    "metric_rows": "metric_rows",
}
"""Reported size of a partition's state -> attribute of `State` (a number or a collection).

An attribute that `State` lacks is left out.
"""


class Ends(msgspec.Struct, frozen=True):
    """The ends of one partition of trace.events."""

    stable: int
    """The last stable offset: how far a read-committed consumer can read."""
    high: int
    """The end of the log. Records between the two belong to open transactions."""


class Commit(msgspec.Struct, frozen=True):
    """One committed unit of work."""

    partition: int
    records: int
    producing: float
    """Seconds until all records were delivered."""
    committing: float
    """Seconds that the commit took."""


class TakeOver(msgspec.Struct, frozen=True):
    """Partitions taken over together. Times are those of `time.perf_counter`."""

    partitions: tuple[int, ...]
    began: float
    fenced: float
    ended: float
    restored: int
    """Records read from trace.state."""


class Observed:
    """The observable state of a worker; see the module.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.phase = "waiting for Kafka and the topics"
        """What the worker does until it is a group member."""
        self.ticked: float | None = None
        """When the event loop last ran; None: not yet."""
        self.assigned: frozenset[int] | None = None
        """The partitions that the group assigned; None: not a member."""
        self.opening: dict[int, float] = {}
        """Partitions being taken over, and since when."""
        self.waiting: frozenset[int] = frozenset()
        """Partitions that wait for a schema. They make no progress, on purpose and for a limited time."""
        self.stopping = False
        self.failed: str | None = None
        """Why the process is about to end."""
        self.watching: Callable[[], bool] = lambda: True
        """Whether the watchdog's thread runs, if there should be one."""
        self.ends: dict[int, Ends] = {}
        self.lags: dict[int, int] = {}
        """The lags that the watchdog's thread measured last."""
        self.on_commit: Callable[[Commit], None] = lambda commit: None
        self.on_take_over: Callable[[TakeOver], None] = lambda take_over: None
        self._owner: Any = None
        self._positions: dict[int, Any] = {}

    def of(self, owner: Any) -> None:
        """Sets the `Owner` that calls the hooks from now on."""
        self._owner, owner.observed = owner, self
        self.phase = "joining the group"

    # -- called in the event loop's thread
    def tick(self, loop: Any, every: float = 1.0) -> None:
        """Notes that the event loop runs; called repeatedly."""
        self.ticked = self.clock()
        loop.call_later(every, self.tick, loop, every)

    def revoked(self) -> None:
        """A rebalance has begun."""
        self.assigned = None
        self.phase = "rebalancing"

    def given(self, partitions: Iterable[int]) -> None:
        """The group has assigned the partitions."""
        self.assigned = frozenset(partitions)

    def takes_over(self, partitions: Iterable[int]) -> None:
        """The new ones of these partitions are being opened from now on; an empty collection ends that."""
        owned, now = self.owned(), self.clock()
        if self.ticked is not None:
            self.ticked = now  # restoring may have blocked the loop
        self.opening = {n: now for n in partitions if n not in owned}

    def waits(self, partition: int, holds: bool) -> None:
        """A partition starts or stops waiting for a schema."""
        self.waiting = self.waiting | {partition} if holds else self.waiting - {partition}

    def took_over(self, partitions: Iterable[Any], began: float, fenced: float, restored: int) -> None:
        """Hook of `Owner.acquire`, called with its new `Partition` objects."""
        partitions = list(partitions)
        self._positions = self._positions | {p.number: p.state.position() for p in partitions}
        numbers = tuple(p.number for p in partitions)
        self._tell(self.on_take_over, TakeOver(numbers, began, fenced, time.perf_counter(), restored))

    def closing(self, p: Any, unit: Any) -> Callable[[Any], None]:
        """Hook of `Owner._start`, called when a unit of the `Partition` is closed.

        The caller calls the result when the unit is committed.
        """
        position = p.state.position()

        def committed(future: Any) -> None:
            if not future.cancelled() and future.exception() is None:
                self._positions[p.number] = position
                self._tell(self.on_commit, Commit(p.number, unit.records, *future.result()))

        return committed

    def _tell(self, listener: Callable[[Any], None], what: Any) -> None:
        try:
            listener(what)
        except Exception:
            log.exception("telemetry of %s", type(what).__name__)

    # -- read in any thread
    def owned(self) -> list[int]:
        """Partitions that the worker processes."""
        return [] if self._owner is None else sorted(self._owner.partitions.copy())

    def position(self, partition: int) -> int | None:
        """The committed next offset; -1: nothing was read yet; None: not known yet."""
        found = self._positions.get(partition)
        return None if found is None else int(found.next_offset)

    def count(self, partition: int, name: str) -> int | None:
        """One of `COUNTS` as of the last commit, or None if there is none.

        Unlike the applied count it never decreases when a worker dies.
        """
        found: int | None = getattr(self._positions.get(partition), name, None)
        return found

    def size(self, partition: int, name: str) -> int | None:
        """One of `SIZES` as of now, or None if there is none."""
        p = None if self._owner is None else self._owner.partitions.get(partition)
        value = None if p is None else getattr(p.state, SIZES[name], None)
        if isinstance(value, int):
            return value
        return len(value) if isinstance(value, Sized) else None

    def loop_silent(self) -> float:
        """Seconds since the event loop last ran; 0 before it has started."""
        return 0.0 if self.ticked is None else max(0.0, self.clock() - self.ticked)
