"""Reads trace.metrics, from its beginning to the end that it had when reading started."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tailrace import clients, codec, kafka
from tailrace.errors import DecodeError, KafkaUnavailable, TopicMismatch
from tailrace.ledger.report import ends
from tailrace.metrics.windows import Change, problem
from tailrace.records import MetricRow
from tailrace.settings import Settings
from tailrace.topics import TopicNames

STALLED: Final = 30.0
"""Seconds without a record after which reading fails."""
_SHOWN: Final = 5
"""Unreadable records that are listed; further ones are only counted."""


class Reading(msgspec.Struct):
    """The progress of a read."""

    offsets: int = 0
    """Offsets in the topic. Compaction and transactions leave fewer records."""
    records: int = 0
    unreadable: int = 0
    problems: list[str] = []
    """The first unreadable records, and what is wrong with them."""


def read(
    settings: Settings,
    reading: Reading,
    progress: Callable[[Reading], None] = lambda reading: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Change]:
    """Every committed record of trace.metrics, per partition in log order. Blocks.

    An unreadable value is counted in `reading` and deletes its key's row: compaction would leave
    nothing else of the key.

    Args:
        settings: where Kafka is.
        reading: receives the counts.
        progress: called after each batch of records.

    Raises:
        TopicMismatch: the topic is missing.
        KafkaUnavailable: no record arrives for 30 s.
        KafkaException: the cluster refuses.
    """
    topic = TopicNames.of(settings.topics).metrics
    consumer = _consumer(settings)
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        if not partitions:
            raise TopicMismatch(f"{topic} is missing: run `tailrace topics create`")
        spans = {n: ends(consumer, topic, n) for n in partitions}
        reading.offsets = sum(end - first for first, end in spans.values())
        waiting = {n: end for n, (first, end) in spans.items() if end > first}
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in waiting])
        came = clock()
        while waiting:
            messages = consumer.consume(10_000, 0.05)
            if messages:
                came = clock()
            elif clock() - came >= STALLED:
                raise KafkaUnavailable(
                    f"{topic}: no record arrived for {STALLED:.0f} s, after {reading.records} records "
                    "(kafka.bootstrap_servers)"
                )
            for message in messages:
                yield from _change(message, waiting, reading)
            progress(reading)
    finally:
        consumer.close()


def _consumer(settings: Settings) -> Consumer:
    return kafka.open_client(
        Consumer,
        {
            **clients.reader(settings.kafka, "tailrace-metrics", fetch_wait_max_ms=10),
            "logger": logging.getLogger("tailrace.metrics.rows.client"),
        },
    )


def _change(message: Message, waiting: dict[int, int], reading: Reading) -> Iterator[Change]:
    """The change that a message holds, if any.

    Removes a partition that has been read to its end from `waiting`.
    """
    error, partition = message.error(), message.partition()
    if error is not None:
        if error.code() == KafkaError._PARTITION_EOF:
            waiting.pop(partition, None)
        elif not error.retriable():
            raise KafkaException(error)
        return
    offset, end = message.offset(), waiting.get(partition, 0)
    if offset + 1 >= end:
        waiting.pop(partition, None)
    if offset >= end:  # written after reading started
        return
    reading.records += 1
    key, value = message.key() or b"", message.value()
    if value is None:
        yield key, None
        return
    try:
        row = codec.decode(value, MetricRow)
        wrong = problem(row)
    except DecodeError as e:
        row, wrong = None, str(e)
    if wrong is not None:
        reading.unreadable += 1
        if len(reading.problems) < _SHOWN:
            reading.problems.append(f"{message.topic()} partition {partition} offset {offset}: {wrong}")
    yield key, None if wrong is not None else row
