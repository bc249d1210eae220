"""One partition: a record whose content is stored elsewhere waits for it, and no other partition does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import msgspec
import pytest

from connectors.consumer.dead_letters import DeadLetterRequest
from connectors.consumer.partition import AHEAD, AHEAD_BYTES, LOOK_AGAIN, SinkPartition
from connectors.consumer.reader import Reader
from connectors.consumer.status import SinkCounts
from connectors.content import refs, sink_content
from connectors.content.fetcher import ContentFetcher
from connectors.content.sink_content import REPORT_SECONDS, SinkContent, report_seconds
from connectors.delivery.batching import BatchLimits
from connectors.delivery.sub_batches import RecordResult
from connectors.filters.record_filter import RecordFilter
from connectors.filters.settings import FilterSettings
from connectors.sdk.contract import Batch, Enriched, Health, Payload, Skip
from connectors.sdk.http import Http
from connectors.sdk.outcomes import Delivered, Outcomes, Rejected
from tailrace import codec
from tailrace.content_store.naming import content_hash
from tailrace.ledger.sink_ledger import SinkLedger
from tailrace.records import ContentRef, TraceEvent
from tailrace.topics import HEADER
from tests.connectors.content.stores import FakeStore, ref_to
from tests.connectors.enriching import make_context, make_event
from tests.harness.processes import wait_until

SECONDS = 10.0
NOW = 1_800_000_000.0
PREVIEW = '"preview"'


class Events:
    """Maps an event to itself, with the size of its inputs."""

    def map(self, event: Enriched) -> Payload | Skip | Rejected:
        return Payload(event, len(event.event.inputs or ""))

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        raise AssertionError("not to be called")

    async def check(self, http: Http) -> Health:
        return Health(True)


class Bench:
    """The partitions of one sink, and a store."""

    def __init__(
        self,
        store: FakeStore | None,
        rules: FilterSettings,
        max_bytes: int,
        cut_to: int = 0,
        partitions: int = 2,
    ) -> None:
        self.now = 1000.0
        self.age = 1.0
        """Seconds since the records that are given were appended."""
        self.store = store
        self.dead_letters: list[DeadLetterRequest] = []
        self.counts = SinkCounts()
        self.reports: list[tuple[TraceEvent, Callable[[], None]]] = []
        made = RecordFilter(rules)
        self.fetcher = (
            None
            if store is None
            else ContentFetcher(
                store, seconds=SECONDS, cache_bytes=0, most=10_000_000, clock=lambda: self.now
            )
        )
        self.content = SinkContent(
            "sink",
            self.fetcher,
            refs.fetched_paths(None, made.removed),
            self.counts.content,
            lambda event, done: self.reports.append((event, done)),
            report_for=report_seconds(60),
            clock=lambda: self.now,
            now=lambda: NOW,
        )
        self.partitions = [
            SinkPartition(
                "sink",
                "trace.enriched",
                number,
                Events(),
                Reader(None),
                BatchLimits(10, max_bytes, 0.0),
                SinkLedger(),
                0,
                self.counts,
                self.dead_letters.append,
                admit=made.admit,
                content=self.content,
                cut_to=cut_to,
            )
            for number in range(partitions)
        ]

    def give(self, n: int, *references: ContentRef, partition: int = 0, **changes: Any) -> None:
        event = make_event(n, content_refs=references, **{"inputs": PREVIEW, **changes})
        header = codec.encode(make_context(event, n))
        appended_at = int((NOW - self.age) * 1000)
        self.partitions[partition].accept(
            n, appended_at, b"key", codec.encode(event), [(HEADER, header)], self.now
        )

    def stored(self, n: int, data: bytes, partition: int = 0, **changes: Any) -> None:
        """Gives a record whose inputs are in the store."""
        assert self.store is not None
        self.store.put("tenant", data)
        self.give(n, ref_to(data), partition=partition, **changes)

    def answered(self, times: int = 1) -> None:
        """Waits for answers of the store, and until the fetcher has taken them."""
        assert self.store is not None
        for _ in range(times):
            assert self.store.answered.acquire(timeout=20)
        self.quiet()

    def quiet(self) -> None:
        """Waits until no request is made any more."""
        fetcher = self.fetcher
        assert fetcher is not None
        wait_until(lambda: not fetcher._flying, 20, "the store's answers")

    def later(self, seconds: float = 0.0) -> None:
        self.now += seconds
        for partition in self.partitions:
            partition.look_again(self.now)

    def sent(self, partition: int = 0) -> list[tuple[str | None, str | None]]:
        """Takes the next batch and acknowledges it: event id and inputs of each record."""
        owned = self.partitions[partition]
        batch = owned.next_batch(self.now)
        if batch is None:
            return []
        done: Future[list[RecordResult]] = Future()
        done.set_result([RecordResult(Delivered(), 1)] * len(batch))
        owned.sent(done)
        owned.collect()
        owned.advance()
        return [(body.event.event_id, body.event.inputs) for body in batch.bodies]


@pytest.fixture
def store() -> Iterator[FakeStore]:
    made = FakeStore()
    yield made
    made.release.set()


@pytest.fixture
def bench(store: FakeStore) -> Iterator[Bench]:
    yield from _bench(store)


def _bench(
    store: FakeStore | None, max_bytes: int = 100_000, cut_to: int = 0, partitions: int = 2, **rules: Any
) -> Iterator[Bench]:
    made = Bench(store, FilterSettings(**rules), max_bytes, cut_to, partitions)
    yield made
    if made.fetcher is not None:
        made.fetcher.close()


def text(n: int, size: int = 10) -> bytes:
    return json.dumps(f"{n}" * size).encode()


def test_a_record_waits_for_its_content_and_those_behind_it_with_it(bench: Bench, store: FakeStore) -> None:
    store.hangs = lambda tenant_id: True
    bench.give(0)
    bench.stored(1, text(1))
    bench.give(2)
    bench.give(0, partition=1)
    assert bench.sent(1) == [("event-0", PREVIEW)]
    assert bench.sent() == [("event-0", PREVIEW)]
    partition = bench.partitions[0]
    assert (partition.held, partition.full, partition.fetching) == (2, True, True)
    assert partition.to_commit(99) is not None
    assert partition.offsets.next_offset == 1, "nothing is committed past it"
    bench.later(SECONDS / 2)
    assert bench.sent() == []
    store.release.set()
    bench.answered()
    bench.later()
    assert bench.sent() == [("event-1", text(1).decode()), ("event-2", PREVIEW)]
    assert (partition.held, partition.full, partition.fetching, partition.idle) == (0, False, False, True)
    assert (bench.counts.rehydrated, bench.counts.incomplete, bench.reports) == (1, 0, [])


def test_a_record_whose_content_is_late_goes_on_marked_and_is_reported_once(
    bench: Bench, store: FakeStore
) -> None:
    store.hangs = lambda tenant_id: True
    bench.stored(0, text(0))
    bench.stored(1, text(1))
    bench.give(2)
    bench.later()
    bench.later(SECONDS)
    assert bench.sent() == [], "it waits until its report is in Kafka"
    bench.later()
    assert len(bench.reports) == 2, "one for each record; the second does not wait for the first"
    assert {event.error for event, _ in bench.reports} == {"inputs: the store did not answer in time"}
    bench.later()
    assert len(bench.reports) == 2
    bench.reports[0][1]()
    bench.later()
    assert bench.sent() == [("event-0", PREVIEW)]
    bench.reports[1][1]()
    bench.later()
    assert bench.sent() == [("event-1", PREVIEW), ("event-2", PREVIEW)]
    assert bench.counts.incomplete_by == {refs.LATE: 2}
    assert bench.dead_letters == []


def test_a_report_that_kafka_does_not_take_holds_the_record_for_a_bounded_time(
    bench: Bench, store: FakeStore
) -> None:
    bench.give(0, ref_to(text(0)))
    bench.answered()
    bench.later()
    assert bench.sent() == []
    bench.later(REPORT_SECONDS)
    assert bench.sent() == [("event-0", PREVIEW)]
    assert len(bench.reports) == 1


def test_a_report_that_fails_at_once_holds_nothing(bench: Bench, store: FakeStore) -> None:
    bench.content._report = lambda event, done: done()
    bench.give(0, ref_to(text(0)))
    bench.answered()
    bench.later()
    assert bench.sent() == [("event-0", PREVIEW)]


@pytest.mark.parametrize("reason", [refs.MISSING, refs.DAMAGED, refs.OTHER_TENANT])
def test_a_record_without_its_content_is_marked(bench: Bench, store: FakeStore, reason: str) -> None:
    ref = ref_to(text(0), tenant_id="other" if reason == refs.OTHER_TENANT else "tenant")
    if reason != refs.MISSING:
        store.put(ref.tenant_id, text(0))
    if reason == refs.DAMAGED:
        store.damaged.add(ref.hash)
    bench.give(0, ref)
    if reason != refs.OTHER_TENANT:
        bench.answered()
    bench.later()
    bench.reports[0][1]()
    bench.later()
    owned = bench.partitions[0]
    batch = owned.next_batch(bench.now)
    assert batch is not None
    [record] = batch.bodies
    assert record.event.inputs == PREVIEW
    assert [(c.field, c.bytes) for c in record.event.content_changes] == [("inputs", len(text(0)))]
    assert refs.MARK in record.context.marks
    assert bench.counts.incomplete_by == {reason: 1}
    assert sum(store.asked.values()) == (0 if reason == refs.OTHER_TENANT else 1)


def test_without_a_store_records_go_on_marked_at_once() -> None:
    for bench in _bench(None):
        bench.give(0, ref_to(text(0)))
        bench.reports[0][1]()
        bench.later()
        assert bench.sent() == [("event-0", PREVIEW)]
        assert bench.counts.incomplete_by == {refs.NOT_CONFIGURED: 1}


@pytest.mark.parametrize(("minutes", "reported"), [(49, True), (51, False), (60 * 24, False)])
def test_a_record_is_reported_only_while_reports_of_it_are_found_to_be_the_same(
    bench: Bench, minutes: int, reported: bool
) -> None:
    """The processor forgets ids after streams.dedupe_minutes: a replay of yesterday's records writes none."""
    bench.age = minutes * 60.0
    bench.give(0, ref_to(text(0)))
    bench.answered()
    bench.later()
    assert len(bench.reports) == reported
    for _, done in bench.reports:
        done()
    bench.later()
    assert bench.sent() == [("event-0", PREVIEW)], "it goes on, marked"
    assert bench.counts.incomplete_by == {refs.MISSING: 1}


