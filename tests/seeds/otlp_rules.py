"""What otlp.yaml names: seed 003's ids (section 5) and OpenTelemetry's names, worked out from the
documents."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Any, Final

from connectors.sdk.contract import Enriched

_NAMES: Final = {
    "workflow_run": "dify.workflow.run",
    "node_execution": "dify.node.execution",
    "draft_node_execution": "dify.node.execution.draft",
}
_KINDS: Final = ["internal", "server", "client", "producer", "consumer"]
_OPERATIONS: Final = {
    "llm": "chat",
    "embedding": "embeddings",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "retriever": "retrieval",
}


def hashed(source_id: str) -> str:
    return hashlib.sha256(source_id.encode()).hexdigest()[:16]


def trace_id(r: Enriched) -> str:
    """Of the root run, else the run, else the trace; a draft's own id."""
    e, c = r.event, r.context
    correlation = (
        e.source_id if e.kind == "draft_node_execution" else c.root_run_id or e.workflow_run_id or e.trace_id
    )
    try:
        return uuid.UUID(str(correlation)).hex
    except ValueError:
        return hashlib.sha256(str(correlation).encode()).hexdigest()[:32]


def span_id(r: Enriched) -> str:
    return hashed(str(r.event.source_id))


def parent_span_id(r: Enriched) -> str | None:
    parent = r.context.parent_source_id
    return hashed(parent) if parent and r.context.parent_kind != "message" else None


def kind(r: Enriched) -> int:
    own = r.event.span.otel_kind if r.event.span else None
    if r.event.kind != "span":
        return 1
    return 1 + _KINDS.index(own) if own in _KINDS else 3 if r.event.span_kind == "llm" else 1


def elapsed(r: Enriched) -> float:
    body = r.event.workflow_run or r.event.node_execution
    own = body.elapsed_time if body else None
    return (max(0, r.event.ended_at - r.event.started_at) if own is None else own) / 1e6


def status(r: Enriched) -> int | None:
    if r.event.error or r.event.status in ("failed", "exception"):
        return 2
    return 1 if r.event.status == "succeeded" else None


RULES: Final[dict[str, Callable[[Enriched], Any]]] = {
    "trace_id": trace_id,
    "span_id": span_id,
    "parent_span_id": parent_span_id,
    "name": lambda r: _NAMES.get(r.event.kind, r.event.name),
    "kind": kind,
    "elapsed": elapsed,
    "status": status,
    "unset": lambda r: status(r) is None,
    "retries": lambda r: (r.event.node_execution and r.event.node_execution.retry_count) or None,
    "operation": lambda r: _OPERATIONS.get(r.event.span_kind or ""),
    "openinference": lambda r: r.event.span_kind.upper() if r.event.span_kind else None,
    "finish_reasons": lambda r: (
        [r.event.span.finish_reason] if r.event.span and r.event.span.finish_reason else None
    ),
    "temperature": lambda r: r.event.attributes.get("gen_ai.request.temperature"),
}
