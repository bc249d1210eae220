"""The recorded runs, written as Dify's lines: the containers found are those that the engine said."""

from __future__ import annotations

import functools
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from examples.recorded_runs.adapter import adapt
from examples.recorded_runs.recording import lines
from tailrace.identity import complete
from tailrace.records import Kind, TraceEvent
from tests.ingress.dify import samples
from tests.ingress.dify.converting import NOW, converted, published
from tests.ingress.dify.samples import Line


@functools.cache
def recorded() -> list[TraceEvent]:
    """The recorded runs as the engine's own adapter publishes them."""
    return [complete(event, NOW) for event in adapt(lines())]


def moment(microseconds: int) -> str:
    """A time as Dify writes it, without a zone."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).replace(tzinfo=None).isoformat()


def as_dify(event: TraceEvent) -> Line:
    """An event as the line that Dify would write: without parent_id and root."""
    made = samples.run(1, 0, 1) if event.kind == Kind.WORKFLOW_RUN else samples.node(1, 1, 0, 1)
    info: dict[str, Any] = made["trace_info"]
    info["metadata"] = {"tenant_id": event.tenant_id, "app_id": event.app_id}
    info |= {
        "tenant_id": event.tenant_id,
        "workflow_run_id": event.workflow_run_id,
        "start_time": moment(event.started_at),
        "end_time": moment(event.ended_at),
        "conversation_id": event.conversation_id,
        "total_tokens": event.total_tokens or 0,
        "prompt_tokens": event.input_tokens,
        "completion_tokens": event.output_tokens,
    }
    if event.workflow_run is not None:
        info |= {"workflow_run_status": event.status, "message_id": f"of {event.source_id}"}
        info["message_id"] = info["message_id"] if event.mode == "chat" else None
    body = event.node_execution
    if body is not None:
        info |= {
            "node_execution_id": event.source_id,
            "node_id": body.node_id,
            "node_type": event.node_type,
            "title": event.name,
            "status": event.status,
            "error": event.error,
            "model_name": event.model_name,
            "model_provider": event.model_provider,
            "iteration_id": body.iteration_id,
            "iteration_index": body.iteration_index,
            "loop_id": body.loop_id,
            "loop_index": body.loop_index,
        }
    return {**made, "app_id": event.app_id}


def ordered(order: str) -> list[TraceEvent]:
    found = list(recorded())
    if order == "backwards":
        found.reverse()
    elif order == "shuffled":
        random.Random(7).shuffle(found)
    return found


@pytest.mark.parametrize("order", ["as recorded", "backwards", "shuffled"])
def test_every_node_is_in_the_execution_that_the_engine_named(order: str) -> None:
    given = ordered(order)
    found = published(converted(as_dify(event) for event in given))
    nodes = {e.source_id: e for e in found if e.kind == Kind.NODE_EXECUTION}
    wanted = {e.source_id: e for e in given if e.kind == Kind.NODE_EXECUTION}
    assert nodes.keys() == wanted.keys()
    wrong = [s for s, e in nodes.items() if e.parent_id not in (wanted[s].parent_id, None)]
    assert wrong == []
    contained = [s for s, e in wanted.items() if e.parent_id is not None]
    unknown = {s for s in contained if nodes[s].parent_id is None}
    assert len(contained) > 1000
    # cut off by the end of their run, the engine gave no round: it cannot be seen which execution it was
    assert {wanted[s].status for s in unknown} <= {"stopped"}
    assert len(unknown) <= 12


@pytest.mark.parametrize("order", ["as recorded", "shuffled"])
def test_every_run_is_one_trace_with_its_tokens(order: str) -> None:
    given = ordered(order)
    found = published(converted(as_dify(event) for event in given))
    runs = {e.source_id: e for e in found if e.kind == Kind.WORKFLOW_RUN}
    wanted = {e.source_id: e for e in given if e.kind == Kind.WORKFLOW_RUN}
    assert len(runs) == len(wanted) > 430
    for event in found:
        run = runs.get(event.workflow_run_id)
        if run is None:
            continue  # still paused when the recording ended
        assert event.trace_id == event.root_trace_id == run.trace_id
        assert event.root_started_at == run.started_at
    for source, run in runs.items():
        assert (run.input_tokens, run.total_tokens) == (
            wanted[source].input_tokens,
            wanted[source].total_tokens,
        )
    messages = [e for e in found if e.kind == Kind.MESSAGE]
    assert len(messages) == sum(e.mode == "chat" for e in wanted.values()) > 100
