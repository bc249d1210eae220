"""Events of a publisher whose content is being stored: in flight, in their order, and never for too long."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from tailrace import greenlets
from tailrace.content_store import claims
from tailrace.content_store.claims import Blob, Claimed, Large
from tailrace.content_store.store import ContentStore, is_folder, open_store
from tailrace.delivery_reports import InFlight, OnDelivery
from tailrace.errors import ContentUnreachable, EventTooLarge
from tailrace.records import ChangeKind
from tailrace.settings import Settings
from tailrace.waiting_records import Record

log: Final = logging.getLogger("tailrace.publisher")

THREADS: Final = 4
"""Threads that write to the store at once. Each ends when nothing waits."""
_AGAIN: Final = 0.5
"""Seconds after a failed write until the store is tried again, with one event."""
_CUTS: Final = 4
"""Events that are cut in a turn of the delivery thread."""
FRESH: Final = 1800.0
"""Seconds for which content that was stored is not stored again. A sweep goes by when it was."""
_REMEMBERED: Final = 10_000
"""Hashes that are remembered as stored."""


class Puts(Protocol):
    """The part of a `ContentStore` that a stage uses."""

    def put(self, tenant_id: str | None, data: bytes) -> str: ...


class _Job:
    """An event on its way through the stage."""

    __slots__ = (
        "deadline",
        "error",
        "event_id",
        "key",
        "large",
        "listener",
        "number",
        "size",
        "taken",
        "value",
    )

    def __init__(
        self, number: int, event_id: str, listener: OnDelivery | None, key: bytes | None, size: int
    ) -> None:
        self.number, self.event_id, self.listener = number, event_id, listener
        self.key, self.size = key, size
        self.large: Large | None = None
        self.value: bytes | None = None
        """The record's value, once it may be produced."""
        self.error = ""
        """Why there is no record."""
        self.taken = False
        """Whether its outcome is decided; what a thread still does for it is for nothing."""
        self.deadline = 0.0


