"""Fetches content from the store in threads of its own, for all sinks of a process."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Protocol

from connectors.content.refs import DAMAGED, LATE, MISSING, UNREACHABLE
from connectors.content.waits import StoreWaitPolicy
from tailrace.content_store.store import open_store
from tailrace.errors import ContentDamaged, ContentMissing, ContentUnreachable
from tailrace.settings import Content

log: Final = logging.getLogger("tailrace.connect.content")

READERS: Final = 8
"""Requests to the store at a time. A request that hangs occupies one of them until the store answers."""
RETRY: Final = 0.5
"""Seconds until a request without an answer is made again."""
SAY_EVERY: Final = 60.0
"""Seconds between two outages that the log speaks of."""

Key = tuple[str | None, str, int]
"""Tenant, hash and bytes."""


class Store(Protocol):
    """The methods of a `ContentStore` that the fetcher uses. They block, and may be called by threads."""

    def get(self, tenant_id: str | None, hash: str, most: int | None = None) -> bytes: ...


class Fetch:
    """One request to the store, shared by all records that need the same content."""

    __slots__ = ("began", "data", "flying", "key", "reason", "retry_at", "until")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.data: bytes | None = None
        """The content, once it is here."""
        self.reason: str | None = None
        """Why it did not come: missing and damaged are final, unreachable is tried again."""
        self.flying = False
        """Whether it waits for a reader or for the store."""
        self.began = self.retry_at = self.until = 0.0

    @property
    def final(self) -> bool:
        """Whether the store has said all that it will say."""
        return self.data is not None or self.reason in (MISSING, DAMAGED)


class ContentFetcher:
    """The content that records refer to, with a bounded cache. Thread-safe; no method blocks.

    Requests for the same content are made once. Threads are daemons: a store that hangs does not keep a
    process from ending.
    """

    def __init__(
        self,
        store: Store,
        *,
        seconds: float,
        cache_bytes: int,
        most: int,
        readers: int = READERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            store: The content store.
            seconds: How long a record waits for its content; the setting content.rehydrate_seconds.
            cache_bytes: Bytes of content to keep; the setting content.cache_bytes. Content that records wait
                for is kept in addition, until they are mapped.
            most: Bytes of content that one record gets back at most; the setting content.max_bytes.
            readers: Requests at a time.
            clock: Monotonic seconds.
        """
        self._store, self._cache_bytes, self._readers, self._clock = store, cache_bytes, readers, clock
        self.most = most
        self._waits = StoreWaitPolicy(seconds)
        self._wakes: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._flying: dict[Key, Fetch] = {}
        self._cache: OrderedDict[Key, bytes] = OrderedDict()
        self._cached = 0
        self._queue: deque[Fetch] = deque()
        self._threads = 0
        self._free = 0  # readers that wait for work
        self._said_at: float | None = None  # when the log spoke of an outage
        self._said = False  # whether it speaks of its end
        self._closed = False

    def listen(self, wake: Callable[[], None]) -> None:
        """Has `wake` called, by any thread, whenever the store has answered."""
        with self._lock:
            self._wakes = (*self._wakes, wake)

    def until(self, now: float) -> float:
        """Until when a record that asks at `now` waits for all of its content."""
        with self._lock:
            return self._waits.until(now)

    def fetch(self, key: Key, now: float, until: float) -> Fetch:
        """Content from the cache, or requested from the store.

        Args:
            key: What the reference names.
            now: Monotonic seconds.
            until: How long the record waits. If that is in the past, nothing is requested.
        """
        with self._lock:
            data = self._cache.get(key)
            if data is not None:
                self._cache.move_to_end(key)
                found = Fetch(key)
                found.data = data
                return found
            found = self._flying.get(key) or Fetch(key)
            found.until = max(found.until, until)
            if now < until:
                self._request(found, now)
            return found

    def again(self, fetch: Fetch, now: float) -> None:
        """Repeats a request that had no answer, if it is time for that."""
        if fetch.final or fetch.flying or not fetch.retry_at <= now < fetch.until:
            return
        with self._lock:
            self._request(fetch, now)

    def late(self, fetch: Fetch) -> str:
        """Takes a fetch whose record does not wait longer. Returns why its content did not come."""
        with self._lock:
            if fetch.began and self._waits.failed(fetch.began):
                self._say_down("a request has had no answer in time")
            return fetch.reason or (LATE if fetch.began else UNREACHABLE)

    def _request(self, fetch: Fetch, now: float) -> None:
        if fetch.flying:
            return
        fetch.flying, fetch.began = True, fetch.began or now
        self._flying[fetch.key] = fetch
        self._queue.append(fetch)
        self._work.notify()
        if self._free < len(self._queue) and self._threads < self._readers:
            self._threads += 1
            threading.Thread(target=self._read, name=f"tailrace-content-{self._threads}", daemon=True).start()

    def _read(self) -> None:
        while True:
            with self._work:
                self._free += 1
                while not self._queue and not self._closed:
                    self._work.wait()
                self._free -= 1
                if self._closed:
                    return
                fetch = self._queue.popleft()
                if self._clock() >= fetch.until:  # nobody waits for it
                    self._landed(fetch)
                    continue
            self._one(fetch)

    def _one(self, fetch: Fetch) -> None:
        data: bytes | None = None
        reason, detail = None, ""
        try:
            tenant_id, name, size = fetch.key
            data = self._store.get(tenant_id, name, size)
        except ContentMissing:
            reason = MISSING
        except ContentDamaged:
            reason = DAMAGED
        except Exception as e:  # of any file system
            reason, detail = UNREACHABLE, _shown(e)
        with self._lock:
            now = self._clock()
            fetch.data, fetch.reason = data, reason
            fetch.retry_at = now + RETRY
            if reason == UNREACHABLE:
                if self._waits.failed(fetch.began):
                    self._say_down(detail)
            elif self._waits.answered(now) and self._said:
                self._said = False
                log.warning("the content store answers again")
            if data is not None:
                self._keep(fetch.key, data)
            self._landed(fetch)
        for wake in self._wakes:
            wake()

    def _landed(self, fetch: Fetch) -> None:
        fetch.flying = False
        if self._flying.get(fetch.key) is fetch:
            del self._flying[fetch.key]

    def _keep(self, key: Key, data: bytes) -> None:
        if len(data) > self._cache_bytes:
            return
        self._cached += len(data) - len(self._cache.pop(key, b""))
        self._cache[key] = data
        while self._cached > self._cache_bytes:
            self._cached -= len(self._cache.popitem(last=False)[1])

    @property
    def cached(self) -> int:
        """Bytes in the cache."""
        return self._cached

    def close(self) -> None:
        """Ends the threads that wait for work. Does not wait for requests in flight."""
        with self._work:
            self._closed = True
            self._work.notify_all()

    def _say_down(self, detail: str) -> None:
        now = self._clock()
        if self._said_at is not None and now - self._said_at < SAY_EVERY:
            return
        self._said_at, self._said = now, True
        log.error(
            "the content store does not answer: %s. Records go on, marked, without the content that is "
            "stored there (content.store, content.rehydrate_seconds)",
            detail,
        )


def open_fetcher(settings: Content) -> ContentFetcher | None:
    """The fetcher of a process; None if content.store is not set. Nothing is asked of the store yet.

    Raises:
        ConfigError: The store's settings are not valid.
        MissingPackage: A package is not installed.
    """
    if not settings.store:
        return None
    return ContentFetcher(
        open_store(settings),
        seconds=settings.rehydrate_seconds,
        cache_bytes=settings.cache_bytes,
        most=settings.max_bytes,
    )


def _shown(error: Exception) -> str:
    """An error without its text, which may hold a URL with credentials; `ContentStore` masks those itself."""
    if isinstance(error, ContentUnreachable):
        return str(error)
    said = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}{f': {said}' if isinstance(said, str) else ''}"
