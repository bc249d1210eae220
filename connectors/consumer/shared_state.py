"""What the runners of one sink share, one after the other: a restart changes none of it."""

from __future__ import annotations

import threading

from connectors.config.instances import Instance
from connectors.consumer.status import SinkCounts
from connectors.delivery.dead_letter_limits import DeadLetterLimiter
from connectors.delivery.gate import Activity
from connectors.delivery.observer import Observer
from tailrace.codec import schemas as known_schemas
from tailrace.schema_registry.schema_wait import Schemas, SchemaWaitPolicy
from tailrace.settings import Settings


class SharedState:
    """Of one sink in one process."""

    def __init__(self, settings: Settings, instance: Instance, schemas: Schemas | None = None) -> None:
        """schemas: where unknown schemas are looked for; None: nowhere."""
        self.observer = Observer()
        self.counts = SinkCounts()
        self.activity = Activity()
        self.dead_letter_limiter = DeadLetterLimiter(instance.dead_letters)
        self.schema_waits = SchemaWaitPolicy(
            schemas, known_schemas.known.knows, settings.schemas.wait_seconds
        )
        self.stop = threading.Event()
        """The sink is to end."""
        self.wake = threading.Event()
        """There is something to do for a thread that waits."""

    def use(self, instance: Instance) -> None:
        """For the next runner, which runs `instance`; the former one has ended. Counters go on; so does what
        the dead-letter limits count, against the limits of `instance`."""
        self.activity = Activity(requests=self.activity.requests, retries=self.activity.retries)
        self.dead_letter_limiter.limits = instance.dead_letters
