"""Reports a sink's requests and batches to listeners; counts and state are in its `Status`.

Listeners are called once per request and once per batch, never per record, in the send loop's thread. Their
exceptions are logged and have no other effect.
"""

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
"""Names of the outcomes of a request, from the classes in `connectors.sdk.outcomes`.

A request may also be `mixed`, or `failed` if `send` raised.
"""


class Request(msgspec.Struct, frozen=True):
    """One call of `send`."""

    records: int
    bytes: int
    """Size of its payloads, before compression."""
    seconds: float
    outcome: str


class Delivery(msgspec.Struct, frozen=True):
    """One batch, from its first request until every record had its final outcome."""

    partition: int
    offset: int
    """Offset of its first record."""
    records: int
    bytes: int
    """Size of its payloads, before compression."""
    seconds: float
    attempts: int
    """Most attempts that one of its records took."""
    rejected: int
    """Records that become dead letters."""


def _bytes(batch: Batch) -> int:
    return sum(item.payload.size for item in batch.items)


def outcome_of(outcomes: Outcomes) -> str:
    """The name of a request's outcome."""
    if not isinstance(outcomes, Sequence):
        name = type(outcomes).__name__.lower()
        return name if name in OUTCOMES else "failed"
    names = {outcome_of(o) for o in outcomes}
    return names.pop() if len(names) == 1 else "mixed"


class Observer:
    """Calls the listeners of one sink."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.in_flight = 0
        """Batches being delivered now, including those that wait to be sent again."""
        self.on_request: Callable[[Request], None] = lambda request: None
        self.on_delivery: Callable[[Delivery], None] = lambda delivery: None
        self._clock = clock

    def timed(self, sink: Sink) -> Sink:
        """Returns `sink` with each of its requests reported to `on_request`."""
        return _Timed(sink, self)

    async def delivering(
        self, batch: Batch, deliver: Callable[[Batch], Awaitable[list[RecordResult]]]
    ) -> list[RecordResult]:
        """Awaits `deliver(batch)` and reports it to `on_delivery`, unless it raises."""
        self.in_flight += 1
        began = self._clock()
        try:
            results = await deliver(batch)
        finally:
            self.in_flight -= 1
        first = batch.items[0].source
        rejected = sum(isinstance(r.verdict, Rejected) for r in results)
        attempts = max((r.attempts for r in results), default=0)
        seconds = self._clock() - began
        self._report(
            self.on_delivery,
            Delivery(first.partition, first.offset, len(batch), _bytes(batch), seconds, attempts, rejected),
        )
        return results

    async def send(self, sink: Sink, batch: Batch, http: Http) -> Outcomes:
        """Awaits `sink.send` and reports it to `on_request`, also if it raises."""
        began, outcome = self._clock(), "failed"
        try:
            outcomes = await sink.send(batch, http)
            outcome = outcome_of(outcomes)
        finally:
            self._report(self.on_request, Request(len(batch), _bytes(batch), self._clock() - began, outcome))
        return outcomes

    def _report(self, listener: Callable[[Any], None], measured: Any) -> None:
        try:
            listener(measured)
        except Exception:
            log.exception("the telemetry listener failed for a %s", type(measured).__name__)


class _Timed:
    """A sink whose `send` is reported; everything else is the sink's own."""

    def __init__(self, sink: Sink, observer: Observer) -> None:
        self._sink, self._observer = sink, observer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        return await self._observer.send(self._sink, batch, http)
