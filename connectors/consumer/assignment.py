"""Where a sink starts in each partition it is given, and where its consumer stands. Kafka only, no rules of
delivery."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaException, TopicPartition

from tailrace import kafka
from tailrace.errors import DecodeError, TailraceError
from tailrace.ledger.sink_ledger import SinkLedger

log: Final = logging.getLogger("tailrace.connect")
ATTEMPTS: Final = 12
SECONDS: Final = 5.0


class OffsetLost(TailraceError):
    """The committed offset is not in the topic any more: records were deleted before this sink had them, or
    the topic is another one. An alarm: someone has to decide."""


class Start(msgspec.Struct, frozen=True):
    partition: int
    offset: int
    ledger: SinkLedger


class Assignment:
    """The consumer's partitions of one topic."""

    def __init__(self, name: str, consumer: Any, topic: str) -> None:
        self._name, self._consumer, self._topic = name, consumer, topic
        self.ends: dict[int, int] = {}
        """Partition -> its end when it was assigned, where that was asked for."""

    def take(self, partitions: list[Any], *, ends: bool = False) -> list[Start]:
        """Assigns new partitions: from the committed offset with its ledger; on a sink's first start from the
        beginning.

        Raises KafkaException when the cluster cannot say where that is for a minute.
        """
        if not partitions:
            return []
        starts = [
            self._start(p)
            for p in self._patiently(lambda: self._consumer.committed(partitions, timeout=SECONDS))
        ]
        if ends:
            self.ends.update((p.partition, self._range(p)[1]) for p in partitions)
        found = [TopicPartition(self._topic, s.partition, s.offset) for s in starts]
        self._consumer.incremental_assign(found)
        self._consumer.resume(found)  # a pause outlives the assignment in which it was made
        return starts

    def _range(self, partition: Any) -> tuple[int, int]:
        found: tuple[int, int] = self._patiently(
            lambda: self._consumer.get_watermark_offsets(partition, timeout=SECONDS, cached=False)
        )
        return found

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
                "%s: %s[%d] was committed at %d without a ledger that can be read (%s); counting starts anew",
                self._name,
                self._topic,
                committed.partition,
                committed.offset,
                e,
            )
            return SinkLedger()

    def _patiently(self, ask: Any) -> Any:
        """The broker's answer, asked for again while it has none: the coordinator may be moving."""
        for attempt in range(ATTEMPTS):
            try:
                return ask()
            except KafkaException as e:
                if attempt == ATTEMPTS - 1 or kafka.fatal(e.args[0]):
                    raise
                log.warning("%s: no committed offsets yet: %s", self._name, e.args[0].str())
                time.sleep(0.5)

    def positions(self, partitions: list[int]) -> dict[int, int]:
        """Next offset to be read, past transaction markers; negative: nothing was read yet."""
        if not partitions:
            return {}
        try:
            found = self._consumer.position([TopicPartition(self._topic, p) for p in partitions])
        except KafkaException:  # between two generations of the group
            return {}
        return {p.partition: p.offset for p in found if p.error is None}

    def lag(self, nexts: dict[int, int]) -> int:
        """Records behind the end as last heard; nexts: partition -> next offset to settle. -1: not known for
        any."""
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
        low = high = at = "?"
        try:
            tp = TopicPartition(self._topic, partition)
            low, high = (
                str(n) for n in self._consumer.get_watermark_offsets(tp, timeout=SECONDS, cached=False)
            )
            at = str(self._consumer.committed([tp], timeout=SECONDS)[0].offset)
        except KafkaException as e:
            log.debug("%s: no offsets for the message: %s", self._name, e)
        return OffsetLost(
            f"{self._name}: the committed offset {at} of {self._topic}[{partition}] is not in the topic, "
            f"which now has {low} to {high}: "
            "records were deleted before this sink had them, or the topic was made anew. To go on with what "
            "is there, move its "
            "group: kafka-consumer-groups --reset-offsets --to-earliest --execute --group "
            "<connect.group_prefix>"
            f"{self._name} --topic {self._topic}"
        )
