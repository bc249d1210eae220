"""`MessageTraceInfo`: a turn of a chat, agent or completion application. Pure."""

from __future__ import annotations

from typing import Any, Final

from ingress.dify.info import Info
from ingress.dify.operation import Operation
from ingress.dify.task import Task
from ingress.dify.usage import currency
from tailrace.records import Kind

_STATUSES: Final = {"error": "failed"}
"""Dify's status of a message -> the one that all kinds have."""


def origin(task: Task) -> dict[str, Any]:
    """Who sent the message that an operation is, or belongs to."""
    metadata = task.metadata
    return {
        "from_source": task.text("from_source"),
        "from_end_user_id": metadata.text("from_end_user_id"),
        "from_account_id": task.text("from_account_id"),
        "agent_based": _either(task.info.flag("agent_based"), metadata.flag("agent_based")),
        "message_data": task.info.content("message_data"),
    }


def user(task: Task, fields: dict[str, Any], who: dict[str, Any]) -> None:
    """The sender is the user if Dify names no other."""
    fields["user_id"] = fields["user_id"] or who["from_end_user_id"] or who["from_account_id"]


def read(task: Task) -> Operation:
    """The operation of a message.

    Raises:
        InvalidEvent: it lacks its id, or a time is not valid.
    """
    info, metadata = task.info, task.metadata
    fields = task.common()
    message = fields["message_id"] or info.required("message_id")
    row = _row(info)
    who = origin(task)
    user(task, fields, who)
    status = metadata.text("status") or row.text("status")
    latency = row.seconds("provider_response_latency")
    fields.update(
        workflow_run_id=metadata.text("workflow_run_id") or row.text("workflow_run_id"),
        status=_STATUSES.get(status, status) if status else None,
        error=info.text("error") or row.text("error"),
        model_provider=metadata.text("ls_provider") or row.text("model_provider"),
        model_name=metadata.text("ls_model_name") or row.text("model_id"),
        input_tokens=info.count("message_tokens"),
        output_tokens=info.count("answer_tokens"),
        total_tokens=info.count("total_tokens"),
        total_price=row.price("total_price"),
        currency=currency(row),
        invoke_from=who["from_source"],
        mode=info.text("conversation_mode"),
        time_to_first_token=info.seconds("gen_ai_server_time_to_first_token"),
    )
    return Operation(
        Kind.MESSAGE,
        message,
        fields,
        body={
            "conversation_model": info.text("conversation_model"),
            "model_id": row.text("model_id") or metadata.text("ls_model_name"),
            "query": row.text("query"),
            "provider_response_latency": latency,
            "streaming": info.flag("is_streaming_request"),
            "time_to_generate": info.seconds("llm_streaming_time_to_generate"),
        },
        origin={
            **who,
            "message_file_data": info.content("message_file_data"),
            "file_list": info.texts("file_list"),
        },
        notes=task.notes,
        duration=latency,
    )


def _row(info: Info) -> Info:
    """The message's database row, of which a few columns are read: all of it is in origin.message_data."""
    raw = info.raw("message_data")
    return (info.inner("message_data") if raw is not None and raw[:1] == b"{" else None) or Info("", {}, [])


def _either(one: bool | None, other: bool | None) -> bool | None:
    return other if one is None else one