class Stage:
    """Where events wait until their content is stored, and events of the same key behind them.

    Safe in threads and greenlets. Its threads are the operating system's, start when there is something to
    write, and neither log nor call the application.

    Args:
        settings: its sections `content` and `publisher`.
        in_flight: where events are counted.
        submit: hands a record to Kafka or to those that wait for it. Called with a lock held: must not wait.
        failed: told of an event that has no record, with why. As `submit`.
        clock: seconds, which never go back.
        opened: makes the store, in a thread.
    """

    def __init__(
        self,
        settings: Settings,
        in_flight: InFlight,
        submit: Callable[[Record], None],
        failed: Callable[[Record, str], None],
        clock: Callable[[], float] = time.monotonic,
        opened: Callable[[], Puts] | None = None,
    ) -> None:
        self._content = settings.content
        self._most_events = settings.publisher.queue_max_events
        self._in_flight, self._submit, self._failed, self._clock = in_flight, submit, failed, clock
        self._opened = opened or self._open
        self._store: Puts | None = None
        self._lock = greenlets.real_lock()
        self._queues: dict[object, deque[_Job]] = {}
        """Kafka key -> its events that wait, in their order."""
        self._jobs: dict[int, _Job] = {}
        """Those that have no value yet, oldest first."""
        self._pending: deque[_Job] = deque()
        self._running = 0
        self._bytes = self._events = 0
        self._written: dict[tuple[str | None, str], float] = {}
        self._problem = ""
        """Why the store took nothing the last time; empty: it did."""
        self._again = 0.0
        """When it is tried again then."""
        self._reason = ""
        """Why an event was cut last."""
        self._said = self._ended = False
        self._lost = 0
        """Events that were cut since the log said that the store works."""
        self._green = greenlets.threads_are_greenlets()

    @property
    def busy(self) -> bool:
        """Whether an event is here. If not, others need not come here."""
        return bool(self._queues)

    def count(self) -> int:
        """How many events are here."""
        return self._events

    def refuses(self, key: bytes | None, value: bytes | Large) -> bool:
        """Whether `offer` has no room for an event now."""
        if isinstance(value, bytes):
            return key is not None and key in self._queues and self._full(len(value))
        return self._full(value.size)

    # -- for the publisher
    def offer(
        self, event_id: str, key: bytes | None, value: bytes | Large, listener: OnDelivery | None
    ) -> bool | None:
        """Takes a large event, or one that must not overtake another one of its key.

        Args:
            event_id: for the report.
            key: the record's key.
            value: the record's value, or what it is made of.
            listener: called with the report.

        Returns:
            None if the event need not wait here; False if there is no room.

        Raises:
            PublisherClosed: `close` was called before.
        """
        size = len(value) if isinstance(value, bytes) else value.size
        while self._problem and self._full(size) and self._cut_first(self._problem):
            pass
        with self._lock:
            if isinstance(value, bytes) and (key is None or key not in self._queues):
                return None
            if self._full(size):
                return False
            job = _Job(self._in_flight.add(event_id), event_id, listener, key, size)
            queue: object = key if key is not None else job
            self._queues.setdefault(queue, deque()).append(job)
            self._bytes += size
            self._events += 1
            if isinstance(value, bytes):
                job.value, job.taken = value, True
            else:
                job.large, job.deadline = value, self._clock() + self._content.timeout_seconds
                self._jobs[job.number] = job
                self._pending.append(job)
        self._start()
        return True

    def _full(self, size: int) -> bool:
        if self._events == 0:
            return False
        return self._bytes + size > self._content.queue_bytes or self._events >= self._most_events

    # -- in the delivery thread
    def turn(self) -> None:
        """Cuts what has waited too long, tries again what is due, and logs what there is to say."""
        late = f"it did not answer within {self._content.timeout_seconds:g} s (content.timeout_seconds)"
        now = self._clock()
        for _ in range(_CUTS):
            if not self._cut_first(late, now):
                break
            self._problem = self._problem or late
        self._start()
        self._say()

    def give_up(self) -> int:
        """Cuts all events that are here: nothing waits for the store any more. Returns how many."""
        count, self._ended = 0, True
        while self._cut_first("it has not taken it yet"):
            count += 1
        if count:
            log.error(
                "%d events are published with their content cut, since the publisher ends before the content "
                "store has it: %s",
                count,
                self._reason,
            )
        return count

    def _say(self) -> None:
        if self._ended:
            return
        if self._lost and not self._said:
            self._said = True
            log.error(
                "events are published with their content cut, until the content store works: %s", self._reason
            )
        elif self._said and not self._problem and not self._jobs:
            log.warning("the content store works again: %d events had their content cut", self._lost)
            self._said, self._lost = False, 0

    def _cut_first(self, reason: str, now: float | None = None) -> bool:
        """Cuts the content of the event that waits for the store longest.

        Args:
            reason: why, if the store has said nothing.
            now: only if its deadline is over by then.

        Returns:
            False if there is none.
        """
        with self._lock:
            job = next(iter(self._jobs.values()), None)
            if job is None or (now is not None and job.deadline > now):
                return False
            self._take(job)
        self._cut(job, self._problem or reason)
        return True

    def _take(self, job: _Job) -> None:
        """Decides an event's outcome: nobody else will. With the lock."""
        del self._jobs[job.number]
        job.taken = True

    def _cut(self, job: _Job, reason: str) -> None:
        """Hands on an event that was taken, without the store."""
        large, value, error = job.large, b"", ""
        assert large is not None
        try:
            event, _, value = claims.cut(large)
        except Exception as e:
            error = f"its content was not stored, and it is too large: {str(e)[:500]}"
        else:
            if all(c.change != ChangeKind.CUT for c in large.event.content_changes):
                self._in_flight.changed([c for c in event.content_changes if c.change == ChangeKind.CUT])
            self._in_flight.not_stored()
        with self._lock:
            self._lost += 1
            self._reason = reason
        self._done(job, value, error)

    def _done(self, job: _Job, value: bytes, error: str = "") -> None:
        """Hands on an event, and those behind it that need not wait any more."""
        job.large = None
        with self._lock:
            job.value, job.error = value, error
            key: object = job.key if job.key is not None else job
            queue = self._queues[key]
            while queue and (done := queue[0].value) is not None:
                first = queue.popleft()
                self._bytes -= first.size
                self._events -= 1
                record = Record(first.number, first.event_id, first.listener, first.key, done)
                if first.error:
                    self._failed(record, first.error)
                else:
                    self._submit(record)
            if not queue:
                del self._queues[key]

    # -- in its threads
    def _start(self) -> None:
        """Starts threads for what waits."""
        with self._lock:
            count = max(0, min(self._threads() - self._running, len(self._pending)))
            self._running += count
        for _ in range(count):
            try:
                greenlets.in_real_thread(self._work)
            except RuntimeError:  # the interpreter ends
                with self._lock:
                    self._running -= 1

    def _threads(self) -> int:
        """How many may run. While the store takes nothing, one event is tried, and not all are encoded."""
        if not self._problem:
            return THREADS
        return 1 if self._clock() >= self._again else 0

    def _next(self) -> _Job | None:
        with self._lock:
            while self._pending and self._threads():
                job = self._pending.popleft()
                if not job.taken:
                    return job
            self._running -= 1
            return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                claimed = self._stored(job)
            except EventTooLarge as e:
                self._give_up(job, str(e))
                continue
            except Exception as e:
                with self._lock:
                    self._problem = str(e)[:1000] or type(e).__name__
                    self._again = self._clock() + _AGAIN
                    self._pending.append(job)
                    self._running -= 1
                return
            with self._lock:
                if job.taken or claimed is None:
                    continue
                self._take(job)
            if claimed.blobs:  # else a text that only looked as if it had a medium
                self._in_flight.stored()
            self._done(job, claimed.value)

    def _give_up(self, job: _Job, reason: str) -> None:
        """Cuts an event that does not fit, though its content is stored."""
        with self._lock:
            if job.taken:
                return
            self._take(job)
        self._cut(job, reason)

    def _open(self) -> ContentStore:
        if self._green and not is_folder(self._content.store):
            raise ContentUnreachable("content.store: with gevent or eventlet it must be a folder, not a URL")
        return open_store(self._content)

    def _stored(self, job: _Job) -> Claimed | None:
        """Stores an event's content; None if its outcome was decided meanwhile."""
        large = job.large
        if large is None:
            return None
        claimed = claims.claimed(large)
        tenant = large.event.tenant_id or None
        for blob in self._to_write(tenant, claimed):
            if self._store is None:
                self._store = self._opened()
            self._store.put(tenant, blob.data)
            self._remember(tenant, blob.hash)
            self._problem = ""
        return claimed

    def _to_write(self, tenant: str | None, claimed: Claimed) -> Iterator[Blob]:
        for blob in claimed.blobs:
            written = self._written.get((tenant, blob.hash))
            if written is None or self._clock() - written > FRESH:
                yield blob

    def _remember(self, tenant: str | None, hash: str) -> None:
        if len(self._written) >= _REMEMBERED:
            self._written.clear()
        self._written[tenant, hash] = self._clock()
