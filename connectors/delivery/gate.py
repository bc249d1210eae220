"""Whether a sink may be sent to now: one answer for all its partitions.

Closed, one task at a time probes, with back-off, until it opens for all. It closes for one of three reasons:
the sink takes nothing (`Paused`), it gives no usable answer (the circuit breaker), or it refuses so many
records that there must be another fault than theirs (the dead-letter limits). Held back, nobody sends until a
time that the sink has named."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import msgspec

from connectors.sdk import redact
from connectors.sdk.outcomes import Delivered, Filtered, Outcomes, Paused, Rejected, Retry
from connectors.sdk.policy import MAX_AFTER, Backoff

log: Final = logging.getLogger("tailrace.connect")

Sleep = Callable[[float], Awaitable[None]]
Random = Callable[[], float]

PROBES: Final = Backoff(base=1.0, cap=60.0)
"""Waits between probes of a sink that is paused."""
CIRCUIT: Final = Backoff(base=1.0, cap=30.0)
"""The same of one that does not answer."""
FAILURES: Final = 10
"""Failures in a row, over all partitions, that open the circuit."""
TEXT: Final = 800
"""Characters of a reason."""


class CloseReason(enum.Enum):
    """Why nothing but probes is sent."""

    PAUSED = enum.auto()
    """The sink said so. Any other answer opens."""
    CIRCUIT = enum.auto()
    """It does not answer, or with 5xx. Any answer opens."""
    LIMIT = enum.auto()
    """It rejects too much. A probe that is delivered opens; probes are single records."""


class Turn(NamedTuple):
    """The right to send once."""

    probe: bool
    single: bool
    """To send one record only."""


class Activity(msgspec.Struct):
    """What the send loop has done and is doing; written by its thread alone."""

    requests: int = 0
    """Calls of send."""
    retries: int = 0
    """Those that ended with Retry."""
    retrying: int = 0
    """Batches that wait for another try now."""
    sending: int = 0
    """Calls of send in flight."""
    paused: str = ""
    """Why the gate is closed; empty: it isn't."""


def failed(outcome: object) -> bool:
    """Whether it is no answer, or a 5xx: what the circuit breaker counts."""
    return isinstance(outcome, Retry) and not outcome.busy


def held(outcomes: Sequence[object]) -> float | None:
    """Seconds for which a busy sink asked that nothing be sent; None: it didn't."""
    asked = (o.after for o in outcomes if isinstance(o, Retry) and o.busy and o.after is not None)
    return max(asked, default=None)


class Gate:
    """One sink's. For the send loop's thread."""

    def __init__(
        self,
        name: str,
        activity: Activity,
        *,
        sleep: Sleep,
        random: Random,
        clock: Callable[[], float],
        failures: int = FAILURES,
        probes: Backoff = PROBES,
        circuit: Backoff = CIRCUIT,
    ) -> None:
        """failures: in a row, that open the circuit; 0: never."""
        self._name, self._activity, self._sleep, self._random, self._clock = (
            name,
            activity,
            sleep,
            random,
            clock,
        )
        self._failures = failures
        self._backoffs = {CloseReason.PAUSED: probes, CloseReason.CIRCUIT: circuit, CloseReason.LIMIT: probes}
        self._closed_reason: CloseReason | None = None
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()
        self._probes = 0  # that failed since it closed, and the closing itself
        self._failed = 0  # in a row
        self._after: float | None = None  # what the last failure asked for
        self._until = 0.0  # held back until then

    @property
    def closed_reason(self) -> CloseReason | None:
        """None: it is open."""
        return self._closed_reason

    @asynccontextmanager
    async def turn(self, pace: Callable[[bool], Awaitable[None]]) -> AsyncIterator[Turn]:
        """The right to send once: at once while it is open, else as the only probe. pace: awaited before it
        is given, with whether it is for a single record."""
        while True:
            if self._closed_reason is not None:
                async with self._lock:
                    if self._closed_reason is not None:
                        await self._rest()
                    if self._closed_reason is not None:
                        single = self._closed_reason is CloseReason.LIMIT
                        await pace(single)
                        yield Turn(True, single)
                        return
            elif (wait := self._until - self._clock()) > 0:
                await self._sleep(wait + self._random() * min(1.0, wait))
            else:
                await pace(False)
                if self._closed_reason is None and self._until <= self._clock():
                    yield Turn(False, False)
                    return

    async def _rest(self) -> None:
        """Until the next probe is due, or it opens."""
        assert self._closed_reason is not None
        seconds = self._backoffs[self._closed_reason].delay(self._probes, self._after, self._random)
        seconds = max(seconds, self._until - self._clock())
        self._woken.clear()
        waits = [asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def on_outcomes(self, outcomes: Outcomes, turn: Turn) -> None:
        """What `send` has answered."""
        each: Sequence[object] = outcomes if isinstance(outcomes, Sequence) else (outcomes,)
        wait = held(each)
        if wait is not None:
            self._until = max(self._until, self._clock() + min(wait, MAX_AFTER))
        if each and all(failed(o) for o in each):
            self._failed += 1
            if self._closed_reason is CloseReason.CIRCUIT or (
                self._failures and self._failed >= self._failures
            ):
                last = next(o for o in each if isinstance(o, Retry))
                self._after = None if last.after is None else min(last.after, MAX_AFTER)
                self._close(
                    CloseReason.CIRCUIT, f"circuit open: {last.reason or 'no answer'}", probe=turn.probe
                )
            return
        self._failed = 0
        paused = next((o for o in each if isinstance(o, Paused)), None)
        if paused is not None:
            fix = f"; see {paused.fix} in [sinks.{self._name}]" if paused.fix else ""
            self._close(CloseReason.PAUSED, paused.reason + fix, probe=turn.probe)
        elif (
            self._closed_reason is CloseReason.CIRCUIT
            or (self._closed_reason is CloseReason.PAUSED and not all(isinstance(o, Retry) for o in each))
            or (
                self._closed_reason is CloseReason.LIMIT
                and turn.probe
                and all(isinstance(o, Delivered | Filtered) for o in each)
            )
        ):
            self.open()

    def dead_letter_limit_reached(self, limit: str, rejected: Rejected, *, probe: bool) -> None:
        """A record was rejected that may not become a dead letter. limit: which one it would exceed."""
        words = " ".join(filter(None, (rejected.reason, rejected.detail, rejected.response)))
        setting = limit[limit.find("(") + 1 : limit.find(")")]
        reason = f"dead-letter limit: {limit}, the last: {words}; see {setting} in [sinks.{self._name}]"
        self._close(CloseReason.LIMIT, reason, probe=probe)

    def _close(self, why: CloseReason, reason: str, *, probe: bool) -> None:
        """Only the first refusal and those of probes lengthen the wait, not what else was in flight."""
        reason = redact.clean(reason, TEXT)
        if why is not CloseReason.CIRCUIT:
            self._after = None
        if self._closed_reason is not why:
            self._probes = 0
        if self._closed_reason is not why or self._activity.paused != reason:
            log.error("%s is paused: %s. Nothing is lost; it probes until it works", self._name, reason)
        if probe or not self._probes:
            self._probes += 1
        self._closed_reason, self._activity.paused = why, reason

    def open(self) -> None:
        """Lets all send again."""
        if self._closed_reason is not None:
            log.warning("%s works again after %d probes", self._name, self._probes)
        self._closed_reason, self._after = None, None
        self._probes = self._failed = 0
        self._activity.paused = ""
        self._woken.set()
