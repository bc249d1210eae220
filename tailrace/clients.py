"""The properties of each kind of librdkafka client, and what librdkafka refuses of them.

`kafka.client` of the settings applies to all of them. A property may be valid for one kind only: a
message timeout that suits a publisher may be longer than the processor's transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from confluent_kafka import Consumer, Producer

from tailrace import kafka
from tailrace.errors import ConfigError
from tailrace.kafka import Properties
from tailrace.partitioner import PARTITIONER
from tailrace.settings import Kafka, Settings
from tailrace.topics import ROOM

PREFETCH_KB: Final = 16_384
"""Most kilobytes that a sink's consumer prefetches."""
_LONGEST_WAIT: Final = 2_147_000
"""Longest time that librdkafka keeps events of a topic that is missing, in milliseconds (36 minutes).

It allows an hour, but counts microseconds in 32 bits: with more than this it does not wait at all.
"""


def publisher(settings: Settings) -> Properties:
    """A publisher's producer."""
    s = settings.publisher
    return kafka.client(
        settings.kafka,
        enable_idempotence=True,
        acks="all",
        partitioner=PARTITIONER,
        linger_ms=s.linger_ms,
        compression_type=s.compression,
        message_timeout_ms=max(1, int(s.delivery_timeout_seconds * 1000)),  # 0 means no timeout
        message_max_bytes=settings.topics.max_event_bytes,
        queue_buffering_max_messages=s.queue_max_events,
        queue_buffering_max_kbytes=max(1, s.queue_max_bytes // 1024),
        # a missing topic is waited for, as a broker is
        topic_metadata_propagation_max_ms=_LONGEST_WAIT,
    )


def transactional(settings: Settings, transactional_id: str) -> Properties:
    """The processor's producer for one partition."""
    return kafka.client(
        settings.kafka,
        transactional_id=transactional_id,
        transaction_timeout_ms=settings.streams.transaction_timeout_ms,
        partitioner=PARTITIONER,
        delivery_report_only_error=True,
        linger_ms=5,
        compression_type="lz4",
        batch_size=1 << 20,
        message_max_bytes=2 * settings.topics.max_event_bytes + ROOM,
        queue_buffering_max_messages=1_000_000,
        queue_buffering_max_kbytes=256 * 1024,
    )


def dead_letters(settings: Settings, sink: str) -> Properties:
    """The producer of a sink's dead letters."""
    return kafka.client(
        settings.kafka,
        client_id=f"tailrace-{sink}-dead-letters",
        enable_idempotence=True,
        acks="all",
        partitioner=PARTITIONER,
        compression_type="lz4",
        linger_ms=5,
        message_timeout_ms=30_000,
        message_max_bytes=2 * settings.topics.max_event_bytes + ROOM,
    )


def reports(settings: Settings, sink: str) -> Properties:
    """The producer of a sink's `rehydration_failed` events."""
    return kafka.client(
        settings.kafka,
        client_id=f"tailrace-{sink}-reports",
        enable_idempotence=True,
        acks="all",
        partitioner=PARTITIONER,
        compression_type="lz4",
        linger_ms=5,
        message_timeout_ms=30_000,
        message_max_bytes=settings.topics.max_event_bytes,
    )


def sink(settings: Settings, name: str, *, partition_eof: bool) -> Properties:
    """The consumer of a sink."""
    connect = settings.connect
    static = {"group_instance_id": connect.instance_id} if connect.instance_id else {}
    return kafka.client(
        settings.kafka,
        group_id=connect.group_prefix + name,
        client_id=f"tailrace-{name}",
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        enable_partition_eof=partition_eof,
        isolation_level="read_committed",
        auto_offset_reset="error",
        partition_assignment_strategy="cooperative-sticky",
        session_timeout_ms=connect.session_timeout_ms,
        # The client's default of 3 s is too long for a session timeout below that.
        heartbeat_interval_ms=max(100, connect.session_timeout_ms // 5),
        fetch_queue_backoff_ms=5,
        queued_max_messages_kbytes=PREFETCH_KB,
        **static,
    )


def reader(settings: Kafka, group: str, **properties: Any) -> Properties:
    """A consumer that reads a log from its start to its end, and joins no group.

    Args:
        settings: how to reach the cluster.
        group: name of its group, which it never joins.
        properties: further ones, as for `kafka.client`.
    """
    return kafka.client(
        settings,
        group_id=group,
        enable_auto_commit=False,
        enable_partition_eof=True,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        **properties,
    )


def check_publisher(settings: Settings) -> None:
    """Raises `ConfigError` if librdkafka refuses a publisher's properties. Contacts no broker."""
    _try(Producer, publisher(settings))


def check_processor(settings: Settings) -> None:
    """The same for the processor's clients."""
    _try(Producer, transactional(settings, "check"))
    _try_consumer(reader(settings.kafka, "tailrace-restore"))


def check_sinks(settings: Settings) -> None:
    """The same for the clients of sinks."""
    _try_consumer(sink(settings, "check", partition_eof=False))
    _try(Producer, dead_letters(settings, "check"))
    _try(Producer, reports(settings, "check"))


def problems(settings: Settings) -> Iterator[str]:
    """What librdkafka refuses of the settings, for any kind of client. Each sentence comes once."""
    seen: set[str] = set()
    for check in (check_publisher, check_processor, check_sinks):
        try:
            check(settings)
        except ConfigError as e:
            if str(e) not in seen:
                seen.add(str(e))
                yield str(e)


def _try(make: Callable[[Properties], Any], properties: Properties) -> Any:
    offline = {k: v for k, v in properties.items() if k != "bootstrap.servers"}
    return kafka.open_client(make, offline)


def _try_consumer(properties: Properties) -> None:
    _try(Consumer, properties).close()
