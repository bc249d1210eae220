"""What a runner does when it ends. Without a broker: Kafka's client has one of its own, or is a fake."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from confluent_kafka import TopicPartition

from connectors.config.instances import instance
from connectors.consumer import dead_letter_producer, runner
from connectors.consumer.assignment import Assignment
from connectors.consumer.offset_commits import OffsetCommits
from connectors.consumer.partition import SinkPartition
from connectors.consumer.reader import Reader
from connectors.consumer.runner import Runner
from connectors.consumer.shared_state import SharedState
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.delivery.batching import BatchLimits
from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.outcomes import Delivered
from tailrace import codec
from tailrace.ledger.sink_ledger import SinkLedger
from tailrace.settings import Settings
from tailrace.topics import HEADER
from tests.connectors.consumer.test_partition import Numbers
from tests.connectors.enriching import make_context, make_event


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with which each Kafka client has a broker of its own, inside the client."""
    monkeypatch.setattr(runner, "wait_for_topics", lambda *_: True)
    given = Settings()
    kafka = msgspec.structs.replace(given.kafka, client={"test.mock.num.brokers": "1"})
    return msgspec.structs.replace(given, kafka=kafka)


@contextmanager
def without_collector() -> Iterator[None]:
    """`tailrace connect` collects cycles so seldom that what is in one must count as never freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_replaced_runner_leaves_no_producer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that is not freed keeps its threads and connections."""

    made: list[weakref.ref[Producer]] = []

    class Producer:
        def __init__(self, config: dict[str, Any]) -> None:
            made.append(weakref.ref(self))

        def poll(self, seconds: float) -> None: ...

        def flush(self, seconds: float) -> None: ...

        def purge(self) -> None: ...

    monkeypatch.setattr(dead_letter_producer, "Producer", Producer)
    given = instance(settings, "console", {})
    shared = SharedState(settings, given)
    with without_collector():
        for _ in range(2):
            assert Runner(settings, given, shared=shared, replaced=lambda: True).run() == "replaced"
            shared.use(given)
        assert [producer() for producer in made] == [None, None]


@pytest.mark.parametrize("hangs", [False, True])
def test_the_connections_of_a_sink_that_cannot_be_closed_are_closed(
    hangs: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "CLOSE_SECONDS", 0.1 if hangs else 60.0)

    class Stubborn(Numbers):
        async def close(self) -> None:
            if hangs:
                await asyncio.Event().wait()
            raise OSError("s3cret")

    closed: list[AiohttpTransport] = []
    close = AiohttpTransport.close

    async def closing(self: AiohttpTransport) -> None:
        await close(self)
        closed.append(self)

    monkeypatch.setattr(AiohttpTransport, "close", closing)
    given = msgspec.structs.replace(instance(settings, "console", {}), sink=Stubborn())
    assert Runner(settings, given, replaced=lambda: True).run() == "replaced"
    assert len(closed) == 1
    said = [m for m in caplog.messages if "could not be closed" in m]
    assert len(said) == 1
    assert "s3cret" not in said[0]


class FakeConsumer:
    """A consumer without records. `meanwhile` is called while it waits for some."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile
        self.commits: list[tuple[int, int]] = []

    def consume(self, count: int, seconds: float) -> list[Any]:
        self._meanwhile()
        return []

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        self.commits += [(p.partition, p.offset) for p in offsets]
        return offsets

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        return partitions

    def get_watermark_offsets(self, partition: TopicPartition, cached: bool) -> tuple[int, int]:
        return 0, 1

    def pause(self, partitions: list[TopicPartition]) -> None: ...

    def resume(self, partitions: list[TopicPartition]) -> None: ...

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None: ...


class NoDeadLetters:
    def poll(self) -> None: ...


@pytest.mark.parametrize("end", ["drain", "revoke"])
def test_an_answer_that_comes_while_a_paused_sink_ends_counts(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the records of another partition exceed a dead-letter limit: this one's request is in flight,
    and its answer does not open the gate."""
    given = Settings()
    ending = Runner(given, instance(given, "console", {}))
    ending._activity.paused, ending._activity.sending = "dead-letter limit", 1
    partition = SinkPartition(
        "sink",
        "trace.enriched",
        0,
        Numbers(),
        Reader(None),
        BatchLimits(10, 1000, 0.0),
        SinkLedger(),
        0,
        ending._shared.counts,
        lambda request: None,
    )
    event = make_event(0)
    header = codec.encode(make_context(event, 0))
    partition.accept(0, 0, b"key", codec.encode(event), [(HEADER, header)], 0.0)
    assert partition.next_batch(1.0) is not None
    future: Future[list[RecordResult]] = Future()
    partition.sent(future)

    def answer() -> None:
        if not future.done():
            ending._activity.sending = 0
            future.set_result([RecordResult(Delivered(), 1)])

    consumer: Any = FakeConsumer(answer)
    ending._consumer, ending._partitions[0] = consumer, partition
    ending._began = ending._next_commit = ending._clock()
    ending._assignment = Assignment("sink", consumer, "trace.enriched")
    ending._commits = OffsetCommits(
        "sink", "trace.enriched", consumer, ending._assignment, ending._partitions
    )
    dead_letters: Any = NoDeadLetters()
    ending._dead_letter_producer = dead_letters
    if end == "drain":
        ending._drain()
    else:
        monkeypatch.setattr(ending._wake, "wait", lambda seconds: answer())
        ending._on_revoke(consumer, [TopicPartition("trace.enriched", 0)])
    assert consumer.commits[-1] == (0, 1)
    assert ending.status().counts.delivered == 1
