"""`WorkflowNodeTraceInfo` and `DraftNodeExecutionTrace`: the execution of a node. Pure."""

from __future__ import annotations

from typing import Any

from ingress.dify.info import Info
from ingress.dify.operation import Operation, Within
from ingress.dify.task import Task
from ingress.dify.usage import currency, of_usage, without_zeros
from tailrace.formats import Note
from tailrace.records import Kind


def read(task: Task) -> Operation:
    """The operation of a node execution of a run.

    Raises:
        InvalidEvent: it lacks its id or its run's, or a time is not valid.
    """
    run = task.info.required("workflow_run_id")
    found = _read(task, Kind.NODE_EXECUTION)
    found.fields.update(task.parents(), workflow_run_id=run)
    return found


def read_draft(task: Task) -> Operation:
    """The operation of a node that was run alone, in the editor: a trace of its own.

    Raises:
        InvalidEvent: it lacks its id, or a time is not valid.
    """
    found = _read(task, Kind.DRAFT_NODE_EXECUTION)
    run = task.info.text("workflow_run_id")
    if run != found.source_id:  # Dify writes the execution's own id there if there was no run
        found.fields["workflow_run_id"] = run
    if task.metadata.raw("parent_trace_context") is not None:
        task.metadata.unread("parent_trace_context", "is left out: a draft is a trace of its own")
    return found


def _read(task: Task, kind: Kind) -> Operation:
    info, metadata = task.info, task.metadata
    source_id = info.required("node_execution_id")
    fields = task.common()
    for name in ("inputs", "outputs"):
        own = info.content(f"node_{name}")
        if own is not None and fields[name] is not None and own != fields[name]:
            info.unread(name, f"differs from node_{name}, which is taken")
        fields[name] = fields[name] if own is None else own
    process_data = info.content("process_data")
    inner = _object(task.info, "process_data")
    usage = _usage(inner, _object(task.info, "node_outputs"))
    model = info.text("model_name") or inner.text("model_name")
    within = Within(
        info.text("node_id"),
        info.text("node_type"),
        info.text("iteration_id"),
        info.count("iteration_index"),
        info.text("loop_id"),
        info.count("loop_index"),
    )
    fields.update(
        name=info.text("title"),
        node_type=within.node_type,
        status=info.text("status"),
        error=info.text("error"),
        model_provider=info.text("model_provider") or inner.text("model_provider"),
        model_name=model,
        input_tokens=info.count("prompt_tokens"),
        output_tokens=info.count("completion_tokens"),
        total_tokens=info.count("total_tokens"),
        total_price=info.price("total_price"),
        currency=currency(info),
        tool_name=info.text("tool_name"),
        plugin_name=metadata.text("plugin_name"),
        dataset_ids=metadata.texts("dataset_ids"),
        invoke_from=metadata.text("invoke_from"),
    )
    _fill_usage(task, fields, usage)
    if model is None:
        without_zeros(fields, info)
    elapsed = info.seconds("elapsed_time")
    return Operation(
        kind,
        source_id,
        fields,
        body={
            "node_id": within.node_id,
            "workflow_id": info.text("workflow_id"),
            "index": info.integer("index"),
            "predecessor_node_id": info.text("predecessor_node_id"),
            "iteration_id": within.iteration_id,
            "iteration_index": within.iteration_index,
            "loop_id": within.loop_id,
            "loop_index": within.loop_index,
            "parallel_id": info.text("parallel_id"),
            "elapsed_time": elapsed,
            "process_data": process_data,
            "credential_id": metadata.text("credential_id"),
            "credential_name": metadata.text("credential_name"),
            "dataset_names": metadata.texts("dataset_names"),
            "model_mode": inner.text("model_mode"),
            "finish_reason": inner.text("finish_reason"),
        },
        origin={"invoked_by": info.text("invoked_by")},
        notes=task.notes,
        within=within,
        duration=elapsed,
    )


def _object(info: Info, name: str) -> Info:
    """An object in the trace info of which only a few fields are looked at: it is kept as a whole."""
    raw = info.raw(name)
    return (info.inner(name) if raw is not None and raw[:1] == b"{" else None) or Info(name, {}, [])


def _usage(process_data: Info, outputs: Info) -> dict[str, Any]:
    """Of the node's model call; model nodes have it in both places."""
    for place in (process_data, outputs):
        raw = place.raw("usage")
        usage = place.inner("usage") if raw is not None and raw[:1] == b"{" else None
        if usage is not None:
            return of_usage(usage)
    return {}


def _fill_usage(task: Task, fields: dict[str, Any], usage: dict[str, Any]) -> None:
    for name, value in usage.items():
        own = fields.get(name)
        if own is None or (own in (0, "0", "0.0") and value not in (0, "0")):
            fields[name] = value
            task.notes.append(Note("filled", name, "from the usage in its data"))
