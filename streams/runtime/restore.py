"""Reads what a former owner wrote to trace.state.

Valid only after init_transactions of the partition's producer.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tailrace import clients, kafka
from tailrace.settings import Kafka

_BATCH: Final = 10_000


Records = dict[bytes, bytes]
"""The last value of each key that has one."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Disables garbage collection while state is read and restored.

    That creates millions of objects and no garbage, and scanning them repeatedly takes longer than
    creating them. Afterwards the collector ignores them (`gc.freeze`).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


def _reader(settings: Kafka, **properties: Any) -> Consumer:
    return kafka.open_client(
        Consumer,
        {
            **clients.reader(settings, "tailrace-restore", fetch_wait_max_ms=10, **properties),
            "logger": logging.getLogger("streams.runtime.restore.client"),
        },
    )


def read_state(settings: Kafka, topic: str, partitions: list[int]) -> dict[int, Records]:
    """The state of the partitions: all committed records up to the last stable offset. Blocks.

    After init_transactions no other producer can commit and every marker is written, so that offset is
    the end. If the log is not compacted yet, only the last value of each key is kept in memory. Raises
    KafkaException.
    """
    found: dict[int, Records] = {n: {} for n in partitions}
    for message in _to_the_end(settings, topic, partitions):
        records, key, value = found[message.partition()], message.key() or b"", message.value()
        if value is None:
            records.pop(key, None)
        else:
            records[key] = value
    return found


def first_records(settings: Kafka, topic: str, partitions: list[int]) -> set[int]:
    """Partitions that hold a committed record.

    Blocks; one reader for all of them, which leaves a partition at its first record. Raises
    KafkaException.
    """
    consumer = _reader(
        settings, queued_min_messages=1, fetch_message_max_bytes=65_536, fetch_queue_backoff_ms=5
    )
    waiting, found = set(partitions), set[int]()
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in partitions])
    try:
        while waiting:
            message = consumer.poll(0.05)
            if message is None or message.partition() not in waiting:
                continue
            n = message.partition()
            if message.error() is None:
                found.add(n)
                consumer.pause([TopicPartition(topic, n)])
            elif not _at_end(message):
                continue
            waiting.discard(n)
        return found
    finally:
        consumer.close()


def _to_the_end(settings: Kafka, topic: str, partitions: list[int]) -> Iterator[Message]:
    waiting = set(partitions)
    consumer = _reader(settings, queued_min_messages=100_000, fetch_queue_backoff_ms=5)
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in partitions])
    try:
        while waiting:
            for message in consumer.consume(_BATCH, 0.05):
                if message.error() is None:
                    yield message
                elif _at_end(message):
                    waiting.discard(message.partition())
    finally:
        consumer.close()


def _at_end(message: Message) -> bool:
    """Whether a message without a record is the end of its partition. Raises KafkaException."""
    error = message.error()
    assert error is not None
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    if not error.retriable():
        raise KafkaException(error)
    return False
