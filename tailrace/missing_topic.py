"""Notices that the topic a publisher writes to does not exist.

librdkafka waits for a missing topic as it waits for a broker, and says nothing about it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from tailrace import greenlets

QUIET_SECONDS: Final = 1.0
"""How long events wait without a delivery before the cluster is asked for the topic."""
AGAIN_SECONDS: Final = 5.0
ASK_SECONDS: Final = 0.5


class MissingTopic:
    """Asks the cluster for the topic while events wait and none is delivered. For one thread.

    Args:
        topic: name of the topic.
        delivered: how many events were delivered so far.
        waiting: whether events wait for their delivery.
        say: called once while the topic is missing, and once again after a delivery.
        clock: seconds, monotonic.
        run: runs what may wait for the cluster, beside this thread.
    """

    def __init__(
        self,
        topic: str,
        *,
        delivered: Callable[[], int],
        waiting: Callable[[], bool],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        run: Callable[[Callable[[], None]], None] = greenlets.in_real_thread,
    ) -> None:
        self._topic, self._delivered, self._waiting = topic, delivered, waiting
        self._say, self._clock, self._run = say, clock, run
        self._count, self._ask_at, self._said = -1, 0.0, False
        self._asking = self._found_missing = False

    def look(self, producer: Producer) -> None:
        """To be called often; it does not wait. Asks at most once in `AGAIN_SECONDS`."""
        now, count = self._clock(), self._delivered()
        if count != self._count or not self._waiting():
            self._count, self._ask_at, self._said = count, now + QUIET_SECONDS, False
            self._found_missing = False
            return
        if self._found_missing and not self._said:
            self._said = True
            self._say(f"{self._topic} is missing: run `tailrace topics create`")
        if self._said or self._asking or now < self._ask_at:
            return
        self._asking, self._ask_at = True, now + AGAIN_SECONDS
        self._run(lambda: self._ask(producer))

    def _ask(self, producer: Producer) -> None:
        try:
            error = producer.list_topics(self._topic, timeout=ASK_SECONDS).topics[self._topic].error
            self._found_missing = error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        except KafkaException:  # no broker answers; the client says so itself
            self._found_missing = False
        finally:
            self._asking = False
