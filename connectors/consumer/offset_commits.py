"""Commits the offset after the acknowledged prefix, with the ledger of exactly that prefix as metadata."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connectors.consumer.assignment import Assignment
from connectors.consumer.partition import SinkPartition

log: Final = logging.getLogger("tailrace.connect")


class OffsetCommits:
    """Makes the commits of one consumer."""

    def __init__(
        self,
        name: str,
        topic: str,
        consumer: Any,
        assignment: Assignment,
        partitions: Mapping[int, SinkPartition],
    ) -> None:
        """
        Args:
            name: The sink's name, for messages.
            topic: The topic that the consumer reads.
            consumer: The Kafka consumer.
            assignment: Where positions come from.
            partitions: The consumer's current partitions by number. The caller keeps the mapping up to date.
        """
        self._name, self._topic, self._consumer = name, topic, consumer
        self._assignment, self._partitions = assignment, partitions

    def commit(
        self, partitions: Iterable[SinkPartition], *, wait: bool = False, inside_consume: bool = False
    ) -> None:
        """Commits what is acknowledged and not committed yet. A failed commit is logged, not raised.

        Args:
            partitions: The partitions to commit.
            wait: Whether to return only when the broker has answered.
            inside_consume: Whether this is a rebalance callback. There the consumer's position may be ahead
                of the records that it has returned, so it is not used.
        """
        positions = (
            {} if inside_consume else self._assignment.positions([p.number for p in partitions if p.idle])
        )
        offsets = []
        for partition in partitions:
            due = partition.to_commit(positions.get(partition.number, -1))
            if due is not None:
                partition.committed = due
                offsets.append(TopicPartition(self._topic, partition.number, due[0], due[1].encode()))
        if not offsets:
            return
        try:
            done = self._consumer.commit(offsets=offsets, asynchronous=not wait)
            self.on_commit(None, done or [])
        except KafkaException as e:
            self.on_commit(e.args[0], offsets)

    def on_commit(self, error: KafkaError | None, offsets: list[Any]) -> None:
        """Handles the broker's answer to a commit.

        After a failure the next `commit` commits these partitions again, with what is acknowledged by then.
        """
        failed = [p for p in offsets if error is not None or p.error is not None]
        if not failed:
            return
        log.warning(
            "%s: a commit of %d partitions failed: %s",
            self._name,
            len(failed),
            (error or failed[0].error).str(),
        )
        for p in failed:
            if p.partition in self._partitions:
                self._partitions[p.partition].committed = None
