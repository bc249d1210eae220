"""Registers our schema under its subject, and provides the schema id with which values are written."""

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
    """The registry's methods that are used here (`Client`)."""

    def versions(self, subject: str) -> list[int]: ...
    def lookup(self, subject: str, schema: str) -> int | None: ...
    def register(self, subject: str, schema: str) -> int: ...
    def level(self, subject: str) -> str | None: ...
    def set_level(self, subject: str, level: str) -> None: ...


def subject_of(settings: Settings) -> str:
    """The subject of the values of `trace.events`: `<topic>-value`."""
    return f"{TopicNames.of(settings.topics).events}-value"


def text_of(name: str = RECORD) -> str:
    """The current schema of a record as the text that is registered; always the same text."""
    return json.dumps(schemas.current(name), separators=(",", ":"))


def ensure(client: Subjects, subject: str, auto_register: bool) -> int:
    """The id of our schema under a subject. Registers the schema if it is not there.

    A subject that this creates gets the compatibility level `LEVEL`. The level of an existing subject is
    not changed; another level is logged.

    Args:
        client: The registry.
        subject: The subject.
        auto_register: Whether the schema may be registered.

    Raises:
        ConfigError: The schema is not registered and may not be, or the subject does not accept it.
        RegistryUnavailable: The registry does not answer.
        RegistryRefused: The registry refuses the request, e.g. because of the credentials.
    """
    text = text_of()
    schema_id = client.lookup(subject, text)
    if schema_id is not None:
        return schema_id
    if not auto_register:
        raise ConfigError(
            f"registry.auto_register is false, and subject {subject} does not have this version's schema of "
            f"{RECORD}: run `tailrace schemas register`, or set registry.auto_register = true"
        )
    first = not client.versions(subject)
    if first:
        client.set_level(subject, LEVEL)
    elif (level := client.level(subject)) != LEVEL:
        log.warning("subject %s has compatibility %s; set it to %s", subject, level, LEVEL)
    try:
        schema_id = client.register(subject, text)
    except RegistryRefused as e:
        if e.status not in (409, 422):
            raise
        raise ConfigError(
            f"subject {subject} does not accept this version's schema of {RECORD}: {e}. Run `tailrace "
            "schemas check` to see what is wrong"
        ) from None
    if first and client.level(subject) != LEVEL:
        client.set_level(subject, LEVEL)  # some registries store no level for a subject without a version
    log.info("registered the schema of %s under %s as id %d", RECORD, subject, schema_id)
    return schema_id


class Framing:
    """The frame that a publisher writes before a value, with the registry's id of our schema.

    Until the id is known, values are written in single-object encoding, which readers can read as well.
    """

    def __init__(self, settings: Settings, client: Subjects | None = None) -> None:
        """Makes one request to the registry. Blocks until it has ended.

        Args:
            settings: The process's settings.
            client: The registry; default: the one in the settings.

        Raises:
            ConfigError: The registry refuses the schema or the credentials; asking again would not help.
        """
        self.frame: bytes | None = None
        """The frame; None: single-object encoding."""
        self._registry, self._subject = settings.registry, subject_of(settings)
        self._client: Subjects = client or Client(settings.registry)
        self._cache = Cache(folder(settings.registry.cache_dir, settings.registry.url))
        self._fingerprint = schemas.fingerprint(schemas.current(RECORD))
        try:
            self._ask()
        except RegistryUnavailable as e:
            self.frame = self._remembered()
            how = "uses the cached schema id" if self.frame else "writes single objects until it answers"
            log.warning("%s; the publisher %s", e, how)
        except RegistryRefused as e:
            raise ConfigError(str(e)) from None

    def keep_asking(self, stop: threading.Event) -> None:
        """Starts a thread that asks the registry until the id is known or `stop` is set.

        A forked child must call it again.
        """
        if self.frame is None:
            threading.Thread(
                target=self._ask_until_known, args=(stop.wait,), name="tailrace-registry", daemon=True
            ).start()

    def _ask(self) -> None:
        schema_id = ensure(self._client, self._subject, self._registry.auto_register)
        self._cache.keep(schema_id, text_of())
        self._cache.keep_written_as(self._subject, self._fingerprint, schema_id)
        self.frame = schemas.id_frame(schema_id)

    def _remembered(self) -> bytes | None:
        schema_id = self._cache.written_as(self._subject, self._fingerprint)
        return None if schema_id is None else schemas.id_frame(schema_id)

    def _ask_until_known(self, wait: Callable[[float], bool]) -> None:
        tries = 0
        while self.frame is None and not wait(AWAY_SECONDS[min(tries, len(AWAY_SECONDS) - 1)]):
            tries += 1
            try:
                self._ask()
                log.info("the schema registry answers: values are written with its schema id from now on")
            except RegistryUnavailable:
                continue
            except Exception as e:  # e.g. a wrong setting; single objects can be written all the same
                log.error("%s; the publisher continues with single objects", e)
                return
