"""The properties of each kind of event in one table, and the sets that are derived from it.

The table has a row for each symbol of `Kind`. What a layer does with a kind is stated in that layer:
metrics in streams/processing/metrics/kinds.py, references to content in connectors/filters/content.py, a
sink's mapping in its `KINDS`. tests/test_kinds.py lists what is missing for a kind. A kind without a row is
treated as one that has no body, belongs to a trace and has no children; sinks cannot leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tailrace.records import Kind, SpanKind

IN_RUN: Final = "in_run"
"""The parent is its workflow run, else its message."""
CALLED: Final = "called"
"""The parent is the node that called it, else the run that called it, else its message."""
BESIDE: Final = "beside"
"""The parent is its message, else its workflow run."""
ALONE: Final = "alone"
"""It has no parent."""

LEAF: Final = "leaf"
"""It has no children: a sink may leave it out."""
REPLACED: Final = "replaced"
"""It has children. If a sink leaves it out, connectors/filters/reparent.py finds them another parent."""
KEPT: Final = "kept"
"""It has children for which no other parent is known: no sink may leave it out."""
UNSENT: Final = "unsent"
"""It is never sent to sinks, so there is nothing to leave out."""

NEVER: Final = "never"
"""Its tokens and its price are its own."""
ALWAYS: Final = "always"
"""They repeat those of other operations."""
WITH_RUN: Final = "with_run"
"""They repeat those of its workflow run if it names one; else they are its own."""


class Facts(NamedTuple):
    """The properties of one kind."""

    body: str | None
    """Field of `TraceEvent` with its body; None: it has no body."""
    traced: bool
    """Whether it belongs to a trace. If not, its Kafka key is the application."""
    parent: str
    """Its parent if the event names none: `IN_RUN`, `CALLED`, `BESIDE` or `ALONE`."""
    children: str
    """Whether it has children, and may be left out: `LEAF`, `REPLACED`, `KEPT` or `UNSENT`."""
    own_id: str | None = None
    """Field with its own id, for events without source_id."""
    own_trace: bool = False
    """Whether it is always a trace of its own, also if it names a run or message."""
    repeats: str = NEVER
    """Whether its tokens and its price repeat those of other operations: `NEVER`, `ALWAYS` or `WITH_RUN`.

    tailrace/roll_ups.py has the whole rule.
    """
    heads: bool = False
    """Whether one without a parent is the root of its trace, even if the trace is not named after it."""
    tool: bool = False
    """Whether its name is that of a tool."""
    apart: bool = False
    """Whether it is about a trace and no part of it: it opens none, and summaries leave it out."""
    control: bool = False
    """Whether it is a control record, which the processor reads but does not enrich."""
    after: bool = False
    """Whether it comes after the trace that it is about: its time says nothing about the trace's start."""


FACTS: Final[Mapping[Kind, Facts]] = {
    Kind.UNKNOWN: Facts(None, True, BESIDE, UNSENT),
    Kind.WORKFLOW_RUN: Facts(
        "workflow_run", True, CALLED, REPLACED, own_id="workflow_run_id", repeats=ALWAYS
    ),
    Kind.NODE_EXECUTION: Facts("node_execution", True, IN_RUN, KEPT),
    Kind.DRAFT_NODE_EXECUTION: Facts("node_execution", True, ALONE, LEAF, own_trace=True),
    Kind.MESSAGE: Facts("message", True, ALONE, REPLACED, own_id="message_id", repeats=WITH_RUN),
    Kind.MODERATION: Facts("moderation", True, BESIDE, LEAF),
    Kind.SUGGESTED_QUESTION: Facts("suggested_question", True, BESIDE, LEAF),
    Kind.DATASET_RETRIEVAL: Facts("dataset_retrieval", True, BESIDE, LEAF, repeats=ALWAYS),
    Kind.TOOL: Facts("tool", True, BESIDE, LEAF, tool=True),
    Kind.GENERATE_NAME: Facts(None, True, BESIDE, LEAF),
    Kind.PROMPT_GENERATION: Facts("prompt_generation", True, BESIDE, LEAF),
    Kind.SPAN: Facts("span", True, BESIDE, KEPT, heads=True),
    Kind.FEEDBACK: Facts("feedback", True, BESIDE, LEAF, after=True),
    Kind.EVALUATION: Facts("evaluation", True, ALONE, LEAF, after=True, apart=True),
    Kind.APP_CREATED: Facts(None, False, BESIDE, LEAF),
    Kind.APP_UPDATED: Facts(None, False, BESIDE, LEAF),
    Kind.APP_DELETED: Facts(None, False, BESIDE, LEAF),
    Kind.REHYDRATION_FAILED: Facts("rehydration_failed", False, BESIDE, LEAF),
    Kind.LINK: Facts(None, True, BESIDE, UNSENT, control=True),
}


