"""One pass: a record of trace.events and the state give an enriched record, a dead letter or nothing.

Deterministic in the log: no clock except the append times of the records, no randomness, no I/O. Never
raises for a bad record: what cannot be read or applied becomes a dead letter and does not change the
state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from streams.processing import context
from streams.processing import links as link_records
from streams.processing.admission import admit
from streams.processing.avro import strings
from streams.processing.correlate import (
    CLOCK_SKEW,
    CUT,
    INFERRED,
    NONE,
    ROOT_INFERRED,
    RUN_SPLIT,
    SELF_PARENT,
    START_UNKNOWN,
    SUPERSEDED,
    TOKEN_CLASSES_IGNORED,
    Link,
    Root,
    link_of,
    marks_of,
    parent_of,
    root_of,
    run_to_link,
    start_unknown,
)
from streams.processing.enrich import ESTIMATED_PRICE, Enricher, dataset_names
from streams.processing.header import NAMES, Header, read
from streams.processing.operations import count
from streams.processing.prices import Prices
from streams.processing.state import ChangedState, State
from streams.processing.tenants import differ, keyed
from streams.processing.trace import Trace
from streams.processing.unreadable import UnreadableRecord
from tailrace.codec import wire
from tailrace.codec.varint import zigzag
from tailrace.codec.wire import BODY
from tailrace.dead_letters import NAME, TEXT, dead_letter
from tailrace.errors import DecodeError
from tailrace.ids import LONGEST, otel_span_id
from tailrace.kinds import APART
from tailrace.memo import Memo
from tailrace.partitioner import partition_of
from tailrace.records import Stage
from tailrace.token_classes import plausible

LONG_TEXT: Final = LONGEST
"""Largest size in bytes of an id, a name or an encoded list in the header.

Each of them is copied into the context of every later event of its trace. A Kafka key may be as long.
"""
CONTEXT_ROOM: Final = 163_840
"""Bytes that suffice for the key and the context of an enriched record.

The key, and in the context 13 texts of `LONG_TEXT` bytes, and names of datasets (`MOST_DATASET_BYTES`).
"""
LINK: Final = "link"
"""The control record that is handled here; other control records would be enriched."""
_APART: Final = APART
_MEMO: Final = 65_536

Output = tuple[bytes, bytes | None, bytes]
"""Value, key and context of an enriched record."""
EncodedDeadLetter = tuple[bytes | None, bytes]
"""Key and value of a dead letter."""


class Record(Protocol):
    """The fields of a consumed record that are read. timestamp: append time, milliseconds UTC."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class TransactionBatch:
    """What one transaction writes, apart from the state."""

    __slots__ = ("born", "closed", "dead_letters", "links", "misrouted", "outputs", "records", "size")

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.dead_letters: list[EncodedDeadLetter] = []
        self.links: list[tuple[bytes, bytes]] = []
        """Run and value of the links to write to trace.events."""
        self.records = 0
        self.misrouted = 0
        """Records that are in a partition where their key does not belong."""
        self.size = 0
        self.born = 0.0
        self.closed: ChangedState | None = None


def placement(partitions: int) -> Memo[bytes | None, int]:
    """Key -> its partition by murmur2; -1 for no key."""

    def place(key: bytes | None) -> int:
        return -1 if key is None else partition_of(key, partitions)

    return Memo(place, _MEMO)


def misrouted(key: bytes | None, belongs: int, partitions: int) -> str:
    what = (
        "the record has no key"
        if key is None
        else f"murmur2 of its key puts it into partition {belongs} of {partitions}"
    )
    return (
        f"{what}: publish with partitioner=murmur2_random (librdkafka's own default is CRC32), "
        "keyed as tailrace.Publisher does"
    )


