"""What a running sink tells of its requests and batches; its counts and state are in its `Status`.

Nothing is done a record: listeners are called once a request and once a batch, in the send loop's thread, and
what they raise ends nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import Batch, Sink
from connectors.sdk.http import Http
from connectors.sdk.outcomes import Outcomes, Rejected

log: Final = logging.getLogger("tailrace.connect")

OUTCOMES: Final = ("delivered", "filtered", "retry", "rejected", "split", "paused")
"""Names of the classes in `connectors.sdk.outcomes`; a request has one of them, or `mixed`, or `failed` if
`send` raised."""


class Request(msgspec.Struct, frozen=True):
    """One call of `send`."""

    records: int
    bytes: int
    """Of its payloads, before compression."""
    seconds: float
    outcome: str


class Delivery(msgspec.Struct, frozen=True):
    """One batch, from its first request until every record of it had its final outcome."""

    partition: int
    offset: int
    """Of its first record."""
    records: int
    bytes: int
    seconds: float
    attempts: int
    """The most that one of its records took."""
    rejected: int
    """Records that go to the dead letters."""


def _bytes(batch: Batch) -> int:
    return sum(item.payload.size for item in batch.items)


def outcome_of(outcomes: Outcomes) -> str:
    if not isinstance(outcomes, Sequence):
        name = type(outcomes).__name__.lower()
        return name if name in OUTCOMES else "failed"
    names = {outcome_of(o) for o in outcomes}
    return names.pop() if len(names) == 1 else "mixed"


class Observer:
    """Of one sink."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.in_flight = 0
        """Batches being delivered now, retries and waits included."""
        self.on_request: Callable[[Request], None] = lambda request: None
        self.on_delivery: Callable[[Delivery], None] = lambda delivery: None
        self._clock = clock

    def timed(self, sink: Sink) -> Sink:
        """The same sink, each of whose requests is told of."""
        return _Timed(sink, self)

    async def delivering(
        self, batch: Batch, deliver: Callable[[Batch], Awaitable[list[RecordResult]]]
    ) -> list[RecordResult]:
        """`deliver(batch)`, told of when it has ended."""
        self.in_flight += 1
        began = self._clock()
        try:
            settled = await deliver(batch)
        finally:
            self.in_flight -= 1
        first = batch.items[0].source
        rejected = sum(isinstance(s.verdict, Rejected) for s in settled)
        attempts = max((s.attempts for s in settled), default=0)
        seconds = self._clock() - began
        told = Delivery(first.partition, first.offset, len(batch), _bytes(batch), seconds, attempts, rejected)
        self._tell(self.on_delivery, told)
        return settled

    async def send(self, sink: Sink, batch: Batch, http: Http) -> Outcomes:
        began, outcome = self._clock(), "failed"
        try:
            outcomes = await sink.send(batch, http)
            outcome = outcome_of(outcomes)
        finally:
            self._tell(self.on_request, Request(len(batch), _bytes(batch), self._clock() - began, outcome))
        return outcomes

    def _tell(self, listener: Callable[[Any], None], what: Any) -> None:
        try:
            listener(what)
        except Exception:
            log.exception("telemetry of %s", type(what).__name__)


class _Timed:
    """A sink with another `send`; all else is the sink's own."""

    def __init__(self, sink: Sink, observer: Observer) -> None:
        self._sink, self._observer = sink, observer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        return await self._observer.send(self._sink, batch, http)
