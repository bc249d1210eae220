"""Sends a batch until every record has a final outcome: retries it, halves it, waits while the sink is
paused.

The rules are in `connectors.sdk.policy`, `connectors.delivery.gate`,
`connectors.delivery.dead_letter_limits` and the sink. Sleep, clock and random are passed in. Runs on the
send loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from connectors.delivery.dead_letter_limits import LIMITS, DeadLetterLimiter
from connectors.delivery.gate import (
    CIRCUIT,
    FAILURES,
    PROBES,
    Activity,
    CloseReason,
    Gate,
    Random,
    Sleep,
    Turn,
)
from connectors.delivery.rate_limits import RateLimitedHttp, RateLimiter
from connectors.delivery.sub_batches import BatchDelivery, RecordResult
from connectors.sdk import redact
from connectors.sdk.contract import NO_RATES, Batch, Rates, Sink, SinkStopped
from connectors.sdk.http import Http, NoAnswer
from connectors.sdk.outcomes import Delivered, Filtered, Outcomes, Paused, Rejected, Retry, Split
from connectors.sdk.policy import Backoff

log: Final = logging.getLogger("tailrace.connect")

BACKOFF: Final = Backoff()


class BatchSender:
    """Delivers batches to one sink.

    Batches of different partitions may be in flight at once. Of one partition only one batch may be in
    flight.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        http: Http,
        *,
        sleep: Sleep,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
        max_attempts: int = 0,
        activity: Activity | None = None,
        dead_letter_limiter: DeadLetterLimiter | None = None,
        rates: Rates = NO_RATES,
        failures: int = FAILURES,
        secrets: Sequence[str] = (),
        backoff: Backoff = BACKOFF,
        probes: Backoff = PROBES,
        circuit: Backoff = CIRCUIT,
    ) -> None:
        """
        Args:
            name: The sink's name, for messages.
            sink: The sink.
            http: The HTTP client for the sink's requests.
            sleep: Waits some seconds.
            random: Returns a number in [0, 1), for jitter.
            clock: Monotonic seconds.
            max_attempts: Attempts of a sub-batch that the sink asks to retry, before its records are
                rejected; 0: no limit.
            activity: Counts what the sender does; default: a new object.
            dead_letter_limiter: Default: one with the default limits.
            rates: The vendor's rate limits.
            failures: Failures in a row that open the circuit; 0: it never opens.
            secrets: Masked in all texts of outcomes and exceptions.
            backoff: Waits between attempts of a sub-batch.
            probes: Waits between probes while the sink is paused.
            circuit: Waits between probes while the circuit is open.
        """
        self.activity = activity or Activity()
        self.dead_letter_limiter = dead_letter_limiter or DeadLetterLimiter(LIMITS)
        self.rate_limiter = RateLimiter(rates, sleep, clock)
        self._name, self._secrets = name, secrets
        self._sleep, self._random, self._max_attempts, self._backoff = sleep, random, max_attempts, backoff
        self._gate = Gate(
            name,
            self.activity,
            sleep=sleep,
            random=random,
            clock=clock,
            failures=failures,
            probes=probes,
            circuit=circuit,
        )
        self._sink, self._http = sink, RateLimitedHttp(http, self.rate_limiter)

    async def dead_letter_limit_reached(self, limit: str, rejected: Rejected) -> None:
        """Pauses the sink because a record that cannot be mapped must not become a dead letter now.

        Args:
            limit: The dead-letter limit that it would exceed.
            rejected: Why the record cannot be mapped.
        """
        self._gate.dead_letter_limit_reached(limit, rejected, probe=False)

    async def deliver(self, batch: Batch) -> list[RecordResult]:
        """Delivers one batch. Returns only when each record has its final outcome.

        After a cancellation it is not known which records the vendor has accepted. Its rejections do not
        count then: none of them becomes a dead letter.

        Returns:
            One result per record, in the batch's order.

        Raises:
            SinkStopped: The sink cannot continue.
            TypeError: The sink returned something that is not an outcome, or the wrong number of outcomes.
        """
        delivery = BatchDelivery(batch.items)
        try:
            await self._deliver(delivery)
        except asyncio.CancelledError:
            self.dead_letter_limiter.take_back(delivery.rejected)
            raise
        return delivery.settled()

    async def _deliver(self, delivery: BatchDelivery) -> None:
        while delivery.todo:
            sub_batch = delivery.next(self.rate_limiter.most_events)
            async with self._gate.turn(sub_batch.wait_for_rate(self.rate_limiter)) as turn:
                if turn.single:
                    sub_batch = delivery.only_first(sub_batch)
                outcomes = await self._send(delivery, sub_batch.indices, turn)
            if not isinstance(outcomes, Sequence):
                await self._apply_batch_outcome(delivery, sub_batch.indices, sub_batch.tries, outcomes, turn)
            elif len(outcomes) == len(sub_batch.indices):
                await self._apply_record_outcomes(
                    delivery, sub_batch.indices, sub_batch.tries, outcomes, turn
                )
            else:
                raise TypeError(
                    f"sink {self._name}: send returned {len(outcomes)} outcomes for "
                    f"{len(sub_batch.indices)} records; return one outcome, or one per record"
                )

    async def _send(self, delivery: BatchDelivery, indices: list[int], turn: Turn) -> Outcomes:
        delivery.tried(indices)
        self.activity.requests += 1
        self.activity.sending += 1
        outcomes: Outcomes
        try:
            outcomes = await self._sink.send(delivery.batch(indices), self._http)
        except SinkStopped as e:
            raise SinkStopped(redact.masked(str(e), self._secrets)) from None
        except NoAnswer as e:
            outcomes = Retry(reason=str(e))
        except OSError as e:
            outcomes = Retry(reason=f"{type(e).__name__}: {e.strerror or ''}")
        except Exception as e:
            log.debug("%s: send raised\n%s", self._name, redact.stack(e, self._secrets))
            outcomes = Rejected("send_failed", redact.where(e))
        finally:
            self.activity.sending -= 1
        if isinstance(outcomes, Sequence):
            outcomes = [redact.hidden(o, self._secrets) for o in outcomes]
        else:
            outcomes = redact.hidden(outcomes, self._secrets)
        self._gate.on_outcomes(outcomes, turn)
        return outcomes

    def _reject(
        self, delivery: BatchDelivery, indices: list[int], rejected: Rejected, turn: Turn
    ) -> list[int]:
        """Rejects records as far as the dead-letter limits allow. For the others the sink pauses.

        Returns:
            The indices that were not rejected.
        """
        for at, i in enumerate(indices):
            limit = self.dead_letter_limiter.reject()
            if limit:
                self._gate.dead_letter_limit_reached(limit, rejected, probe=turn.probe)
                return indices[at:]
            delivery.settle([i], rejected)
        return []

    async def _apply_batch_outcome(
        self, delivery: BatchDelivery, indices: list[int], tries: int, outcome: object, turn: Turn
    ) -> None:
        match outcome:
            case Delivered(unidentified=n, detail=detail):
                if n > 0:
                    self._warn_partial(delivery, indices, n, detail)
                self.dead_letter_limiter.delivered(len(indices))
                delivery.settle(indices, outcome, n)
            case Filtered():
                self.dead_letter_limiter.delivered(len(indices))
                delivery.settle(indices, outcome)
            case Rejected() if len(indices) == 1:
                delivery.again(self._reject(delivery, indices, outcome, turn))
            case Split(status=status) if len(indices) == 1:
                too_large = Rejected(
                    "too_large", "the vendor refuses this record even on its own", status=status
                )
                delivery.again(self._reject(delivery, indices, too_large, turn))
            case Rejected() | Split():
                delivery.halve(indices)
            case Retry():
                await self._again(delivery, indices, tries + 1, outcome, turn)
            case Paused():
                delivery.again(indices, tries)
            case _:
                raise TypeError(
                    f"sink {self._name}: send returned {type(outcome).__name__}, not an outcome such as "
                    "Delivered()"
                )

    async def _apply_record_outcomes(
        self, delivery: BatchDelivery, indices: list[int], tries: int, outcomes: Sequence[object], turn: Turn
    ) -> None:
        again: list[int] = []
        halve: list[int] = []
        retries: list[Retry] = []
        refused: list[int] = []
        for i, outcome in zip(indices, outcomes, strict=True):
            match outcome:
                case Retry():
                    again.append(i)
                    retries.append(outcome)
                case Paused():
                    again.append(i)
                case Split():
                    halve.append(i)
                case Rejected() if refused:
                    refused.append(i)
                case Rejected():
                    refused += self._reject(delivery, [i], outcome, turn)
                case _:
                    await self._apply_batch_outcome(delivery, [i], tries, outcome, turn)
        if len(halve) == 1:
            await self._apply_batch_outcome(delivery, halve, tries, Split(), turn)
        elif halve:
            delivery.halve(halve)
        delivery.again(refused)
        if retries:
            longest = max((r.after for r in retries if r.after is not None), default=None)
            await self._again(delivery, again, tries + 1, Retry(longest, retries[0].reason), turn)
        elif again:
            delivery.again(again, tries)

    async def _again(
        self, delivery: BatchDelivery, indices: list[int], tries: int, outcome: Retry, turn: Turn
    ) -> None:
        self.activity.retries += 1
        if self._max_attempts and tries >= self._max_attempts:
            gave_up = Rejected("gave_up", f"{tries} attempts, the last: {redact.clean(outcome.reason)}")
            delivery.again(self._reject(delivery, indices, gave_up, turn))
            return
        delivery.again(indices, tries)
        if self._gate.closed_reason is CloseReason.CIRCUIT:  # the gate waits
            return
        delay = self._backoff.delay(tries, outcome.after, self._random)
        if tries & (tries - 1) == 0:  # 1, 2, 4, 8, ...
            first = delivery.items[indices[0]].source
            log.warning(
                "%s: %d records from %s[%d]@%d are sent again in %.1f s (attempt %d): %s",
                self._name,
                len(indices),
                first.topic,
                first.partition,
                first.offset,
                delay,
                tries + 1,
                redact.clean(outcome.reason),
            )
        self.activity.retrying += 1
        try:
            await self._sleep(delay)
        finally:
            self.activity.retrying -= 1

    def _warn_partial(self, delivery: BatchDelivery, indices: list[int], n: int, detail: str) -> None:
        first, last = delivery.items[indices[0]].source, delivery.items[indices[-1]].source
        log.warning(
            "%s: the vendor accepted %d records (%s[%d] offsets %d to %d) but did not store %d of them, and "
            "did not say which: %s",
            self._name,
            len(indices),
            first.topic,
            first.partition,
            first.offset,
            last.offset,
            n,
            redact.clean(detail),
        )
