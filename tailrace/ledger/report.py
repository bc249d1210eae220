"""Reads the counts of a running pipeline: the processor's positions, the sinks' commits, the log ends."""

from __future__ import annotations

import logging
from typing import Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tailrace import clients, kafka
from tailrace.codec import decode_versioned
from tailrace.errors import DecodeError, TopicMismatch
from tailrace.ledger.pipeline_identity import consumer_group
from tailrace.ledger.positions import SOON, stored_positions
from tailrace.ledger.sink_ledger import SinkLedger
from tailrace.records import PartitionPosition
from tailrace.settings import Settings
from tailrace.topics import TopicNames, topic_id

_FEW: Final = 100


class StreamAccount(msgspec.Struct, frozen=True):
    """What the processor did with one partition of trace.events."""

    partition: int
    events_in: int
    enriched: int
    links: int
    duplicates: int
    dead_lettered: int
    pending: int
    """Records between its position and the end of trace.events, read committed."""

    problem: str | None = None
    """Why the counts cannot be trusted."""

    @property
    def balanced(self) -> bool:
        """events in = enriched + links + duplicates + dead-lettered, and the position is of this topic."""
        return (
            self.problem is None
            and self.events_in == self.enriched + self.links + self.duplicates + self.dead_lettered
        )


class SinkAccount(msgspec.Struct, frozen=True):
    """What one sink did with one partition of trace.enriched, up to its last commit."""

    sink: str
    partition: int
    passed: int
    """Sequence numbers passed since counting began."""
    delivered: int
    filtered: int
    dead_lettered: int
    gaps: int
    """Sequence numbers that never arrived: lost records."""
    pending: int
    """Committed enriched records that the sink has not passed yet."""
    unnumbered: int
    """Part of delivered, filtered and dead_lettered: foreign records, which have no sequence number."""
    balanced: bool
    """passed = delivered + filtered + dead-lettered - unnumbered, no gaps, and the ledger is readable."""
    problem: str | None = None
    """Why the ledger in the commit cannot be read."""


class LedgerReport(msgspec.Struct, frozen=True):
    """The whole pipeline at about one moment: partitions are read one after the other."""

    streams: tuple[StreamAccount, ...]
    sinks: tuple[SinkAccount, ...]

    @property
    def balanced(self) -> bool:
        return all(a.balanced for a in self.streams) and all(a.balanced for a in self.sinks)

    @property
    def settled(self) -> bool:
        """Whether nothing is pending."""
        return not any(a.pending for a in self.streams) and not any(a.pending for a in self.sinks)


def _consumer(settings: Settings, group: str = "tailrace-reader") -> Consumer:
    return kafka.open_client(
        Consumer,
        {
            **clients.reader(settings.kafka, group, fetch_wait_max_ms=10),
            "logger": logging.getLogger("tailrace.ledger.report.client"),
        },
    )


def ends(consumer: Consumer, topic: str, partition: int, tries: int = 20) -> tuple[int, int]:
    """First and end offset of a partition. Retries while the partition has no leader.

    Raises:
        KafkaException: the cluster does not answer or refuses.
    """
    while True:
        try:
            first, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            return first, end
        except KafkaException as e:
            tries -= 1
            if not tries or not (e.args[0].retriable() or e.args[0].code() in SOON):
                raise
            consumer.poll(0.25)


def unread(consumer: Consumer, topic: str, partition: int, start: int, end: int) -> int:
    """Committed records from `start` to `end`.

    Transaction markers use offsets too, so a short range is read and counted; for a long one the
    difference of the offsets is close enough.
    """
    if end - start > _FEW or end <= start:
        return max(0, end - start)
    consumer.assign([TopicPartition(topic, partition, start)])
    found = 0
    while True:
        for message in consumer.consume(_FEW, 0.5):
            error = message.error()
            if error is None:
                found += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
            elif not error.retriable():
                raise KafkaException(error)


def sink_groups(admin: AdminClient, settings: Settings) -> list[str]:
    """Consumer groups of sinks: those that start with connect.group_prefix, except the processor's."""
    listed = admin.list_consumer_groups(request_timeout=10).result(10)
    prefix, processor = settings.connect.group_prefix, consumer_group(settings)
    return sorted(
        g.group_id for g in listed.valid if g.group_id.startswith(prefix) and g.group_id != processor
    )


