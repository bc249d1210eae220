"""Maps one ended operation of a run to a trace event, field by field. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from examples.recorded_runs.engine_lines import (
    EndedData,
    GraphEnd,
    GraphStart,
    Result,
    RetriedData,
    StartedData,
    System,
    Usage,
)
from examples.recorded_runs.recording import microseconds
from examples.recorded_runs.salted import Rename
from tailrace.records import Kind, NodeExecution, TraceEvent, WorkflowRun

_ISO_4217: Final = {"RMB": "CNY"}
"""What model providers write for a currency -> its code."""


@dataclass
class Execution:
    """A node execution that has started but not ended."""

    started: StartedData  # the first start: a paused node starts again with the same id
    parent_execution_id: str | None
    index: int
    predecessor_node_id: str | None
    inputs: dict[str, Any] | None = None
    retries: list[RetriedData] = field(default_factory=list)


@dataclass(frozen=True)
class RunContext:
    """What all events of a run share."""

    start: GraphStart
    system: System
    titles: dict[str, str]
    tenant_id: str
    shift: int
    rename: Rename

    def fields(self) -> dict[str, Any]:
        run_id, conversation = self.rename(self.start.run_id), self.system.conversation_id
        return {
            "workflow_run_id": run_id,
            "root_trace_id": run_id,
            "root_run_id": run_id,
            "root_app_id": self.system.app_id,
            "root_started_at": microseconds(self.start.at) + self.shift,
            "tenant_id": self.tenant_id,
            "app_id": self.system.app_id,
            "app_name": self.start.workflow,
            "user_id": self.system.user_id,
            "conversation_id": conversation and self.rename(conversation),
        }


def seconds(duration: Decimal) -> int:
    """A duration in seconds as whole microseconds."""
    return int((duration * 1_000_000).to_integral_value())


def usage_fields(usage: Usage, priced: bool) -> dict[str, Any]:
    """Tokens, and prices unless they were added up over several currencies.

    Empty if no model ran: the engine writes zeros then.
    """
    if usage.total_tokens == 0:
        return {}
    tokens = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if not priced:
        return tokens
    return {
        **tokens,
        "input_price": usage.prompt_price,
        "output_price": usage.completion_price,
        "total_price": usage.total_price,
        "currency": _ISO_4217.get(usage.currency, usage.currency),
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _model(result: Result) -> dict[str, Any]:
    """The model's name.

    Model nodes have it in process_data, failed ones only in inputs, agents as an object in inputs.
    """
    for place, prefix in (
        (result.process_data, "model_"),
        (result.inputs, "model_"),
        (result.inputs.get("model"), ""),
    ):
        if isinstance(place, dict) and (name := _text(place.get(f"{prefix}name"))):
            return {"model_provider": _text(place.get(f"{prefix}provider")), "model_name": name}
    return {}


def _datasets(result: Result) -> dict[str, str]:
    """Id -> name of the datasets of a knowledge retrieval's documents, best document first."""
    found = result.outputs.get("result")
    documents = found.get("value") if isinstance(found, dict) else None
    places = (
        [d.get("metadata") for d in documents if isinstance(d, dict)] if isinstance(documents, list) else []
    )
    return {
        p["dataset_id"]: _text(p.get("dataset_name")) or ""
        for p in places
        if isinstance(p, dict) and _text(p.get("dataset_id"))
    }


def _round(metadata: dict[str, Any]) -> dict[str, Any]:
    return {name: metadata.get(name) for name in ("iteration_id", "iteration_index", "loop_id", "loop_index")}


def _tool_info(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """What the engine tells of a node's tool. The rest of its metadata has fields of its own."""
    info = metadata.get("tool_info")
    return {"tool_info": info} if info else None


def _retries(execution: Execution, shift: int) -> dict[str, Any]:
    attempts = [
        {
            "error": r.error,
            "error_type": r.node_run_result.error_type,
            "started_at": microseconds(r.start_at) + shift,
        }
        for r in execution.retries
    ]
    return {"retry_count": len(attempts), "retries": attempts or None}


def _node(
    context: RunContext, execution: Execution, body: dict[str, Any], fields: dict[str, Any]
) -> TraceEvent:
    started, parent = execution.started, execution.parent_execution_id
    return TraceEvent(
        **context.fields(),
        kind=Kind.NODE_EXECUTION,
        source_id=context.rename(started.id),
        parent_id=parent and context.rename(parent),
        name=context.titles.get(started.node_id),
        node_type=started.node_type,
        plugin_name=started.provider_id or None,
        started_at=microseconds(started.start_at) + context.shift,
        node_execution=NodeExecution(
            node_id=started.node_id,
            workflow_id=context.start.workflow_id,
            index=execution.index,
            predecessor_node_id=execution.predecessor_node_id,
            **_retries(execution, context.shift),
            **body,
        ),
        **fields,
    )


def ended_node(context: RunContext, execution: Execution, end: EndedData, priced: bool) -> TraceEvent:
    """A node execution with a result.

    It starts at its first attempt; the elapsed time is that of the last attempt.
    """
    result, usage = end.node_run_result, end.node_run_result.llm_usage
    model, first_token = _model(result), usage.time_to_first_token
    datasets = _datasets(result) if execution.started.node_type == "knowledge-retrieval" else {}
    body = {
        **_round(result.metadata),
        "elapsed_time": microseconds(end.finished_at) - microseconds(end.start_at),
        "process_data": result.process_data or None,
        "dataset_names": tuple(datasets.values()),
        "model_mode": _text(result.process_data.get("model_mode")),
        "finish_reason": _text(result.process_data.get("finish_reason")),
        "metadata": _tool_info(result.metadata),
    }
    fields = {
        **model,
        **usage_fields(usage, priced),
        # a container's usage repeats that of a child; only a model has a first token
        "time_to_first_token": seconds(first_token) if model and first_token is not None else None,
        "dataset_ids": tuple(datasets),
        "ended_at": microseconds(end.finished_at) + context.shift,
        "status": result.status,
        "error": end.error or result.error or None,
        # if an error strategy took over, the result has no error, and its class is among the outputs
        "error_type": result.error_type
        or (_text(result.outputs.get("error_type")) if result.status == "exception" else None),
        "inputs": result.inputs,
        "outputs": result.outputs,
    }
    return _node(context, execution, body, fields)


def stopped_node(context: RunContext, execution: Execution, end: GraphEnd) -> TraceEvent:
    """A node execution that was cut off by the end of its run. The engine reports no result and no time."""
    body = _round(execution.started.node_run_result.metadata)
    fields = {
        "ended_at": microseconds(end.at) + context.shift,
        "status": "stopped",
        "inputs": execution.inputs,
    }
    return _node(context, execution, body, fields)


def ended_run(context: RunContext, end: GraphEnd, elapsed: Decimal, priced: bool) -> TraceEvent:
    """A run. `elapsed`: seconds of all its segments, without pauses."""
    start = context.start
    return TraceEvent(
        **context.fields(),
        **usage_fields(end.llm_usage, priced),
        kind=Kind.WORKFLOW_RUN,
        source_id=context.rename(start.run_id),
        name=start.workflow,
        mode=start.mode,
        started_at=microseconds(start.at) + context.shift,
        ended_at=microseconds(end.at) + context.shift,
        status=end.status,
        error=end.error or None,
        workflow_run=WorkflowRun(
            workflow_id=start.workflow_id,
            query=context.system.query,
            elapsed_time=seconds(elapsed),
            steps=end.node_run_steps,
            exceptions_count=end.exceptions_count,
        ),
        inputs=start.inputs,
        outputs=end.outputs,
    )
