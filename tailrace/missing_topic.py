"""Notices that the topic a publisher writes to does not exist.

librdkafka waits for a missing topic as it waits for a broker, and says nothing about it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

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
    """

    def __init__(
        self,
        topic: str,
        *,
        delivered: Callable[[], int],
        waiting: Callable[[], bool],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic, self._delivered, self._waiting = topic, delivered, waiting
        self._say, self._clock = say, clock
        self._count, self._ask_at, self._said = -1, 0.0, False

    def look(self, producer: Producer) -> None:
        """To be called often. Blocks for up to `ASK_SECONDS`, at most once in `AGAIN_SECONDS`."""
        now, count = self._clock(), self._delivered()
        if count != self._count or not self._waiting():
            self._count, self._ask_at, self._said = count, now + QUIET_SECONDS, False
            return
        if self._said or now < self._ask_at:
            return
        try:
            found = producer.list_topics(self._topic, timeout=ASK_SECONDS).topics[self._topic].error
        except KafkaException:  # no broker answers; the client says so itself
            found = None
        self._ask_at = self._clock() + AGAIN_SECONDS
        if found is not None and found.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._said = True
            self._say(f"{self._topic} is missing: run `tailrace topics create`")
