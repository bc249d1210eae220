"""What alibaba.yaml names: values by Alibaba's conventions, worked out from their text and seed 002."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, Final

from connectors.sdk.contract import Enriched
from tests.harness.recount_events import repeats

KINDS: Final = {
    "workflow_run": "WORKFLOW",
    "moderation": "STEP",
    "suggested_question": "LLM",
    "dataset_retrieval": "RETRIEVER",
    "tool": "TOOL",
    "generate_name": "LLM",
    "prompt_generation": "LLM",
}
NODES: Final = {
    "llm": "LLM",
    "question-classifier": "LLM",
    "parameter-extractor": "LLM",
    "knowledge-retrieval": "RETRIEVER",
    "tool": "TOOL",
    "agent": "AGENT",
}
SPANS: Final = {"task": "STEP", "guardrail": "STEP", "chain": "WORKFLOW"}
OPERATIONS: Final = {
    "WORKFLOW": "invoke_workflow",
    "ENTRY": "enter",
    "LLM": "chat",
    "TOOL": "execute_tool",
    "RETRIEVER": "retrieval",
    "AGENT": "invoke_agent",
    "STEP": "run_task",
    "EMBEDDING": "embeddings",
    "RERANKER": "rerank",
}


def kind(r: Enriched) -> str:
    """gen_ai.span.kind."""
    e = r.event
    if e.kind == "message":
        return "ENTRY" if e.workflow_run_id else "LLM"
    if "node_execution" in e.kind:
        return NODES.get(str(e.node_type), "STEP")
    if e.kind == "span":
        return SPANS.get(str(e.span_kind), str(e.span_kind).upper())
    return KINDS[str(e.kind)]


def dify(r: Enriched) -> bool:
    return r.event.kind != "span" or bool(r.event.message_id or r.event.workflow_run_id)


def user(r: Enriched) -> str | None:
    names = (r.context.session_id, r.event.session_id, r.context.user_id, r.event.user_id)
    return next((n for n in (names if dify(r) else names[2:]) if n), None)


def session(r: Enriched) -> str | None:
    names = (r.context.conversation_id, r.event.conversation_id, r.context.session_id, r.event.session_id)
    return next((n for n in (names[:2] if dify(r) else names) if n), None)


def span_of(source_id: str | None) -> str | None:
    return None if source_id is None else hashlib.sha256(source_id.encode()).hexdigest()[:16]


def text(content: str | None) -> str | None:
    """Content as people read it: a JSON string without its quotes."""
    if content is None or not content.startswith('"'):
        return content
    return str(json.loads(content))


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def given(r: Enriched) -> str | None:
    e = r.event
    fallbacks = (
        text(e.tool.tool_inputs) if e.tool else None,
        e.message.query if e.message else None,
        e.dataset_retrieval.query if e.dataset_retrieval else None,
        e.prompt_generation.instruction if e.prompt_generation else None,
    )
    return text(e.inputs) if e.inputs is not None else next((f for f in fallbacks if f is not None), None)


def made(r: Enriched) -> str | None:
    e = r.event
    if e.outputs is not None:
        return text(e.outputs)
    if e.tool and e.tool.tool_outputs is not None:
        return text(e.tool.tool_outputs)
    return e.prompt_generation.output if e.prompt_generation else None


def failed(r: Enriched) -> bool:
    return bool(r.event.error) or r.event.status in ("failed", "exception")


def status_code(r: Enriched) -> int | None:
    return 2 if failed(r) else 1 if r.event.status in ("succeeded", "normal") else None


def asks(r: Enriched) -> list[tuple[str, list[dict[str, Any]]]]:
    """Role and parts of each message to a model."""
    e = r.event
    if e.kind == "message" and e.message and e.message.query:
        return [("user", [{"type": "text", "content": e.message.query}])]
    if e.node_execution is None or kind(r) != "LLM":
        return []
    try:
        prompts = json.loads(e.node_execution.process_data or "{}").get("prompts", [])
    except ValueError:
        return []
    return [(p["role"], [{"type": "text", "content": p["text"]}]) for p in prompts]


def input_messages(r: Enriched) -> str | None:
    found = asks(r)
    return compact([{"role": role, "parts": parts} for role, parts in found]) if found else None


def output_messages(r: Enriched) -> str | None:
    e = r.event
    answer = None
    if e.outputs is not None and e.kind == "message":
        answer = text(e.outputs) if e.outputs.startswith('"') else None
    elif e.outputs is not None and kind(r) == "LLM" and "node_execution" in e.kind:
        answer = json.loads(e.outputs).get("text")
    if answer is None:
        return None
    reason = (e.node_execution.finish_reason if e.node_execution else None) or (
        "error" if failed(r) else "stop"
    )
    parts = [{"type": "text", "content": answer}]
    return compact([{"role": "assistant", "parts": parts, "finish_reason": reason}])


def document(one: dict[str, Any]) -> dict[str, Any]:
    """With the members that the conventions ask for, first."""
    about = one.get("metadata", {})
    own = about.get("segment_id") or about.get("document_id")  # the part that was found, else the whole
    named = {"id": own, "score": about.get("score")}
    return {**{k: v for k, v in named.items() if v is not None}, **one}


def documents(r: Enriched) -> str | None:
    e = r.event
    if e.dataset_retrieval and e.dataset_retrieval.documents is not None:
        listed = json.loads(e.dataset_retrieval.documents)
        return (
            compact([document(d) for d in listed])
            if isinstance(listed, list)
            else e.dataset_retrieval.documents
        )
    if kind(r) == "RETRIEVER" and "node_execution" in e.kind and e.outputs:
        result = json.loads(e.outputs)["result"]
        return compact([document(d) for d in (result if isinstance(result, list) else result["value"])])
    return None


def query(r: Enriched) -> str | None:
    e = r.event
    if e.dataset_retrieval:
        return e.dataset_retrieval.query
    return json.loads(e.inputs or "{}").get("query") if kind(r) == "RETRIEVER" else None


def tool_value(r: Enriched, field: str) -> str | None:
    """Arguments and result of a node or span that is a tool; of a tool event those in its body."""
    e = r.event
    if e.kind == "tool":
        found: str | None = getattr(e.tool, field) if e.tool else None
    else:
        found = (e.inputs if field == "tool_inputs" else e.outputs) if kind(r) == "TOOL" else None
    return text(found)


def first_token(r: Enriched) -> int | None:
    return None if r.event.time_to_first_token is None else r.event.time_to_first_token * 1000


def otel_kind(r: Enriched) -> int:
    """1 internal, 2 server, 3 client, 4 producer, 5 consumer."""
    if r.context.parent_span_id is None:
        return 2
    said = r.event.span.otel_kind if r.event.span else None
    return {"client": 3, "producer": 4, "consumer": 5}.get(
        said or "", 3 if kind(r) == "LLM" and not said else 1
    )


def linked(r: Enriched) -> tuple[str, str] | None:
    """Trace and span id of a caller's trace that is named by an id of OpenTelemetry's."""
    said = r.event.external_trace_id or ""
    if not re.fullmatch("[0-9a-f]{32}", said):
        return None
    span = span_of(said)
    assert span is not None
    return said, span


def number(r: Enriched) -> float | None:
    said = r.event.attributes.get("gen_ai.request.temperature")
    return None if said is None else float(said)


def reason(r: Enriched) -> list[str] | None:
    bodies = (r.event.span, r.event.node_execution)
    found = next((b.finish_reason for b in bodies if b is not None), None)
    return [found] if found else None


RULES: Final[dict[str, Callable[[Enriched], Any]]] = {
    "kind": kind,
    "operation": lambda r: OPERATIONS[kind(r)],
    "framework": lambda r: None if r.event.kind == "span" else "dify",
    "session": session,
    "user": user,
    "input": given,
    "output": made,
    "start": lambda r: str(r.event.started_at * 1000),
    "end": lambda r: str(max(r.event.started_at, r.event.ended_at) * 1000),
    "status_code": status_code,
    "unset": lambda r: status_code(r) is None,
    "trace": lambda r: r.context.message_trace_id.hex(),
    "parent": lambda r: None if r.context.parent_span_id is None else r.context.parent_span_id.hex(),
    "own": lambda r: r.context.span_id.hex(),
    "otel_kind": otel_kind,
    "repeated": lambda r: repeats(r.event) and kind(r) != "AGENT",
    "counted": lambda r: not repeats(r.event) or kind(r) == "AGENT",
    "priced": lambda r: not repeats(r.event),
    "modelled": lambda r: not repeats(r.event) or kind(r) in ("AGENT", "RETRIEVER"),
    "input_messages": input_messages,
    "output_messages": output_messages,
    "unprompted": lambda r: input_messages(r) is None,
    "documents": documents,
    "query": query,
    "datasets": lambda r: ",".join(r.event.dataset_ids) or None,
    "tool_arguments": lambda r: tool_value(r, "tool_inputs"),
    "tool_result": lambda r: tool_value(r, "tool_outputs"),
    "first_token": first_token,
    "finish_reasons": reason,
    "agent": lambda r: r.event.name if kind(r) == "AGENT" else None,
    "link_trace": lambda r: (linked(r) or (None, None))[0],
    "link_span": lambda r: (linked(r) or (None, None))[1],
    "link_attribute": lambda r: "external_trace_id" if linked(r) else None,
    "temperature": number,
    "retry_count": lambda r: (r.event.node_execution.retry_count if r.event.node_execution else None) or None,
}
CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {"plain": text}
