"""Evaluations in the processor: what they hang on, and that they change nothing of what they are about."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing.apply import TransactionBatch
from streams.processing.state import State
from streams.processing.trace import Trace
from tailrace import codec
from tailrace.identity import complete, kafka_key
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.records import (
    Evaluation,
    EvaluationSource,
    EvaluationTarget,
    Kind,
    Message,
    MetricTotal,
    TraceContext,
    TraceEvent,
    TraceSummary,
)
from tests.streams.events import (
    LIMITS,
    NOW,
    Source,
    apply,
    contexts,
    dead_letters,
    event,
    fresh,
    record,
    records,
    some_events,
    uuid,
)

RUN, NODE = uuid(1), f"{uuid(1)}/1"
LATER = NOW // 1000 + LIMITS.idle_ms + 1


def judged(number: float = 1.0, **fields: Any) -> TraceEvent:
    """An evaluation a minute after the others; of run 1, unless `fields` say something else."""
    about = {"workflow_run_id": RUN} if fields.keys() <= {"parent_id", "revision", "event_id"} else {}
    base: dict[str, Any] = {
        "started_at": NOW + 60_000_000,
        "ended_at": NOW + 61_000_000,
        "name": "correctness",
    }
    body = Evaluation(number=number, label="good", evaluator="judge")
    return complete(TraceEvent(kind=Kind.EVALUATION, evaluation=body, **{**base, **about, **fields}), NOW)


def foreign(**fields: Any) -> TraceEvent:
    """What another producer may write: nothing is checked."""
    base: dict[str, Any] = {"event_id": "e", "source_id": "s", "published_at": NOW}
    times = {"started_at": NOW + 60_000_000, "ended_at": NOW + 61_000_000}
    return TraceEvent(kind=Kind.EVALUATION, **{**base, **times, **fields})


def opened(state: State) -> list[Trace]:
    """The open traces, the oldest first."""
    return [t for key in state.traces if (t := state.trace(key)) is not None]


def packed(state: State) -> list[bytes]:
    return [trace.pack() for trace in opened(state)]


def turn() -> list[TraceEvent]:
    """A run, its node and the message above them."""
    shared: dict[str, Any] = {"message_id": "m", "user_id": "u", "conversation_id": "c"}
    message = event(Kind.MESSAGE, n=3, source_id="m", message=Message(query="hi"), **shared)
    return [event(n=1, **shared), event(Kind.WORKFLOW_RUN, n=2, source_id=RUN, **shared), message]


def test_an_evaluation_of_an_operation_hangs_on_it() -> None:
    of_node = judged(parent_id=NODE, message_id="m")
    *others, found = contexts(apply(fresh(), records([*turn(), of_node])))
    assert (found.parent_source_id, found.parent_span_id) == (NODE, otel_span_id(NODE))
    assert (found.parent_kind, found.span_id) == ("operation", otel_span_id(of_node.source_id or ""))
    same = ("root_trace_id", "root_run_id", "message_trace_id", "trace_started_at", "user_id")
    assert [getattr(found, n) for n in same] == [getattr(others[0], n) for n in same]
    assert (found.root_trace_id, found.trace_started_at, found.user_id) == ("m", NOW + 1, "u")


def test_an_evaluation_of_a_trace_hangs_on_nothing() -> None:
    ways: list[dict[str, Any]] = [
        {"message_id": "m"},
        {"message_id": "m", "workflow_run_id": RUN},
        {"trace_id": "m"},
    ]
    for fields in ways:
        found = contexts(apply(fresh(), records([*turn(), judged(**fields)])))[-1]
        assert (found.parent_span_id, found.parent_kind, found.root_trace_id) == (None, "none", "m")
        assert found.trace_started_at == NOW + 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"trace_id": "m", "message_id": "m"},
        {"workflow_run_id": RUN},
        {"parent_run_id": RUN, "parent_id": NODE},
        {"root_trace_id": "m", "root_run_id": RUN},
        {"otel_parent_span_id": b"P" * 8},
    ],
)
def test_an_evaluation_of_a_session_is_in_no_trace(fields: dict[str, Any]) -> None:
    state = fresh()
    apply(state, records([*turn()]))
    before = list(state.traces)
    of_session = foreign(evaluation_target="session", conversation_id="c", session_id="s", **fields)
    (found,) = contexts(apply(state, [record(of_session, 3)]))
    assert (found.root_trace_id, found.root_run_id, found.parent_span_id) == (None, None, None)
    assert (found.conversation_id, found.session_id, list(found.marks)) == ("c", "s", [])
    assert list(state.traces) == before


def test_an_evaluation_does_not_open_a_trace() -> None:
    state = fresh()
    late = judged(parent_id=NODE, user_id="judge", message_id="m", workflow_run_id=RUN)
    rooted = judged(root_trace_id="m", root_started_at=NOW + 7, name="tone")
    unit = apply(state, records([late, rooted]))
    first, second = contexts(unit)
    assert (first.root_trace_id, first.parent_source_id, first.user_id) == ("m", NODE, "judge")
    assert first.message_trace_id == second.message_trace_id == otel_trace_id("m")
    assert (first.trace_started_at, second.trace_started_at) == (NOW + 60_000_000, NOW + 7)
    assert (dict(state.traces), unit.links) == ({}, [])
    state.advance(LATER)
    closed = state.close(flush=True)
    assert closed.summaries == []
    assert state.evicted == 0


def test_an_open_trace_stays_as_it_is() -> None:
    state = fresh()
    apply(state, records(turn()))
    before, order = packed(state), list(state.traces)
    state.close(flush=True)
    unit = apply(
        state,
        [
            record(
                judged(message_id="m", session_id="of the judge", workflow_run_id="another"), 3, LATER - 2
            ),
            record(judged(parent_id=NODE, message_id="m", dataset_ids=["d"]), 4, LATER - 1),
        ],
    )
    assert packed(state) == before
    assert (list(state.traces), unit.links) == (order, [])
    assert state.close(flush=True).summaries == []
    state.advance(LATER)
    assert dict(state.traces) == {}, "it does not keep the trace open"


def test_an_evaluation_is_in_no_summary() -> None:
    state = fresh()
    apply(state, records([*turn(), judged(message_id="m"), judged(parent_id=NODE, message_id="m")]))
    ((_, value),) = state.close(flush=True).summaries
    found = codec.decode(value or b"", TraceSummary)
    assert found.counts == {"node_execution": 1, "workflow_run": 1, "message": 1}
    assert (found.revision, found.ended_at) == (3, NOW + 1003)


def test_a_lower_revision_that_comes_later_is_marked() -> None:
    first, second = judged(1.0, parent_id=NODE), judged(0.5, parent_id=NODE, revision=1)
    other = judged(0.5, parent_id=f"{RUN}/2")
    state = fresh()
    unit = apply(state, records([event(n=1), second, other, first]))
    assert [list(c.marks) for c in contexts(unit)] == [[], [], [], ["superseded"]]
    assert first.source_id == second.source_id != other.source_id
    state.close(flush=False)


def test_corrections_survive_a_restart() -> None:
    state, kept = fresh(), dict[bytes, bytes | None]()
    apply(state, records([event(n=1), judged(parent_id=NODE, revision=2)]))
    kept.update(state.close(flush=True).state)
    again = State(LIMITS)
    again.restore(kept.items())
    (found,) = contexts(apply(again, [record(judged(parent_id=NODE, revision=1), 2)]))
    assert list(found.marks) == ["superseded"]


def test_the_same_result_again_is_a_duplicate() -> None:
    state = fresh()
    apply(state, records([event(n=1), judged(parent_id=NODE), judged(0.2, parent_id=NODE)]))
    assert (state.enriched, state.duplicates) == (2, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"evaluation_target": "operation"},
        {"evaluation_target": "trace", "message_id": ""},
        {"evaluation_target": "unknown", "trace_id": "T", "parent_id": "s"},
        {"evaluation_target": "trace", "trace_id": "T", "parent_id": "p"},
        {"name": "", "evaluation": Evaluation(number=float("nan"), label="")},
        {"evaluation": Evaluation(label="x" * 5000), "trace_id": "T"},
    ],
)
def test_what_another_producer_writes_flows(fields: dict[str, Any]) -> None:
    state = fresh()
    unit = apply(state, [record(foreign(**fields), 0)])
    assert dead_letters(unit) == []
    (found,) = contexts(unit)
    assert found.parent_span_id is None
    assert dict(state.traces) == {}


def test_they_are_counted_by_name_label_source_and_target() -> None:
    state = fresh()
    flag = complete(
        TraceEvent(
            kind=Kind.EVALUATION,
            started_at=NOW,
            ended_at=NOW,
            name="solved",
            session_id="s",
            tenant_id="t",
            app_id="a",
            evaluation=Evaluation(flag=True, source=EvaluationSource.PERSON),
        ),
        NOW,
    )
    apply(
        state,
        records([judged(parent_id=NODE), judged(parent_id="p2"), judged(parent_id=NODE, revision=1), flag]),
    )
    totals = [codec.decode(v or b"", MetricTotal) for _, v in state.close(flush=True).totals]
    assert {t.metric for t in totals} == {"tailrace.evaluations"}
    assert {(*t.labels.values(), t.count) for t in totals} == {
        ("", "", "correctness", "good", "", "operation", 2),
        ("t", "a", "solved", "true", "person", "session", 1),
    }
    assert state.aggregator.corrections == 1


def as_told(found: list[TraceContext]) -> list[TraceContext]:
    """Contexts without their places in the log."""
    return [msgspec.structs.replace(c, sequence=0, source_offset=0) for c in found]


def applied(state: State, source: list[Source]) -> TransactionBatch:
    unit = apply(state, source)
    state.close(flush=True)
    return unit


@given(some_events, st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5), st.booleans()), max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_is_evaluated_is_as_it_would_be_without(
    events: list[TraceEvent], places: list[tuple[int, int, bool]]
) -> None:
    mixed: list[TraceEvent] = list(events)
    for at, run, whole in places:
        about: dict[str, Any] = {} if whole else {"parent_id": f"{uuid(run)}/1"}
        one = judged(trace_id=uuid(run), name=f"n{at}", **about)
        mixed.insert(at % (len(mixed) + 1), one)
    plain, judging = fresh(), fresh()
    alone, together = applied(plain, records(events)), applied(judging, records(mixed))
    kinds = [codec.decode(value, TraceEvent).kind for value, _, _ in together.outputs]
    found = [c for kind, c in zip(kinds, contexts(together), strict=True) if kind != Kind.EVALUATION]
    assert as_told(found) == as_told(contexts(alone))
    assert list(judging.traces) == list(plain.traces)
    assert [t.events for t in opened(judging)] == [t.events for t in opened(plain)]
    assert together.links == alone.links


@given(
    some_events,
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 5), st.integers(0, 2), st.integers(1, 2)), max_size=8
    ),
)
@settings(max_examples=40, deadline=None)
def test_a_restart_after_any_record_changes_nothing(
    events: list[TraceEvent], places: list[tuple[int, int, int, int]]
) -> None:
    mixed: list[TraceEvent] = list(events)
    for at, run, revision, node in places:
        one = judged(trace_id=uuid(run), parent_id=f"{uuid(run)}/{node}", revision=revision)
        mixed.insert(at % (len(mixed) + 1), one)
    source = records(mixed)
    whole = fresh()
    expected = contexts(apply(whole, source))
    state, kept, found = fresh(), dict[bytes, bytes | None](), list[TraceContext]()
    for one_record in source:
        found += contexts(apply(state, [one_record]))
        kept.update(state.close(flush=False).state)
        state = State(LIMITS)
        state.restore(kept.items())
    assert found == expected
    assert list(state.traces) == list(whole.traces)
    assert packed(state) == packed(whole)


def test_a_sessions_evaluations_have_one_key() -> None:
    keys = {
        kafka_key(judged(session_id="s", name=name, evaluation_target=EvaluationTarget.SESSION, app_id=app))
        for name in ("a", "b")
        for app in ("x", "y")
    }
    assert keys == {"s"}
