"""Publishing trace events from an application: validate, encode, produce, report."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tailrace import kafka
from tailrace.content import Limits
from tailrace.delivery_reports import Counts, DeliveryReport, FlushReport, InFlight, OnDelivery
from tailrace.errors import PublisherClosed, QueueFull
from tailrace.partitioner import PARTITIONER
from tailrace.prepare import Prepared, prepared
from tailrace.records import TraceEvent
from tailrace.settings import Settings, load
from tailrace.topics import ROOM, TopicNames

if TYPE_CHECKING:
    from tailrace.schema_registry.subjects import Framing

log: Final = logging.getLogger("tailrace.publisher")

_AT_EXIT: Final = 1.0
"""Seconds that the interpreter waits at its end for publishers that were not closed."""

_alive: Final[weakref.WeakSet[Publisher]] = weakref.WeakSet()


def _now() -> int:
    return time.time_ns() // 1000


class Publisher:
    """Publishes trace events to Kafka, idempotently and with acks=all.

    Events are keyed so that a trace stays in one partition:

        with Publisher("localhost:9092") as publisher:
            publisher.publish(TraceEvent(kind=Kind.TOOL, started_at=…, ended_at=…, name="search"))

    `publish` returns as soon as the event is in a bounded queue in this process; a background thread
    sends it. An event is durable when its `DeliveryReport` says so, not before: events that are still
    queued are lost if the process dies.

    **If Kafka is down**, events wait in the queue for `publisher.delivery_timeout_seconds` and are then
    reported as failed. If the queue is full, `publisher.when_full` decides: block, drop and count, or
    raise.

    Threads may share one publisher. After a fork the child has a new, empty publisher; the parent still
    sends what the parent had queued. The order of a trace's events is kept, except for events that were
    not delivered.

    The broker need not be up when the publisher is created, nor the schema registry if one is
    configured.

    Args:
        bootstrap_servers: where Kafka is, as ``host:port``, comma separated. Overrides the settings.
        settings: default: those of `tailrace.toml` and `TAILRACE_…` variables.
        redact: called with each event before anything else reads it. Its result is published; if it
            raises, nothing is published and `publish` raises the same exception.
        on_delivery: called with every `DeliveryReport`, in the background thread or in a thread that
            waits in `publish`, `flush` or `close`. It must be quick and must not block.
        clock: the current time in microseconds UTC.

    Raises:
        ConfigError: a setting is missing or wrong.
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
        self._topic = TopicNames.of(settings.topics).events
        self._limits = Limits(
            settings.topics.max_event_bytes - ROOM, settings.publisher.oversize == "truncate"
        )
        self._redact, self._on_delivery, self._clock = redact, on_delivery, clock
        self._host = socket.gethostname()
        self._closed = False
        self._framing: Framing | None = None
        if settings.registry.url and settings.registry.write == "confluent":
            from tailrace.schema_registry.subjects import Framing

            self._framing = Framing(settings)
        self._start()
        _alive.add(self)

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
            EventTooLarge: the event exceeds topics.max_event_bytes; names its largest field.
            QueueFull: `when_full` is `raise`, or `block` and the queue stayed full for block_seconds.
            PublisherClosed: `close` was called before.
        """
        event, key, value = self._prepare(event)
        event_id = str(event.event_id)
        deadline: float | None = None
        while not self._offer(event_id, key, value, on_delivery):
            if deadline is None:
                if not self._wait_when_full():
                    return event_id
                deadline = time.monotonic() + self._settings.publisher.block_seconds
            if time.monotonic() >= deadline:
                raise self._queue_full()
            self._producer.poll(0.05)
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

        deadline: float | None = None
        while not self._offer(str(event.event_id), key, value, report_back):
            if deadline is None:
                if not self._wait_when_full():
                    return DeliveryReport(event_id=str(event.event_id), error="dropped: the queue is full")
                deadline = loop.time() + self._settings.publisher.block_seconds
            if loop.time() >= deadline:
                raise self._queue_full()
            await asyncio.sleep(0.01)
        return await done

    def flush(self, timeout: float) -> FlushReport:
        """Waits until every event accepted so far has its delivery report.

        Args:
            timeout: seconds to wait at most.

        Returns:
            A report that is true if nothing is left, else with the ids that are still in flight.
        """
        deadline = time.monotonic() + timeout
        while self._in_flight and (left := deadline - time.monotonic()) > 0:
            # short waits: it does not return early when the background thread serves the last report
            self._producer.flush(min(left, 0.02))
        return FlushReport(undelivered=self._in_flight.ids())

    def close(self, timeout: float | None = None) -> FlushReport:
        """Stops accepting events, flushes, and stops the background thread. A second call does nothing.

        Events without a delivery report by then will not be delivered; they are logged and returned.

        Args:
            timeout: seconds to wait at most; default: until the delivery timeout has decided every
                event.

        Returns:
            As `flush`.
        """
        if self._closed:
            return FlushReport()
        self._closed = True
        self._in_flight.close()
        if timeout is None:
            # librdkafka checks for expired events once a second
            timeout = self._settings.publisher.delivery_timeout_seconds + 2.0
        report = self.flush(timeout)
        if not report:
            log.error(
                "closed with %d events not delivered, first %s",
                len(report.undelivered),
                report.undelivered[0],
            )
            self._producer.purge()
            self.flush(5.0)  # serves the reports of the purged events
        self._stop.set()
        self._poller.join()
        return report

    @property
    def counts(self) -> Counts:
        """The event counts so far."""
        return self._in_flight.counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- internals
    def _start(self) -> None:
        """Starts a producer and its thread; in a forked child it does so again."""
        s = self._settings.publisher
        self._in_flight = InFlight()
        self._stop = threading.Event()
        self._said: set[int] = set()
        self._reason = ""
        self._producer = kafka.open_client(
            Producer,
            {
                **kafka.client(
                    self._settings.kafka,
                    enable_idempotence=True,
                    acks="all",
                    partitioner=PARTITIONER,
                    linger_ms=s.linger_ms,
                    compression_type=s.compression,
                    message_timeout_ms=max(1, int(s.delivery_timeout_seconds * 1000)),  # 0 means no timeout
                    message_max_bytes=self._settings.topics.max_event_bytes,
                    queue_buffering_max_messages=s.queue_max_events,
                    queue_buffering_max_kbytes=max(1, s.queue_max_bytes // 1024),
                ),
                "error_cb": self._client_error,
                "logger": logging.getLogger("tailrace.publisher.client"),
            },
        )
        self._poller = threading.Thread(
            target=self._poll, args=(self._producer, self._stop), name="tailrace-publisher", daemon=True
        )
        self._poller.start()
        if self._framing is not None:
            self._framing.keep_asking(self._stop)

    @staticmethod
    def _poll(producer: Producer, stop: threading.Event) -> None:
        while not stop.is_set():
            producer.poll(0.1)

    def _prepare(self, event: TraceEvent) -> Prepared:
        if self._closed:
            raise PublisherClosed("this publisher is closed")
        if self._redact is not None:
            event = self._redact(event)
        if isinstance(event, TraceEvent) and event.host_name is None:
            event = msgspec.structs.replace(event, host_name=self._host)
        found = prepared(event, self._clock(), self._limits, self._frame())
        if found.event.content_changes:
            self._in_flight.changed(found.event.content_changes)
        return found

    def _frame(self) -> bytes | None:
        return None if self._framing is None else self._framing.frame

    def _offer(self, event_id: str, key: bytes | None, value: bytes, on_delivery: OnDelivery | None) -> bool:
        """Hands a record to librdkafka; False if its queue is full.

        A record that librdkafka refuses at once (an unknown topic) is reported like one that fails
        later.
        """
        in_flight = self._in_flight
        number = in_flight.add(event_id)
        general = self._on_delivery

        def delivered(error: KafkaError | None, message: Message | None) -> None:
            in_flight.settle(number, error is None)
            if error is not None:
                self._failed(
                    event_id,
                    error,
                    logging.ERROR if on_delivery is None and general is None else logging.DEBUG,
                )
            else:
                self._said.clear()
            if on_delivery is None and general is None:
                return
            report = (
                DeliveryReport(
                    event_id=event_id,
                    partition=message.partition(),
                    offset=message.offset(),
                    appended_at=message.timestamp()[1],
                )
                if message is not None and error is None
                else DeliveryReport(event_id=event_id, error=str(error and error.str()))
            )
            for callback in (on_delivery, general):
                if callback is not None:
                    try:
                        callback(report)
                    except Exception:
                        log.exception("on_delivery raised for event %s", event_id)

        try:
            self._producer.produce(self._topic, value, key, on_delivery=delivered)
        except BufferError:
            in_flight.forget(number)
            return False
        except KafkaException as e:
            delivered(e.args[0], None)
        return True

    def _wait_when_full(self) -> bool:
        """Applies `when_full` to a full queue: True to wait, False if the event was dropped.

        Raises:
            QueueFull: the policy is `raise`.
        """
        policy = self._settings.publisher.when_full
        if policy == "raise":
            raise self._queue_full()
        if policy == "drop":
            self._in_flight.drop()
            return False
        return True

    def _queue_full(self) -> QueueFull:
        s = self._settings.publisher
        return QueueFull(
            f"the queue is full: {self._in_flight.counts().in_flight} events wait for Kafka at "
            f"{self._settings.kafka.bootstrap_servers} "
            f"(publisher.queue_max_events {s.queue_max_events}, "
            f"publisher.queue_max_bytes {s.queue_max_bytes})"
        )

    def _failed(self, event_id: str, error: KafkaError, level: int) -> None:
        if error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            return  # close() logs it
        hint = (
            ": run `tailrace topics create`"
            if error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
            else ""
        )
        log.log(level, "event %s was not delivered to %s: %s%s", event_id, self._topic, error.str(), hint)

    def _client_error(self, error: KafkaError) -> None:
        """Logs each problem once, until an event is delivered again."""
        down = error.code() == KafkaError._ALL_BROKERS_DOWN
        if not down and not kafka.fatal(error):
            self._reason = error.str()
        elif error.code() not in self._said:
            self._said.add(error.code())
            servers = self._settings.kafka.bootstrap_servers
            if down:
                log.warning(
                    "no Kafka broker answers at %s: events wait here for up to %g s; %s",
                    servers,
                    self._settings.publisher.delivery_timeout_seconds,
                    self._reason,
                )
            else:
                log.error("Kafka at %s: %s", servers, error.str())

    def _after_fork(self) -> None:
        """In a forked child: starts a new producer.

        The parent's producer has no threads here. It must not be used, not even destroyed.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
        if not self._closed:
            self._start()


def _restart_in_child() -> None:
    for publisher in list(_alive):
        publisher._after_fork()


def _say_what_is_lost() -> None:
    """At exit: waits briefly, then logs what unclosed publishers still hold.

    Events in flight keep their publisher alive.
    """
    deadline = time.monotonic() + _AT_EXIT
    for publisher in list(_alive):
        if not publisher._closed and not (left := publisher.flush(max(0.0, deadline - time.monotonic()))):
            log.error(
                "%d events not delivered: close() the publisher or use it as a context manager",
                len(left.undelivered),
            )


os.register_at_fork(after_in_child=_restart_in_child)
atexit.register(_say_what_is_lost)

__all__ = ["Publisher"]
