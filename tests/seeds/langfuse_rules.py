"""What langfuse.yaml names: Langfuse's values, worked out from its documentation and seed 001."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from connectors.sdk.contract import Enriched
from tailrace.records import Evaluation
from tests.harness.recount_events import classes_of, repeats
from tests.seeds.rules import iso


def span_of(source_id: str | None) -> str | None:
    """Seed 003's span id, which Langfuse's observation ids are."""
    return None if source_id is None else hashlib.sha256(source_id.encode()).hexdigest()[:16]


def trace_of(correlation_id: str) -> str:
    try:
        return uuid.UUID(correlation_id).hex
    except ValueError:
        return hashlib.sha256(correlation_id.encode()).hexdigest()[:32]


def contains(r: Enriched) -> bool:
    """Whether tokens and cost are those of other observations."""
    return repeats(r.event)


def own_application(r: Enriched) -> bool:
    """A span of an application that is none of Dify's."""
    return r.event.kind == "span" and not (r.event.message_id or r.event.workflow_run_id)


def user(r: Enriched) -> str | None:
    """Seed 001: user_session_id is the user; one user for all of a trace."""
    names = (r.context.session_id, r.event.session_id, r.context.user_id, r.event.user_id)
    return next((n for n in (names[2:] if own_application(r) else names) if n), None)


def session(r: Enriched) -> str | None:
    names = (r.context.conversation_id, r.event.conversation_id, r.context.session_id, r.event.session_id)
    return next((n for n in (names if own_application(r) else names[:2]) if n), None)


def of_session(r: Enriched) -> bool:
    return r.event.evaluation_target == "session"


def judged(r: Enriched) -> Evaluation:
    assert r.event.evaluation is not None
    return r.event.evaluation


def result(r: Enriched) -> tuple[Any, str]:
    """Value and type of the score that an evaluation becomes."""
    body = judged(r)
    if body.number is not None:
        return body.number, "NUMERIC"
    return (body.label, "CATEGORICAL") if body.label else (1 if body.flag else 0, "BOOLEAN")


def trace_name(r: Enriched) -> str | None:
    root = r.context.root_trace_id
    if r.event.kind == "draft_node_execution":
        return r.event.name
    if root == r.event.message_id:
        return f"message_{root}"
    if root == r.context.root_run_id:
        return f"workflow_{root}"
    return (
        None
        if r.context.parent_span_id
        else {"span": r.event.name, "prompt_generation": r.event.operation_type}.get(
            str(r.event.kind), str(r.event.kind)
        )
    )


def usage(r: Enriched) -> str | None:
    if contains(r):
        return None
    e = r.event
    found = {"input": e.input_tokens, "output": e.output_tokens, "total": e.total_tokens}
    classes = classes_of(e) or {}
    if classes:  # buckets that have no tokens in common, as Langfuse adds them up
        read, write, hour = (classes.get(n, 0) for n in ("cache_read", "cache_write", "cache_write_1h"))
        thought, spoken = classes.get("reasoning", 0), classes.get("output_audio", 0)
        audio = classes.get("input_audio", 0) - classes.get("cache_read_audio", 0)
        found["input"] = (e.input_tokens or 0) - read - write - audio
        found["output"] = (e.output_tokens or 0) - thought - spoken
        found |= {"input_cache_read": read or None, "input_cache_creation": write - hour or None}
        found |= {"input_cache_creation_1h": hour or None, "input_audio_tokens": audio or None}
        found |= {"output_reasoning_tokens": thought or None, "output_audio_tokens": spoken or None}
    found = {k: v for k, v in found.items() if v is not None}
    return json.dumps(found, separators=(",", ":")) if found else None


def cost(r: Enriched) -> str | None:
    """Decimal text as it is, as JSON numbers, in US dollars."""
    e = r.event
    if contains(r):
        return None
    if r.context.estimated_cost is not None:
        return f'{{"total":{r.context.estimated_cost}}}'
    total = e.total_price
    if total is None and e.input_price is not None and e.output_price is not None:
        total = str(Decimal(e.input_price) + Decimal(e.output_price))
    if total is None:
        return None
    found = {"input": e.input_price, "output": e.output_price, "total": total}
    found = {k: v for k, v in found.items() if v is not None}
    return (
        "{" + ",".join(f'"{k}":{v}' for k, v in found.items()) + "}" if e.currency in (None, "USD") else None
    )


def level(r: Enriched) -> str:
    if r.event.error or r.event.status in ("failed", "exception", "error"):
        return "ERROR"
    said = r.event.suggested_question.level if r.event.suggested_question else None
    if said in ("DEBUG", "DEFAULT", "WARNING", "ERROR"):
        return said
    return "WARNING" if r.event.status in ("partial-succeeded", "stopped") else "DEFAULT"


def tags(*names: str) -> Callable[[Enriched], list[str]]:
    """The kind's, then the values of event fields, then the event's own tags; each once."""

    def rule(r: Enriched) -> list[str]:
        kind = [getattr(r.event, n[1:]) if n.startswith(".") else n for n in names]
        return list(dict.fromkeys(t for t in (*kind, *r.event.tags) if t))

    return rule


