"""Dify's known defects, one test each: none is carried over. Names and numbers are those of its issues."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ingress.dify import DifyLines
from ingress.dify.task import DIFFERS
from ingress.dify.zones import Zones
from tailrace.records import Kind, TraceEvent
from tests.ingress.dify import samples
from tests.ingress.dify.converting import NOW, converted, events, notes, published
from tests.ingress.dify.samples import Line, raw, u, us
from tests.ingress.dify.test_turns import contexts, parents


def of(found: list[TraceEvent], kind: Kind) -> list[TraceEvent]:
    return [event for event in found if event.kind == kind]


# -- how lines are taken


@pytest.mark.parametrize("bad", [b"{", b"[]", raw(samples.task("WorkflowTraceInfo", {})), b"\xff"])
def test_one_bad_record_does_not_take_the_rest_of_its_batch_with_it(bad: bytes) -> None:
    """send_to_celery dropped what was popped with it (#23166)."""
    turn = [raw(line) for line in samples.chatflow()]
    found = converted([*turn[:3], bad, *turn[3:]])
    assert [one.where for one in found if one.event is None] == ["4"]
    assert len([one for one in found if one.event is not None]) == len(events(turn))


def test_nothing_waits_for_the_next_event() -> None:
    """Dify's timer ran once; what came later waited for the next add."""
    adapter = DifyLines()
    out = [one for line in samples.plain_chat()[:4] for one in adapter.line("x", raw(line))]
    assert len(out) == 4


def test_a_record_without_a_trace_info_is_refused_by_name() -> None:
    """A builder returned {}: the task failed before its try, and its file stayed."""
    [one] = converted([{**samples.run(1, 0, 1), "trace_info": None}])
    assert one.problem is not None
    assert one.problem.field == "trace_info"
    assert "Dify recorded no WorkflowTraceInfo" in one.problem.problem


def test_a_node_that_comes_after_its_run_has_everything() -> None:
    """Node rows were read again at the export, when they might not be written yet (#36099, #20779)."""
    turn = samples.chatflow()
    late = [line for line in turn if line.get("trace_info_type") == "WorkflowNodeTraceInfo"]
    early = [line for line in turn if line not in late]
    tree = parents(events([*early, *late]))
    assert {tree[u(n)] for n in (0x64, 0x65, 0x66)} == {u(1)}


def test_large_content_is_passed_on_whole_for_the_publisher_to_judge() -> None:
    [event] = events([samples.message(3, 0, 1, outputs="x" * 200_000)])
    assert len(event.outputs or "") == 200_002


def test_the_zone_of_rows_is_not_that_of_timers() -> None:
    """With TZ=Asia/Shanghai a row's 12:00 UTC was exported as 12:00+08:00."""
    turn = samples.plain_chat()
    for line in turn:
        if line.get("trace_info_type") not in (None, "MessageTraceInfo"):
            info = line["trace_info"]
            for name in ("start_time", "end_time"):  # the timers' times are local
                info[name] = info[name].replace("T12:", "T20:")
    found = events(turn, zones=Zones(("timers=Asia/Shanghai",)))
    times = {(e.kind, e.started_at) for e in events(samples.plain_chat())}
    assert {(e.kind, e.started_at) for e in found} == times


def test_the_same_line_twice_is_the_same_event() -> None:
    """Observations without an id, or with a random one, were written twice on redelivery."""
    for line in (*samples.CLASSES.values(), samples.feedback(3), samples.app("app_created")):
        once, again = events([line]), events([json.loads(json.dumps(line, indent=1))])
        assert [e.event_id for e in once] == [e.event_id for e in again]
        assert len({e.source_id for e in events([line, line])}) == len(once)


@pytest.mark.parametrize("cls", samples.CLASSES)
def test_a_record_that_dify_tried_twice_is_the_same_event(cls: str) -> None:
    """Between two attempts it adds a flag for itself, which is part of the record that is written again."""
    line = samples.CLASSES[cls]
    again = copy.deepcopy(line)
    again["trace_info"]["_enterprise_trace_dispatched"] = True
    assert [e.event_id for e in events([line])] == [e.event_id for e in events([again])]
    assert {note for note in notes(converted([again]), "1") if "dispatched" in note[1]} == set()


def test_two_operations_are_never_one() -> None:
    lines = [samples.tool(3, 0.1, 0.2), samples.tool(3, 0.3, 0.4), samples.moderation(3, 0.1, 0.2)]
    assert len({e.source_id for e in events(lines)}) == 3


def test_telemetry_of_the_queue_that_no_worker_reads_is_read() -> None:
    """METRIC_LOG events: Dify's default worker does not consume `enterprise_telemetry`."""
    lines = [samples.feedback(3), *(samples.app(f"app_{what}") for what in ("created", "updated", "deleted"))]
    assert [e.kind for e in events(lines)] == [
        Kind.FEEDBACK,
        Kind.APP_CREATED,
        Kind.APP_UPDATED,
        Kind.APP_DELETED,
    ]


# -- what the builders get wrong


def test_what_runs_beside_a_message_has_tenant_and_user() -> None:
    """moderation, tool and suggested_question come with neither; their metrics had tenant_id=""."""
    lines = [
        samples.moderation(3, 0, 1),
        samples.tool(3, 1, 2),
        samples.message(3, 0, 4),
        samples.suggested(3, 4, 5),
    ]
    for event in events(lines):
        assert (event.tenant_id, event.user_id) == (samples.TENANT, u(0x30)), event.kind
        assert (event.app_id, event.conversation_id) == (samples.APP, u(0x50)), event.kind


def test_an_earlier_call_of_a_tool_does_not_get_the_data_of_the_last_one() -> None:
    """#8206: time, error and parameters come from the last thought with a tool of that name."""
    shared: dict[str, Any] = {"time_cost": 0.3, "error": "parcel not found", "tool_parameters": {"n": 2}}
    lines = [
        samples.tool(3, 0.5, 0.7, tool_inputs={"n": 1}, tool_outputs="fine", **shared),
        samples.tool(3, 1.5, 1.8, tool_inputs={"n": 2}, tool_outputs="not found", **shared),
        samples.message(3, 0, 4, "agent-chat"),
    ]
    found = converted(lines)
    first, second = of(published(found), Kind.TOOL)
    assert first.tool is not None
    assert second.tool is not None
    assert (first.error, first.status, first.tool.time_cost) == (None, "succeeded", None)
    assert (first.tool.tool_parameters, first.tool.tool_inputs) == (None, '{"n": 1}')
    assert (second.error, second.status, second.tool.time_cost) == ("parcel not found", "failed", 300_000)
    assert (first.ended_at - first.started_at, second.ended_at - second.started_at) == (200_000, 300_000)
    assert ("changed", "tool") in notes(found, "1")
    assert ("changed", "tool") not in notes(found, "2")


def test_calls_of_a_tool_with_data_of_their_own_keep_them() -> None:
    lines = [samples.tool(3, 0.5, 0.7, time_cost=0.1), samples.tool(3, 1.5, 1.8), samples.message(3, 0, 4)]
    costs = [e.tool.time_cost for e in of(events(lines), Kind.TOOL) if e.tool]
    assert costs == [100_000, 200_000]


def test_suggested_questions_do_not_claim_the_answers_tokens_and_output() -> None:
    """#17418: their output and tokens are those of the answered message."""
    turn = [samples.message(3, 0, 4), samples.suggested(3, 4, 5)]
    found = converted(turn)
    [event] = of(published(found), Kind.SUGGESTED_QUESTION)
    assert (event.total_tokens, event.usage_repeats) == (1540, True)
    assert event.outputs is None
    assert event.suggested_question is not None
    assert list(event.suggested_question.questions) == ["Can I change the address?", "How do I cancel?"]
    assert event.status == "succeeded"
    assert event.origin is not None
    assert event.origin.message_status == "normal"
    assert ("unplaced", "trace_info.outputs") in notes(found, "2")


def test_the_documents_of_a_retrieval_are_counted() -> None:
    """document_count was 0 and dataset ids were [] because documents were no dicts any more."""
    [event] = events([samples.retrieval(3, 0, 1)])
    assert event.dataset_retrieval is not None
    assert event.dataset_retrieval.document_count == 2
    assert list(event.dataset_ids) == [u(0x60), u(0x61)]


def test_tokens_of_a_node_come_from_its_usage_when_dify_counts_none() -> None:
    """#24361: 0 tokens on nodes whose usage is in their data."""
    line = samples.llm(0x65, 1, 0, 1, total_tokens=0, total_price=0.0, currency=None)
    [event] = events([line])
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (1200, 340, 1540)
    assert (event.total_price, event.currency) == ("0.0064", "USD")


def test_a_price_is_read_digit_by_digit() -> None:
    text = raw(samples.llm(0x65, 1, 0, 1)).replace(
        b'"total_price": 0.0064', b'"total_price": 0.00000010000000000000001'
    )
    [event] = events([text])
    assert event.total_price == "0.00000010000000000000001"


def test_a_failed_node_has_its_own_error() -> None:
    """Langfuse got the run's error for every node, Weave none."""
    lines = [
        samples.node(0x64, 1, 0, 1, status="failed", error="503 from the shop"),
        samples.node(0x65, 1, 0, 1),
        samples.run(1, 0, 2, workflow_run_status="failed", error="node failed"),
    ]
    errors = {e.source_id: e.error for e in events(lines)}
    assert errors == {u(0x64): "503 from the shop", u(0x65): None, u(1): "node failed"}


def test_an_error_that_is_an_empty_text_is_none() -> None:
    [event] = events([samples.run(1, 0, 1, error="")])
    assert event.error is None


def test_a_run_may_be_a_model_node_whatever_its_mode() -> None:
    """The test for a model call was process_data.model_mode == "chat": classifiers were, completions not."""
    line = samples.llm(0x65, 1, 0, 1)
    line["trace_info"]["process_data"]["model_mode"] = "completion"
    [event] = events([line])
    assert (event.node_type, event.model_name, event.input_tokens) == ("llm", "gpt-4o", 1200)


# -- how traces fall apart


def test_an_iteration_contains_its_nodes() -> None:
    """All nodes were flat children of the run."""
    tree = parents(events(samples.iteration()))
    assert tree[u(0x80)] == u(0x70) != u(1)


def test_three_levels_of_runs_are_one_trace() -> None:
    """The exporter knew only the immediate parent, so that level 3 was a trace of its own."""
    found = contexts(events(samples.nested()))
    assert len({bytes(r.context.run_trace_id) for r in found}) == 1


def test_a_side_operation_has_the_traces_start() -> None:
    """Opik's ids had the operation's own start in them: another trace."""
    found = events(samples.plain_chat())
    assert {e.root_started_at for e in found} == {us(0)}
    assert len({e.started_at for e in found}) > 1


def test_a_chatflow_has_no_circle_of_parents() -> None:
    """At Weave the message's parent was the run, and the run's the message."""
    tree = parents(events(samples.chatflow()))
    for source in tree:
        seen: set[str] = set()
        at: str | None = source
        while at is not None:
            assert at not in seen
            seen.add(at)
            at = tree[at]


@pytest.mark.parametrize("external", ["4bf92f3577b34da6a3ce929d0e0e4736", u(9), "not hex", "x" * 128])
def test_no_external_id_loses_a_trace(external: str) -> None:
    """Alibaba's provider read it as hex: a dashed UUID was a ValueError, and the whole trace was lost."""
    lines = copy.deepcopy(samples.chatflow()[:7])
    for line in lines:
        line["trace_info"]["trace_id"] = external
    found = events(lines)
    assert len(found) == len(events(samples.chatflow()[:7]))
    assert {e.external_trace_id for e in found} - {None} == {external}


def test_a_conversations_name_is_in_one_trace_and_of_its_user() -> None:
    """Langfuse got two traces, with the tenant as user."""
    [event] = of(events(samples.plain_chat()), Kind.GENERATE_NAME)
    assert (event.trace_id, event.user_id) == (u(3), u(0x30))


def test_a_draft_is_never_in_a_runs_trace() -> None:
    [event] = of(
        events([samples.draft(0x6A, workflow_run_id=u(1)), samples.run(1, 0, 1)]), Kind.DRAFT_NODE_EXECUTION
    )
    assert (event.trace_id, event.parent_id, event.root_run_id) == (u(0x6A), None, None)


def test_a_tool_that_is_asked_before_its_message_is_known_is_not_lost() -> None:
    """#39128: no trace when the message's generation fails."""
    found: list[Line] = [samples.tool(3, 0, 1), samples.moderation(3, 0, 1)]
    made = events(found)
    assert {e.trace_id for e in made} == {u(3)}
    assert all(e.published_at == NOW for e in made)


@pytest.mark.parametrize("made", [samples.moderation, samples.suggested])
def test_an_operation_that_names_a_log_entry_as_its_message_is_in_its_trace(made: Any) -> None:
    """The builder writes workflow_app_log_id into the field message_id, if there is one."""
    line = made(3, 0.1, 0.2)
    line["trace_info"]["message_id"] = u(0x77)
    found = converted([line, *samples.chatflow()[1:4], samples.chatflow()[5]])
    [event] = [one.event for one in found if one.where == "1"]
    assert event is not None
    assert (event.message_id, event.root_trace_id) == (u(3), u(3))
    assert event.origin is not None
    assert event.origin.workflow_app_log_id == u(0x77)
    assert ("filled", "message_id") in notes(found, "1")


@pytest.mark.parametrize("name", ["tenant_id", "app_id", "user_id", "message_id", "conversation_id"])
def test_of_two_values_that_differ_the_one_that_is_left_out_is_said(name: str) -> None:
    line = samples.message(3, 0, 1)
    line["trace_info"][name], line["trace_info"]["metadata"][name] = "taken", "left out"
    [one] = converted([line])
    assert one.event is not None
    assert getattr(one.event, name) == "taken"
    assert ("unread", f"trace_info.metadata.{name}", DIFFERS) in [tuple(note) for note in one.notes]
