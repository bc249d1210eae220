"""Which execution of an iteration or loop contains a node execution."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from ingress.dify.containers import Container, Containers
from ingress.dify.joining import join
from ingress.dify.operation import Joins, Within
from tailrace.records import Kind
from tests.ingress.dify import samples
from tests.ingress.dify.converting import by_id, converted, events, notes
from tests.ingress.dify.samples import Line, u


def of(*containers: tuple[str, Container]) -> Containers:
    made = Containers()
    for node_id, container in containers:
        assert made.add(node_id, container)
    return made


def box(execution: str, begin: int, end: int, **place: Any) -> Container:
    names = ("iteration_id", "iteration_index", "loop_id", "loop_index")
    return Container(execution, begin, end, *(place.get(name) for name in names))


def inside(begin: int | None = None, end: int | None = None, source: str = "n", **place: Any) -> Joins:
    known = {"started_at": begin, "ended_at": end}
    within = Within("code", "code", **place)
    return Joins(Kind.NODE_EXECUTION, source, {k: v for k, v in known.items() if v is not None}, within)


SECOND = 1_000_000
IN_EACH: dict[str, Any] = {"iteration_id": "each", "iteration_index": 0}


def test_an_iteration_that_ran_once_needs_no_round_and_no_time() -> None:
    assert of(("each", box("E", 0, 9))).of(inside(iteration_id="each")) == "E"


def test_a_container_of_another_id_is_not_it() -> None:
    assert of(("other", box("E", 0, 9))).of(inside(iteration_id="each", iteration_index=0)) is None


def test_a_node_in_no_container_has_none() -> None:
    assert of(("each", box("E", 0, 9))).of(inside()) is None


def test_the_round_of_the_iteration_tells_a_loops_executions_apart() -> None:
    made = of(
        ("again", box("L0", 0, 9, iteration_id="each", iteration_index=0)),
        ("again", box("L1", 0, 9, iteration_id="each", iteration_index=1)),
        ("each", box("E", 0, 9)),
    )
    for index in (0, 1):
        where: dict[str, Any] = {
            "iteration_id": "each",
            "iteration_index": index,
            "loop_id": "again",
            "loop_index": 5,
        }
        assert made.of(inside(1, 2, **where)) == f"L{index}"


def test_the_round_of_the_loop_tells_an_iterations_executions_apart() -> None:
    made = of(
        ("each", box("E0", 0, 9, loop_id="again", loop_index=0)),
        ("each", box("E1", 0, 9, loop_id="again", loop_index=1)),
        ("again", box("L", 0, 9)),
    )
    for index in (0, 1):
        where: dict[str, Any] = {
            "iteration_id": "each",
            "iteration_index": 7,
            "loop_id": "again",
            "loop_index": index,
        }
        assert made.of(inside(1, 2, **where)) == f"E{index}"


def test_a_loop_of_another_round_is_waited_for() -> None:
    made = of(("again", box("L0", 0, 9, iteration_id="each", iteration_index=0)))
    where: dict[str, Any] = {
        "iteration_id": "each",
        "iteration_index": 1,
        "loop_id": "again",
        "loop_index": 0,
    }
    assert made.of(inside(1, 2, **where)) is None


def test_without_rounds_the_time_tells_executions_apart() -> None:
    made = of(
        ("again", box("L0", 0, 5, iteration_id="each")),
        ("again", box("L1", 6, 9, iteration_id="each")),
    )
    assert made.of(inside(1, 5, loop_id="again")) == "L0"
    assert made.of(inside(6, 7, loop_id="again")) == "L1"
    assert made.of(inside(4, 7, loop_id="again")) is None
    assert made.of(inside(loop_id="again")) is None


def test_executions_at_the_same_time_are_not_guessed_between() -> None:
    made = of(
        ("again", box("L0", 0, 9, iteration_id="each")), ("again", box("L1", 0, 9, iteration_id="each"))
    )
    assert made.of(inside(1, 2, loop_id="again")) is None


def test_an_execution_at_quite_another_time_is_not_it() -> None:
    made = of(("each", box("E", 0, SECOND)))
    assert made.of(inside(SECOND, 2 * SECOND, iteration_id="each")) == "E", "clocks may differ a little"
    assert made.of(inside(5 * SECOND, 6 * SECOND, iteration_id="each")) is None


def test_a_container_is_not_in_itself() -> None:
    made = of(("again", box("L", 0, 9)))
    assert made.of(inside(0, 9, source="L", loop_id="again")) is None


def test_a_loop_that_is_known_twice_is_one() -> None:
    made = of(("again", box("L", 0, 9)))
    assert not made.add("again", box("L", 0, 9))
    assert made.of(inside(1, 2, loop_id="again")) == "L"


def test_the_outer_container_takes_the_place_of_an_inner_one_that_is_not_known() -> None:
    made = of(("each", box("E", 0, 9)))
    where: dict[str, Any] = {
        "iteration_id": "each",
        "iteration_index": 0,
        "loop_id": "again",
        "loop_index": 0,
    }
    assert made.of(inside(1, 2, **where)) is None
    assert made.outer_of(inside(1, 2, **where)) == "E"


def test_very_many_executions_without_rounds_are_not_all_looked_at() -> None:
    made = of(*(("again", box(f"L{n}", n, n, iteration_id="each", iteration_index=n)) for n in range(2000)))
    assert made.of(inside(1, 1, loop_id="again")) is None
    where: dict[str, Any] = {
        "iteration_id": "each",
        "iteration_index": 1999,
        "loop_id": "again",
        "loop_index": 0,
    }
    assert made.of(inside(1999, 1999, **where)) == "L1999"


# -- through lines


def late_container(*order: int) -> list[Line]:
    lines = [
        samples.run(1, 0, 3),
        samples.node(0x80, 1, 1.1, 1.2, loop_id="again", loop_index=0, **IN_EACH),
        samples.node(0x70, 1, 1, 2, "loop", node_id="again", **IN_EACH),
        samples.node(0x65, 1, 0.9, 2.2, "iteration", node_id="each"),
    ]
    return [lines[n] for n in order]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2), (3, 2, 1, 0), (0, 3, 1, 2), (1, 2, 0, 3)])
def test_a_container_may_come_after_its_run(order: tuple[int, ...]) -> None:
    found = by_id(events(late_container(*order)))
    assert (found[u(0x80)].parent_id, found[u(0x70)].parent_id) == (u(0x70), u(0x65))


def test_ids_of_iteration_and_loop_that_are_the_same_do_no_harm() -> None:
    line = samples.node(0x80, 1, 1, 2, loop_id="x", loop_index=0, iteration_id="x", iteration_index=0)
    found = converted([samples.run(1, 0, 3), line])
    assert ("missing", "parent_id") in notes(found, "2")


def test_without_the_inner_container_the_outer_one_is_the_parent_and_that_is_said() -> None:
    found = converted(late_container(0, 1, 3))
    [event] = [one.event for one in found if one.where == "2"]
    assert event is not None
    assert event.parent_id == u(0x65)
    said = [note.why for one in found if one.where == "2" for note in one.notes if note.field == "parent_id"]
    assert "its inner iteration or loop has no line; the outer one is the parent" in said


def loops_without_rounds(count: int) -> list[Line]:
    """A loop that ran once for each item, one after the other; its nodes do not say in which round."""
    inside = [samples.node(0x1000 + n, 1, n + 0.1, n + 0.2, loop_id="again") for n in range(count)]
    loops = [
        samples.node(
            0x2000 + n, 1, n, n + 0.5, "loop", node_id="again", iteration_id="each", iteration_index=n
        )
        for n in range(count)
    ]
    each = samples.node(0x65, 1, 0, count, "iteration", node_id="each")
    return [samples.run(1, 0, count + 1), *inside, *loops, each]


def test_lines_and_the_executions_of_a_loop_are_not_all_compared_with_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        looked.append(args)
        return join(*args, **kwargs)

    monkeypatch.setattr(import_module("ingress.dify.adapter"), "join", counted)
    count = 100
    found = by_id(events(loops_without_rounds(count)))
    assert [found[u(0x1000 + n)].parent_id for n in range(count)] == [u(0x2000 + n) for n in range(count)]
    assert len(looked) < 15 * count


@pytest.mark.parametrize("count", [3, 20])
def test_the_last_executions_are_found_whatever_came_before(count: int) -> None:
    lines = loops_without_rounds(count)
    lines.reverse()
    found = by_id(events(lines))
    assert {found[u(0x1000 + n)].parent_id for n in range(count)} == {u(0x2000 + n) for n in range(count)}
