"""The harness on a real broker: ledger offsets, what committed and uncommitted readers see, lag."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tailrace import codec, topics
from tailrace.broker import Broker
from tailrace.publisher import Publisher
from tailrace.records import ParentKind, TraceContext
from tailrace.settings import Topics
from tests.harness import enriched, ledger, load
from tests.harness.processes import group_lag, require_lag, total_lag, unread, wait_until_read

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with Broker() as broker:
        topics.create(AdminClient({"bootstrap.servers": broker.bootstrap_servers}), Topics())
        yield broker.bootstrap_servers


@pytest.fixture(scope="module")
def obligations(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> ledger.Obligations:
    path: Path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    with ledger.Ledger(path) as book, Publisher(bootstrap) as publisher:
        went = load.publish(load.Load(seed=11, events=500, seconds=0.5), publisher, book)
        probe = load.probe(publisher, book, seed=11)
    assert (went.published, went.acked, went.unacked) == (500, 500, 0)
    assert went.seconds >= 0.49, "it keeps its pace"
    assert probe.acked == load.PER_RUN
    return ledger.Obligations.read(path)


def enrich(bootstrap: str, obligations: ledger.Obligations) -> None:
    """A processor as it must be, whose first try at every partition is aborted."""
    messages, _ = enriched.read(bootstrap, "trace.events", committed=True)
    by_place = {(o.partition, o.offset): o for o in obligations.acked.values()}
    for partition in range(4):
        producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"test-{partition}"})
        producer.init_transactions(30)
        for commit in (False, True):
            producer.begin_transaction()
            for sequence, m in enumerate(m for m in messages if m.partition() == partition):
                context = codec.encode(context_of(by_place[partition, m.offset()], sequence))
                producer.produce(
                    "trace.enriched", m.value(), m.key(), partition, headers=[(topics.HEADER, context)]
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


def test_an_exact_processor_passes_and_its_aborted_records_are_counted(
    bootstrap: str, obligations: ledger.Obligations
) -> None:
    before = enriched.check(bootstrap, obligations)
    assert (before.lost, before.missing_in_source, before.aborted) == (512, 0, 0)
    enrich(bootstrap, obligations)
    verdict = enriched.check(bootstrap, obligations, scenario="exact")
    verdict.require(acked=512, aborted=512)
    assert (verdict.enriched, verdict.aborted, verdict.undecided) == (512, 512, 0)


def test_an_open_transaction_is_undecided_and_not_read(
    bootstrap: str, obligations: ledger.Obligations
) -> None:
    before = enriched.check(bootstrap, obligations)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "test-open"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("trace.enriched", b"value", b"key", 0)
    producer.flush(30)
    during = enriched.check(bootstrap, obligations)
    producer.abort_transaction(30)
    after = enriched.check(bootstrap, obligations)
    assert (during.enriched, during.undecided, during.aborted) == (before.enriched, 1, before.aborted)
    assert (after.enriched, after.undecided, after.aborted) == (before.enriched, 0, before.aborted + 1)


def test_lag_and_what_is_unread(bootstrap: str, obligations: ledger.Obligations) -> None:
    topic, group = "trace.enriched", "test-group"
    assert all(lag.committed is None for lag in group_lag(bootstrap, group, topic).values())
    assert require_lag(bootstrap, group, topic) == total_lag(bootstrap, group, topic) > 0
    everything = unread(bootstrap, group, topic)
    with pytest.raises(AssertionError, match="the kill needs 1000000"):
        require_lag(bootstrap, group, topic, at_least=1_000_000)
    with pytest.raises(AssertionError, match=r"test-group has read all of trace.enriched"):
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