@pytest.mark.parametrize(("minutes", "seconds"), [(60, 3000.0), (10, 200.0), (1, 20.0)])
def test_reports_stop_before_their_ids_are_forgotten(minutes: int, seconds: float) -> None:
    assert report_seconds(minutes) == seconds


def test_a_replay_writes_no_reports() -> None:
    for bench in _bench(None):
        bench.content._report = None
        bench.give(0, ref_to(text(0)))
        assert bench.sent() == [("event-0", PREVIEW)]
        assert bench.counts.incomplete == 1


def test_what_a_filter_leaves_out_or_the_policy_removes_is_not_fetched(store: FakeStore) -> None:
    for bench in _bench(store, apps=("!app",)):
        bench.stored(0, text(0))
        assert bench.sent() == []
        bench.partitions[0].advance()
        assert bench.counts.filtered_by == {"app": 1}
    for policy in ("none", "reference"):
        for bench in _bench(store, content=policy):
            bench.stored(0, text(0))
            [(name, inputs)] = bench.sent()
            assert (name, inputs) == (
                "event-0",
                None if policy == "none" else '"ref:node_execution_id=node-0"',
            )
            assert (bench.counts.rehydrated, bench.counts.incomplete) == (0, 0)
    assert not store.asked


def test_masks_see_the_content_that_was_fetched(store: FakeStore) -> None:
    for bench in _bench(store, content="masked"):
        bench.stored(0, b'{"mail": "someone@example.com"}')
        bench.answered()
        bench.later()
        [(_, inputs)] = bench.sent()
        assert json.loads(str(inputs)) == {"mail": "[email]"}


