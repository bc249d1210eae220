"""New parents for events whose run or message is left out. Pure.

Children of a run that is left out become children of the node that called the run, if the event names
it, else of the root of the trace. If the root itself is left out, its children become roots.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tailrace.ids import otel_span_id
from tailrace.records import Kind, ParentKind, TraceContext, TraceEvent

MOVES: Final = frozenset({Kind.WORKFLOW_RUN, Kind.MESSAGE})
"""Kinds whose children `hang` moves."""
READS: Final = frozenset(
    {"source_id", "workflow_run_id", "message_id", "parent_run_id", "parent_node_execution_id", "trace_id"}
)
"""Fields of TraceEvent that are read here."""


def hang(event: TraceEvent, context: TraceContext, *, runs: bool, messages: bool) -> TraceContext:
    """The context of an event, for a sink that gets no workflow runs or no messages.

    The event itself is kept.
    """
    if runs and context.linked_span_id is not None:  # the calling run's span
        context = msgspec.structs.replace(context, linked_span_id=None)
    parent = context.parent_source_id
    if parent is None:
        return context
    if _is_message(event, context, parent):
        return _under_root(event, context, parent, runs, messages) if messages else context
    if not _is_run(event, context, parent) or not runs:
        return context
    node = event.parent_node_execution_id
    if node is not None and parent == event.workflow_run_id and node != event.source_id:
        return _under(context, node, ParentKind.NODE)
    return _under_root(event, context, parent, runs, messages)


def _is_message(event: TraceEvent, context: TraceContext, parent: str) -> bool:
    return context.parent_kind == "message" or (
        context.parent_kind == "operation" and parent == event.message_id
    )


def _is_run(event: TraceEvent, context: TraceContext, parent: str) -> bool:
    return context.parent_kind == "run" or (
        context.parent_kind == "operation"
        and parent in (event.workflow_run_id, event.parent_run_id, context.root_run_id)
    )


def _under_root(
    event: TraceEvent, context: TraceContext, parent: str, runs: bool, messages: bool
) -> TraceContext:
    """The context under the root of the trace, or under nothing if the root itself is left out.

    A trace has the id of its root: a message, else a run, else (a draft, an operation without either)
    the operation itself.
    """
    root, run = context.root_trace_id, context.root_run_id
    if root is None or root in (parent, event.source_id):
        return _under(context, None, ParentKind.NONE)
    if root == event.message_id or (run is not None and root != run):
        return _under(context, None if messages else root, ParentKind.MESSAGE)
    if root in (run, event.workflow_run_id, event.parent_run_id):
        return _under(context, None if runs else root, ParentKind.RUN)
    return _under(context, root, ParentKind.OPERATION)


def _under(context: TraceContext, parent: str | None, kind: ParentKind) -> TraceContext:
    if parent is None:
        return msgspec.structs.replace(
            context, parent_source_id=None, parent_span_id=None, parent_kind=ParentKind.NONE
        )
    return msgspec.structs.replace(
        context, parent_source_id=parent, parent_span_id=otel_span_id(parent), parent_kind=kind
    )
