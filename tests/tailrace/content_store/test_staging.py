"""Events whose content is being stored: in their order, within their time, and each exactly once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from tailrace import Kind, TraceEvent, codec
from tailrace.content import Limits
from tailrace.content_store import claims, staging
from tailrace.content_store.claims import Large, Policy, claimed, prepared
from tailrace.content_store.naming import content_hash
from tailrace.content_store.staging import FRESH, Stage
from tailrace.delivery_reports import InFlight
from tailrace.errors import ContentUnreachable, PublisherClosed
from tailrace.settings import Settings, convert
from tailrace.waiting_records import Record
from tests.harness.processes import wait_until

LIMITS = Limits(66_000)


def large(number: int, key: str = "t", text: str = "x y ", tenant: str | None = "acme") -> Large:
    event = TraceEvent(
        kind=Kind.TOOL,
        source_id=f"s{number}",
        trace_id=key,
        tenant_id=tenant,
        started_at=10**15,
        ended_at=10**15,
        inputs=text * 50_000,
    )
    found = prepared(event, 10**15, LIMITS, Policy())
    assert isinstance(found, Large)
    return found


def until(condition: Callable[[], bool]) -> None:
    wait_until(condition, 60, "the stage has done it", every=0.002)


class Store:
    """A store whose answers the test decides; without an answer it takes everything at once."""

    def __init__(self) -> None:
        self.put_: list[tuple[str | None, str]] = []
        self.answers: deque[Callable[[], None]] = deque()
        self.then: Callable[[], None] = lambda: None
        self.refused: set[str | None] = set()
        """Tenants whose content it does not take."""
        self.calls = 0

    def put(self, tenant_id: str | None, data: bytes) -> str:
        self.calls += 1
        (self.answers.popleft() if self.answers else self.then)()
        if tenant_id in self.refused:
            away()
        self.put_.append((tenant_id, content_hash(data)))
        return content_hash(data)


class Gate:
    """An answer that does not come until the test opens it."""

    def __init__(self) -> None:
        self.came, self.open = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.came.set()
        self.open.wait(60)


def away() -> None:
    raise ContentUnreachable("content.store cannot be written: it is away")


class Case:
    def __init__(self, **content: Any) -> None:
        self.now = 1000.0
        self.store = Store()
        self.in_flight = InFlight()
        self.records: list[Record] = []
        self.failures: list[str] = []
        settings = convert({"content": {"store": "/nowhere", **content}}, Settings, "")
        self.stage = Stage(
            settings,
            self.in_flight,
            self.records.append,
            lambda record, error: self.failures.append(error),
            lambda: self.now,
            lambda: self.store,
        )

    def offer(
        self, number: int, key: str | None = "t", value: bytes | Large | None = None, **how: Any
    ) -> Any:
        value = large(number, key or "t", **how) if value is None else value
        return self.stage.offer(str(number), None if key is None else key.encode(), value, None)

    def arrived(self, *numbers: int) -> None:
        until(lambda: len(self.records) >= len(numbers))
        assert self.order() == list(numbers)

    def order(self) -> list[int]:
        return [int(record.event_id) for record in self.records]

    def event(self, number: int) -> TraceEvent:
        [record] = [r for r in self.records if r.event_id == str(number)]
        return codec.decode(record.value, TraceEvent)


@pytest.fixture
def case() -> Case:
    return Case()


def test_the_record_is_produced_when_its_content_is_stored(case: Case) -> None:
    gate = Gate()
    case.store.answers.append(gate)
    assert case.offer(1) is True
    assert gate.came.wait(60)
    assert case.stage.busy
    assert case.stage.count() == 1
    assert case.records == []
    assert case.in_flight.ids() == ("1",)
    gate.open.set()
    case.arrived(1)
    assert not case.stage.busy
    assert case.records[0].value == claimed(large(1)).value
    [ref] = case.event(1).content_refs
    assert case.store.put_ == [("acme", ref.hash)]
    assert case.in_flight.counts().stored == 1
    assert case.in_flight.ids() == ("1",)  # until Kafka has it


def test_no_event_overtakes_another_one_of_its_key(case: Case) -> None:
    first, third = Gate(), Gate()
    case.store.answers += [first, third]
    case.offer(1)
    assert first.came.wait(60)
    assert case.offer(2, value=b"small") is True
    case.offer(3, text="z y ")
    assert third.came.wait(60)
    case.offer(4, value=b"small")
    assert case.offer(5, key="other", value=b"small") is None
    assert case.offer(6, key=None, value=b"small") is None
    third.open.set()
    case.offer(7, key="other")
    case.arrived(7)  # the one that is stored later is published first: its key is another one
    first.open.set()
    case.arrived(7, 1, 2, 3, 4)
    assert not case.stage.busy
    assert case.offer(8, value=b"small") is None


def test_events_without_a_key_do_not_wait_for_each_other(case: Case) -> None:
    gate = Gate()
    case.store.answers.append(gate)
    case.offer(1, key=None)
    assert gate.came.wait(60)
    case.offer(2, key=None, text="z y ")
    case.arrived(2)
    gate.open.set()
    case.arrived(2, 1)


def test_a_store_that_is_away_for_less_than_the_time_costs_nothing(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    case.store.answers += [away, away]
    case.offer(1)
    until(lambda: case.store.calls == 1 and not case.stage._running)
    case.stage.turn()
    assert case.store.calls == 1  # not at once
    case.now += 0.6
    case.stage.turn()
    until(lambda: case.store.calls == 2 and not case.stage._running)
    case.now += 0.6
    case.stage.turn()
    case.arrived(1)
    assert case.event(1).content_refs
    assert case.in_flight.counts().stored == 1
    assert caplog.text == ""


def test_while_the_store_is_away_one_event_at_a_time_is_tried(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are not encoded for it again and again: that would take several times their memory."""
    encoded: list[str] = []
    real = claims.claimed

    def counted(event: Large) -> Any:
        encoded.append(str(event.event.source_id))
        return real(event)

    monkeypatch.setattr(claims, "claimed", counted)
    case.store.then = away
    for number in range(8):
        case.offer(number, key=f"k{number}", text=f"{number} ")
    until(lambda: not case.stage._running)
    tried = len(encoded)
    assert 1 <= tried <= staging.THREADS
    assert case.store.calls == tried
    for _ in range(3):
        case.stage.turn()
    assert case.store.calls == tried, "not at once"
    for n in range(1, 9):
        case.now += 0.6
        case.stage.turn()
        until(lambda: not case.stage._running)
        assert case.store.calls == tried + n
    assert {f"s{number}" for number in range(8)} <= set(encoded), "each has its turn"
    case.store.then = lambda: None
    case.now += 0.6
    case.stage.turn()
    until(lambda: len(case.records) == 8)
    assert case.in_flight.counts().stored == 8


