"""Fetches, without a broker: where each begins and ends, and which are handed on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.runtime.faust_transport import Batch, Consumer, ConsumerThread, Fetched, batches

A, B = TP("events", 0), TP("events", 1)


def record(offset: int) -> Any:
    return SimpleNamespace(offset=offset, timestamp=1, timestamp_type=1, key=b"k", value=b"")


def taken(records: dict[TP, list[Any]], reached: dict[TP, int], positions: dict[TP, int]) -> list[Batch]:
    return batches(records, reached, positions.get)


def test_a_batch_ends_where_the_consumer_is_past_the_markers() -> None:
    reached, records = {A: 5, B: 7}, [record(5), record(6)]
    assert taken({A: records}, reached, {A: 8, B: 7}) == [Batch(A, 5, 8, records)]
    assert reached == {A: 8, B: 7}


def test_markers_alone_are_a_batch_without_records() -> None:
    reached = {A: 5}
    assert taken({}, reached, {A: 6}) == [Batch(A, 5, 6, ())]
    assert taken({}, reached, {A: 6}) == []


def test_markers_of_partitions_that_are_not_looked_at_are_seen_later() -> None:
    reached, records = {A: 5, B: 7}, [record(5)]
    now = {A: 6, B: 8}
    assert batches({A: records}, reached, now.get, [A]) == [Batch(A, 5, 6, records)]
    assert taken({}, reached, now) == [Batch(B, 7, 8, ())]


def test_a_partition_that_was_not_placed_has_no_batch() -> None:
    assert taken({B: [record(0)]}, {A: 5}, {B: 1}) == []


def test_a_fetch_that_fails_halfway_gives_no_batches_until_the_positions_are_set_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its records are gone, and the consumer's positions are past them."""
    fetches = iter([{}, RuntimeError("a corrupt record"), {A: [record(7)]}])

    async def fetched(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = next(fetches)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetched)

    class Thread(ConsumerThread):
        def __init__(self) -> None:
            self.placed, self._reached, self._looked = 1, {A: 5}, 0.0

        def _position(self, tp: TP) -> int | None:
            return 8

    thread = Thread()
    assert asyncio.run(thread._fetch_records()) == Fetched(1, [Batch(A, 5, 8, ())])
    thread._reached[A] = 6
    with pytest.raises(RuntimeError):
        asyncio.run(thread._fetch_records())
    assert asyncio.run(thread._fetch_records()) == Fetched(1, [])


class Fetching(Consumer):
    """A consumer that gets one fetch."""

    should_stop = False
    flow_active = True

    def __init__(self, fetched: Any, placed: int) -> None:
        self.fetched, self._placed = fetched, placed
        self._read_offset: dict[TP, int | None] = {}
        self.app = SimpleNamespace(
            consumer_generation_id=1,
            monitor=SimpleNamespace(track_tp_end_offset=lambda tp, end: None),
        )

    async def _wait_next_records(self, *args: float) -> Any:
        return self.fetched, {B}  # A is not active: it was paused meanwhile

    def highwater(self, tp: TP) -> int:
        return 9


def handed_on(fetched: Any, placed: int) -> list[tuple[TP, int, int, Any]]:
    async def read() -> list[tuple[TP, int, int, Any]]:
        consumer = Fetching(fetched, placed)
        return [(tp, m.checksum, m.offset, m.value) async for tp, m in consumer.getmany(1.0)]

    return asyncio.run(read())


def test_a_partition_that_is_paused_during_a_fetch_loses_nothing_of_it() -> None:
    """The consumer's position is past these records: nobody would read them again."""
    records = [record(5), record(6)]
    fetched = Fetched(3, [Batch(A, 5, 7, records), Batch(B, 1, 2, ())])
    assert handed_on(fetched, 3) == [(A, 5, 6, records), (B, 1, 1, ())]


def test_what_was_fetched_before_the_positions_were_set_again_is_dropped() -> None:
    assert handed_on(Fetched(3, [Batch(A, 5, 7, [record(5)])]), 4) == []
    assert handed_on({}, 4) == []  # there was no active partition
