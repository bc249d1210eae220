"""Stored positions on a real broker: markers, retention, added partitions, and other processors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from streams.runtime import restore
from tailrace import codec
from tailrace.broker import Broker
from tailrace.cli import cli
from tailrace.ledger.pipeline_identity import transactional_id
from tailrace.ledger.positions import last_positions
from tailrace.records import DeadLetter
from tests.harness import enriched
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until
from tests.streams.runtime.publishing import publish

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def pipeline(broker: Broker, tmp_path: Path) -> Pipeline:
    return Pipeline(broker.bootstrap_servers, tmp_path)


def ends(pipeline: Pipeline, partitions: int | None = None) -> dict[int, int]:
    """Partition -> end of trace.events."""
    consumer = Consumer({"bootstrap.servers": pipeline.bootstrap, "group.id": "ends"})
    try:
        return {
            n: consumer.get_watermark_offsets(TopicPartition(pipeline.names.events, n), timeout=10)[1]
            for n in range(partitions or pipeline.settings.topics.partitions)
        }
    finally:
        consumer.close()


def delete(pipeline: Pipeline, before: dict[int, int]) -> None:
    """Retention removes what is before these offsets."""
    gone = [TopicPartition(pipeline.names.events, n, offset) for n, offset in before.items()]
    for future in pipeline.admin.delete_records(gone).values():
        future.result(30)


def positions(pipeline: Pipeline) -> dict[int, int]:
    return {n: p.next_offset for n, p in last_positions(pipeline.admin, pipeline.settings).items()}


def leave_markers(pipeline: Pipeline) -> None:
    """An aborted transaction in every partition of trace.events: offsets that hold nothing to read."""
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "transactional.id": pipeline.names.events})
    producer.init_transactions(30)
    producer.begin_transaction()
    for n in range(pipeline.settings.topics.partitions):
        producer.produce(pipeline.names.events, b"aborted", b"k", n)
    producer.flush(30)
    producer.abort_transaction(30)


def dead_letters(pipeline: Pipeline) -> list[DeadLetter]:
    messages, _ = enriched.read(pipeline.bootstrap, pipeline.names.dead_letters, committed=True)
    return [codec.decode(m.value(), DeadLetter) for m in messages]


def works(worker: Child) -> None:
    wait_until(lambda: "took over partitions" in worker.output(), 60, "it works", alive=(worker,))


def add_partitions(pipeline: Pipeline, count: int, *topics: str) -> None:
    for future in pipeline.admin.create_partitions([NewPartitions(t, count) for t in topics]).values():
        future.result(30)
    wait_until(
        lambda: all(
            len(pipeline.admin.list_topics(t, timeout=10).topics[t].partitions) == count for t in topics
        ),
        60,
        "the partitions are there",
    )


def more(pipeline: Pipeline, count: int) -> None:
    """Sets topics.partitions."""
    topics = msgspec.structs.replace(pipeline.settings.topics, partitions=count)
    pipeline.settings = msgspec.structs.replace(pipeline.settings, topics=topics)
    pipeline.env["TAILRACE_TOPICS_PARTITIONS"] = str(count)


# -- markers and retention
def test_a_partition_that_ends_in_markers_may_be_emptied_by_retention(pipeline: Pipeline) -> None:
    first = publish(pipeline, range(10))
    with pipeline.process() as worker:
        pipeline.wait_for_enriched(first, alive=(worker,))
        leave_markers(pipeline)
        wait_until(
            lambda: positions(pipeline) == ends(pipeline), 60, "the positions are past them", alive=(worker,)
        )
        assert worker.sigterm(60) == 0, worker.tail()
    delete(pipeline, ends(pipeline))
    second = publish(pipeline, range(10, 20))
    with pipeline.process() as worker:
        report = pipeline.wait_for_enriched(first + second, alive=(worker,))
        assert worker.sigterm(60) == 0, worker.tail()
    assert report.balanced
    topic = enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched)
    assert (len(topic.committed), enriched.sequence_gaps(topic.committed)) == (first + second, [])


def test_a_gap_that_nobody_has_read_is_a_loss_however_small(pipeline: Pipeline) -> None:
    total = publish(pipeline, range(10))
    with pipeline.process() as worker:
        pipeline.wait_for_enriched(total, alive=(worker,))
        assert worker.sigterm(60) == 0, worker.tail()
    leave_markers(pipeline)  # it could as well have been records
    delete(pipeline, ends(pipeline))
    assert not pipeline.ledger_report().balanced
    with pipeline.process() as worker:
        assert worker.wait(60) == 6, worker.tail()
        assert "--accept-loss" in worker.output()
    with pipeline.process("--accept-loss") as worker:
        wait_until(
            lambda: positions(pipeline) == ends(pipeline), 60, "it has accepted the loss", alive=(worker,)
        )
        assert worker.sigterm(60) == 0, worker.tail()
    assert pipeline.ledger_report().balanced


def test_records_deleted_before_the_first_one_was_read_are_a_loss(pipeline: Pipeline) -> None:
    with pipeline.process() as worker:
        wait_until(
            lambda: positions(pipeline) == dict.fromkeys(range(4), 0), 60, "it stores them", alive=(worker,)
        )
        assert worker.sigterm(60) == 0, worker.tail()
    publish(pipeline, range(10))
    delete(pipeline, {n: end - 1 for n, end in ends(pipeline).items() if end > 1})
    assert not pipeline.ledger_report().balanced
    with pipeline.process() as worker:
        assert worker.wait(60) == 6, worker.tail()
        assert "retention removed the records" in worker.output()
    assert not enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched).committed


def test_records_deleted_before_the_first_start_are_a_loss(pipeline: Pipeline) -> None:
    publish(pipeline, range(10))
    delete(pipeline, {n: end - 1 for n, end in ends(pipeline).items() if end > 1})
    assert not pipeline.ledger_report().balanced
    with pipeline.process() as worker:
        assert worker.wait(60) == 6, worker.tail()
    left = sum(a.pending for a in pipeline.ledger_report().streams)
    with pipeline.process("--accept-loss") as worker:
        pipeline.wait_for_enriched(left, alive=(worker,))
        assert worker.sigterm(60) == 0, worker.tail()
    assert pipeline.ledger_report().balanced


def test_one_reader_looks_into_all_partitions(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader takes half a second to come and go: with one for each of 100 partitions a start took 56 s."""
    producer = Producer(
        {"bootstrap.servers": pipeline.bootstrap, "transactional.id": transactional_id(pipeline.settings, 0)}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(pipeline.names.enriched, b"aborted", b"k", 1)
    producer.flush(30)
    producer.abort_transaction(30)
    producer.begin_transaction()
    for n in (2, 3):
        for _ in range(1000):
            producer.produce(pipeline.names.enriched, b"x" * 1000, b"k", n)
    producer.commit_transaction(30)
    opened: list[Consumer] = []
    reader = restore._reader

    def counted(*arguments: Any, **properties: Any) -> Consumer:
        opened.append(reader(*arguments, **properties))
        return opened[-1]

    monkeypatch.setattr(restore, "_reader", counted)
    assert restore.first_records(pipeline.settings.kafka, pipeline.names.enriched, [0, 1, 2, 3]) == {2, 3}
    assert len(opened) == 1


# -- added partitions
def test_partitions_added_under_a_worker_stop_it_and_a_new_generation_loses_nothing(
    pipeline: Pipeline,
) -> None:
    names = pipeline.names
    total = publish(pipeline, range(20))
    with pipeline.process() as worker:
        pipeline.wait_for_enriched(total, alive=(worker,))
        add_partitions(pipeline, 7, names.events)
        total += publish(pipeline, range(100, 140))  # a new publisher knows the new partitions
        assert worker.wait(60) == 8, worker.tail()
        assert "--new-generation" in worker.output()
    assert not dead_letters(pipeline)
    with pipeline.process() as worker:
        assert worker.wait(60) == 8, worker.tail()
        assert f"{names.events} has 7 partitions, its events were processed with 4" in worker.output()
    add_partitions(pipeline, 7, names.enriched, names.state, names.metrics, names.totals, names.summaries)
    more(pipeline, 7)
    with pipeline.process() as worker:
        assert worker.wait(60) == 8, worker.tail()
    with pipeline.process("--new-generation") as worker:
        report = pipeline.wait_for_enriched(total, alive=(worker,))
        assert worker.sigterm(60) == 0, worker.tail()
    assert report.balanced
    assert not dead_letters(pipeline)
    once(pipeline, total, 7)


def test_a_drained_pipeline_gets_more_partitions(pipeline: Pipeline) -> None:
    """The procedure of docs/production.md."""
    names = pipeline.names
    total = publish(pipeline, range(20))
    with pipeline.process() as worker:
        wait_until(lambda: pipeline.ledger_report().settled, 60, "it is drained", alive=(worker,))
        assert worker.sigterm(60) == 0, worker.tail()
    add_partitions(
        pipeline,
        8,
        *(names.events, names.enriched, names.state, names.metrics, names.totals, names.summaries),
    )
    more(pipeline, 8)
    with pipeline.process("--new-generation") as worker:
        total += publish(pipeline, range(100, 120))
        pipeline.wait_for_enriched(total, alive=(worker,))
        assert worker.sigterm(60) == 0, worker.tail()
    with pipeline.process() as worker:  # from now on without the option
        total += publish(pipeline, range(200, 220))
        report = pipeline.wait_for_enriched(total, alive=(worker,))
        assert worker.sigterm(60) == 0, worker.tail()
    assert (report.balanced, len(report.streams)) == (True, 8)
    assert not dead_letters(pipeline)
    found = once(pipeline, total, 8)
    assert {r.context.generation for r in found if r.context and r.partition > 3} == {1}
    assert {r.context.generation for r in found if r.context and r.partition < 4} == {0, 1}
    assert {p.generation for p in last_positions(pipeline.admin, pipeline.settings).values()} == {1}


def once(pipeline: Pipeline, total: int, partitions: int) -> list[enriched.Enriched]:
    """Every record of trace.events is enriched once, numbered without gaps, in all partitions."""
    source = enriched.read_source(pipeline.bootstrap, pipeline.names.events)
    found = enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched).committed
    assert len(source) == total
    assert sorted((r.partition, r.context.source_offset) for r in found if r.context) == sorted(
        (s.partition, s.offset) for s in source
    )
    assert enriched.sequence_gaps(found) == []
    assert {r.partition for r in found} == set(range(partitions))
    return found


