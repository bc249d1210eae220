"""`WorkflowTraceInfo`: a run of a workflow or a chatflow. Pure."""

from __future__ import annotations

from typing import Any

from ingress.dify.operation import Operation
from ingress.dify.task import Task
from ingress.dify.usage import without_zeros
from tailrace.records import Kind

CHATFLOW = "advanced-chat"
WORKFLOW = "workflow"


def read(task: Task) -> Operation:
    """The operation of a run.

    Raises:
        InvalidEvent: it lacks its id, or a time is not valid.
    """
    info, metadata = task.info, task.metadata
    run = info.required("workflow_run_id")
    fields: dict[str, Any] = {
        **task.common(),
        **task.parents(),
        "workflow_run_id": run,
        "status": info.text("workflow_run_status") or metadata.text("status"),
        "error": info.text("error"),
        "total_tokens": info.count("total_tokens"),
        "input_tokens": info.count("prompt_tokens"),
        "output_tokens": info.count("completion_tokens"),
    }
    without_zeros(fields, info)
    _content(task, fields, "inputs")
    _content(task, fields, "outputs")
    fields["mode"] = CHATFLOW if fields["message_id"] or fields["conversation_id"] else WORKFLOW
    elapsed = info.seconds("workflow_run_elapsed_time")
    query = info.text("query")
    return Operation(
        Kind.WORKFLOW_RUN,
        run,
        fields,
        body={
            "workflow_id": info.text("workflow_id"),
            "workflow_version": info.text("workflow_run_version") or metadata.text("version"),
            "query": query,
            "elapsed_time": elapsed,
        },
        origin={
            "invoked_by": info.text("invoked_by"),
            "triggered_from": metadata.text("triggered_from"),
            "workflow_app_log_id": info.text("workflow_app_log_id"),
            "file_list": info.texts("file_list"),
        },
        notes=task.notes,
        duration=elapsed,
    )


def _content(task: Task, fields: dict[str, Any], name: str) -> None:
    """Dify writes a run's content twice. The second one is taken if the first is missing."""
    twice = f"workflow_run_{name}"
    if fields[name] is None:
        fields[name] = task.info.content(twice)
    elif (other := task.info.raw(twice)) is not None and not task.info.repeats(name, other):
        task.info.unread(twice, f"differs from {name}, which is taken")
