"""What waits and what is remembered is bounded; what falls out is emitted and counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingress.dify import DifyLines
from ingress.dify.adapter import PUSHED_OUT
from ingress.dify.facts import APP as APPLICATION
from ingress.dify.facts import MESSAGE, RUN, Memory
from ingress.dify.lines import read
from ingress.dify.operation import Joins
from ingress.dify.window import Window
from ingress.dify.zones import Zones
from tailrace.records import Kind
from tests.ingress.dify import samples
from tests.ingress.dify.converting import converted, published
from tests.ingress.dify.samples import Line, raw, u


def nodes(count: int, size: int = 0) -> list[Line]:
    return [samples.node(0x100 + n, 1, 0, 1, node_inputs={"text": "x" * size}) for n in range(count)]


def test_no_more_lines_wait_than_the_window_has_room_for() -> None:
    window = Window(lines=10)
    adapter = DifyLines(window=window)
    out: list[Any] = []
    for number, line in enumerate(nodes(25)):
        out += adapter.line(str(number), raw(line))
        assert len(window) <= 10
    assert [one.where for one in out] == [str(n) for n in range(15)], "the oldest first, each once"
    assert all(PUSHED_OUT in one.notes for one in out)
    rest = list(adapter.end())
    assert [one.where for one in rest] == [str(n) for n in range(15, 25)]
    assert not any(PUSHED_OUT in one.notes for one in rest)
    assert (len(window), window.size) == (0, 0)
    assert len({event.source_id for event in published([*out, *rest])}) == 25


def test_no_more_bytes_wait_than_the_window_has_room_for() -> None:
    window = Window(size=200_000)
    adapter = DifyLines(window=window)
    made = 0
    for number, line in enumerate(nodes(40, size=10_000)):
        made += len(list(adapter.line(str(number), raw(line))))
        assert window.size <= 200_000
    assert made > 20
    assert made + len(list(adapter.end())) == 40


def test_ids_count_and_not_only_the_text_of_a_line() -> None:
    """They are kept beside it: a line that is all ids takes more than one that is all content."""
    window = Window(size=100_000)
    adapter = DifyLines(window=window)
    long = "r" * 20_000
    out = [
        one
        for n in range(4)
        for one in adapter.line("x", raw(samples.node(n, 1, 0, 1, workflow_run_id=f"{n}{long}")))
    ]
    assert (len(out), len(window)) == (3, 1)


def test_nodes_with_large_content_wait_for_their_run() -> None:
    """Four of 20 MB each: a limit that is met by content loses its trace."""
    adapter = DifyLines()
    text = "x" * 20_000_000
    lines = [raw(samples.node(0x100 + n, 1, 0, 1, node_inputs="?")) for n in range(4)]
    for line in lines:
        assert list(adapter.line("x", line.replace(b'"?"', b'"' + text.encode() + b'"'))) == []
    found = list(adapter.line("run", raw(samples.run(1, 0, 2, message_id=u(3)))))
    assert {one.event.message_id for one in found if one.event} == {u(3)}
    assert len(found) == 6


def test_a_line_larger_than_the_window_is_emitted_at_once() -> None:
    adapter = DifyLines(window=Window(size=10_000))
    [one] = list(adapter.line("1", raw(nodes(1, size=20_000)[0])))
    assert PUSHED_OUT in one.notes
    assert one.event is not None


def test_what_falls_out_has_what_was_known_by_then() -> None:
    """Its container was read, its run was not."""
    inside = samples.node(0x101, 1, 1.1, 1.2, iteration_id="each", iteration_index=0)
    container = samples.node(0x102, 1, 1, 2, "iteration", node_id="each")
    adapter = DifyLines(window=Window(lines=1))
    out = [*adapter.line("1", raw(inside)), *adapter.line("2", raw(container))]
    [one] = out
    assert one.event is not None
    assert (one.event.source_id, one.event.parent_id) == (u(0x101), u(0x102))
    assert {(n.what, n.field) for n in one.notes} >= {("missing", "window"), ("missing", "workflow_run_id")}


def test_a_long_run_of_lines_waits_in_bounded_memory() -> None:
    """Turns that never end, each with other ids, and long ids."""
    memory, window = Memory(most=300_000), Window(lines=100, size=1_000_000)
    adapter = DifyLines(window=window, memory=memory)
    emitted = 0
    for n in range(3000):
        run = samples.node(n, n, 0, 1, workflow_run_id="r" * 300 + str(n), node_execution_id=f"n{n}" * 50)
        emitted += len(list(adapter.line(str(n), raw(run))))
        assert memory.size <= 300_000
        assert len(window) <= 100
    assert memory.forgotten > 1000
    assert emitted == 2900


def test_a_run_of_very_many_iterations_is_forgotten_rather_than_remembered_beyond_the_limit() -> None:
    memory = Memory(most=100_000)
    adapter = DifyLines(window=Window(lines=5), memory=memory)
    for n in range(2000):
        line = samples.node(n, 1, 0, 1, "iteration", node_id="each", iteration_id="outer", iteration_index=n)
        list(adapter.line(str(n), raw(line)))
        assert memory.size <= 100_000 + 1000


# -- what is remembered


def joins(line: Line) -> Joins:
    return read(raw(line), Zones()).joins(1)


def test_the_same_ids_in_two_tenants_are_two_runs() -> None:
    memory = Memory()
    other = samples.run(1, 10, 11, tenant_id="t2", metadata={"tenant_id": "t2", "app_id": "a2"}, app="a2")
    memory.learn(joins(samples.run(1, 0, 1)))
    memory.learn(joins(other))
    mine, theirs = memory.find(RUN, u(1), samples.TENANT), memory.find(RUN, u(1), "t2")
    assert mine is not None
    assert theirs is not None
    assert (mine.get("started_at"), theirs.get("started_at")) == (samples.us(0), samples.us(10))
    assert memory.find(RUN, u(1)) is None, "it is not clear which"
    assert memory.find(RUN, u(1), None, "a2") is theirs
    assert memory.find(RUN, u(1), "t3") is None


def test_turns_with_the_same_ids_in_two_tenants_do_not_mix() -> None:
    mine = [samples.node(0x64, 1, 0, 1), samples.run(1, 0, 2, message_id=u(3))]
    theirs = [
        json.loads(json.dumps(line).replace(samples.TENANT, "t2").replace(samples.APP, "a2")) for line in mine
    ]
    for line in theirs:
        line["trace_info"]["message_id"] = u(4) if line["trace_info"]["message_id"] else None
    found = published(converted([mine[0], theirs[0], theirs[1], mine[1]]))
    assert {(e.tenant_id, e.trace_id) for e in found} == {(samples.TENANT, u(3)), ("t2", u(4))}
    assert len(found) == 6


def test_an_application_tells_its_tenant_to_operations_without_a_message() -> None:
    lines = [samples.message(3, 0, 1), samples.moderation(9, 0, 1)]
    found = [e for e in published(converted(lines)) if e.kind == Kind.MODERATION]
    assert [e.tenant_id for e in found] == [samples.TENANT]


def test_the_least_recently_used_is_forgotten_first() -> None:
    memory = Memory(most=6000)
    for n in range(3):
        memory.learn(joins(samples.message(n, 0, 1)))
    memory.find(MESSAGE, u(0))
    for n in range(3, 8):
        memory.find(MESSAGE, u(0))
        memory.learn(joins(samples.message(n, 0, 1)))
    assert memory.find(MESSAGE, u(0)) is not None
    assert memory.find(MESSAGE, u(1)) is None
    assert memory.find(APPLICATION, samples.APP) is not None or memory.forgotten > 0


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 8))
@settings(deadline=None, max_examples=50)
def test_every_line_becomes_an_event_once_whatever_the_window(order: list[int], room: int) -> None:
    lines = [samples.node(0x100 + n, n % 4, 0, 1) for n in order]
    adapter = DifyLines(window=Window(lines=room), clock=lambda: 0)
    found = converted(lines, adapter)
    assert sorted(int(one.where) for one in found) == list(range(1, len(lines) + 1))


@pytest.mark.parametrize("turns", [50])
def test_the_window_is_empty_between_turns_that_are_whole(turns: int) -> None:
    window = Window()
    adapter = DifyLines(window=window)
    for n in range(turns):
        for line in samples.iteration():
            text = json.dumps(line).replace(u(1), u(0x1000 + n))
            list(adapter.line("x", text.encode()))
        assert len(window) == 0


def renamed(lines: list[Line], **texts: str) -> list[Line]:
    text = json.dumps(lines)
    for old, new in ((samples.TENANT, texts.get("tenant")), (samples.APP, texts.get("app"))):
        text = text.replace(old, new) if new else text
    found: list[Line] = json.loads(text)
    return found


def test_turns_with_the_same_ids_in_two_applications_do_not_mix() -> None:
    """As copies of an application have them that were imported with their runs."""
    mine = [samples.node(0x64, 1, 0, 1), samples.tool(3, 0, 1), samples.run(1, 0, 2, message_id=u(3))]
    theirs: list[Line] = json.loads(json.dumps(renamed(mine, app="a2")).replace(u(3), u(4)))
    late, other = samples.node(0x65, 1, 1, 2), renamed([samples.node(0x65, 1, 1, 2)], app="a2")[0]
    lines = [mine[0], theirs[0], theirs[2], mine[2], mine[1], theirs[1], late, other]
    found = published(converted(lines))
    assert {(e.app_id, e.trace_id) for e in found} == {(samples.APP, u(3)), ("a2", u(4))}
    assert len(found) == 10


def test_a_node_is_not_of_another_applications_run() -> None:
    other = renamed([samples.node(0x64, 1, 0, 1)], app="a2")[0]
    found = converted([samples.run(1, 0, 2, message_id=u(3)), other])
    [event] = [one.event for one in found if one.where == "2"]
    assert event is not None
    assert (event.message_id, event.root_trace_id) == (None, None)


def test_very_many_tenants_with_the_same_ids_take_bounded_memory() -> None:
    memory = Memory(most=200_000)
    adapter = DifyLines(window=Window(lines=5), memory=memory)
    for n in range(3000):
        for line in renamed([samples.run(1, 0, 2, message_id=u(3))], tenant=f"t{n}", app=f"a{n % 3}"):
            list(adapter.line("x", raw(line)))
        assert memory.size <= 200_000
    assert memory.forgotten > 1000


def test_very_many_calls_of_a_tool_in_a_message_take_bounded_memory_and_time() -> None:
    """What Dify says of all of them is one entry, which names the latest."""
    memory = Memory(most=10 << 20)
    adapter = DifyLines(memory=memory)
    for n in range(5000):
        assert list(adapter.line(str(n), raw(samples.tool(3, n / 1000, n / 1000 + 1)))) == []
    assert memory.size < 10_000
    found = list(adapter.line("last", raw(samples.message(3, 0, 9, "agent-chat"))))
    costs = [one.event.tool.time_cost for one in found if one.event and one.event.tool]
    assert costs == [None] * 4999 + [200_000]
