"""The steps before a sink reads: wait for broker and topics, run the sink's check, open its consumer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import Consumer

from connectors.sdk import redact
from connectors.sdk.contract import Health
from tailrace import clients, kafka
from tailrace.errors import KafkaUnavailable
from tailrace.settings import Kafka, Settings

log: Final = logging.getLogger("tailrace.connect")
CHECK_SECONDS: Final = 30.0


def wait_for_topics(name: str, settings: Kafka, topics: Sequence[str], stop: threading.Event) -> bool:
    """Waits without limit until all `topics` exist, and logs which are missing.

    Args:
        name: The sink's name, for messages.
        settings: How to reach the cluster.
        topics: The topics to wait for.
        stop: Ends the wait.

    Returns:
        Whether the topics exist; False if it was stopped before.

    Raises:
        KafkaUnavailable: The cluster cannot be used and waiting would not help, e.g. wrong credentials.
    """
    logged: list[str] = []
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
        if missing != logged:
            log.warning("%s: missing %s: run `tailrace topics create`; waiting", name, " and ".join(missing))
            logged = missing
        stop.wait(1.0)
    return False


def open_consumer(
    name: str, settings: Settings, *, partition_eof: bool, on_commit: Callable[[Any, list[Any]], None]
) -> Any:
    """Creates the consumer of a sink's group. It is not subscribed yet.

    Args:
        name: The sink's name.
        settings: The process's settings.
        partition_eof: Whether it reports the ends of partitions.
        on_commit: Called with the error and the partitions of each asynchronous commit.

    Raises:
        ConfigError: librdkafka refuses a property.
    """
    client_log = logging.getLogger("tailrace.connect.client")
    return kafka.open_client(
        Consumer,
        {
            **clients.sink(settings, name, partition_eof=partition_eof),
            "on_commit": on_commit,
            "logger": client_log,
        },
    )


def report_health(
    name: str,
    check: Callable[[], Future[Health]],
    stop: threading.Event,
    wake: threading.Event,
    *,
    secrets: Sequence[str] = (),
) -> None:
    """Runs the sink's check and logs a problem.

    The sink starts all the same: retries and pauses handle the problem, and the answer to an empty request
    may differ from that to a real one.

    Args:
        name: The sink's name, for messages.
        check: Starts the check.
        stop: Ends the wait for the check.
        wake: Set when the check has ended or `stop` was set.
        secrets: Masked in what is logged.
    """
    future = check()
    deadline = time.monotonic() + CHECK_SECONDS
    while not future.done() and not stop.is_set() and (left := deadline - time.monotonic()) > 0:
        wake.wait(left)
        wake.clear()
    if stop.is_set():
        future.cancel()
        return
    try:
        health = future.result(0)
    except TimeoutError:
        future.cancel()
        health = Health(False, f"no answer within {CHECK_SECONDS:g} s")
    except Exception as e:
        health = Health(False, str(e))
    if not health.ok:
        detail = redact.masked(health.detail, secrets)
        log.warning("%s: the check failed: %s; the sink starts all the same, nothing is lost", name, detail)