BODY: Final[Mapping[str, str]] = {k.value: f.body for k, f in FACTS.items() if f.body is not None}
"""Kind -> field of `TraceEvent` with its body; without the kinds that have none."""
BODIES: Final = tuple(dict.fromkeys(BODY.values()))
"""Fields of `TraceEvent` with the body of a kind."""
PARENT: Final[Mapping[str, str]] = {k.value: FACTS[k].parent if k in FACTS else BESIDE for k in Kind}
"""Kind -> rule for its parent, for every symbol of `Kind`."""
OWN_ID: Final[Mapping[str, str]] = {k.value: f.own_id for k, f in FACTS.items() if f.own_id is not None}
"""Kind -> field with its own id, for events without source_id."""
WITHOUT_TRACE: Final = frozenset(k.value for k, f in FACTS.items() if not f.traced)
"""Kinds that do not belong to a trace."""
OWN_TRACE: Final = frozenset(k.value for k, f in FACTS.items() if f.own_trace)
"""Kinds whose every event is the root of a trace of its own (seed 003, scenario C)."""
JOINING: Final = (
    "parent_id",
    "parent_trace_id",
    "parent_run_id",
    "parent_node_execution_id",
    "parent_app_id",
    "root_trace_id",
    "root_run_id",
    "root_app_id",
    "root_started_at",
    "otel_trace_id",
    "otel_parent_span_id",
)
"""Fields besides trace_id that put an event into another trace. Events of `OWN_TRACE` have none of them."""
REPEATING: Final = frozenset(k.value for k, f in FACTS.items() if f.repeats == ALWAYS)
"""Kinds whose tokens and price repeat those of other operations."""
REPEATING_WITH_RUN: Final = frozenset(k.value for k, f in FACTS.items() if f.repeats == WITH_RUN)
"""Kinds whose tokens and price repeat those of their workflow run, if they name one."""
HEADS: Final = frozenset(k.value for k, f in FACTS.items() if f.heads)
TOOLS: Final = frozenset(k.value for k, f in FACTS.items() if f.tool)
AFTER: Final = frozenset(k.value for k, f in FACTS.items() if f.after)
"""Kinds that come after the trace that they are about."""
APART: Final = frozenset(k.value for k, f in FACTS.items() if f.apart)
"""Kinds that are about a trace and no part of it."""
CONTROL: Final = frozenset(k.value for k, f in FACTS.items() if f.control)
"""Kinds that the processor does not enrich: no sink gets them."""
DROPPABLE: Final = tuple(k.value for k, f in FACTS.items() if f.children in (LEAF, REPLACED))
"""Kinds that a sink may leave out (setting drop_kinds)."""
REQUIRED: Final = tuple(k.value for k, f in FACTS.items() if f.children == KEPT)
"""Kinds that no sink may leave out."""
REPEATING_NODES: Final = frozenset({"iteration", "loop"})
"""Node types whose tokens and price repeat those of the nodes inside."""
REPEATING_SPANS: Final = frozenset({SpanKind.AGENT.value, SpanKind.CHAIN.value, SpanKind.TASK.value})
"""Span kinds whose tokens and price repeat those of the spans inside."""
MOVED: Final = frozenset(k.value for k, f in FACTS.items() if f.children == REPLACED)
"""Kinds whose children get another parent if a sink leaves the kind out."""