def test_masks_come_before_content_is_cut(store: FakeStore) -> None:
    """Of a secret that is cut no mask would know the rest."""
    for cut_to in range(500, 540):
        for bench in _bench(store, cut_to=cut_to, content="masked"):
            bench.stored(0, json.dumps("someone@example.com, " * 100).encode())
            bench.answered()
            bench.later()
            [(_, inputs)] = bench.sent()
            assert inputs is not None
            assert 300 < len(inputs) <= cut_to
            assert "someone" not in inputs


def test_content_behind_a_waiting_record_is_fetched_meanwhile(bench: Bench, store: FakeStore) -> None:
    store.hangs = lambda tenant_id: True
    for n in range(AHEAD + 20):
        bench.stored(n, text(n))
    bench.later()
    fetcher = bench.fetcher
    assert fetcher is not None
    assert len(fetcher._flying) == AHEAD, "the first one and those behind it, up to the bound"
    store.release.set()
    bench.answered(AHEAD)
    found: list[str | None] = []
    while len(found) < AHEAD + 20:
        bench.later()
        found += [inputs for _, inputs in bench.sent()]
        if fetcher._flying:
            bench.answered(len(fetcher._flying))
    assert found == [text(n).decode() for n in range(AHEAD + 20)]
    assert set(store.asked.values()) == {1}, "each content is fetched once"


