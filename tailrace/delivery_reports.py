"""What became of published events: reports, counts, and the ids that are still under way."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from tailrace.errors import PublisherClosed


class DeliveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """The fate of one event. Without `error` it is durable: the broker has acknowledged it with acks=all."""

    event_id: str
    error: str | None = None
    """Why it was given up; None: delivered."""
    partition: int = -1
    offset: int = -1
    appended_at: int = -1
    """The broker's append time, milliseconds UTC."""

    @property
    def ok(self) -> bool:
        return self.error is None


class FlushReport(msgspec.Struct, frozen=True, kw_only=True):
    """What flush() left behind. True if everything is settled."""

    undelivered: tuple[str, ...] = ()
    """Ids of events whose fate is not known yet. They are still being tried, until their delivery
    time-out."""

    def __bool__(self) -> bool:
        return not self.undelivered


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one publisher since it was made (in a forked child: since the fork)."""

    accepted: int
    """Taken into the queue."""
    delivered: int
    """Acknowledged by the broker."""
    failed: int
    """Given up after the delivery time-out, or refused by the broker."""
    dropped: int
    """Not taken: the queue was full and when_full is `drop`."""
    in_flight: int
    """Taken, not settled yet."""


OnDelivery = Callable[[DeliveryReport], None]


class InFlight:
    """Events between publish() and their report, and the counts. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[int, str] = {}
        self._next = self._delivered = self._failed = self._dropped = 0
        self._closed = False

    def close(self) -> None:
        """From now on nothing is added: what `ids` says then can only become less."""
        with self._lock:
            self._closed = True

    def add(self, event_id: str) -> int:
        """Raises `PublisherClosed` after `close`."""
        with self._lock:
            if self._closed:
                raise PublisherClosed("this publisher is closed")
            self._next += 1
            self._ids[self._next] = event_id
            return self._next

    def forget(self, ticket: int) -> None:
        """The event was not taken after all."""
        with self._lock:
            self._ids.pop(ticket, None)

    def settle(self, ticket: int, ok: bool) -> None:
        with self._lock:
            if self._ids.pop(ticket, None) is None:
                return
            if ok:
                self._delivered += 1
            else:
                self._failed += 1

    def drop(self) -> None:
        with self._lock:
            self._dropped += 1

    def __bool__(self) -> bool:
        return bool(self._ids)

    def ids(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._ids.values())

    def counts(self) -> Counts:
        with self._lock:
            return Counts(
                accepted=self._delivered + self._failed + len(self._ids),
                delivered=self._delivered,
                failed=self._failed,
                dropped=self._dropped,
                in_flight=len(self._ids),
            )
