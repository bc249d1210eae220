"""Delivery reports, counts, and the ids of events that are in flight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tailrace import greenlets
from tailrace.errors import PublisherClosed
from tailrace.records import ChangeKind, ContentChange


class DeliveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one event.

    If `error` is None and `spooled` is false, the event is in Kafka: the broker has acknowledged it with
    acks=all.
    """

    event_id: str
    error: str | None = None
    """Why the event was not delivered; None if it was."""
    spooled: bool = False
    """Whether it is not in Kafka but on this host's disk, synced, in `publisher.spool_dir`.

    It is sent when Kafka is back. There is no further report.
    """
    partition: int = -1
    offset: int = -1
    appended_at: int = -1
    """The broker's append time, in milliseconds UTC."""

    @property
    def ok(self) -> bool:
        """Whether the event survives this process: in Kafka, or on disk (`spooled`)."""
        return self.error is None


class FlushReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `flush` or `close` left undelivered. True if every event has its delivery report."""

    undelivered: tuple[str, ...] = ()
    """Ids of events without a report yet.

    After `flush` they are still being tried, until their delivery timeout.
    """

    def __bool__(self) -> bool:
        return not self.undelivered


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Event counts of one publisher since its creation (in a forked child: since the fork)."""

    accepted: int
    """Taken into the queue."""
    delivered: int
    """Acknowledged by the broker."""
    spooled: int
    """On disk, because Kafka could not be reached. Those that are sent later are not in `delivered`."""
    failed: int
    """Not delivered within the delivery timeout, or refused by the broker."""
    dropped: int
    """Not accepted: the queue was full and `when_full` is `drop`."""
    in_flight: int
    """Accepted, without a delivery report yet."""
    converted: int = 0
    """Published with values that became text, because JSON has no form for them."""
    cut: int = 0
    """Published with values that were cut, because the event was too large."""
    stored: int = 0
    """Published with content in the content store."""
    not_stored: int = 0
    """Published with their content cut, because the content store did not take it in time."""


OnDelivery = Callable[[DeliveryReport], None]


class InFlight:
    """Events between `publish` and their delivery report, and the counts.

    Safe in threads and greenlets: its lock is the operating system's, and no section waits.
    """

    def __init__(self) -> None:
        self._lock = greenlets.real_lock()
        self._ids: dict[int, str] = {}
        self._next = self._delivered = self._spooled = self._failed = self._dropped = 0
        self._converted = self._cut = self._stored = self._not_stored = 0
        self._closed = False

    def close(self) -> bool:
        """Rejects further events. After this `ids` can only shrink.

        Returns:
            False if it was closed before.
        """
        with self._lock:
            first, self._closed = not self._closed, True
            return first

    def add(self, event_id: str) -> int:
        """Registers an event and returns its number, for `forget` and `settle`.

        Raises:
            PublisherClosed: `close` was called before.
        """
        with self._lock:
            if self._closed:
                raise PublisherClosed("this publisher is closed")
            self._next += 1
            self._ids[self._next] = event_id
            return self._next

    def forget(self, number: int) -> None:
        """Removes an event that librdkafka's queue did not accept."""
        with self._lock:
            self._ids.pop(number, None)

    def settle(self, number: int, ok: bool, spooled: bool = False) -> None:
        """Counts an event's delivery report. A second report for the same event is ignored."""
        with self._lock:
            if self._ids.pop(number, None) is None:
                return
            if spooled:
                self._spooled += 1
            elif ok:
                self._delivered += 1
            else:
                self._failed += 1

    def drop(self) -> None:
        """Counts an event that was dropped because the queue was full."""
        with self._lock:
            self._dropped += 1

    def changed(self, changes: Sequence[ContentChange]) -> None:
        """Counts an event by what was changed in it."""
        kinds = {c.change for c in changes}
        with self._lock:
            self._converted += ChangeKind.CONVERTED in kinds
            self._cut += ChangeKind.CUT in kinds

    def stored(self) -> None:
        """Counts an event whose content is in the content store."""
        with self._lock:
            self._stored += 1

    def not_stored(self) -> None:
        """Counts an event whose content was cut, because the content store did not take it."""
        with self._lock:
            self._not_stored += 1

    def more_than(self, count: int) -> bool:
        """Whether more events are in flight."""
        return len(self._ids) > count

    def any(self) -> bool:
        return bool(self._ids)

    def delivered(self) -> int:
        """How many events the broker has acknowledged."""
        return self._delivered

    def last(self) -> int:
        """The number of the event that was added last."""
        return self._next

    def settled(self, last: int) -> bool:
        """Whether no event up to a number is in flight."""
        with self._lock:  # numbers grow, and a dict keeps their order
            return next(iter(self._ids), last + 1) > last

    def ids(self, last: int | None = None) -> tuple[str, ...]:
        """The ids of the events in flight up to a number; None: of all."""
        with self._lock:
            if last is None:
                return tuple(self._ids.values())
            return tuple(event_id for number, event_id in self._ids.items() if number <= last)

    def counts(self) -> Counts:
        with self._lock:
            return Counts(
                accepted=self._delivered + self._spooled + self._failed + len(self._ids),
                delivered=self._delivered,
                spooled=self._spooled,
                failed=self._failed,
                dropped=self._dropped,
                in_flight=len(self._ids),
                converted=self._converted,
                cut=self._cut,
                stored=self._stored,
                not_stored=self._not_stored,
            )
