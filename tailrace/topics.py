"""The topics: what each is for, how it is set up, and whether a cluster has them so."""

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
"""Bytes that an internal record may be larger than the event it came from: context, framing, dead-letter
fields."""
HEADER: Final = "tailrace-context"
"""Name of the Kafka header that carries a record's `TraceContext`."""


class Topic(msgspec.Struct, frozen=True):
    """One topic as tailrace wants it."""

    name: str
    partitions: int
    same_partitions: bool
    """Whether its partition count must be that of the events topic."""
    config: dict[str, str]


class TopicNames(msgspec.Struct, frozen=True):
    """Names of the topics of one pipeline."""

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
    """Every topic with its partitions and settings."""
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
    """One topic as the cluster has it."""

    partitions: int
    replication_factor: int
    config: dict[str, str]


def describe(admin: AdminClient, names: list[str], timeout: float = 30.0) -> dict[str, Found]:
    """What the cluster has of `names`; those it lacks are left out. Raises KafkaException."""
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
    """The id that a topic got when it was made; empty if there is none. Raises KafkaException."""
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
    """Makes the topics that are missing and returns their names. What is there already is left as it is (see
    `mismatches`); where the events topic is, its partition count is that of the new ones.

    Raises KafkaException with the broker's reason, e.g. too few brokers for topics.replication_factor.
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
            if e.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # someone else made it meanwhile
                raise
    deadline = time.monotonic() + timeout
    while not set(made) <= set(admin.list_topics(timeout=timeout).topics) and time.monotonic() < deadline:
        time.sleep(0.02)  # made, but not shown yet: whoever looks next must not find it missing
    return made


def mismatches(settings: Topics, found: dict[str, Found]) -> Iterator[str]:
    """What is wrong with a cluster's topics, one sentence each with its fix; nothing if all is well.

    Partition counts must agree among themselves, not with settings.partitions: that one is only for creating.
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
                f"{spec.name} has {have.partitions} partitions, {names.events} has {events.partitions}, they "
                "must have the same "
                f"number: before anything is in it, delete {spec.name} and run `tailrace topics create`"
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
    """Why acknowledged events could still be lost: replication < 3 or min.insync.replicas < 2. Warnings, not
    errors."""
    for spec in wanted(settings):
        have = found.get(spec.name)
        if have and (have.replication_factor < 3 or int(have.config.get("min.insync.replicas", "1")) < 2):
            yield (
                f"{spec.name} has replication factor {have.replication_factor} and min.insync.replicas "
                f"{have.config.get('min.insync.replicas', '1')}; a durable cluster has 3 and 2"
            )


def verify(admin: AdminClient, settings: Topics) -> int:
    """The partition count of the pipeline. Raises `TopicMismatch` with every problem and its fix."""
    found = describe(admin, [t.name for t in wanted(settings)])
    wrong = list(mismatches(settings, found))
    if wrong:
        raise TopicMismatch("\n".join(wrong))
    return found[TopicNames.of(settings).events].partitions


def as_json(found: dict[str, Found]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(topic) for name, topic in found.items()}
