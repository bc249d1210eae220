"""What an operation belongs to, from what other lines told. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ingress.dify.facts import APP, CONVERSATION, MESSAGE, NODE, RUN, Facts, Key, Memory, container_keys
from ingress.dify.operation import Joins
from tailrace.formats import Note
from tailrace.records import Kind

_DEEPEST: Final = 64
"""Nested runs above a run that are followed."""
_EARLY: Final = 5_000_000
"""Microseconds that a conversation's name may be begun before its message."""
_FAR: Final = 600_000_000
"""Microseconds before or after a message in which what runs beside it is not expected: a wrong zone."""
_FROM_RUN: Final = (
    "tenant_id",
    "app_id",
    "app_name",
    "workspace_name",
    "message_id",
    "conversation_id",
    "user_id",
    "session_id",
    "parent_run_id",
)
_FROM_MESSAGE: Final = (
    "tenant_id",
    "app_id",
    "app_name",
    "workspace_name",
    "workflow_run_id",
    "conversation_id",
    "user_id",
    "session_id",
)
_FROM_APP: Final = ("tenant_id", "app_name", "workspace_name")
_SIDE: Final = frozenset(
    {Kind.MODERATION, Kind.SUGGESTED_QUESTION, Kind.DATASET_RETRIEVAL, Kind.TOOL, Kind.GENERATE_NAME}
)


class Wait(NamedTuple):
    """The operation has to wait until more is known about one of these."""

    keys: tuple[Key, ...]


@dataclass(slots=True)
class Joined:
    """What was found out."""

    fills: list[tuple[str, Any, str]] = field(default_factory=list)
    """Field, value, and where it is from. An operation's own value wins."""
    notes: list[Note] = field(default_factory=list)
    span: tuple[int | None, int | None] = (None, None)
    """Start and end of the message or run that it belongs to, for an operation without times."""

    def fill(self, facts: Facts, names: tuple[str, ...], source: str) -> None:
        """Takes fields from what is known."""
        self.fills += [(n, value, source) for n in names if (value := facts.get(n)) is not None]

    def missing(self, name: str, why: str) -> None:
        """Says that something could not be found out."""
        self.notes.append(Note("missing", name, why))


def join(j: Joins, memory: Memory, last: bool) -> Joined | Wait:
    """What an operation belongs to.

    Args:
        j: of the operation.
        memory: what lines have told.
        last: whether it cannot wait any longer: what is not known is then noted as missing.
    """
    found = Joined()
    if j.kind in (Kind.NODE_EXECUTION, Kind.WORKFLOW_RUN):
        wait = _of_run(j, memory, last, found)
    elif j.kind in _SIDE:
        wait = _side(j, memory, last, found)
    else:
        wait = None
        if j.kind == Kind.MESSAGE:
            _root_of_message(j.source_id, j.known, None, found)
        elif j.kind == Kind.FEEDBACK:
            _feedback(j, memory, found)
    if wait is not None:
        return wait
    app = memory.find(APP, j.get("app_id"), j.get("tenant_id"))
    if app is not None:
        found.fill(app, _FROM_APP, "from its application")
    return found


def _of_run(j: Joins, memory: Memory, last: bool, found: Joined) -> Wait | None:
    run = j.get("workflow_run_id")
    facts = memory.find(RUN, run, j.get("tenant_id"), j.get("app_id"), of_app=True)
    if facts is None or not facts.seen:
        if not last:
            return Wait(((RUN, run),))
        found.missing("workflow_run_id", "its run has no line, or it came too late")
    if facts is None:
        return None
    if j.kind == Kind.WORKFLOW_RUN:
        found.fill(facts, (*_FROM_RUN, "parent_node_execution_id"), "from its nodes")
    else:
        found.fill(facts, _FROM_RUN, "from its run")
    found.span = (facts.get("started_at"), facts.get("ended_at"))
    if j.kind == Kind.NODE_EXECUTION and (wait := _container(j, facts, last, found)) is not None:
        return wait
    if not facts.seen and facts.get("parent_run_id") is None:
        return None  # whether another run called it is not known
    return _root(run, facts, memory, last, found)


def _container(j: Joins, facts: Facts, last: bool, found: Joined) -> Wait | None:
    w = j.within
    if w is None or (w.iteration_id is None and w.loop_id is None):
        return None
    container = facts.containers.of(j)
    if container is None and not last:
        return Wait(container_keys(j.get("workflow_run_id"), w))
    if container is None:
        container = facts.containers.outer_of(j)
        found.missing(
            "parent_id",
            "its iteration or loop has no line, or several fit; its run is the parent"
            if container is None
            else "its inner iteration or loop has no line; the outer one is the parent",
        )
    if container is not None:
        found.fills.append(("parent_id", container, "from iteration_id and loop_id"))
    return None


def _root(run: str, facts: Facts, memory: Memory, last: bool, found: Joined) -> Wait | None:
    """The outermost run above a run, and the fields that name it."""
    path, at, own = [run], facts, facts
    while (caller := at.get("parent_run_id")) is not None:
        if caller in path or len(path) > _DEEPEST:
            found.missing("root_trace_id", "its calling runs form a circle, or are more than 64")
            return None
        above = memory.find(RUN, caller, at.get("tenant_id"))
        if above is None or not above.seen:
            if not last:
                return Wait(((RUN, caller),))
            found.missing("root_trace_id", "the run that called it has no line, or it came too late")
            return None
        path.append(caller)
        at = above
        if len(path) == 2:
            why = "from the run that called it"
            found.fills.append(("parent_trace_id", above.get("message_id") or caller, why))
            found.fills.append(("parent_app_id", above.get("app_id"), why))
            if own.get("parent_node_execution_id") is None:
                found.missing("parent_node_execution_id", "Dify names no node of the calling run")
    message = at.get("message_id")
    turn = memory.find(MESSAGE, message, at.get("tenant_id"), at.get("app_id"))
    started = turn.get("started_at") if turn is not None else None
    why = "from its run" if at is own else "from the outermost run"
    found.fills += [
        ("root_trace_id", message or path[-1], why),
        ("root_run_id", path[-1], why),
        ("root_app_id", at.get("app_id"), why),
        ("root_started_at", at.get("started_at") if started is None else started, why),
    ]
    return None


