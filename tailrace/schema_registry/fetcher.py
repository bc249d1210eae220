"""Looks for schemas in a registry, in a thread of its own: who misses one says so, and goes on."""

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
"""Registries number with a signed 32-bit integer; some answer larger ones as if they were no registry."""


class RegistryApi(Protocol):
    """What is asked of a registry (`Client`)."""

    def schema(self, schema_id: int) -> Registered | None: ...
    def versions(self, subject: str) -> list[int]: ...
    def version(self, subject: str, version: int) -> Registered | None: ...


def learn(resolver: Resolver, text: str, schema_id: int | None = None) -> Known | DecodeError:
    """Makes a schema known, by its fingerprint and by a registry's id. Returns what it is, or why it cannot
    be read, which is known from then on too."""
    found: Known | DecodeError
    try:
        found = Known(*foreign.adopted(text))
    except DecodeError as e:
        found = DecodeError(e.reason, e.detail if schema_id is None else f"schema id {schema_id}: {e.detail}")
    if schema_id is not None:
        resolver.add(id_frame(schema_id), found)
    try:
        resolver.add(MARKER + foreign.fingerprint(text), found)
    except DecodeError:
        pass  # not even Avro: nothing can name it by a fingerprint
    return found


class SchemaFetcher:
    """One registry, for a resolver. `want` never blocks; what is found is known to the resolver, and on disk,
    for good.

    subject: of the events; a fingerprint is looked for among its versions. The thread starts when something
    is wanted."""

    def __init__(
        self,
        client: RegistryApi,
        cache: Cache,
        resolver: Resolver,
        subject: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._cache, self._resolver, self._subject, self._clock = (
            client,
            cache,
            resolver,
            subject,
            clock,
        )
        self._asking = FetchPolicy()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._seen: set[int] = set()
        """Versions of the subject that were read."""
        self._said_away = False

    def load(self) -> None:
        """Makes known what is on disk."""
        for schema_id, text in self._cache.schemas():
            learn(self._resolver, text, schema_id)

    def want(self, frame: bytes) -> None:
        with self._changed:
            if self._closed or not self._asking.want(frame, self._clock()):
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tailrace-registry", daemon=True)
                self._thread.start()
            self._changed.notify()

    def denied(self, frame: bytes) -> bool:
        """Whether it is of no use to wait longer: the registry is there, and has no such schema."""
        with self._changed:
            return self._asking.denied(frame)

    def asked(self, frame: bytes) -> bool:
        """Whether an answer is about to come."""
        with self._changed:
            return self._asking.asked(frame, self._clock())

    def close(self) -> None:
        """Looks for nothing any more; waits for a request that is under way."""
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
                log.exception("looking for schema %s", frame.hex())
                self._away(frame, "an error of ours")

    def ask(self, frame: bytes) -> None:
        """One look for one schema, on disk and in the registry. Blocks as long as its requests do."""
        try:
            self._by_id(int.from_bytes(frame[1:], "big")) if frame[:1] == b"\0" else self._by_fingerprint(
                frame
            )
        except RegistryRefused as e:
            if e.status in (401, 403) or e.code == 0:
                self._away(frame, str(e))
                return
            log.debug("schema %s: %s", frame.hex(), e)  # of this one it says that it is no id
        except RegistryUnavailable as e:
            self._away(frame, str(e))
            return
        if self._said_away:
            log.info("the schema registry answers again")
            self._said_away = False
        with self._changed:
            if self._resolver.knows(frame):
                self._asking.found(frame)
            else:
                self._asking.absent(frame, self._clock())

    def _away(self, frame: bytes, why: str) -> None:
        with self._changed:
            wait = self._asking.away(frame, self._clock())
        if not self._said_away:
            log.warning("%s; trying again, in %.2g s first", why, wait)
            self._said_away = True

    def _by_id(self, schema_id: int) -> None:
        if schema_id > MAX_ID:
            return
        text = self._cache.schema(schema_id)
        if text is None:
            found = self._client.schema(schema_id)
            if found is None:
                return
            self._learn(found)
        else:
            learn(self._resolver, text, schema_id)

    def _by_fingerprint(self, frame: bytes) -> None:
        for version in sorted(set(self._client.versions(self._subject)) - self._seen, reverse=True):
            found = self._client.version(self._subject, version)
            if found is not None:
                self._learn(found)
            self._seen.add(version)
            if self._resolver.knows(frame):
                return

    def _learn(self, found: Registered) -> None:
        if found.unusable:
            self._resolver.add(
                id_frame(found.id), DecodeError("unreadable_schema", f"schema id {found.id} {found.unusable}")
            )
            return
        self._cache.keep(found.id, found.schema)
        known = learn(self._resolver, found.schema, found.id)
        if isinstance(known, DecodeError):
            log.warning("%s", known.detail)
        else:
            log.info("schema id %d of the registry is a %s", found.id, known.name)
