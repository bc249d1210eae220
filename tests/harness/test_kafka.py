"""The harness on a real broker: ledger offsets, committed and uncommitted readers, lag."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tailrace import codec, topics
from tailrace.broker import Broker
from tailrace.publisher import Publisher
from tailrace.records import ParentKind, TraceContext
from tests.harness import enriched, ledger, load
from tests.harness.pipeline import Pipeline
from tests.harness.processes import group_lag, require_lag, total_lag, unread, wait_until_read

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def pipeline(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(broker.bootstrap_servers, tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def obligations(pipeline: Pipeline) -> ledger.Obligations:
    path = pipeline.folder / "ledger.jsonl"
    with ledger.Ledger(path) as promises, Publisher(settings=pipeline.settings) as publisher:
        went = load.publish(load.Load(seed=11, events=500, seconds=0.5), publisher, promises)
        probe = load.probe(publisher, promises, seed=11)
    assert (went.published, went.acked, went.unacked) == (500, 500, 0)
    assert went.seconds >= 0.49, "the load keeps its pace"
    assert probe.acked == load.PER_RUN
    return ledger.Obligations.read(path)


def check(pipeline: Pipeline, obligations: ledger.Obligations) -> enriched.EnrichedVerdict:
    names = pipeline.names
    return enriched.check(
        pipeline.bootstrap, obligations, events=names.events, enriched=names.enriched, scenario="exact"
    )


def enrich(pipeline: Pipeline, obligations: ledger.Obligations) -> None:
    """A correct processor whose first transaction in every partition is aborted."""
    messages, _ = enriched.read(pipeline.bootstrap, pipeline.names.events, committed=True)
    by_place = {(o.partition, o.offset): o for o in obligations.acked.values()}
    for partition in range(4):
        producer = transactional(pipeline, f"test-{partition}")
        for commit in (False, True):
            producer.begin_transaction()
            for sequence, m in enumerate(m for m in messages if m.partition() == partition):
                context = codec.encode(context_of(by_place[partition, m.offset()], sequence))
                producer.produce(
                    pipeline.names.enriched,
                    m.value(),
                    m.key(),
                    partition,
                    headers=[(topics.HEADER, context)],
                )
                producer.poll(0)
            producer.flush(30)
            (producer.commit_transaction if commit else producer.abort_transaction)(30)


def context_of(o: ledger.Obligation, sequence: int) -> TraceContext:
    e = o.expected
    return TraceContext(
        generation=0,
        sequence=sequence,
        source_offset=o.offset,
        appended_at=1,
        span_id=bytes.fromhex(e.span_id),
        parent_span_id=bytes.fromhex(e.parent_span_id) if e.parent_span_id else None,
        parent_kind=ParentKind.NODE,
        marks=(),
        run_trace_id=bytes.fromhex(e.trace_id),
        message_trace_id=bytes.fromhex(e.trace_id),
        trace_started_at=1,
    )


def transactional(pipeline: Pipeline, name: str) -> Producer:
    properties = {
        "bootstrap.servers": pipeline.bootstrap,
        "transactional.id": f"{pipeline.names.events}-{name}",
    }
    producer = Producer(properties)
    producer.init_transactions(30)
    return producer


def test_a_correct_processor_passes_and_its_aborted_records_are_counted(
    pipeline: Pipeline, obligations: ledger.Obligations
) -> None:
    before = check(pipeline, obligations)
    assert (before.lost, before.missing_in_source, before.aborted) == (512, 0, 0)
    enrich(pipeline, obligations)
    verdict = check(pipeline, obligations)
    verdict.require(acked=512, aborted=512)
    assert (verdict.enriched, verdict.aborted, verdict.undecided) == (512, 512, 0)


def test_an_open_transaction_is_undecided_and_not_read(
    pipeline: Pipeline, obligations: ledger.Obligations
) -> None:
    before = check(pipeline, obligations)
    producer = transactional(pipeline, "test-open")
    producer.begin_transaction()
    producer.produce(pipeline.names.enriched, b"value", b"key", 0)
    producer.flush(30)
    during = check(pipeline, obligations)
    producer.abort_transaction(30)
    after = check(pipeline, obligations)
    assert (during.enriched, during.undecided, during.aborted) == (before.enriched, 1, before.aborted)
    assert (after.enriched, after.undecided, after.aborted) == (before.enriched, 0, before.aborted + 1)


def test_lag_and_what_is_unread(pipeline: Pipeline, obligations: ledger.Obligations) -> None:
    bootstrap, topic = pipeline.bootstrap, pipeline.names.enriched
    group = f"{topic}-group"
    assert all(lag.committed is None for lag in group_lag(bootstrap, group, topic).values())
    assert require_lag(bootstrap, group, topic) == total_lag(bootstrap, group, topic) > 0
    everything = unread(bootstrap, group, topic)
    with pytest.raises(AssertionError, match="the kill needs 1000000"):
        require_lag(bootstrap, group, topic, at_least=1_000_000)
    with pytest.raises(AssertionError, match=f"{group} has read all of {topic}"):
        wait_until_read(bootstrap, group, topic, 0.1)
    messages, _ = enriched.read(bootstrap, topic, committed=True)
    assert len(messages) == everything
    consumer: Any = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    consumer.commit(
        offsets=list(
            {m.partition(): TopicPartition(topic, m.partition(), m.offset() + 1) for m in messages}.values()
        ),
        asynchronous=False,
    )
    consumer.close()
    assert unread(bootstrap, group, topic) == 0
    assert total_lag(bootstrap, group, topic) > 0, "end markers of transactions"
    wait_until_read(bootstrap, group, topic, 10)
