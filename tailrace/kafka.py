"""Client settings that every Kafka client here shares, and waiting for a broker that is not there yet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from tailrace.errors import KafkaUnavailable
from tailrace.settings import Kafka

log: Final = logging.getLogger("tailrace.kafka")
Properties = dict[str, Any]


def client(settings: Kafka, **properties: Any) -> Properties:
    """librdkafka properties: ours, then `properties` (dots written as underscores), then the user's pass-through, which wins."""
    base: Properties = {
        "bootstrap.servers": settings.bootstrap_servers,
        "reconnect.backoff.max.ms": 1000,
        "log.connection.close": False,
    }
    base.update({k.replace("_", "."): v for k, v in properties.items()})
    base.update(settings.client)
    return base


def fatal(error: KafkaError) -> bool:
    """Whether waiting cannot help: wrong credentials, wrong protocol."""
    return bool(error.fatal()) or error.code() in (
        KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL, KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._INVALID_ARG,
    )  # fmt: skip


def wait_for_broker(
    settings: Kafka,
    deadline: float | None = None,
    *,
    say: Callable[[str], None] = log.warning,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[AdminClient, ClusterMetadata]:
    """An admin client of a cluster that answers. deadline: seconds to wait; None is for ever.

    Says once that it waits, and again every 10 s. Raises `KafkaUnavailable` past the deadline or when `stop()` is true, and
    at once for what waiting cannot mend (credentials, TLS).
    """
    began, said = clock(), 0.0
    problems: list[KafkaError] = []
    admin = AdminClient(
        {**client(settings), "error_cb": problems.append, "logger": logging.getLogger("tailrace.kafka.client")}
    )
    while True:
        try:
            return admin, admin.list_topics(timeout=1.0)
        except KafkaException as e:
            problem = next((p for p in problems if fatal(p)), e.args[0])
        waited = clock() - began
        if fatal(problem):
            raise KafkaUnavailable(f"kafka.bootstrap_servers {settings.bootstrap_servers}: {problem.str()}")
        if stop() or (deadline is not None and waited >= deadline):
            raise KafkaUnavailable(
                f"no Kafka broker answers at {settings.bootstrap_servers} (kafka.bootstrap_servers), waited {waited:.0f} s: {problem.str()}"
            )
        if not said or waited - said >= 10:
            say(
                f"no Kafka broker answers at {settings.bootstrap_servers}: {problem.str()}; waiting for it ({waited:.0f} s)"
            )
            said = waited or 0.001
