"""Which operations repeat the tokens and the price of others: by what they say themselves."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace import kinds
from tailrace.records import Kind, SpanKind, TraceEvent
from tailrace.roll_ups import of_event

REPEATING: list[dict[str, Any]] = [
    {"kind": Kind.WORKFLOW_RUN},
    {"kind": Kind.MESSAGE, "workflow_run_id": "r"},
    {"kind": Kind.DATASET_RETRIEVAL},
    {"kind": Kind.NODE_EXECUTION, "node_type": "iteration"},
    {"kind": Kind.DRAFT_NODE_EXECUTION, "node_type": "loop"},
    {"kind": Kind.SPAN, "span_kind": SpanKind.AGENT},
    {"kind": Kind.SPAN, "span_kind": SpanKind.CHAIN},
    {"kind": Kind.SPAN, "span_kind": SpanKind.TASK},
]
OWN: list[dict[str, Any]] = [
    {"kind": Kind.MESSAGE},
    {"kind": Kind.NODE_EXECUTION, "node_type": "llm", "workflow_run_id": "r"},
    {"kind": Kind.NODE_EXECUTION, "node_type": "agent"},
    {"kind": Kind.NODE_EXECUTION},
    {"kind": Kind.SPAN},
    {"kind": Kind.PROMPT_GENERATION},
    *({"kind": Kind.SPAN, "span_kind": k} for k in SpanKind if k not in kinds.REPEATING_SPANS),
]


def event(fields: dict[str, Any], **more: Any) -> TraceEvent:
    return TraceEvent(started_at=0, ended_at=0, **fields, **more)


@pytest.mark.parametrize("fields", REPEATING)
def test_a_roll_up(fields: dict[str, Any]) -> None:
    assert of_event(event(fields))
    assert not of_event(event(fields, usage_repeats=False))


@pytest.mark.parametrize("fields", OWN)
def test_an_operation_of_its_own(fields: dict[str, Any]) -> None:
    assert not of_event(event(fields))
    assert of_event(event(fields, usage_repeats=True))


def test_every_kind_says_whether_it_repeats() -> None:
    assert {f.repeats for f in kinds.FACTS.values()} == {kinds.NEVER, kinds.ALWAYS, kinds.WITH_RUN}
