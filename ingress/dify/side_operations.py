"""What runs beside a message: moderation, retrieval, tools, suggested questions, the conversation's name.

Pure. Dify gives none of them an id, and most of them neither a tenant nor a user.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, TypeGuard

from ingress.dify.messages import origin, user
from ingress.dify.operation import Operation
from ingress.dify.task import Task
from ingress.dify.zones import TIMERS
from tailrace.formats import Note
from tailrace.records import Kind

OF_THE_MESSAGE: Final = "is the answered message's, not the suggestion's; left out"
OF_THE_LOG: Final = "from metadata.message_id: the trace info has the id of the run's log entry there"
REPEATED: Final = "are those of the answered message, and counted there (usage_repeats)"


def moderation(task: Task) -> Operation:
    """The check of an input. Raises `InvalidEvent`: a time is not valid."""
    info, fields, who = task.info, *_common(task)
    fields.update(name="moderation", status="succeeded")
    return Operation(
        Kind.MODERATION,
        task.no_id(),
        fields,
        body={
            "moderation_type": "input",  # Dify records no other
            "action": info.text("action"),
            "flagged": info.flag("flagged"),
            "preset_response": info.text("preset_response"),
            "query": info.text("query"),
        },
        origin=who,
        notes=task.notes,
        node=task.metadata.text("node_execution_id"),
    )


def suggested_question(task: Task) -> Operation:
    """Questions that were suggested after an answer. Raises `InvalidEvent`: a time is not valid.

    What Dify gives as their output and their tokens are those of the answered message.
    """
    info, fields, who = task.info, *_common(task)
    metadata = task.metadata
    who["message_status"] = info.text("status") or metadata.text("status")
    if fields.pop("outputs") is not None:
        task.notes.append(Note("unplaced", info.path("outputs"), OF_THE_MESSAGE))
    tokens = info.count("total_tokens")
    if tokens:
        task.notes.append(Note("read", "total_tokens", REPEATED))
    error = info.text("error")
    fields.update(
        name="suggested_question",
        status="failed" if error else "succeeded",
        error=error,
        model_provider=info.text("model_provider") or metadata.text("ls_provider"),
        model_name=info.text("model_id") or metadata.text("ls_model_name"),
        total_tokens=tokens or None,
        usage_repeats=True if tokens else None,
        workflow_run_id=fields["workflow_run_id"] or info.text("workflow_run_id"),
    )
    return Operation(
        Kind.SUGGESTED_QUESTION,
        task.no_id(),
        fields,
        body={
            "questions": info.texts("suggested_question"),
            "level": info.text("level"),
            "status_message": info.text("status_message"),
        },
        origin=who,
        notes=task.notes,
        node=task.metadata.text("node_execution_id"),
    )


def dataset_retrieval(task: Task) -> Operation:
    """A search in datasets. Raises `InvalidEvent`: a time is not valid."""
    info, fields, who = task.info, *_common(task)
    metadata = task.metadata
    who["message_status"] = metadata.text("status")
    documents = _documents(task)
    error = info.text("error")
    embedding = metadata.content("embedding_models")
    datasets = _datasets(documents)
    for dataset in _keys(metadata.value("embedding_models")):
        datasets.setdefault(dataset, "")
    fields.update(
        name="dataset_retrieval",
        status="failed" if error else "succeeded",
        error=error,
        model_provider=metadata.text("ls_provider"),
        model_name=metadata.text("ls_model_name"),
        dataset_ids=tuple(datasets),
    )
    query = task.info.value("inputs")
    return Operation(
        Kind.DATASET_RETRIEVAL,
        task.no_id(),
        fields,
        body={
            "query": query if isinstance(query, str) and query else None,
            "documents": info.content("documents"),
            "document_count": len(documents) if info.has("documents") else None,
            "dataset_names": tuple(datasets.values()) if any(datasets.values()) else (),
            "embedding_models": None if embedding is None else str(embedding),
            "rerank_model_provider": metadata.text("rerank_model_provider"),
            "rerank_model_name": metadata.text("rerank_model_name"),
        },
        origin=who,
        notes=task.notes,
        node=task.metadata.text("node_execution_id"),
    )


def tool(task: Task) -> Operation:
    """A call of a tool by an agent. Raises `InvalidEvent`: the tool has no name, or a time is not valid."""
    info, fields, who = task.info, *_common(task)
    name = info.required("tool_name")
    error = info.text("error")
    taken = [info.raw("time_cost"), info.raw("error"), info.raw("tool_parameters")]
    said = any(part not in (None, b"0", b"0.0", b'""', b"{}", b"[]") for part in taken)
    cost = info.seconds("time_cost")
    fields.update(name=name, tool_name=name, status="failed" if error else "succeeded", error=error)
    who.update(
        message_file_data=info.content("message_file_data"),
        message_file_id=task.metadata.text("message_file_id"),
        created_by_role=task.metadata.text("created_by_role"),
        created_user_id=task.metadata.text("created_user_id"),
    )
    return Operation(
        Kind.TOOL,
        task.no_id(),
        fields,
        body={
            "tool_inputs": info.content("tool_inputs"),
            "tool_outputs": info.content("tool_outputs"),
            "tool_config": info.content("tool_config"),
            "tool_parameters": info.content("tool_parameters"),
            "time_cost": cost,
            "file_urls": info.texts("file_url"),
        },
        origin=who,
        notes=task.notes,
        node=task.metadata.text("node_execution_id"),
        call=(name, blake2b(repr(taken).encode(), digest_size=8).digest()) if said else None,
        duration=cost,
    )


def generate_name(task: Task) -> Operation:
    """The name of a conversation. Raises `InvalidEvent`: a time is not valid."""
    fields, who = _common(task)
    fields.update(name="generate_conversation_name", status="succeeded")
    node = task.metadata.text("node_execution_id")
    return Operation(Kind.GENERATE_NAME, task.no_id(), fields, origin=who, notes=task.notes, node=node)


def _common(task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    message, own = task.metadata.text("message_id"), task.info.text("message_id")
    fields, who = task.common(TIMERS, message), origin(task)
    if message is not None and own is not None and own != message:
        who["workflow_app_log_id"] = own
        task.notes.append(Note("filled", "message_id", OF_THE_LOG))
    user(task, fields, who)
    fields["workflow_run_id"] = task.metadata.text("workflow_run_id")
    return fields, who


def _documents(task: Task) -> list[Any]:
    found = task.info.value("documents")
    return found if isinstance(found, list) else []


def _datasets(documents: list[Any]) -> dict[str, str]:
    """Id -> name of the documents' datasets, best document first."""
    found: dict[str, str] = {}
    for document in documents:
        metadata = document.get("metadata") if isinstance(document, dict) else None
        place = metadata if isinstance(metadata, dict) else {}
        dataset, name = place.get("dataset_id"), place.get("dataset_name")
        if _is_text(dataset) and dataset not in found:
            found[dataset] = name if _is_text(name) else ""
    return found


def _keys(value: Any) -> list[str]:
    return [key for key in value if _is_text(key)] if isinstance(value, dict) else []


def _is_text(value: Any) -> TypeGuard[str]:
    try:
        return isinstance(value, str) and bool(value) and bool(value.encode())
    except UnicodeEncodeError:
        return False
