"""The background thread of a publisher: sends records, reports their outcomes, replaces a failed producer."""

from __future__ import annotations

import _thread
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tailrace import clients, greenlets, process_hooks
from tailrace.client_log import ClientLog
from tailrace.content_store.claims import Large
from tailrace.content_store.staging import Stage
from tailrace.delivery_reports import DeliveryReport, FlushReport, InFlight, OnDelivery
from tailrace.errors import PublisherClosed
from tailrace.listeners import TAKEN_BACK, Listeners, Outcome
from tailrace.missing_topic import MissingTopic
from tailrace.producers import Producers, destroy
from tailrace.settings import Settings
from tailrace.spool.frames import Spooled
from tailrace.spool.spooler import OnLanded, Spooler
from tailrace.topics import TopicNames
from tailrace.waiting_records import Record, WaitingRecords

log: Final = logging.getLogger("tailrace.publisher")

_POLL: Final = 0.1
"""Seconds that the thread waits in librdkafka."""
_FLUSH: Final = 0.02
"""The same while `flush` waits: librdkafka then sends without lingering."""
_GREEN_FLUSH: Final = 0.002
_GREEN_BUSY: Final = 0.01
_GREEN_IDLE: Final = 0.05
"""Seconds between two calls of librdkafka by a greenlet: while `flush` waits, with events in flight, else."""
TO_DISK: Final = TAKEN_BACK | {KafkaError._MSG_TIMED_OUT}
"""Errors of records that go to the spool, if there is one."""
SPOOL_BYTES: Final = 4 * 1024 * 1024
"""Bytes of values that are synced at once."""
_GREEN_REPORTS: Final = 500
"""Reports that a greenlet takes from librdkafka before others run."""


_LAST: Final = 2.0
"""Seconds for the delivery of events that waited for the content store until their publisher ended."""


class _Enough(Exception):
    """Ends a call of librdkafka from a delivery callback; the next call has the remaining reports."""


class _Held:
    """What the thread refers to while it waits."""

    producer: Producer | None = None
    thread: int | None = None
    owner: DeliveryThread | None = None
    """Set while there is something to report, so that it is reported even if nobody else has it."""


