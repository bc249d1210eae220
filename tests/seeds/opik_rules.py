"""What Opik's seed needs beyond the common rules: ids by docs/sinks/opik.md, and values that depend on the
operation.

Written from the seed and the documents, not with the sink's code.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from connectors.sdk.contract import Enriched
from tests.harness.recount_events import classes_of, repeats

PROJECT: Final = "Default Project"
SCORES: Final = {"feedback", "evaluation"}
WORTH: Final = {"relevant": 1, "irrelevant": 0}
"""Of labels without a number, which Opik does not have."""
LLM_KINDS: Final = {"suggested_question", "generate_name", "prompt_generation"}
TYPES: Final = {"moderation": "guardrail", "dataset_retrieval": "tool", "tool": "tool"}
NODE_TYPES: Final = {"llm": "llm", "tool": "tool", "knowledge-retrieval": "tool"}
SPAN_TYPES: Final = {
    "llm": "llm",
    "embedding": "llm",
    "tool": "tool",
    "retriever": "tool",
    "reranker": "tool",
    "guardrail": "guardrail",
}


def v7(record: Enriched, name: bytes) -> str:
    raw = (record.context.trace_started_at // 1000).to_bytes(6, "big") + hashlib.blake2b(
        name, digest_size=10
    ).digest()
    return str(uuid.UUID(int=int.from_bytes(raw, "big") & ~(0xF << 76) & ~(3 << 62) | 7 << 76 | 2 << 62))


def trace_id(record: Enriched) -> str:
    return v7(record, f"{PROJECT}\0{record.context.root_trace_id}\0".encode())


def span_id(record: Enriched, span: bytes | None) -> str | None:
    return (
        None if span is None else v7(record, f"{PROJECT}\0{record.context.root_trace_id}\0".encode() + span)
    )


def span(record: Enriched) -> bool:
    return record.event.kind not in SCORES


def head(record: Enriched) -> bool:
    """Whether the operation is the root of its trace."""
    event, context = record.event, record.context
    if not span(record) or context.parent_span_id is not None:
        return False
    others = {event.message_id, event.workflow_run_id} - {None, event.source_id}
    own = event.kind in {"message", "workflow_run"} or not others
    return context.root_trace_id == event.source_id or (own and context.root_trace_id == event.trace_id)


def rated_trace(record: Enriched) -> bool:
    return record.context.parent_source_id in (None, record.context.root_trace_id)


def kind(record: Enriched) -> str:
    """Opik's type of the span."""
    event = record.event
    if event.kind == "message":
        return "general" if event.workflow_run_id else "llm"
    if event.kind.endswith("node_execution"):
        chat = "llm" if event.node_execution is not None and event.node_execution.model_mode else "general"
        return NODE_TYPES.get(event.node_type or "", chat)
    if event.kind == "span":
        return SPAN_TYPES.get(event.span_kind or "", "general")
    return "llm" if event.kind in LLM_KINDS else TYPES.get(event.kind, "general")


def counted(record: Enriched) -> bool:
    """Whether the span's tokens are not those of other spans."""
    return record.event.kind not in SCORES and not repeats(record.event)


def tokens_of(name: str) -> Callable[[Enriched], int | None]:
    """A rule: the tokens of a class, if the classes fit the totals."""
    return lambda record: (classes_of(record.event) or {}).get(name)


def uncached(record: Enriched) -> int | None:
    classes, given = classes_of(record.event), record.event.input_tokens
    if classes is None or given is None or record.context.provider_name != "anthropic":
        return None
    return given - classes.get("cache_read", 0) - classes.get("cache_write", 0)


def model_is_told(record: Enriched) -> bool:
    e = record.event
    tokens = (e.input_tokens, e.output_tokens, e.total_tokens)
    return (span(record) and kind(record) == "llm") or (
        counted(record) and any(t is not None for t in tokens)
    )


def cost(record: Enriched) -> float | None:
    event = record.event
    if not counted(record):
        return None
    text = record.context.estimated_cost
    if text is not None:
        return float(Decimal(text))
    if event.currency not in (None, "USD"):
        return None
    if event.total_price is not None:
        return float(Decimal(event.total_price))
    if event.input_price is None or event.output_price is None:
        return None
    return float(Decimal(event.input_price) + Decimal(event.output_price))