def misplaced(p: PartitionPosition, topic: str, name: str, first: int, end: int) -> str | None:
    """What is wrong with a position; None if nothing is.

    Args:
        p: the processor's position.
        topic: the id of trace.events.
        name: its name.
        first: its first offset.
        end: its end offset.
    """
    if p.topic_id and p.topic_id != topic:
        return (
            f"its position belongs to another {name} (topic id {p.topic_id}, now {topic}): "
            "the topic was deleted and created again"
        )
    if p.next_offset > end:
        return f"its position {p.next_offset} is beyond the end of {name}, {end}"
    return deleted(name, p.next_offset, first)


def deleted(name: str, position: int, first: int) -> str | None:
    """What is wrong if the log of trace.events starts after a position; None if it does not."""
    if 0 <= position < first:
        return f"records of {name} from {position} to {first} were deleted before they were processed"
    return None


def read_report(admin: AdminClient, settings: Settings) -> LedgerReport:
    """Reads the whole report: first the processor, then the sinks.

    Raises:
        KafkaException: the cluster does not answer or refuses.
        TopicMismatch: trace.events is missing.
    """
    names = TopicNames.of(settings.topics)
    metadata = admin.list_topics(timeout=10).topics
    if names.events not in metadata:
        raise TopicMismatch(f"{names.events} is missing: run `tailrace topics create`")
    partitions = len(metadata[names.events].partitions)
    consumer = _consumer(settings)
    try:
        streams, produced = [], dict.fromkeys(range(partitions), (0, 0))
        topic = topic_id(admin, names.events)
        positions = stored_positions(admin, settings)  # before the ends, so never beyond them
        for n in range(partitions):
            first, end = ends(consumer, names.events, n)
            try:
                p = decode_versioned(positions[n], PartitionPosition) if n in positions else None
            except DecodeError as e:
                streams.append(
                    StreamAccount(n, 0, 0, 0, 0, 0, 0, f"its position in {names.state} cannot be read: {e}")
                )
                continue
            if p is None:
                pending = unread(consumer, names.events, n, first, end)
                streams.append(StreamAccount(n, 0, 0, 0, 0, 0, pending, deleted(names.events, 0, first)))
                continue
            produced[n] = (p.generation, p.sequence)
            start = p.next_offset if p.next_offset >= 0 else first
            pending = unread(consumer, names.events, n, start, end)
            problem = misplaced(p, topic, names.events, first, end)
            streams.append(
                StreamAccount(
                    n, p.events_in, p.enriched, p.links, p.duplicates, p.dead_lettered, pending, problem
                )
            )
    finally:
        consumer.close()
    sinks = [
        a for group in sink_groups(admin, settings) for a in _sink(settings, group, names.enriched, produced)
    ]
    return LedgerReport(tuple(streams), tuple(sinks))


def _sink(
    settings: Settings, group: str, topic: str, produced: dict[int, tuple[int, int]]
) -> list[SinkAccount]:
    # A consumer of the group that never joins it. AdminClient.list_consumer_group_offsets crashes the process
    # if a broker answers "not coordinator" (librdkafka issue 5040, seen with confluent-kafka 2.16.1).
    consumer = _consumer(settings, group)
    try:
        committed = consumer.committed([TopicPartition(topic, n) for n in produced], timeout=10)
    finally:
        consumer.close()
    name = group.removeprefix(settings.connect.group_prefix)
    if all(tp.offset < 0 for tp in committed):
        return []
    out = []
    for tp in committed:
        generation, sequence = produced[tp.partition]
        try:
            ledger = SinkLedger.decode(tp.metadata) if tp.offset >= 0 else SinkLedger()
        except DecodeError as e:
            out.append(
                SinkAccount(name, tp.partition, 0, 0, 0, 0, 0, 0, 0, False, f"the commit's metadata: {e}")
            )
            continue
        last = ledger.last if ledger.generation in (generation, -1) else -1
        out.append(
            SinkAccount(
                name,
                tp.partition,
                ledger.last - ledger.base,
                ledger.delivered,
                ledger.filtered,
                ledger.dead_lettered,
                ledger.gaps,
                max(0, sequence - 1 - last),
                ledger.unnumbered,
                ledger.balanced() and not ledger.gaps,
            )
        )
    return out
