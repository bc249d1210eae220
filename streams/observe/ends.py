"""End offsets of the partitions of trace.events, fetched with a client of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.observe.observed import Ends
from tailrace import clients, kafka
from tailrace.settings import Kafka

ASK_SECONDS: Final = 5.0


class LogEnds:
    """The end offsets of one topic. Blocks, up to `ASK_SECONDS` per request."""

    def __init__(self, settings: Kafka, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._admin = kafka.open_client(
            AdminClient,
            {**kafka.client(settings), "logger": logging.getLogger("streams.observe.ends.client")},
        )

    def of(self, partitions: Iterable[int]) -> dict[int, Ends]:
        """The ends of those partitions whose leader answers."""
        numbers = list(partitions)
        stable = self._ask(numbers, IsolationLevel.READ_COMMITTED)
        high = self._ask(numbers, IsolationLevel.READ_UNCOMMITTED) if stable else {}
        return {n: Ends(stable[n], max(stable[n], high[n])) for n in stable.keys() & high.keys()}

    def _ask(self, partitions: list[int], isolation: IsolationLevel) -> dict[int, int]:
        wanted = {TopicPartition(self._topic, n): OffsetSpec.latest() for n in partitions}
        if not wanted:
            return {}
        found: dict[int, int] = {}
        for tp, future in self._admin.list_offsets(
            wanted, isolation_level=isolation, request_timeout=ASK_SECONDS
        ).items():
            try:
                found[tp.partition] = future.result(2 * ASK_SECONDS).offset
            except (KafkaException, TimeoutError):
                continue  # the other clients log what is wrong with the broker
        return found

    def has_record(self, partition: int, position: int) -> bool:
        """Whether there is a committed record at or after `position` (-1: the start of the log).

        Reads one fetch.

        Raises:
            KafkaException: the partition cannot be read.
            TimeoutError: the fetch took too long.
        """
        consumer = kafka.open_client(
            Consumer,
            {
                **clients.reader(
                    self._settings,
                    "tailrace-watchdog",
                    queued_min_messages=1,
                    fetch_message_max_bytes=65_536,
                    fetch_wait_max_ms=100,
                ),
                "logger": logging.getLogger("streams.observe.ends.client"),
            },
        )
        until = time.monotonic() + ASK_SECONDS
        try:
            consumer.assign(
                [TopicPartition(self._topic, partition, OFFSET_BEGINNING if position < 0 else position)]
            )
            while time.monotonic() < until:
                message = consumer.poll(0.1)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    return True
                if error.code() == KafkaError._PARTITION_EOF:
                    return False
                if not error.retriable():
                    raise KafkaException(error)
        finally:
            consumer.close()
        raise TimeoutError(
            f"{self._topic} partition {partition} could not be read within {ASK_SECONDS:.0f} s"
        )


class Tails:
    """Finds the end of the records to read in each partition.

    Transaction markers (of links) use offsets too, so the position in a partition that has been read
    completely stays one or more below the stable end.

    Args:
        has_record: (partition, position) -> whether there is a record. Called only while a position
            does not move, once per end.
    """

    def __init__(self, has_record: Callable[[int, int], bool]) -> None:
        self._has_record = has_record
        self._last: dict[int, tuple[int, int, bool]] = {}
        """Partition -> position, end, whether there is a record between them."""

    def end(self, partition: int, position: int, stable: int) -> int:
        """`stable`, or `position` if there is no record between them. Raises what `has_record` raises."""
        before = self._last.get(partition)
        if position >= stable or before is None or before[0] != position:
            self._last[partition] = (position, -1, False)  # it moves: check the next time
            return max(position, stable)
        _, looked, found = before
        if not found and looked != stable:
            found = self._has_record(partition, position)
            self._last[partition] = (position, stable, found)
        return stable if found else position
