"""Decides when requests may be sent to a sink; one gate for all its partitions.

While the gate is open, all tasks send. While it is closed, one task at a time sends a probe, with backoff,
until an answer opens the gate. It closes for one of three reasons:

- The sink reported that the vendor takes nothing (`Paused`).
- There was no usable answer several times in a row (circuit breaker).
- The vendor refused so many records that the fault must be elsewhere (dead-letter limits).

Independently of that, a busy vendor (429) may name a time before which nothing is sent at all.
"""

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
"""Waits between probes of a paused sink."""
CIRCUIT: Final = Backoff(base=1.0, cap=30.0)
"""Waits between probes while the circuit is open."""
FAILURES: Final = 10
"""Failures in a row, over all partitions, that open the circuit."""
TEXT: Final = 800
"""Most characters of a reason."""


class CloseReason(enum.Enum):
    """Why only probes are sent."""

    PAUSED = enum.auto()
    """The sink returned `Paused`. Any other answer opens the gate, except `Retry`."""
    CIRCUIT = enum.auto()
    """The vendor does not answer, or answers with 5xx. Any other answer opens the gate."""
    LIMIT = enum.auto()
    """The vendor rejects too many records. Probes are single records; a delivered one opens the gate."""


class Turn(NamedTuple):
    """Permission to send one request."""

    probe: bool
    single: bool
    """Whether the request may have one record only."""


class Activity(msgspec.Struct):
    """What the send loop has done and is doing. Only its thread writes it; any thread may read it."""

    requests: int = 0
    """Calls of `send`."""
    retries: int = 0
    """Calls of `send` that ended with `Retry`."""
    retrying: int = 0
    """Batches that wait to be sent again now."""
    sending: int = 0
    """Calls of `send` in flight."""
    paused: str = ""
    """Why the gate is closed; empty if it is open."""


def failed(outcome: object) -> bool:
    """Whether the circuit breaker counts the outcome as a failure: no usable answer, or a 5xx."""
    return isinstance(outcome, Retry) and not outcome.busy


def held(outcomes: Sequence[object]) -> float | None:
    """Longest time in seconds for which a busy vendor wants no requests; None if it named no time."""
    waits = (o.after for o in outcomes if isinstance(o, Retry) and o.busy and o.after is not None)
    return max(waits, default=None)


class Gate:
    """The gate of one sink. Only the send loop's thread uses it."""

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
        """
        Args:
            name: The sink's name, for messages.
            activity: Where the reason of a pause is kept.
            sleep: Waits some seconds.
            random: Returns a number in [0, 1), for jitter.
            clock: Monotonic seconds.
            failures: Failures in a row that open the circuit; 0: it never opens.
            probes: Waits between probes of a paused sink.
            circuit: Waits between probes while the circuit is open.
        """
        self._name, self._activity = name, activity
        self._sleep, self._random, self._clock = sleep, random, clock
        self._failures = failures
        self._backoffs = {CloseReason.PAUSED: probes, CloseReason.CIRCUIT: circuit, CloseReason.LIMIT: probes}
        self._closed_reason: CloseReason | None = None
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()
        self._probes = 0  # failed probes since the gate closed, and the request that closed it
        self._failed = 0  # failures in a row
        self._after: float | None = None  # the wait that the last failure asked for, in seconds
        self._until = 0.0  # no request before this time, by the clock

    @property
    def closed_reason(self) -> CloseReason | None:
        """Why the gate is closed; None if it is open."""
        return self._closed_reason

    @asynccontextmanager
    async def turn(self, pace: Callable[[bool], Awaitable[None]]) -> AsyncIterator[Turn]:
        """Waits until one request may be sent. While the gate is closed, only one task at a time gets a turn.

        Args:
            pace: Awaited before the turn is given, for the rate limit. Its argument is whether the turn is
                for a single record.
        """
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
        """Waits until the next probe is due or the gate opens."""
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
        """Opens or closes the gate by the outcomes of one `send`."""
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
        """Closes the gate because a rejected record must not become a dead letter now.

        Args:
            limit: The limit that it would exceed, as from `DeadLetterLimiter.reject`.
            rejected: Why the record was rejected.
            probe: Whether it was sent as a probe.
        """
        cause = " ".join(filter(None, (rejected.reason, rejected.detail, rejected.response)))
        setting = limit[limit.find("(") + 1 : limit.find(")")]
        reason = f"dead-letter limit: {limit}, the last: {cause}; see {setting} in [sinks.{self._name}]"
        self._close(CloseReason.LIMIT, reason, probe=probe)

    def _close(self, why: CloseReason, reason: str, *, probe: bool) -> None:
        """Closes the gate. The wait grows with the first refusal and with those of probes only.

        Answers to other requests that were in flight do not lengthen it.
        """
        reason = redact.clean(reason, TEXT)
        if why is not CloseReason.CIRCUIT:
            self._after = None
        if self._closed_reason is not why:
            self._probes = 0
        if self._closed_reason is not why or self._activity.paused != reason:
            log.error(
                "%s is paused: %s. Nothing is lost; it sends probes until one works", self._name, reason
            )
        if probe or not self._probes:
            self._probes += 1
        self._closed_reason, self._activity.paused = why, reason

    def open(self) -> None:
        """Lets all tasks send again."""
        if self._closed_reason is not None:
            log.warning("%s works again after %d probes", self._name, self._probes)
        self._closed_reason, self._after = None, None
        self._probes = self._failed = 0
        self._activity.paused = ""
        self._woken.set()
