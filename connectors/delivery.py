"""One batch to one sink until every record's fate is known: again, in halves, or waiting until the sink takes anything.

The rules are `connectors.policy`'s and the sink's; sleep and random are passed in. Runs on the send loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from connectors import redact
from connectors.contract import Batch, Item, Sink, SinkStopped
from connectors.http import Http, NoAnswer
from connectors.outcomes import Delivered, Filtered, Outcomes, Paused, Rejected, Retry, Split, Verdict
from connectors.policy import Backoff

log: Final = logging.getLogger("tailrace.connect")

Sleep = Callable[[float], Awaitable[None]]
Random = Callable[[], float]


BACKOFF: Final = Backoff()
PROBES: Final = Backoff(base=1.0, cap=60.0)


class Settled(msgspec.Struct, frozen=True):
    """A record's final outcome."""

    verdict: Verdict
    attempts: int
    """Sends it took part in."""
    unidentified: bool = False
    """Counted among those that the sink rejected without saying which. Which of a batch's records carry it means nothing."""


class Activity(msgspec.Struct):
    """What the send loop has done and is doing; written by its thread alone."""

    requests: int = 0
    """Calls of send."""
    retries: int = 0
    """Those that ended with Retry."""
    retrying: int = 0
    """Batches that wait for another try now."""
    paused: str = ""
    """Why the sink is paused; empty: it isn't."""


class Gate:
    """Closed while the sink takes nothing: one task at a time probes, with backoff; its first success opens it for all."""

    def __init__(self, name: str, activity: Activity, backoff: Backoff, sleep: Sleep, random: Random) -> None:
        self._name, self._activity, self._backoff, self._sleep, self._random = name, activity, backoff, sleep, random
        self._lock = asyncio.Lock()
        self._probes = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """The right to send once, at once while the gate is open; whether it is a probe."""
        while self._probes:
            async with self._lock:
                if self._probes:
                    await self._sleep(self._backoff.delay(self._probes, None, self._random))
                    yield True
                    return
        yield False

    def close(self, paused: Paused, *, probe: bool) -> None:
        """The sink has refused. Only the first refusal and those of probes lengthen the wait, not what else was under way."""
        if not self._probes or self._activity.paused != paused.reason:
            fix = f"; see {paused.fix} in [sinks.{self._name}]" if paused.fix else ""
            log.error("%s is paused: %s%s. Nothing is lost; it probes until it works", self._name, paused.reason, fix)
        self._activity.paused = paused.reason
        if probe or not self._probes:
            self._probes += 1

    def open(self) -> None:
        if self._probes:
            log.warning("%s works again after %d probes", self._name, self._probes)
        self._probes = 0
        self._activity.paused = ""


