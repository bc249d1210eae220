"""One partition: a record that must wait holds back the records after it, and no other partition."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import pytest

from connectors.consumer.dead_letters import DeadLetterRequest
from connectors.consumer.partition import LOOK_AGAIN, SinkPartition
from connectors.consumer.reader import Reader
from connectors.consumer.status import SinkCounts
from connectors.delivery.batching import BatchLimits
from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import Batch, Enriched, Health, Payload, Skip
from connectors.sdk.http import Http
from connectors.sdk.outcomes import Delivered, Outcomes, Rejected
from tailrace import codec
from tailrace.codec import schemas, wire
from tailrace.ledger.sink_ledger import SinkLedger
from tailrace.records import Stage, TraceContext
from tailrace.schema_registry.schema_wait import SchemaWaitPolicy
from tailrace.topics import HEADER
from tests.connectors.enriching import make_context, make_event
from tests.tailrace.schema_source import SchemaSource

STRANGE, OTHER = b"strange!", b"another!"
"""Fingerprints that no schema has."""


class Numbers:
    """Maps an event to its number, as `answer` says."""

    def __init__(self, answer: Callable[[int], Payload | Skip | Rejected] = lambda n: Payload(n, 1)) -> None:
        self.answer = answer

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        return self.answer(int(str(event.event.event_id).removeprefix("event-")))

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        raise AssertionError("not to be called")

    async def check(self, http: Http) -> Health:
        return Health(True)


class Bench:
    def __init__(
        self,
        sink: Numbers | None = None,
        admit: Callable[[Rejected], bool] | None = None,
        source: SchemaSource | None = None,
    ) -> None:
        self.dead_letters: list[DeadLetterRequest] = []
        self.waits = SchemaWaitPolicy(source, schemas.known.knows, 60.0)
        self.now = 1000.0
        self.counts = SinkCounts()
        self.sink = sink or Numbers()
        self.admit = admit or (lambda rejected: True)
        self.partitions = [self._partition(p) for p in range(2)]

    def _partition(self, partition: int) -> SinkPartition:
        return SinkPartition(
            "sink",
            "trace.enriched",
            partition,
            self.sink,
            Reader(None),
            BatchLimits(10, 1000, 0.0),
            SinkLedger(),
            0,
            self.counts,
            self.dead_letters.append,
            self._admit,
            self.waits,
        )

    def _admit(self, rejected: Rejected) -> bool:
        return self.admit(rejected)

    def give(
        self, n: int, fingerprint: bytes | None = None, partition: int = 0, context: bytes | None = None
    ) -> None:
        event = make_event(n)
        value, header = codec.encode(event), codec.encode(make_context(event, n))
        if fingerprint:
            value = wire.MARKER + fingerprint + value[wire.BODY :]
        if context:
            header = wire.MARKER + context + header[wire.BODY :]
        self.partitions[partition].accept(n, 0, b"key", value, [(HEADER, header)], self.now)

    def later(self, seconds: float) -> None:
        self.now += seconds
        for partition in self.partitions:
            partition.look_again(self.now)

    def sent(self, partition: int = 0) -> list[int]:
        """Takes the next batch and acknowledges it."""
        owned = self.partitions[partition]
        batch = owned.next_batch(self.now)
        if batch is None:
            return []
        done: Future[list[RecordResult]] = Future()
        done.set_result([RecordResult(Delivered(), 1)] * len(batch))
        owned.sent(done)
        owned.collect()
        owned.advance()
        return [int(body) for body in batch.bodies]

    def settle_dead_letters(self) -> list[tuple[str, str, int]]:
        found = [(str(x.stage), x.rejected.reason, x.source.offset) for x in self.dead_letters]
        for request in self.dead_letters:
            request.settle()
        self.dead_letters.clear()
        for partition in self.partitions:
            partition.advance()
        return found


@pytest.fixture
def learn(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes, str], None]:
    """Makes a fingerprint known, as that of a record type."""
    monkeypatch.setattr(schemas, "known", schemas.Resolver())

    def add(fingerprint: bytes, name: str = "TraceEvent") -> None:
        schemas.known.add(wire.MARKER + fingerprint, schemas.Known(name, schemas.current(name)))

    return add


def test_an_unknown_schema_is_waited_for_and_its_partition_with_it() -> None:
    bench = Bench()
    bench.give(0)
    bench.give(1, STRANGE)
    bench.give(2)
    bench.give(0, partition=1)
    assert bench.sent(1) == [0]
    assert bench.sent() == [0]
    partition = bench.partitions[0]
    assert (partition.full, partition.idle, partition.held, len(partition.offsets)) == (True, False, 2, 0)
    assert partition.to_commit(3) == (
        1,
        partition.offsets.ledger,
    )  # never past what is held, wherever the consumer is
    bench.later(59.9)
    assert (bench.sent(), bench.dead_letters) == ([], [])
    bench.later(0.3)
    assert bench.sent() == [2]
    assert bench.settle_dead_letters() == [("decode", "unknown_schema", 1)]
    assert (partition.full, partition.idle, partition.held) == (False, True, 0)
    due = partition.to_commit(3)
    assert due is not None
    assert due[0] == 3
    assert bench.counts.read == 4


def test_it_is_waited_for_once_over_all_partitions() -> None:
    bench = Bench()
    bench.give(0, STRANGE)
    bench.later(40)
    bench.give(0, STRANGE, partition=1)
    assert bench.partitions[1].held == 1
    bench.later(21)
    assert [partition.held for partition in bench.partitions] == [0, 0]
    bench.give(1, STRANGE)
    bench.give(1, STRANGE, partition=1)
    assert [partition.held for partition in bench.partitions] == [0, 0]
    assert len(bench.settle_dead_letters()) == 4
    bench.give(2, OTHER)
    assert bench.partitions[0].held == 1


def test_a_schema_that_was_given_up_is_not_waited_for_again_after_records_of_known_ones() -> None:
    bench = Bench()
    bench.give(0, STRANGE)
    bench.give(1)
    bench.later(61)
    assert bench.sent() == [1]
    bench.give(2, STRANGE)
    bench.give(3)
    assert bench.sent() == [3]
    assert [offset for _, _, offset in bench.settle_dead_letters()] == [0, 2]


def test_a_schema_that_the_registry_lacks_is_not_waited_for_but_for_one_more_answer() -> None:
    source, frame = SchemaSource(), wire.MARKER + STRANGE
    bench = Bench(source=source)
    bench.give(0, STRANGE)
    bench.later(5)
    assert bench.partitions[0].held == 1
    source.lacks.add(frame)
    bench.later(LOOK_AGAIN)
    assert bench.settle_dead_letters() == [("decode", "unknown_schema", 0)]
    source.fetching.add(frame)
    bench.give(1, STRANGE)
    assert bench.partitions[0].held == 1
    source.fetching.clear()
    bench.later(LOOK_AGAIN)
    assert bench.settle_dead_letters() == [("decode", "unknown_schema", 1)]


def test_a_wait_is_logged_once_a_schema(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.give(0, STRANGE)
    bench.give(0, STRANGE, partition=1)
    bench.later(1)
    bench.give(1, OTHER)
    bench.later(61)
    said = [m.partition("unknown schema ")[2] for m in caplog.messages]
    expected = [f"fingerprint {f.hex()}; its partition waits for it" for f in (STRANGE, OTHER)]
    assert said == expected


def test_once_it_is_known_all_goes_on_in_order(learn: Callable[..., None]) -> None:
    bench = Bench()
    bench.give(0, STRANGE)
    for n in range(1, 5):
        bench.give(n, STRANGE if n % 2 else None)
    bench.later(5)
    learn(STRANGE)
    bench.later(LOOK_AGAIN)
    assert bench.sent() == [0, 1, 2, 3, 4]
    assert bench.dead_letters == []
    assert bench.partitions[0].idle


def test_a_context_of_an_unknown_schema_is_waited_for_too(learn: Callable[..., None]) -> None:
    bench = Bench()
    bench.give(0, context=STRANGE)
    bench.later(59)
    assert bench.sent() == []
    wire._by_frame.cache_clear()
    learn(STRANGE, TraceContext.__name__)
    bench.later(LOOK_AGAIN)
    assert bench.sent() == [0]
    wire._by_frame.cache_clear()


@pytest.mark.parametrize("value", [b"", b"garbage", wire.MARKER, wire.MARKER + STRANGE[:5]])
def test_nothing_else_is_waited_for(value: bytes) -> None:
    bench = Bench()
    header = codec.encode(make_context(make_event(0), 0))
    bench.partitions[0].accept(0, 0, None, value, [(HEADER, header)], bench.now)
    assert bench.partitions[0].held == 0
    assert len(bench.dead_letters) == 1


def test_what_cannot_be_mapped_waits_while_the_limits_forbid_to_give_it_up() -> None:
    asked: list[Rejected] = []
    allowed = False

    def admit(rejected: Rejected) -> bool:
        asked.append(rejected)
        return allowed

    bad = Rejected("no_place", "for it")
    bench = Bench(Numbers(lambda n: bad if n == 1 else Payload(n, 1)), admit)
    for n in range(3):
        bench.give(n)
    assert bench.sent() == [0]
    bench.later(LOOK_AGAIN)
    assert asked == [bad, bad]
    partition = bench.partitions[0]
    assert (partition.held, bench.dead_letters) == (2, [])
    allowed = True
    bench.later(LOOK_AGAIN)
    assert bench.sent() == [2]
    assert bench.settle_dead_letters() == [(Stage.MAP, "no_place", 1)]
    assert partition.idle


def test_giving_up_a_partition_commits_nothing_past_what_is_held() -> None:
    bench = Bench()
    bench.give(0)
    assert bench.sent() == [0]
    bench.give(1, STRANGE)
    partition = bench.partitions[0]
    partition.cancel()
    partition.advance()
    due = partition.to_commit(2)
    assert due is not None
    assert due[0] == 1
    assert not partition.idle
