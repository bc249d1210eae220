"""On a cluster that creates topics by itself no client makes it do so; a missing topic is waited for."""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka.errors import UnknownTopicOrPartitionError
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tailrace import Publisher, clients, kafka, topics
from tailrace.broker import Broker
from tailrace.cli import cli
from tailrace.missing_topic import MissingTopic
from tailrace.settings import Settings, convert
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until
from tests.streams.events import event


@pytest.fixture(scope="module")
def creating() -> Iterator[Broker]:
    """A broker as many clusters are set up: it creates what a client asks for."""
    with Broker(properties={"auto.create.topics.enable": "true"}) as broker:
        yield broker


@pytest.fixture
def settings(creating: Broker) -> Settings:
    values = {
        "kafka": {"bootstrap_servers": creating.bootstrap_servers},
        "topics": {"prefix": f"t{uuid.uuid4().hex[:12]}."},
    }
    return convert(values, Settings, "")


def made(settings: Settings) -> list[str]:
    """The topics of these settings that exist."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    return [n for n in admin.list_topics(timeout=20).topics if n.startswith(settings.topics.prefix)]


@pytest.mark.kafka
def test_a_publisher_waits_for_the_topic_and_says_how_to_make_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    said = f"{settings.topics.prefix}events is missing: run `tailrace topics create`"

    def told() -> int:
        return sum(said in r.getMessage() for r in caplog.records)

    with caplog.at_level(logging.WARNING, "tailrace.publisher"):
        with Publisher(settings=settings) as publisher:
            publisher.publish(event(n=1))
            wait_until(told, 60, "it says what is missing")
            publisher.publish(event(n=2))
            assert publisher.counts.in_flight == 2
            assert made(settings) == []
            admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
            topics.create(admin, settings.topics)
            assert publisher.flush(60)
        assert publisher.counts.delivered == 2
    assert told() == 1
    assert topics.verify(admin, settings.topics) == 4


def test_librdkafka_waits_for_a_missing_topic_for_as_long_as_it_can() -> None:
    """By default it gives events up after 30 s, however long the delivery timeout is.

    It counts microseconds in 32 bits: with more than this it does not wait at all.
    """
    longest = clients.publisher(Settings())["topic.metadata.propagation.max.ms"]
    assert 30 * 60 * 1000 < longest <= 2**31 // 1000


@pytest.mark.kafka
def test_no_client_of_librdkafka_makes_a_topic(settings: Settings) -> None:
    names = topics.TopicNames.of(settings.topics)
    admin, _ = kafka.wait_for_broker(settings.kafka, 60)
    assert admin.list_topics(names.events, timeout=20).topics[names.events].error
    assert topics.topic_id(admin, names.events) == ""
    for properties in (clients.dead_letters(settings, "x"), clients.publisher(settings)):
        producer = kafka.open_client(Producer, properties)
        producer.produce(names.dead_letters, b"x")
        assert producer.list_topics(names.dead_letters, timeout=20).topics[names.dead_letters].error
        producer.purge()
    transactional = kafka.open_client(Producer, clients.transactional(settings, settings.topics.prefix))
    transactional.init_transactions(60)
    transactional.begin_transaction()
    transactional.produce(names.enriched, b"x")
    transactional.poll(0.5)
    transactional.abort_transaction(60)
    for made_by in (
        clients.sink(settings, "x", partition_eof=True),
        clients.reader(settings.kafka, f"{settings.topics.prefix}x"),
    ):
        consumer = kafka.open_client(Consumer, made_by)
        consumer.subscribe([names.enriched])
        error = wait_until(
            functools.partial(_error, consumer), 60, "the consumer says that the topic is missing"
        )
        assert error == KafkaError.UNKNOWN_TOPIC_OR_PART
        with pytest.raises(KafkaException):
            consumer.get_watermark_offsets(TopicPartition(names.state, 0), timeout=1)
        consumer.close()
    assert made(settings) == []


def _says(child: Child, text: str) -> bool:
    return text in child.output()


def _error(consumer: Consumer) -> int | None:
    message = consumer.poll(0.5)
    error = None if message is None else message.error()
    return None if error is None else int(error.code())


@pytest.mark.kafka
def test_the_processors_consumer_makes_no_topic(settings: Settings) -> None:
    name = topics.TopicNames.of(settings.topics).events
    importlib.import_module("streams.runtime.faust_transport")  # as a worker does

    async def subscribed() -> None:
        consumer = aiokafka.AIOKafkaConsumer(
            name,
            bootstrap_servers=settings.kafka.bootstrap_servers,
            group_id=f"{name}-group",
            request_timeout_ms=2000,  # so long it waits for the topic
        )
        try:
            with pytest.raises(UnknownTopicOrPartitionError):
                await consumer.start()
        finally:
            await consumer.stop()

    asyncio.run(subscribed())
    assert made(settings) == []


@pytest.mark.kafka
def test_no_command_makes_a_topic_and_each_says_how_to(
    creating: Broker, settings: Settings, tmp_path: Path
) -> None:
    hint = "run `tailrace topics create`"
    options = ["-b", creating.bootstrap_servers, "--set", f"topics.prefix={settings.topics.prefix}"]
    for command in (["check"], ["topics", "check"], ["metrics"], ["ledger"], ["publish", "--timeout", "0.2"]):
        ran = CliRunner().invoke(cli, [*command, *options], input="")
        assert ran.exit_code != 0, command
        assert hint in f"{ran.output} {ran.exception}", command
    pipeline = Pipeline(creating.bootstrap_servers, tmp_path, create=False)
    with pipeline.process() as process, pipeline.tailrace("connect", "console", name="connect") as connect:
        for child in (process, connect):
            says = functools.partial(_says, child, hint)
            wait_until(says, 120, "it says how to make the topics", alive=(child,))
        assert made(pipeline.settings) == []
        topics.create(pipeline.admin, pipeline.settings.topics)
        with Publisher(settings=pipeline.settings) as publisher:
            publisher.publish(event(n=1))
        pipeline.wait_for_enriched(1, 120, alive=(process, connect))
    assert made(settings) == []


@pytest.mark.kafka
def test_a_count_that_the_cluster_chose_ends_every_command_that_relies_on_it(
    creating: Broker, settings: Settings, tmp_path: Path
) -> None:
    """The topic was made by someone else's client, with the cluster's default of one partition."""
    name = topics.TopicNames.of(settings.topics).events
    other = Producer({"bootstrap.servers": creating.bootstrap_servers})
    other.produce(name, b"x")
    assert other.flush(60) == 0
    said = f"{name} has 1 partition, topics.partitions is 4: set topics.partitions = 1"
    options = ["-b", creating.bootstrap_servers, "--set", f"topics.prefix={settings.topics.prefix}"]
    for command, code in (
        (["check"], 1),
        (["topics", "check"], 1),
        (["topics", "create"], 2),
        (["process"], 2),
        (["process", "--create-topics"], 2),
    ):
        ran = Pipeline(creating.bootstrap_servers, tmp_path, create=False).tailrace(
            *command, *options, name="-".join(command), env={"TAILRACE_TOPICS_PREFIX": ""}
        )
        with ran:
            assert ran.wait(120) == code, ran.tail()
            assert said in ran.output(), command
    assert made(settings) == [name]


# -- what the publisher's thread does, without a broker


class Cluster:
    """Stands for a producer: whether the topic exists, or an exception."""

    def __init__(self, error: int | KafkaException | None) -> None:
        self.error, self.asked = error, 0

    def list_topics(self, topic: str, timeout: float) -> object:
        self.asked += 1
        if isinstance(self.error, KafkaException):
            raise self.error
        error = None if self.error is None else KafkaError(self.error)
        return type("Metadata", (), {"topics": {topic: type("Topic", (), {"error": error})}})


def watching(said: list[str], now: list[float], state: dict[str, int]) -> Callable[[Any], None]:
    watch = MissingTopic(
        "t",
        delivered=lambda: state["delivered"],
        waiting=lambda: bool(state["waiting"]),
        say=said.append,
        clock=lambda: now[0],
        run=lambda work: work(),
    )
    return watch.look


def test_the_cluster_is_asked_only_while_events_wait_and_none_is_delivered() -> None:
    said: list[str] = []
    now, state = [0.0], {"delivered": 0, "waiting": 0}
    look, cluster = watching(said, now, state), Cluster(None)
    for step in range(100):  # nothing waits
        now[0] = step
        look(cluster)
    state["waiting"] = 1
    for step in range(100):  # something is delivered each time
        now[0] += 1
        state["delivered"] = step + 1
        look(cluster)
    assert cluster.asked == 0
    for _ in range(100):
        now[0] += 0.1
        look(cluster)
    assert cluster.asked == 2  # after 1 s, and 5 s later
    assert said == []


def test_it_says_it_once_until_something_is_delivered() -> None:
    said: list[str] = []
    now, state = [0.0], {"delivered": 0, "waiting": 1}
    look = watching(said, now, state)
    missing, down = Cluster(KafkaError.UNKNOWN_TOPIC_OR_PART), Cluster(KafkaException(KafkaError(-195)))
    for cluster in (down, missing, missing, missing):
        for _ in range(80):
            now[0] += 0.1
            look(cluster)
    assert said == ["t is missing: run `tailrace topics create`"]
    assert missing.asked == 1
    state["delivered"] = 1
    for _ in range(20):
        now[0] += 0.1
        look(missing)
    assert len(said) == 2
