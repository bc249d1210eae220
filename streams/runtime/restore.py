"""Reads what a former owner wrote to trace.state.

Valid only after init_transactions of the partition's producer.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

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


def _reader(settings: Kafka) -> Consumer:
    return kafka.open_client(
        Consumer,
        {
            **clients.reader(
                settings,
                "tailrace-restore",
                queued_min_messages=100_000,
                fetch_wait_max_ms=10,
                fetch_queue_backoff_ms=5,
            ),
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

    Blocks; reads at most one fetch of each. Raises KafkaException.
    """
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
