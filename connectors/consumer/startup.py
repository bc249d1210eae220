"""What comes before a sink reads: a broker that answers, the topics, its own check, its consumer."""

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
from tailrace import kafka
from tailrace.errors import KafkaUnavailable
from tailrace.settings import Kafka, Settings

log: Final = logging.getLogger("tailrace.connect")
CHECK_SECONDS: Final = 30.0
PREFETCH_KB: Final = 16_384
"""Kilobytes that librdkafka may hold ahead."""


def wait_for_topics(name: str, settings: Kafka, topics: Sequence[str], stop: threading.Event) -> bool:
    """Waits until all `topics` are there, however long; says what is missing and what makes it. False:
    stopped meanwhile.

    Raises `KafkaUnavailable` for what waiting cannot fix.
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


def open_consumer(
    name: str, settings: Settings, *, partition_eof: bool, on_commit: Callable[[Any, list[Any]], None]
) -> Any:
    """The consumer of a sink's group, which does not read yet. partition_eof: whether it reports the ends of
    partitions."""
    connect = settings.connect
    static = {"group_instance_id": connect.instance_id} if connect.instance_id else {}
    properties = kafka.client(
        settings.kafka,
        group_id=connect.group_prefix + name,
        client_id=f"tailrace-{name}",
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        enable_partition_eof=partition_eof,
        isolation_level="read_committed",
        auto_offset_reset="error",
        partition_assignment_strategy="cooperative-sticky",
        session_timeout_ms=connect.session_timeout_ms,
        # the client's 3 s would lose a shorter session
        heartbeat_interval_ms=max(100, connect.session_timeout_ms // 5),
        fetch_queue_backoff_ms=5,
        queued_max_messages_kbytes=PREFETCH_KB,
        **static,
    )
    client_log = logging.getLogger("tailrace.connect.client")
    return Consumer({**properties, "on_commit": on_commit, "logger": client_log})


def report_health(
    name: str,
    check: Callable[[], Future[Health]],
    stop: threading.Event,
    wake: threading.Event,
    *,
    secrets: Sequence[str] = (),
) -> None:
    """Logs what the sink's check finds. A sink that fails it starts all the same: retry and pause handle it,
    and an answer to an empty request may be wrong about full ones.

    Args:
        check: Starts the check.
        stop: Ends the wait for it.
        wake: Set when the check has ended, or `stop` is.
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
        log.warning("%s: the check failed: %s; it goes on all the same, nothing is lost", name, detail)
