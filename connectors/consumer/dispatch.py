"""From what a consumer has fetched to the partitions. Compiled where there is a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.consumer.partition import SinkPartition


def take(messages: Sequence[Any], partitions: dict[int, SinkPartition], now: float) -> list[Any]:
    """Gives each record to its partition. messages: confluent-kafka's; now: monotonic seconds. Returns those
    that are errors or ends of partitions. Records of a partition that was lost
    meanwhile are left out."""
    others: list[Any] = []
    for m in messages:
        if m.error() is not None:
            others.append(m)
            continue
        partition = partitions.get(m.partition())
        if partition is not None:
            partition.accept(m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers(), now)
    return others
