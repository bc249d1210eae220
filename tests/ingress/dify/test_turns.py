"""Whole turns: one connected trace, whatever the order of the lines."""

from __future__ import annotations

import itertools
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.preview.offline import enriched
from connectors.sdk.contract import Enriched
from ingress.dify import DifyLines
from tailrace.records import Kind, TraceEvent
from tests.ingress.dify import samples
from tests.ingress.dify.converting import by_id, converted, events, notes, published
from tests.ingress.dify.samples import APP, OTHER_APP, TENANT, TURNS, u, us


def contexts(found: list[TraceEvent]) -> list[Enriched]:
    records = enriched(found)
    assert all(isinstance(record, Enriched) for record in records), records
    return [record for record in records if isinstance(record, Enriched)]


def parents(found: list[TraceEvent]) -> dict[str, str | None]:
    """source_id -> that of its parent, as the processor sees it."""
    return {str(r.event.source_id): r.context.parent_source_id for r in contexts(found)}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_turn_is_one_connected_trace(turn: Any) -> None:
    found = events(turn())
    records = contexts(found)
    assert len({bytes(r.context.message_trace_id) for r in records}) == 1
    assert {mark for r in records for mark in r.context.marks} == set()
    assert len({r.context.root_trace_id for r in records}) == 1
    ids = {r.event.source_id for r in records}
    tree = parents(found)
    assert [source for source, parent in tree.items() if parent is None] == [
        next(e.source_id for e in found if e.kind in (Kind.MESSAGE, Kind.WORKFLOW_RUN))
    ]
    assert {parent for parent in tree.values() if parent is not None} <= ids


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_every_event_of_a_turn_has_tenant_application_and_the_start_of_its_root(turn: Any) -> None:
    for event in events(turn()):
        assert event.tenant_id == TENANT, event.kind
        assert event.app_id in (APP, OTHER_APP), event.kind
        assert event.root_started_at == us(0), event.kind
        assert event.root_app_id == APP, event.kind


def test_a_chatflow_has_the_message_that_dify_does_not_send() -> None:
    found = events(samples.chatflow())
    [message] = [e for e in found if e.kind == Kind.MESSAGE]
    assert (message.source_id, message.workflow_run_id, message.trace_id) == (u(3), u(1), u(3))
    assert (message.started_at, message.ended_at, message.mode) == (us(0), us(4), "advanced-chat")
    assert (message.input_tokens, message.total_tokens) == (1200, 1540)
    assert message.message is not None
    assert message.message.query == "Where is my order?"
    tree = parents(found)
    assert tree[u(1)] == u(3)
    assert {tree[u(n)] for n in (0x64, 0x65, 0x66)} == {u(1)}
    assert {tree[str(e.source_id)] for e in found if e.kind in (Kind.MODERATION, Kind.FEEDBACK)} == {u(3)}


def test_a_message_that_dify_sends_for_a_chatflow_takes_the_place_of_the_made_one() -> None:
    turn = samples.chatflow()
    sent = samples.message(3, 0, 4, "advanced-chat", metadata={"workflow_run_id": u(1)})
    before = [e for e in events([sent, *turn]) if e.kind == Kind.MESSAGE]
    assert [(e.source_id, e.revision) for e in before] == [(u(3), 0)]
    assert before[0].time_to_first_token == 820_000
    after = [e for e in events([*turn, sent]) if e.kind == Kind.MESSAGE]
    assert [(e.source_id, e.revision) for e in after] == [(u(3), 0), (u(3), 1)]
    assert after[1].time_to_first_token == 820_000


def test_what_runs_beside_a_message_is_its_child() -> None:
    found = events(samples.plain_chat())
    tree = parents(found)
    beside = [e for e in found if e.kind != Kind.MESSAGE]
    assert {e.kind for e in beside} == {
        Kind.MODERATION,
        Kind.DATASET_RETRIEVAL,
        Kind.GENERATE_NAME,
        Kind.SUGGESTED_QUESTION,
        Kind.FEEDBACK,
    }
    assert {tree[str(e.source_id)] for e in beside} == {u(3)}
    assert {e.user_id for e in beside} == {u(0x30)}
    assert {e.conversation_id for e in beside} == {u(0x50)}


