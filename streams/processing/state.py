"""The state of one partition, in memory and as records of trace.state. No Kafka, no clock of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from streams.processing import starts
from streams.processing.dedupe import Dedupe
from streams.processing.limits import StateLimits
from streams.processing.links import PREFIX as _LINK
from streams.processing.links import Links
from streams.processing.metrics.aggregator import GROUP as _GROUP
from streams.processing.metrics.aggregator import MINUTES as _MINUTES
from streams.processing.metrics.aggregator import MetricAggregator
from streams.processing.starts import PREFIX as _STARTS
from streams.processing.starts import Known, Starts
from streams.processing.tenants import differ, keyed
from streams.processing.trace import Stored, Trace
from streams.processing.unreadable import UnreadableRecord
from tailrace.codec import wire
from tailrace.errors import DecodeError
from tailrace.records import PartitionPosition, TraceOperations, TraceStarts

__all__ = ["FRESH", "POSITION", "ChangedState", "Records", "State", "UnreadableRecord", "chunk_key"]

POSITION: Final = b"p"
"""Key of the position record."""
AHEAD_MS: Final = 3_600_000
"""How far one record can move the partition's clock: an hour.

A record with a wrong append time, of a producer or broker whose clock is wrong, would otherwise age out all
that is open, and make all that follows late. After a pause the second record catches up.
"""
_TRACE: Final = b"t/"
_DEDUPE: Final = b"d/"
_OPERATIONS: Final = b"o/"

FRESH: Final = PartitionPosition(
    topic_id="",
    partitions=0,
    generation=0,
    app_id="",
    placed_from=0,
    next_offset=-1,
    sequence=0,
    appended_at=0,
    ahead_at=0,
    events_in=0,
    enriched=0,
    links=0,
    duplicates=0,
    dead_lettered=0,
    evicted=0,
    units=0,
    flushed=0,
    corrections=0,
    skewed=0,
    late=0,
    overflowed=0,
    oldest_minute=0,
    groups=0,
    summaries=0,
    split_runs=0,
    forgotten_starts=0,
    forgotten_before=0,
    forgotten_links=0,
)

Records = list[tuple[bytes, bytes | None]]
"""Keys and values; None is a tombstone."""


class ChangedState:
    """What closing a unit writes besides the unit's outputs."""

    __slots__ = ("rows", "state", "summaries", "totals")

    def __init__(self, state: Records, summaries: Records, rows: Records, totals: Records) -> None:
        self.state, self.summaries, self.rows, self.totals = state, summaries, rows, totals


