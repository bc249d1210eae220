"""One sink of a process: its runner, and another runner when its settings have changed."""

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
from connectors.delivery.aiohttp_transport import tls_context
from connectors.sdk import redact
from tailrace.errors import ConfigError
from tailrace.schema_registry.schema_wait import Schemas
from tailrace.settings import Settings

log: Final = logging.getLogger("tailrace.connect")

RELOAD: Final = 1.0
"""Seconds between two looks at the settings of a sink that is paused: someone may have fixed them."""


class SettingsWatch:
    """Looks whether the settings of a paused sink have changed, and whether the new ones can be used."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next, self._problem = 0.0, ""

    def changed(self, instance: Instance, now: float) -> Instance | None:
        """The instance that the settings ask for in place of `instance`, at most once in `RELOAD` seconds.
        None: they are the same, cannot be used (which is logged once), or it is too early to look. now:
        monotonic seconds."""
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
                "%s: its settings have changed and cannot be used: %s; it stays with the old ones",
                self._name,
                problem,
            )
        self._problem = problem
        return changed


class SinkSupervisor:
    """Runs one instance. `run` blocks in the thread that calls it; everything else may be called from any
    thread, and is about the sink whichever runner it has.

    When the settings of a paused sink have changed, its runner drains, commits and leaves the group (a static
    member keeps its place), and another one starts from the committed offsets with the new settings."""

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        *,
        schemas: Schemas | None = None,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        """
        Args:
            schemas: Where unknown schemas are looked for; None: nowhere.
            clock: Monotonic seconds.
            options: Further arguments of `Runner`.
        """
        self.name = instance.name
        self._settings, self._instance, self._clock, self._options = settings, instance, clock, options
        self._watch = SettingsWatch(instance.name)
        self._shared = SharedState(settings, instance, schemas)
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
        """Works until `stop`. Raises as `Runner.run`."""
        while self._runner.run() == "replaced":
            self._shared.use(self._instance)
            self._runner = self._new_runner()

    def _replaced(self) -> bool:
        """Asked by the runner, in its thread: whether it is to make room for another one."""
        changed = self._watch.changed(self._instance, self._clock()) if self._runner.paused else None
        if changed is None:
            return False
        log.warning("%s: its settings have changed; it starts again with the new ones", self.name)
        secrets = (*changed.secrets, *self._instance.secrets)  # the vendor may still name an old one
        self._instance = msgspec.structs.replace(changed, secrets=tuple(dict.fromkeys(secrets)))
        return True

    def stop(self) -> None:
        """Asks it to drain and end."""
        self._shared.stop.set()
        self._shared.wake.set()

    @property
    def joined(self) -> bool:
        """Whether the group has given it its partitions, if there are any for it."""
        return self._runner.joined

    def status(self) -> Status:
        return self._runner.status()

    def oldest(self) -> int | None:
        """Append time of the first record that was read and is not settled, milliseconds UTC; None: there is
        none."""
        return self._runner.oldest()

    def silent(self) -> float:
        """Seconds since its loop came round; 0 while it is not running."""
        return self._runner.silent()
