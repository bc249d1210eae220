"""The owner of partitions takes over and gives up, without a broker."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar, NoReturn

import pytest

from streams.exit_codes import CONFIG
from streams.runtime import owner as module
from streams.runtime.owner import Owner
from streams.runtime.partition import Partition
from tailrace.settings import Kafka, Settings


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
