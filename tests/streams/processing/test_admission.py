"""Events of other producers: empty ids, ids of OpenTelemetry alone, drafts, times in other units."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing.header import NAMES, read
from streams.processing.header_fields import TEXTS
from tailrace import codec
from tailrace.identity import complete
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.records import Evaluation, Kind, NodeExecution, Span, TraceContext, TraceEvent
from tests.harness import foreign
from tests.streams.events import NOW, Source, apply, contexts, dead_letters, event, fresh, records, uuid

RUNS = (1, 2, 3)


def log(*events: TraceEvent) -> list[Source]:
    """Records as another producer writes them."""
    return [Source(i, NOW // 1000, b"k", foreign.encode(e)) for i, e in enumerate(events)]


def bare(kind: Kind = Kind.SPAN, **fields: Any) -> TraceEvent:
    """An event of another producer, with only the fields that the schema requires."""
    required = {"event_id": "", "source_id": "", "started_at": NOW, "ended_at": NOW + 5, "published_at": NOW}
    return TraceEvent(**{"kind": kind, **required, **fields})


# -- empty ids
def test_an_empty_text_in_any_header_field_is_null() -> None:
    header = read(foreign.encode(foreign.emptied(event(source_id="s"))))
    whole = read(codec.encode(event(source_id="s")))
    assert len(TEXTS) > 25
    for name in NAMES:
        assert getattr(header, name) == getattr(whole, name), name


def test_runs_whose_caller_is_an_empty_text_stay_apart() -> None:
    runs = [event(Kind.WORKFLOW_RUN, run=n, tenant_id=f"tenant-{n}") for n in RUNS]
    empty = [msgspec.structs.replace(e, parent_run_id="", parent_node_execution_id="") for e in runs]
    state = fresh()
    found = contexts(apply(state, log(*empty)))
    assert [c.root_trace_id for c in found] == [uuid(n) for n in RUNS]
    assert [list(c.marks) for c in found] == [[]] * 3
    assert list(state.traces) == [uuid(n).encode() for n in RUNS]


def test_nothing_sticks_to_an_empty_text() -> None:
    sticky: tuple[str, ...] = ("user_id", "session_id", "conversation_id", "app_name", "workspace_name")
    first = msgspec.structs.replace(event(n=1), app_id="", tenant_id="", **dict.fromkeys(sticky, ""))
    named: dict[str, Any] = {name: f"the {name}" for name in sticky}
    second = event(n=2, app_id="app", **named)
    state = fresh()
    found = contexts(apply(state, log(first, second)))
    assert [getattr(found[0], name) for name in (*sticky, "app_id")] == [None] * 6
    assert [getattr(found[1], name) for name in sticky] == [f"the {name}" for name in sticky]
    assert found[1].app_id == "app"
    trace = state.trace(uuid(1).encode())
    assert trace is not None
    assert trace.tenant_id == b"t"


def test_a_link_without_its_run_links_nothing() -> None:
    state = fresh()
    unit = apply(state, log(bare(Kind.LINK, event_id="e", root_run_id="root", trace_id="")))
    assert [d.reason for d in dead_letters(unit)] == ["missing_id"]
    assert len(state.known_links) == 0
    unit = apply(
        state, [log(bare(Kind.LINK, event_id="f", source_id="s", root_run_id=""))[0]._replace(offset=1)]
    )
    assert (unit.dead_letters, len(state.known_links)) == ([], 0)


def test_an_event_without_an_event_id_gets_the_one_that_publishers_derive() -> None:
    state = fresh()
    own = event(n=1)
    unnamed = msgspec.structs.replace(own, event_id="")
    assert read(foreign.encode(own)).event_id == str(own.event_id).encode()
    unit = apply(state, log(unnamed, own, msgspec.structs.replace(event(n=2), event_id="")))
    assert [c.span_id for c in contexts(unit)] == [otel_span_id(f"{uuid(1)}/{n}") for n in (1, 2)]
    assert state.duplicates == 1


@pytest.mark.parametrize(
    ("kind", "fields", "source", "trace"),
    [
        (Kind.WORKFLOW_RUN, {"workflow_run_id": "r"}, "r", "r"),
        (Kind.WORKFLOW_RUN, {"workflow_run_id": "r", "message_id": "m"}, "r", "m"),
        (Kind.MESSAGE, {"message_id": "m", "workflow_run_id": "r"}, "m", "m"),
        (Kind.TOOL, {"source_id": "s", "message_id": "m", "workflow_run_id": "r"}, "s", "m"),
        (Kind.TOOL, {"source_id": "s", "workflow_run_id": "r"}, "s", "r"),
        (Kind.TOOL, {"source_id": "s"}, "s", "s"),
        (Kind.SPAN, {"source_id": "s", "otel_trace_id": b"T" * 16}, "s", "54" * 16),
    ],
)
def test_missing_ids_are_completed_as_a_publisher_does(
    kind: Kind, fields: dict[str, Any], source: str, trace: str
) -> None:
    (context,) = contexts(apply(fresh(), log(foreign.emptied(bare(kind, **fields)))))
    assert context.root_trace_id == trace
    assert context.span_id == otel_span_id(source)
    ours = complete(bare(kind, **fields), NOW)
    assert (ours.source_id, ours.trace_id) == (source, trace)


@pytest.mark.parametrize("kind", [Kind.TOOL, Kind.SPAN, Kind.APP_CREATED, Kind.NODE_EXECUTION])
def test_an_event_without_any_own_id_is_a_dead_letter_that_names_the_field(kind: Kind) -> None:
    state = fresh()
    unit = apply(state, log(bare(kind, message_id="m", otel_span_id=bytes(8))))
    (letter,) = dead_letters(unit)
    assert (letter.reason, letter.stage) == ("missing_id", "apply")
    assert "source_id" in letter.detail
    assert not state.traces


# -- OpenTelemetry's ids alone
NATIVE: dict[str, Any] = {"otel_trace_id": b"T" * 16, "otel_span_id": b"S" * 8}


def spans(make: Any) -> list[TraceEvent]:
    """A root and its child, the child twice, as a redelivery of the exporter sends it."""
    root = make(span=Span(), **NATIVE)
    child = {**NATIVE, "otel_span_id": b"C" * 8, "otel_parent_span_id": b"S" * 8}
    return [make(span=Span(), **child), make(span=Span(), **child), root]


def ours(**fields: Any) -> TraceEvent:
    return complete(TraceEvent(kind=Kind.SPAN, started_at=NOW, ended_at=NOW + 5, **fields), NOW)


@pytest.mark.parametrize("make", [bare, ours])
def test_a_span_with_ids_of_opentelemetry_alone_is_one_operation_of_one_trace(make: Any) -> None:
    state = fresh()
    child, root = contexts(apply(state, log(*spans(make))))
    assert state.duplicates == 1
    assert list(state.traces) == [b"54" * 16]
    assert (child.run_trace_id, child.message_trace_id) == (b"T" * 16, b"T" * 16)
    assert (root.run_trace_id, root.message_trace_id) == (b"T" * 16, b"T" * 16)
    assert (child.span_id, child.parent_span_id, child.parent_source_id) == (b"C" * 8, b"S" * 8, "53" * 8)
    assert (root.span_id, root.parent_span_id, root.root_trace_id) == (b"S" * 8, None, "54" * 16)


@pytest.mark.parametrize("kind", [Kind.SPAN, Kind.EVALUATION])
def test_a_parent_by_the_source_id_of_a_span_with_native_ids_alone_is_that_span(kind: Kind) -> None:
    """docs/publishing.md: `parent_id` is the `source_id` of the other one, as its publisher returned it."""
    parent = ours(span=Span(), **NATIVE)
    body: dict[str, Any] = (
        {"name": "n", "evaluation": Evaluation(number=1.0)} if kind == Kind.EVALUATION else {"span": Span()}
    )
    one = TraceEvent(
        kind=kind,
        started_at=NOW,
        ended_at=NOW + 5,
        trace_id=parent.trace_id,
        parent_id=parent.source_id,
        **body,
    )
    before, above, after = contexts(
        apply(
            fresh(),
            log(complete(one, NOW), parent, complete(msgspec.structs.replace(one, source_id="b"), NOW)),
        )
    )
    assert above.span_id == NATIVE["otel_span_id"]
    assert before.parent_span_id == after.parent_span_id == above.span_id


def test_a_source_id_that_looks_like_a_native_id_has_children_without_one() -> None:
    parent, child = contexts(
        apply(
            fresh(),
            log(
                ours(source_id="00f067aa0ba902b7", trace_id="t", span=Span()),
                ours(source_id="c", trace_id="t", parent_id="00f067aa0ba902b7", span=Span()),
            ),
        )
    )
    assert child.parent_span_id == parent.span_id


def test_what_is_derived_is_the_same_for_both() -> None:
    for one, other in zip(spans(bare), spans(ours), strict=True):
        found = [contexts(apply(fresh(), log(e)))[0] for e in (one, other)]
        assert found[0] == found[1]
        assert codec.decode(foreign.encode(other), TraceEvent).event_id == other.event_id


def test_ids_of_zeros_are_no_ids() -> None:
    zeros: dict[str, Any] = {
        "otel_trace_id": bytes(16),
        "otel_span_id": bytes(8),
        "otel_parent_span_id": bytes(8),
    }
    (context,) = contexts(apply(fresh(), log(bare(source_id="s", trace_id="t", **zeros))))
    assert (context.span_id, context.parent_span_id) == (otel_span_id("s"), None)
    assert context.run_trace_id == otel_trace_id("t")
    done = complete(bare(source_id="s", trace_id="t", **zeros), NOW)
    assert (done.otel_trace_id, done.otel_span_id, done.otel_parent_span_id) == (None, None, None)


# -- drafts
JOINING: dict[str, Any] = {
    "trace_id": "run",
    "message_id": "message",
    "workflow_run_id": "run",
    "parent_id": "node",
    "parent_trace_id": "run",
    "parent_run_id": "run",
    "parent_node_execution_id": "node",
    "root_trace_id": "message",
    "root_run_id": "run",
    "root_started_at": NOW - 1000,
    "otel_trace_id": b"T" * 16,
    "otel_parent_span_id": b"P" * 8,
}


def draft(**fields: Any) -> TraceEvent:
    return bare(Kind.DRAFT_NODE_EXECUTION, source_id="draft", node_execution=NodeExecution(), **fields)


def check_draft(context: TraceContext) -> None:
    assert (context.root_trace_id, context.root_run_id) == ("draft", None)
    assert (context.run_trace_id, context.message_trace_id) == (otel_trace_id("draft"),) * 2
    assert (context.parent_span_id, context.parent_source_id, context.linked_span_id) == (None, None, None)
    assert list(context.marks) == []
    assert context.trace_started_at == NOW


@pytest.mark.parametrize("field", JOINING)
def test_a_draft_never_joins_another_trace(field: str) -> None:
    """Seed 003, scenario C, for what a publisher sends and for what another producer writes."""
    made = draft(**{field: JOINING[field]})
    state = fresh()
    run = event(Kind.WORKFLOW_RUN, source_id="run", workflow_run_id="run", trace_id="run")
    (_, context) = contexts(apply(state, log(run, made)))
    check_draft(context)
    published = complete(made, NOW)
    assert published.trace_id == "draft"
    (_, context) = contexts(apply(fresh(), log(run, published)))
    check_draft(context)


def test_a_draft_that_names_everything_joins_nothing() -> None:
    (context,) = contexts(apply(fresh(), log(draft(**JOINING))))
    check_draft(context)


# -- times
@pytest.mark.parametrize("field", ["started_at", "ended_at", "published_at", "root_started_at"])
@pytest.mark.parametrize(
    ("at", "unit"),
    [
        (NOW // 1_000_000, "looks like seconds"),
        (NOW // 1000, "looks like milliseconds"),
        (NOW * 1000, "looks like nanoseconds"),
        (0, "microseconds UTC"),
        (-(2**63), "microseconds UTC"),
    ],
)
def test_a_time_in_another_unit_is_a_dead_letter_that_names_field_and_unit(
    field: str, at: int, unit: str
) -> None:
    state = fresh()
    bad = msgspec.structs.replace(event(n=1), **{field: at})
    unit_ = apply(state, log(bad, event(n=2)))
    (letter,) = dead_letters(unit_)
    assert (letter.reason, letter.stage) == ("implausible_time", "apply")
    assert letter.detail.startswith(f"{field} is {at}")
    assert unit in letter.detail
    assert (len(unit_.outputs), state.dead_lettered) == (1, 1)
    assert len(state.dedupe) == 1, "once its time is corrected, the event is new"


def test_a_link_with_a_time_in_another_unit_starts_no_trace_in_1970() -> None:
    state = fresh()
    unit = apply(state, log(bare(Kind.LINK, source_id="r", root_run_id="x", root_started_at=NOW // 1000)))
    assert [d.reason for d in dead_letters(unit)] == ["implausible_time"]
    assert len(state.known_links) == 0


# -- everything at once
ids = st.sampled_from(["", "a", "b", "ü", uuid(1), "{" + uuid(1) + "}", "urn:uuid:" + uuid(1), "x" * 40])
odd_events = st.builds(
    lambda kind, texts, native, revision, source, event_id: bare(
        kind,
        **texts,
        **{name: (bytes([n]) * foreign.NATIVE[name]) for name, n in native.items()},
        revision=revision,
        source_id=source,
        event_id=event_id,
    ),
    st.sampled_from([k for k in Kind if k != "evaluation"]),
    st.dictionaries(st.sampled_from(foreign.TEXTS), ids, max_size=8),
    st.dictionaries(st.sampled_from(sorted(foreign.NATIVE)), st.sampled_from([0, 1]), max_size=3),
    st.integers(0, 2),
    ids,
    ids,
)


@given(st.lists(odd_events, max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_ids_are_applied_or_refused_for_a_missing_id(events: list[TraceEvent]) -> None:
    state = fresh()
    unit = apply(state, log(*events))
    assert {d.reason for d in dead_letters(unit)} <= {"missing_id"}
    for context in contexts(unit):
        assert any(context.span_id)
        assert any(context.run_trace_id)
        assert context.root_trace_id != ""
        assert context.parent_source_id != ""
        assert context.user_id != ""
    assert b"" not in state.traces
    assert "" not in [codec.decode(v, TraceEvent).source_id for _, v in unit.links]


@given(st.lists(odd_events, max_size=8))
@settings(max_examples=150, deadline=None)
def test_an_empty_text_gives_what_null_gives(events: list[TraceEvent]) -> None:
    def without(e: TraceEvent) -> TraceEvent:
        changes: dict[str, Any] = {n: None for n in foreign.TEXTS if getattr(e, n) == ""}
        changes |= {n: None for n in foreign.NATIVE if not any(getattr(e, n) or b"")}
        return msgspec.structs.replace(e, **changes)

    one, other = fresh(), fresh()
    a, b = apply(one, log(*events)), apply(other, log(*map(without, events)))
    assert [c for _, _, c in a.outputs] == [c for _, _, c in b.outputs]
    assert (a.links, len(a.dead_letters)) == (b.links, len(b.dead_letters))
    closed, expected = one.close(flush=True), other.close(flush=True)
    assert (closed.state, closed.summaries, closed.rows) == (
        expected.state,
        expected.summaries,
        expected.rows,
    )


def test_records_of_our_own_are_as_they_were() -> None:
    source = records([event(n=1), event(Kind.WORKFLOW_RUN, n=2)])
    assert [v for v, _, _ in apply(fresh(), source).outputs] == [r.value for r in source]
