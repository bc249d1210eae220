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

import msgspec
from confluent_kafka import KafkaError, KafkaException

from streams.exit_codes import BAD_STATE, CONFIG, FAILED, LOST_DATA, REPARTITIONED
from streams.observe.ends import LogEnds
from streams.observe.observed import Observed
from streams.processing.apply import TransactionBatch
from streams.processing.state import POSITION, UnreadableRecord
from streams.runtime.partition import Partition, UnreadableState
from streams.runtime.restore import first_records, read_state, uncollected
from streams.runtime.schema_buffer import BlockedBatches, SchemaWait
from tailrace.errors import ConfigError
from tailrace.ledger.pipeline_identity import (
    PipelineIdentity,
    other_app,
    other_count,
    other_topic,
    repartitioned,
)
from tailrace.processes import descriptors
from tailrace.settings import Settings
from tailrace.topics import TopicNames

log: Final = logging.getLogger("streams.runtime.owner")

DRAIN_SECONDS: Final = 10.0
NEARLY_ALL: Final = 0.95
"""Share of the file descriptors from which on their limit is named in an error."""


class Owner:
    """The partitions of trace.events that this worker owns.

    Args:
        topic_id: the current id of trace.events.
        partition_count: its current partition count.
        accept_loss: continue although data is missing.
        end: ends the process at once with an exit code and a reason; does not return.
        waiting: where unknown schemas are looked up before their records are applied; None: nowhere.
        generation: the generation of the current partition count.
        new_generation: continue although the partition count has changed.
        established: whether the pipeline's positions were found to be those of this streams.app_id.
    """

    def __init__(
        self,
        settings: Settings,
        topic_id: str,
        partition_count: int,
        accept_loss: bool,
        end: Callable[[int, str], NoReturn],
        waiting: SchemaWait | None = None,
        generation: int = 0,
        new_generation: bool = False,
        established: bool = False,
    ) -> None:
        names = TopicNames.of(settings.topics)
        self.topic = names.events
        self.identity = PipelineIdentity(
            names.events, names.state, topic_id, partition_count, settings.streams.app_id
        )
        self.recheck: Callable[[], None] = lambda: None
        """Ends the process if trace.events is not what it was at the start, e.g. has more partitions.

        Blocks; called before a unit with misrouted records is committed.
        """
        self.partitions: dict[int, Partition] = {}
        self.applied = 0
        """Records of committed transactions, since the start."""
        self.on_applied: Callable[[int, int], None] = lambda partition, offset: None
        self.on_held: Callable[[int, bool], None] = lambda partition, held: None
        """A partition starts to wait for a schema, and need not be read meanwhile, or continues."""
        self.observed = Observed()
        self._settings, self._accept_loss, self.end = settings, accept_loss, end
        self._partitioning, self._new_generation = generation, new_generation
        self._established = established
        self._waiting = waiting
        self._held: dict[int, BlockedBatches] = {}
        """Partitions with batches that wait for a schema."""
        self._stale: set[int] = set()
        """Partitions whose held batches were dropped.

        Their batches are skipped until the consumer's position is set again.
        """
        self._generation: int | None = None
        self._revoked = 0
        """How often partitions were revoked. Only after that they can get another owner."""
        self._opening: asyncio.Future[Any] | None = None
        """Producers being created. Each fences the former owner when it is ready."""
        self._interval = settings.streams.commit_interval_ms / 1000
        self._flush_interval = settings.streams.metrics_interval_ms / 1000
        self._commits = ThreadPoolExecutor(settings.streams.commit_threads, "commit")
        self._openers = ThreadPoolExecutor(32, "open")  # they wait for Kafka, up to 0.5 s each

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
        loop, generation, revoked = asyncio.get_running_loop(), self._generation, self._revoked
        count = self.identity.partitions
        if added := [n for n in wanted if n >= count]:
            self.end(
                REPARTITIONED,
                repartitioned(count, msgspec.structs.replace(self.identity, partitions=max(added) + 1)),
            )
        new = [
            Partition(n, count, self._settings, self._fatal)
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
            moved = [p.number for p in new if self._partitioning and p.state.partitions != count]
            ends = await loop.run_in_executor(self._openers, self._ends, moved)
            if generation != self._generation or revoked != self._revoked:
                self._openers.submit(new.clear)  # a producer's destructor joins threads
                return  # a rebalance came meanwhile: others may work on them, and this is called again
            for p in new:
                self._check_identity(p, p.number in worked, ends.get(p.number, 0))
        except UnreadableState as e:
            self.end(BAD_STATE, str(e))
        except ConfigError as e:
            self.end(CONFIG, str(e))
        except KafkaException as e:
            refused = e.args[0].code() == KafkaError.INVALID_TRANSACTION_TIMEOUT
            hint = (
                ": streams.transaction_timeout_ms is more than the broker's transaction.max.timeout.ms"
                if refused
                else _why(new)
            )
            self.end(
                CONFIG if refused else FAILED,
                f"taking over partitions {[p.number for p in new]} failed: {e.args[0].str()}{hint}",
            )
        except Exception as e:
            what = f"taking over partitions {[p.number for p in new]} failed"
            self.end(FAILED, f"{what}: {type(e).__name__}: {e}{_why(new)}")
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
        """Those of these partitions, without a position, of which events were enriched.

        Blocks. Raises KafkaException.
        """
        if not partitions:
            return set()
        names = TopicNames.of(self._settings.topics)
        worked = first_records(self._settings.kafka, names.enriched, partitions)
        if not worked:
            return worked
        # A record is committed with a position. If there is one now, a later owner wrote both, and has
        # fenced this one
        now = read_state(self._settings.kafka, names.state, sorted(worked))
        return {n for n in worked if POSITION not in now[n]}

    def _ends(self, partitions: list[int]) -> dict[int, int]:
        """Ends of the log of these partitions. Blocks. Raises KafkaException."""
        if not partitions:
            return {}
        found = LogEnds(self._settings.kafka, self.topic).of(partitions)
        if missing := set(partitions) - found.keys():
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, f"no end of {self.topic} partitions {sorted(missing)}")
            )
        return {n: e.high for n, e in found.items()}

    def _check_identity(self, p: Partition, worked_before: bool, end: int) -> None:
        """Checks that the stored position belongs to this pipeline, and exists if there are enriched records.

        Args:
            p: the partition, restored.
            worked_before: whether trace.enriched has records of it.
            end: the end of its log, if the partition count has changed, else 0.
        """
        s, now = p.state, self.identity
        if not s.topic_id:
            if worked_before:
                self._gone(
                    f"partition {p.number}: {now.state} holds no position, but "
                    f"{TopicNames.of(self._settings.topics).enriched} has records: "
                    "the state is lost, and all events would be enriched a second time"
                )
            self._adopt(p, end)
            s.next_offset = 0  # stored before the first record, so that it is missed if it is deleted
        elif problem := other_topic(s, now):
            self._gone(f"partition {p.number}: {problem}")
            self._adopt(p, end)
            s.next_offset = 0
        elif (problem := other_app(s, now)) and not self._established:
            self.end(CONFIG, f"partition {p.number}: {problem}")
        elif problem := other_count(s, now):
            if not self._new_generation:
                self.end(REPARTITIONED, f"partition {p.number}: {problem}")
            log.warning(
                "partition %d: generation %d begins with %d partitions, before it were %d",
                p.number,
                self._partitioning,
                now.partitions,
                s.partitions,
            )
            self._adopt(p, end)
        elif s.app_id != now.app_id:  # of two that started together the other one had this partition
            self._adopt(p, s.placed_from)

    def _adopt(self, p: Partition, placed_from: int) -> None:
        """Makes a position one of this pipeline. It is stored with the next unit, at once.

        Args:
            p: the partition.
            placed_from: records below this offset may be where another partition count put them.
        """
        s, now = p.state, self.identity
        s.topic_id, s.partitions, s.app_id, p.moved = now.topic_id, now.partitions, now.app_id, True
        s.placed_from = placed_from
        if s.generation != self._partitioning:
            s.generation, s.sequence = self._partitioning, 0

    def next_offset(self, partition: int) -> int | None:
        p = self.partitions.get(partition)
        return None if p is None else p.state.next_offset

    def positioned(self, partition: int, offset: int) -> None:
        self._stale.discard(partition)
        p = self.partitions.get(partition)
        if p is not None:
            p.expects, p.without_records = offset, (-1, -1)
            self._due(p)

    def lost(self, partition: int, wanted: int, first: int, end: int) -> None:
        what = "retention removed the records between" if wanted < first else "the log ends before"
        self._gone(
            f"partition {partition}: the stored position is {wanted}, "
            f"but the log of {self.topic} has {first} to {end}: {what} it"
        )
        p = self.partitions[partition]
        p.state.next_offset, p.moved = first, True

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

        Args:
            partition: its number.
            follows: the offset from which the fetch continues.
            last_offset: the last offset that the fetch has read: of a record or of a transaction marker.
            records: the records; empty if there were only markers.
        """
        if partition in self._stale:
            return
        p = self.partitions.get(partition)
        if p is None or follows != p.expects:
            self.end(
                FAILED, f"partition {partition}: a batch continues from {follows}, expected {p and p.expects}"
            )
        p.expects = last_offset + 1
        after, reached = p.without_records
        if records:
            after = records[-1].offset + 1
        elif reached != follows:
            after = follows
        p.without_records = (after, last_offset + 1)
        held = self._held.get(partition)
        if self._waiting is None or (held is None and not records):
            await self._apply(p, records)
            return
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
        if records:
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
        p.pass_markers()
        self._due(p)

    def _due(self, p: Partition) -> None:
        """Starts the commit of the open unit if it is due and no commit of this partition is in flight.

        It is due if the unit is old or large enough, or if rows, series, summaries or a position that
        moved without records must be written.
        """
        if p.committing is not None or p.given_up:
            return
        limits, now = self._settings.streams, time.perf_counter()
        flush_in = p.flushed_at + self._flush_interval - now if p.unwritten else None
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
        p.committing = asyncio.get_running_loop().run_in_executor(self._commits, self._commit, p, unit)
        p.committing.add_done_callback(self.observed.closing(p, unit))
        p.committing.add_done_callback(lambda future: self._committed(p, unit, reached, future))

    def _commit(self, p: Partition, unit: TransactionBatch) -> tuple[float, float]:
        if unit.misrouted:
            self.recheck()  # under another partition count these records are where they belong
        return p.commit(unit)

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
        self._revoked += 1
        self._drop_held()
        deadline = time.monotonic() + DRAIN_SECONDS
        if self._opening is not None and not self._opening.done():
            await asyncio.wait([self._opening], timeout=DRAIN_SECONDS)
            if not self._opening.done():
                self.end(
                    FAILED, f"taking over partitions was not done within {DRAIN_SECONDS:.0f} s of a rebalance"
                )
        for p in list(self.partitions.values()):
            while p.unit.records or p.unwritten or p.committing is not None:
                if time.monotonic() > deadline:
                    self.end(
                        FAILED, f"partition {p.number} could not be drained within {DRAIN_SECONDS:.0f} s"
                    )
                if p.committing is None:
                    self._start(p, flush=True)
                await asyncio.wait([p.committing], timeout=1.0)

    def _fatal(self, partition: int, error: KafkaError) -> None:
        self.end(FAILED, f"partition {partition}: the transactional producer ended: {error.str()}")


def _why(opened: Sequence[Partition]) -> str:
    """What else is known about producers that could not be opened: their errors, and used descriptors."""
    problems = dict.fromkeys(p.problem for p in opened if p.problem)
    used, limit = descriptors()
    text = "".join(f"; {problem}" for problem in list(problems)[:3])
    if limit and used >= limit * NEARLY_ALL:
        text += (
            f"; {used} of {limit} file descriptors are in use: raise the limit (ulimit -n, LimitNOFILE=), or "
            "share the partitions among more workers"
        )
    return text
