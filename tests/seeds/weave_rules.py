"""What Weave's seed needs beyond the common rules: ids by docs/sinks/weave.md, and values that depend on the
operation.

Written from the seed and the documents, not with the sink's code.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any, Final

from connectors.sdk.contract import Enriched
from tests.harness.recount_events import classes_of, repeats

PROJECT: Final = "acme/support"
SCORES: Final = {"feedback", "evaluation"}
EMOJI: Final = {"like": "👍", "dislike": "👎"}
KINDS: Final = {
    "workflow_run": "chain",
    "moderation": "guardrail",
    "suggested_question": "llm",
    "dataset_retrieval": "retriever",
    "generate_name": "llm",
    "prompt_generation": "llm",
}
NODE_KINDS: Final = {
    "llm": "llm",
    "question-classifier": "llm",
    "parameter-extractor": "llm",
    "agent": "agent",
    "knowledge-retrieval": "retriever",
    "iteration": "chain",
    "loop": "chain",
}


def call(record: Enriched) -> bool:
    return record.event.kind not in SCORES


def hash8(text: str) -> str:
    return hashlib.sha256(text.encode()).digest()[:8].hex()


def hashed_uuid(*texts: str) -> str:
    """Of texts that are together no UUID."""
    return str(uuid.UUID(bytes=hashlib.sha256("\0".join(texts).encode()).digest()[:16]))


def parent_id(record: Enriched) -> str | None:
    parent = record.context.parent_span_id
    return None if parent is None else parent.hex()


def turn_id(record: Enriched) -> str | None:
    event, context = record.event, record.context
    if not (event.conversation_id or context.conversation_id):
        return None
    if context.parent_span_id is None:
        titled = event.kind in {"generate_name", "prompt_generation", "draft_node_execution"}
        return None if titled else context.span_id.hex()
    root = context.root_trace_id
    return hash8(root) if root is not None and root in (event.message_id, context.root_run_id) else None


def kind(record: Enriched) -> str:
    """Weave's kind of the call."""
    event = record.event
    if event.kind == "message":
        return "chain" if event.workflow_run_id else "llm"
    if event.kind.endswith("node_execution"):
        chat = "llm" if event.node_execution is not None and event.node_execution.model_mode else "tool"
        return NODE_KINDS.get(event.node_type or "", chat)
    if event.kind == "span":
        other = event.span_kind in {None, "task", "tool"}
        return "tool" if other else str(event.span_kind)
    return KINDS.get(event.kind, "tool")


def names(record: Enriched) -> tuple[str, str]:
    """Of the operation and of the call."""
    event = record.event
    if event.kind == "message":
        return "message", f"message_{event.message_id}"
    if event.kind == "workflow_run":
        log = event.origin and event.origin.workflow_app_log_id
        return "workflow", f"workflow_{log or event.workflow_run_id}"
    if event.kind.endswith("node_execution"):
        return event.node_type or "", event.name or ""
    if event.kind == "tool":
        tool = record.context.tool_name or event.tool_name or "tool"
        return tool, tool
    name = event.name or "" if event.kind == "span" else str(event.kind)
    return name, name


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


def prompts(record: Enriched) -> Any:
    """A language model's prompts as chat messages."""
    node = record.event.node_execution
    try:
        found = json.loads((kind(record) == "llm" and node and node.process_data) or "{}").get("prompts")
    except ValueError:
        return None
    return found and [{"content" if k == "text" else k: v for k, v in p.items()} for p in found]


def given(record: Enriched) -> Any:
    """What a call was given, as an object."""
    if prompts(record):
        return {"messages": prompts(record)}
    own: Any = None if record.event.tool is None else record.event.tool.tool_inputs
    text = record.event.inputs if own is None else own
    value = None if text is None else json.loads(text)
    return value if value is None or isinstance(value, dict) else {"input": value}


def output(record: Enriched) -> Any:
    own: Any = None if record.event.tool is None else record.event.tool.tool_outputs
    text = record.event.outputs if own is None else own
    return None if text is None else json.loads(text)


def failed(record: Enriched) -> bool:
    return record.event.status in {"failed", "exception"} or bool(record.event.error)


