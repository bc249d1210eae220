"""Batches of one partition that wait for a schema, in order; what comes after them waits behind them, other
partitions go on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from tailrace.schema_registry.schema_wait import Schemas, SchemaWaitPolicy, name_of

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
        self._policy = SchemaWaitPolicy(source, knows, seconds)
        self._clock, self._sleep = clock, sleep

    def first(self, records: Sequence[Any]) -> int:
        """As `SchemaWaitPolicy.first`."""
        return self._policy.first(records, self._clock())

    async def over(self, partition: int, records: Sequence[Any]) -> None:
        """Returns once none of the records waits any more: their schemas are known, or given up."""
        frames = asked = self._policy.frames(records, self._clock())
        if frames:
            names = ", ".join(sorted(map(name_of, frames))[:5])
            log.warning("partition %d waits for the schemas of %d frames: %s", partition, len(frames), names)
        while frames:
            await self._sleep(LOOK_SECONDS)
            now = self._clock()
            frames = {f for f in frames if self._policy.waits(f, now)}
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
