"""Puts a publisher's events on disk while Kafka cannot be reached, and sends them when it can."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tailrace import greenlets
from tailrace.settings import Settings
from tailrace.spool.folder import Folder, SpoolFull, Taken, path_of
from tailrace.spool.frames import Spooled
from tailrace.topics import TopicNames

log: Final = logging.getLogger("tailrace.publisher")

AFTER: Final = 5.0
"""Seconds without any acknowledgement, while events wait for one, after which they go to disk."""
_PROBE: Final = 2.0
"""Seconds between two questions whether Kafka is back, and the longest wait for an answer."""
_LOOK: Final = 15.0
"""Seconds between two looks for files that other processes have left."""
_AGAIN: Final = 60.0
"""Seconds between two messages about the same problem."""
_WINDOW: Final = 1000
"""Most events from disk that wait for an acknowledgement."""
_LATER: Final = frozenset(
    {
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._FATAL,
    }
)
"""Errors that say nothing about the event: it is sent again."""


OnLanded = Callable[[KafkaError | None, Message | None], None]
"""Called by librdkafka with the outcome of an event."""


class Spooler:
    """The spool of one process. All methods are called by its delivery thread, except in `_ask`.

    Args:
        settings: its sections `publisher` and `topics`.
        clock: seconds, which never go back.
        now: Unix seconds, for the age of files.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        s = settings.publisher
        self.folder = Folder(path_of(s.spool_dir), s.spool_max_bytes, 2 * settings.topics.max_event_bytes)
        self.down = False
        """Whether events go to disk."""
        self.acknowledged = False
        """Set when Kafka has acknowledged an event; `look` resets it."""
        self._clock, self._now = clock, now
        self._topic = TopicNames.of(settings.topics).events
        self._max_age = s.spool_max_age_hours * 3600
        self._silent_since = clock()
        self._next_probe = self._next_look = 0.0
        self._asking = self._answered = False
        self._said: dict[str, float] = {}
        self._taken: Taken | None = None
        self._events: Iterator[Spooled] = iter(())
        self._next: Spooled | None = None
        self._outstanding = 0
        self._refusals: dict[str, int] = {}
        """What Kafka said of events that it refused, with how often; not logged yet."""
        self._stopped = False
        """Whether the file that is being sent has to be sent again."""

    # -- is Kafka there?
    def look(self, waiting: bool) -> bool:
        """Called in each turn of the thread.

        Args:
            waiting: Whether events wait for their acknowledgement.

        Returns:
            True at the moment at which the events that wait must be taken back from the producer.
        """
        now = self._clock()
        if self.acknowledged or not (waiting or self._outstanding):
            self._silent_since, self.acknowledged = now, False
        if self.down or now - self._silent_since < AFTER:
            return False
        self.down, self._next_probe = True, now + _PROBE
        log.warning(
            "Kafka has acknowledged nothing for %.0f s: events go to %s until it does",
            AFTER,
            self.folder.path,
        )
        return True

    def ask(self, producer: Producer) -> None:
        """While events go to disk: asks the brokers for their topics, from a thread of its own.

        A missing topic is waited for, as a broker is."""
        now = self._clock()
        if self._answered:
            self._answered = self.down = False
            self._silent_since, self._next_look = now, 0.0
            self.folder.end()
            log.warning("Kafka answers: events go there again, and those in %s, too", self.folder.path)
        elif self.down and not self._asking and now >= self._next_probe:
            self._asking, self._next_probe = True, now + _PROBE
            greenlets.in_real_thread(lambda: self._ask(producer))

    def _ask(self, producer: Producer) -> None:
        try:
            found = producer.list_topics(timeout=_PROBE).topics.get(self._topic)
            self._answered = found is not None and found.error is None
        except KafkaException:
            pass
        finally:
            self._asking = False

    # -- to disk
    def write(self, events: Sequence[Spooled]) -> str | None:
        """Writes events and syncs them. Returns why it could not: then none of them is on disk."""
        try:
            self.folder.write(events)
        except (SpoolFull, OSError, ValueError) as e:
            problem = f"not spooled: {e}"
            self._say(problem, "%d events could not be spooled: %s", len(events), e)
            return problem
        return None

    def _say(self, problem: str, text: str, *arguments: object) -> None:
        now = self._clock()
        if now - self._said.get(problem, -_AGAIN) >= _AGAIN:
            self._said = {problem: now}
            log.error(text, *arguments)

    # -- from disk
    def send(self, produce: Callable[[Spooled, OnLanded], None]) -> None:
        """Sends what is on disk, as far as the producer takes it.

        Args:
            produce: Hands an event to the producer, with what is called with the outcome. Raises
                BufferError if its queue is full, and KafkaException if it refuses.
        """
        for problem, times in self._refusals.items():
            self._say(problem, "gave up %d spooled events that Kafka refuses: %s", times, problem)
        self._refusals = {}
        if self._taken is not None and self._stopped and not self._outstanding:
            self._taken.close()
            self._taken, self._next_look = None, self._clock() + _PROBE
        if self.down:
            self._stopped = self._taken is not None
            return
        while (self._taken is not None and not self._stopped) or self._take():
            try:
                while self._outstanding < _WINDOW:
                    event = self._next = self._next or next(self._events, None)
                    if event is None:
                        break
                    produce(event, self._landed)
                    self._outstanding, self._next = self._outstanding + 1, None
            except BufferError:
                return
            except OSError as e:  # the disk: what Kafka has acknowledged of this file is sent again
                self._say(f"read: {e}", "spooled events cannot be read: %s", e)
                self._stopped, self._events = True, iter(())
                return
            except KafkaException as e:
                self._refused(e.args[0])
                self._next = None
                if self._stopped:
                    return
                continue
            if self._next is not None or self._outstanding:
                return
            assert self._taken is not None
            log.info("sent the events in %s", self._taken.path)
            self._taken.remove()
            self._taken = None

    def _take(self) -> bool:
        """Takes the next file; False if there is none, or it is not time to look."""
        now = self._clock()
        if self._taken is not None or now < self._next_look:
            return False
        for taken in self.folder.take(self._now()):
            age = self._now() - taken.written_at
            if age > self._max_age:
                lost = sum(1 for _ in taken.events())
                log.error(
                    "gave up %d spooled events in %s: they are %.0f h old (publisher.spool_max_age_hours)",
                    lost,
                    taken.path,
                    age / 3600,
                )
                taken.remove()
                continue
            self._taken, self._events, self._next, self._stopped = taken, taken.events(), None, False
            return True
        self._next_look = now + _LOOK
        return False

    def _landed(self, error: KafkaError | None, message: Message | None) -> None:
        self._outstanding -= 1
        if error is None:
            self.acknowledged = True
        else:
            self._refused(error)

    def _refused(self, error: KafkaError) -> None:
        if error.code() in _LATER:
            self._stopped = True
        else:
            # it is logged later: this may run in librdkafka's callback
            self._refusals[error.str()] = self._refusals.get(error.str(), 0) + 1

    # -- the end
    def close(self) -> None:
        """Closes the files: what is on disk stays for the next process."""
        self.folder.end()
        if self._taken is not None:
            self._taken.close()
            self._taken = None
