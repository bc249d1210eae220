"""The load of the sink stage's benchmark: the stream stage's events, enriched, in trace.enriched."""

from __future__ import annotations

import time
from collections import defaultdict

from confluent_kafka import Producer

from benchmarks.stream_load import NODES, events
from connectors.preview.offline import processor
from tailrace import kafka
from tailrace.identity import complete
from tailrace.records import TraceEvent
from tailrace.settings import Settings
from tailrace.topics import HEADER, TopicNames


def fill(settings: Settings, count: int) -> int:
    """Writes about `count` enriched records, without gaps in each partition.

    Returns their mean size, including the context.
    """
    topic, partitions = TopicNames.of(settings.topics).enriched, settings.topics.partitions
    producer = Producer(kafka.client(settings.kafka, linger_ms=20, compression_type="lz4"))
    process, now, total = processor(), time.time_ns() // 1000, 0
    parts: dict[int, list[TraceEvent]] = defaultdict(list)
    for i, event in enumerate(events(count, now)):
        parts[i // (NODES + 1) % partitions].append(complete(event, now))
    for partition, found in parts.items():
        for record in process(found):
            assert isinstance(record, tuple), record
            value, context = record
            total += len(value) + len(context)
            while True:
                try:
                    producer.produce(topic, value, partition=partition, headers=[(HEADER, context)])
                    break
                except BufferError:
                    producer.poll(0.1)
    producer.flush()
    return total // count
