"""The content that dead letters name. Reads trace.dead-letters, from its beginning to its end."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from tailrace import clients, kafka
from tailrace.errors import KafkaUnavailable, TopicMismatch
from tailrace.ledger.report import ends
from tailrace.settings import Settings
from tailrace.topics import TopicNames

STALLED: Final = 30.0
"""Seconds without a record after which reading fails."""
FETCH: Final = 50
"""Most records of one `consume` call. A dead letter may have more bytes than an event."""
_HASH: Final = re.compile(rb"sha256:[0-9a-f]{64}")


def hashes(value: bytes | None) -> Iterator[str]:
    """Everything in a record that has the form of a hash of content. Pure.

    A dead letter holds the bytes of an event that could not be read, so the names are searched in the bytes:
    Avro writes texts as they are. A text that only looks like a name spares content without need.
    """
    return (found.decode() for found in _HASH.findall(value or b""))


def named(settings: Settings, clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """The hashes of all dead letters that were in the topic when reading started. Blocks.

    Args:
        settings: Where Kafka is.
        clock: Monotonic seconds.

    Raises:
        TopicMismatch: The topic is missing.
        KafkaUnavailable: No record arrives for 30 s.
        KafkaException: The cluster refuses.
    """
    topic = TopicNames.of(settings.topics).dead_letters
    consumer = kafka.open_client(
        Consumer,
        {
            **clients.reader(settings.kafka, "tailrace-content-sweep", fetch_wait_max_ms=10),
            "logger": logging.getLogger("tailrace.content.client"),
        },
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        if not partitions:
            raise _missing(topic)
        try:
            spans = {n: ends(consumer, topic, n) for n in partitions}
        except KafkaException as e:  # brokers learn one after the other that a topic is deleted
            if e.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise _missing(topic) from None
            raise
        waiting = {n: end for n, (first, end) in spans.items() if end > first}
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in waiting])
        came = clock()
        while waiting:
            messages = consumer.consume(FETCH, 0.05)
            if messages:
                came = clock()
            elif clock() - came >= STALLED:
                raise KafkaUnavailable(
                    f"{topic}: no record arrived for {STALLED:.0f} s (kafka.bootstrap_servers)"
                )
            for message in messages:
                error, partition = message.error(), message.partition()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        waiting.pop(partition, None)
                    elif not error.retriable():
                        raise KafkaException(error)
                    continue
                if message.offset() + 1 >= waiting.get(partition, 0):
                    waiting.pop(partition, None)
                yield from hashes(message.value())
    finally:
        consumer.close()


def _missing(topic: str) -> TopicMismatch:
    return TopicMismatch(f"{topic} is missing: run `tailrace topics create`")
