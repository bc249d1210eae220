"""Where an event hangs: its structural parent, and what is odd about it. Pure functions over headers.

Rules: seed 003, section 5 (scenarios A to C). The parent is the operation that contains this one (parent_id), else the
node or run that called it, else the workflow run for nodes, the message for side operations; never a conversation.
"""

from __future__ import annotations

from typing import Final

from streams.header import Header

HOUR: Final = 3_600_000_000
"""How far (microseconds) a start may lie after the record's append time before it is marked."""

CLOCK_SKEW: Final = b"clock_skew"
NEGATIVE_DURATION: Final = b"negative_duration"
SELF_PARENT: Final = b"self_parent"
SUPERSEDED: Final = b"superseded"
ROOT_INFERRED: Final = b"root_inferred"

Parent = tuple[bytes | None, str]
"""source_id of the parent, and what it is: none, operation, run, node or message (`ParentKind`)."""

NONE: Final[Parent] = (None, "none")


def parent_of(h: Header) -> Parent:
    """The structural parent of an event. A parent that is the event itself is cut: the result is `NONE`."""
    parent = _declared(h)
    return NONE if parent[0] == h.source_id else parent


def _declared(h: Header) -> Parent:
    if h.parent_id is not None or h.otel_parent_span_id is not None:
        return h.parent_id, "operation"
    kind = h.kind
    if kind == "node_execution":
        if h.workflow_run_id is not None:
            return h.workflow_run_id, "run"
    elif kind == "workflow_run":
        if h.parent_node_execution_id is not None:
            return h.parent_node_execution_id, "node"
        if h.parent_run_id is not None:
            return h.parent_run_id, "run"
    elif kind in ("message", "draft_node_execution"):
        return NONE
    elif h.message_id is None and h.workflow_run_id is not None:
        return h.workflow_run_id, "run"
    return (h.message_id, "message") if h.message_id is not None else NONE


def marks_of(h: Header, appended_at: int) -> tuple[bytes, ...]:
    """What is odd about an event by itself. appended_at: milliseconds UTC. Nothing is repaired here: sinks read the marks."""
    if h.ended_at >= h.started_at and h.started_at - appended_at * 1000 <= HOUR and h.parent_id != h.source_id:
        return ()
    found = []
    if h.started_at - appended_at * 1000 > HOUR:
        found.append(CLOCK_SKEW)
    if h.ended_at < h.started_at:
        found.append(NEGATIVE_DURATION)
    if h.parent_id == h.source_id:
        found.append(SELF_PARENT)
    return tuple(found)


def trace_key(h: Header) -> bytes | None:
    """The trace under which an event's state is kept: the root's where the event names it, else its own; None if it belongs
    to no trace."""
    return h.root_trace_id or h.trace_id


def root_run(h: Header) -> tuple[bytes | None, bool]:
    """Workflow run at the root as the event alone tells it, and whether that is only inferred: the header's root, else the
    calling run (right at depth 1), else its own run."""
    if h.root_run_id is not None:
        return h.root_run_id, False
    if h.parent_run_id is not None:
        return h.parent_run_id, True
    return h.workflow_run_id, False
