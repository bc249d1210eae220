"""A trace has one start in its log: over pauses, restarts and ratings, within a limit of memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing import starts
from streams.processing.starts import COST, ENTRY, Starts
from streams.processing.state import State, UnreadableRecord
from tailrace import codec
from tailrace.records import Kind, TraceContext, TraceEvent, TraceStarts
from tests.streams.events import LIMITS, NOW, apply, event, record, uuid
from tests.streams.pausing import MINUTE, WEEK, Log, M, message, of_turn, rating


# -- pauses
def test_the_publishers_root_start_alone_is_the_start_of_the_trace() -> None:
    log = Log()
    context = log.append(event(n=1, root_started_at=NOW - 77, run=1))
    assert (context.trace_started_at, context.root_trace_id, list(context.marks)) == (NOW - 77, uuid(1), [])
    nested = log.append(event(run=3, parent_run_id=uuid(2), root_started_at=NOW - 99, root_app_id="outer"))
    assert (nested.trace_started_at, nested.app_id) == (NOW - 99, "outer")


def test_the_start_that_was_given_out_first_wins() -> None:
    log = Log()
    log.append(event(n=1, run=1))
    for after in (0, WEEK):
        context = log.append(event(n=2 + after, run=1, root_started_at=NOW - 99), after=after)
        assert context.trace_started_at == NOW + 1


def test_a_caller_without_a_caller_is_no_guess_after_a_pause() -> None:
    log = Log()
    log.append(event(n=1, run=1))
    nested = log.append(event(n=1, run=2, parent_run_id=uuid(1)), after=WEEK)
    assert (nested.root_trace_id, list(nested.marks)) == (uuid(1), [])


def test_a_link_outlives_the_pause() -> None:
    log = Log()
    link = event(Kind.LINK, source_id=uuid(2), root_trace_id=M, root_run_id=uuid(1), root_started_at=NOW)
    apply(log.state, [record(link, 0, log.clock)])
    log.offset = 1
    log.restart()
    nested: dict[str, Any] = {"run": 3, "parent_run_id": uuid(2)}
    before = log.append(event(n=1, **nested))
    after = log.append(event(n=2, **nested), after=WEEK)
    for context in (before, after):
        assert (context.root_trace_id, context.trace_started_at, list(context.marks)) == (M, NOW, [])


# -- what is not known
def test_a_rating_of_a_trace_that_was_never_there_is_marked() -> None:
    log = Log()
    assert log.append(rating(NOW)).marks == ["start_unknown"]
    assert log.append(rating(NOW + 1), after=WEEK).marks == ["start_unknown"]
    stated = log.append(rating(NOW + 2, root_trace_id=uuid(77), root_started_at=NOW))
    assert (stated.trace_started_at, stated.marks) == (NOW, [])


def test_a_rating_that_comes_before_its_message_makes_no_later_rating_unknown() -> None:
    log = Log()
    marks = [log.append(e).marks for e in (rating(NOW), message(), rating(NOW + 1))]
    assert marks == [["start_unknown"], [], []]


def test_a_start_that_was_forgotten_is_counted_and_marked_never_guessed() -> None:
    log = Log(msgspec.structs.replace(LIMITS, start_bytes=2 * COST))
    log.append(event(n=1, **of_turn()))
    assert (log.state.starts.forgotten, len(log.state.starts)) == (0, 0)
    for _ in range(4):
        log.pass_time(20 * MINUTE)
    assert (log.state.starts.forgotten, len(log.state.starts)) == (2, 2)
    assert log.state.position().forgotten_starts == 2
    at = log.clock * 1000
    unknown = log.append(event(n=2, started_at=at, ended_at=at, **of_turn()))
    assert (unknown.trace_started_at, unknown.marks) == (at, ["start_unknown"])
    rated = log.append(rating(at + 1))
    assert rated.marks == ["start_unknown"]
    old = log.append(event(Kind.WORKFLOW_RUN, started_at=NOW, ended_at=at, **of_turn()))
    assert old.marks == ["start_unknown"], "it may have begun before what was forgotten"


def test_a_trace_that_began_after_what_was_forgotten_is_known_to_be_new() -> None:
    log = Log(msgspec.structs.replace(LIMITS, start_bytes=2 * COST))
    for _ in range(5):
        log.pass_time(20 * MINUTE)
    assert log.state.starts.forgotten > 0
    at = log.clock * 1000
    first = log.append(event(n=1, run=1, started_at=at, ended_at=at))
    root = log.append(event(Kind.WORKFLOW_RUN, run=1, started_at=at, ended_at=at))
    last = log.append(event(n=2, run=1, started_at=at, ended_at=at))
    assert [c.marks for c in (first, root, last)] == [["start_unknown"], [], []]
    stated = log.append(event(n=1, run=2, started_at=at, ended_at=at, root_started_at=at))
    assert stated.marks == []


# -- the memory
names = st.integers(0, 40).map(b"trace-%d".__mod__)


@given(
    st.lists(st.tuples(names, st.integers(-(2**63), 2**63 - 1), st.booleans()), max_size=120),
    st.integers(1, 40),
    st.lists(st.integers(0, 120), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_the_memory_has_the_latest_start_of_each_trace_until_it_is_dropped_and_a_restart_changes_nothing(
    added: list[tuple[bytes, int, bool]], most: int, restarts: list[int]
) -> None:
    memory, straight = Starts(most * COST), Starts(most * COST)
    log: dict[bytes, bytes | None] = {}
    for clock, (name, start, flag) in enumerate(added, 1):
        for each in (memory, straight):
            each.add(name, start, b"t", flag, not flag, clock)
        if clock in restarts:
            log.update(memory.changes())
            forgotten, before = memory.forgotten, memory.before
            memory = Starts(most * COST)
            memory.restore([starts.unpack(k, v) for k, v in log.items() if v is not None])
            memory.forgotten, memory.before = forgotten, before
    assert len(memory) == len(straight) <= max(most, 1)
    assert (memory.forgotten, memory.before) == (straight.forgotten, straight.before)
    latest = {name: (start, flag) for name, start, flag in added}
    kept = dict.fromkeys(name for name, _, _ in added[len(added) - len(memory) :])
    assert memory.forgotten > 0 or kept.keys() == latest.keys()
    for name in {n for n, _, _ in added}:
        found, there = memory.find(name), straight.find(name)
        assert (found is None) == (there is None) == (name not in kept)
        if found is not None and there is not None:
            assert (found.started_at, found.certain, found.unknown) == (*latest[name], not latest[name][1])
            assert not found.of_another(b"t")
            assert found.of_another(b"another")
            assert not found.of_another(None)


def test_a_full_memory_takes_the_bytes_that_it_may() -> None:
    memory = Starts(1000 * COST)
    for i in range(5000):
        memory.add(b"%d" % i, i, None, False, False, i)
    assert 1000 - starts.PIECE <= len(memory) <= 1000
    assert len(memory) + memory.forgotten == 5000
    pieces = [v for _, v in memory.changes() if v is not None]
    written = sum(len(codec.decode_versioned(v, TraceStarts).entries) for v in pieces)
    assert written == len(memory) * ENTRY


@pytest.mark.parametrize("value", [b"", b"\1", b"\1\2\6abc", b"\1\2\0", b"\x63\2\0"])
def test_a_piece_that_cannot_be_read_names_its_key(value: bytes) -> None:
    with pytest.raises(UnreadableRecord) as e:
        State(LIMITS).restore([(b"s/3", value)])
    assert e.value.key == b"s/3"


# -- in whole histories
drawn = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([Kind.NODE_EXECUTION, Kind.WORKFLOW_RUN]),
        st.none() | st.integers(0, 3).map(lambda n: NOW + n * 1000),
        st.sampled_from([0, 1000, 10 * MINUTE, 16 * MINUTE, WEEK]),
        st.sampled_from(["acme", "other"]),
    ),
    max_size=25,
)


@given(drawn, st.lists(st.integers(0, 25), max_size=4), st.sampled_from([2, 8 << 20]))
@settings(max_examples=150, deadline=None)
def test_every_record_of_a_trace_has_the_start_that_the_log_gave_it_first_whatever_crashes(
    history: list[tuple[int, Kind, int | None, int, str]], restarts: list[int], most: int
) -> None:
    limits = msgspec.structs.replace(LIMITS, start_bytes=most * COST)
    clock, source = NOW // 1000, []
    events: list[TraceEvent] = []
    for n, (run, kind, stated, pause, tenant) in enumerate(history):
        clock += pause
        at = clock * 1000
        began = NOW if kind == Kind.WORKFLOW_RUN else at  # the run began before everything in it
        e = event(kind, n=n, run=run, started_at=began, ended_at=at, root_started_at=stated, tenant_id=tenant)
        e = msgspec.structs.replace(e, event_id=str(n))
        events.append(e)
        source.append(record(e, n, clock))
    straight, state = State(limits), State(limits)
    straight.next_offset = state.next_offset = 0
    whole = apply(straight, source)
    log: list[tuple[bytes, bytes | None]] = []
    outputs = []
    for start, end in zip([0, *sorted(restarts)], [*sorted(restarts), len(source)], strict=True):
        outputs += apply(state, source[start:end]).outputs
        log += state.close(flush=False).state
        state = State(limits)
        state.restore(log)
    assert outputs == whole.outputs
    assert state.position().forgotten_starts == straight.position().forgotten_starts
    given_out: dict[tuple[str, str | None], int] = {}
    for e, (_, _, header) in zip(events, whole.outputs, strict=True):
        context = codec.decode(header, TraceContext)
        trace = (e.trace_id or "", e.tenant_id)
        stated = e.root_started_at
        first = given_out.setdefault(trace, e.started_at if stated is None else stated)
        assert context.trace_started_at == first or "start_unknown" in context.marks
        if straight.starts.forgotten == 0:
            assert (context.trace_started_at, context.marks) == (first, [])