def _side(j: Joins, memory: Memory, last: bool, found: Joined) -> Wait | None:
    message, run, tenant, app = (
        j.get(name) for name in ("message_id", "workflow_run_id", "tenant_id", "app_id")
    )
    if j.kind == Kind.GENERATE_NAME and message is None and run is None:
        return _name(j, memory, last, found)
    if message is None and run is None:
        found.missing("message_id", "Dify names no message; it is a trace of its own")
        return None
    if message is not None:
        turn = memory.find(MESSAGE, message, tenant, app)
        if turn is None or not turn.seen:
            if not last:
                return Wait(((MESSAGE, message),))
            found.missing("message_id", "its message has no line, or it came too late")
        else:
            return _in_turn(j, message, turn, memory, last, found)
    facts = memory.find(RUN, run, tenant, app)
    if facts is None or not facts.seen:
        if run is not None and message is None:
            if not last:
                return Wait(((RUN, run),))
            found.missing("workflow_run_id", "its run has no line, or it came too late")
        return None
    found.fill(facts, _FROM_RUN, "from its run")
    found.span = (facts.get("started_at"), facts.get("ended_at"))
    return _node(j, memory, last, found) or _root(run, facts, memory, last, found)


def _in_turn(j: Joins, message: str, turn: Facts, memory: Memory, last: bool, found: Joined) -> Wait | None:
    """An operation beside a message that is known."""
    found.fill(turn, _FROM_MESSAGE, "from its message")
    found.span = (turn.get("started_at"), turn.get("ended_at"))
    if (wait := _node(j, memory, last, found)) is not None:
        return wait
    _root_of_message(message, turn.known, j, found)
    if j.kind != Kind.SUGGESTED_QUESTION and _is_far(j.get("started_at"), found.span):
        found.notes.append(Note("read", "started_at", FAR))
    if j.call is not None:
        latest = turn.calls.get(j.call)
        own = (j.get("started_at") or 0, j.number, j.source_id)
        if latest is not None and latest[2] != j.source_id and latest > own:
            found.notes.append(Note("changed", "tool", LATER_CALL))
    return None


def _is_far(at: int | None, span: tuple[int | None, int | None]) -> bool:
    """Whether a time is far from a message's."""
    started, ended = span
    if at is None or started is None:
        return False
    return not started - _FAR <= at <= (started if ended is None else ended) + _FAR


FAR: Final = (
    "is more than 10 minutes outside its message's time; if Dify runs with TZ, give --timezone timers=ZONE"
)
LATER_CALL: Final = "time_cost, error and parameters are those of a later call of this tool; left out"
"""Dify takes them from the message's last thought with a tool of that name, for each call of it."""


def _root_of_message(message: str, known: dict[str, Any], j: Joins | None, found: Joined) -> None:
    why = "from its message"
    found.fills += [
        ("root_trace_id", message, why),
        ("root_run_id", known.get("workflow_run_id"), why),
        ("root_app_id", known.get("app_id"), why),
        ("root_started_at", known.get("started_at"), why),
    ]


def _node(j: Joins, memory: Memory, last: bool, found: Joined) -> Wait | None:
    """The node that a side operation ran in."""
    if j.node is None:
        return None
    if memory.find(NODE, j.node, j.get("tenant_id")) is not None:
        found.fills.append(("parent_id", j.node, "from metadata.node_execution_id"))
    elif last:
        found.missing("parent_id", "the node that it ran in has no line; its message is the parent")
    else:
        return Wait(((NODE, j.node),))
    return None


def _name(j: Joins, memory: Memory, last: bool, found: Joined) -> Wait | None:
    """The name of a conversation belongs to the turn that it was made in, if that can be seen."""
    conversation, at = j.get("conversation_id"), j.get("started_at")
    facts = memory.find(CONVERSATION, conversation, j.get("tenant_id"))
    turns = [
        (message, turn)
        for message in (facts.messages if facts is not None else ())
        if (turn := memory.find(MESSAGE, message, j.get("tenant_id"))) is not None and turn.seen
    ]
    for message, turn in turns:
        started, ended = turn.get("started_at"), turn.get("ended_at")
        if at is None or started is None or ended is None or not started - _EARLY <= at <= ended:
            continue
        found.fills.append(("message_id", message, "from the conversation's turn at that time"))
        return _in_turn(j, message, turn, memory, last, found)
    if not last and conversation is not None:
        return Wait(((CONVERSATION, conversation),))
    found.missing("message_id", "no turn of its conversation is known at that time; it is a trace of its own")
    return None


def _feedback(j: Joins, memory: Memory, found: Joined) -> None:
    """A rating may come days after its message, so that it never waits for it."""
    message = j.get("message_id")
    turn = memory.find(MESSAGE, message, j.get("tenant_id"), j.get("app_id"))
    if turn is None or not turn.seen:
        found.missing("root_started_at", "its message is not among the lines before it")
        return
    found.fill(turn, _FROM_MESSAGE, "from its message")
    _root_of_message(message, turn.known, j, found)