class State:
    """Traces in the order of their last event, seen event ids, metrics, links and the position.

    Changes are collected until `changes`.
    """

    def __init__(self, limits: StateLimits, partition: int = 0) -> None:
        self.limits, self.partition = limits, partition
        self.traces: OrderedDict[bytes, Trace | Stored] = OrderedDict()
        self.aggregator = MetricAggregator(partition, limits.metrics)
        self.dedupe = Dedupe(limits.dedupe_ms)
        self.known_links = Links(limits.idle_ms, limits.link_bytes)
        self.starts = Starts(limits.start_bytes)
        self.topic_id, self.partitions, self.app_id = FRESH.topic_id, FRESH.partitions, FRESH.app_id
        self.placed_from = FRESH.placed_from
        self.ahead_at = FRESH.ahead_at
        """Append time of the last record, if it was too far ahead to move the clock; else 0."""
        self.generation, self.next_offset, self.sequence, self.clock = (
            FRESH.generation,
            FRESH.next_offset,
            FRESH.sequence,
            FRESH.appended_at,
        )
        self.events_in = self.enriched = self.links = self.duplicates = self.dead_lettered = self.evicted = (
            self.units
        ) = self.flushed = self.summaries = self.split_runs = 0
        self.restored_records = self.restored_bytes = 0
        """What was restored: number of keys with a value, and the bytes of both."""
        self.written = 0
        """Bytes written to trace.state since this owner took over."""
        self._changed: set[bytes] = set()
        self._unsummed: dict[bytes, None] = {}
        """Traces whose root has ended and whose written summary is out of date."""
        self._parted: Records = []
        """Summaries of evicted traces."""
        self._dropped: list[bytes] = []
        """Chunks of operations of evicted traces."""

    @property
    def unflushed(self) -> bool:
        """Whether `close` with flush would write more than without."""
        return bool(self._unsummed) or self.aggregator.unwritten

    @property
    def metric_groups(self) -> int:
        return self.aggregator.groups

    @property
    def metric_rows(self) -> int:
        return self.aggregator.rows

    def trace(self, key: bytes) -> Trace | None:
        """An open trace. Raises `UnreadableRecord`."""
        found = self.traces.get(key)
        if not isinstance(found, Stored):
            return found
        trace = self.traces[key] = _opened(key, found)
        return trace

    def touch(self, key: bytes, trace: Trace) -> None:
        """`trace` has changed: it becomes the youngest, and is written with the next changes."""
        if trace.operations.ended:
            self._unsummed[key] = None
        if key in self.traces:
            self.traces.move_to_end(key)
        else:
            self.traces[key] = trace
            if len(self.traces) > self.limits.max_traces:
                self._evict()
        self._changed.add(key)

    def advance(self, appended_at: int) -> None:
        """Advances the partition's clock to a record's append time, and evicts idle traces.

        Milliseconds. The clock never goes back. Further than `AHEAD_MS` it only goes if the next record
        is as far ahead, too.
        """
        pending, self.ahead_at = self.ahead_at, 0
        if self.clock and appended_at - self.clock > AHEAD_MS:
            if not pending:
                self.ahead_at = appended_at
                return
            appended_at = min(appended_at, pending)
        if pending > max(appended_at, self.clock):
            self._correct_youngest(max(appended_at, self.clock))
        if appended_at <= self.clock:
            return
        self.clock = appended_at
        self.known_links.advance(appended_at)
        self.aggregator.advance(appended_at)
        horizon = appended_at - self.limits.idle_ms
        while self.traces and next(iter(self.traces.values())).appended_at < horizon:
            self._evict()

    def _correct_youngest(self, clock: int) -> None:
        """The last record's append time was wrong: its trace would stay open until that time."""
        key = next(reversed(self.traces), None)
        if key is not None and self.traces[key].appended_at > clock:
            trace = self.trace(key)
            if trace is not None:
                trace.appended_at = clock
                self._changed.add(key)

    def locate(self, name: bytes, tenant: bytes | None) -> tuple[bytes, Trace | None, Known | None]:
        """The state key of a trace, and what is known of it: the open trace, else what remains of it.

        The same id in two tenants is two traces. Raises `UnreadableRecord`.

        Args:
            name: the trace's id.
            tenant: the tenant of an event of the trace, if it has one.
        """
        trace = self.trace(name)
        if trace is not None and not differ(trace.tenant_id, tenant):
            return name, trace, None
        known = None if trace is not None else self.starts.find(name)
        if tenant is None:
            return name, None, known
        key = keyed(name, tenant)
        of_tenant = self.trace(key)
        if of_tenant is not None:
            return key, of_tenant, None
        if known is not None and not known.of_another(tenant):
            return name, None, known
        remains = self.starts.find(key)
        if trace is not None or known is not None or remains is not None:
            return key, None, remains
        return name, None, None

    def is_root(self, run: bytes, tenant: bytes | None) -> bool:
        """Whether a run is known to have no caller."""
        _, trace, known = self.locate(run, tenant)
        return trace.certain if trace is not None else known is not None and known.certain

    def _evict(self) -> None:
        key = next(iter(self.traces))
        trace = self.traces[key]
        if key in self._unsummed or not trace.ended:
            self._unsummed.pop(key, None)
            self._parted.append(self._summary(key))
        try:
            started_at, tenant, certain, unknown = trace.remains()
        except (IndexError, ValueError) as e:
            raise UnreadableRecord(_TRACE + key, e) from None
        self.starts.add(key, started_at, tenant, certain, unknown, self.clock)
        chunks = len(trace.chunks or ()) if isinstance(trace, Stored) else trace.operations.chunks
        self._dropped += [chunk_key(key, n) for n in range(chunks)]
        del self.traces[key]
        self._changed.add(key)
        self.evicted += 1

    def _summary(self, key: bytes) -> tuple[bytes, bytes]:
        """Key and value for trace.summaries."""
        trace = self.trace(key)
        assert trace is not None
        self.summaries += 1
        name = trace.root_trace_id or b""
        return b"%b/%d/%d" % (name, self.partition, trace.part), trace.summary(self.partition)

    def position(self) -> PartitionPosition:
        m = self.aggregator
        return PartitionPosition(
            topic_id=self.topic_id,
            partitions=self.partitions,
            generation=self.generation,
            app_id=self.app_id,
            placed_from=self.placed_from,
            next_offset=self.next_offset,
            sequence=self.sequence,
            appended_at=self.clock,
            ahead_at=self.ahead_at,
            events_in=self.events_in,
            enriched=self.enriched,
            links=self.links,
            duplicates=self.duplicates,
            dead_lettered=self.dead_lettered,
            evicted=self.evicted,
            units=self.units,
            flushed=self.flushed,
            corrections=m.corrections,
            skewed=m.skewed,
            late=m.late,
            overflowed=m.overflowed,
            oldest_minute=m.oldest_minute,
            groups=m.next_group,
            summaries=self.summaries,
            split_runs=self.split_runs,
            forgotten_starts=self.starts.forgotten,
            forgotten_before=self.starts.before,
            forgotten_links=self.known_links.forgotten,
        )

    def close(self, flush: bool) -> ChangedState:
        """What a unit writes.

        That is: records of trace.state for all changes since the last call, with the position last;
        summaries of evicted traces; closed metric rows; tombstones of series that ended. With flush also
        changed metric rows and series, and summaries of traces whose root has ended.
        """
        self.units += 1
        closed = ChangedState(
            self._changes(), self._parted, self.aggregator.closing(), self.aggregator.ended()
        )
        self._parted = []
        if flush:
            rows, totals = self.aggregator.flush()
            closed.rows += rows
            closed.totals += totals  # a series that began again comes after its tombstone
            for key in self._unsummed:
                closed.summaries.append(self._summary(key))
                if (trace := self.trace(key)) is not None:
                    trace.rest()
            self._unsummed = {}
            self.flushed = self.next_offset
        closed.state.append((POSITION, wire.encode_versioned(self.position())))
        self.written += sum(len(key) + len(value or b"") for key, value in closed.state)
        return closed

    def _changes(self) -> Records:
        out: Records = [(key, None) for key in self._dropped]
        self._dropped = []
        for key in self._changed:
            trace = self.traces.get(key)
            if isinstance(trace, Trace):
                for n, fixed, texts in trace.operations.full_chunks():
                    out.append(
                        (
                            chunk_key(key, n),
                            wire.encode_versioned(TraceOperations(fixed=fixed, texts=texts)),
                        )
                    )
                out.append((_TRACE + key, trace.pack()))
            else:
                out.append((_TRACE + key, None))
        self._changed = set()
        out.extend(self.dedupe.changes())
        out.extend(self.known_links.changes())
        out.extend(self.starts.changes())
        out.extend(self.aggregator.changes())
        return out

    def restore(self, records: Iterable[tuple[bytes, bytes | None]] | dict[bytes, bytes]) -> None:
        """Restores what a former owner wrote: the last record of each key, or all records in log order.

        Unknown keys are skipped. Traces are unpacked on first use, so `trace` may raise later.

        Raises:
            UnreadableRecord: a record cannot be read.
        """
        last = records if isinstance(records, dict) else dict(records)
        traces: dict[bytes, Stored] = {}
        found: list[tuple[bytes, bytes]] = []
        pieces: list[tuple[int, TraceStarts]] = []
        minutes: list[tuple[bytes, bytes]] = []
        chunks: list[tuple[bytes, bytes]] = []
        for key, value in last.items():
            if value is None:
                continue
            self.restored_records += 1
            self.restored_bytes += len(key) + len(value)
            kind = key[:2]
            try:
                if kind == _TRACE:
                    traces[key[2:]] = Stored(value)
                elif kind == _MINUTES:
                    minutes.append((key, value))
                elif kind == _OPERATIONS:
                    chunks.append((key, value))
                elif kind == _DEDUPE:
                    self.dedupe.restore(key, value)
                elif kind == _LINK:
                    found.append((key[2:], value))
                elif kind == _STARTS:
                    pieces.append(starts.unpack(key, value))
                elif kind == _GROUP:
                    self.aggregator.restore_group(int(key[2:]), value)
                elif key == POSITION:
                    self._restore_position(wire.decode_versioned(value, PartitionPosition))
            except (DecodeError, ValueError, IndexError) as e:
                raise UnreadableRecord(key, e) from None
        self.known_links.restore(found, self.clock)
        self.starts.restore(pieces)
        self._restore_parts(traces, chunks, minutes)
        self.aggregator.restored(self.clock, self.flushed)
        self.traces = OrderedDict(sorted(traces.items(), key=lambda item: item[1].touched))
        self._unsummed = {k: None for k, s in self.traces.items() if s.ended and s.touched >= self.flushed}

    def _restore_parts(
        self,
        traces: dict[bytes, Stored],
        chunks: list[tuple[bytes, bytes]],
        minutes: list[tuple[bytes, bytes]],
    ) -> None:
        """Restores records that belong to a trace or a metric group, which must be restored before."""
        for key, value in chunks:
            name, _, number = key[len(_OPERATIONS) :].rpartition(b"/")
            stored = traces.get(name)
            if stored is not None:
                stored.chunks = [*(stored.chunks or ()), (int(number), value)]
        for key, value in minutes:
            group, _, minute = key[len(_MINUTES) :].partition(b"/")
            try:
                self.aggregator.restore_minute(int(group), int(minute), value)
            except (DecodeError, ValueError, IndexError, KeyError) as e:
                raise UnreadableRecord(key, e) from None

    def _restore_position(self, p: PartitionPosition) -> None:
        self.topic_id, self.partitions, self.generation = p.topic_id, p.partitions, p.generation
        self.app_id, self.placed_from = p.app_id, p.placed_from
        self.next_offset, self.sequence, self.clock = p.next_offset, p.sequence, p.appended_at
        self.ahead_at = p.ahead_at
        self.events_in, self.enriched, self.links, self.duplicates = (
            p.events_in,
            p.enriched,
            p.links,
            p.duplicates,
        )
        self.dead_lettered, self.evicted, self.units = p.dead_lettered, p.evicted, p.units
        self.flushed, self.summaries, self.split_runs = p.flushed, p.summaries, p.split_runs
        self.starts.forgotten, self.starts.before = p.forgotten_starts, p.forgotten_before
        self.known_links.forgotten = p.forgotten_links
        m = self.aggregator
        m.corrections, m.skewed, m.late, m.overflowed = p.corrections, p.skewed, p.late, p.overflowed
        m.oldest_minute, m.next_group = p.oldest_minute, p.groups


def chunk_key(trace: bytes, number: int) -> bytes:
    """Key in trace.state of a full chunk of operations."""
    return b"%b%b/%d" % (_OPERATIONS, trace, number)


def _opened(key: bytes, stored: Stored) -> Trace:
    try:
        chunks = [wire.decode_versioned(value, TraceOperations) for _, value in sorted(stored.chunks or ())]
        return Trace.unpack(stored.value, [(c.fixed, c.texts) for c in chunks])
    except (DecodeError, ValueError, IndexError) as e:
        raise UnreadableRecord(_TRACE + key, e) from None
