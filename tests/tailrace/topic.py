"""Reads back what is in a topic."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tailrace import codec
from tailrace.records import TraceEvent
from tailrace.settings import Settings
from tailrace.topics import TopicNames


def records(bootstrap_servers: str, topic: str) -> list[Message]:
    """All records of a topic, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "none",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        open_ = set(consumer.list_topics(topic).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, p, 0) for p in open_])
        found: list[Message] = []
        while open_:
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                open_.discard(message.partition())
            elif not error.retriable():
                raise KafkaException(error)
        return sorted(found, key=lambda m: (m.partition(), m.offset()))
    finally:
        consumer.close()


def published(settings: Settings) -> list[TraceEvent]:
    """The events in a pipeline's events topic."""
    found = records(settings.kafka.bootstrap_servers, TopicNames.of(settings.topics).events)
    return [codec.decode(m.value() or b"", TraceEvent) for m in found]