def test_the_calls_of_an_agents_tools_are_its_children() -> None:
    found = events(samples.agent())
    tools = [e for e in found if e.kind == Kind.TOOL]
    assert [e.tool_name for e in tools] == ["track_parcel", "track_parcel", "send_mail"]
    assert len({e.source_id for e in tools}) == 3
    assert {parents(found)[str(e.source_id)] for e in tools} == {u(3)}
    assert [e.mode for e in found if e.kind == Kind.MESSAGE] == ["agent-chat"]


def test_a_nested_workflow_hangs_below_the_node_that_called_it_at_any_depth() -> None:
    found = events(samples.nested())
    tree = parents(found)
    assert (tree[u(2)], tree[u(4)]) == (u(0x65), u(0x68))
    assert (tree[u(0x67)], tree[u(0x69)]) == (u(2), u(4))
    named = by_id(found)
    for inner, caller in ((u(0x67), u(1)), (u(2), u(1)), (u(0x69), u(2)), (u(4), u(2))):
        event = named[inner]
        assert (event.parent_run_id, event.parent_app_id) == (caller, APP if caller == u(1) else OTHER_APP)
        assert (event.root_run_id, event.root_trace_id) == (u(1), u(3))
    assert {bytes(r.context.run_trace_id) for r in contexts(found)} == {bytes.fromhex(u(1).replace("-", ""))}


def test_the_nodes_of_an_iteration_are_in_their_own_execution() -> None:
    found = events(samples.iteration())
    tree = parents(found)
    for item in (0, 1):
        assert tree[u(0x70 + item)] == u(0x65)
        for round_ in (0, 1):
            assert tree[u(0x80 + 2 * item + round_)] == u(0x70 + item)
    assert (tree[u(0x65)], tree[u(0x64)]) == (u(1), u(1))


def test_tokens_are_counted_once() -> None:
    """The containers repeat the model calls inside them, the run all of them."""
    for turn, tokens in (("iteration", 4 * 1540), ("chatflow", 1540), ("plain_chat", 1540), ("nested", 1540)):
        own = [
            r.event.total_tokens or 0
            for r in contexts(events(TURNS[turn]()))
            if not repeats(r.event) and r.event.total_tokens
        ]
        assert sum(own) == tokens, turn


def repeats(event: TraceEvent) -> bool:
    if event.usage_repeats is not None:
        return event.usage_repeats
    if event.kind == Kind.MESSAGE:
        return event.workflow_run_id is not None
    return event.kind == Kind.WORKFLOW_RUN or event.node_type in ("iteration", "loop")


def shape(found: list[TraceEvent]) -> list[Any]:
    """What must not depend on the order of lines: everything but who came first."""
    return sorted(msgspec.json.encode(event) for event in found)


def mixed() -> list[samples.Line]:
    """Lines of several turns, with ids that differ."""
    turns = [samples.chatflow(), samples.nested(), samples.iteration(), samples.agent()]
    lines = []
    for number, turn in enumerate(turns):
        for line in turn:
            text = samples.raw(line).decode()
            for old in (1, 2, 3, 4, 0x50):
                text = text.replace(u(old), u(old + 0x1000 * number))
            for old in range(0x64, 0x90):
                text = text.replace(u(old), u(old + 0x1000 * number))
            lines.append(msgspec.json.decode(text))
    return lines


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_order_of_lines_does_not_matter(order: random.Random) -> None:
    lines = [line for line in mixed() if line.get("case") is None]  # a rating does not wait for its message
    shuffled = list(lines)
    order.shuffle(shuffled)
    assert shape(without_late_tools(events(shuffled))) == shape(without_late_tools(events(lines)))


def without_late_tools(found: list[TraceEvent]) -> list[TraceEvent]:
    """Without what depends on whether a tool's later call was read before its message."""
    return [
        e
        if e.tool is None
        else msgspec.structs.replace(
            e, tool=msgspec.structs.replace(e.tool, time_cost=None, tool_parameters=None)
        )
        for e in found
    ]


