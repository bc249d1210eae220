"""The owner of partitions takes over and gives up, without a broker."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, NoReturn

import msgspec
import pytest

from streams.exit_codes import CONFIG, LOST_DATA, REPARTITIONED
from streams.processing.apply import TransactionBatch
from streams.processing.state import FRESH, POSITION
from streams.runtime import owner as module
from streams.runtime.owner import Owner
from streams.runtime.partition import Partition
from streams.runtime.schema_buffer import SchemaWait
from tailrace import codec
from tailrace.codec import wire
from tailrace.errors import KafkaUnavailable
from tailrace.partitioner import partition_of
from tailrace.records import PartitionPosition
from tailrace.settings import Kafka, Settings, Streams
from tests.streams.events import Source as Record
from tests.streams.events import event


class Opening(Partition):
    """A partition whose producer is ready when the test says so."""

    ready = threading.Event()
    opened: ClassVar[list[int]] = []

    def open(self) -> None:
        assert self.ready.wait(60)
        self.opened.append(self.number)


def ended(code: int, reason: str) -> NoReturn:
    raise AssertionError(f"ended with {code}: {reason}")


def test_a_rebalance_waits_for_producers_that_are_being_created(monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that is ready after its partition has moved would fence the new owner."""
    monkeypatch.setattr(module, "Partition", Opening)
    monkeypatch.setattr(module, "read_state", lambda settings, topic, partitions: {n: {} for n in partitions})
    monkeypatch.setattr(Owner, "_worked_before", lambda self, partitions: set())

    async def rebalanced() -> list[int]:
        owner = Owner(Settings(), "topic", 4, False, ended)
        owner.assigned({0, 1}, 1)
        acquiring = asyncio.create_task(owner.acquire({0, 1}))
        await asyncio.sleep(0)  # both are being opened
        asyncio.get_running_loop().call_later(0.2, Opening.ready.set)
        await owner.drain()  # awaited before the group is joined again
        opened = list(Opening.opened)
        owner.assigned({1}, 2)
        await acquiring
        return opened

    assert sorted(asyncio.run(rebalanced())) == [0, 1]


def test_a_property_that_librdkafka_refuses_ends_the_worker_without_a_restart() -> None:
    """A restart would not help: the supervisor restarts workers that end with another code."""

    class Ended(Exception):
        pass

    ends: list[tuple[int, str]] = []

    def end(code: int, reason: str) -> NoReturn:
        ends.append((code, reason))
        raise Ended

    kafka = Kafka("127.0.0.1:1", {"message.timeout.ms": "600000"})

    async def acquired() -> None:
        owner = Owner(Settings(kafka=kafka), "topic", 4, False, end)
        owner.assigned({0}, 1)
        await owner.acquire({0})

    with pytest.raises(Ended):
        asyncio.run(acquired())
    ((code, reason),) = ends
    assert code == CONFIG
    assert "message.timeout.ms" in reason


class Ended(BaseException):
    """The worker would end: exit code and reason. Nothing may catch it."""


def ends(code: int, reason: str) -> NoReturn:
    raise Ended(code, reason)


class InMemory(Partition):
    """A partition without a producer. It keeps what it commits: records and position."""

    def open(self) -> None:
        self.positions: list[PartitionPosition] = []

    def commit(self, unit: TransactionBatch) -> tuple[float, float]:
        assert unit.closed is not None
        (value,) = [value for key, value in unit.closed.state if key == POSITION]
        assert value is not None
        self.positions.append(wire.decode_versioned(value, PartitionPosition))
        return 0.0, 0.0


def position(**fields: Any) -> PartitionPosition:
    mine = msgspec.structs.replace(
        FRESH, topic_id="topic", partitions=2, app_id=Settings().streams.app_id, next_offset=5
    )
    return msgspec.structs.replace(mine, **fields)


def owning(
    monkeypatch: pytest.MonkeyPatch,
    stored: dict[int, PartitionPosition],
    scenario: Callable[[Owner], Awaitable[None]],
    ends_at: int = 9,
    **arguments: Any,
) -> list[PartitionPosition]:
    """Runs a scenario with an owner of partition 0 of 2. Returns the positions that it has committed."""

    def read(settings: Any, topic: str, partitions: list[int]) -> dict[int, dict[bytes, bytes]]:
        return {n: {POSITION: wire.encode_versioned(stored[n])} if n in stored else {} for n in partitions}

    monkeypatch.setattr(module, "Partition", InMemory)
    monkeypatch.setattr(module, "read_state", read)
    monkeypatch.setattr(Owner, "_worked_before", lambda self, partitions: set())
    monkeypatch.setattr(Owner, "_ends", lambda self, partitions: dict.fromkeys(partitions, ends_at))

    async def run() -> list[PartitionPosition]:
        owner = Owner(Settings(), "topic", 2, arguments.pop("accept_loss", False), ends, **arguments)
        owner.assigned({0}, 1)
        await owner.acquire({0})
        owner.positioned(0, owner.next_offset(0) or 0)
        await scenario(owner)
        await owner.drain()
        p = owner.partitions[0]
        assert isinstance(p, InMemory)
        return p.positions

    return asyncio.run(run())


