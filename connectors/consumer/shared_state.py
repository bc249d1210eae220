"""State of one sink that passes from a runner to the next one."""

from __future__ import annotations

import threading

from connectors.config.instances import Instance
from connectors.consumer.status import SinkCounts
from connectors.content.fetcher import ContentFetcher
from connectors.delivery.dead_letter_limits import DeadLetterLimiter
from connectors.delivery.gate import Activity
from connectors.delivery.observer import Observer
from tailrace.codec import schemas as known_schemas
from tailrace.schema_registry.schema_wait import Schemas, SchemaWaitPolicy
from tailrace.settings import Settings


class SharedState:
    """The state of one sink in one process that outlives its runners."""

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        schemas: Schemas | None = None,
        fetcher: ContentFetcher | None = None,
    ) -> None:
        """
        Args:
            settings: The process's settings.
            instance: The configured sink.
            schemas: Fetches unknown schemas; None: they are not fetched.
            fetcher: Fetches content that is stored outside records; None: content.store is not set.
        """
        self.fetcher = fetcher
        self.observer = Observer()
        self.counts = SinkCounts()
        self.activity = Activity()
        self.dead_letter_limiter = DeadLetterLimiter(instance.dead_letters)
        self.schema_waits = SchemaWaitPolicy(
            schemas, known_schemas.known.knows, settings.schemas.wait_seconds
        )
        self.stop = threading.Event()
        """Set when the sink is to end."""
        self.wake = threading.Event()
        """Set when a waiting thread has something to do."""
        if fetcher is not None:
            fetcher.listen(self.wake.set)

    def use(self, instance: Instance) -> None:
        """Prepares the state for the next runner. The former one must have ended.

        Counters continue. The dead-letter limiter keeps its counts and gets the limits of `instance`.

        Args:
            instance: What the next runner runs.
        """
        self.activity = Activity(requests=self.activity.requests, retries=self.activity.retries)
        self.dead_letter_limiter.limits = instance.dead_letters