class Refused(Exception):
    """An event that can be read but not applied."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class EventProcessor:
    """Applies records to the state of one partition.

    Args:
        topic: where the records come from.
        partition: where the records come from.
        max_value: largest size in bytes of an enriched record's value; its key and its context need
            `CONTEXT_ROOM` bytes beside it.
        keep: bytes of the raw record that a dead letter keeps.
        partitions: the partition count; 0: do not check that records are in the right partition.
        link_runs: whether to write links from runs to their roots.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        max_value: int,
        keep: int,
        partitions: int = 0,
        prices: Prices | None = None,
        link_runs: bool = True,
    ) -> None:
        self._topic, self._partition, self._max_value, self._keep = topic, partition, max_value, keep
        self._link_runs = link_runs
        self._partitions = partitions
        self._placed = placement(partitions)
        self._span_ids: Memo[bytes, bytes] = Memo(otel_span_id, _MEMO)
        """source_id -> span id, because parents repeat."""
        self._enricher = Enricher(prices or Prices())

    def apply(self, state: State, records: Iterable[Record], unit: TransactionBatch) -> None:
        """Applies records in offset order.

        Records below the state's position were applied before and are skipped.
        """
        stamp, appended = -1, b""
        prefix = zigzag(state.generation)
        output = unit.outputs.append
        placed, partition, partitions = self._placed, self._partition, self._partitions
        for record in records:
            offset, value = record.offset, record.value
            if offset < state.next_offset:
                continue
            if record.timestamp != stamp or state.ahead_at:
                stamp = record.timestamp
                appended = zigzag(stamp)
                state.advance(stamp)
            state.events_in += 1
            unit.records += 1
            unit.size += len(value or b"")
            h = None
            try:
                if (key := record.key) is not None and len(key) > LONG_TEXT:
                    raise Refused("key_too_long", f"it has {len(key)} bytes, may have {LONG_TEXT}")
                if value is not None and value.startswith(link_records.ID, BODY + 1):
                    known = link_records.made_here(value)
                    if known is not None and (not partitions or placed[record.key] == partition):
                        learn(state, *known, offset)
                        state.next_offset = offset + 1
                        continue
                h = read(value)
                refusal = admit(h)
                if refusal is not None:
                    raise Refused(refusal[0], refusal[1])
                if partitions and placed[record.key] != partition and offset >= state.placed_from:
                    unit.misrouted += 1
                    raise Refused("misrouted", misrouted(record.key, placed[record.key], partitions))
                fresh = state.dedupe.seen(
                    h.event_id if h.tenant_id is None else keyed(h.event_id, h.tenant_id)
                )
                if fresh is None:
                    state.duplicates += 1
                elif h.kind == LINK:
                    if len(value or b"") > LONG_TEXT:
                        self._check_sizes(h, len(value or b""))
                    learn(state, h.source_id, link_of(h), offset)
                else:
                    made = self._event(state, unit, h, offset, stamp, appended, prefix, len(value or b""))
                    output((value or b"", record.key, made))
                    state.dedupe.add(fresh, state.clock)
                    state.sequence += 1
                    state.enriched += 1
            except DecodeError as e:
                self._refuse(state, unit, record, None, Stage.DECODE, e.reason, e.detail)
            except Refused as e:
                self._refuse(state, unit, record, h, Stage.APPLY, e.reason, e.detail)
            except UnreadableRecord:
                raise  # not the fault of this event
            except Exception as e:
                self._refuse(state, unit, record, h, Stage.APPLY, "apply_failed", f"{type(e).__name__}: {e}")
            state.next_offset = offset + 1

    def _event(
        self,
        state: State,
        unit: TransactionBatch,
        h: Header,
        offset: int,
        stamp: int,
        appended: bytes,
        prefix: bytes,
        size: int,
    ) -> bytes:
        """The context of one event. The state is changed last, when nothing can fail any more."""
        if size > LONG_TEXT:
            self._check_sizes(h, size)
        if h.revision and not 0 < h.revision < 1 << 31:
            raise Refused("bad_revision", f"revision is {h.revision}, may be 0 to {(1 << 31) - 1}")
        source_id = h.source_id
        parent = parent_of(h)
        parent_id, parent_kind = parent
        span_id = h.otel_span_id or otel_span_id(source_id)
        parent_span = None
        if parent_kind != "none":
            parent_span = h.otel_parent_span_id or (None if parent_id is None else self._span_ids[parent_id])
        found = marks_of(h, stamp)
        if parent == CUT or parent_span == span_id:
            parent_id, parent_kind = NONE
            parent_span = None if parent_span == span_id else parent_span
            found = (*found, SELF_PARENT)
        skewed = CLOCK_SKEW in found
        root = root_of(h, state.known_links, state.is_root)
        linked = None
        if root.source == INFERRED:
            found = (*found, ROOT_INFERRED)
            linked = self._span_ids[root.run or b""]
        elif root.split:
            found = (*found, RUN_SPLIT)
        classes = h.token_classes
        if classes is not None and not plausible(count(h.input_tokens), count(h.output_tokens), classes):
            classes, found = None, (*found, TOKEN_CLASSES_IGNORED)
        price, known, odd = self._enricher.price(h, classes)
        if odd is not None:
            found = (*found, odd)
        aggregator = state.aggregator
        counted = aggregator.find(h, known, state.clock, classes is not None) if h.revision == 0 else None
        position = prefix + zigzag(state.sequence)
        at = stamp if state.ahead_at or stamp < state.clock else state.clock
        name = root.trace
        if name is None:
            enriched = self._enricher.fields(h, linked, price, known, None)
            shared = context_of_no_trace(h)
        elif h.kind in _APART:
            shared, more = context_of_evaluation(state, name, h, root, at, offset)
            found = (*found, *more)
            enriched = self._enricher.fields(h, linked, price, known, None)
        else:
            key, trace = name, state.trace(name)
            tenant = h.tenant_id if h.tenant_id is not None else root.tenant
            if trace is None or differ(trace.tenant_id, tenant):
                key, trace = opened(state, name, h, root, tenant, offset)
            if trace.revisions and trace.superseded(h):
                found = (*found, SUPERSEDED)
            unknown = trace.start_unknown and start_unknown(h, root, state.starts.before)
            if unknown:
                found = (*found, START_UNKNOWN)
            enriched = self._enricher.fields(h, linked, price, known, trace)
            if h.dataset_ids and (names := dataset_names(h)):
                trace.name_datasets(h.dataset_ids, names)
            trace.operations.add(
                h, span_id, parent_span, price, known == ESTIMATED_PRICE, source_id == name, classes
            )
            trace.start_unknown = unknown
            trace.add(h, root, at, offset)
            run = h.workflow_run_id
            if run is not None and self._link_runs and run != name and not trace.knows(run):  # once a run
                run = run_to_link(h, root)
                if run is not None:
                    trace.learn(run)
                    if state.known_links.find(run, trace.tenant_id) is None:
                        link = Link(name, root.run, trace.started_at, trace.app_id, trace.tenant_id)
                        unit.links.append((run, link_records.record(run, link, at * 1000)))
            state.touch(key, trace)
            shared = trace.shared(source_id)
        if counted is not None:
            aggregator.add(h, counted, price, skewed, state.clock, offset, classes)
        elif h.revision > 0:
            aggregator.corrections += 1
        return context.encode(
            position, offset, appended, span_id, parent_span, parent_id, parent_kind, found, enriched, shared
        )

    def _check_sizes(self, h: Header, size: int) -> None:
        if size > self._max_value:
            raise Refused("too_large", f"{size} bytes, an enriched record may have {self._max_value}")
        for name in NAMES:
            field = getattr(h, name)
            if isinstance(field, list):  # as it is written: empty texts have bytes, too
                longest = len(strings(field))
            else:
                longest = len(field) if isinstance(field, bytes) else 0
            if longest > LONG_TEXT and name != "error":
                raise Refused("field_too_long", f"{name} has {longest} bytes, may have {LONG_TEXT}")

    def _refuse(
        self,
        state: State,
        unit: TransactionBatch,
        record: Record,
        h: Header | None,
        stage: Stage,
        reason: str,
        detail: str,
    ) -> None:
        """Dead-letters a record: its bytes, and its identity if the header could be read."""
        key = record.key
        found = dead_letter(
            stage,
            reason,
            detail[:TEXT],
            topic=self._topic,
            partition=self._partition,
            offset=record.offset,
            appended_at=record.timestamp,
            failed_at=record.timestamp,
            event_id=None if h is None else _name(h.event_id),
            trace_id=None if h is None else _name(h.trace_id),
            kind=None if h is None else h.kind,
            tenant_id=None if h is None else _name(h.tenant_id),
            app_id=None if h is None else _name(h.app_id),
            key=None if key is None else key[: self._keep],
            value=record.value,
            keep=self._keep,
        )
        trace = None if h is None else h.trace_id
        unit.dead_letters.append(((trace or key or b"")[:NAME] or None, wire.encode(found)))
        state.dead_lettered += 1


