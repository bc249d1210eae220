"""Batches of one partition that wait for a schema, in order; what comes after them waits behind them, other
partitions go on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from streams.runtime.schema_waits import Schemas, SchemaWaitPolicy

log: Final = logging.getLogger("streams.runtime.schema_buffer")

LOOK_SECONDS: Final = 0.05


class SchemaWait:
    """What all partitions of a worker share: where schemas are looked for, and how long a record waits for
    one."""

    def __init__(
        self,
        source: Schemas,
        knows: Callable[[bytes], bool],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._unknown = SchemaWaitPolicy(source, knows, seconds)
        self._clock, self._sleep = clock, sleep

    def first(self, records: Sequence[Any]) -> int:
        """As `Unknown.first`."""
        return self._unknown.first(records, self._clock())

    async def over(self, partition: int, records: Sequence[Any]) -> None:
        """Returns once none of the records waits any more: their schemas are known, or given up."""
        frames = asked = self._unknown.frames(records, self._clock())
        if frames:
            names = ", ".join(sorted(map(_name, frames))[:5])
            log.warning("partition %d waits for the schemas of %d frames: %s", partition, len(frames), names)
        while frames:
            await self._sleep(LOOK_SECONDS)
            now = self._clock()
            frames = {f for f in frames if self._unknown.waits(f, now)}
        if asked:
            log.info("partition %d goes on", partition)


class BlockedBatches:
    """Of one partition. apply: applies a batch. told: called with True when a batch is held, with False when
    none is any more."""

    def __init__(
        self,
        partition: int,
        waiting: SchemaWait,
        apply: Callable[[Sequence[Any]], Awaitable[None]],
        told: Callable[[bool], None],
    ) -> None:
        self._partition, self._waiting, self._apply, self._told = partition, waiting, apply, told
        self._batches: deque[Sequence[Any]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        return self._task is not None

    def add(self, records: Sequence[Any]) -> None:
        """Holds a batch; it is applied after those before it."""
        self._batches.append(records)
        self._told(True)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._release())

    async def _release(self) -> None:
        while self._batches:
            await self._waiting.over(self._partition, self._batches[0])
            await self._apply(self._batches.popleft())
        self._task = None
        self._told(False)

    def drop(self) -> None:
        """Forgets what is held: whoever owns the partition next reads it again."""
        self._batches.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._told(False)


def _name(frame: bytes) -> str:
    return (
        f"id {int.from_bytes(frame[1:], 'big')}" if frame[:1] == b"\0" else f"fingerprint {frame[2:].hex()}"
    )
