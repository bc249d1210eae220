"""trace.enriched, checked against the ledger and trace.events.

Each event exactly once, its bytes unchanged, numbered without gaps.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from tailrace import codec
from tailrace.errors import DecodeError
from tailrace.records import Kind, TraceContext, TraceEvent
from tailrace.topics import HEADER
from tests.harness.ledger import Obligations, account

Place = tuple[int, int]
"""Partition and offset."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A record of trace.events."""

    partition: int
    offset: int
    key: bytes | None
    digest: bytes
    event_id: str | None
    """None: not an event (a link, or what cannot be decoded)."""


class Enriched(msgspec.Struct, frozen=True, kw_only=True):
    """A record of trace.enriched."""

    partition: int
    offset: int
    key: bytes | None
    digest: bytes
    context: TraceContext | None
    """None: there is none, or it cannot be decoded."""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """trace.enriched as both kinds of reader see it."""

    committed: list[Enriched]
    """Read committed."""
    uncommitted: Collection[Place]
    """Places of records, with aborted and undecided ones."""
    stable: Mapping[int, int]
    """Last stable offset by partition; records beyond it are undecided."""


def digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


# -- the comparison
class EnrichedVerdict(msgspec.Struct, frozen=True, kw_only=True):
    scenario: str
    seeds: tuple[int, ...]
    acked: int
    """Obligations."""
    enriched: int
    """Records, read committed."""
    lost: int
    """Obligations without a record."""
    duplicates: int
    """Records beyond the first of an event."""
    spurious: int
    """Records that come from no event of trace.events."""
    altered: int
    """Records whose value or key is not that of their event."""
    wrong_context: int
    """Records of obligations whose context is missing or names other ids than the event has."""
    gaps: int
    """Places where the numbers of a partition and generation are not 0, 1, 2, …"""
    missing_in_source: int
    """Obligations that trace.events does not hold where their delivery report said."""
    aborted: int
    """Records of aborted transactions. They show that a kill hit an open one."""
    undecided: int
    """Records of transactions still open."""
    examples: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not (
            self.lost
            or self.duplicates
            or self.spurious
            or self.altered
            or self.wrong_context
            or self.gaps
            or self.missing_in_source
        )

    def line(self) -> str:
        """One line for the test's output."""
        return (
            f"{self.scenario or 'enriched'} seed {','.join(map(str, self.seeds)) or '?'}: acked "
            f"{self.acked}, enriched {self.enriched}, "
            f"lost {self.lost}, duplicates {self.duplicates}, spurious {self.spurious}, altered "
            f"{self.altered}, "
            f"wrong context {self.wrong_context}, gaps {self.gaps}, missing in source "
            f"{self.missing_in_source}, "
            f"aborted {self.aborted}, undecided {self.undecided}: {'ok' if self.ok else 'FAILED'}"
        )

    def require(self, *, acked: int = 1, aborted: int = 0) -> None:
        """Raises AssertionError unless everything is exact.

        Args:
            acked: at least so many events were promised.
            aborted: at least so many records were aborted; otherwise the kills hit no transaction.
        """
        problems = list(self.examples)
        if self.acked < acked:
            problems.append(f"only {self.acked} events were acknowledged, the scenario needs {acked}")
        if self.aborted < aborted:
            problems.append(f"only {self.aborted} records were aborted, the scenario needs {aborted}")
        if problems or not self.ok:
            raise AssertionError("\n  ".join([self.line(), *problems]))


def judge(
    obligations: Obligations,
    source: Iterable[Source],
    topic: Topic,
    *,
    scenario: str = "",
    dead_lettered: Collection[str] = (),
) -> EnrichedVerdict:
    """Compares trace.enriched with trace.events and the ledger.

    Events of trace.events that are not obligations may be enriched, once.

    Args:
        obligations: what was promised.
        source: trace.events.
        topic: trace.enriched.
        scenario: a name for the report.
        dead_lettered: event ids that the processor dead-lettered instead.
    """
    events: dict[Place, Source] = {(s.partition, s.offset): s for s in source}
    owed = obligations.acked
    missing = [
        o
        for o in owed.values()
        if (s := events.get((o.partition, o.offset))) is None or s.event_id != o.event_id
    ]
    ids: list[str] = []
    first: dict[str, str] = {}
    spurious, altered, wrong, twice = [], [], [], []
    for r in topic.committed:
        where = f"{r.partition}/{r.offset}"
        c = r.context
        if c is None:
            wrong.append(f"no context: {where}")
            continue
        s = events.get((r.partition, c.source_offset))
        if s is None or s.event_id is None:
            spurious.append(f"spurious: {where} says it is event {r.partition}/{c.source_offset}")
            continue
        ids.append(s.event_id)
        if first.setdefault(s.event_id, where) != where:
            twice.append(f"duplicate: {where}, event {s.event_id} was at {first[s.event_id]} already")
        if s.digest != r.digest or s.key != r.key:
            altered.append(f"altered: {where}, event {s.event_id} at offset {s.offset}")
        if (o := owed.get(s.event_id)) is not None:
            e = o.expected
            parent = c.parent_span_id.hex() if c.parent_span_id else None
            if (c.run_trace_id.hex(), c.span_id.hex(), parent) != (e.trace_id, e.span_id, e.parent_span_id):
                wrong.append(f"wrong context: {where}, event {s.event_id}: {c}")
    known = {s.event_id for s in events.values() if s.event_id is not None}
    a = account(owed, ids, allowed=known, excused=dead_lettered)
    lost = [
        f"lost: {i} ({owed[i].kind} of {owed[i].trace}, {owed[i].partition}/{owed[i].offset})"
        for i in sorted(a.lost)
    ]
    gaps = [f"gap: {g}" for g in sequence_gaps(topic.committed)]
    committed = {(r.partition, r.offset) for r in topic.committed}
    decided = sum(offset < topic.stable[p] for p, offset in topic.uncommitted)
    return EnrichedVerdict(
        scenario=scenario,
        seeds=obligations.seeds,
        acked=len(owed),
        enriched=len(committed),
        lost=len(lost),
        duplicates=a.duplicates,
        spurious=len(spurious),
        altered=len(altered),
        wrong_context=len(wrong),
        gaps=len(gaps),
        missing_in_source=len(missing),
        aborted=decided - len(committed),
        undecided=len(topic.uncommitted) - decided,
        examples=(
            *lost[:3],
            *twice[:3],
            *spurious[:3],
            *altered[:3],
            *wrong[:3],
            *gaps[:3],
            *(f"missing in source: {o.event_id} at {o.partition}/{o.offset}" for o in missing[:3]),
        ),
    )


