"""One owned partition: its state, its transactional producer, and the commit of a unit of work.

Exactly-once depends on this order: init_transactions (fences any earlier owner and aborts its open
transaction), restore the state (read_committed) to the end, seek the source to the stored position,
process. After a commit error that is not retriable this object must not be used: end the process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.processing.apply import CONTEXT_ROOM, EventProcessor, TransactionBatch
from streams.processing.limits import MetricLimits, StateLimits
from streams.processing.state import State, UnreadableRecord
from streams.runtime.restore import Records
from tailrace import clients, kafka
from tailrace.ledger.pipeline_identity import transactional_id
from tailrace.settings import Settings
from tailrace.topics import HEADER, ROOM, TopicNames

log: Final = logging.getLogger("streams.runtime.partition")

INIT_SECONDS: Final = 30.0
COMMIT_SECONDS: Final = 5.0
COMMIT_TRIES: Final = 12
"""Tries of a commit with retriable errors: a broker may be away for a minute."""


class UnreadableState(Exception):
    """A record of trace.state cannot be read. The message names it and what to do."""


class Partition:
    """The owner's side of one partition.

    `apply` runs in the event loop's thread. `open` and `commit` run in an executor thread, one at a
    time, while the next unit is applied.
    """

    def __init__(
        self, number: int, partitions: int, settings: Settings, on_fatal: Callable[[int, KafkaError], None]
    ) -> None:
        s, names = settings.streams, TopicNames.of(settings.topics)
        self.number = number
        self.state = State(
            StateLimits(
                s.trace_idle_minutes * 60_000,
                s.max_open_traces,
                s.dedupe_minutes * 60_000,
                s.remembered_start_bytes,
                s.remembered_link_bytes,
                MetricLimits(s.metrics_horizon_hours * 3_600_000, s.max_metric_groups, s.max_metric_rows),
            ),
            number,
        )
        self.unit = TransactionBatch()
        self.committing: Any = None
        """The future of the commit in flight, or None."""
        self.committed = -1
        self.expects = -1
        """The offset that the next batch must continue from."""
        self.without_records = (-1, -1)
        """From and to: offsets after the last batch that hold no records, only transaction markers."""
        self.moved = False
        """Whether the position has changed although no record was applied since it was stored."""
        self.given_up = False
        self.problem = ""
        """The last error that the producer has reported."""
        self.flushed_at = 0.0
        """When metric rows, series and summaries were last written, by the caller's clock (seconds)."""
        self._names, self._settings, self._on_fatal = names, settings, on_fatal
        self._limit = 2 * settings.topics.max_event_bytes
        self.event_processor = EventProcessor(
            names.events,
            number,
            self._limit + ROOM - CONTEXT_ROOM,
            settings.topics.max_event_bytes,
            partitions,
        )

    @property
    def unwritten(self) -> bool:
        """Whether there is something to write besides the open unit."""
        return self.moved or self.state.unflushed

    def pass_markers(self) -> None:
        """Moves the position past markers, if all records before them are applied."""
        after, reached = self.without_records
        if after <= self.state.next_offset < reached:
            self.state.next_offset = reached
            self.moved = True

    def open(self) -> None:
        """Fences the former owner. Blocks, up to 30 s. Raises KafkaException, ConfigError."""
        self._producer = kafka.open_client(
            Producer,
            {
                **clients.transactional(self._settings, transactional_id(self._settings, self.number)),
                "error_cb": self._error,
                "logger": logging.getLogger("streams.runtime.partition.client"),
            },
        )
        self._producer.poll(0.1)  # init_transactions waits 500 ms if the connection is not up yet
        self._producer.init_transactions(INIT_SECONDS)

    def restore(self, records: Records) -> None:
        """Restores the state that a former owner wrote. Raises `UnreadableState`, which names the record."""
        try:
            self.state.restore(records)
        except UnreadableRecord as e:
            raise self.unreadable(e) from None

    def unreadable(self, e: UnreadableRecord) -> UnreadableState:
        """The error text for a state record that cannot be read."""
        return UnreadableState(
            f"{self._names.state} partition {self.number}: the record with key {e.key!r} cannot be read: "
            f"{e}. If a newer tailrace wrote it, run that version; "
            "if another program wrote it, write a tombstone (a null value) under that key"
        )

    def _error(self, error: KafkaError) -> None:
        self.problem = error.str()
        if error.fatal():
            self._on_fatal(self.number, error)

    def close_unit(self, flush: bool) -> tuple[TransactionBatch, int]:
        """Closes the open unit and opens the next one.

        Args:
            flush: also write metric rows, series and summaries.

        Returns:
            The unit, with the state changes to write, and the offset it reaches.

        Raises:
            UnreadableState: a stored trace cannot be read.
        """
        unit, self.unit = self.unit, TransactionBatch()
        self.moved = False
        try:
            unit.closed = self.state.close(flush)
        except UnreadableRecord as e:
            raise self.unreadable(e) from None
        return unit, self.state.next_offset

    def commit(self, unit: TransactionBatch) -> tuple[float, float]:
        """Writes one transaction: outputs, dead letters, changed state, position.

        Blocks until it is committed. Returns the seconds spent on producing and on committing. Raises
        for everything except a retriable commit error; the caller then ends the process.
        """
        p, n, names = self._producer, self.number, self._names
        began = time.perf_counter()
        p.begin_transaction()
        produce, topic = p.produce, names.enriched
        for value, key, context in unit.outputs:
            while True:
                try:
                    produce(topic, value, key, n, None, None, 0, [(HEADER, context)])
                    break
                except BufferError:
                    p.poll(0.1)
        for run, link in unit.links:
            self._produce(names.events, link, run, -1)
        for key, value in unit.dead_letters:
            self._produce(names.dead_letters, value, key, -1)
        closed = unit.closed
        assert closed is not None
        for topic, records in (
            (names.metrics, closed.rows),
            (names.totals, closed.totals),
            (names.summaries, closed.summaries),
            (names.state, closed.state),
        ):
            for name, content in records:
                self._produce(topic, content, name, n)
        while len(p):
            p.poll(0.005)  # the client's own flush in commit_transaction busy-waits
        sent = time.perf_counter()
        tries = 0
        while True:
            try:
                p.commit_transaction(COMMIT_SECONDS)
                break
            except KafkaException as e:
                tries += 1
                if not e.args[0].retriable() or tries >= COMMIT_TRIES:
                    raise
                log.warning("partition %d: commit waits for Kafka: %s", n, e.args[0].str())
        return sent - began, time.perf_counter() - sent

    def _produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition)
                return
            except BufferError:
                self._producer.poll(0.1)