def test_content_that_alone_cannot_be_stored_holds_up_the_others_for_a_moment_only(case: Case) -> None:
    case.store.refused.add("refused")
    case.offer(0, key="refused", tenant="refused")
    for number in range(1, 6):
        case.offer(number, key=f"k{number}", text=f"{number} ")
    for _ in range(3):
        until(lambda: not case.stage._running)
        case.now += 0.6
        case.stage.turn()
    until(lambda: len(case.records) == 5)
    assert case.in_flight.counts().stored == 5
    case.now += 9
    case.stage.turn()
    until(lambda: len(case.records) == 6)
    assert case.event(0).content_changes


def test_after_its_time_an_event_is_published_cut_and_it_is_said_once(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    case.store.then = away
    for number in (1, 2, 3):
        case.offer(number)
    case.offer(4, value=b"small")
    case.now += 9.9
    case.stage.turn()
    assert case.records == []
    case.now += 0.2
    case.stage.turn()
    case.arrived(1, 2, 3, 4)
    for number in (1, 2, 3):
        done = case.event(number)
        assert not done.content_refs
        assert [c.field for c in done.content_changes] == ["inputs"]
    counts = case.in_flight.counts()
    assert (counts.not_stored, counts.cut, counts.stored) == (3, 3, 0)
    case.offer(5)
    case.now += 10.1
    case.stage.turn()
    assert caplog.text.count("content cut") == 1
    assert "content.store cannot be written: it is away" in caplog.text
    case.store.then = lambda: None
    case.offer(6)
    until(lambda: 6 in case.order())
    case.stage.turn()
    assert caplog.text.count("the content store works again: 4 events") == 1
    assert case.failures == []


def test_a_store_that_never_answers_holds_no_event_for_longer_and_publishes_none_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = Case(timeout_seconds=3)
    gates = [Gate() for _ in range(4)]
    case.store.answers += gates
    for number in range(1, 7):  # more than there are threads
        case.offer(number, key=f"k{number}", text=f"{number} ")
    assert all(gate.came.wait(60) for gate in gates)
    case.now += 3.1
    for _ in range(2):
        case.stage.turn()
    case.arrived(1, 2, 3, 4, 5, 6)
    assert "it did not answer within 3 s (content.timeout_seconds)" in caplog.text
    for gate in gates:
        gate.open.set()
    until(lambda: case.stage._running == 0)
    assert case.order() == [1, 2, 3, 4, 5, 6]
    assert case.in_flight.counts().not_stored == 6
    assert case.in_flight.counts().stored == 0


def test_a_full_stage_takes_no_more_until_there_is_room() -> None:
    case = Case(queue_bytes=500_000)
    gate = Gate()
    case.store.answers.append(gate)
    assert case.offer(1) is True
    assert gate.came.wait(60)
    assert case.offer(2) is True
    assert case.offer(3) is False
    assert case.offer(3, value=b"small" * 100_000) is False
    assert case.in_flight.ids() == ("1", "2")
    gate.open.set()
    case.arrived(1, 2)
    assert case.offer(3) is True
    case.arrived(1, 2, 3)


def test_an_event_that_is_larger_than_the_stage_is_taken_alone() -> None:
    case = Case(queue_bytes=1)
    assert case.offer(1) is True
    case.arrived(1)


def test_while_the_store_is_away_the_oldest_make_room_for_the_new_ones() -> None:
    case = Case(queue_bytes=500_000)
    case.store.then = away
    case.offer(1)
    until(lambda: bool(case.stage._problem))
    assert all(case.offer(number) for number in range(2, 10))
    assert case.order() == list(range(1, 8))
    assert case.in_flight.counts().not_stored == 7
    assert case.stage._bytes <= 500_000


def test_the_same_content_of_a_tenant_is_stored_once_in_half_an_hour(case: Case) -> None:
    def offer(number: int, tenant: str | None) -> None:
        case.offer(number, tenant=tenant)
        until(lambda: number in case.order())

    for number in range(5):
        offer(number, "acme")
    offer(5, "other")
    offer(6, None)
    assert [tenant for tenant, _ in case.store.put_] == ["acme", "other", None]
    assert len({hash for _, hash in case.store.put_}) == 1
    case.now += FRESH + 1
    offer(7, "acme")  # the sweep goes by when it was put last
    offer(8, "acme")
    assert [tenant for tenant, _ in case.store.put_] == ["acme", "other", None, "acme"]
    assert case.in_flight.counts().stored == 9


def test_what_could_not_be_stored_is_not_taken_for_stored(case: Case) -> None:
    case.store.answers.append(away)
    case.offer(1)
    until(lambda: case.store.calls == 1 and not case.stage._running)
    case.now += 11
    case.stage.turn()
    case.offer(2)
    case.arrived(1, 2)
    assert len(case.store.put_) == 1
    assert case.event(2).content_refs
    assert not case.event(1).content_refs


def test_the_end_waits_for_no_store() -> None:
    case = Case()
    gate = Gate()
    case.store.answers.append(gate)
    case.offer(1)
    case.offer(2, value=b"small")
    case.offer(3, key="u", text="z ")
    assert gate.came.wait(60)
    until(lambda: 3 in case.order())
    assert case.stage.give_up() == 1
    assert case.order() == [3, 1, 2]
    assert case.stage.give_up() == 0
    gate.open.set()
    until(lambda: case.stage._running == 0)
    assert case.order() == [3, 1, 2]


def test_a_closed_publisher_takes_nothing(case: Case) -> None:
    case.in_flight.close()
    with pytest.raises(PublisherClosed):
        case.offer(1)
    assert not case.stage.busy


def test_many_threads_lose_and_reorder_nothing(case: Case) -> None:
    def publish(key: str) -> None:
        for number in range(30):
            value = large(number, key, f"{key} {number % 3} ") if number % 3 == 0 else b"small"
            taken = case.stage.offer(f"{key}{number}", key.encode(), value, None)
            if taken is None:
                case.records.append(
                    Record(case.in_flight.add(key), f"{key}{number}", None, key.encode(), b"")
                )
            assert taken is not False

    threads = [threading.Thread(target=publish, args=(key,)) for key in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: not case.stage.busy and case.stage._running == 0)
    for key in "abcd":
        ids = [record.event_id for record in case.records if record.event_id.startswith(key)]
        assert ids == [f"{key}{number}" for number in range(30)]
