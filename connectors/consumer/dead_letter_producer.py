"""Writing dead letters: acknowledged by the broker before anything that depends on them is called done.

One thread uses it, the consumer's, which calls `poll` often; callbacks come from there.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.consumer.dead_letters import DeadLetterRequest, dead_letter_key, sink_dead_letter
from tailrace import codec, kafka
from tailrace.partitioner import PARTITIONER
from tailrace.records import DeadLetter
from tailrace.settings import Settings
from tailrace.topics import ROOM, TopicNames

log: Final = logging.getLogger("tailrace.connect")
PAUSE: Final = 1.0
"""Seconds before a dead letter that could not be written is tried again."""

OnAcknowledged = Callable[[], None]


class DeadLetterProducer:
    """Dead letters in flight. One that cannot be written is tried again without end; until it is written the
    sink does not commit past its record."""

    def __init__(
        self, settings: Settings, name: str, clock: Callable[[], float], now: Callable[[], float]
    ) -> None:
        """clock: monotonic seconds; now: Unix seconds."""
        self._topic = TopicNames.of(settings.topics).dead_letters
        self._name, self._clock, self._now = name, clock, now
        self._keep = settings.topics.max_event_bytes
        self._again: deque[tuple[float, bytes | None, DeadLetter, OnAcknowledged]] = deque()
        self._said = -60.0
        self._producer = Producer(
            {
                **kafka.client(
                    settings.kafka,
                    client_id=f"tailrace-{name}-dead-letters",
                    enable_idempotence=True,
                    acks="all",
                    partitioner=PARTITIONER,
                    compression_type="lz4",
                    linger_ms=5,
                    message_timeout_ms=30_000,
                    message_max_bytes=2 * settings.topics.max_event_bytes + ROOM,
                ),
                "logger": logging.getLogger("tailrace.connect.client"),
            }
        )

    def dead_letter(self, request: DeadLetterRequest) -> None:
        """Dead-letters one record; it is settled once the broker has acknowledged that."""
        where, rejected = request.source, request.rejected
        log.warning(
            "%s: %s[%d]@%d (event %s) goes to the dead letters (%s): %s %s",
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
        """Takes a dead letter; `on_acknowledged` is called by a later `poll` once it is durable, and at most
        once."""

        def reported(error: KafkaError | None, message: Any) -> None:
            if error is None:
                on_acknowledged()
            else:
                self._failed(error, key, record, on_acknowledged)

        try:
            self._producer.produce(self._topic, codec.encode(record), key, on_delivery=reported)
        except BufferError:
            self._again.append((self._clock() + 0.05, key, record, on_acknowledged))
        except KafkaException as e:
            self._failed(e.args[0], key, record, on_acknowledged)

    def poll(self, seconds: float = 0.0) -> None:
        """Calls back for what was acknowledged, and tries again what was not."""
        self._producer.poll(seconds)
        for _ in range(len(self._again)):
            at, key, record, on_acknowledged = self._again.popleft()
            if at <= self._clock():
                self.write(key, record, on_acknowledged)
            else:
                self._again.append((at, key, record, on_acknowledged))

    def close(self, seconds: float) -> None:
        """Waits up to `seconds` for what is in flight. What is not acknowledged then was not committed past
        either."""
        self._producer.flush(max(0.0, seconds))
        self._producer.purge()

    def _failed(
        self, error: KafkaError, key: bytes | None, record: DeadLetter, on_acknowledged: OnAcknowledged
    ) -> None:
        if error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and record.raw:
            record = msgspec.structs.replace(record, raw=None)
        elif self._clock() - self._said >= 10:
            self._said = self._clock()
            hint = ": run `tailrace topics create`" if error.code() in _UNKNOWN else ""
            log.error(
                "%s: %d dead letters wait, %s cannot be written: %s%s. Their partitions are not committed "
                "until it works",
                self._name,
                len(self._again) + 1,
                self._topic,
                error.str(),
                hint,
            )
        self._again.append((self._clock() + PAUSE, key, record, on_acknowledged))


_UNKNOWN: Final = (KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)