def tags(record: Enriched) -> list[str]:
    event = record.event
    second = {
        "message": event.mode,
        "node_execution": event.node_type,
        "draft_node_execution": event.node_type,
        "span": event.span_kind,
        "tool": record.context.tool_name or event.tool_name,
        "prompt_generation": event.operation_type,
    }.get(event.kind)
    first = "workflow" if event.kind == "workflow_run" else str(event.kind)
    return [first, *([second] if second else []), *event.tags]


def tool_text(record: Enriched, name: str) -> Any:
    """A tool's own inputs and outputs, else the event's."""
    own = getattr(record.event.tool, f"tool_{name}", None)
    return getattr(record.event, name) if own is None else own


def prompts(record: Enriched) -> Any:
    """A language model's prompts as chat messages."""
    node = record.event.node_execution
    try:
        found = json.loads((kind(record) == "llm" and node and node.process_data) or "{}").get("prompts")
    except ValueError:
        return None
    return found and [{"content" if k == "text" else k: v for k, v in p.items()} for p in found]


def wrapped(text: str | None, name: str) -> Any:
    value = None if text is None else json.loads(text)
    return value if value is None or isinstance(value, dict) else {name: value}


def error(record: Enriched) -> dict[str, str] | None:
    event = record.event
    if event.status not in {"failed", "exception"} and not event.error:
        return None
    text = event.error or ""
    return {
        "exception_type": event.error_type or "Error",
        "message": text,
        "traceback": text or event.status or "",
    }


def evaluation_value(record: Enriched) -> float | None:
    body = record.event.evaluation
    if body is None or body.number is not None:
        return None if body is None else body.number
    return WORTH.get(body.label or "") if body.flag is None else int(body.flag)


def json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


RULES: Final[dict[str, Callable[[Enriched], Any]]] = {
    "head": head,
    "below": lambda r: not head(r),
    "below_span": lambda r: span(r) and not head(r),
    "span": span,
    "tool_inputs": lambda r: r.event.tool is not None and r.event.tool.tool_inputs is not None,
    "tool_outputs": lambda r: r.event.tool is not None and r.event.tool.tool_outputs is not None,
    "trace_id": trace_id,
    "span_id": lambda r: span_id(r, r.context.span_id),
    "parent_id": lambda r: span_id(r, r.context.parent_span_id),
    "workflow_name": lambda r: (
        f"workflow_{(r.event.origin and r.event.origin.workflow_app_log_id) or r.event.workflow_run_id}"
    ),
    "type": kind,
    "tags": tags,
    "input": lambda r: {"messages": prompts(r)} if prompts(r) else wrapped(tool_text(r, "inputs"), "input"),
    "prompted": lambda r: bool(prompts(r)),
    "output": lambda r: wrapped(tool_text(r, "outputs"), "output"),
    "counted": counted,
    "cache_read": tokens_of("cache_read"),
    "cache_write": tokens_of("cache_write"),
    "reasoning": tokens_of("reasoning"),
    "input_audio": tokens_of("input_audio"),
    "output_audio": tokens_of("output_audio"),
    "uncached": uncached,
    "cache_write_1h": tokens_of("cache_write_1h"),
    "input_image": tokens_of("input_image"),
    "output_image": tokens_of("output_image"),
    "model_is_told": model_is_told,
    "cost": cost,
    "error": error,
    "rated": lambda r: r.event.rating is not None and rated_trace(r),
    "rated_span": lambda r: r.event.rating is not None and not rated_trace(r),
    "withdrawn": lambda r: r.event.rating is None,
    "category": lambda r: r.event.rating,
    "rating": lambda r: {"like": 1, "dislike": 0}.get(r.event.rating or ""),
    "of_trace": lambda r: r.event.evaluation_target == "trace",
    "of_operation": lambda r: r.event.evaluation_target == "operation",
    "of_session": lambda r: r.event.evaluation_target == "session",
    "evaluation_value": evaluation_value,
    "evaluation_category": lambda r: r.event.evaluation and r.event.evaluation.label,
    "score_name": lambda r: (
        "admin_feedback" if r.event.origin and r.event.origin.from_source == "admin" else "user_feedback"
    ),
}
CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "ms": lambda v: v / 1000,
    "json_or_text": json_or_text,
    "short": lambda v: v[:150],
}
