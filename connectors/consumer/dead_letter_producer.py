"""Writes dead letters to Kafka. A record is acknowledged once the broker has acknowledged its dead letter.

Only the consumer's thread uses it. That thread must call `poll` often; callbacks run inside `poll`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.consumer.dead_letters import DeadLetterRequest, dead_letter_key, sink_dead_letter
from tailrace import clients, codec, kafka
from tailrace.records import DeadLetter
from tailrace.settings import Settings
from tailrace.topics import TopicNames

log: Final = logging.getLogger("tailrace.connect")
PAUSE: Final = 1.0
"""Seconds until a dead letter that could not be written is sent again."""

OnAcknowledged = Callable[[], None]


class DeadLetterProducer:
    """Produces one sink's dead letters.

    One that cannot be written is sent again without limit. The sink does not commit past its record before.
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
        self._topic = TopicNames.of(settings.topics).dead_letters
        self._name, self._clock, self._now = name, clock, now
        self._keep = settings.topics.max_event_bytes
        self._again: deque[tuple[float, bytes | None, DeadLetter, OnAcknowledged]] = deque()
        self._logged_at = -60.0
        self._producer = kafka.open_client(
            Producer,
            {
                **clients.dead_letters(settings, name),
                "logger": logging.getLogger("tailrace.connect.client"),
            },
        )

    def dead_letter(self, request: DeadLetterRequest) -> None:
        """Dead-letters one record. A later `poll` calls `request.settle`, when the dead letter is durable."""
        where, rejected = request.source, request.rejected
        log.warning(
            "%s: %s[%d]@%d (event %s) becomes a dead letter (%s): %s %s",
            self._name,
            where.topic,
            where.partition,
            where.offset,
            where.event_id,
            request.stage,
            rejected.reason,
            rejected.detail,
        )
        record = sink_dead_letter(
            request.stage,
            self._name,
            where,
            rejected,
            int(self._now() * 1000),
            attempts=request.attempts,
            value=request.value,
            keep=self._keep,
        )
        self.write(dead_letter_key(where), record, request.settle)

    def write(self, key: bytes | None, record: DeadLetter, on_acknowledged: OnAcknowledged) -> None:
        """Starts to write a dead letter. Does not block.

        Args:
            key: The key of the Kafka record.
            record: The dead letter.
            on_acknowledged: Called at most once, by a later `poll`, when the broker has acknowledged it.
        """

        def on_delivery(error: KafkaError | None, message: Any) -> None:
            if error is None:
                on_acknowledged()
            else:
                self._failed(error, key, record, on_acknowledged)

        try:
            self._producer.produce(self._topic, codec.encode(record), key, on_delivery=on_delivery)
        except BufferError:
            self._again.append((self._clock() + 0.05, key, record, on_acknowledged))
        except KafkaException as e:
            self._failed(e.args[0], key, record, on_acknowledged)

    def poll(self, seconds: float = 0.0) -> None:
        """Runs the callbacks of acknowledged dead letters, and sends failed ones again when their wait is
        over.

        Args:
            seconds: How long to wait for the broker; 0: not at all.
        """
        self._producer.poll(seconds)
        for _ in range(len(self._again)):
            at, key, record, on_acknowledged = self._again.popleft()
            if at <= self._clock():
                self.write(key, record, on_acknowledged)
            else:
                self._again.append((at, key, record, on_acknowledged))

    def close(self, seconds: float) -> None:
        """Waits up to `seconds` for the dead letters in flight, then drops the others.

        No offset was committed past a record whose dead letter is dropped: the next owner reads it again.
        Nothing else may be called afterwards.
        """
        self._producer.flush(max(0.0, seconds))
        self._producer.purge()
        del self._producer  # this frees its threads and connections; the runner that has it is in a cycle

    def _failed(
        self, error: KafkaError, key: bytes | None, record: DeadLetter, on_acknowledged: OnAcknowledged
    ) -> None:
        if error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and record.raw:
            record = msgspec.structs.replace(record, raw=None)
        elif self._clock() - self._logged_at >= 10:
            self._logged_at = self._clock()
            hint = ": run `tailrace topics create`" if error.code() in _UNKNOWN else ""
            log.error(
                "%s: %d dead letters wait: cannot write to %s: %s%s. Their partitions are not committed "
                "until they are written",
                self._name,
                len(self._again) + 1,
                self._topic,
                error.str(),
                hint,
            )
        self._again.append((self._clock() + PAUSE, key, record, on_acknowledged))


_UNKNOWN: Final = (KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)