def test_a_turn_is_ready_as_soon_as_its_root_is_read() -> None:
    """Nothing waits for the next turn."""
    adapter = DifyLines()
    for line in samples.chatflow()[:5]:
        assert list(adapter.line("x", samples.raw(line))) == []
    ready = list(adapter.line("x", samples.raw(samples.chatflow()[5])))
    assert len(ready) == 7
    assert len(adapter.window) == 0


def test_a_line_after_its_turn_is_ready_at_once() -> None:
    adapter = DifyLines()
    list(adapter.line("1", samples.raw(samples.run(1, 0, 4, message_id=u(3)))))
    [late] = list(adapter.line("2", samples.raw(samples.node(0x64, 1, 1, 2))))
    assert late.event is not None
    assert (late.event.message_id, late.event.root_trace_id) == (u(3), u(3))


def test_a_run_that_lacks_its_message_has_that_of_its_nodes() -> None:
    lines = [
        samples.node(0x64, 1, 0, 1, metadata={"message_id": u(3), "conversation_id": u(0x50)}),
        samples.run(1, 0, 2),
    ]
    found = converted(lines)
    assert [(one.event.kind, one.event.message_id) for one in found if one.event] == [
        (Kind.MESSAGE, u(3)),
        (Kind.WORKFLOW_RUN, u(3)),
        (Kind.NODE_EXECUTION, u(3)),
    ]
    assert ("filled", "message_id") in notes(found, "2")


def test_a_conversations_name_belongs_to_the_turn_that_it_was_made_in() -> None:
    lines = [
        samples.message(3, 0, 4),
        samples.message(5, 100, 104),
        samples.name(101, 102),
        samples.name(500, 501),
    ]
    found = [e for e in events(lines) if e.kind == Kind.GENERATE_NAME]
    assert [e.message_id for e in found] == [u(5), None]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_conversations_name_waits_for_the_turn_that_it_was_made_in(order: tuple[int, ...]) -> None:
    """Another turn of the conversation, which is read before, is not the one."""
    lines = [samples.message(5, 100, 104), samples.name(1, 2), samples.message(3, 0, 4)]
    [event] = [e for e in events(lines[n] for n in order) if e.kind == Kind.GENERATE_NAME]
    assert (event.message_id, event.user_id) == (u(3), u(0x30))


def test_ids_of_callers_are_kept_and_never_used_as_ours() -> None:
    odd = ["4bf92f3577b34da6a3ce929d0e0e4736", u(9), "order_A-1001", "ZZZ", "é" * 100, "0"]
    for external in odd:
        lines = [{**line} for line in samples.plain_chat() if "trace_info" in line]
        for line in lines:
            line["trace_info"] = {**line["trace_info"], "trace_id": external}
        found = events(lines)
        assert {e.external_trace_id for e in found} == {external}
        assert {e.trace_id for e in found} == {u(3)}
        assert len({bytes(r.context.message_trace_id) for r in contexts(found)}) == 1


def test_ids_that_are_no_uuids_are_joined_too() -> None:
    def odd(line: samples.Line) -> samples.Line:
        text = samples.raw(line).decode()
        for n in (1, 3, 0x50, 0x65):
            text = text.replace(u(n), f"id № {n}")
        found: samples.Line = msgspec.json.decode(text)
        return found

    found = events([odd(line) for line in samples.chatflow()])
    assert len({bytes(r.context.message_trace_id) for r in contexts(found)}) == 1
    assert parents(found)["id № 1"] == "id № 3"