def usage_metadata(record: Enriched) -> dict[str, Any] | None:
    """Tokens by Weave's names, of any operation."""
    event, classes = record.event, classes_of(record.event) or {}
    found: dict[str, Any] = {
        "prompt_tokens": event.input_tokens,
        "completion_tokens": event.output_tokens,
        "total_tokens": event.total_tokens,
        "cache_read_input_tokens": classes.get("cache_read"),
        "cache_creation_input_tokens": classes.get("cache_write"),
    }
    for name, parts in (
        ("prompt", {"audio_tokens": "input_audio", "image_tokens": "input_image"}),
        (
            "completion",
            {"audio_tokens": "output_audio", "image_tokens": "output_image", "reasoning_tokens": "reasoning"},
        ),
    ):
        found[f"{name}_tokens_details"] = {k: classes[v] for k, v in parts.items() if v in classes} or None
    return {k: v for k, v in found.items() if v is not None} or None


def usage(record: Enriched) -> dict[str, Any] | None:
    """What Weave adds up."""
    counts = usage_metadata(record)
    if counts is None or repeats(record.event):
        return None
    model = record.context.request_model or record.event.model_name or "unknown"
    return {model: {"requests": 1, **counts}}


def rated(record: Enriched) -> str:
    """The id of the call that is rated."""
    parent = parent_id(record)
    return hash8(record.context.root_trace_id or "") if parent is None else parent


def rater(record: Enriched) -> str:
    event = record.event
    who = None if event.origin is None else event.origin.from_end_user_id or event.origin.from_account_id
    return who or event.user_id or event.source_id or ""


RULES: Final[dict[str, Callable[[Enriched], Any]]] = {
    "call": call,
    "call_id": lambda r: r.context.span_id.hex(),
    "trace_id": lambda r: str(uuid.UUID(bytes=r.context.message_trace_id)),
    "parent_id": parent_id,
    "turn_id": turn_id,
    "op_name": lambda r: names(r)[0],
    "display_name": lambda r: names(r)[1],
    "workflow_name": lambda r: names(r)[1],
    "message_name": lambda r: names(r)[1],
    "kind": kind,
    "tags": tags,
    "input": given,
    "output": output,
    "has_input": lambda r: call(r) and bool(given(r)),
    "has_output": lambda r: call(r) and output(r) not in (None, {}, [], ""),
    "prompted": lambda r: call(r) and bool(prompts(r)),
    "tool_inputs": lambda r: r.event.tool is not None and r.event.tool.tool_inputs is not None,
    "tool_outputs": lambda r: r.event.tool is not None and r.event.tool.tool_outputs is not None,
    "exception": lambda r: (r.event.error or r.event.status) if failed(r) else None,
    "succeeded": lambda r: int(not failed(r)),
    "failed": lambda r: int(failed(r)),
    "usage": usage,
    "usage_metadata": usage_metadata,
    "cache_write_1h": lambda r: (classes_of(r.event) or {}).get("cache_write_1h"),
    "cache_read_audio": lambda r: (classes_of(r.event) or {}).get("cache_read_audio"),
    "given": lambda r: r.event.rating is not None,
    "noted": lambda r: r.event.rating is not None and bool(r.event.feedback and r.event.feedback.content),
    "withdrawn": lambda r: r.event.rating is None,
    "rating": lambda r: r.event.rating,
    "evaluation_number": lambda r: r.event.evaluation and r.event.evaluation.number,
    "evaluation_label": lambda r: r.event.evaluation and r.event.evaluation.label,
    "evaluation_flag": lambda r: r.event.evaluation and r.event.evaluation.flag,
    "emoji": lambda r: EMOJI.get(r.event.rating or ""),
    "rater": rater,
    "rated_ref": lambda r: f"weave:///{PROJECT}/call/{rated(r)}",
    "reaction_id": lambda r: hashed_uuid(rated(r), rater(r), "wandb.reaction.1"),
    "note_id": lambda r: hashed_uuid(rated(r), rater(r), "wandb.note.1"),
    "evaluation_id": lambda r: hashed_uuid(rated(r), r.event.source_id or "", "tailrace.evaluation."),
    "evaluation_type": lambda r: f"tailrace.evaluation.{r.event.name}",
}


def json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {"json_or_text": json_or_text}
