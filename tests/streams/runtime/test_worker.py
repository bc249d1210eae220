"""The processor as a process, on a real broker."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from tailrace import Publisher, codec
from tailrace.broker import Broker
from tailrace.partitioner import partition_of
from tailrace.records import DeadLetter, TraceContext, TraceEvent
from tests.harness import enriched
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until
from tests.streams.events import event
from tests.streams.processing.test_nesting import chatflow, check_whole
from tests.streams.runtime.publishing import publish

pytestmark = pytest.mark.kafka


@pytest.fixture
def pipeline(broker: Broker, tmp_path: Path) -> Pipeline:
    return Pipeline(broker.bootstrap_servers, tmp_path)


def check(pipeline: Pipeline) -> enriched.Topic:
    """Every record of the source is enriched exactly once, in order, numbered without gaps."""
    source = enriched.read_source(pipeline.bootstrap, pipeline.names.events)
    topic = enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched)
    assert enriched.sequence_gaps(topic.committed) == []
    assert sorted((r.partition, r.context.source_offset) for r in topic.committed if r.context) == sorted(
        (s.partition, s.offset) for s in source
    )
    return topic


def dead_letters(pipeline: Pipeline) -> list[DeadLetter]:
    messages, _ = enriched.read(pipeline.bootstrap, pipeline.names.dead_letters, committed=True)
    return [codec.decode(m.value(), DeadLetter) for m in messages]


@pytest.mark.slow
def test_a_restart_resumes_where_it_was_and_sigterm_loses_and_duplicates_nothing(pipeline: Pipeline) -> None:
    total = 0
    for part in range(3):
        total += publish(pipeline, range(part * 100, part * 100 + 100))
        with pipeline.process() as worker:
            pipeline.wait_for_enriched(total - 200, alive=(worker,))  # the stop may come while it works
            assert worker.sigterm(60) == 0, worker.tail()
    with pipeline.process() as worker:
        # Nothing may be left to do: without this, SIGTERM could come before the worker is a worker.
        wait_until(lambda: "took over partitions" in worker.output(), 60, "it works", alive=(worker,))
        report = pipeline.wait_for_enriched(total, alive=(worker,))
        assert worker.sigterm(60) == 0, worker.tail()
    assert report.balanced
    assert len(check(pipeline).committed) == total


@pytest.mark.slow
def test_a_killed_worker_is_started_again_by_its_supervisor(pipeline: Pipeline) -> None:
    total = publish(pipeline, range(50))
    with pipeline.process() as supervisor:
        pipeline.wait_for_enriched(total, alive=(supervisor,))
        (worker,) = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
        os.kill(int(worker), 9)
        total += publish(pipeline, range(50, 100))
        pipeline.wait_for_enriched(total, alive=(supervisor,))
        assert "killed by SIGKILL" in supervisor.output()
    assert len(check(pipeline).committed) == total


def test_the_supervisors_workers_end_with_it(pipeline: Pipeline) -> None:
    with pipeline.process() as supervisor:
        started = f"/proc/{supervisor.pid}/task/{supervisor.pid}/children"
        children = wait_until(
            lambda: Path(started).read_text().split(), 30, "a worker runs", alive=(supervisor,)
        )
        supervisor.sigkill(family=False)
        for child in children:
            wait_until(functools.partial(_ended, child), 60, f"worker {child} has ended")


def _ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_bad_input_goes_to_the_dead_letters_and_the_flow_goes_on(pipeline: Pipeline) -> None:
    events = pipeline.names.events
    resource = ConfigResource(
        ResourceType.TOPIC,
        events,
        incremental_configs=[
            ConfigEntry("max.message.bytes", "12000000", incremental_operation=AlterConfigOpType.SET)
        ],
    )
    for future in pipeline.admin.incremental_alter_configs([resource]).values():
        future.result(30)
    good = publish(pipeline, range(10))
    valid = codec.encode(event(user_id="AAAA"))
    bad = {
        "bad_magic": b"{}",
        "truncated": valid[:-5],
        "unknown_schema": b"\xc3\x01" + b"\xaa" * 8 + valid[10:],
        "invalid_utf8": valid.replace(b"AAAA", b"\xff\xfeAA"),
        "too_large": codec.encode(msgspec.structs.replace(event(n=99), inputs='"' + "x" * 10_000_000 + '"')),
    }
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "message.max.bytes": 12_000_000})
    for value in bad.values():
        producer.produce(events, value, b"k", partition_of(b"k", 4))
    producer.produce(events, b"\xc3\x01" + b"\x07" * 10_000_000, b"k", 1)
    producer.produce(events, None, b"k", 1)
    assert producer.flush(30) == 0
    good += publish(pipeline, range(10, 20))
    with pipeline.process() as worker:
        report = pipeline.wait_for_enriched(good, alive=(worker,))
        assert worker.sigterm(60) == 0
    found = {dead_letter.reason: dead_letter for dead_letter in dead_letters(pipeline)}
    assert set(found) == {*bad, "empty"}
    assert sum(a.dead_lettered for a in report.streams) == len(bad) + 2
    assert report.balanced
    for reason, value in bad.items():
        if reason != "unknown_schema":
            assert found[reason].raw == value[:1_000_000], reason
    assert found["too_large"].raw_size == len(bad["too_large"])
    topic = enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched)
    assert (len(topic.committed), enriched.sequence_gaps(topic.committed)) == (good, [])


@pytest.mark.slow
def test_a_worker_without_a_broker_says_so_and_starts_when_there_is_one(tmp_path: Path) -> None:
    kafka = Broker(tmp_path / "kafka")
    kafka.start()
    kafka.kill()
    pipeline = Pipeline(kafka.bootstrap_servers, tmp_path, create=False)
    with pipeline.process("--create-topics") as worker, Publisher(settings=pipeline.settings) as publisher:
        publisher.publish(event(n=1))
        wait_until(
            lambda: f"no Kafka broker answers at {kafka.bootstrap_servers}" in worker.output(),
            60,
            "it says what it waits for",
            alive=(worker,),
        )
        kafka.restart()
        wait_until(
            lambda: pipeline.names.events in pipeline.admin.list_topics(timeout=10).topics,
            60,
            "it made the topics",
            alive=(worker,),
        )
        pipeline.wait_for_enriched(1, alive=(worker,))
        assert worker.sigterm(60) == 0
    assert publisher.counts.delivered == 1
    kafka.stop()


@pytest.mark.slow
def test_missing_topics_are_named_with_the_command_that_makes_them(broker: Broker, tmp_path: Path) -> None:
    from tailrace import topics

    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, create=False)
    with pipeline.process() as worker:
        wait_until(
            lambda: "run `tailrace topics create`" in worker.output(),
            60,
            "it names the command",
            alive=(worker,),
        )
        topics.create(pipeline.admin, pipeline.settings.topics)
        total = publish(pipeline, range(5))
        pipeline.wait_for_enriched(total, alive=(worker,))


def test_wrong_topics_end_it_with_the_reason(broker: Broker, tmp_path: Path) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, create=False)
    for future in pipeline.admin.create_topics([NewTopic(pipeline.names.enriched, 3, 1)]).values():
        future.result(30)
    with pipeline.process("--create-topics") as worker:
        assert worker.wait(60) == 2
    assert f"{pipeline.names.enriched} has 3 partitions, topics.partitions is 4" in worker.output()


def remade(pipeline: Pipeline) -> None:
    """trace.events is deleted and created again: the stored position belongs to another log."""
    from tailrace import topics

    for future in pipeline.admin.delete_topics([pipeline.names.events]).values():
        future.result(30)
    wait_until(
        lambda: pipeline.names.events not in pipeline.admin.list_topics(timeout=10).topics,
        60,
        "the topic is gone",
    )

    def made() -> bool:
        topics.create(pipeline.admin, pipeline.settings.topics)
        return pipeline.names.events in pipeline.admin.list_topics(timeout=10).topics

    wait_until(made, 60, "the topic is there again")


@pytest.mark.slow
def test_a_position_of_another_log_refuses_to_start_and_accept_loss_goes_on(pipeline: Pipeline) -> None:
    first = publish(pipeline, range(20))
    with pipeline.process() as worker:
        pipeline.wait_for_enriched(first, alive=(worker,))
        assert worker.sigterm(60) == 0
    remade(pipeline)
    with pipeline.process() as worker:
        assert worker.wait(60) == 6, worker.tail()
        assert "--accept-loss" in worker.output()
    second = publish(pipeline, range(100, 105))
    with pipeline.process("--accept-loss") as worker:
        pipeline.wait_for_enriched(first + second, alive=(worker,))
        assert worker.sigterm(60) == 0


@pytest.mark.slow
def test_a_chatflow_over_three_partitions_without_roots_in_the_headers_is_one_trace(
    broker: Broker, tmp_path: Path
) -> None:
    """A chatflow calls a workflow, which calls a workflow.

    The events are published in the order in which the engine ends things. Their roots are found by links in
    the log.
    """
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, partitions=3)
    done = 0
    with pipeline.process() as worker, Publisher(settings=pipeline.settings) as publisher:
        for e in chatflow(roots=False):
            publisher.publish(e)
            done += 1
            # One event at a time: an engine takes longer between two ends than a link needs.
            pipeline.wait_for_enriched(done, alive=(worker,))
            wait_until(lambda: pipeline.ledger_report().settled, 60, "links are read too", alive=(worker,))
        assert worker.sigterm(60) == 0
    topic = enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched)
    messages, _ = enriched.read(pipeline.bootstrap, pipeline.names.enriched, committed=True)
    contexts = [r.context for r in topic.committed if r.context]
    assert len(contexts) == len(messages) == done
    found = {
        str(codec.decode(m.value(), TraceEvent).source_id): c
        for m in messages
        for c in [codec.decode(m.headers()[0][1], TraceContext)]
    }
    check_whole(found)
    assert len({r.partition for r in topic.committed}) > 1
    report = pipeline.ledger_report()
    assert (sum(a.links for a in report.streams), report.balanced) == (3, True)


@pytest.mark.slow
def test_records_deleted_under_a_running_worker_end_it_and_are_not_skipped(pipeline: Pipeline) -> None:
    first = publish(pipeline, range(20))
    with pipeline.process() as supervisor:
        pipeline.wait_for_enriched(first, alive=(supervisor,))
        (worker,) = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGSTOP)
        publish(pipeline, range(20, 200))
        ends = {tp.partition: tp.offset for tp in log_ends(pipeline)}
        gone = [TopicPartition(pipeline.names.events, n, end - 1) for n, end in ends.items()]
        for future in pipeline.admin.delete_records(gone).values():
            future.result(30)
        os.kill(int(worker), signal.SIGCONT)
        assert supervisor.wait(60) == 6, supervisor.tail()
        assert "retention removed the records" in supervisor.output()
    assert not pipeline.ledger_report().balanced


def log_ends(pipeline: Pipeline) -> list[TopicPartition]:
    consumer = Consumer({"bootstrap.servers": pipeline.bootstrap, "group.id": "ends"})
    partitions = [
        TopicPartition(pipeline.names.events, n) for n in range(pipeline.settings.topics.partitions)
    ]
    found = [
        TopicPartition(tp.topic, tp.partition, consumer.get_watermark_offsets(tp, timeout=10)[1])
        for tp in partitions
    ]
    consumer.close()
    return found


@pytest.mark.slow
def test_a_lost_state_refuses_to_start_instead_of_enriching_everything_again(pipeline: Pipeline) -> None:
    from tailrace import topics

    total = publish(pipeline, range(20))
    with pipeline.process() as worker:
        pipeline.wait_for_enriched(total, alive=(worker,))
        assert worker.sigterm(60) == 0
    for future in pipeline.admin.delete_topics([pipeline.names.state]).values():
        future.result(30)
    wait_until(
        lambda: pipeline.names.state not in pipeline.admin.list_topics(timeout=10).topics,
        60,
        "the topic is gone",
    )
    wait_until(lambda: topics.create(pipeline.admin, pipeline.settings.topics), 60, "the topic is made")
    with pipeline.process() as worker:
        assert worker.wait(60) == 6, worker.tail()
        assert "all events would be enriched a second time" in worker.output()
    assert len(enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched).committed) == total


@pytest.mark.parametrize("key", [b"p", b"t/x", b"d/x", b"l/x"])
def test_a_state_record_that_cannot_be_read_ends_it_with_its_key(pipeline: Pipeline, key: bytes) -> None:
    producer = Producer({"bootstrap.servers": pipeline.bootstrap})
    producer.produce(pipeline.names.state, b"garbage", key, 2)
    assert producer.flush(30) == 0
    with pipeline.process() as worker:
        assert worker.wait(60) == 7, worker.tail()
        assert (
            f"{pipeline.names.state} partition 2: the record with key {key!r} cannot be read"
            in worker.output()
        )


def test_two_processes_on_one_host_share_the_partitions(pipeline: Pipeline) -> None:
    first = pipeline.tailrace("process", name="first")
    second = pipeline.tailrace("process", name="second")
    with first, second:
        total = publish(pipeline, range(50))
        pipeline.wait_for_enriched(total, alive=(first, second))
        assert "ended" not in first.output() + second.output()
        assert first.sigterm(60) == second.sigterm(60) == 0
    assert len(check(pipeline).committed) == total


def test_a_trace_with_many_corrections_ends_no_worker(pipeline: Pipeline) -> None:
    with Publisher(settings=pipeline.settings) as publisher:
        for n in range(300):
            publisher.publish(event(n=1, source_id=f"{n:04}" + "x" * 8000, revision=1))
        publisher.publish(event(n=2))
    with pipeline.process() as worker:
        pipeline.wait_for_enriched(301, alive=(worker,))
        assert "ended" not in worker.output()
