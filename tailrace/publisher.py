"""Publishing trace events from an application: validate, encode, produce, report."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec

from tailrace.codec.wire import encoder_of
from tailrace.content import Limits
from tailrace.content_store import claims
from tailrace.content_store.claims import Large
from tailrace.content_store.store import check_store
from tailrace.delivery_reports import Counts, DeliveryReport, FlushReport, InFlight, OnDelivery
from tailrace.delivery_thread import DeliveryThread
from tailrace.errors import ConfigError, PublisherClosed, QueueFull
from tailrace.prepare import prepared
from tailrace.producers import check_properties
from tailrace.records import TraceEvent
from tailrace.settings import Settings, load
from tailrace.spool import folder as spool
from tailrace.topics import ROOM

if TYPE_CHECKING:
    from tailrace.schema_registry.subjects import Framing

log: Final = logging.getLogger("tailrace.publisher")

_publishers: Final[weakref.WeakSet[Publisher]] = weakref.WeakSet()


def _now() -> int:
    return time.time_ns() // 1000


class Publisher:
    """Publishes trace events to Kafka, idempotently and with acks=all.

    Events are keyed so that a trace stays in one partition:

        with Publisher("localhost:9092") as publisher:
            publisher.publish(TraceEvent(kind=Kind.TOOL, started_at=…, ended_at=…, name="search"))

    `publish` returns as soon as the event is in a bounded queue in this process; a background thread
    sends it. An event is durable when its `DeliveryReport` says so, not before: events that are still
    queued are lost if the process dies. A report that says `spooled` means this host's disk, not Kafka.

    **If Kafka is down**, events wait in the queue for `publisher.delivery_timeout_seconds` and are then
    reported as failed; with `publisher.spool_dir` they go to disk after 5 s. If the queue is full,
    `publisher.when_full` decides: block, drop and count, or raise.

    It connects with the first event. Threads and greenlets may share one publisher. After a fork the child
    has a new, empty publisher; the parent still sends what the parent had queued. The order of a trace's
    events is kept, except for events that were not delivered.

    Monkey-patched by gevent or eventlet, a greenlet takes the place of the background thread, in the hub of
    the thread that publishes first, and every wait lets other greenlets run.

    With `content.store`, content that is too large for an event goes to that store, in threads of its own,
    before the event goes to Kafka. An event whose content is being stored is in flight, and later ones with
    the same key wait behind it. If the store does not take it within `content.timeout_seconds`, the event
    is published with its content cut.

    A publisher that nobody refers to any more still sends what it has queued, then frees its thread and
    its connections.

    The broker need not be up when the publisher is created, nor the schema registry if one is
    configured. The topic is never created by a publisher: while it is missing, events wait for it as
    for a broker.

    Args:
        bootstrap_servers: where Kafka is, as ``host:port``, comma separated. Overrides the settings.
        settings: default: those of `tailrace.toml` and `TAILRACE_…` variables.
        redact: called with each event before anything else reads it. Its result is published; if it
            raises, nothing is published and `publish` raises the same exception.
        on_delivery: called with every `DeliveryReport`, in the background thread. It must be quick and
            must not block: no other report comes meanwhile. `flush` and `close` do not wait there, nor
            does `publish` wait for room. Whatever it raises is logged.
        clock: the current time in microseconds UTC.

    Raises:
        ConfigError: a setting is missing or wrong, or `publisher.spool_dir` cannot be used.
    """

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        settings: Settings | None = None,
        redact: Callable[[TraceEvent], TraceEvent] | None = None,
        on_delivery: OnDelivery | None = None,
        clock: Callable[[], int] = _now,
    ) -> None:
        settings = settings or load()
        if bootstrap_servers:
            settings = msgspec.structs.replace(
                settings, kafka=msgspec.structs.replace(settings.kafka, bootstrap_servers=bootstrap_servers)
            )
        self._settings = settings
        self._limits = Limits(
            settings.topics.max_event_bytes - ROOM,
            settings.publisher.oversize == "truncate",
            bool(settings.content.store),
        )
        self._redact, self._on_delivery, self._clock = redact, on_delivery, clock
        self._host = socket.gethostname()
        self._closed = False
        self._framing: Framing | None = None
        if settings.registry.url and settings.registry.write == "confluent":
            from tailrace.schema_registry.subjects import Framing

            self._framing = Framing(settings)
        if settings.publisher.spool_dir:
            wrong = spool.problem(settings.publisher.spool_dir, make=True)
            if wrong is not None:
                raise ConfigError(wrong)
        content = settings.content
        self._policy = claims.Policy(content.threshold_bytes, content.max_bytes) if content.store else None
        check_store(content)
        check_properties(settings)
        encoder_of(TraceEvent.__name__)  # compiles it here, not in an application's first request
        self._deliveries: dict[int, DeliveryThread] = {}
        """By process id: a forked child makes one of its own."""
        _publishers.add(self)

    # -- publishing
    def publish(self, event: TraceEvent, on_delivery: OnDelivery | None = None) -> str:
        """Queues one event and returns its event_id.

        Blocks only if the queue is full and `when_full` is `block`. With `drop`, an event that does not
        fit is counted in `counts.dropped` and gets no report.

        Args:
            event: the event; missing ids and the host name are filled in.
            on_delivery: called with this event's report, before the publisher's own `on_delivery`.

        Raises:
            InvalidEvent: the event's identity, a time or a field of its header is not valid; names the
                field.
            EventTooLarge: the event exceeds topics.max_event_bytes, without what can be stored; names its
                largest field.
            QueueFull: `when_full` is `raise`, or `block` and the queue stayed full for block_seconds.
            PublisherClosed: `close` was called before.
        """
        event, key, value = self._prepare(event)
        event_id = str(event.event_id)
        delivery = self._deliveries.get(os.getpid()) or self._start()
        if event.content_changes:
            delivery.in_flight.changed(event.content_changes)
        if not delivery.offer(event_id, key, value, on_delivery) and self._waits_when_full(
            delivery, key, value
        ):
            seconds = self._settings.publisher.block_seconds
            if not delivery.wait(seconds, lambda: delivery.offer(event_id, key, value, on_delivery)):
                raise self._queue_full(delivery, key, value)
        return event_id

    async def publish_async(self, event: TraceEvent) -> DeliveryReport:
        """Publishes from asyncio without blocking the event loop, and waits for the report.

        To publish without waiting, use `publish` with `when_full` set to `drop` or `raise`.

        Args:
            event: as for `publish`.

        Returns:
            The delivery report, which may hold an error.

        Raises:
            InvalidEvent, EventTooLarge, QueueFull, PublisherClosed: as `publish`.
        """
        event, key, value = self._prepare(event)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[DeliveryReport] = loop.create_future()

        def resolve(report: DeliveryReport) -> None:
            if not done.done():
                done.set_result(report)

        def report_back(report: DeliveryReport) -> None:
            try:
                loop.call_soon_threadsafe(resolve, report)
            except RuntimeError:  # the event loop has closed: nothing waits for the report
                log.debug("event loop closed before the report of %s", report.event_id)

        event_id = str(event.event_id)
        delivery = self._deliveries.get(os.getpid()) or self._start()
        if event.content_changes:
            delivery.in_flight.changed(event.content_changes)
        deadline: float | None = None
        while not delivery.offer(event_id, key, value, report_back):
            if deadline is None:
                if not self._waits_when_full(delivery, key, value):
                    return DeliveryReport(event_id=event_id, error="dropped: the queue is full")
                deadline = loop.time() + self._settings.publisher.block_seconds
            if loop.time() >= deadline:
                raise self._queue_full(delivery, key, value)
            await asyncio.sleep(0.01)
        return await done

    def flush(self, timeout: float) -> FlushReport:
        """Waits until every event that was accepted before this call has its delivery report.

        Args:
            timeout: seconds to wait at most.

        Returns:
            A report that is true if none of these is left, else with the ids of those still in flight.
        """
        delivery = self._deliveries.get(os.getpid())
        return FlushReport() if delivery is None else delivery.flush(timeout)

    def close(self, timeout: float | None = None) -> FlushReport:
        """Stops accepting events, flushes, and stops the background thread.

        Events without a delivery report by then will not be delivered; they are logged and returned. A
        second call waits for the first one and returns its report.

        Args:
            timeout: seconds to wait at most; default: until the delivery timeout has decided every
                event.

        Returns:
            As `flush`.
        """
        self._closed = True
        delivery = self._deliveries.get(os.getpid())
        if delivery is None:
            return FlushReport()
        if timeout is None:
            # librdkafka checks for expired events once a second
            timeout = self._settings.publisher.delivery_timeout_seconds + 2.0
            if self._policy is not None:
                timeout += self._settings.content.timeout_seconds
        return delivery.close(timeout)

    @property
    def counts(self) -> Counts:
        """The event counts so far; in a forked child those of the child."""
        delivery = self._deliveries.get(os.getpid())
        return (InFlight() if delivery is None else delivery.in_flight).counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- internals
    def _start(self) -> DeliveryThread:
        """This process's delivery thread, for its first event.

        Not when the publisher is made: a server may fork afterwards, and locks that librdkafka's threads
        hold at that moment would stay locked in the child.
        """
        for pid, parents in list(self._deliveries.items()):
            if pid != os.getpid():  # forked in C, without Python's hooks, as uWSGI does
                parents.abandon()
        delivery = DeliveryThread(self._settings, self._on_delivery)
        started = self._deliveries.setdefault(delivery.pid, delivery)
        if started is delivery and self._framing is not None:
            self._framing.keep_asking(delivery.ended)
        return started

    def _prepare(self, event: TraceEvent) -> tuple[TraceEvent, bytes | None, bytes | Large]:
        if self._closed:
            raise PublisherClosed("this publisher is closed")
        if self._redact is not None:
            event = self._redact(event)
        now, frame = self._clock(), self._frame()
        if self._policy is None:
            if self._limits.cut:
                return claims.prepared_without_store(event, now, self._limits, frame, self._host)
            return prepared(event, now, self._limits, frame, host_name=self._host)
        found = claims.prepared(event, now, self._limits, self._policy, frame, host_name=self._host)
        return (found.event, found.key, found) if isinstance(found, Large) else found

    def _frame(self) -> bytes | None:
        return None if self._framing is None else self._framing.frame

    def _waits_when_full(self, delivery: DeliveryThread, key: bytes | None, value: bytes | Large) -> bool:
        """Applies `when_full` to a full queue: True to wait, False if the event was dropped.

        Raises:
            QueueFull: the policy is `raise`.
        """
        policy = self._settings.publisher.when_full
        if policy == "raise":
            raise self._queue_full(delivery, key, value)
        if policy == "drop":
            delivery.in_flight.drop()
            return False
        return True

    def _queue_full(self, delivery: DeliveryThread, key: bytes | None, value: bytes | Large) -> QueueFull:
        s = self._settings.publisher
        waiting = delivery.waiting_for_store(key, value)
        if waiting:
            return QueueFull(
                f"the queue is full: {waiting} events wait for the content store, content.store "
                f"(content.queue_bytes {self._settings.content.queue_bytes}, "
                f"publisher.queue_max_events {s.queue_max_events})"
            )
        return QueueFull(
            f"the queue is full: {delivery.in_flight.counts().in_flight} events wait for Kafka at "
            f"{self._settings.kafka.bootstrap_servers} "
            f"(publisher.queue_max_events {s.queue_max_events}, "
            f"publisher.queue_max_bytes {s.queue_max_bytes})"
        )


def _forget_parents() -> None:
    for publisher in list(_publishers):
        publisher._deliveries.clear()


os.register_at_fork(after_in_child=_forget_parents)

__all__ = ["Publisher"]
