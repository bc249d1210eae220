"""Crashes while series, traces and links age out: what the topics hold in the end is what an owner writes
that never crashes."""

from __future__ import annotations

from random import Random

import pytest

from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.limits import MetricLimits, StateLimits
from streams.processing.state import AHEAD_MS, State
from tailrace import codec
from tailrace.identity import kafka_key
from tailrace.records import Kind
from tests.harness.mixed import mixed
from tests.streams.events import NOW, Source, event, record, uuid

LIMITS = StateLimits(
    idle_ms=900_000,
    max_traces=50,
    dedupe_ms=3_600_000,
    metrics=MetricLimits(horizon_ms=2 * 3_600_000, max_groups=10_000, max_rows=100_000),
)
YEAR_MS = 365 * 86_400_000
TOPICS = ("rows", "totals", "summaries", "state")


def log_with_pauses(random: Random) -> list[Source]:
    """Events of many applications, with pauses that end series, and some append times that are wrong."""
    log: list[Source] = []
    at = NOW // 1000
    for made in mixed(random.randrange(1 << 32), random.randrange(20, 120), NOW):
        at += random.choice([1, 1, 1, 50, 60_000, 1_000_000, 4 * 3_600_000])
        wrong = random.choice([0] * 30 + [YEAR_MS, 2 * AHEAD_MS])
        log.append(Source(len(log), at + wrong, (kafka_key(made) or "").encode(), codec.encode(made)))
    return log


class Topics:
    """What transactions wrote: the outputs, and the last value of each key."""

    def __init__(self) -> None:
        self.outputs: list[bytes] = []
        self.last: dict[str, dict[bytes, bytes | None]] = {topic: {} for topic in TOPICS}

    def write(self, unit: TransactionBatch, closed: object) -> None:
        self.outputs += [value + context for value, _, context in unit.outputs]
        for topic, last in self.last.items():
            last.update(getattr(closed, topic))

    def without_tombstones(self) -> dict[str, dict[bytes, bytes]]:
        """As compaction leaves them. State differs: units are counted, groups get numbers in order."""
        return {t: {k: v for k, v in last.items() if v is not None} for t, last in self.last.items()}


def run(log: list[Source], random: Random | None) -> Topics:
    """All records in units of random lengths, some of which are lost with their owner; None: never."""
    topics = Topics()
    at = 0
    state = State(LIMITS)
    state.next_offset = 0
    processor = EventProcessor("events", 0, 1 << 22, 1 << 20)
    while at < len(log):
        size = 1 if random is None else random.randrange(1, 12)
        unit = TransactionBatch()
        processor.apply(state, log[at : at + size], unit)
        closed = state.close(flush=at + size >= len(log) or random is None or random.random() < 0.2)
        if random is None or random.random() < 0.7:
            topics.write(unit, closed)
            at += size
            if random is None or random.random() < 0.7:
                continue
        state = State(LIMITS)
        state.next_offset = 0
        state.restore({k: v for k, v in topics.last["state"].items() if v is not None})
        processor = EventProcessor("events", 0, 1 << 22, 1 << 20)
    return topics


@pytest.mark.parametrize("seed", range(60))
def test_a_crash_loses_no_tombstone_and_no_row_of_what_aged_out(seed: int) -> None:
    log = log_with_pauses(Random(seed))
    straight, crashed = run(log, None), run(log, Random(seed))
    assert crashed.outputs == straight.outputs
    expected, found = straight.without_tombstones(), crashed.without_tombstones()
    for topic in ("rows", "totals", "summaries"):
        assert found[topic] == expected[topic], topic


def appended(gaps: list[int]) -> State:
    """A state after one run a record, each that many milliseconds after the one before."""
    state, at, log = State(LIMITS), NOW // 1000, []
    state.next_offset = 0
    for n, gap in enumerate(gaps):
        at += gap
        run = event(Kind.WORKFLOW_RUN, run=n, started_at=NOW, ended_at=NOW + 1)
        log.append(record(run, n, at))
    EventProcessor("events", 0, 1 << 22, 1 << 20).apply(state, log, TransactionBatch())
    return state


def test_one_record_from_the_future_ages_nothing_out_and_makes_nothing_late() -> None:
    state = appended([0, 10, YEAR_MS, 10 - YEAR_MS, *[10] * 20])
    assert (state.clock, state.aggregator.late, state.evicted) == (NOW // 1000 + 220, 0, 0)
    assert len(state.traces) == 24


def test_a_trace_of_the_future_is_evicted_with_those_of_its_age() -> None:
    state = appended([0, YEAR_MS, 10 - YEAR_MS, *[1_000_000] * 3])
    assert state.evicted == 5
    assert list(state.traces) == [uuid(5).encode()]


def test_the_second_record_after_a_pause_catches_up() -> None:
    week = 7 * 86_400_000
    assert appended([0, week]).clock == NOW // 1000
    state = appended([0, week, 1])
    assert state.clock == NOW // 1000 + week
    assert list(state.traces) == [uuid(1).encode(), uuid(2).encode()]


def test_two_records_of_one_append_after_a_pause_catch_up() -> None:
    assert appended([0, YEAR_MS, 0]).clock == NOW // 1000 + YEAR_MS


def test_the_first_of_two_records_ahead_is_the_bound() -> None:
    assert appended([0, 2 * AHEAD_MS, 3 * YEAR_MS]).clock == NOW // 1000 + 2 * AHEAD_MS


def test_what_waits_for_a_second_record_survives_its_owner() -> None:
    week = 7 * 86_400_000
    state = appended([0, week])
    again = State(LIMITS)
    again.restore(state.close(flush=True).state)
    assert again.ahead_at == NOW // 1000 + week
    again.advance(NOW // 1000 + week + 5)
    assert again.clock == NOW // 1000 + week
