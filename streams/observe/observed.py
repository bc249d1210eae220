"""What a worker shows of itself. The loop's thread writes it, those of the HTTP server and of the watchdog
read it.

Only here are Owner, Partition and State looked into for that. Nothing is done a record: hooks are called once
a unit of work and once a take-over of partitions, and what they call must not end a worker."""

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
)
"""Fields of `PartitionPosition` that count, as far as it has them."""
SIZES: Final = {
    "open_traces": "traces",
    "remembered_events": "dedupe",
    "remembered_links": "known_links",
    "restored_records": "restored_records",
    "restored_bytes": "restored_bytes",
    "written_bytes": "written",
    "metric_groups": "metric_groups",
    "metric_rows": "metric_rows",
}
"""What is told of a partition's state as it is now -> the attribute of `State`, a number or a collection;
left out where it has none."""


class Ends(msgspec.Struct, frozen=True):
    """Of one partition of trace.events."""

    stable: int
    """The last stable offset: how far a read-committed consumer can read."""
    high: int
    """The end of the log. Records between the two belong to transactions that are open."""


class Commit(msgspec.Struct, frozen=True):
    """One unit of work, committed."""

    partition: int
    records: int
    producing: float
    """Seconds until all was delivered."""
    committing: float
    """Seconds that the commit itself took."""


class TakeOver(msgspec.Struct, frozen=True):
    """Partitions taken over at once; times are those of `time.perf_counter`."""

    partitions: tuple[int, ...]
    began: float
    fenced: float
    ended: float
    restored: int
    """Records read of trace.state."""


class Observed:
    """See the module. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.phase = "waiting for Kafka and the topics"
        """What it does until it is a group member."""
        self.ticked: float | None = None
        """When the event loop ran last; None: not yet."""
        self.assigned: frozenset[int] | None = None
        """What the group gave it; None: it is no member."""
        self.opening: dict[int, float] = {}
        """Partitions being taken over, and since when."""
        self.waiting: frozenset[int] = frozenset()
        """Partitions that wait for a schema: they stand still on purpose, and not for long."""
        self.stopping = False
        self.failed: str | None = None
        """Why the process is about to end."""
        self.watching: Callable[[], bool] = lambda: True
        """Whether the watchdog's thread runs, where there should be one."""
        self.ends: dict[int, Ends] = {}
        self.lags: dict[int, int] = {}
        """What the watchdog's thread found out last."""
        self.on_commit: Callable[[Commit], None] = lambda commit: None
        self.on_take_over: Callable[[TakeOver], None] = lambda take_over: None
        self._owner: Any = None
        self._positions: dict[int, Any] = {}

    def of(self, owner: Any) -> None:
        """owner: the `Owner` that calls the hooks from now on."""
        self._owner, owner.observed = owner, self
        self.phase = "joining the group"

    # -- called in the loop's thread
    def tick(self, loop: Any, every: float = 1.0) -> None:
        """Notes that the event loop runs, again and again."""
        self.ticked = self.clock()
        loop.call_later(every, self.tick, loop, every)

    def revoked(self) -> None:
        """A rebalance began."""
        self.assigned = None
        self.phase = "rebalancing"

    def given(self, partitions: Iterable[int]) -> None:
        """The group has shared out the partitions."""
        self.assigned = frozenset(partitions)

    def takes_over(self, partitions: Iterable[int]) -> None:
        """Those that are new are opened from now on; with an empty collection: no longer."""
        owned, now = self.owned(), self.clock()
        if self.ticked is not None:
            self.ticked = now  # restoring may have kept the loop from it
        self.opening = {n: now for n in partitions if n not in owned}

    def waits(self, partition: int, holds: bool) -> None:
        """A partition waits for a schema, or no longer."""
        self.waiting = self.waiting | {partition} if holds else self.waiting - {partition}

    def took_over(self, partitions: Iterable[Any], began: float, fenced: float, restored: int) -> None:
        """Hook of `Owner.acquire`, with its new `Partition` objects."""
        partitions = list(partitions)
        self._positions = self._positions | {p.number: p.state.position() for p in partitions}
        numbers = tuple(p.number for p in partitions)
        self._tell(self.on_take_over, TakeOver(numbers, began, fenced, time.perf_counter(), restored))

    def closing(self, p: Any, unit: Any) -> Callable[[Any], None]:
        """Hook of `Owner._start`: call it when a unit of the `Partition` is closed, and what it returns when
        it is committed."""
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
        """Partitions that it works on."""
        return [] if self._owner is None else sorted(self._owner.partitions.copy())

    def position(self, partition: int) -> int | None:
        """The committed next offset; -1: nothing was read yet. None: not known yet."""
        found = self._positions.get(partition)
        return None if found is None else int(found.next_offset)

    def count(self, partition: int, name: str) -> int | None:
        """One of `COUNTS`, as of the last commit: unlike what is applied, it never goes back when a worker
        dies. None: there is none."""
        found: int | None = getattr(self._positions.get(partition), name, None)
        return found

    def size(self, partition: int, name: str) -> int | None:
        """One of `SIZES`, as of now. None: there is none."""
        p = None if self._owner is None else self._owner.partitions.get(partition)
        value = None if p is None else getattr(p.state, SIZES[name], None)
        if isinstance(value, int):
            return value
        return len(value) if isinstance(value, Sized) else None

    def loop_silent(self) -> float:
        """Seconds since the event loop ran; 0 before it has begun."""
        return 0.0 if self.ticked is None else max(0.0, self.clock() - self.ticked)