def opened(
    state: State, name: bytes, h: Header, root: Root, tenant: bytes | None, offset: int
) -> tuple[bytes, Trace]:
    """State key and trace of an event, if the trace that has the plain id is not open or not its own.

    A trace that has left the state continues with the start that is remembered of it.
    """
    key, trace, known = state.locate(name, tenant)
    if trace is None:
        if known is not None:
            trace = Trace(name, known.started_at, offset)
            trace.certain, trace.start_unknown = known.certain, known.unknown
        else:
            trace = Trace(name, root.started_at if root.started_at is not None else h.started_at, offset)
            trace.start_unknown = start_unknown(h, root, state.starts.before)
    return key, trace


def learn(state: State, run: bytes, link: Link | None, offset: int) -> None:
    """Adds a link to the state, unless it names the run itself or nothing."""
    if link is not None and link.trace != run:
        link.split = state.is_root(run, link.tenant)
        if state.known_links.add(run, link, state.clock, offset) and link.split:
            state.split_runs += 1
    state.links += 1


def _name(text: bytes | None) -> str | None:
    """An id for a dead letter, cut to `NAME` bytes."""
    return None if text is None else text[:NAME].decode("utf-8", "ignore")


def context_of_no_trace(h: Header) -> bytes:
    """The shared context fields of an event without a trace; its ids are derived from the event itself."""
    alone = Trace(None, h.started_at)
    alone.add(h, Root(None, None, None, None, "own"), 0, 0)
    return alone.shared(h.source_id)


def context_of_evaluation(
    state: State, name: bytes, h: Header, root: Root, at: int, offset: int
) -> tuple[bytes, tuple[bytes, ...]]:
    """The shared context fields of an evaluation, and its marks.

    The trace is not opened, learns nothing and is not summed up again; it only remembers corrections.
    """
    key, trace, known = name, state.trace(name), None
    tenant = h.tenant_id if h.tenant_id is not None else root.tenant
    if trace is None or differ(trace.tenant_id, tenant):
        key, trace, known = state.locate(name, tenant)
    unknown = start_unknown(h, root, state.starts.before)
    if trace is None:
        started = root.started_at if root.started_at is not None else h.started_at
        if known is not None:
            started, unknown = known.started_at, unknown and known.unknown
        alone = Trace(name, started)
        alone.add(h, root, 0, 0)
        return alone.shared(h.source_id), (START_UNKNOWN,) if unknown else ()
    found = (START_UNKNOWN,) if unknown and trace.start_unknown else ()
    if trace.revisions is not None and trace.superseded(h):
        found = (SUPERSEDED, *found)
    if h.revision > 0:
        trace.revise(h, at, offset)
        state.touch(key, trace)
    return trace.shared(h.source_id), found
