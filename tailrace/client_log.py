"""What a publisher's Kafka client says about itself, kept until it can be logged."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

from confluent_kafka import KafkaError

from tailrace import kafka
from tailrace.settings import Settings

log: Final = logging.getLogger("tailrace.publisher")


class ClientLog:
    """Takes a client's errors and log lines in its callbacks, and logs them outside.

    A log handler may lock or do I/O, which switches greenlets; inside a callback of librdkafka that would
    break the client. Each problem is logged once, until an event is delivered again.

    Args:
        settings: its sections `kafka` and `publisher`, for the messages.
    """

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka.bootstrap_servers
        s = settings.publisher
        self._wait = f"up to {s.delivery_timeout_seconds:g} s"
        if s.spool_dir:
            self._wait = f"a few seconds, then on disk in {s.spool_dir}"
        self._errors: deque[KafkaError] = deque(maxlen=100)
        self._lines: deque[tuple[Any, ...]] = deque(maxlen=1000)
        self.said: set[int] = set()
        """Codes of the errors that are not logged again before `works`."""
        self._reason = ""

    def properties(self) -> dict[str, Any]:
        """The client's properties that let it call this; they do not refer to this object."""
        return {"error_cb": self._errors.append, "logger": _Lines(self._lines)}

    def works(self) -> None:
        """Called when an event is delivered: what happens from now on is logged again."""
        self.said.clear()

    def write(self) -> None:
        """Logs what came in."""
        while self._lines:
            level, text, *values = self._lines.popleft()
            logging.getLogger("tailrace.publisher.client").log(level, text, *values)
        while self._errors:
            error = self._errors.popleft()
            down = error.code() == KafkaError._ALL_BROKERS_DOWN
            if not down and not kafka.fatal(error):
                self._reason = error.str()
            elif error.code() not in self.said:
                self.said.add(error.code())
                if down:
                    log.warning(
                        "no Kafka broker answers at %s: events wait here for %s; %s",
                        self._servers,
                        self._wait,
                        self._reason,
                    )
                else:
                    log.error("Kafka at %s: %s", self._servers, error.str())


class _Lines:
    """librdkafka's logger."""

    def __init__(self, lines: deque[tuple[Any, ...]]) -> None:
        self._lines = lines

    def log(self, *line: Any) -> None:
        self._lines.append(line)
