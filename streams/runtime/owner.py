"""Ownership of partitions: taking them over, processing them unit by unit, giving them up.

This is the plumbing; the rules are in `streams.processing.apply`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn

from confluent_kafka import KafkaError, KafkaException

from streams.exit_codes import BAD_STATE, CONFIG, FAILED, LOST_DATA
from streams.observe.observed import Observed
from streams.processing.apply import TransactionBatch
from streams.processing.state import UnreadableRecord
from streams.runtime.partition import Partition, UnreadableState
from streams.runtime.restore import first_records, read_state, uncollected
from streams.runtime.schema_buffer import BlockedBatches, SchemaWait
from tailrace.errors import ConfigError
from tailrace.settings import Settings
from tailrace.topics import TopicNames

log: Final = logging.getLogger("streams.runtime.owner")

DRAIN_SECONDS: Final = 10.0


class Owner:
    """The partitions of trace.events that this worker owns.

    Args:
        topic_id: the current id of trace.events.
        partition_count: its current partition count.
        accept_loss: continue although data is missing.
        end: ends the process at once with an exit code and a reason; does not return.
        waiting: where unknown schemas are looked up before their records are applied; None: nowhere.
    """

    def __init__(
        self,
        settings: Settings,
        topic_id: str,
        partition_count: int,
        accept_loss: bool,
        end: Callable[[int, str], NoReturn],
        waiting: SchemaWait | None = None,
    ) -> None:
        self.topic = TopicNames.of(settings.topics).events
        self.partitions: dict[int, Partition] = {}
        self.applied = 0
        """Records of committed transactions, since the start."""
        self.on_applied: Callable[[int, int], None] = lambda partition, offset: None
        self.on_held: Callable[[int, bool], None] = lambda partition, held: None
        """A partition starts to wait for a schema, and need not be read meanwhile, or continues."""
        self.observed = Observed()
        self._settings, self.topic_id, self._count, self._accept_loss, self.end = (
            settings,
            topic_id,
            partition_count,
            accept_loss,
            end,
        )
        self._waiting = waiting
        self._held: dict[int, BlockedBatches] = {}
        """Partitions with batches that wait for a schema."""
        self._stale: set[int] = set()
        """Partitions whose held batches were dropped.

        Their batches are skipped until the consumer's position is set again.
        """
        self._generation: int | None = None
        self._opening: asyncio.Future[Any] | None = None
        """Producers being created. Each fences the former owner when it is ready."""
        self._interval = settings.streams.commit_interval_ms / 1000
        self._flush_interval = settings.streams.metrics_interval_ms / 1000
        self._commits = ThreadPoolExecutor(settings.streams.commit_threads, "commit")
        self._openers = ThreadPoolExecutor(8, "open")

    # -- taking over
    def assigned(self, partitions: set[int], generation: int) -> None:
        if self._generation is not None and generation != self._generation + 1:
            partitions = set()  # a generation was missed: another owner may have written
        self._generation = generation
        self._drop_held()
        gone = [self.partitions.pop(n) for n in list(self.partitions) if n not in partitions]
        for p in gone:
            p.given_up = True
        self._openers.submit(gone.clear)  # a producer's destructor joins threads

    async def acquire(self, wanted: set[int]) -> None:
        """Opens the new partitions: fence, then restore. Awaited before Faust seeks and resumes."""
        loop, generation = asyncio.get_running_loop(), self._generation
        new = [
            Partition(n, self._count, self._settings, self._fatal)
            for n in sorted(wanted)
            if n not in self.partitions
        ]
        if not new:
            return
        began = time.perf_counter()
        try:
            self._opening = asyncio.gather(*(loop.run_in_executor(self._openers, p.open) for p in new))
            await self._opening
            fenced = time.perf_counter()
            state_topic = TopicNames.of(self._settings.topics).state
            with uncollected():
                found = await loop.run_in_executor(
                    self._openers, read_state, self._settings.kafka, state_topic, [p.number for p in new]
                )
                for p in new:  # not in the loop's thread, so that heartbeats continue
                    await loop.run_in_executor(self._openers, p.restore, found.pop(p.number))
            unplaced = [p.number for p in new if not p.state.topic_id]
            worked = await loop.run_in_executor(self._openers, self._worked_before, unplaced)
            for p in new:
                self._check_identity(p, p.number in worked)
        except UnreadableState as e:
            self.end(BAD_STATE, str(e))
        except ConfigError as e:
            self.end(CONFIG, str(e))
        except KafkaException as e:
            refused = e.args[0].code() == KafkaError.INVALID_TRANSACTION_TIMEOUT
            hint = (
                ": streams.transaction_timeout_ms is more than the broker's transaction.max.timeout.ms"
                if refused
                else ""
            )
            self.end(
                CONFIG if refused else FAILED,
                f"taking over partitions {[p.number for p in new]} failed: {e.args[0].str()}{hint}",
            )
        except Exception as e:
            self.end(
                FAILED, f"taking over partitions {[p.number for p in new]} failed: {type(e).__name__}: {e}"
            )
        if generation != self._generation:
            return  # a rebalance came meanwhile: this is called again
        for p in new:
            self.partitions[p.number] = p
            self._due(p)  # writes what a former owner counted but did not write
        log.info(
            "took over partitions %s: fenced in %.2f s, restored %d records in %.2f s, next offsets %s",
            [p.number for p in new],
            fenced - began,
            sum(p.state.restored_records for p in new),
            time.perf_counter() - fenced,
            [p.state.next_offset for p in new],
        )
        self.observed.took_over(new, began, fenced, sum(p.state.restored_records for p in new))

    def _worked_before(self, partitions: list[int]) -> set[int]:
        """Partitions of trace.enriched that hold a committed record. Blocks. Raises KafkaException."""
        return (
            first_records(self._settings.kafka, TopicNames.of(self._settings.topics).enriched, partitions)
            if partitions
            else set()
        )

    def _check_identity(self, p: Partition, worked_before: bool) -> None:
        """Checks that the stored position belongs to this topic, and exists if there are enriched records."""
        s = p.state
        if not s.topic_id and worked_before:
            names = TopicNames.of(self._settings.topics)
            self._gone(
                f"partition {p.number}: {names.state} holds no position, but {names.enriched} has records: "
                "the state is lost, and all events would be enriched a second time"
            )
        if not s.topic_id:
            s.topic_id, s.partitions = self.topic_id, self._count
        elif s.topic_id != self.topic_id:
            self._gone(
                f"partition {p.number}: the stored position belongs to another {self.topic} "
                f"(topic id {s.topic_id}, now {self.topic_id}): the topic was deleted and created again"
            )
            s.topic_id, s.partitions, s.next_offset = self.topic_id, self._count, -1
        elif s.partitions != self._count:
            self.end(
                LOST_DATA,
                f"{self.topic} had {s.partitions} partitions when its state was written, now {self._count}: "
                "traces would move between partitions. Process all events first, then start a new generation",
            )

    def next_offset(self, partition: int) -> int | None:
        p = self.partitions.get(partition)
        return None if p is None else p.state.next_offset

    def positioned(self, partition: int, offset: int) -> None:
        self._stale.discard(partition)
        p = self.partitions.get(partition)
        if p is not None:
            p.expects = offset

    def lost(self, partition: int, wanted: int, first: int, end: int) -> None:
        what = "retention removed the records between" if wanted < first else "the log ends before"
        self._gone(
            f"partition {partition}: the stored position is {wanted}, "
            f"but the log of {self.topic} has {first} to {end}: {what} it"
        )
        p = self.partitions[partition]
        p.state.next_offset = first

    def _gone(self, what: str) -> None:
        if not self._accept_loss:
            self.end(
                LOST_DATA, f"{what}. Events are lost; `--accept-loss` continues with the events that exist"
            )
        log.error("%s; continuing, because of --accept-loss", what)

    # -- processing
    async def batch(self, partition: int, follows: int, last_offset: int, records: list[Any]) -> None:
        """Applies one fetch of one partition.

        Records from the first one whose schema is being looked up are held. Waits while a full unit
        cannot be committed yet: that is the back-pressure.
        """
        if partition in self._stale:
            return
        p = self.partitions.get(partition)
        if p is None or follows != p.expects:
            self.end(
                FAILED, f"partition {partition}: a batch continues from {follows}, expected {p and p.expects}"
            )
        p.expects = last_offset + 1
        if self._waiting is None:
            await self._apply(p, records)
            return
        held = self._held.get(partition)
        if held is None:
            ready = self._waiting.first(records)
            if ready == len(records):
                await self._apply(p, records)
                return
            if ready:
                await self._apply(p, records[:ready])
                if self.partitions.get(partition) is not p or p.expects != last_offset + 1:
                    return  # the position was set again meanwhile: the rest is read again
                records = records[ready:]
            held = self._held[partition] = self._holding(p, self._waiting)
        held.add(records)

    def _drop_held(self) -> None:
        """Drops held batches: the next owner reads from the position, and so reads them again."""
        for n, held in list(self._held.items()):
            self._stale.add(n)
            held.drop()

    def _holding(self, p: Partition, waiting: SchemaWait) -> BlockedBatches:
        async def apply(records: Sequence[Any]) -> None:
            try:
                await self._apply(p, records)
            except Exception as e:
                log.exception(
                    "partition %d: a batch of %d records that waited for a schema", p.number, len(records)
                )
                self.end(FAILED, f"partition {p.number}: {type(e).__name__}: {e}")

        def on_change(holds: bool) -> None:
            if not holds:
                self._held.pop(p.number, None)
            self.observed.waits(p.number, holds)
            self.on_held(p.number, holds)

        return BlockedBatches(p.number, waiting, apply, on_change)

    async def _apply(self, p: Partition, records: Sequence[Any]) -> None:
        limits = self._settings.streams
        while p.committing is not None and (
            p.unit.records >= limits.unit_records or p.unit.size >= limits.unit_bytes
        ):
            await asyncio.wait([p.committing])
        if not p.unit.records:
            p.unit.born = time.perf_counter()
        try:
            p.event_processor.apply(p.state, records, p.unit)
        except UnreadableRecord as e:
            self.end(BAD_STATE, str(p.unreadable(e)))
        self._due(p)

    def _due(self, p: Partition) -> None:
        """Starts the commit of the open unit if it is due and no commit of this partition is in flight.

        It is due if the unit is old or large enough, or if rows, series and summaries must be written.
        """
        if p.committing is not None or p.given_up:
            return
        limits, now = self._settings.streams, time.perf_counter()
        flush_in = p.flushed_at + self._flush_interval - now if p.state.unflushed else None
        left = self._interval - (now - p.unit.born) if p.unit.records else flush_in
        if left is None:
            return
        if left <= 0.0005 or p.unit.records >= limits.unit_records or p.unit.size >= limits.unit_bytes:
            self._start(p, flush_in is not None and flush_in <= 0.0005)
        else:
            asyncio.get_running_loop().call_later(left, self._due, p)

    def _start(self, p: Partition, flush: bool) -> None:
        try:
            unit, reached = p.close_unit(flush)
        except UnreadableState as e:
            self.end(BAD_STATE, str(e))
        if flush:
            p.flushed_at = time.perf_counter()
        p.committing = asyncio.get_running_loop().run_in_executor(self._commits, p.commit, unit)
        p.committing.add_done_callback(self.observed.closing(p, unit))
        p.committing.add_done_callback(lambda future: self._committed(p, unit, reached, future))

    def _committed(
        self, p: Partition, unit: TransactionBatch, reached: int, future: asyncio.Future[Any]
    ) -> None:
        error = future.exception()
        if error is not None:
            self.end(
                FAILED, f"partition {p.number}: a unit of {unit.records} records was not committed: {error}"
            )
        p.committing, p.committed = None, reached
        self.applied += unit.records
        if not p.given_up:
            self.on_applied(p.number, reached)
        self._due(p)

    # -- giving up
    async def drain(self) -> None:
        """Commits the open units; ends the process if that takes longer than 10 s.

        The state would be useless by then. Waits for producers that are being created: one that becomes
        ready after a rebalance would fence the new owner.
        """
        self._drop_held()
        deadline = time.monotonic() + DRAIN_SECONDS
        if self._opening is not None and not self._opening.done():
            await asyncio.wait([self._opening], timeout=DRAIN_SECONDS)
            if not self._opening.done():
                self.end(
                    FAILED, f"taking over partitions was not done within {DRAIN_SECONDS:.0f} s of a rebalance"
                )
        for p in list(self.partitions.values()):
            while p.unit.records or p.state.unflushed or p.committing is not None:
                if time.monotonic() > deadline:
                    self.end(
                        FAILED, f"partition {p.number} could not be drained within {DRAIN_SECONDS:.0f} s"
                    )
                if p.committing is None:
                    self._start(p, flush=True)
                await asyncio.wait([p.committing], timeout=1.0)

    def _fatal(self, partition: int, error: KafkaError) -> None:
        self.end(FAILED, f"partition {partition}: the transactional producer ended: {error.str()}")
