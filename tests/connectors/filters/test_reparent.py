"""New parents when runs or messages are left out: single cases, and whole forests from the processor."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from connectors.filters.reparent import hang
from connectors.preview.offline import enriched
from connectors.sdk.contract import Enriched
from tailrace.ids import otel_span_id
from tailrace.records import Kind, ParentKind, TraceContext, TraceEvent
from tests.connectors.enriching import make_context
from tests.harness.forests import Planned, forests, planned

NOW = 1_767_225_600_000_000


def hung(
    event: dict[str, Any], context: dict[str, Any], *, runs: bool = False, messages: bool = False
) -> Any:
    """Kind and source_id of the parent afterwards."""
    made = TraceEvent(
        **{"kind": Kind.NODE_EXECUTION, "source_id": "n", "started_at": 0, "ended_at": 1, **event}
    )
    parent = context.get("parent_source_id")
    span = None if parent is None else otel_span_id(parent)
    before = make_context(made, **{"root_run_id": None, "parent_span_id": span, **context})
    after = hang(made, before, runs=runs, messages=messages)
    wanted = None if after.parent_source_id is None else otel_span_id(after.parent_source_id)
    assert after.parent_span_id == wanted
    return str(after.parent_kind), after.parent_source_id


CHATFLOW = {"message_id": "m", "workflow_run_id": "r", "trace_id": "m"}
OF_CHATFLOW = {"root_trace_id": "m", "root_run_id": "r"}
UNDER_RUN = {"parent_source_id": "r", "parent_kind": ParentKind.RUN}
UNDER_MESSAGE = {"parent_source_id": "m", "parent_kind": ParentKind.MESSAGE}


def test_in_a_chatflow_without_runs_nodes_are_children_of_the_message() -> None:
    assert hung(CHATFLOW, OF_CHATFLOW | UNDER_RUN, runs=True) == ("message", "m")
    assert hung(CHATFLOW, OF_CHATFLOW | UNDER_RUN, messages=True) == ("run", "r")
    assert hung(CHATFLOW, OF_CHATFLOW | UNDER_RUN, runs=True, messages=True) == ("none", None)


def test_in_a_chatflow_without_messages_the_run_is_a_root() -> None:
    run = CHATFLOW | {"kind": Kind.WORKFLOW_RUN, "source_id": "r"}
    assert hung(run, OF_CHATFLOW | UNDER_MESSAGE, messages=True) == ("none", None)
    side = CHATFLOW | {"kind": Kind.MODERATION, "source_id": "s"}
    assert hung(side, OF_CHATFLOW | UNDER_MESSAGE, messages=True) == ("none", None)
    assert hung(side, OF_CHATFLOW | UNDER_MESSAGE, runs=True) == ("message", "m")


def test_in_a_workflow_alone_without_runs_nodes_are_roots() -> None:
    alone = {"workflow_run_id": "r", "trace_id": "r"}
    assert hung(alone, {"root_trace_id": "r", "root_run_id": "r"} | UNDER_RUN, runs=True) == ("none", None)


def test_nodes_of_a_nested_run_that_is_left_out_are_children_of_the_calling_node() -> None:
    inner = {
        "workflow_run_id": "r",
        "trace_id": "r",
        "parent_run_id": "outer",
        "parent_node_execution_id": "call",
    }
    for root in (
        {"root_trace_id": "outer", "root_run_id": "outer"},
        {"root_trace_id": "m", "root_run_id": "outer"},
    ):
        assert hung(inner, root | UNDER_RUN, runs=True) == ("node", "call")
    inner.pop("parent_node_execution_id")
    assert hung(inner, {"root_trace_id": "outer", "root_run_id": "outer"} | UNDER_RUN, runs=True) == (
        "none",
        None,
    )
    assert hung(inner, {"root_trace_id": "m", "root_run_id": "outer"} | UNDER_RUN, runs=True) == (
        "message",
        "m",
    )
    assert hung(inner, {"root_trace_id": "draft"} | UNDER_RUN, runs=True) == ("operation", "draft")


def test_a_parent_that_is_named_as_an_operation_is_recognised() -> None:
    named = {"parent_source_id": "r", "parent_kind": ParentKind.OPERATION}
    assert hung(CHATFLOW, OF_CHATFLOW | named, runs=True) == ("message", "m")
    named = {"parent_source_id": "m", "parent_kind": ParentKind.OPERATION}
    assert hung(CHATFLOW, OF_CHATFLOW | named, messages=True) == ("none", None)
    named = {"parent_source_id": "iteration", "parent_kind": ParentKind.OPERATION}
    assert hung(CHATFLOW, OF_CHATFLOW | named, runs=True, messages=True) == ("operation", "iteration")


def test_a_native_parent_span_is_left() -> None:
    event = TraceEvent(kind=Kind.SPAN, source_id="s", started_at=0, ended_at=1, trace_id="t")
    before = make_context(
        event, parent_source_id=None, parent_span_id=b"12345678", parent_kind=ParentKind.OPERATION
    )
    assert hang(event, before, runs=True, messages=True) is before


def test_the_link_to_a_calling_run_goes_with_the_runs() -> None:
    event = TraceEvent(kind=Kind.WORKFLOW_RUN, source_id="s", started_at=0, ended_at=1)
    before = make_context(event, linked_span_id=b"12345678", parent_kind=ParentKind.NODE)
    assert hang(event, before, runs=False, messages=True) is before
    assert hang(event, before, runs=True, messages=False).linked_span_id is None


LEFT_OUT = [{Kind.WORKFLOW_RUN}, {Kind.MESSAGE}, {Kind.WORKFLOW_RUN, Kind.MESSAGE}]


@pytest.mark.parametrize("left_out", LEFT_OUT, ids=lambda kinds: "+".join(sorted(kinds)))
@given(forest=forests)
@settings(max_examples=25, phases=(Phase.generate,))
def test_in_any_forest_the_parent_of_a_kept_event_is_a_kept_ancestor(left_out: set[str], forest: Any) -> None:
    made = planned(forest, NOW)
    above = {"run" if kind == Kind.WORKFLOW_RUN else "message" for kind in left_out}
    kinds = {p.event.source_id: p.event.kind for p in made}
    for p, found in zip(made, enriched([p.event for p in made]), strict=True):
        if not isinstance(found, Enriched) or p.event.kind in left_out:
            continue
        after = hang(
            found.event, found.context, runs=Kind.WORKFLOW_RUN in left_out, messages=Kind.MESSAGE in left_out
        )
        _check(p, found.context, after, above, kinds)


def _check(
    p: Planned, before: TraceContext, after: TraceContext, above: set[str], kinds: dict[Any, Any]
) -> None:
    """The parent afterwards is a kept ancestor, or there is none.

    truth.path is what is above an operation, from the numbers that the forest was made of. It ends at an
    operation that names itself as its parent. That one is still in a trace, and a node may have called it.

    Args:
        p: the event and the truth about it.
        before: its context as the processor wrote it.
        after: its context after the filter.
        above: kinds of parent that are left out.
        kinds: source_id -> kind, of all events.
    """
    parent = after.parent_source_id
    assert (parent is None) == (after.parent_kind == "none") == (after.parent_span_id is None)
    assert parent != p.event.source_id
    if before.parent_kind not in above:
        assert parent == before.parent_source_id
        assert after.parent_kind == before.parent_kind
        return
    assert after.parent_kind not in above
    assert p.truth is not None
    if parent is None:
        return
    whole = p.truth.path[-1] == p.truth.trace
    assert parent in (p.truth.path if whole else (p.event.parent_node_execution_id, p.truth.trace))
    expected = {"node": Kind.NODE_EXECUTION, "message": Kind.MESSAGE, "run": Kind.WORKFLOW_RUN}
    if parent in kinds:
        assert kinds[parent] == expected[after.parent_kind]


@given(st.sampled_from(LEFT_OUT), forests)
@settings(max_examples=15, phases=(Phase.generate,))
def test_a_second_time_changes_nothing(left_out: set[str], forest: Any) -> None:
    made = [p.event for p in planned(forest, NOW)]
    options = {"runs": Kind.WORKFLOW_RUN in left_out, "messages": Kind.MESSAGE in left_out}
    for found in enriched(made):
        if isinstance(found, Enriched) and found.event.kind not in left_out:
            once = hang(found.event, found.context, **options)
            assert hang(found.event, once, **options) == once
