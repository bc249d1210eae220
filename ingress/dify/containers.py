"""Which execution of an iteration or loop a node execution is in. Pure.

Dify names the container by its node id only. A loop inside an iteration runs once for each item, also in
parallel, so that several executions have one node id: the round of the outer container tells them apart,
else the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ingress.dify.operation import Joins, Within

_SLACK: Final = 1_000_000
"""Microseconds that a node may seem to begin before its container, or end after it."""
_LOOKED_AT: Final = 200
"""Executions of one node that are compared by time, for a node of which no round is known."""

Round = tuple[str, int | None, int | None]
"""Node id of a container, and the round of the outer iteration and loop that it is in."""


class Container(NamedTuple):
    """One execution of an iteration or a loop."""

    execution: str
    started_at: int | None
    ended_at: int | None
    iteration_id: str | None
    iteration_index: int | None
    loop_id: str | None
    loop_index: int | None


class Containers:
    """The executions of iterations and loops of one run."""

    def __init__(self) -> None:
        self._of_node: dict[str, dict[str, Container]] = {}
        self._of_round: dict[Round, dict[str, Container]] = {}

    def add(self, node_id: str, container: Container) -> bool:
        """Adds an execution. Returns False if it is there already."""
        executions = self._of_node.setdefault(node_id, {})
        if container.execution in executions:
            return False
        executions[container.execution] = container
        round_ = (node_id, container.iteration_index, container.loop_index)
        self._of_round.setdefault(round_, {})[container.execution] = container
        return True

    def of(self, j: Joins) -> str | None:
        """The execution that directly contains a node execution; None if it is not clear, or not yet."""
        w = j.within
        if w is None:
            return None
        if w.iteration_id is None or w.loop_id is None:
            return _chosen(j, w, self._found(j, w.iteration_id or w.loop_id or "", w))
        inner = [c for c in self._found(j, w.loop_id, w) if c.iteration_id == w.iteration_id]
        if not inner:
            inner = [c for c in self._found(j, w.iteration_id, w) if c.loop_id == w.loop_id]
        return _chosen(j, w, inner)

    def outer_of(self, j: Joins) -> str | None:
        """For a node in two containers, of which only one is known: that one."""
        w = j.within
        if w is None:
            return None
        known = [c for id_ in (w.loop_id, w.iteration_id) if id_ for c in self._found(j, id_, w)]
        return _chosen(j, w, known)

    def _found(self, j: Joins, node_id: str, w: Within) -> list[Container]:
        """Executions of a node that may contain a node execution: those of its round, else some of all."""
        for round_ in rounds(node_id, w):
            found = [c for c in self._of_round.get(round_, {}).values() if c.execution != j.source_id]
            if found:
                return found[:_LOOKED_AT]
        executions = self._of_node.get(node_id, {})
        if len(executions) > _LOOKED_AT:
            return []
        return [c for c in executions.values() if c.execution != j.source_id]


def rounds(node_id: str, w: Within) -> Iterator[Round]:
    """The rounds that a container of that node id may itself be in, for a node in it."""
    if node_id == w.loop_id and w.iteration_id is not None and w.iteration_index is not None:
        yield node_id, w.iteration_index, None
    if node_id == w.iteration_id and w.loop_id is not None and w.loop_index is not None:
        yield node_id, None, w.loop_index
    yield node_id, None, None


def _chosen(j: Joins, w: Within, found: list[Container]) -> str | None:
    fitting = [c for c in found if _same_round(c, w) is not False and _overlaps(j, c)]
    sure = [c for c in fitting if _same_round(c, w)]
    if len(sure) == 1:
        return sure[0].execution
    timed = [c for c in sure or fitting if _contains(j, c)]
    return timed[0].execution if len(timed) == 1 else None


def _same_round(c: Container, w: Within) -> bool | None:
    """Whether the container is in the round of the outer one that the node is in; None: not known."""
    sure = True
    for outer, round_, own, own_round in (
        (c.iteration_id, c.iteration_index, w.iteration_id, w.iteration_index),
        (c.loop_id, c.loop_index, w.loop_id, w.loop_index),
    ):
        if outer is None:
            continue
        if own is None or round_ is None or own_round is None:
            sure = False
        elif outer == own and round_ != own_round:
            return False
    return True if sure else None


def _times(j: Joins, c: Container) -> tuple[int, int, int, int] | None:
    started, ended = j.get("started_at"), j.get("ended_at")
    if started is None or c.started_at is None or c.ended_at is None:
        return None
    return started, started if ended is None else ended, c.started_at, c.ended_at


def _overlaps(j: Joins, c: Container) -> bool:
    times = _times(j, c)
    return times is None or (times[0] <= times[3] + _SLACK and times[1] >= times[2] - _SLACK)


def _contains(j: Joins, c: Container) -> bool:
    times = _times(j, c)
    return times is not None and times[2] <= times[0] and times[1] <= times[3]
