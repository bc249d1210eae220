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
    fixed: bool
    """Whether its partition count must be `partitions`."""
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
    control: str

    @classmethod
    def of(cls, settings: Topics) -> TopicNames:
        return cls(*(settings.prefix + n.replace("_", "-") for n in cls.__struct_fields__))


def wanted(settings: Topics) -> tuple[Topic, ...]:
    """Every topic, with its partitions and settings."""
    names, n = TopicNames.of(settings), settings.partitions
    internal = str(2 * settings.max_event_bytes + ROOM)

    def topic(name: str, config: dict[str, str], size: str = internal) -> Topic:
        return Topic(name, n, name != names.dead_letters, {"max.message.bytes": size, **config})

    def single(name: str, config: dict[str, str]) -> Topic:
        return Topic(name, 1, True, {"max.message.bytes": internal, **config})

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
        # one partition: its few records are read completely at a start, in the order of all changes
        single(names.control, {**compact, "segment.ms": str(DAY_MS)}),
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
            .result(2 * timeout)  # the client's own timeout comes first, with the reason
            .topic_id
        )
    except KafkaException as e:
        if e.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return ""
        raise


def create(admin: AdminClient, settings: Topics, timeout: float = 30.0) -> list[str]:
    """Creates the missing topics and returns their names.

    Existing topics are not changed (see `mismatches`). Nothing is created beside topics with another
    partition count.

    Raises:
        TopicMismatch: a topic exists with a partition count that is not that of the settings.
        KafkaException: has the broker's reason, e.g. too few brokers for topics.replication_factor.
    """
    specs = {t.name: t for t in wanted(settings)}
    there = describe(admin, list(specs), timeout)
    if wrong := list(wrong_counts(settings, there)):
        raise TopicMismatch("\n".join(wrong))
    new = [
        NewTopic(
            t.name,
            num_partitions=t.partitions,
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
    if len(made) < len(new) and (
        wrong := list(wrong_counts(settings, describe(admin, list(specs), timeout)))
    ):
        raise TopicMismatch("\n".join(wrong))  # another process created some, with other settings
    return made


def wrong_counts(settings: Topics, found: dict[str, Found]) -> Iterator[str]:
    """What is wrong with the partition counts of the topics that exist: one sentence each, with the fix.

    Partition n of one topic belongs to partition n of the others, so their counts must be equal, and be
    that of the settings: a cluster that creates topics by itself gives them a count of its own.
    """
    names = TopicNames.of(settings)
    have = {t.name: found[t.name].partitions for t in wanted(settings) if t.fixed and t.name in found}
    control = have.pop(names.control, 1)
    others = {name: n for name, n in have.items() if n != settings.partitions}
    if others and len(others) == len(have) and len(set(others.values())) == 1:
        name, n = next(iter(others.items()))
        more = f" (and {len(others) - 1} more topics)" if len(others) > 1 else ""
        yield (
            f"{name} has {_partitions(n)}{more}, topics.partitions is {settings.partitions}: "
            f"set topics.partitions = {n}, or, while they are still empty, delete the topics "
            "and run `tailrace topics create`"
        )
    else:
        for name, n in others.items():
            other = next((o for o in have if have[o] == settings.partitions), "")
            against = f"{other} has {have[other]}" if other else f"topics.partitions is {settings.partitions}"
            yield (
                f"{name} has {_partitions(n)}, {against}, "
                f"but the numbers must be equal: while it is still empty, delete {name} "
                "and run `tailrace topics create`"
            )
    if control != 1:
        yield (
            f"{names.control} has {_partitions(control)}, needs 1: while it is still empty, delete it "
            "and run `tailrace topics create`"
        )


def _partitions(n: int) -> str:
    return f"{n} partition" if n == 1 else f"{n} partitions"


def mismatches(settings: Topics, found: dict[str, Found]) -> Iterator[str]:
    """What is wrong with a cluster's topics: one sentence each, with the fix."""
    yield from wrong_counts(settings, found)
    for spec in wanted(settings):
        have = found.get(spec.name)
        if have is None:
            yield f"{spec.name} is missing: run `tailrace topics create`"
            continue
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