async def nothing(owner: Owner) -> None:
    """A scenario in which no record arrives."""


def here(offset: int, belongs: int = 0) -> Record:
    """An event whose key belongs in a partition of two."""
    key = next(k for n in range(99) if partition_of(k := b"%d" % n, 2) == belongs)
    return Record(offset, 1, key, codec.encode(event(n=offset + 1)))


def test_the_first_owner_of_a_partition_stores_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = owning(monkeypatch, {}, nothing)
    assert (first.topic_id, first.partitions, first.next_offset) == ("topic", 2, 0)
    assert first.app_id == Settings().streams.app_id
    assert owning(monkeypatch, {0: position()}, nothing) == []  # it is stored already


def test_the_position_moves_past_markers_and_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def markers(owner: Owner) -> None:
        await owner.batch(0, 5, 6, [])
        await owner.batch(0, 7, 9, [here(7)])  # 8 and 9 are markers
        await owner.batch(0, 10, 10, [])

    assert owning(monkeypatch, {0: position()}, markers)[-1].next_offset == 11


def test_a_position_does_not_move_past_markers_before_the_records_in_front_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Records that wait for a schema are not applied yet, whatever was read after them."""
    gate, moved = asyncio.Event(), list[int]()

    class Waiting(SchemaWait):
        def __init__(self) -> None:
            pass

        def first(self, records: Sequence[Any]) -> int:
            return 0

        async def over(self, partition: int, records: Sequence[Any]) -> None:
            await gate.wait()

    async def markers(owner: Owner) -> None:
        await owner.batch(0, 5, 7, [here(5)])
        await owner.batch(0, 8, 9, [])
        await owner.batch(0, 10, 10, [])
        moved.append(owner.next_offset(0) or 0)
        done = asyncio.Event()
        owner.on_held = lambda partition, holds: None if holds else done.set()
        gate.set()
        await done.wait()
        moved.append(owner.next_offset(0) or 0)

    found = owning(monkeypatch, {0: position()}, markers, waiting=Waiting())
    assert moved == [5, 11]
    assert found[-1].next_offset == 11


def test_misrouted_records_are_committed_only_under_an_unchanged_partition_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    async def records(owner: Owner) -> None:
        p = owner.partitions[0]
        assert isinstance(p, InMemory)
        owner.recheck = lambda: asked.append(len(p.positions))
        await owner.batch(0, 5, 5, [here(5)])
        await owner.drain()
        await owner.batch(0, 6, 6, [here(6, belongs=1)])
        await owner.drain()

        def unknown() -> NoReturn:
            raise KafkaUnavailable("no answer")

        owner.recheck = unknown
        unit = TransactionBatch()
        unit.misrouted = 1
        with pytest.raises(KafkaUnavailable):
            owner._commit(p, unit)

    committed = owning(monkeypatch, {0: position()}, records)
    assert asked == [1]  # once, before the second unit was committed
    assert [p.next_offset for p in committed] == [6, 7]


@pytest.mark.parametrize(
    ("stored", "arguments", "code", "words"),
    [
        ({"app_id": "other"}, {}, CONFIG, "streams.app_id"),
        ({"partitions": 1}, {}, REPARTITIONED, "--new-generation"),
        ({"topic_id": "gone"}, {}, LOST_DATA, "--accept-loss"),
    ],
)
def test_a_position_of_another_pipeline_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, stored: Any, arguments: Any, code: int, words: str
) -> None:
    with pytest.raises(Ended) as e:
        owning(monkeypatch, {0: position(**stored)}, nothing, **arguments)
    assert e.value.args[0] == code
    assert words in e.value.args[1]


def test_a_partition_that_another_processor_had_for_a_moment_is_taken_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two that start together each may store some positions. One of them must be able to go on."""
    before = position(app_id="other", sequence=3)
    (after,) = owning(monkeypatch, {0: before}, nothing, established=True)
    assert after == msgspec.structs.replace(before, app_id=Settings().streams.app_id, units=1, flushed=5)