# -- other processors
def test_a_second_app_id_on_the_same_topics_is_refused_and_disturbs_nobody(pipeline: Pipeline) -> None:
    total = publish(pipeline, range(20))
    other = {"TAILRACE_STREAMS_APP_ID": "second"}
    with pipeline.process() as worker:
        pipeline.wait_for_enriched(total, alive=(worker,))
        with pipeline.tailrace("process", name="second", env=other) as second:
            assert second.wait(60) == 2, second.tail()
            assert f"streams.app_id to {pipeline.settings.streams.app_id!r}" in second.output()
            assert "topics.prefix" in second.output()
        total += publish(pipeline, range(20, 40))
        report = pipeline.wait_for_enriched(total, alive=(worker,))
        assert "ended" not in worker.output()
    assert report.balanced
    assert len(enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched).committed) == total
    ran = CliRunner().invoke(cli, ["check"], env={**pipeline.env, **other})
    assert ran.exit_code == 1
    assert "streams.app_id" in ran.stderr
    assert CliRunner().invoke(cli, ["check"], env=pipeline.env).exit_code == 0


def test_of_two_app_ids_that_start_together_one_works_and_nothing_is_enriched_twice(
    pipeline: Pipeline,
) -> None:
    total = publish(pipeline, range(50))
    first = pipeline.process(name="first")
    second = pipeline.tailrace("process", name="second", env={"TAILRACE_STREAMS_APP_ID": "second"})
    with first, second:
        wait_until(lambda: not (first.running and second.running), 60, "one has given up")
        (left,) = [child for child in (first, second) if child.running]
        pipeline.wait_for_enriched(total, alive=(left,))
        wait_until(lambda: pipeline.ledger_report().settled, 60, "all is applied", alive=(left,))
        assert (second if left is first else first).wait(60) == 2
    found = enriched.read_enriched(pipeline.bootstrap, pipeline.names.enriched).committed
    assert (len(found), enriched.sequence_gaps(found)) == (total, [])


