"""Everything one partition's owner knows, in memory and as the records of trace.state. No Kafka, no clock of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec

from streams import links
from streams.correlate import Link
from streams.dedupe import Dedupe
from streams.links import PREFIX as _LINK
from streams.links import Links
from streams.trace import Trace
from tailrace.codec import wire
from tailrace.errors import DecodeError
from tailrace.records import PartitionPosition

POSITION: Final = b"p"
"""Key of the partition record."""
_TRACE: Final = b"t/"
_DEDUPE: Final = b"d/"

FRESH: Final = PartitionPosition(
    topic_id="", partitions=0, generation=0, next_offset=-1, sequence=0, appended_at=0, events_in=0, enriched=0, links=0, duplicates=0,
    dead_lettered=0, evicted=0, units=0,
)  # fmt: skip


class UnreadableRecord(Exception):
    """A record of trace.state that cannot be read, and its key."""

    def __init__(self, key: bytes, problem: Exception) -> None:
        super().__init__(str(problem))
        self.key = key


class Limits(msgspec.Struct, frozen=True):
    """How much a partition remembers."""

    idle_ms: int
    """A trace without events for this long, by the partition's clock, is evicted."""
    max_traces: int
    """Beyond this many open traces the oldest are evicted."""
    dedupe_ms: int
    link_ms: int
    """How long a link is remembered."""


class State:
    """Traces in the order of their last event, seen event ids, and the position. Changes are collected until `changes`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.traces: OrderedDict[bytes, Trace] = OrderedDict()
        self.dedupe = Dedupe(limits.dedupe_ms)
        self.known_links = Links(limits.link_ms, limits.max_traces)
        self.topic_id, self.partitions = FRESH.topic_id, FRESH.partitions
        self.generation, self.next_offset, self.sequence, self.clock = (
            FRESH.generation,
            FRESH.next_offset,
            FRESH.sequence,
            FRESH.appended_at,
        )
        self.events_in = self.enriched = self.links = self.duplicates = self.dead_lettered = self.evicted = (
            self.units
        ) = 0
        self._changed: set[bytes] = set()

    def touch(self, key: bytes, trace: Trace) -> None:
        """`trace` has changed: it becomes the youngest, and is written with the next changes."""
        if key in self.traces:
            self.traces.move_to_end(key)
        else:
            self.traces[key] = trace
            if len(self.traces) > self.limits.max_traces:
                self._evict()
        self._changed.add(key)

    def advance(self, appended_at: int) -> None:
        """Moves the partition's clock (milliseconds; it never goes back) and evicts what has been idle for too long."""
        if appended_at <= self.clock:
            return
        self.clock = appended_at
        self.known_links.advance(appended_at)
        horizon = appended_at - self.limits.idle_ms
        while self.traces and next(iter(self.traces.values())).appended_at < horizon:
            self._evict()

    def is_root(self, run: bytes) -> bool:
        """Whether a run is known to have no caller."""
        trace = self.traces.get(run)
        return trace is not None and trace.certain

    def _evict(self) -> None:
        key, _ = self.traces.popitem(last=False)
        self._changed.add(key)
        self.evicted += 1

    def position(self) -> PartitionPosition:
        return PartitionPosition(
            topic_id=self.topic_id, partitions=self.partitions, generation=self.generation, next_offset=self.next_offset,
            sequence=self.sequence, appended_at=self.clock, events_in=self.events_in, enriched=self.enriched, links=self.links,
            duplicates=self.duplicates, dead_lettered=self.dead_lettered, evicted=self.evicted, units=self.units,
        )  # fmt: skip

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """Records of trace.state for what changed since the last call, the position last; None is a tombstone."""
        self.units += 1
        traces = self.traces
        out: list[tuple[bytes, bytes | None]] = [
            (_TRACE + k, t.pack() if (t := traces.get(k)) else None) for k in self._changed
        ]
        self._changed = set()
        out.extend(self.dedupe.changes())
        out.extend(self.known_links.changes())
        out.append((POSITION, wire.encode_versioned(self.position())))
        return out

    def restore(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Takes over what a former owner wrote: the last record of each key, in log order. Raises `UnreadableRecord`; keys
        of no kind of ours are passed over."""
        last: dict[bytes, bytes | None] = {}
        for key, value in records:
            last.pop(key, None)
            last[key] = value
        traces: list[tuple[bytes, Trace]] = []
        found: list[tuple[bytes, tuple[Link, int, int]]] = []
        for key, value in last.items():
            if value is None:
                continue
            try:
                if key == POSITION:
                    self._restore_position(wire.decode_versioned(value, PartitionPosition))
                elif key.startswith(_TRACE):
                    traces.append((key[len(_TRACE) :], Trace.unpack(value)))
                elif key.startswith(_DEDUPE):
                    self.dedupe.restore(key, value)
                elif key.startswith(_LINK):
                    found.append((key[len(_LINK) :], links.unpack(value)))
            except (DecodeError, ValueError, IndexError) as e:
                raise UnreadableRecord(key, e) from None
        self.known_links.restore(found)
        traces.sort(key=lambda item: item[1].touched)
        self.traces = OrderedDict(traces)

    def _restore_position(self, p: PartitionPosition) -> None:
        self.topic_id, self.partitions, self.generation = p.topic_id, p.partitions, p.generation
        self.next_offset, self.sequence, self.clock = p.next_offset, p.sequence, p.appended_at
        self.events_in, self.enriched, self.links, self.duplicates = p.events_in, p.enriched, p.links, p.duplicates
        self.dead_lettered, self.evicted, self.units = p.dead_lettered, p.evicted, p.units
