"""Under which subject our schema is registered, and with which id values are written."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Final, Protocol

from tailrace.codec import schemas
from tailrace.errors import ConfigError, RegistryRefused, RegistryUnavailable
from tailrace.schema_registry.cache import Cache, folder
from tailrace.schema_registry.client import LEVEL, Client
from tailrace.schema_registry.fetch_policy import AWAY_SECONDS
from tailrace.settings import Settings
from tailrace.topics import TopicNames

log: Final = logging.getLogger("tailrace.schema_registry")

RECORD: Final = "TraceEvent"


class Subjects(Protocol):
    """What is asked of a registry (`Client`)."""

    def versions(self, subject: str) -> list[int]: ...
    def lookup(self, subject: str, schema: str) -> int | None: ...
    def register(self, subject: str, schema: str) -> int: ...
    def level(self, subject: str) -> str | None: ...
    def set_level(self, subject: str, level: str) -> None: ...


def subject_of(settings: Settings) -> str:
    """Of the values of trace.events: `<topic>-value`."""
    return f"{TopicNames.of(settings.topics).events}-value"


def text_of(name: str = RECORD) -> str:
    """The current schema of a record as it is registered: always the same text."""
    return json.dumps(schemas.current(name), separators=(",", ":"))


def ensure(client: Subjects, subject: str, auto_register: bool) -> int:
    """The id of our schema under the subject, registered there if need be. A subject that is made here gets
    FULL_TRANSITIVE; of one that is there already the level is its owner's, and said if it is another one.

    Raises `ConfigError` that names the subject and the fix, `RegistryUnavailable`, `RegistryRefused`
    (credentials)."""
    text = text_of()
    found = client.lookup(subject, text)
    if found is not None:
        return found
    if not auto_register:
        raise ConfigError(
            f"registry.auto_register is false, and subject {subject} does not have this version's schema of "
            f"{RECORD}: "
            "run `tailrace schemas register`, or set registry.auto_register"
        )
    first = not client.versions(subject)
    if first:
        client.set_level(subject, LEVEL)
    elif (level := client.level(subject)) != LEVEL:
        log.warning("subject %s has compatibility %s; set it to %s", subject, level, LEVEL)
    try:
        found = client.register(subject, text)
    except RegistryRefused as e:
        if e.status not in (409, 422):
            raise
        raise ConfigError(
            f"subject {subject} does not take this version's schema of {RECORD}: {e}. `tailrace schemas "
            "check` says what is wrong"
        ) from None
    if first and client.level(subject) != LEVEL:
        client.set_level(subject, LEVEL)  # some registries keep no level before there is a version
    log.info("registered the schema of %s under %s as id %d", RECORD, subject, found)
    return found


class Framing:
    """What a publisher writes before a value: the registry's id of our schema. While the registry has not
    told it, values are single objects, which readers take just as well, and a thread asks again.

    frame: None is the single object's. Raises `ConfigError` where asking again would not help.
    """

    def __init__(self, settings: Settings, client: Subjects | None = None) -> None:
        self.frame: bytes | None = None
        self._registry, self._subject = settings.registry, subject_of(settings)
        self._client: Subjects = client or Client(settings.registry)
        self._cache = Cache(folder(settings.registry.cache_dir, settings.registry.url))
        self._fingerprint = schemas.fingerprint(schemas.current(RECORD))
        try:
            self._ask()
        except RegistryUnavailable as e:
            self.frame = self._remembered()
            how = "writes the id it had" if self.frame else "writes single objects until it answers"
            log.warning("%s; the publisher %s", e, how)
        except RegistryRefused as e:
            raise ConfigError(str(e)) from None

    def keep_asking(self, stop: threading.Event) -> None:
        """Until the registry has told the id, or `stop` is set; from a thread that starts here. Again in a
        forked child."""
        if self.frame is None:
            threading.Thread(
                target=self._until_told, args=(stop.wait,), name="tailrace-registry", daemon=True
            ).start()

    def _ask(self) -> None:
        found = ensure(self._client, self._subject, self._registry.auto_register)
        self._cache.keep(found, text_of())
        self._cache.keep_written_as(self._subject, self._fingerprint, found)
        self.frame = schemas.id_frame(found)

    def _remembered(self) -> bytes | None:
        found = self._cache.written_as(self._subject, self._fingerprint)
        return None if found is None else schemas.id_frame(found)

    def _until_told(self, wait: Callable[[float], bool]) -> None:
        tries = 0
        while self.frame is None and not wait(AWAY_SECONDS[min(tries, len(AWAY_SECONDS) - 1)]):
            tries += 1
            try:
                self._ask()
                log.info("the schema registry answers: values are written with its schema id from now on")
            except RegistryUnavailable:
                continue
            except Exception as e:  # a setting is wrong: nothing is lost by single objects
                log.error("%s; the publisher goes on with single objects", e)
                return
