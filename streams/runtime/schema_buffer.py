"""Holds the batches of a partition that wait for a schema, and those behind them, in order.

Other partitions continue.
"""

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
    """The waits for schemas of all partitions of a worker."""

    def __init__(
        self,
        source: Schemas,
        knows: Callable[[bytes], bool],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            source: Fetches unknown schemas.
            knows: Whether the schema of a frame is known.
            seconds: The setting schemas.wait_seconds.
            clock: Monotonic seconds.
            sleep: Waits some seconds.
        """
        self._policy = SchemaWaitPolicy(source, knows, seconds)
        self._clock, self._sleep = clock, sleep

    def first(self, records: Sequence[Any]) -> int:
        """As `SchemaWaitPolicy.first`."""
        return self._policy.first(records, self._clock())

    async def over(self, partition: int, records: Sequence[Any]) -> None:
        """Returns when none of the records has to wait any more: its schema is known, or its time is over."""
        frames = waited_for = self._policy.frames(records, self._clock())
        if frames:
            names = ", ".join(sorted(map(name_of, frames))[:5])
            log.warning("partition %d waits for the schemas of %d frames: %s", partition, len(frames), names)
        while frames:
            await self._sleep(LOOK_SECONDS)
            now = self._clock()
            frames = {f for f in frames if self._policy.waits(f, now)}
        if waited_for:
            log.info("partition %d continues", partition)


class BlockedBatches:
    """The held batches of one partition. Only the event loop's thread uses it."""

    def __init__(
        self,
        partition: int,
        waiting: SchemaWait,
        apply: Callable[[Sequence[Any]], Awaitable[None]],
        on_change: Callable[[bool], None],
    ) -> None:
        """
        Args:
            partition: The partition's number.
            waiting: Decides how long records wait.
            apply: Applies a batch.
            on_change: Called with True when a batch is held, with False when none is held any more.
        """
        self._partition, self._waiting, self._apply, self._on_change = partition, waiting, apply, on_change
        self._batches: deque[Sequence[Any]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        """Whether a batch is held."""
        return self._task is not None

    def add(self, records: Sequence[Any]) -> None:
        """Holds a batch. It is applied after those before it."""
        self._batches.append(records)
        self._on_change(True)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._release())

    async def _release(self) -> None:
        while self._batches:
            await self._waiting.over(self._partition, self._batches[0])
            await self._apply(self._batches.popleft())
        self._task = None
        self._on_change(False)

    def drop(self) -> None:
        """Drops the held batches. The partition's next owner reads them again."""
        self._batches.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._on_change(False)
