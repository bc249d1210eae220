"""Fetches schemas from a registry in its own thread, so that readers that miss one are not blocked."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from tailrace.codec import writer_schemas as foreign
from tailrace.codec.schemas import MARKER, Known, Resolver, id_frame
from tailrace.errors import DecodeError, RegistryRefused, RegistryUnavailable
from tailrace.schema_registry.cache import Cache
from tailrace.schema_registry.client import Registered
from tailrace.schema_registry.fetch_policy import FetchPolicy

log: Final = logging.getLogger("tailrace.schema_registry")

MAX_ID: Final = (1 << 31) - 1
"""Largest schema id that is requested.

Registries use signed 32-bit integers; some answer larger ids like a server that is not a registry.
"""


class RegistryApi(Protocol):
    """The registry's methods that the fetcher uses (`Client`)."""

    def schema(self, schema_id: int) -> Registered | None: ...
    def versions(self, subject: str) -> list[int]: ...
    def version(self, subject: str, version: int) -> Registered | None: ...


def learn(resolver: Resolver, text: str, schema_id: int | None = None) -> Known | DecodeError:
    """Adds a schema to a resolver, by its fingerprint and by its id in a registry.

    Args:
        resolver: Where the schema, or the reason why it cannot be read, is added.
        text: The schema as JSON.
        schema_id: Its id in the registry; None: it is from a file.

    Returns:
        The schema, or why it cannot be read.
    """
    entry: Known | DecodeError
    try:
        entry = Known(*foreign.adopted(text))
    except DecodeError as e:
        entry = DecodeError(e.reason, e.detail if schema_id is None else f"schema id {schema_id}: {e.detail}")
    if schema_id is not None:
        resolver.add(id_frame(schema_id), entry)
    try:
        resolver.add(MARKER + foreign.fingerprint(text), entry)
    except DecodeError:
        pass  # not an Avro schema, so it has no fingerprint
    return entry


class SchemaFetcher:
    """Fetches schemas from one registry for a resolver. Thread-safe.

    `want` never blocks. A fetched schema is added to the resolver and to the disk cache, and stays there.
    The thread starts with the first request.
    """

    def __init__(
        self,
        client: RegistryApi,
        cache: Cache,
        resolver: Resolver,
        subject: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            client: The registry.
            cache: The cache on disk.
            resolver: Where schemas are added.
            subject: The subject of the events. A fingerprint is searched among its versions.
            clock: Monotonic seconds.
        """
        self._client, self._cache, self._resolver = client, cache, resolver
        self._subject, self._clock = subject, clock
        self._asking = FetchPolicy()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._seen: set[int] = set()
        """Versions of the subject that were already read."""
        self._warned_away = False

    def load(self) -> None:
        """Adds the schemas of the disk cache to the resolver."""
        for schema_id, text in self._cache.schemas():
            learn(self._resolver, text, schema_id)

    def want(self, frame: bytes) -> None:
        """Requests the schema of a frame. Does not block."""
        with self._changed:
            if self._closed or not self._asking.want(frame, self._clock()):
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tailrace-registry", daemon=True)
                self._thread.start()
            self._changed.notify()

    def denied(self, frame: bytes) -> bool:
        """Whether waiting longer is useless: the registry answers, and has no such schema."""
        with self._changed:
            return self._asking.denied(frame)

    def asked(self, frame: bytes) -> bool:
        """Whether an answer is expected soon."""
        with self._changed:
            return self._asking.asked(frame, self._clock())

    def close(self) -> None:
        """Stops fetching. Waits for the request in flight."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                frame, wait = self._asking.next(self._clock())
                if self._closed:
                    return
                if frame is None:
                    self._changed.wait(wait)
                    continue
            try:
                self.ask(frame)
            except Exception:
                log.exception("the schema %s cannot be fetched because of a bug", frame.hex())
                self._away(frame, "an internal error")

    def ask(self, frame: bytes) -> None:
        """Looks for one schema, once, on disk and in the registry. Blocks until its requests have ended."""
        try:
            if frame[:1] == b"\0":
                self._by_id(int.from_bytes(frame[1:], "big"))
            else:
                self._by_fingerprint(frame)
        except RegistryRefused as e:
            if e.status in (401, 403) or e.code == 0:
                self._away(frame, str(e))
                return
            log.debug("schema %s: %s", frame.hex(), e)  # the registry refuses this id
        except RegistryUnavailable as e:
            self._away(frame, str(e))
            return
        if self._warned_away:
            log.info("the schema registry answers again")
            self._warned_away = False
        with self._changed:
            if self._resolver.knows(frame):
                self._asking.found(frame)
            else:
                self._asking.absent(frame, self._clock())

    def _away(self, frame: bytes, why: str) -> None:
        with self._changed:
            wait = self._asking.away(frame, self._clock())
        if not self._warned_away:
            log.warning("%s; requests are repeated, the first one in %.2g s", why, wait)
            self._warned_away = True

    def _by_id(self, schema_id: int) -> None:
        if schema_id > MAX_ID:
            return
        text = self._cache.schema(schema_id)
        if text is None:
            registered = self._client.schema(schema_id)
            if registered is None:
                return
            self._learn(registered)
        else:
            learn(self._resolver, text, schema_id)

    def _by_fingerprint(self, frame: bytes) -> None:
        for version in sorted(set(self._client.versions(self._subject)) - self._seen, reverse=True):
            registered = self._client.version(self._subject, version)
            if registered is not None:
                self._learn(registered)
            self._seen.add(version)
            if self._resolver.knows(frame):
                return

    def _learn(self, registered: Registered) -> None:
        if registered.unusable:
            error = DecodeError("unreadable_schema", f"schema id {registered.id} {registered.unusable}")
            self._resolver.add(id_frame(registered.id), error)
            return
        self._cache.keep(registered.id, registered.schema)
        known = learn(self._resolver, registered.schema, registered.id)
        if isinstance(known, DecodeError):
            log.warning("%s", known.detail)
        else:
            log.info("schema id %d of the registry is a %s", registered.id, known.name)
