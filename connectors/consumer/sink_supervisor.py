"""Runs one sink of a process, and replaces its runner when the settings of a paused sink change."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from connectors.config.instances import Instance
from connectors.consumer.runner import Runner
from connectors.consumer.shared_state import SharedState
from connectors.consumer.status import Status
from connectors.content.fetcher import ContentFetcher
from connectors.delivery.aiohttp_transport import tls_context
from connectors.sdk import redact
from tailrace.errors import ConfigError
from tailrace.schema_registry.schema_wait import Schemas
from tailrace.settings import Settings

log: Final = logging.getLogger("tailrace.connect")

RELOAD: Final = 1.0
"""Seconds between two checks of a paused sink's settings: someone may have fixed them."""


class SettingsWatch:
    """Checks whether the settings of a paused sink have changed and whether the new ones are valid."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next, self._problem = 0.0, ""

    def changed(self, instance: Instance, now: float) -> Instance | None:
        """The instance of the changed settings. Reads the settings at most once in `RELOAD` seconds.

        Args:
            instance: The instance that runs now.
            now: Monotonic seconds.

        Returns:
            None if the settings are the same, are not valid (which is logged once), or were not read.
        """
        if instance.reload is None or now < self._next:
            return None
        self._next = now + RELOAD
        try:
            changed = instance.reload(instance)
            if changed is not None:
                tls_context(changed.ca_file, changed.cert_file, changed.key_file)
            problem = ""
        except ConfigError as e:
            changed, problem = None, redact.masked(str(e), instance.secrets)
        if problem and problem != self._problem:
            log.error(
                "%s: its settings have changed but are not valid: %s; it keeps the old ones",
                self._name,
                problem,
            )
        self._problem = problem
        return changed


class SinkSupervisor:
    """Runs one instance. `run` blocks in the thread that calls it; the rest may be called from any thread.

    When the settings of a paused sink change, its runner drains, commits and leaves the group (a static
    member keeps its membership). Then another runner starts at the committed offsets with the new settings.
    """

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        *,
        schemas: Schemas | None = None,
        fetcher: ContentFetcher | None = None,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        """
        Args:
            settings: The process's settings.
            instance: The configured sink.
            schemas: Fetches unknown schemas; None: they are not fetched.
            fetcher: Fetches content that is stored outside records; None: content.store is not set.
            clock: Monotonic seconds.
            options: Further arguments of `Runner`.
        """
        self.name = instance.name
        self._settings, self._instance, self._clock, self._options = settings, instance, clock, options
        self._watch = SettingsWatch(instance.name)
        self._shared = SharedState(settings, instance, schemas, fetcher)
        self.observer = self._shared.observer
        self._runner = self._new_runner()

    def _new_runner(self) -> Runner:
        return Runner(
            self._settings,
            self._instance,
            shared=self._shared,
            replaced=self._replaced,
            clock=self._clock,
            **self._options,
        )

    def run(self) -> None:
        """Runs the sink until `stop`. Raises as `Runner.run`."""
        while self._runner.run() == "replaced":
            self._shared.use(self._instance)
            self._runner = self._new_runner()

    def _replaced(self) -> bool:
        """Whether the runner is to end and be replaced. Called by the runner, in its thread."""
        changed = self._watch.changed(self._instance, self._clock()) if self._runner.paused else None
        if changed is None:
            return False
        log.warning("%s: its settings have changed; it restarts with the new ones", self.name)
        secrets = (*changed.secrets, *self._instance.secrets)  # a response may still quote an old one
        self._instance = msgspec.structs.replace(changed, secrets=tuple(dict.fromkeys(secrets)))
        return True

    def stop(self) -> None:
        """Asks the sink to drain and end. Does not wait."""
        self._shared.stop.set()
        self._shared.wake.set()

    @property
    def joined(self) -> bool:
        """As `Runner.joined`."""
        return self._runner.joined

    def status(self) -> Status:
        """As `Runner.status`."""
        return self._runner.status()

    def oldest(self) -> int | None:
        """As `Runner.oldest`."""
        return self._runner.oldest()

    def silent(self) -> float:
        """As `Runner.silent`."""
        return self._runner.silent()
