"""Assigns partitions at a sink's committed offsets, and reads positions and lag from Kafka."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import msgspec
from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from tailrace import kafka
from tailrace.errors import DecodeError, TailraceError
from tailrace.ledger.sink_ledger import SinkLedger

log: Final = logging.getLogger("tailrace.connect")
ATTEMPTS: Final = 12
SECONDS: Final = 5.0


class OffsetLost(TailraceError):
    """The committed offset is outside the topic.

    Either records were deleted before this sink had them, or the topic was deleted and created again. The
    sink ends, because a person has to decide how to continue.
    """


class Start(msgspec.Struct, frozen=True):
    """Where a sink starts in a partition, and the ledger that was committed with that offset."""

    partition: int
    offset: int
    ledger: SinkLedger


class Assignment:
    """The consumer's partitions of one topic."""

    def __init__(self, name: str, consumer: Any, topic: str) -> None:
        self._name, self._consumer, self._topic = name, consumer, topic
        self.ends: dict[int, int] = {}
        """Partition -> its end offset when it was assigned, if `take` was called with `ends`."""

    def take(self, partitions: list[Any], *, ends: bool = False) -> list[Start]:
        """Assigns new partitions at their committed offsets; those without one at their first offset.

        Args:
            partitions: The partitions that the group gave to this consumer.
            ends: Whether their end offsets are recorded in `ends`.

        Raises:
            KafkaException: The cluster did not answer `ATTEMPTS` times, or the error is fatal.
        """
        if not partitions:
            return []
        starts = [
            self._start(p)
            for p in self._patiently(lambda: self._consumer.committed(partitions, timeout=SECONDS))
        ]
        if ends:
            self.ends.update((p.partition, self._range(p)[1]) for p in partitions)
        assigned = [TopicPartition(self._topic, s.partition, s.offset) for s in starts]
        self._consumer.incremental_assign(assigned)
        self._consumer.resume(assigned)  # a pause of an earlier assignment would still be in effect
        return starts

    def decline(self, partitions: list[Any]) -> None:
        """Assigns partitions and reads nothing from them, for a consumer that is about to leave its group.

        It does not ask the cluster for anything, so it returns at once.
        """
        assigned = [TopicPartition(self._topic, p.partition, OFFSET_END) for p in partitions]
        self._consumer.incremental_assign(assigned)
        self._consumer.pause(assigned)

    def _range(self, partition: Any) -> tuple[int, int]:
        low_high: tuple[int, int] = self._patiently(
            lambda: self._consumer.get_watermark_offsets(partition, timeout=SECONDS, cached=False)
        )
        return low_high

    def _start(self, committed: Any) -> Start:
        if committed.offset >= 0:
            return Start(committed.partition, committed.offset, self._ledger(committed))
        low = self._range(committed)[0]
        log.info("%s: first start of %s[%d], at offset %d", self._name, self._topic, committed.partition, low)
        return Start(committed.partition, low, SinkLedger())

    def _ledger(self, committed: Any) -> SinkLedger:
        try:
            return SinkLedger.decode(committed.metadata)
        except DecodeError as e:
            log.warning(
                "%s: the ledger committed for %s[%d] at %d cannot be read (%s); its counts restart at 0",
                self._name,
                self._topic,
                committed.partition,
                committed.offset,
                e,
            )
            return SinkLedger()

    def _patiently(self, ask: Any) -> Any:
        """Calls `ask` up to `ATTEMPTS` times: it fails for a while when the group's coordinator moves."""
        for attempt in range(ATTEMPTS):
            try:
                return ask()
            except KafkaException as e:
                if attempt == ATTEMPTS - 1 or kafka.fatal(e.args[0]):
                    raise
                log.warning("%s: no committed offsets yet: %s", self._name, e.args[0].str())
                time.sleep(0.5)

    def positions(self, partitions: list[int]) -> dict[int, int]:
        """Partition -> next offset to read, past transaction markers; negative if nothing was read yet."""
        if not partitions:
            return {}
        try:
            positions = self._consumer.position([TopicPartition(self._topic, p) for p in partitions])
        except KafkaException:  # between two generations of the group
            return {}
        return {p.partition: p.offset for p in positions if p.error is None}

    def lag(self, nexts: dict[int, int]) -> int:
        """Offsets up to the ends that the client last got from the broker, summed over partitions.

        Args:
            nexts: Partition -> offset of its first record that is not acknowledged.

        Returns:
            -1 if no end is known.
        """
        total, known = 0, False
        for partition, next_offset in nexts.items():
            try:
                _, high = self._consumer.get_watermark_offsets(
                    TopicPartition(self._topic, partition), cached=True
                )
            except KafkaException:
                continue
            if high >= 0:
                known = True
                total += max(0, high - next_offset)
        return total if known else -1

    def offset_lost(self, partition: int) -> OffsetLost:
        """The error for a partition whose committed offset is outside the topic."""
        low = high = at = "?"
        try:
            tp = TopicPartition(self._topic, partition)
            low, high = (
                str(n) for n in self._consumer.get_watermark_offsets(tp, timeout=SECONDS, cached=False)
            )
            at = str(self._consumer.committed([tp], timeout=SECONDS)[0].offset)
        except KafkaException as e:
            log.debug("%s: cannot read the offsets for the error message: %s", self._name, e)
        return OffsetLost(
            f"{self._name}: the committed offset {at} of {self._topic}[{partition}] is not in the topic, "
            f"which now has {low} to {high}: records were deleted before this sink had them, or the topic "
            "was deleted and created again. To continue with the records that are there, reset the group's "
            "offsets: kafka-consumer-groups --bootstrap-server <kafka.bootstrap_servers> "
            "--reset-offsets --to-earliest --execute "
            f"--group <connect.group_prefix>{self._name} --topic {self._topic} "
            "(with TLS or SASL also --command-config <file>)"
        )