def test_two_prefixes_with_one_app_id_do_not_fence_each_other(broker: Broker, tmp_path: Path) -> None:
    pipelines = [Pipeline(broker.bootstrap_servers, tmp_path) for _ in range(2)]
    same = {"TAILRACE_STREAMS_APP_ID": "same"}
    children = [
        p.tailrace("process", "--instance-id", "same", name=f"process-{i}", env=same)
        for i, p in enumerate(pipelines)
    ]
    with children[0], children[1]:
        for child in children:
            works(child)
        for p in pipelines:
            total = publish(p, range(20))
            report = p.wait_for_enriched(total, alive=tuple(children))
            assert report.balanced
        for child in children:
            assert "ended" not in child.output(), child.tail()


# -- descriptors
def limited(pipeline: Pipeline, limits: str) -> Child:
    """`tailrace process` with limits of open files."""
    command = [sys.executable, "-m", "tailrace", "process", "--instance-id", "limited"]
    return Child(
        ["sh", "-c", f'{limits}; exec "$@"', "sh", *command], pipeline.env, pipeline.folder / "limited.log"
    )


def test_the_limit_of_open_files_is_raised_for_many_partitions(broker: Broker, tmp_path: Path) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, partitions=32)
    total = publish(pipeline, range(20))
    with limited(pipeline, "ulimit -Sn 160") as worker:
        pipeline.wait_for_enriched(total, alive=(worker,))
        assert "ended" not in worker.output(), worker.tail()


def test_a_limit_of_open_files_that_cannot_be_raised_is_named(broker: Broker, tmp_path: Path) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, partitions=32)
    with limited(pipeline, "ulimit -n 160") as worker:
        wait_until(
            lambda: "of 160 file descriptors are in use: raise the limit" in worker.output(),
            120,
            "it names the limit",
            alive=(worker,),
        )
