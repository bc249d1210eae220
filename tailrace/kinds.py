"""What the contract says of each kind of event, in one table, and the sets that other code takes from it.

A row for each symbol of `Kind`. What a layer makes of a kind stays in that layer: the metrics in
streams/processing/metrics/kinds.py, references to content in connectors/filters/content.py, a sink's mapping
in its `KINDS`. tests/test_kinds.py lists every decision that a kind lacks. Until it has its row, a kind is
treated as one without a body that belongs to a trace and has no children, and sinks can't leave it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tailrace.records import Kind

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
"""It has children, and connectors/filters/reparent.py knows their parent where a sink leaves it out."""
KEPT: Final = "kept"
"""It has children, of which no other parent is known: no sink may leave it out."""
UNSENT: Final = "unsent"
"""There is nothing for a sink to leave out."""


class Facts(NamedTuple):
    """One kind."""

    body: str | None
    """Field of TraceEvent that holds its body."""
    traced: bool
    """Whether it belongs to a trace. If not, its Kafka key is the application."""
    parent: str
    """Its parent, where it names none itself: `IN_RUN`, `CALLED`, `BESIDE` or `ALONE`."""
    children: str
    """Whether it has children, and so whether a sink may leave it out: `LEAF`, `REPLACED`, `KEPT` or
    `UNSENT`."""
    own_id: str | None = None
    """Field that holds its own id where it has no source_id."""
    own_trace: bool = False
    """Whether its trace is its own, whatever run or message it names."""
    repeats: bool = False
    """Whether its tokens and its price are those of its children, once more."""
    heads: bool = False
    """Whether one without a parent is the root of its trace, though the trace is not named after it."""
    tool: bool = False
    """Whether its name is that of a tool."""
    control: bool = False
    """A record that the processor takes in and does not enrich."""


FACTS: Final[Mapping[Kind, Facts]] = {
    Kind.UNKNOWN: Facts(None, True, BESIDE, UNSENT),
    Kind.WORKFLOW_RUN: Facts("workflow_run", True, CALLED, REPLACED, own_id="workflow_run_id", repeats=True),
    Kind.NODE_EXECUTION: Facts("node_execution", True, IN_RUN, KEPT),
    Kind.DRAFT_NODE_EXECUTION: Facts("node_execution", True, ALONE, LEAF, own_trace=True),
    Kind.MESSAGE: Facts("message", True, ALONE, REPLACED, own_id="message_id", repeats=True),
    Kind.MODERATION: Facts("moderation", True, BESIDE, LEAF),
    Kind.SUGGESTED_QUESTION: Facts("suggested_question", True, BESIDE, LEAF),
    Kind.DATASET_RETRIEVAL: Facts("dataset_retrieval", True, BESIDE, LEAF),
    Kind.TOOL: Facts("tool", True, BESIDE, LEAF, tool=True),
    Kind.GENERATE_NAME: Facts(None, True, BESIDE, LEAF),
    Kind.PROMPT_GENERATION: Facts("prompt_generation", True, BESIDE, LEAF),
    Kind.SPAN: Facts("span", True, BESIDE, KEPT, heads=True),
    Kind.FEEDBACK: Facts("feedback", True, BESIDE, LEAF),
    Kind.APP_CREATED: Facts(None, False, BESIDE, LEAF),
    Kind.APP_UPDATED: Facts(None, False, BESIDE, LEAF),
    Kind.APP_DELETED: Facts(None, False, BESIDE, LEAF),
    Kind.REHYDRATION_FAILED: Facts("rehydration_failed", False, BESIDE, LEAF),
    Kind.LINK: Facts(None, True, BESIDE, UNSENT, control=True),
}


BODY: Final[Mapping[str, str]] = {k.value: f.body for k, f in FACTS.items() if f.body is not None}
"""Kind -> field of TraceEvent that holds its body; kinds without a body are not in it."""
BODIES: Final = tuple(dict.fromkeys(BODY.values()))
"""Fields of TraceEvent that hold a kind's body."""
PARENT: Final[Mapping[str, str]] = {k.value: FACTS[k].parent if k in FACTS else BESIDE for k in Kind}
"""Kind -> rule of its parent; every symbol of `Kind` is in it."""
OWN_ID: Final[Mapping[str, str]] = {k.value: f.own_id for k, f in FACTS.items() if f.own_id is not None}
"""Kind -> field that holds its own id where it has no source_id."""
WITHOUT_TRACE: Final = frozenset(k.value for k, f in FACTS.items() if not f.traced)
"""Kinds that belong to no trace."""
OWN_TRACE: Final = frozenset(k.value for k, f in FACTS.items() if f.own_trace)
REPEATING: Final = frozenset(k.value for k, f in FACTS.items() if f.repeats)
HEADS: Final = frozenset(k.value for k, f in FACTS.items() if f.heads)
TOOLS: Final = frozenset(k.value for k, f in FACTS.items() if f.tool)
CONTROL: Final = frozenset(k.value for k, f in FACTS.items() if f.control)
"""Kinds that the processor does not enrich: no sink gets them."""
DROPPABLE: Final = tuple(k.value for k, f in FACTS.items() if f.children in (LEAF, REPLACED))
"""Kinds that a sink may leave out (setting drop_kinds)."""
REQUIRED: Final = tuple(k.value for k, f in FACTS.items() if f.children == KEPT)
"""Kinds that no sink may leave out."""
MOVED: Final = frozenset(k.value for k, f in FACTS.items() if f.children == REPLACED)
"""Kinds whose children get another parent where a sink leaves them out."""