def test_a_tool_that_ran_in_a_node_is_its_child() -> None:
    """An agent node of a chatflow."""
    where = {"workflow_run_id": u(1), "node_execution_id": u(0x65), "tool_name": "track_parcel"}
    turn = [
        samples.tool(3, 1, 2, metadata=where),
        samples.node(0x65, 1, 0.5, 3, "agent"),
        samples.run(1, 0, 4, message_id=u(3), conversation_id=u(0x50)),
    ]
    found = events(turn)
    [call] = [e for e in found if e.kind == Kind.TOOL]
    tree = parents(found)
    assert tree[str(call.source_id)] == u(0x65)
    assert (call.trace_id, call.root_run_id, call.tenant_id) == (u(3), u(1), TENANT)
    without_node = converted([turn[0], turn[2]])
    [call] = [one.event for one in without_node if one.where == "1" and one.event]
    assert call.parent_id is None
    assert ("missing", "parent_id") in notes(without_node, "1")


@pytest.mark.parametrize("message", [u(3), None])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_tool_waits_for_the_node_that_it_ran_in(order: tuple[int, ...], message: str | None) -> None:
    where = {"workflow_run_id": u(1), "node_execution_id": u(0x65), "message_id": message}
    lines = [
        samples.tool(3, 1, 2, metadata=where),
        samples.node(0x65, 1, 0.5, 3, "agent"),
        samples.run(1, 0, 4, message_id=message),
    ]
    lines[0]["trace_info"]["message_id"] = message
    adapter = DifyLines()
    found = events([lines[n] for n in order], adapter)
    [call] = [e for e in found if e.kind == Kind.TOOL]
    assert (call.parent_id, call.root_run_id) == (u(0x65), u(1))
    assert len(adapter.window) == 0


def test_what_runs_beside_a_run_without_a_message_is_its_child() -> None:
    line = samples.moderation(3, 0, 1, metadata={"workflow_run_id": u(1)})
    line["trace_info"]["message_id"] = line["trace_info"]["metadata"]["message_id"] = None
    found = events([line, samples.run(1, 0, 4)])
    [check] = [e for e in found if e.kind == Kind.MODERATION]
    assert parents(found)[str(check.source_id)] == u(1)
    assert (check.trace_id, check.tenant_id) == (u(1), TENANT)


def test_a_nested_run_whose_node_is_not_named_is_below_the_calling_run() -> None:
    lines = [samples.run(2, 1, 2, parent={"parent_workflow_run_id": u(1)}), samples.run(1, 0, 3)]
    found = converted(lines)
    assert parents(published(found))[u(2)] == u(1)
    assert ("missing", "parent_node_execution_id") in notes(found, "1")


# -- fields that are missing


def without(line: samples.Line, *names: str) -> samples.Line:
    info = {k: v for k, v in line["trace_info"].items() if k not in names}
    info["metadata"] = {k: v for k, v in info.get("metadata", {}).items() if k not in names}
    return {**line, "trace_info": info}


def test_times_that_are_missing_come_from_what_is_nearest() -> None:
    lines = [
        without(samples.node(0x64, 1, 0.5, 1.5), "end_time"),
        without(samples.node(0x65, 1, 0.5, 1.5), "start_time"),
        without(samples.node(0x66, 1, 0, 1.25), "start_time", "end_time"),
        samples.moderation(3, None, None),
        samples.suggested(3, None, None),
        samples.run(1, 0, 4, message_id=u(3)),
    ]
    found = converted(lines)
    times = {one.where: (one.event.started_at, one.event.ended_at) for one in found if one.event}
    assert times["1"] == times["2"] == (us(0.5), us(1.5))
    assert times["3"] == (us(0), us(1.25))
    assert times["4"] == (us(0), us(0))
    assert times["5"] == (us(4), us(4))
    estimated = {one.where for one in found if one.event and "tailrace.times" in one.event.attributes}
    assert estimated == {"1", "2", "3", "4", "5"}
    assert all(
        ("filled", "started_at") in notes(found, n) or ("filled", "ended_at") in notes(found, n)
        for n in "12345"
    )


def test_an_operation_without_times_that_belongs_to_nothing_is_refused() -> None:
    [one] = converted([samples.moderation(3, None, None)])
    assert one.event is None
    assert str(one.problem).startswith("trace_info.start_time: is missing")


