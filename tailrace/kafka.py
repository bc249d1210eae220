"""Client settings that all Kafka clients share, and waiting for a broker that is not up yet."""

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
"""Secrets shorter than this are not masked: replacing them would garble the rest of the text."""
_AGAIN: Final = 60.0
"""Seconds before the same error of the same cluster is logged again."""
_WRONG_PROTOCOL: Final = "connecting to a PLAINTEXT broker listener?"


class _Errors:
    """librdkafka's error callback: logs that no broker answers, and errors that retries cannot fix.

    Each error is logged once per `_AGAIN` seconds, however many clients report it. Errors that the
    client retries by itself are not logged.
    """

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
    """librdkafka properties: our defaults, then `properties`, then `kafka.client`, which wins.

    Keyword names use underscores for dots. librdkafka's own log is off; errors go to `error_cb`, which
    logs them unless the caller sets another one. No client creates a topic, whatever the cluster's
    auto.create.topics.enable says: by default librdkafka's producers ask for it.
    """
    base: Properties = {
        "bootstrap.servers": settings.bootstrap_servers,
        "reconnect.backoff.max.ms": 1000,
        "log.connection.close": False,
        "allow.auto.create.topics": False,
        "log_level": 0,
        "error_cb": _Errors(settings.bootstrap_servers),
    }
    base.update({k.replace("_", "."): v for k, v in properties.items()})
    base.update(settings.client)
    return base


def open_client(make: Callable[[Properties], T], properties: Properties) -> T:
    """Calls `make(properties)`, where `make` is e.g. `Producer`.

    Raises:
        ConfigError: librdkafka refuses a property. The message contains no secrets.
    """
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
    """Whether retrying cannot help: wrong credentials, wrong protocol, missing permissions."""
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
    """Waits until a broker answers; returns an admin client and the cluster's metadata.

    Calls `say` when it starts to wait and then every 10 s.

    Args:
        settings: where the cluster is.
        deadline: seconds to wait; None waits for ever.
        say: receives a line of text.
        stop: checked about once a second; True ends the wait.
        clock: seconds, monotonic.

    Raises:
        KafkaUnavailable: the deadline has passed or `stop()` is true; at once if retrying cannot help
            (credentials, TLS).
        ConfigError: librdkafka refuses a property.
    """
    began, said = clock(), 0.0
    problems: list[KafkaError] = []
    reason: KafkaError | None = None
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
            admin.poll(0)  # only the callback has the reasons
            reasons = [p for p in problems if p.code() != KafkaError._ALL_BROKERS_DOWN]
            if reasons:  # else the client has not tried again since
                reason = next(filter(fatal, reasons), reasons[-1])
            problem = reason or e.args[0]
            problems.clear()
        waited = clock() - began
        if fatal(problem):
            raise KafkaUnavailable(
                f"kafka.bootstrap_servers {settings.bootstrap_servers}: {problem.str()}; "
                "see security.protocol and sasl.… in kafka.client"
            )
        if stop() or (deadline is not None and waited >= deadline):
            raise KafkaUnavailable(
                f"no Kafka broker answers at {settings.bootstrap_servers} (kafka.bootstrap_servers), "
                f"waited {waited:.0f} s: {problem.str()}"
            )
        if not said or waited - said >= 10:
            say(
                f"no Kafka broker answers at {settings.bootstrap_servers}: {problem.str()}; "
                f"waiting for it ({waited:.0f} s)"
            )
            said = waited or 0.001
