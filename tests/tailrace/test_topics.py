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


def test_other_retention_larger_records_and_more_partitions_everywhere_are_fine() -> None:
    found = {
        n: changed(f, partitions=12, config={"retention.ms": "1", "max.message.bytes": "9999999"})
        for n, f in good().items()
    }
    found[NAMES.dead_letters] = changed(found[NAMES.dead_letters], partitions=1)
    assert list(topics.mismatches(PLAIN, found)) == []


def test_partition_counts_must_agree_and_the_fix_is_named() -> None:
    (problem,) = topics.mismatches(PLAIN, good(**{NAMES.state: changed(good()[NAMES.state], partitions=5)}))
    assert "trace.state has 5 partitions, trace.events has 4" in problem
    assert "delete trace.state and run `tailrace topics create`" in problem


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
def test_missing_topics_are_created_with_the_partitions_of_existing_ones(
    broker: Broker, topics_settings: Callable[..., Settings]
) -> None:
    settings = topics_settings(partitions=2).topics
    names = TopicNames.of(settings)
    client = admin(broker)
    for future in client.delete_topics([names.metrics, names.dead_letters], operation_timeout=30).values():
        future.result()
    while names.metrics in client.list_topics().topics or names.dead_letters in client.list_topics().topics:
        pass  # the broker takes a moment to show a change
    more = msgspec.structs.replace(settings, partitions=8)
    assert sorted(topics.create(admin(broker), more)) == sorted([names.metrics, names.dead_letters])
    found = topics.describe(admin(broker), [names.metrics, names.dead_letters])
    assert (found[names.metrics].partitions, found[names.dead_letters].partitions) == (2, 8)
    assert topics.verify(admin(broker), more) == 2


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
    assert sum("is missing: run `tailrace topics create`" in line for line in lines) == 5
    for part in (
        "max.message.bytes=500000, needs 1000000",
        "CreateTime, needs LogAppendTime",
        "has 3 partitions",
        "cleanup.policy=delete, needs compact",
    ):
        assert sum(part in line for line in lines) == 1
    topics.create(admin(broker), settings)
    assert (
        len(
            list(
                topics.mismatches(
                    settings, topics.describe(admin(broker), [t.name for t in topics.wanted(settings)])
                )
            )
        )
        == 5
    )


@pytest.mark.kafka
def test_the_reason_of_the_broker_is_given_when_it_refuses_topics(
    broker: Broker, topics_settings: Callable[..., Settings]
) -> None:
    settings = topics_settings(replication_factor=3, create=False).topics
    with pytest.raises(KafkaException, match=r"[Rr]eplication"):
        topics.create(admin(broker), settings)