class Courier:
    """Delivers batches to one sink. Batches of different partitions may be under way at once, those of one must not."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        http: Http,
        *,
        sleep: Sleep,
        random: Random,
        max_attempts: int = 0,
        backoff: Backoff = BACKOFF,
        probes: Backoff = PROBES,
    ) -> None:
        """max_attempts: tries of a piece that the sink asks to retry; 0: without end. probes: waits while paused."""
        self.activity = Activity()
        self._name, self._sink, self._http = name, sink, http
        self._sleep, self._random, self._max_attempts, self._backoff = sleep, random, max_attempts, backoff
        self._gate = Gate(name, self.activity, probes, sleep, random)

    async def deliver(self, batch: Batch) -> list[Settled]:
        """One `Settled` a record, in order. Returns only when all are final. Raises `SinkStopped`, and TypeError for a
        sink that answers with the wrong number of outcomes; cancelling leaves the fate of what was sent unknown."""
        run = _Run(batch.items)
        while run.todo:
            indices, tries = run.todo.pop()
            for i in indices:
                run.attempts[i] += 1
            outcomes = await self._send(Batch(tuple(batch.items[i] for i in indices)))
            if not isinstance(outcomes, Sequence):
                await self._whole(run, indices, tries, outcomes)
            elif len(outcomes) == len(indices):
                await self._each(run, indices, tries, outcomes)
            else:
                raise TypeError(f"sink {self._name} answered {len(outcomes)} outcomes for {len(indices)} records")
        return run.settled()

    async def _send(self, batch: Batch) -> Outcomes:
        async with self._gate.turn() as probe:
            self.activity.requests += 1
            outcomes: Outcomes
            try:
                outcomes = await self._sink.send(batch, self._http)
            except SinkStopped:
                raise
            except NoAnswer as e:
                outcomes = Retry(reason=str(e))
            except OSError as e:
                outcomes = Retry(reason=f"{type(e).__name__}: {e.strerror or ''}")
            except Exception as e:
                log.debug("%s: send raised", self._name, exc_info=True)
                outcomes = Rejected("send_failed", redact.where(e))
            paused = outcomes if isinstance(outcomes, Paused) else None
            if isinstance(outcomes, Sequence):
                paused = next((o for o in outcomes if isinstance(o, Paused)), None)
            if paused is not None:
                self._gate.close(paused, probe=probe)
            elif not isinstance(outcomes, Retry):
                self._gate.open()
            return outcomes

    async def _whole(self, run: _Run, indices: list[int], tries: int, outcome: object) -> None:
        match outcome:
            case Delivered(unidentified=n, detail=detail):
                if n > 0:
                    self._warn_partial(run, indices, n, detail)
                for k, i in enumerate(indices):
                    run.fates[i] = Settled(outcome, run.attempts[i], k < n)
            case Filtered():
                run.settle(indices, outcome)
            case Rejected() if len(indices) == 1:
                run.settle(indices, outcome)
            case Split(status=status) if len(indices) == 1:
                run.settle(
                    indices, Rejected("too_large", "the sink does not take this record even alone", status=status)
                )
            case Rejected() | Split():
                run.halve(indices)
            case Retry():
                await self._again(run, indices, tries + 1, outcome)
            case Paused():
                run.todo.append((indices, tries))
            case _:
                raise TypeError(f"sink {self._name} answered {type(outcome).__name__}, which is no outcome")

    async def _each(self, run: _Run, indices: list[int], tries: int, outcomes: Sequence[object]) -> None:
        again: list[int] = []
        halve: list[int] = []
        asked: list[Retry] = []
        for i, outcome in zip(indices, outcomes, strict=True):
            match outcome:
                case Retry():
                    again.append(i)
                    asked.append(outcome)
                case Paused():
                    again.append(i)
                case Split():
                    halve.append(i)
                case _:
                    await self._whole(run, [i], tries, outcome)
        if len(halve) == 1:
            await self._whole(run, halve, tries, Split())
        elif halve:
            run.halve(halve)
        if asked:
            longest = max((r.after for r in asked if r.after is not None), default=None)
            await self._again(run, again, tries + 1, Retry(longest, asked[0].reason))
        elif again:
            run.todo.append((again, tries))

    async def _again(self, run: _Run, indices: list[int], tries: int, outcome: Retry) -> None:
        self.activity.retries += 1
        if self._max_attempts and tries >= self._max_attempts:
            run.settle(indices, Rejected("gave_up", f"{tries} tries, the last: {redact.clean(outcome.reason)}"))
            return
        delay = self._backoff.delay(tries, outcome.after, self._random)
        if tries & (tries - 1) == 0:  # 1, 2, 4, 8, ...
            first = run.items[indices[0]].source
            log.warning(
                "%s: %d records from %s[%d]@%d again in %.1f s (try %d): %s", self._name, len(indices), first.topic,
                first.partition, first.offset, delay, tries + 1, redact.clean(outcome.reason),
            )  # fmt: skip
        run.todo.append((indices, tries))
        self.activity.retrying += 1
        try:
            await self._sleep(delay)
        finally:
            self.activity.retrying -= 1

    def _warn_partial(self, run: _Run, indices: list[int], n: int, detail: str) -> None:
        first, last = run.items[indices[0]].source, run.items[indices[-1]].source
        log.warning(
            "%s: the sink took %d records (%s[%d] offsets %d to %d) and did not store %d of them, without saying which: %s",
            self._name, len(indices), first.topic, first.partition, first.offset, last.offset, n, redact.clean(detail),
        )  # fmt: skip


class _Run:
    """One batch under way: fates by index, and the pieces still to send, the next one last."""

    def __init__(self, items: tuple[Item, ...]) -> None:
        self.items = items
        self.fates: list[Settled | None] = [None] * len(items)
        self.attempts = [0] * len(items)
        self.todo: list[tuple[list[int], int]] = [(list(range(len(items))), 0)]

    def settle(self, indices: list[int], verdict: Verdict) -> None:
        for i in indices:
            self.fates[i] = Settled(verdict, self.attempts[i])

    def halve(self, indices: list[int]) -> None:
        middle = len(indices) // 2
        self.todo += [(indices[middle:], 0), (indices[:middle], 0)]

    def settled(self) -> list[Settled]:
        return [fate for fate in self.fates if fate is not None]
