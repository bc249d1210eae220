"""Kafka's murmur2: the Java client's vectors, and librdkafka's partitions on a real broker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from tailrace.partitioner import PARTITIONER, murmur2, partition_of
from tailrace.settings import Settings
from tailrace.topics import TopicNames
from tests.tailrace import topic

VECTORS = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "signed"), VECTORS)
def test_murmur2_is_javas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(), st.integers(1, 1000))
def test_a_key_has_one_partition_of_those_there_are(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


@pytest.mark.kafka
def test_librdkafka_puts_keyed_records_where_partition_of_says(
    topics_settings: Callable[..., Settings],
) -> None:
    settings = topics_settings(partitions=7)
    name = TopicNames.of(settings.topics).events
    keys = (
        [b"k" * (n % 13) + str(n).encode() for n in range(300)]
        + [k for k, _ in VECTORS]
        + [b"\xff" * 31, "é".encode()]
    )
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "partitioner": PARTITIONER})
    for key in keys:
        producer.produce(name, b"x", key)
    producer.flush()
    placed = {m.key(): m.partition() for m in topic.records(settings.kafka.bootstrap_servers, name)}
    assert placed == {key: partition_of(key, 7) for key in keys}
    assert set(placed.values()) == set(range(7))
