"""Which operations repeat the tokens and the price of others. One rule for summaries, metrics and sinks.

It is decided by the operation alone, never by which other operations came: its field `usage_repeats`, else
its kind, its node type and its span kind (the sets in tailrace/kinds.py). So the answer does not depend on
the order of arrival, and is the same for every reader.
"""

from __future__ import annotations

from typing import Final

from tailrace.kinds import REPEATING, REPEATING_NODES, REPEATING_SPANS, REPEATING_WITH_RUN
from tailrace.records import TraceEvent

_SPAN: Final = "span"
_ALWAYS: Final = REPEATING
_WITH_RUN: Final = REPEATING_WITH_RUN
_NODES: Final = REPEATING_NODES
_SPANS: Final = REPEATING_SPANS


def repeats(kind: str, in_run: bool, around_nodes: bool, span_kind: str | None, said: bool | None) -> bool:
    """Whether an operation's tokens and price repeat those of others.

    Args:
        kind: Its kind.
        in_run: Whether it names a workflow run.
        around_nodes: Whether its node type is one of `kinds.REPEATING_NODES`.
        span_kind: Its span kind.
        said: Its field `usage_repeats`.
    """
    if said is not None:
        return said
    if kind == _SPAN:
        return span_kind in _SPANS
    return around_nodes or kind in _ALWAYS or (in_run and kind in _WITH_RUN)


def of_event(event: TraceEvent) -> bool:
    """Whether an event's tokens and price repeat those of others."""
    return repeats(
        event.kind,
        bool(event.workflow_run_id),
        event.node_type in _NODES,
        event.span_kind,
        event.usage_repeats,
    )
