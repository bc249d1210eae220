"""The Kafka producer of a publisher, and the next one when it has failed."""

from __future__ import annotations

import ctypes
import logging
import time
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from tailrace import clients, greenlets, kafka
from tailrace.settings import Settings

log: Final = logging.getLogger("tailrace.publisher")

_REOPEN: Final = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Seconds from one producer to the next, while one after the other fails."""


def check_properties(settings: Settings) -> None:
    """Opens and closes a producer that connects to nothing.

    Raises:
        ConfigError: librdkafka refuses a property.
    """
    properties = clients.publisher(settings)
    properties.pop("bootstrap.servers")
    destroy([kafka.open_client(Producer, properties)])


class Producers:
    """One producer, and those that it replaced until they have reported everything.

    librdkafka's producer ends after an error that it calls fatal (an idempotence violation, a missing
    permission): it takes nothing more, and reports all that it holds as purged.

    Args:
        properties: of librdkafka.

    Raises:
        ConfigError: librdkafka refuses a property.
    """

    def __init__(self, properties: dict[str, Any]) -> None:
        self._properties = properties
        self.current: Producer | None = kafka.open_client(Producer, properties)
        """None after `release`."""
        self.failed = False
        """Whether the current producer has failed, and waits to be replaced."""
        self.serves_replaced = False
        """Whether delivery callbacks that run now are those of a replaced producer."""
        self._replaced: list[Producer] = []
        self.failures = 0
        """Replacements since the last delivery."""
        self._opened_at = time.monotonic()

    def fail(self, error: KafkaException) -> None:
        """Notes a fatal error of the current producer."""
        if not self.failed:
            self.failed = True
            log.error("the Kafka producer failed, a new one takes over: %s", error.args[0].str())

    def works(self) -> None:
        """Called for each record that is delivered."""
        self.failures = 0

    def turn(self) -> None:
        """Replaces a failed producer when it is time, and serves the replaced ones. Never raises."""
        if self.failed:
            self._replace()
        producer: Producer | None
        for producer in self._replaced:
            self.serves_replaced = True
            try:
                producer.poll(0)
            except Exception as e:
                log.debug("replaced producer: %s", e)
            finally:
                self.serves_replaced = False
        if self._replaced:
            done = [p for p in self._replaced if not len(p)]
            self._replaced = [p for p in self._replaced if len(p)]
            producer = None
            destroy(done)

    def _replace(self) -> None:
        now = time.monotonic()
        if now < self._opened_at + _REOPEN[min(self.failures, len(_REOPEN) - 1)]:
            return
        self.failures, self._opened_at = self.failures + 1, now
        try:
            new = kafka.open_client(Producer, self._properties)
        except Exception as e:
            log.error("cannot open a new Kafka producer yet: %s", e)
            return
        for old in self._replaced:  # an answer would have come by now
            old.purge(blocking=False)
        if self.current is not None:
            self._replaced.append(self.current)
        self.current, self.failed = new, False

    def _all(self) -> list[Producer]:
        return [p for p in (self.current, *self._replaced) if p is not None]

    def purge(self) -> None:
        """Gives up all records; their reports come with the next calls."""
        for producer in self._all():
            producer.purge(blocking=False)

    def release(self) -> None:
        """Frees threads and connections, once nobody else has a producer of these."""
        producers = self._all()
        self.current, self._replaced = None, []
        destroy(producers)

    def abandon(self) -> None:
        """In a forked child: librdkafka has no threads here, so that a producer must never be destroyed."""
        for producer in self._all():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))


def destroy(producers: list[Producer | None]) -> None:
    """Empties a list that has the only references to producers.

    The destruction waits for librdkafka's threads, and one of these may be asking a name server. So where
    greenlets run, a thread of its own waits.
    """
    if greenlets.threads_are_greenlets():
        greenlets.in_real_thread(producers.clear)
    else:
        producers.clear()
