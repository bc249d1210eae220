"""Client settings that every Kafka client here shares, and waiting for a broker that is not there yet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from tailrace.errors import ConfigError, KafkaUnavailable
from tailrace.settings import Kafka

log: Final = logging.getLogger("tailrace.kafka")
Properties = dict[str, Any]
T = TypeVar("T")

_SECRET: Final = ("password", "secret", "key", "token", "jaas", "oauthbearer.config")
_SHORT: Final = 4
"""Secrets below this length are left alone: to replace them would garble the text around."""
_AGAIN: Final = 60.0
"""Seconds until the same error of the same cluster is said again."""
_WRONG_PROTOCOL: Final = "connecting to a PLAINTEXT broker listener?"


class _Errors:
    """Says that no broker answers and why, and what waiting cannot mend: each once in a while, however many
    clients meet it. What a client tries again by itself is no news."""

    _said: ClassVar[dict[tuple[str, int], float]] = {}

    def __init__(self, servers: str) -> None:
        self._servers, self._reason = servers, ""

    def __call__(self, error: KafkaError) -> None:
        down, now = error.code() == KafkaError._ALL_BROKERS_DOWN, time.monotonic()
        if not down and not fatal(error):
            self._reason = error.str()
            return
        which = (self._servers, error.code())
        if now - self._said.get(which, -_AGAIN) < _AGAIN:
            return
        self._said[which] = now
        if down:
            log.warning("no Kafka broker answers at %s: %s", self._servers, self._reason or error.str())
        else:
            log.error("Kafka at %s: %s", self._servers, error.str())


def client(settings: Kafka, **properties: Any) -> Properties:
    """librdkafka properties: ours, then `properties` (dots written as underscores), then the user's
    pass-through, which wins.

    librdkafka's own log is off; errors come to `error_cb`, which logs them unless the caller has one of its
    own."""
    base: Properties = {
        "bootstrap.servers": settings.bootstrap_servers,
        "reconnect.backoff.max.ms": 1000,
        "log.connection.close": False,
        "log_level": 0,
        "error_cb": _Errors(settings.bootstrap_servers),
    }
    base.update({k.replace("_", "."): v for k, v in properties.items()})
    base.update(settings.client)
    return base


def open_client(make: Callable[[Properties], T], properties: Properties) -> T:
    """make(properties), e.g. a Producer. Raises `ConfigError` for properties that librdkafka refuses, without
    their secrets."""
    try:
        return make(properties)
    except KafkaException as e:
        text = str(e.args[0].str())
        for name, value in properties.items():
            if isinstance(value, str) and len(value) >= _SHORT and any(s in name for s in _SECRET):
                text = text.replace(value, "***")
        raise ConfigError(
            f"{text} (kafka.client holds properties of librdkafka, see its CONFIGURATION.md)"
        ) from None


def fatal(error: KafkaError) -> bool:
    """Whether waiting cannot help: wrong credentials, wrong protocol."""
    return (
        bool(error.fatal())
        or _WRONG_PROTOCOL in error.str()
        or error.code()
        in (
            KafkaError._AUTHENTICATION,
            KafkaError.SASL_AUTHENTICATION_FAILED,
            KafkaError._SSL,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError._INVALID_ARG,
        )
    )


def wait_for_broker(
    settings: Kafka,
    deadline: float | None = None,
    *,
    say: Callable[[str], None] = log.warning,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[AdminClient, ClusterMetadata]:
    """An admin client of a cluster that answers. deadline: seconds to wait; None is for ever.

    Says once that it waits, and again every 10 s. Raises `KafkaUnavailable` past the deadline or when
    `stop()` is true, and at once for what waiting cannot mend (credentials, TLS); `ConfigError` for
    properties that are none."""
    began, said = clock(), 0.0
    problems: list[KafkaError] = []
    properties = {
        **client(settings),
        "error_cb": problems.append,
        "logger": logging.getLogger("tailrace.kafka.client"),
    }
    admin = open_client(AdminClient, properties)
    while True:
        try:
            return admin, admin.list_topics(timeout=1.0)
        except KafkaException as e:
            admin.poll(0)  # the reasons come by the callback only
            reasons = [p for p in problems if p.code() != KafkaError._ALL_BROKERS_DOWN] or [e.args[0]]
            problem = next(filter(fatal, reasons), reasons[-1])
            problems.clear()
        waited = clock() - began
        if fatal(problem):
            raise KafkaUnavailable(
                f"kafka.bootstrap_servers {settings.bootstrap_servers}: {problem.str()}; see "
                "security.protocol and sasl.… in kafka.client"
            )
        if stop() or (deadline is not None and waited >= deadline):
            raise KafkaUnavailable(
                f"no Kafka broker answers at {settings.bootstrap_servers} (kafka.bootstrap_servers), waited "
                f"{waited:.0f} s: {problem.str()}"
            )
        if not said or waited - said >= 10:
            say(
                f"no Kafka broker answers at {settings.bootstrap_servers}: {problem.str()}; waiting for it "
                f"({waited:.0f} s)"
            )
            said = waited or 0.001
