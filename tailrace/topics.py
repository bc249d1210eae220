"""The Kafka topics: their settings, creating them, and checking those of a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from tailrace.errors import TopicMismatch
from tailrace.settings import Topics

DAY_MS: Final = 86_400_000
ROOM: Final = 65_536
"""Bytes by which an internal record may exceed the event it came from.

Context, framing and the fields of a dead letter need them.
"""
HEADER: Final = "tailrace-context"
"""Name of the Kafka header that carries a record's `TraceContext`."""


class Topic(msgspec.Struct, frozen=True):
    """One topic as tailrace needs it."""

    name: str
    partitions: int
    same_partitions: bool
    """Whether its partition count must be that of the events topic."""
    config: dict[str, str]


class TopicNames(msgspec.Struct, frozen=True):
    """The topic names of one pipeline."""

    events: str
    enriched: str
    state: str
    metrics: str
    totals: str
    summaries: str
    dead_letters: str

    @classmethod
    def of(cls, settings: Topics) -> TopicNames:
        return cls(
            *(
                settings.prefix + n
                for n in ("events", "enriched", "state", "metrics", "totals", "summaries", "dead-letters")
            )
        )


def wanted(settings: Topics) -> tuple[Topic, ...]:
    """Every topic, with its partitions and settings."""
    names, n = TopicNames.of(settings), settings.partitions
    internal = str(2 * settings.max_event_bytes + ROOM)

    def topic(name: str, config: dict[str, str], size: str = internal) -> Topic:
        return Topic(name, n, name != names.dead_letters, {"max.message.bytes": size, **config})

    log = {
        "cleanup.policy": "delete",
        "retention.ms": str(7 * DAY_MS),
        "message.timestamp.type": "LogAppendTime",
    }
    compact = {"cleanup.policy": "compact"}
    both = {"cleanup.policy": "compact,delete", "retention.ms": str(30 * DAY_MS)}
    return (
        topic(names.events, log, str(settings.max_event_bytes)),
        topic(names.enriched, log),
        topic(
            names.state,
            {
                **compact,
                "segment.ms": "600000",
                "segment.bytes": str(128 * 1024 * 1024),
                "min.cleanable.dirty.ratio": "0.2",
                "delete.retention.ms": "3600000",
            },
        ),
        topic(names.metrics, both),
        topic(names.totals, compact),
        topic(names.summaries, both),
        topic(names.dead_letters, {"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS)}),
    )


class Found(msgspec.Struct, frozen=True):
    """One topic as it is in the cluster."""

    partitions: int
    replication_factor: int
    config: dict[str, str]


def describe(admin: AdminClient, names: list[str], timeout: float = 30.0) -> dict[str, Found]:
    """The topics of `names` that exist in the cluster.

    Raises:
        KafkaException: the cluster does not answer or refuses.
    """
    metadata = admin.list_topics(timeout=timeout).topics
    there = [n for n in names if n in metadata and metadata[n].error is None]
    configs = (
        admin.describe_configs(
            [ConfigResource(ResourceType.TOPIC, n) for n in there], request_timeout=timeout
        )
        if there
        else {}
    )
    texts = {res.name: {k: str(v.value) for k, v in f.result().items()} for res, f in configs.items()}
    return {
        n: Found(
            len(metadata[n].partitions),
            min((len(p.replicas) for p in metadata[n].partitions.values()), default=0),
            texts.get(n, {}),
        )
        for n in there
    }


def topic_id(admin: AdminClient, name: str, timeout: float = 30.0) -> str:
    """The id that the broker gave a topic when it was created; empty if the topic does not exist.

    Raises:
        KafkaException: the cluster does not answer or refuses.
    """
    try:
        return str(
            admin.describe_topics(TopicCollection([name]), request_timeout=timeout)[name]
            .result(timeout)
            .topic_id
        )
    except KafkaException as e:
        if e.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return ""
        raise


def create(admin: AdminClient, settings: Topics, timeout: float = 30.0) -> list[str]:
    """Creates the missing topics and returns their names.

    Existing topics are not changed (see `mismatches`). If the events topic exists, new topics get its
    partition count.

    Raises:
        KafkaException: has the broker's reason, e.g. too few brokers for topics.replication_factor.
    """
    specs = {t.name: t for t in wanted(settings)}
    there = describe(admin, list(specs), timeout)
    events = there.get(TopicNames.of(settings).events)
    new = [
        NewTopic(
            t.name,
            num_partitions=events.partitions if events and t.same_partitions else t.partitions,
            replication_factor=settings.replication_factor,
            config=t.config,
        )
        for t in specs.values()
        if t.name not in there
    ]
    made = []
    for name, future in (admin.create_topics(new, request_timeout=timeout) if new else {}).items():
        try:
            future.result(timeout)
            made.append(name)
        except KafkaException as e:
            if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process created it
                raise
    deadline = time.monotonic() + timeout
    while not set(made) <= set(admin.list_topics(timeout=timeout).topics) and time.monotonic() < deadline:
        time.sleep(0.02)  # created, but not in the metadata yet: the next reader must find it
    return made


def mismatches(settings: Topics, found: dict[str, Found]) -> Iterator[str]:
    """What is wrong with a cluster's topics: one sentence each, with the fix.

    Partition counts must be equal to each other, not to settings.partitions, which is only for
    creation.
    """
    names = TopicNames.of(settings)
    events = found.get(names.events)
    for spec in wanted(settings):
        have = found.get(spec.name)
        if have is None:
            yield f"{spec.name} is missing: run `tailrace topics create`"
            continue
        if events and spec.same_partitions and have.partitions != events.partitions:
            yield (
                f"{spec.name} has {have.partitions} partitions, {names.events} has {events.partitions}, "
                f"but the numbers must be equal: while it is still empty, delete {spec.name} "
                "and run `tailrace topics create`"
            )
        for key, value in spec.config.items():
            is_ = have.config.get(key)
            if is_ is None or is_ == value:
                continue
            if key == "max.message.bytes" and is_.isdigit() and int(is_) >= int(value):
                continue
            if key in ("cleanup.policy", "message.timestamp.type", "max.message.bytes"):
                yield (
                    f"{spec.name} has {key}={is_}, needs {value}: `kafka-configs --alter --topic {spec.name} "
                    f"--add-config {key}={_quoted(value)}`"
                )


def _quoted(value: str) -> str:
    return f"[{value}]" if "," in value else value


def not_durable(settings: Topics, found: dict[str, Found]) -> Iterator[str]:
    """Why acknowledged events could still be lost; warnings, not errors.

    Replication below 3, or min.insync.replicas below 2.
    """
    for spec in wanted(settings):
        have = found.get(spec.name)
        if have and (have.replication_factor < 3 or int(have.config.get("min.insync.replicas", "1")) < 2):
            yield (
                f"{spec.name} has replication factor {have.replication_factor} "
                f"and min.insync.replicas {have.config.get('min.insync.replicas', '1')}; "
                "a durable cluster has 3 and 2"
            )


def verify(admin: AdminClient, settings: Topics) -> int:
    """The partition count of the pipeline.

    Raises:
        TopicMismatch: lists every problem with its fix.
    """
    found = describe(admin, [t.name for t in wanted(settings)])
    wrong = list(mismatches(settings, found))
    if wrong:
        raise TopicMismatch("\n".join(wrong))
    return found[TopicNames.of(settings).events].partitions


def as_json(found: dict[str, Found]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(topic) for name, topic in found.items()}