class DeliveryThread:
    """Sends records with one Kafka producer, and reports the outcome of each.

    Starts a thread, or a greenlet where threads are greenlets. Only this one calls the listeners. It ends
    after `close`, or when nobody refers to this object and no event is in flight: records in flight refer
    to it, its thread does not.

    If the producer fails in a way that librdkafka calls fatal, a new one takes over the records without a
    report. A record whose acknowledgement was lost is then written twice, with one event_id.

    It belongs to the process that made it. Forked children must not use it.

    Args:
        settings: its sections `kafka`, `topics` and `publisher`.
        on_delivery: called with every report.

    Raises:
        ConfigError: librdkafka refuses a property.
    """

    def __init__(self, settings: Settings, on_delivery: OnDelivery | None = None) -> None:
        self.pid, self.abandoned = os.getpid(), False
        self.exit_seconds = settings.publisher.exit_seconds
        self.in_flight = InFlight()
        self.ended = threading.Event()
        """Set when the thread has ended."""
        self._timeout = settings.publisher.delivery_timeout_seconds
        self._topic = TopicNames.of(settings.topics).events
        self._client_log = ClientLog(settings)
        self._listeners = Listeners(on_delivery, self._topic)
        self._taken = 0
        self._ending = self._purging = False
        self._closed: FlushReport | None = None
        self._lock = greenlets.real_lock()
        self._turned = threading.Condition(greenlets.real_lock())
        self._waiters = self._flushing = 0
        s = settings.publisher
        self._waiting = WaitingRecords(s.queue_max_events, s.queue_max_bytes)
        self._spooler = Spooler(settings) if s.spool_dir else None
        self._producers = Producers(clients.publisher(settings) | self._client_log.properties())
        self._stage = self._staging(settings) if settings.content.store else None
        self._missing = MissingTopic(
            self._topic,
            delivered=self.in_flight.delivered,
            waiting=_waiting(self.in_flight, self._stage),
            say=lambda text: log.warning("%s; events wait until it is there", text),
        )
        self._held = _Held()
        self._green = greenlets.threads_are_greenlets()
        self.start()
        process_hooks.register(self)

    def _staging(self, settings: Settings) -> Stage:
        """The stage; it does not keep this object alive."""
        ref = weakref.ref(self)

        def submit(record: Record) -> None:
            if (me := ref()) is not None:
                me._submit(record)

        def failed(record: Record, error: str) -> None:
            if (me := ref()) is not None:
                me._fail(record, error)

        return Stage(settings, self.in_flight, submit, failed)

    def start(self) -> None:
        """Starts the thread; called once, and where its greenlet has been killed."""
        arguments = (weakref.ref(self), self._held, self._green)
        if self._green:  # a Thread would be missed by the module threading of a forked child
            _thread.start_new_thread(_run, arguments)
        else:
            threading.Thread(target=_run, args=arguments, name="tailrace-publisher", daemon=True).start()

    # -- for the publisher, from any thread or greenlet
    def offer(
        self, event_id: str, key: bytes | None, value: bytes | Large, listener: OnDelivery | None
    ) -> bool:
        """Queues a record; False if the queue is full.

        A record that librdkafka refuses at once (an unknown topic) is reported like one that fails later.

        Args:
            event_id: for the report.
            key: the record's key.
            value: the record's value, or what has to be stored before.
            listener: called with this record's report, before `on_delivery`.

        Raises:
            PublisherClosed: `close` was called before.
        """
        if self._stage is not None and (type(value) is Large or self._stage.busy):
            taken = self._stage.offer(event_id, key, value, listener)
            if taken:
                self._held.owner = self
            if taken is not None:
                return taken
        assert isinstance(value, bytes)
        number = self.in_flight.add(event_id)
        if not self._waiting.records and not (self._spooler is not None and self._spooler.down):
            try:
                self._produce(number, event_id, listener, key, value)
                return True
            except BufferError:
                self.in_flight.forget(number)
                return False
            except KafkaException as e:
                if e.args[0].code() != KafkaError._FATAL:
                    self._landed(number, event_id, listener, e.args[0], None)
                    return True
        if self._waiting.full():
            self.in_flight.forget(number)
            return False
        self._keep(Record(number, event_id, listener, key, value), self._timeout)
        return True

    def waiting_for_store(self, key: bytes | None, value: bytes | Large) -> int:
        """How many events wait for the content store, if that is why `offer` refused one; else 0."""
        stage = self._stage
        if stage is None or not stage.refuses(key, value):
            return 0
        return stage.count()

    def _submit(self, record: Record) -> None:
        """Queues a record that was accepted before: it waits if the queue is full."""
        if not self._waiting.records and not (self._spooler is not None and self._spooler.down):
            try:
                self._produce(*record)
                return
            except (BufferError, PublisherClosed):
                pass
            except KafkaException as e:
                if e.args[0].code() != KafkaError._FATAL:
                    self._landed(record.number, record.event_id, record.listener, e.args[0], None)
                    return
        self._keep(record, self._timeout)

    def _fail(self, record: Record, error: str) -> None:
        """Reports an event of which there is no record."""
        report = DeliveryReport(event_id=record.event_id, error=error)
        self._add(Outcome(record.number, report, record.listener, None))

    def wait(self, timeout: float, done: Callable[[], bool]) -> bool:
        """Waits until `done()`, which is asked after each turn of the thread. Other greenlets run on.

        Called by a listener, it does not wait: the thread could not go on.

        Args:
            timeout: seconds to wait at most.
            done: must not wait.

        Returns:
            Whether it is done.
        """
        deadline = time.monotonic() + timeout
        sleep = greenlets.cooperative_sleep()
        while not done():
            left = deadline - time.monotonic()
            if left <= 0 or self._held.thread == threading.get_ident():
                return False
            if sleep is not None:
                sleep(min(left, _GREEN_BUSY))
                continue
            with self._turned:
                self._waiters += 1
                try:
                    if done():
                        return True
                    self._turned.wait(min(left, 1.0))
                finally:
                    self._waiters -= 1
        return True

    def flush(self, timeout: float) -> FlushReport:
        """Waits for the reports of the events that were queued before this call.

        Args:
            timeout: seconds to wait at most.
        """
        last = self.in_flight.last()
        with self._lock:
            self._flushing += 1
        try:
            self.wait(timeout, lambda: self.in_flight.settled(last))
        finally:
            with self._lock:
                self._flushing -= 1
        return FlushReport(undelivered=self.in_flight.ids(last))

    def leave(self, timeout: float) -> FlushReport:
        """Flushes at the end of the process; what is left goes to disk, if there is a spool.

        Args:
            timeout: seconds to wait at most for Kafka.
        """
        self.flush(timeout)
        self._end_stage()
        self._spool_all()
        return FlushReport(undelivered=self.in_flight.ids())

    def _end_stage(self) -> None:
        """What still waits for the content store goes to Kafka now, with its content cut."""
        if self._stage is not None and self._stage.give_up() and self._spooler is None:
            self.flush(_LAST)

    def _spool_all(self) -> None:
        """Whatever is in flight goes to disk now."""
        if self._spooler is not None and self.in_flight.any():
            self._spooler.down = True
            self._producers.purge()
            self.flush(5.0)

    def close(self, timeout: float) -> FlushReport:
        """Refuses further records, flushes, gives up what is left, and ends the thread.

        A second call waits for the first one, and returns its report.

        Args:
            timeout: seconds to wait at most.
        """
        if not self.in_flight.close():
            self.wait(timeout, lambda: self._closed is not None)
            if self._closed is not None:
                return self._closed
            return FlushReport(undelivered=self.in_flight.ids())
        try:
            self.flush(timeout)
        finally:  # also if this is interrupted
            self._end_stage()
            self._spool_all()
            report = FlushReport(undelivered=self.in_flight.ids())
            if not report:
                log.error(
                    "closed with %d events not delivered, first %s",
                    len(report.undelivered),
                    report.undelivered[0],
                )
                self._purging = True
                self._producers.purge()
                self.flush(5.0)  # serves the reports of the purged events
            self._closed = report
            self._ending = True
        self.wait(5.0, self.ended.is_set)
        return report

    def abandon(self) -> None:
        """In a forked child: this must not be used, nor destroyed, since librdkafka has no threads here."""
        self.abandoned = True
        self._producers.abandon()
        if self._spooler is not None:
            self._spooler.close()  # this process's copies of the descriptors: the locks stay with the parent

    # -- in librdkafka's callbacks: nothing here logs, waits or calls the application, since a greenlet that
    # switches inside them would break librdkafka's client
    def _produce(
        self, number: int, event_id: str, listener: OnDelivery | None, key: bytes | None, value: bytes
    ) -> None:
        def landed(error: KafkaError | None, message: Message | None) -> None:
            self._landed(number, event_id, listener, error, message)

        producer = self._producers.current
        if producer is None:  # `close` came between
            self.in_flight.forget(number)
            raise PublisherClosed("this publisher is closed")
        producer.produce(self._topic, value, key, on_delivery=landed)

    def _landed(
        self,
        number: int,
        event_id: str,
        listener: OnDelivery | None,
        error: KafkaError | None,
        message: Message | None,
    ) -> None:
        if error is None and message is not None:
            if self._spooler is not None:
                self._spooler.acknowledged = True
            if self._client_log.said:
                self._client_log.works()
            if self._producers.failures:
                self._producers.works()
            if not self._listeners.hear(listener):
                self._settle(number, True)
            else:
                report = DeliveryReport(
                    event_id=event_id,
                    partition=message.partition(),
                    offset=message.offset(),
                    appended_at=message.timestamp()[1],
                )
                self._add(Outcome(number, report, listener, None))
        elif message is None or not self._takes_back(number, event_id, listener, error, message):
            report = DeliveryReport(event_id=event_id, error=str(error and error.str()))
            self._add(Outcome(number, report, listener, error))
        self._taken += 1
        if self._green and self._taken >= _GREEN_REPORTS and message is not None:
            self._taken = 0
            raise _Enough

    def _add(self, outcome: Outcome) -> None:
        self._listeners.add(outcome)
        self._held.owner = self

    def _takes_back(
        self,
        number: int,
        event_id: str,
        listener: OnDelivery | None,
        error: KafkaError | None,
        message: Message,
    ) -> bool:
        """Keeps a record for the next producer if its own one has failed and there is time left."""
        if self._spooler is not None and error is not None and error.code() in TO_DISK:
            self._keep(Record(number, event_id, listener, message.key(), message.value() or b""), 0.0)
            return True
        lost = self._producers.failed or self._producers.serves_replaced
        if self._purging or not (lost or (error is not None and error.code() in TAKEN_BACK)):
            return False
        left = self._timeout - max(0.0, message.latency() or 0.0)
        if left <= 0 or self._waiting.late(number):
            return False
        self._keep(Record(number, event_id, listener, message.key(), message.value() or b""), left)
        return True

    def _keep(self, record: Record, seconds: float) -> None:
        self._waiting.keep(record, seconds)
        self._held.owner = self

    def _settle(self, number: int, ok: bool, spooled: bool = False) -> None:
        self.in_flight.settle(number, ok, spooled)
        if self._waiting.deadlines:
            self._waiting.settled(number)

    # -- in the thread, outside of librdkafka's callbacks
    def _turn(self, problem: KafkaException | None) -> None:
        """What follows each call of librdkafka. `problem` is what that call raised."""
        self._taken = 0
        self._client_log.write()
        if problem is not None:  # raised for fatal errors only
            self._producers.fail(problem)
        self._producers.turn()
        if (producer := self._producers.current) is not None and not self._ending:
            self._missing.look(producer)
        if self._stage is not None:
            self._stage.turn()
        if self._spooler is not None:
            self._spool(self._spooler)
        self._send_waiting()
        self._listeners.call(self._settle, self._purging)
        if self._ending and not self.in_flight.any():
            if self._spooler is not None:
                self._spooler.close()
            self._producers.release()
            self.ended.set()
        if self._waiters:
            with self._turned:
                self._turned.notify_all()

    def _spool(self, spooler: Spooler) -> None:
        """Writes what waits to disk if Kafka is away, and sends what is on disk if it is not."""
        # not for what waits for the content store: Kafka has not got it yet
        if spooler.look(self.in_flight.more_than(self._stage.count() if self._stage is not None else 0)):
            self._producers.purge()
        producer = self._producers.current
        if producer is not None and not self._ending:
            spooler.ask(producer)
            if not self._producers.failed:
                spooler.send(self._produce_spooled)
        while self._waiting.records and (spooler.down or self._waiting.late(self._waiting.records[0].number)):
            batch = self._waiting.first(SPOOL_BYTES)
            error = spooler.write([Spooled(r.event_id, r.key, r.value) for r in batch])
            for record in batch:
                self._waiting.drop_first()
                report = DeliveryReport(event_id=record.event_id, error=error, spooled=error is None)
                self._add(Outcome(record.number, report, record.listener, None))

    def _produce_spooled(self, event: Spooled, landed: OnLanded) -> None:
        producer = self._producers.current
        if producer is None:
            raise BufferError
        producer.produce(self._topic, event.value, event.key, on_delivery=landed)

    def _send_waiting(self) -> None:
        """Sends what a failed producer has left; gives up what has waited too long."""
        while self._waiting.records:
            record, error = self._waiting.records[0], None
            if self._purging or self._waiting.late(record.number):
                error = KafkaError(KafkaError._PURGE_QUEUE if self._purging else KafkaError._MSG_TIMED_OUT)
            elif self._producers.failed:
                return
            else:
                try:
                    self._produce(*record)
                except (BufferError, PublisherClosed):
                    return
                except KafkaException as e:
                    error = e.args[0]
                    if error.code() == KafkaError._FATAL:
                        return
            self._waiting.drop_first()
            if error is not None:
                self._landed(record.number, record.event_id, record.listener, error, None)