def sequence_gaps(records: Iterable[Enriched]) -> list[str]:
    """Places where the numbers of a partition and generation, by offset, are not 0, 1, 2, …"""
    numbers: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for r in records:
        if r.context is not None:
            numbers[r.partition, r.context.generation].append((r.offset, r.context.sequence))
    found = []
    for (partition, generation), pairs in sorted(numbers.items()):
        expected = 0
        for offset, sequence in sorted(pairs):
            if sequence != expected:
                found.append(
                    f"partition {partition}, generation {generation}: {sequence} at offset {offset}, must be "
                    f"{expected}"
                )
            expected = sequence + 1
    return found


# -- reading
_POLL_SECONDS: Final = 0.05


def read(
    bootstrap: str, topic: str, *, committed: bool, timeout: float = 60.0
) -> tuple[list[Any], dict[int, int]]:
    """Every message of a topic up to its end, and the end of each partition.

    Read committed, the end is the last stable offset. Joins no group and commits nothing. Raises
    KafkaException, and AssertionError after `timeout` seconds.
    """
    consumer = _consumer(bootstrap, committed)
    try:
        found = consumer.list_topics(topic, timeout=timeout).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
    finally:
        consumer.close()
    places = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in found.partitions]
    return read_from(bootstrap, places, committed=committed, timeout=timeout)


def read_from(
    bootstrap: str, places: list[Any], *, committed: bool, timeout: float = 60.0
) -> tuple[list[Any], dict[int, int]]:
    """As `read`, from the offset of each of `places` (TopicPartition)."""
    consumer = _consumer(bootstrap, committed)
    try:
        consumer.assign(places)
        messages: list[Any] = []
        ends: dict[int, int] = {}
        deadline = time.monotonic() + timeout
        while len(ends) < len(places):
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(ends)} of {places} read to their end in {timeout:g} s")
            for m in consumer.consume(1000, _POLL_SECONDS):
                error = m.error()
                if error is None:
                    if m.partition() not in ends:  # what is appended later is for the next call
                        messages.append(m)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ends.setdefault(m.partition(), m.offset())
                else:
                    raise KafkaException(error)
        return messages, ends
    finally:
        consumer.close()


def _consumer(bootstrap: str, committed: bool) -> Any:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"harness-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
            "fetch.queue.backoff.ms": 20,
        }
    )


def read_source(bootstrap: str, topic: str, *, timeout: float = 60.0) -> list[Source]:
    """trace.events, read committed: the processor writes links to it in transactions."""
    messages, _ = read(bootstrap, topic, committed=True, timeout=timeout)
    return [
        Source(
            partition=m.partition(),
            offset=m.offset(),
            key=m.key(),
            digest=digest(m.value() or b""),
            event_id=_event_id(m.value()),
        )
        for m in messages
    ]


def read_enriched(bootstrap: str, topic: str, *, timeout: float = 60.0) -> Topic:
    """trace.enriched, read committed and uncommitted."""
    messages, stable = read(bootstrap, topic, committed=True, timeout=timeout)
    everything, _ = read(bootstrap, topic, committed=False, timeout=timeout)
    return Topic(
        committed=[
            Enriched(
                partition=m.partition(),
                offset=m.offset(),
                key=m.key(),
                digest=digest(m.value() or b""),
                context=_context(m.headers()),
            )
            for m in messages
        ],
        uncommitted=[(m.partition(), m.offset()) for m in everything],
        stable=stable,
    )


def check(
    bootstrap: str,
    obligations: Obligations,
    *,
    events: str = "trace.events",
    enriched: str = "trace.enriched",
    scenario: str = "",
    dead_lettered: Collection[str] = (),
    timeout: float = 60.0,
) -> EnrichedVerdict:
    """Reads both topics to their ends and compares them.

    The processor must have caught up: what it has not written yet counts as lost.
    """
    topic = read_enriched(bootstrap, enriched, timeout=timeout)
    return judge(
        obligations,
        read_source(bootstrap, events, timeout=timeout),
        topic,
        scenario=scenario,
        dead_lettered=dead_lettered,
    )


def _event_id(value: bytes | None) -> str | None:
    try:
        event = codec.decode(value or b"", TraceEvent)
    except DecodeError:
        return None
    return None if event.kind == Kind.LINK else event.event_id


def _context(headers: list[tuple[str, bytes | None]] | None) -> TraceContext | None:
    values = [v for name, v in headers or () if name == HEADER]
    try:
        return codec.decode(values[0] or b"", TraceContext) if len(values) == 1 else None
    except DecodeError:
        return None
