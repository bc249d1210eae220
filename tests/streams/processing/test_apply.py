"""One pass over the log: exact counts, dense numbers, dead letters, and the same result for any units."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.limits import MetricLimits, StateLimits
from streams.processing.prices import Prices
from streams.processing.state import ChangedState, State
from tailrace import codec
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.records import (
    Kind,
    Message,
    MetricRow,
    ParentKind,
    Span,
    TraceContext,
    TraceEvent,
    TraceSummary,
)
from tailrace.times import EARLIEST, LATEST
from tests.streams.events import (
    LIMITS,
    NOW,
    Source,
    apply,
    contexts,
    dead_letters,
    event,
    fresh,
    garbage,
    record,
    records,
    some_events,
    uuid,
)


def test_a_node_and_its_run_are_one_trace() -> None:
    unit = apply(
        fresh(), records([event(n=1), event(Kind.WORKFLOW_RUN, n=2, user_id="u", app_name="Support")])
    )
    node, run = contexts(unit)
    assert (node.run_trace_id, run.run_trace_id) == (otel_trace_id(uuid(1)),) * 2
    assert (node.parent_source_id, node.parent_span_id, node.parent_kind) == (
        uuid(1),
        otel_span_id(uuid(1)),
        "run",
    )
    assert (run.parent_source_id, run.parent_span_id, run.parent_kind) == (None, None, "none")
    assert run.span_id == otel_span_id(uuid(1))
    assert (run.user_id, run.app_name, node.user_id) == ("u", "Support", None)
    assert [node.sequence, run.sequence] == [0, 1]
    assert node.trace_started_at == run.trace_started_at == NOW + 1


def test_context_is_sticky_for_what_follows() -> None:
    source = records([event(n=1, user_id="first"), event(n=2, user_id="second"), event(n=3)])
    assert [c.user_id for c in contexts(apply(fresh(), source))] == ["first"] * 3


def test_a_message_is_the_root_of_its_turn_and_the_parent_of_its_run() -> None:
    message = event(Kind.MESSAGE, message_id=uuid(9), message=Message(query="hi"), workflow_run_id=None)
    run = event(Kind.WORKFLOW_RUN, message_id=uuid(9), run=1)
    turn, child = contexts(apply(fresh(), records([message, run])))
    assert turn.message_trace_id == child.message_trace_id == otel_trace_id(uuid(9))
    assert child.run_trace_id == otel_trace_id(uuid(1))
    assert (child.parent_source_id, child.parent_kind) == (uuid(9), "message")


def test_native_opentelemetry_ids_win() -> None:
    e = event(
        Kind.SPAN,
        source_id="s",
        workflow_run_id=None,
        otel_trace_id=b"T" * 16,
        otel_span_id=b"S" * 8,
        otel_parent_span_id=b"P" * 8,
        span=Span(),
    )
    (context,) = contexts(apply(fresh(), records([e])))
    assert (context.run_trace_id, context.message_trace_id) == (b"T" * 16, b"T" * 16)
    assert (context.span_id, context.parent_span_id) == (b"S" * 8, b"P" * 8)


def test_the_value_is_handed_on_untouched_with_its_key() -> None:
    source = records([event(n=1), event(n=2)])
    assert [(v, k) for v, k, _ in apply(fresh(), source).outputs] == [(r.value, r.key) for r in source]


def test_duplicates_are_dropped_and_counted() -> None:
    state = fresh()
    unit = apply(state, records([event(n=1), event(n=2), event(n=1)]))
    assert (len(unit.outputs), state.duplicates, state.enriched, state.events_in) == (2, 1, 2, 3)


def test_a_higher_revision_is_not_a_duplicate_and_a_later_lower_one_is_marked() -> None:
    unit = apply(fresh(), records([event(n=1, revision=0), event(n=1, revision=2), event(n=1, revision=1)]))
    assert [list(c.marks) for c in contexts(unit)] == [[], [], ["superseded"]]


@pytest.mark.parametrize(
    ("fields", "mark"),
    [
        ({"started_at": NOW + 10, "ended_at": NOW}, "negative_duration"),
        ({"started_at": NOW + 2 * 3_600_000_000, "ended_at": NOW + 3 * 3_600_000_000}, "clock_skew"),
        ({"source_id": "x", "parent_id": "x"}, "self_parent"),
        ({"parent_run_id": uuid(7)}, "root_inferred"),
    ],
)
def test_an_odd_event_is_marked_and_goes_on(fields: dict[str, Any], mark: str) -> None:
    unit = apply(fresh(), records([event(**fields)]))
    assert [list(c.marks) for c in contexts(unit)] == [[mark]]
    if mark == "self_parent":
        assert contexts(unit)[0].parent_span_id is None


def test_a_link_is_counted_and_goes_nowhere() -> None:
    state = fresh()
    unit = apply(state, records([event(Kind.LINK, source_id=uuid(2), root_run_id=uuid(1))]))
    assert (unit.outputs, unit.dead_letters, state.links) == ([], [], 1)


def test_events_without_a_trace_are_enriched_and_open_none() -> None:
    state = fresh()
    (context,) = contexts(
        apply(state, records([event(Kind.APP_CREATED, source_id="e1", workflow_run_id=None)]))
    )
    assert context.app_id == "a"
    assert not state.traces


BAD = [
    (None, "empty"),
    (b"", "empty"),
    (b"not avro at all", "bad_magic"),
    (b"\xc3\x01\x00", "truncated"),
    (b"\xc3\x01" + b"\xff" * 8 + b"body", "unknown_schema"),
    (codec.encode(event())[:-3], "truncated"),
    (codec.encode(event())[:40], "truncated"),
    (codec.encode(event()) + b"\0", "truncated"),
    (
        codec.encode(
            TraceContext(
                generation=0,
                sequence=0,
                source_offset=0,
                appended_at=0,
                span_id=bytes(8),
                marks=[],
                run_trace_id=bytes(16),
                message_trace_id=bytes(16),
                trace_started_at=0,
                parent_kind=ParentKind.NONE,
            )
        ),
        "wrong_record",
    ),
    (codec.encode(event(user_id="AAAA")).replace(b"AAAA", b"A\xff\xfeA"), "invalid_utf8"),
    (codec.encode(event(n=7, user_id="u" * 9000)), "field_too_long"),
]


@pytest.mark.parametrize(("value", "reason"), BAD, ids=[f"{r}-{i}" for i, (_, r) in enumerate(BAD)])
def test_what_cannot_be_read_or_applied_is_a_dead_letter_with_its_bytes_and_the_flow_goes_on(
    value: bytes | None, reason: str
) -> None:
    state = fresh()
    good = records([event(n=1), event(n=2)])
    unit = apply(state, [good[0], Source(1, NOW // 1000, b"k", value), good[1]._replace(offset=2)])
    (dead_letter,) = dead_letters(unit)
    assert (
        dead_letter.reason,
        dead_letter.raw,
        dead_letter.key,
        dead_letter.offset,
        dead_letter.partition,
    ) == (
        reason,
        value,
        b"k",
        1,
        3,
    )
    assert dead_letter.stage == ("apply" if reason == "field_too_long" else "decode")
    assert [c.sequence for c in contexts(unit)] == [0, 1]
    assert (state.enriched, state.dead_lettered, state.next_offset) == (2, 1, 3)
    known = (dead_letter.kind, dead_letter.trace_id, dead_letter.tenant_id, dead_letter.app_id)
    assert known == (("node_execution", uuid(1), "t", "a") if dead_letter.stage == "apply" else (None,) * 4)


def test_a_huge_record_is_cut_in_its_dead_letter() -> None:
    unit_value = b"x" * 10_000_000
    unit = apply(fresh(), [Source(0, NOW // 1000, None, unit_value)])
    (dead_letter,) = dead_letters(unit)
    assert dead_letter.raw is not None
    assert (len(dead_letter.raw), dead_letter.raw_size, dead_letter.raw_sha256 is not None) == (
        1_000_000,
        10_000_000,
        True,
    )


def test_a_dead_letter_leaves_no_trace_in_the_state() -> None:
    """When the fixed event is published again, it must not be a duplicate."""
    e = event(user_id="u" * 9000)
    state = fresh()
    assert len(apply(state, [record(e, 0)]).dead_letters) == 1
    assert (not state.traces, len(state.dedupe)) == (True, 0)


class BrokenPrices(Prices):
    def estimate(self, provider: bytes | None, model: bytes | None, *counts: Any) -> int | None:
        if model == b"boom":
            raise ZeroDivisionError("planted")
        return super().estimate(provider, model, *counts)


def test_an_error_in_the_rules_dead_letters_that_record_only() -> None:
    state, unit = fresh(), TransactionBatch()
    priced: dict[str, Any] = {"model_provider": "openai", "input_tokens": 5}
    log = [event(n=1, **priced, model_name="gpt-4o"), event(n=2, **priced, model_name="boom"), event(n=3)]
    EventProcessor("trace.events", 0, 2_000_000, 1_000_000, prices=BrokenPrices()).apply(
        state, records(log), unit
    )
    assert [(dead_letter.reason, dead_letter.stage) for dead_letter in dead_letters(unit)] == [
        ("apply_failed", "apply")
    ]
    assert (state.enriched, len(state.dedupe)) == (2, 2)


def test_idle_traces_and_traces_over_the_cap_are_evicted_in_log_order() -> None:
    state = fresh(LIMITS.__class__(idle_ms=1000, max_traces=2, dedupe_ms=3_600_000))
    apply(
        state,
        [
            record(event(run=1), 0, 1000),
            record(event(run=2), 1, 1500),
            record(event(run=1, n=2), 2, 1900),
            record(event(run=3), 3, 2600),
        ],
    )
    assert ([k.decode() for k in state.traces], state.evicted) == ([uuid(1), uuid(3)], 1)
    apply(state, [record(event(run=4), 4, 2600)])
    assert ([k.decode() for k in state.traces], state.evicted) == ([uuid(3), uuid(4)], 2)


def _snapshot(state: State) -> tuple[object, ...]:
    return (
        [(k, t.pack()) for k in list(state.traces) if (t := state.trace(k))],
        sorted(state.dedupe._seen),
        [
            getattr(state.position(), f)
            for f in state.position().__struct_fields__
            if f not in ("units", "flushed", "summaries")
        ],
    )


mixed = st.tuples(
    some_events, st.lists(garbage, max_size=6), st.randoms(use_true_random=False), st.integers(0, 400_000)
)
Kept = dict[tuple[str, bytes], bytes | None]


def keep(kept: Kept, closed: ChangedState) -> None:
    """What the compacted topics hold in the end."""
    for topic, written in (
        ("metrics", closed.rows),
        ("totals", closed.totals),
        ("summaries", closed.summaries),
    ):
        kept.update({(topic, k): v for k, v in written})


@given(mixed, st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=5))
@settings(max_examples=200, deadline=None)
def test_crashing_and_restoring_between_units_changes_nothing(
    given_: tuple[list[TraceEvent], list[bytes | None], Random, int], cuts: list[tuple[int, bool]]
) -> None:
    """The result equals that of one pass without a crash, whatever the units and flushes.

    That is outputs, dead letters, state, counts, metric rows, series and summaries.
    """
    events, bad, random, step = given_
    source = records(events, step_ms=step)
    for value in bad:
        source.insert(random.randrange(len(source) + 1), Source(0, 0, b"k", value))
    source = [s._replace(offset=i, timestamp=NOW // 1000 + i * step) for i, s in enumerate(source)]
    few = MetricLimits(horizon_ms=3_600_000, max_groups=2, max_rows=4)
    limits = StateLimits(idle_ms=900_000, max_traces=3, dedupe_ms=1_200_000, metrics=few)

    straight = fresh(limits)
    whole = apply(straight, source)
    at_once: Kept = {}
    keep(at_once, straight.close(flush=True))

    bits: Kept = {}
    log: list[tuple[bytes, bytes | None]] = []
    outputs, found = [], []
    state = fresh(limits)
    ends = [*sorted(cuts), (len(source), True)]
    for start, (end, flush) in zip([0, *(c for c, _ in ends[:-1])], ends, strict=True):
        unit = apply(state, source[min(start, end) : end])
        outputs += unit.outputs
        found += unit.dead_letters
        closed = state.close(flush)
        keep(bits, closed)
        log += closed.state
        state = State(limits)
        state.restore(log)
    assert outputs == whole.outputs
    assert found == whole.dead_letters
    assert _snapshot(state) == _snapshot(straight)
    assert {k: v for k, v in bits.items() if v} == {k: v for k, v in at_once.items() if v}
    assert (
        straight.events_in
        == straight.enriched + straight.links + straight.duplicates + straight.dead_lettered
        == len(source)
    )
    assert [c.sequence for c in contexts(whole)] == list(range(len(whole.outputs)))
    counted = Counter(c.run_trace_id for c in contexts(whole))
    assert sum(counted.values()) == straight.enriched


@given(some_events, st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_records_below_the_position_are_passed_over(events: list[TraceEvent], again: int) -> None:
    source = records(events)
    once, twice = fresh(), fresh()
    a = apply(once, source)
    b = apply(twice, source[: min(again, len(source))])
    c = apply(twice, source)
    assert b.outputs + c.outputs == a.outputs
    assert once.position() == twice.position()


@given(st.lists(garbage, max_size=20))
@settings(max_examples=200, deadline=None)
def test_the_pass_never_raises(values: list[bytes | None]) -> None:
    state = fresh()
    unit = apply(state, [Source(i, NOW // 1000, None, v) for i, v in enumerate(values)])
    assert len(unit.dead_letters) == len(values)


moments = st.sampled_from([EARLIEST, EARLIEST + 1, NOW, LATEST]) | st.integers(EARLIEST, LATEST)
extreme = st.sampled_from([0, 1, -1, 2**31 - 1, 2**50, 2**62, 2**63 - 1, -(2**63)]) | st.integers(
    -(2**63), 2**63 - 1
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "n": st.integers(1, 4),
                "started_at": moments,
                "ended_at": moments,
                "input_tokens": extreme,
                "output_tokens": extreme,
                "total_tokens": extreme,
                "time_to_first_token": extreme,
                "total_price": st.sampled_from(["0.0", "9223372.036854775807", "", "0.1"]),
                "name": st.text(max_size=90) | st.just("n" * 300),
                "error": st.none() | st.text(max_size=400),
                "status": st.text(max_size=5),
            }
        ),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_no_number_or_text_is_too_much_to_be_counted_and_summed_up(
    given_: list[dict[str, Any]], with_run: bool
) -> None:
    kinds = [Kind.NODE_EXECUTION] * len(given_) + [Kind.WORKFLOW_RUN] * with_run
    events = [event(kind, **fields) for kind, fields in zip(kinds, [*given_, given_[0]], strict=False)]
    state = fresh()
    unit = apply(state, records([msgspec.structs.replace(e, event_id=str(i)) for i, e in enumerate(events)]))
    assert not unit.dead_letters
    closed = state.close(flush=True)
    again = State(LIMITS)
    again.restore(closed.state)
    assert _snapshot(again) == _snapshot(state)
    for _, value in closed.summaries:
        summary = codec.decode(value or b"", TraceSummary)
        assert codec.encode(summary) == value
        assert sum(summary.counts.values()) <= len(events)
    for _, value in closed.rows:
        row = codec.decode(value or b"", MetricRow)
        assert not row.bounds or sum(row.buckets) == row.count
