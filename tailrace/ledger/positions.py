"""Reads the processor's last position in every partition of trace.state, with one reader for all."""

from __future__ import annotations

import logging
import time
from typing import Final

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from tailrace import clients, kafka
from tailrace.codec import decode_versioned
from tailrace.errors import DecodeError
from tailrace.ledger.pipeline_identity import PipelineIdentity
from tailrace.records import PartitionPosition
from tailrace.settings import Settings
from tailrace.topics import TopicNames

KEY: Final = b"p"
"""Key of the position record in trace.state, the last record of each transaction of the processor."""
SOON: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
)
"""Errors while a partition has no leader, for example just after it was created."""
_BACK: Final = 16
_MORE: Final = 8
_SECONDS: Final = 30.0


def identity(admin: AdminClient, settings: Settings, timeout: float = _SECONDS) -> PipelineIdentity | None:
    """The identity of the pipeline of these settings; None if trace.events does not exist.

    Args:
        admin: the cluster.
        settings: of the pipeline.
        timeout: seconds.

    Raises:
        KafkaException: the cluster does not answer or refuses.
    """
    names = TopicNames.of(settings.topics)
    try:
        found = admin.describe_topics(TopicCollection([names.events]), request_timeout=timeout)
        events = found[names.events].result(2 * timeout)
    except KafkaException as e:
        if e.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    return PipelineIdentity(
        names.events, names.state, str(events.topic_id), len(events.partitions), settings.streams.app_id
    )


def last_positions(admin: AdminClient, settings: Settings) -> dict[int, PartitionPosition]:
    """Partition -> its last committed position. Partitions without a readable one are left out.

    Raises:
        KafkaException: the cluster does not answer or refuses.
    """
    positions = {}
    for n, value in stored_positions(admin, settings).items():
        try:
            positions[n] = decode_versioned(value, PartitionPosition)
        except DecodeError:
            continue  # who takes the partition over says so, with the record's key
    return positions


def stored_positions(admin: AdminClient, settings: Settings) -> dict[int, bytes]:
    """Partition -> its last committed position, encoded. Partitions without one are left out.

    Raises:
        KafkaException: the cluster does not answer or refuses.
    """
    topic = TopicNames.of(settings.topics).state
    metadata = admin.list_topics(timeout=_SECONDS).topics.get(topic)
    if metadata is None or metadata.error is not None:
        return {}
    ends = _ends(admin, [TopicPartition(topic, n) for n in metadata.partitions])
    ends = {n: end for n, end in ends.items() if end > 0}
    found: dict[int, bytes] = {}
    consumer = kafka.open_client(
        Consumer,
        {
            **clients.reader(settings.kafka, "tailrace-reader", fetch_wait_max_ms=10),
            "logger": logging.getLogger("tailrace.ledger.positions.client"),
        },
    )
    try:
        back = _BACK
        while ends:
            starts = {n: max(0, end - back) for n, end in ends.items()}
            _read(consumer, [TopicPartition(topic, n, start) for n, start in starts.items()], found)
            ends = {n: end for n, end in ends.items() if n not in found and starts[n] > 0}
            back *= _MORE
    finally:
        consumer.close()
    return found


def _ends(admin: AdminClient, partitions: list[TopicPartition], tries: int = 20) -> dict[int, int]:
    """Partition -> its last stable offset. Asks again while a partition has no leader."""
    found: dict[int, int] = {}
    while True:
        wanted = {tp: OffsetSpec.latest() for tp in partitions if tp.partition not in found}
        if not wanted:
            return found
        tries -= 1
        for tp, future in admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_SECONDS
        ).items():
            try:
                found[tp.partition] = future.result(2 * _SECONDS).offset
            except KafkaException as e:
                if not tries or not (e.args[0].retriable() or e.args[0].code() in SOON):
                    raise
        if len(found) < len(partitions):
            time.sleep(0.25)


def _read(consumer: Consumer, partitions: list[TopicPartition], found: dict[int, bytes]) -> None:
    """Reads to the ends, and adds the last position record of each partition to `found`."""
    waiting = {tp.partition for tp in partitions}
    consumer.assign(partitions)
    while waiting:
        for message in consumer.consume(1000, 0.05):
            error = message.error()
            if error is None:
                value = message.value()
                if message.key() == KEY and value is not None:
                    found[message.partition()] = value
            elif error.code() == KafkaError._PARTITION_EOF:
                waiting.discard(message.partition())
            elif not error.retriable():
                raise KafkaException(error)