def _waiting(in_flight: InFlight, stage: Stage | None) -> Callable[[], bool]:
    """Whether Kafka has events that it has not acknowledged."""
    return in_flight.any if stage is None else lambda: in_flight.more_than(stage.count())


def _run(owner: weakref.ref[DeliveryThread], held: _Held, green: bool) -> None:
    """The thread. Nothing that is raised in it ends it."""
    held.thread = threading.get_ident()
    sleep = greenlets.cooperative_sleep() if green else None
    pause: float | None = 0.0
    while pause is not None:
        try:
            if sleep is not None:
                sleep(pause)
            pause = _once(owner, held, green)
        except BaseException as e:
            log.exception("in the publisher's thread")
            if green and isinstance(e, KeyboardInterrupt):
                greenlets.interrupt_main()
            elif green and not isinstance(e, Exception) and (me := owner()) is not None:
                me.start()  # this greenlet was killed
                return
            (sleep or time.sleep)(_POLL)
    producers, held.producer, held.owner = [held.producer], None, None
    destroy(producers)


def _once(owner: weakref.ref[DeliveryThread], held: _Held, green: bool) -> float | None:
    """Calls librdkafka once; returns how long a greenlet sleeps until the next call, None at the end."""
    me = owner()
    producer = None if me is None or me.abandoned else me._producers.current
    if me is None or producer is None:
        return None
    held.producer, held.owner = producer, None
    if me.in_flight.any():
        held.owner = me
    flushing, problem = me._flushing > 0, None
    pause = _GREEN_FLUSH if flushing else _GREEN_BUSY if me.in_flight.any() else _GREEN_IDLE
    del me
    try:
        if flushing and len(producer):
            producer.flush(_GREEN_FLUSH if green else _FLUSH)
        else:
            producer.poll(0 if green else _FLUSH if flushing else _POLL)
    except _Enough:
        pause = greenlets.YIELD
    except KafkaException as e:
        problem = e
    del producer
    me = owner()
    if me is not None:
        me._turn(problem)
    return pause
