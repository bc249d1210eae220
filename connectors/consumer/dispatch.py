"""Hands fetched records to their partitions. Compiled by mypyc if a compiler is available."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.consumer.partition import SinkPartition


def take(messages: Sequence[Any], partitions: dict[int, SinkPartition], now: float) -> list[Any]:
    """Gives each record to its partition. Records of partitions that were lost meanwhile are dropped.

    Args:
        messages: Messages of confluent-kafka.
        partitions: The partitions that this process owns, by number.
        now: Monotonic seconds.

    Returns:
        The messages that are errors or ends of partitions.
    """
    others: list[Any] = []
    for m in messages:
        if m.error() is not None:
            others.append(m)
            continue
        partition = partitions.get(m.partition())
        if partition is not None:
            partition.accept(m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers(), now)
    return others