def rater(r: Enriched) -> str:
    assert r.event.origin is not None
    return r.event.origin.from_end_user_id or r.event.origin.from_account_id or r.event.user_id or ""


def prompts(r: Enriched) -> str | None:
    """A language model node's prompts, with text as content."""
    node = r.event.node_execution
    if (
        node is None
        or node.process_data is None
        or r.event.node_type not in ("llm", "question-classifier", "parameter-extractor")
    ):
        return None
    found = json.loads(node.process_data).get("prompts")
    if not found:
        return None
    messages = [{"content" if k == "text" else k: v for k, v in prompt.items()} for prompt in found]
    return json.dumps(messages, separators=(",", ":"), ensure_ascii=False)


NODES: Final = {
    "llm": "generation",
    "question-classifier": "generation",
    "parameter-extractor": "generation",
    "agent": "agent",
    "knowledge-retrieval": "retriever",
    "tool": "tool",
    "iteration": "chain",
    "loop": "chain",
}

RULES: Final[dict[str, Callable[[Enriched], Any]]] = {
    "run_span": lambda r: span_of(r.event.workflow_run_id),
    "message_span": lambda r: span_of(r.event.message_id),
    "message_trace": lambda r: trace_of(str(r.event.message_id)),
    "workflow_name": lambda r: (
        f"workflow_{(r.event.origin and r.event.origin.workflow_app_log_id) or r.event.workflow_run_id}"
    ),
    "message_name": lambda r: f"message_{r.event.message_id}",
    "message_type": lambda r: "chain" if r.event.workflow_run_id else "generation",
    "node_type": lambda r: NODES.get(str(r.event.node_type), "generation" if r.event.model_name else "span"),
    "span_type": lambda r: {"task": "span", "llm": "generation", "reranker": "retriever"}.get(
        str(r.event.span_kind), str(r.event.span_kind)
    ),
    "trace_name": trace_name,
    "user": user,
    "session": session,
    "usage": usage,
    "cost": cost,
    "level": level,
    "tier": lambda r: None if contains(r) else r.event.service_tier,
    "model": lambda r: None if contains(r) else r.context.request_model or r.event.model_name,
    "first_token": lambda r: (
        None
        if r.event.time_to_first_token is None
        else iso(r.event.started_at + r.event.time_to_first_token, "milliseconds")
    ),
    "start": lambda r: str(r.event.started_at // 1000 * 1_000_000),
    "end": lambda r: str(max(r.event.started_at, r.event.ended_at) // 1000 * 1_000_000),
    "status_code": lambda r: 2 if level(r) == "ERROR" else None,
    "workflow_tags": tags("workflow", ".mode"),
    "message_tags": tags("message", ".mode"),
    "moderation_tags": tags("moderation"),
    "suggested_question_tags": tags("suggested_question"),
    "dataset_retrieval_tags": tags("dataset_retrieval"),
    "tool_tags": tags("tool", ".tool_name"),
    "generate_name_tags": tags("generate_name"),
    "prompt_generation_tags": tags("prompt_generation"),
    "draft_tags": tags("draft"),
    "own_tags": tags(),
    "foreign_price": lambda r: not contains(r) and bool(r.event.currency) and r.event.currency != "USD",
    "marks": lambda r: ",".join(r.context.marks),
    "price_table": lambda r: None if contains(r) else r.context.price_table,
    "documents": lambda r: (
        r.event.dataset_retrieval.documents
        if r.event.dataset_retrieval and r.event.outputs is not None
        else None
    ),
    "temperature": lambda r: r.event.attributes.get("gen_ai.request.temperature"),
    "unprompted": lambda r: prompts(r) is None,
    "node_input": lambda r: prompts(r) or r.event.inputs,
    "node_inputs": lambda r: r.event.inputs if prompts(r) else None,
    "score_id": lambda r: trace_of(f"{r.event.message_id}\0{rater(r)}\0user-feedback"),
    "score_value": lambda r: {"like": 1, "dislike": -1}.get(str(r.event.rating), 0),
    "rating": lambda r: r.event.rating or "withdrawn",
    "evaluation_id": lambda r: trace_of(r.event.source_id or ""),
    "evaluated_trace": lambda r: None if of_session(r) else trace_of(r.event.trace_id or ""),
    "evaluated_operation": lambda r: span_of(r.event.parent_id),
    "evaluated_session": lambda r: r.event.conversation_id if of_session(r) else None,
    "evaluation_value": lambda r: result(r)[0],
    "evaluation_type": lambda r: result(r)[1],
    "label_of_number": lambda r: judged(r).label if result(r)[1] == "NUMERIC" else None,
    "evaluation_source": lambda r: judged(r).source and str(judged(r).source),
}
CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    # microseconds as seconds in decimal text, without a float
    "decimal_seconds": lambda v: (
        str(v // 1_000_000) + (f".{v % 1_000_000:06d}".rstrip("0") if v % 1_000_000 else "")
    ),
}