def test_a_take_over_that_a_rebalance_overtakes_judges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next owner may have worked meanwhile: its records do not show that the state is lost."""

    def worked(self: Owner, partitions: list[int]) -> set[int]:
        self._revoked += 1
        return set(partitions)

    from_the_store(monkeypatch)
    Fenced.store, Fenced.epoch = {}, 0
    monkeypatch.setattr(Owner, "_worked_before", worked)

    async def run() -> None:
        owner = Owner(Settings(), "topic", 2, False, ends)
        owner.assigned({0}, 1)
        await owner.acquire({0})
        assert owner.partitions == {}

    asyncio.run(run())


def test_a_position_that_is_there_at_the_second_look_is_a_later_owners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later: dict[int, dict[bytes, bytes]] = {0: {POSITION: b"later"}, 1: {}}
    monkeypatch.setattr(module, "first_records", lambda settings, topic, partitions: {0, 1})
    monkeypatch.setattr(module, "read_state", lambda settings, topic, partitions: later)
    assert Owner(Settings(), "topic", 2, False, ends)._worked_before([0, 1]) == {1}


def test_a_partition_that_was_added_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def added(owner: Owner) -> None:
        owner.assigned({0, 2}, 2)
        await owner.acquire({0, 2})

    with pytest.raises(Ended) as e:
        owning(monkeypatch, {0: position()}, added)
    assert e.value.args[0] == REPARTITIONED


def test_a_new_generation_numbers_anew_and_takes_records_as_the_old_count_put_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead: list[int] = []

    async def records(owner: Owner) -> None:
        await owner.batch(0, 5, 8, [here(5, belongs=1), here(8)])
        await owner.batch(0, 9, 9, [here(9, belongs=1)])
        dead.append(owner.partitions[0].state.dead_lettered)

    before = position(partitions=1, generation=2, sequence=700)
    found = owning(monkeypatch, {0: before}, records, generation=3, new_generation=True)
    first, last = found[0], found[-1]
    assert (first.partitions, first.generation, first.placed_from) == (2, 3, 9)
    assert (last.generation, last.sequence, last.next_offset) == (3, 2, 10)
    assert dead == [1]  # what came after the change must be where the new count puts it

    again = owning(monkeypatch, {0: last}, nothing, generation=3)
    assert again == []  # without the flag


class Fenced(InMemory):
    """Commits to a store that outlives it, unless a later owner has opened the partition."""

    store: ClassVar[dict[int, PartitionPosition]]
    epoch: ClassVar[int]

    def open(self) -> None:
        super().open()
        Fenced.epoch += 1
        self.mine = Fenced.epoch

    def commit(self, unit: TransactionBatch) -> tuple[float, float]:
        took = super().commit(unit)
        if self.mine == Fenced.epoch:
            Fenced.store[self.number] = self.positions[-1]
        return took


@pytest.mark.parametrize("seed", range(40))
def test_positions_pass_every_marker_and_no_record_whatever_crashes(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A log of records and markers, read in any pieces, by owners of which some end without a commit."""
    rng = random.Random(seed)
    log = [rng.random() < 0.5 for _ in range(rng.randrange(1, 60))]  # True: a record
    Fenced.store, Fenced.epoch = {}, 0

    async def reads(owner: Owner) -> bool:
        """Reads on from the stored position. False: it has crashed."""
        owner.assigned({0}, 1)
        await owner.acquire({0})
        at = owner.next_offset(0) or 0
        owner.positioned(0, at)
        while at < len(log):
            end = rng.randrange(at + 1, len(log) + 1)
            await owner.batch(0, at, end - 1, [here(n) for n in range(at, end) if log[n]])
            at = end
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
            if rng.random() < 0.2:
                return False
        await owner.drain()
        return True

    async def run() -> None:
        for _ in range(100):
            done = await reads(Owner(Settings(streams=streams), "topic", 2, False, ends))
            found = Fenced.store.get(0)
            if found is not None:
                passed = max(0, found.next_offset)
                assert found.events_in == sum(log[:passed])
            if done:
                return
        raise AssertionError("it never reached the end")

    streams = Streams(commit_interval_ms=0, metrics_interval_ms=rng.choice([0, 1]))
    from_the_store(monkeypatch)
    asyncio.run(run())
    assert Fenced.store[0].next_offset == len(log)
    assert Fenced.store[0].events_in == sum(log)


def from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners take over what `Fenced.store` holds."""

    def read(settings: Any, topic: str, partitions: list[int]) -> dict[int, dict[bytes, bytes]]:
        stored = Fenced.store
        return {n: {POSITION: wire.encode_versioned(stored[n])} if n in stored else {} for n in partitions}

    monkeypatch.setattr(module, "Partition", Fenced)
    monkeypatch.setattr(module, "read_state", read)
    monkeypatch.setattr(Owner, "_worked_before", lambda self, partitions: set())
