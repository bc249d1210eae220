"""What a sink waits for before it reads: a broker that answers, the topics, and a word from its own check."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from connectors.sdk import redact
from connectors.sdk.contract import Health
from tailrace import kafka
from tailrace.errors import KafkaUnavailable
from tailrace.settings import Kafka

log: Final = logging.getLogger("tailrace.connect")
CHECK_SECONDS: Final = 30.0


def wait_for_topics(name: str, settings: Kafka, topics: Sequence[str], stop: threading.Event) -> bool:
    """Waits until all `topics` are there, however long; says what is missing and what makes it. False:
    stopped meanwhile.

    Raises `KafkaUnavailable` for what waiting cannot mend.
    """
    said: list[str] = []
    while not stop.is_set():
        try:
            _, metadata = kafka.wait_for_broker(settings, stop=stop.is_set)
        except KafkaUnavailable:
            if stop.is_set():
                return False
            raise
        missing = [n for n in topics if n not in metadata.topics or metadata.topics[n].error is not None]
        if not missing:
            return True
        if missing != said:
            log.warning("%s: missing %s: run `tailrace topics create`; waiting", name, " and ".join(missing))
            said = missing
        stop.wait(1.0)
    return False


def report_health(name: str, check: Callable[[], Future[Health]], *, secrets: Sequence[str] = ()) -> None:
    """Says what the sink's check finds. A sink that fails it starts all the same: retry and pause handle it,
    and an answer to an empty request may be wrong about full ones."""
    future = check()
    try:
        health = future.result(CHECK_SECONDS)
    except TimeoutError:
        future.cancel()
        health = Health(False, f"no answer within {CHECK_SECONDS:g} s")
    except Exception as e:
        health = Health(False, str(e))
    if not health.ok:
        detail = redact.masked(health.detail, secrets)
        log.warning("%s: the check failed: %s; it goes on all the same, nothing is lost", name, detail)
