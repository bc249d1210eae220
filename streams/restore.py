"""Reading what a former owner wrote to trace.state. Valid only after init_transactions of the partition's producer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tailrace import kafka
from tailrace.settings import Kafka

_BATCH: Final = 10_000


class Found(msgspec.Struct):
    """What the log of one partition's state holds."""

    records: dict[bytes, bytes] = {}
    """The last value of each key that has one."""
    read: int = 0
    """Records of the log, those that later ones replace included."""
    size: int = 0
    """Bytes of their keys and values."""
    seconds: float = 0.0
    """How long reading took, together with the partitions read at once."""


def _reader(settings: Kafka) -> Consumer:
    return Consumer(
        {
            **kafka.client(
                settings, group_id="tailrace-restore", enable_auto_commit=False, enable_partition_eof=True, auto_offset_reset="earliest",
                isolation_level="read_committed", queued_min_messages=100_000, fetch_wait_max_ms=10, fetch_queue_backoff_ms=5,
            ),
            "logger": logging.getLogger("streams.restore.client"),
        }
    )  # fmt: skip


def read_state(settings: Kafka, topic: str, partitions: list[int]) -> dict[int, Found]:
    """What the partitions' state is, of all committed records up to the last stable offset. Blocks.

    After init_transactions nobody else can commit and every marker is written, so that offset is the end. Of a log that is
    not compacted yet only what counts is kept in memory. Raises KafkaException.
    """
    began = time.perf_counter()
    found = {n: Found() for n in partitions}
    for message in _to_the_end(settings, topic, partitions):
        of = found[message.partition()]
        key, value = message.key() or b"", message.value()
        of.read += 1
        if value is None:
            of.size += len(key)
            of.records.pop(key, None)
        else:
            of.size += len(key) + len(value)
            of.records[key] = value
    for of in found.values():
        of.seconds = time.perf_counter() - began
    return found


def first_records(settings: Kafka, topic: str, partitions: list[int]) -> set[int]:
    """Partitions that hold a committed record. Blocks; reads one fetch of each at most. Raises KafkaException."""
    return {n for n in partitions if next(_to_the_end(settings, topic, [n]), None) is not None}


def _to_the_end(settings: Kafka, topic: str, partitions: list[int]) -> Iterator[Message]:
    consumer, waiting = _reader(settings), set(partitions)
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in partitions])
    try:
        while waiting:
            for message in consumer.consume(_BATCH, 0.05):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)
    finally:
        consumer.close()