def test_a_partition_holds_no_more_content_than_a_batch_and_what_is_fetched_ahead(store: FakeStore) -> None:
    """Records wait for room in the buffer, not only for the store."""
    for bench in _bench(store, max_bytes=1000):
        for n in range(5):
            bench.stored(n, text(n, 900))
        partition = bench.partitions[0]
        bench.later()
        bench.answered(5)
        bench.later()
        assert partition._buffer.bytes <= 1000 + 902
        assert partition.held == 3
        sent: list[str | None] = []
        while len(sent) < 5:
            bench.later()
            sent += [name for name, _ in bench.sent()]
        assert sent == [f"event-{n}" for n in range(5)]


def held(bench: Bench) -> int:
    """Bytes of content of records that are not mapped yet."""
    return sum(found.size for partition in bench.partitions for found in partition._contents.values())


def test_all_partitions_of_a_sink_together_hold_a_bounded_number_of_bytes(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if one of them sends nothing; it holds up no other one."""
    monkeypatch.setattr(sink_content, "HELD_BYTES", 5_000)
    numbers = range(16)
    for bench in _bench(store, max_bytes=3_000, partitions=len(numbers)):
        for number in numbers:
            for n in range(6):
                bench.stored(n, text(10 + 6 * number + n, 900), partition=number)
        sent: dict[int, list[str | None]] = {number: [] for number in numbers[1:]}
        most = 0
        while any(len(found) < 6 for found in sent.values()):
            bench.later(LOOK_AGAIN)
            most = max(most, held(bench))
            bench.quiet()
            for number, found in sent.items():
                found += [name for name, _ in bench.sent(number)]
        assert all(found == [f"event-{n}" for n in range(6)] for found in sent.values())
        assert 5_000 < most <= 2 * 5_000
        assert bench.partitions[0].held
        assert bench.counts.incomplete == 0


def test_content_that_is_larger_than_all_may_hold_comes_alone(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_content, "HELD_BYTES", 100)
    for bench in _bench(store):
        for number in range(2):
            for n in range(2):
                bench.stored(n, text(2 * number + n, 900), partition=number)
        sent: list[str | None] = []
        while len(sent) < 4:
            bench.later(LOOK_AGAIN)
            assert held(bench) <= 902
            bench.quiet()
            sent += [name for number in range(2) for name, _ in bench.sent(number)]
        assert bench.counts.rehydrated == 4


def test_content_is_fetched_when_the_buffer_has_room_and_not_before(store: FakeStore) -> None:
    for bench in _bench(store, max_bytes=1000):
        bench.give(0, inputs=text(0, 1200).decode())  # fills the buffer
        bench.stored(1, text(1))
        bench.later(LOOK_AGAIN)
        bench.later(0.01)
        assert not store.asked
        assert not bench.partitions[0].fetching
        assert [name for name, _ in bench.sent()] == ["event-0"]
        bench.later(0.01)
        assert bench.partitions[0].fetching, "at once"
        bench.answered()
        bench.later()
        assert bench.sent() == [("event-1", text(1).decode())]


def test_each_partition_has_its_turn_when_there_is_room(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_content, "HELD_BYTES", 1_000)
    for bench in _bench(store, partitions=4):
        for n in range(20):
            bench.stored(n, text(n, 900), partition=0)
        for number in range(1, 4):
            bench.stored(0, text(100 + number, 900), partition=number)
        sent: list[int] = []
        while len(sent) < 23:
            bench.later(LOOK_AGAIN)
            bench.quiet()
            sent += [number for number in range(4) for _ in bench.sent(number)]
        assert {1, 2, 3} <= set(sent[:6])


def test_a_partition_that_is_gone_holds_up_nobody(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_content, "HELD_BYTES", 1_000)
    for bench in _bench(store, partitions=3):
        store.hangs = lambda tenant_id: True
        for number in range(3):
            for n in range(2):
                bench.stored(n, text(10 * number + n, 900), partition=number)
        bench.later(LOOK_AGAIN)
        assert list(bench.content._queue) == [1, 2]
        store.release.set()
        del bench.partitions[1]
        sent: list[int] = []
        while len(sent) < 4:
            bench.later(LOOK_AGAIN)
            bench.quiet()
            sent += [number for number in range(2) for _ in bench.sent(number)]
        assert sorted(sent) == [0, 0, 1, 1]


def test_content_that_is_fetched_ahead_stays_within_its_bytes(bench: Bench, store: FakeStore) -> None:
    store.hangs = lambda tenant_id: True
    quarter = AHEAD_BYTES // 4
    for n, size in enumerate((quarter, quarter, 2 * quarter + 1, quarter)):
        bench.give(n, msgspec.structs.replace(ref_to(text(n)), bytes=size))
    for _ in range(3):
        bench.later(LOOK_AGAIN)
    assert held(bench) == 2 * quarter, "the third has no room, and what is behind it does not overtake it"


def test_a_record_that_waits_for_something_else_holds_up_no_content(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be mapped, while the limits of dead letters are reached."""
    monkeypatch.setattr(sink_content, "HELD_BYTES", 1_000)
    for bench in _bench(store):
        for partition in bench.partitions:
            partition._may_dead_letter = lambda rejected: False
        monkeypatch.setattr(bench.partitions[0]._sink, "map", lambda record: Rejected("odd", ""))
        for number in range(2):
            bench.stored(0, text(number, 900), partition=number)
        sent: list[Any] = []
        while not sent:
            bench.later(LOOK_AGAIN)
            bench.quiet()
            sent = bench.sent(1)
        assert bench.partitions[0].held == 1
        assert store.asked["tenant", content_hash(text(0, 900))] == 1, "it is not fetched again each time"


def test_a_record_without_references_costs_nothing(bench: Bench) -> None:
    bench.give(0)
    assert bench.partitions[0]._contents == {}
    assert bench.fetcher is not None
    assert bench.fetcher._threads == 0
    assert bench.sent() == [("event-0", PREVIEW)]