def test_a_turn_with_hardly_any_field_is_still_connected() -> None:
    lines = []
    for line in samples.chatflow():
        if "trace_info" not in line:
            continue
        keep = (
            "message_id",
            "conversation_id",
            "workflow_run_id",
            "node_execution_id",
            "start_time",
            "end_time",
        )
        bare = {k: v for k, v in line["trace_info"].items() if k in keep}
        lines.append({**line, "trace_info": bare})
    found = events(lines)
    assert len({bytes(r.context.message_trace_id) for r in contexts(found)}) == 1
    assert [source for source, parent in parents(found).items() if parent is None] == [u(3)]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (without(samples.run(1, 0, 1), "workflow_run_id"), "trace_info.workflow_run_id"),
        (without(samples.node(1, 1, 0, 1), "workflow_run_id"), "trace_info.workflow_run_id"),
        (without(samples.node(1, 1, 0, 1), "node_execution_id"), "trace_info.node_execution_id"),
        (without(samples.draft(1), "node_execution_id"), "trace_info.node_execution_id"),
        (without(samples.message(3, 0, 1), "message_id"), "trace_info.message_id"),
        (without(samples.tool(3, 0, 1), "tool_name"), "trace_info.tool_name"),
        (
            without(samples.run(1, 0, 1), "start_time", "end_time", "workflow_run_elapsed_time"),
            "trace_info.start_time",
        ),
        (samples.run(1, 0, 1, start_time="soon"), "trace_info.start_time"),
        (samples.run(1, 0, 1, workflow_run_id=["x"]), "trace_info.workflow_run_id"),
        ({**samples.run(1, 0, 1), "trace_info": None}, "trace_info"),
        ({**samples.run(1, 0, 1), "trace_info": [1]}, "trace_info"),
        ({**samples.run(1, 0, 1), "trace_info_type": "OtherTraceInfo"}, "trace_info_type"),
        ({"app_id": APP, "trace_info": {}}, "trace_info_type"),
        ({**samples.feedback(3), "case": "workflow_run"}, "case"),
        ({**samples.feedback(3), "payload": "x"}, "payload"),
        (samples.feedback(3, "love"), "payload.rating"),
        (samples.feedback(3, message_id=None), "payload.message_id"),
        (samples.app("app_created", app_id=""), "payload.app_id"),
    ],
)
def test_a_line_that_lacks_what_it_cannot_do_without_is_refused_by_field(
    line: samples.Line, field: str
) -> None:
    good = samples.message(7, 0, 1)
    found = converted([good, line, good])
    assert [one.where for one in found if one.event is None] == ["2"]
    [refused] = [one for one in found if one.event is None]
    assert refused.problem is not None
    assert refused.problem.field == field
    assert len(published(one for one in found if one.event is not None)) == 2


def test_what_could_not_be_found_out_is_said() -> None:
    lines = [
        samples.node(0x64, 1, 0, 1),
        samples.moderation(3, 0, 1),
        samples.run(2, 0, 1, parent={"parent_workflow_run_id": u(9), "parent_node_execution_id": u(8)}),
        samples.node(0x65, 5, 0, 1, iteration_id="each", iteration_index=0),
        samples.run(5, 0, 1),
        samples.name(0, 1, conversation=0x99),
    ]
    found = converted(lines)
    assert ("missing", "workflow_run_id") in notes(found, "1")
    assert ("missing", "message_id") in notes(found, "2")
    assert ("missing", "root_trace_id") in notes(found, "3")
    assert ("missing", "parent_id") in notes(found, "4")
    assert ("missing", "message_id") in notes(found, "6")
    named = {one.where: one.event for one in found if one.event}
    assert named["3"].parent_run_id == u(9)
    assert (named["4"].parent_id, named["4"].workflow_run_id) == (None, u(5))


def test_runs_that_call_each_other_in_a_circle_are_emitted() -> None:
    lines = [
        samples.run(1, 0, 1, parent={"parent_workflow_run_id": u(2)}),
        samples.run(2, 0, 1, parent={"parent_workflow_run_id": u(1)}),
    ]
    found = converted(lines)
    assert len(published(found)) == 2
    assert ("missing", "root_trace_id") in notes(found, "1") | notes(found, "2")
