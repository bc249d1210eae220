"""A Faust transport for batches: one message per partition and fetch, at the application's positions.

It is registered in the entry-point group `faust.transports` as ``broker="batch+kafka://host:9092"``.
Faust spends far more time on a message than the processor (benchmarks/stream_stage.py), so an agent
gets a message whose value is the list of records of a fetch. Group membership, assignment, rebalances
and the life cycle stay with Faust. The position comes from the application, not from the consumer
group.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiokafka.client
from aiokafka.consumer.fetcher import FetchError, OffsetResetStrategy
from aiokafka.protocol.metadata import MetadataRequest
from faust.topics import Topic
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage

# By default aiokafka asks for the creation of the topics that it subscribes to. It has no setting for that.
aiokafka.client.MetadataRequest = functools.partial(MetadataRequest, allow_auto_topic_creation=False)

LOOK_SECONDS: Final = 1.0
"""How often partitions without records are looked at for markers while others have records."""


class Batch(NamedTuple):
    """What one fetch gave of one partition."""

    tp: TP
    follows: int
    """The offset at which it begins: where the batch before it has ended."""
    reached: int
    """The offset at which it ends: past the records, and past transaction markers after them."""
    records: Sequence[Any]
    """Empty if there were only markers."""


class Fetched(NamedTuple):
    """What one fetch gave."""

    placed: int
    """How often the positions had been set. What was fetched before they were set again is stale."""
    batches: Sequence[Batch]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Sets the consumer's position to the application's.

    Faust's perform_seek calls `seek_to_committed` after every rebalance, which would undo a seek made
    elsewhere.
    """

    logger = logging.getLogger("faust.consumer")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.placed = 0
        """How often the positions were set."""
        self._looked = 0.0
        """When the positions of all partitions were last looked at."""
        self._reached: dict[TP, int] = {}
        """Where the last batch of each partition has ended. Only this thread uses it."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # links are written to the source inside transactions
        return consumer

    async def seek_to_committed(self) -> Mapping[TP, int]:
        placed: Mapping[TP, int] = await self.call_thread(self._seek)
        return placed

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        """Adds where each batch begins and ends.

        aiokafka's position moves past transaction markers, of which a fetch shows nothing else. It is
        read in the step in which the records were taken, so no record is between a batch and its end.
        """
        try:
            records = await super()._fetch_records(*args, **kwargs)
        except BaseException:
            self._reached = {}  # records may have been taken: nothing more until the positions are set again
            raise
        now = time.monotonic()
        look = records and now - self._looked < LOOK_SECONDS
        if not look:
            self._looked = now
        return Fetched(
            self.placed, batches(records, self._reached, self._position, records if look else None)
        )

    def _position(self, tp: TP) -> int | None:
        """aiokafka's position; None if it has none, or is past a record that could not be read."""
        consumer = self._ensure_consumer()
        if isinstance(consumer._fetcher._records.get(tp), FetchError):
            return None
        subscription = consumer._subscription.subscription
        state = subscription and subscription.assignment and subscription.assignment.state_value(tp)
        return int(state.position) if state and state.has_valid_position else None

    async def _seek(self) -> Mapping[TP, int]:
        consumer, owner = self._ensure_consumer(), self.consumer.app.owner
        mine = [tp for tp in consumer.assignment() if tp.topic == owner.topic]
        placed: dict[TP, int] = {}
        self.placed, self._reached = self.placed + 1, {}
        if not mine:
            return placed
        begin = await consumer.beginning_offsets(mine)
        end = await consumer.end_offsets(mine)
        for tp in mine:
            offset = owner.next_offset(tp.partition)
            if offset is None:
                continue  # restored later; Faust seeks again then
            if not begin[tp] <= offset <= end[tp]:
                owner.lost(tp.partition, offset, begin[tp], end[tp])
                offset = begin[tp]
            consumer.seek(tp, offset)
            placed[TP(*tp)] = offset
        self._reached = dict(placed)
        self.reset_policy(OffsetResetStrategy.NONE)
        return placed

    def reset_policy(self, strategy: int) -> None:
        """Sets what aiokafka does if a position is not in the log.

        After the position was set: raise. The error ends the process, and the next one reports which
        events are missing; a silent jump would lose them unnoticed. Before that, any position will do:
        a partition that was just assigned has none for a moment.
        """
        if self._consumer is not None and self._consumer._fetcher is not None:
            self._consumer._fetcher._default_reset_strategy = strategy


def batches(
    records: Mapping[Any, Sequence[Any]],
    reached: dict[TP, int],
    position: Callable[[TP], int | None],
    look: Iterable[Any] | None = None,
) -> list[Batch]:
    """The batches of one fetch: of the partitions whose position has moved.

    Args:
        records: the records of each partition.
        reached: where the batch before has ended; is moved forward.
        position: gives the position after these records; None if there is none.
        look: the partitions to look at; None: all. Markers of others are seen later.
    """
    found = []
    for tp in [*reached] if look is None else look:
        before, now = reached.get(tp), position(tp)
        if before is not None and now is not None and now > before:
            reached[tp] = now
            found.append(Batch(TP(*tp), before, now, records.get(tp, ())))
    return found


class Consumer(driver.Consumer):
    """Delivers one message per partition and fetch. Faust's own ack bookkeeping is not used."""

    logger = logging.getLogger("faust.consumer")

    def on_init(self) -> None:
        super().on_init()
        self._applied: dict[TP, int] = {}
        self._placed = 0

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        placed = await self._thread.seek_to_committed()
        self._placed = self._thread.placed
        for tp, offset in placed.items():
            self.app.owner.positioned(tp.partition, offset)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        fetched, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not isinstance(fetched, Fetched) or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        if fetched.placed != self._placed:
            return  # the positions were set again meanwhile: it is read again
        # Not only of active partitions: one that was paused during the fetch has passed these records
        for batch in fetched.batches:
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            tp = batch.tp
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            # Faust would silently drop messages by it; the checksum below is checked instead
            self._read_offset[tp] = None
            last = batch.records[-1] if batch.records else None
            # checksum carries the offset that this batch continues from, so that the agent detects gaps
            yield (
                tp,
                ConsumerMessage(
                    tp.topic,
                    tp.partition,
                    batch.reached - 1,
                    0.0 if last is None else last.timestamp / 1000.0,
                    0 if last is None else last.timestamp_type,
                    [],
                    None,
                    batch.records,
                    batch.follows,
                    0,
                    0,
                    tp,
                    generation_id=generation,
                ),
            )

    def applied(self, tp: TP, offset: int) -> None:
        """The offset up to which a partition is committed. The group's offset is only for lag monitors."""
        self._applied[tp] = offset

    def _filter_committable_offsets(self, tps: Any) -> Any:
        offsets = super()._filter_committable_offsets(tps)
        offsets.update({tp: o for tp, o in self._applied.items() if self._committed_offset[tp] != o})
        return offsets

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._thread.reset_policy(OffsetResetStrategy.EARLIEST)
        self.app.flow_control.suspend()  # this is awaited before the group is joined again
        self.app.flow_control.clear()
        await self.app.owner.drain()
        if self._applied:
            await self.commit()
        self._applied.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.app.owner.assigned(
            {tp.partition for tp in assigned if tp.topic == self.app.owner.topic}, generation_id
        )
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_stop(self) -> None:
        await self.app.owner.drain()
        await super().on_stop()


class Transport(driver.Transport):
    Consumer = Consumer


class BatchTopic(Topic):
    """A topic whose messages are lists of records; nothing is decoded."""

    def _compile_decode(self) -> Any:
        create = self._create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create(None, message.value, (), message=message)

        return decode
