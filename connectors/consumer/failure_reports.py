"""Publishes the events `rehydration_failed` of one sink to trace.events.

Only the consumer's thread uses it. That thread must call `poll` often; callbacks run inside `poll`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from tailrace import clients, kafka
from tailrace.content import Limits
from tailrace.errors import TailraceError
from tailrace.prepare import prepared
from tailrace.records import TraceEvent
from tailrace.settings import Settings
from tailrace.topics import ROOM, TopicNames

log: Final = logging.getLogger("tailrace.connect")
SAY_EVERY: Final = 60.0
"""Seconds between two log lines about reports that could not be written."""


class FailureReports:
    """Produces reports. The producer is opened with the first one.

    A report that Kafka refuses is logged and dropped: it is a diagnosis, and must not stop the sink.
    """

    def __init__(
        self, settings: Settings, name: str, clock: Callable[[], float], now: Callable[[], float]
    ) -> None:
        """
        Args:
            settings: The settings of topics and Kafka.
            name: The sink's name.
            clock: Monotonic seconds.
            now: Unix seconds.
        """
        self._settings, self._name, self._clock, self._now = settings, name, clock, now
        self._topic = TopicNames.of(settings.topics).events
        self._limits = Limits(settings.topics.max_event_bytes - ROOM, cut=True)
        self._producer: Any = None
        self._said_at: float | None = None

    def write(self, event: TraceEvent, done: Callable[[], None]) -> None:
        """Starts to write a report. Does not block.

        Args:
            event: The event.
            done: Called once, by a later `poll`, when Kafka has acknowledged or refused it.
        """

        def on_delivery(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                self._say(error.str())
            done()

        try:
            if self._producer is None:
                self._producer = kafka.open_client(
                    Producer,
                    {
                        **clients.reports(self._settings, self._name),
                        "logger": logging.getLogger("tailrace.connect.client"),
                    },
                )
            made = prepared(event, int(self._now() * 1_000_000), self._limits)
            self._producer.produce(self._topic, made.value, made.key, on_delivery=on_delivery)
        except (KafkaException, BufferError, TailraceError) as e:
            self._say(str(e))
            done()

    def poll(self) -> None:
        """Runs the callbacks of reports that Kafka has acknowledged or refused."""
        if self._producer is not None:
            self._producer.poll(0.0)

    def close(self, seconds: float) -> None:
        """Waits up to `seconds` for the reports in flight, then drops the others.

        Their records were not committed: the next owner reads them again.
        """
        if self._producer is not None:
            self._producer.flush(max(0.0, seconds))
            self._producer.purge()
            self._producer = None

    def _say(self, problem: str) -> None:
        now = self._clock()
        if self._said_at is not None and now - self._said_at < SAY_EVERY:
            return
        self._said_at = now
        log.error(
            "%s: cannot report missing content as rehydration_failed: cannot write to %s: %s; "
            "the client needs the permission Write on it",
            self._name,
            self._topic,
            problem,
        )
