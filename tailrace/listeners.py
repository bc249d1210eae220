"""The application's listeners: they are called with the reports, outside of librdkafka."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from confluent_kafka import KafkaError

from tailrace import greenlets
from tailrace.delivery_reports import DeliveryReport, OnDelivery

log: Final = logging.getLogger("tailrace.publisher")

TAKEN_BACK: Final = frozenset({KafkaError._FATAL, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
"""Errors of records that a producer gives back: it has failed, or the publisher is closed."""
_UNKNOWN_TOPIC: Final = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART})
_SLICE: Final = 0.005
"""Seconds of work after which a greenlet lets others run."""


class Outcome(NamedTuple):
    """What has become of an event."""

    number: int
    report: DeliveryReport
    listener: OnDelivery | None
    error: KafkaError | None


class Listeners:
    """Outcomes that have come in, until the thread has told the listeners.

    Args:
        on_delivery: hears of every event.
        topic: for the log, where nobody listens.
    """

    def __init__(self, on_delivery: OnDelivery | None, topic: str) -> None:
        self._on_delivery, self._topic = on_delivery, topic
        self._outcomes: deque[Outcome] = deque()
        self._green = greenlets.threads_are_greenlets()

    def hear(self, listener: OnDelivery | None) -> bool:
        """Whether anybody listens to an event with this listener."""
        return listener is not None or self._on_delivery is not None

    def add(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)

    def call(self, settle: Callable[[int, bool, bool], None], closing: bool) -> None:
        """Logs failures and calls the listeners. Whatever these raise is logged.

        Args:
            settle: called with the number of each event after its listeners, whether it is safe, and whether
                it was spooled.
            closing: `close` logs what is given up.
        """
        sleep, began = greenlets.cooperative_sleep() if self._green else None, time.monotonic()
        while self._outcomes:
            outcome = self._outcomes.popleft()
            try:
                if outcome.error is not None and not (closing and outcome.error.code() in TAKEN_BACK):
                    self._log(outcome, outcome.error)
                for callback in (outcome.listener, self._on_delivery):
                    if callback is not None:
                        self._call(callback, outcome.report)
            finally:
                settle(outcome.number, outcome.report.ok, outcome.report.spooled)
            if sleep is not None and time.monotonic() - began > _SLICE:
                sleep(greenlets.YIELD)
                began = time.monotonic()

    def _call(self, callback: OnDelivery, report: DeliveryReport) -> None:
        try:
            callback(report)
        except BaseException as e:  # whatever it is, the other events' reports must come
            log.exception("on_delivery raised for event %s", report.event_id)
            if self._green and isinstance(e, KeyboardInterrupt):
                greenlets.interrupt_main()

    def _log(self, outcome: Outcome, error: KafkaError) -> None:
        log.log(
            logging.DEBUG if self.hear(outcome.listener) else logging.ERROR,
            "event %s was not delivered to %s: %s%s",
            outcome.report.event_id,
            self._topic,
            error.str(),
            ": run `tailrace topics create`" if error.code() in _UNKNOWN_TOPIC else "",
        )
