"""Records of unknown schemas: who waits, for how long, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest

from streams.runtime import owner as module
from streams.runtime.owner import Owner
from streams.runtime.partition import Partition
from streams.runtime.schema_buffer import BlockedBatches, SchemaWait
from tailrace import codec
from tailrace.codec import schemas
from tailrace.codec.schemas import id_frame
from tailrace.settings import Settings
from tests.streams.events import Source as Record
from tests.streams.events import event
from tests.tailrace.schema_source import SchemaSource

VALUE = codec.encode(event())


def record(offset: int, frame: bytes | None = None) -> Record:
    """A record whose schema `frame` names. None: our own schema."""
    return Record(offset, 1, b"k", (VALUE[:10] if frame is None else frame) + VALUE[10:])


class Sources(SchemaSource):
    """A registry that is queried when the test says so. Time passes only in `sleep`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.at: dict[float, Callable[[], object]] = {}

    def learn(self, frame: bytes) -> None:
        self.resolver.add(frame, schemas.known.find(VALUE[:10]))

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in sorted(t for t in self.at if t <= self.now):
            self.at.pop(when)()
        await asyncio.sleep(0)

    def waiting(self, seconds: float = 60.0) -> SchemaWait:
        return SchemaWait(self, self.resolver.knows, seconds, lambda: self.now, self.sleep)


async def until(done: Callable[[], bool]) -> None:
    """Runs the event loop until `done()`."""
    for _ in range(1_000_000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("not done")


def test_batches_go_on_in_order_when_the_schema_is_there() -> None:
    sources, applied, resumed = Sources(), list[int](), list[bool]()
    sources.at[3.0] = lambda: sources.learn(id_frame(7))

    async def apply(records: Any) -> None:
        applied.extend(r.offset for r in records)

    async def go() -> None:
        held = BlockedBatches(0, sources.waiting(), apply, resumed.append)
        held.add([record(0, id_frame(7)), record(1)])
        held.add([record(2)])
        assert held
        await until(lambda: not held)

    asyncio.run(go())
    assert applied == [0, 1, 2]
    assert resumed == [True, True, False]
    assert set(sources.wanted) == {id_frame(7)}
    assert sources.now == pytest.approx(3.0, abs=0.2)


def test_the_wait_ends_and_all_frames_of_a_batch_wait_at_once() -> None:
    sources = Sources()

    async def go() -> None:
        await sources.waiting().over(0, [record(n, id_frame(n)) for n in range(100)])

    asyncio.run(go())
    assert sources.now == pytest.approx(60.0, abs=0.2)


class InMemory(Partition):
    """A partition without a producer. It keeps its units."""

    def open(self) -> None:
        self.units: list[Any] = []

    def commit(self, unit: Any) -> tuple[float, float]:
        self.units.append(unit)
        return 0.0, 0.0


def ended(code: int, reason: str) -> NoReturn:
    raise AssertionError(f"ended with {code}: {reason}")


def owning(
    monkeypatch: pytest.MonkeyPatch, sources: Sources, scenario: Callable[[Owner], Awaitable[None]]
) -> Owner:
    """Runs a scenario with an owner of partitions 0 and 1, positioned at 0."""
    monkeypatch.setattr(module, "Partition", InMemory)
    monkeypatch.setattr(module, "read_state", lambda settings, topic, partitions: {n: {} for n in partitions})
    monkeypatch.setattr(Owner, "_worked_before", lambda self, partitions: set())
    monkeypatch.setattr("streams.processing.header.schemas.known", sources.resolver)

    async def run() -> Owner:
        owner = Owner(Settings(), "topic", 2, False, ended, sources.waiting())
        owner.assigned({0, 1}, 1)
        await owner.acquire({0, 1})
        for n in (0, 1):
            owner.partitions[n].event_processor._partitions = 0  # no check of where a key belongs
            owner.positioned(n, 0)
        await scenario(owner)
        await owner.drain()
        return owner

    return asyncio.run(run())


def committed(owner: Owner, partition: int) -> tuple[int, int]:
    """Numbers of enriched records and of dead letters."""
    p: Any = owner.partitions[partition]
    return sum(len(u.outputs) for u in p.units), sum(len(u.dead_letters) for u in p.units)


def distinct(offset: int, frame: bytes | None = None) -> Record:
    value = codec.encode(event(n=offset + 1))
    return Record(offset, 1, b"k", (value[:10] if frame is None else frame) + value[10:])


def test_only_the_partition_waits_and_what_came_before_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    sources, seven, seen = Sources(), id_frame(901), list[Any]()
    held: list[tuple[int, bool]] = []

    async def scenario(owner: Owner) -> None:
        owner.on_held = lambda partition, holds: held.append((partition, holds))
        gate = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await gate.wait()
            await Sources.sleep(sources, seconds)

        assert owner._waiting is not None
        owner._waiting._sleep = sleep
        await owner.batch(0, 0, 2, [distinct(0), distinct(1, seven), distinct(2)])
        await owner.batch(0, 3, 3, [distinct(3)])
        await owner.batch(1, 0, 1, [distinct(0), distinct(1)])
        seen.append([owner.partitions[n].state.next_offset for n in (0, 1)])
        seen.append(owner.observed.waiting)
        sources.learn(seven)
        gate.set()
        await until(lambda: not owner._held)
        seen.append([owner.partitions[n].state.next_offset for n in (0, 1)])
        seen.append(owner.observed.waiting)

    owner = owning(monkeypatch, sources, scenario)
    assert seen == [[1, 2], {0}, [4, 2], frozenset()]
    assert held == [(0, True), (0, True), (0, False)]
    assert (committed(owner, 0), committed(owner, 1)) == ((4, 0), (2, 0))


def test_a_schema_that_does_not_come_is_a_dead_letter_and_later_records_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources, seven = Sources(), id_frame(902)

    async def scenario(owner: Owner) -> None:
        await owner.batch(0, 0, 2, [distinct(0), distinct(1, seven), distinct(2)])
        await until(lambda: not owner._held)
        assert sources.now == pytest.approx(60.0, abs=0.2)
        await owner.batch(0, 3, 4, [distinct(3, seven), distinct(4)])
        assert not owner._held

    assert committed(owning(monkeypatch, sources, scenario), 0) == (3, 2)


def test_a_rebalance_drops_what_is_held_and_it_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that were in flight are skipped until the partition is positioned again.

    A gap would be a loss.
    """
    sources, seven = Sources(), id_frame(903)
    sources.at = {}

    async def scenario(owner: Owner) -> None:
        never = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await never.wait()

        assert owner._waiting is not None
        owner._waiting._sleep = sleep
        await owner.batch(0, 0, 1, [distinct(0), distinct(1, seven)])
        await asyncio.sleep(0)
        await owner.drain()
        await owner.batch(0, 2, 2, [distinct(2)])  # was in a buffer
        assert owner.partitions[0].state.next_offset == 1
        owner.assigned({0, 1}, 2)
        await owner.acquire({0, 1})
        owner.positioned(0, 1)
        sources.learn(seven)
        await owner.batch(0, 1, 2, [distinct(1, seven), distinct(2)])
        assert owner.partitions[0].state.next_offset == 3

    assert committed(owning(monkeypatch, sources, scenario), 0) == (3, 0)
