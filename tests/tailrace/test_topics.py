"""The topics are created once and compared with what exists. Each mismatch comes with its fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace import topics
from tailrace.broker import Broker
from tailrace.errors import TopicMismatch
from tailrace.settings import Settings, Topics
from tailrace.topics import Found, TopicNames
from tests.harness.processes import wait_until

PLAIN = Topics()
NAMES = TopicNames.of(PLAIN)


def good(**changes: Found) -> dict[str, Found]:
    """What a durable cluster with all topics reports."""
    return {
        t.name: Found(t.partitions, 3, {**t.config, "min.insync.replicas": "2"}) for t in topics.wanted(PLAIN)
    } | changes


def changed(found: Found, **changes: Any) -> Found:
    config = {**found.config, **changes.pop("config", {})}
    return msgspec.structs.replace(found, config=config, **changes)


def admin(broker: Broker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap_servers})


def test_names_start_with_the_prefix() -> None:
    assert NAMES.events == "trace.events"
    assert TopicNames.of(Topics(prefix="x-")).dead_letters == "x-dead-letters"


def test_a_correct_cluster_has_no_mismatch_and_no_warning() -> None:
    assert list(topics.mismatches(PLAIN, good())) == []
    assert list(topics.not_durable(PLAIN, good())) == []


def test_internal_topics_allow_larger_records_than_the_events_topic() -> None:
    sizes = {
        t.name: int(t.config["max.message.bytes"]) for t in topics.wanted(Topics(max_event_bytes=500_000))
    }
    assert sizes.pop(NAMES.events) == 500_000
    assert set(sizes.values()) == {2 * 500_000 + topics.ROOM}


@pytest.mark.parametrize("name", list(msgspec.structs.astuple(NAMES)))
def test_a_missing_topic_is_named_with_its_fix(name: str) -> None:
    found = good()
    del found[name]
    assert list(topics.mismatches(PLAIN, found)) == [f"{name} is missing: run `tailrace topics create`"]


@pytest.mark.parametrize(
    ("name", "config", "fix"),
    [
        (
            NAMES.events,
            {"cleanup.policy": "compact"},
            "--topic trace.events --add-config cleanup.policy=delete",
        ),
        (NAMES.metrics, {"cleanup.policy": "delete"}, "--add-config cleanup.policy=[compact,delete]"),
        (
            NAMES.enriched,
            {"message.timestamp.type": "CreateTime"},
            "--add-config message.timestamp.type=LogAppendTime",
        ),
        (NAMES.state, {"max.message.bytes": "1000"}, "--add-config max.message.bytes=2065536"),
    ],
)
def test_a_wrong_setting_is_named_with_the_command_that_fixes_it(
    name: str, config: dict[str, str], fix: str
) -> None:
    (problem,) = topics.mismatches(PLAIN, good(**{name: changed(good()[name], config=config)}))
    (key,) = config
    assert problem.startswith(f"{name} has {key}={config[key]}, needs ")
    assert fix in problem
    assert "kafka-configs --alter" in problem


def counted(n: int, **others: int) -> dict[str, Found]:
    """All topics with `n` partitions, except `others` and the two that have a count of their own."""
    found = good()
    apart = (NAMES.dead_letters, NAMES.control)
    counts = {name: n for name in found if name not in apart} | {f"trace.{k}": v for k, v in others.items()}
    return {name: changed(f, partitions=counts.get(name, f.partitions)) for name, f in found.items()}


def test_other_retention_larger_records_and_other_partitions_of_the_dead_letters_are_fine() -> None:
    found = {
        n: changed(f, config={"retention.ms": "1", "max.message.bytes": "9999999"}) for n, f in good().items()
    }
    found[NAMES.dead_letters] = changed(found[NAMES.dead_letters], partitions=1)
    assert list(topics.mismatches(PLAIN, found)) == []
    assert list(topics.mismatches(Topics(partitions=12), counted(12))) == []


def test_partition_counts_must_agree_and_the_fix_is_named() -> None:
    (problem,) = topics.mismatches(PLAIN, counted(4, state=5))
    assert "trace.state has 5 partitions, trace.events has 4" in problem
    assert "delete trace.state and run `tailrace topics create`" in problem
    (problem,) = topics.mismatches(PLAIN, counted(4, events=1))  # what a cluster made by itself
    assert "trace.events has 1 partition, trace.enriched has 4" in problem
    assert "delete trace.events and run `tailrace topics create`" in problem
    neither = list(topics.mismatches(PLAIN, counted(3, state=5)))
    assert len(neither) == 6
    assert "trace.events has 3 partitions, topics.partitions is 4" in neither[0]
    assert "trace.state has 5 partitions, topics.partitions is 4" in neither[2]


def test_partition_counts_must_be_those_of_the_settings() -> None:
    (problem,) = topics.mismatches(PLAIN, counted(1))
    assert "trace.events has 1 partition (and 5 more topics), topics.partitions is 4" in problem
    assert "set topics.partitions = 1" in problem
    (problem, *missing) = topics.mismatches(PLAIN, {NAMES.events: counted(1)[NAMES.events]})
    assert "trace.events has 1 partition, topics.partitions is 4: set topics.partitions = 1" in problem
    assert len(missing) == 7


def test_the_control_topic_has_one_partition() -> None:
    """Whoever reads it at a start reads all of it, in the order of the changes."""
    (spec,) = (t for t in topics.wanted(Topics(partitions=12)) if t.name == NAMES.control)
    assert (spec.partitions, spec.config["cleanup.policy"]) == (1, "compact")
    (problem,) = topics.mismatches(PLAIN, counted(4, control=4))
    assert problem.startswith("trace.control has 4 partitions, needs 1: ")
    assert "run `tailrace topics create`" in problem


@pytest.mark.parametrize(("replication", "insync"), [(1, "1"), (3, "1"), (2, "2")])
def test_what_is_not_durable_is_a_warning(replication: int, insync: str) -> None:
    state = changed(
        good()[NAMES.state], replication_factor=replication, config={"min.insync.replicas": insync}
    )
    (warning,) = topics.not_durable(PLAIN, good(**{NAMES.state: state}))
    assert warning.startswith(
        f"trace.state has replication factor {replication} and min.insync.replicas {insync}"
    )
    assert "3 and 2" in warning


@pytest.mark.kafka
def test_topics_are_created_once_and_then_are_correct(
    broker: Broker, topics_settings: Callable[..., Settings]
) -> None:
    settings = topics_settings(partitions=3, create=False).topics
    names = [t.name for t in topics.wanted(settings)]
    assert sorted(topics.create(admin(broker), settings)) == sorted(names)
    assert topics.create(admin(broker), settings) == []
    found = topics.describe(admin(broker), [*names, "never.made"])
    assert sorted(found) == sorted(names)
    assert list(topics.mismatches(settings, found)) == []
    assert len(list(topics.not_durable(settings, found))) == len(names)
    assert topics.verify(admin(broker), settings) == 3


@pytest.mark.kafka
def test_nothing_is_created_beside_topics_with_another_partition_count(
    broker: Broker, topics_settings: Callable[..., Settings]
) -> None:
    """A cluster that creates topics by itself may have made one with its own default."""
    settings = topics_settings(partitions=4, create=False).topics
    names, client = TopicNames.of(settings), admin(broker)
    client.create_topics([NewTopic(names.events, num_partitions=1)])[names.events].result()
    wait_until(lambda: topics.describe(client, [names.events]), 60, "it is shown")
    with pytest.raises(TopicMismatch, match=r"events has 1 partition, topics\.partitions is 4"):
        topics.create(client, settings)
    assert list(topics.describe(client, [t.name for t in topics.wanted(settings)])) == [names.events]
    topics.create(client, msgspec.structs.replace(settings, partitions=1))


@pytest.mark.kafka
def test_missing_topics_are_created_beside_existing_ones(
    broker: Broker, topics_settings: Callable[..., Settings]
) -> None:
    settings = topics_settings(partitions=2).topics
    names = TopicNames.of(settings)
    client = admin(broker)
    for future in client.delete_topics([names.metrics, names.dead_letters], operation_timeout=30).values():
        future.result()
    while names.metrics in client.list_topics().topics or names.dead_letters in client.list_topics().topics:
        pass  # the broker takes a moment to show a change
    assert sorted(topics.create(admin(broker), settings)) == sorted([names.metrics, names.dead_letters])
    assert topics.verify(admin(broker), settings) == 2


@pytest.mark.kafka
def test_wrong_topics_stop_every_process_that_uses_them(
    broker: Broker, topics_settings: Callable[..., Settings]
) -> None:
    settings = topics_settings(partitions=2, create=False).topics
    names = TopicNames.of(settings)
    new = [
        NewTopic(
            names.events,
            num_partitions=2,
            config={"max.message.bytes": "500000", "message.timestamp.type": "CreateTime"},
        ),
        NewTopic(names.state, num_partitions=3, config={"cleanup.policy": "delete"}),
    ]
    client = admin(broker)
    for future in client.create_topics(new).values():
        future.result()
    made = {names.events, names.state}
    wait_until(lambda: topics.describe(client, list(made)).keys() == made, 60, "they are shown")
    with pytest.raises(TopicMismatch) as caught:
        topics.verify(admin(broker), settings)
    lines = str(caught.value).splitlines()
    assert sum("is missing: run `tailrace topics create`" in line for line in lines) == 6
    for part in (
        "max.message.bytes=500000, needs 1000000",
        "CreateTime, needs LogAppendTime",
        "has 3 partitions",
        "cleanup.policy=delete, needs compact",
    ):
        assert sum(part in line for line in lines) == 1
    with pytest.raises(TopicMismatch, match="has 3 partitions"):
        topics.create(admin(broker), settings)
    assert topics.describe(client, [t.name for t in topics.wanted(settings)]).keys() == made


@pytest.mark.kafka
def test_the_reason_of_the_broker_is_given_when_it_refuses_topics(
    broker: Broker, topics_settings: Callable[..., Settings]
) -> None:
    settings = topics_settings(replication_factor=3, create=False).topics
    with pytest.raises(KafkaException, match=r"[Rr]eplication"):
        topics.create(admin(broker), settings)
