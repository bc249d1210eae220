"""Maps an enriched event to Opik's objects. Pure. Names, tags and fields are those of seed 000.

An operation becomes a span; the root of a trace becomes a trace and its root span; a rating or an evaluation
becomes a feedback score (connectors/sinks/opik/scores.py). An operation's context has all that is needed of
its parent, so the order of arrival does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from connectors.mapping import changes, costs
from connectors.mapping.members import JsonMember, joined
from connectors.mapping.prompts import messages
from connectors.mapping.rows import Plan, RecordValues, Table, fields_of, plan
from connectors.mapping.values import as_object, iso
from connectors.sdk.contract import Enriched, Payload, Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.opik import ids, metadata, scores
from connectors.sinks.opik.scores import Parts
from connectors.sinks.opik.values import LARGEST, in_time, price
from tailrace import roll_ups
from tailrace.records import Kind, TraceContext, TraceEvent


class Operation(NamedTuple):
    """How events of a kind become spans, and traces if they are roots."""

    metadata: Table
    type: str = "general"
    """Opik's type, for kinds that always have the same; `_looks` decides for the others."""
    name: str = ""
    """The span's name; empty: the kind."""


_NODE_TYPES: Final[Mapping[str | None, str]] = {"llm": "llm", "tool": "tool", "knowledge-retrieval": "tool"}
_SPAN_TYPES: Final[Mapping[str | None, str]] = {
    "llm": "llm",
    "embedding": "llm",
    "tool": "tool",
    "retriever": "tool",
    "reranker": "tool",
    "guardrail": "guardrail",
}
"""Span kind -> Opik's type, which is general, tool, llm or guardrail. The span kind is also a tag."""

PROVIDERS: Final[Mapping[str, str]] = {
    "gcp.gemini": "google_ai",
    "gcp.vertex_ai": "google_vertexai",
    "aws.bedrock": "bedrock",
    "mistral_ai": "mistral",
}
"""OpenTelemetry's name of a provider -> the name in Opik's price table, if they differ."""

_START_UNKNOWN: Final = (
    "no start of the trace that is scored is known, and Opik's ids need it: nothing of the trace came "
    "before, or its start was forgotten; raise streams.remembered_start_bytes, and publish all events of a "
    "trace with root_started_at"
)
_FAILED: Final = frozenset({"failed", "exception"})
_MAX_ENVIRONMENT: Final = 150
"""Most characters of an environment."""
_HOUR_MS: Final = 3_600_000
_EVALUATION: Final = "evaluation"

_dumps: Final[Callable[[Any], bytes]] = orjson.dumps
_PROJECT: Final = JsonMember("project_name")
_NAME: Final = JsonMember("name")
_TYPE: Final = JsonMember("type")
_PARENT: Final = JsonMember("parent_span_id")
_INPUT: Final = JsonMember("input")
_INPUTS: Final = JsonMember("inputs")
_OUTPUT: Final = JsonMember("output")
_ENVIRONMENT: Final = JsonMember("environment")
_ERROR: Final = JsonMember("error_info")
_TTFT: Final = JsonMember("ttft")
_USAGE: Final = JsonMember("usage")
_COST: Final = JsonMember("total_estimated_cost")
_MODEL: Final = JsonMember("model")
_PROVIDER: Final = JsonMember("provider")
_THREAD: Final = JsonMember("thread_id")


def to_parts(
    record: Enriched, project: str, window_ms: int = 0, id_time_ms: int = 0
) -> Parts | Skip | Rejected:
    """The objects of an event. Does not raise for any event that the codec decodes.

    Args:
        record: The event with its context.
        project: Opik's project.
        window_ms: Most milliseconds between the ids' time and the record's append time in `trace.events`;
            0: no limit.
        id_time_ms: The ids' time, Unix milliseconds; 0: the start of the trace.

    Returns:
        `Skip` for kinds that are not sent to Opik. `Rejected` for times and texts that Opik cannot store, for
        ids outside the window, and for ratings and evaluations of traces whose start is not known.
    """
    event, context = record.event, record.context
    operation = _PLANS.get(event.kind)
    if operation is None:
        how = KINDS[event.kind]
        if isinstance(how, Skip):
            return how
        if event.kind == _EVALUATION and (found := _apart(event, context, project)) is not None:
            return found
    trace = context.root_trace_id or event.trace_id or event.source_id
    if trace is None:
        return Rejected("invalid_id", "neither the event nor its context names a trace")
    ms = id_time_ms or context.trace_started_at // 1000
    if not in_time(ms * 1000):
        return Rejected(
            "time_out_of_range",
            f"the trace starts at {context.trace_started_at} µs; Opik stores 1970 to 2261",
        )
    try:
        if operation is None:
            if not id_time_ms and "start_unknown" in context.marks and event.root_started_at is None:
                return Rejected("trace_start_unknown", _START_UNKNOWN)
            scored = _SCORED[event.kind]
            return scored(event, context, project, trace, ms)
        if window_ms and not id_time_ms and abs(context.appended_at - ms) > window_ms:
            return _beyond(context.appended_at - ms, window_ms)
        if not (in_time(event.started_at) and in_time(event.ended_at)):
            field = "ended_at" if in_time(event.started_at) else "started_at"
            return Rejected(
                "time_out_of_range", f"{field} is {getattr(event, field)} µs; Opik stores 1970 to 2261"
            )
        return _operation(operation, event, context, project, trace, ms)
    except (TypeError, ValueError) as e:  # orjson's errors: lone surrogates, numbers beyond 64 bits
        return Rejected("not_json", f"cannot be written as JSON: {type(e).__name__}")


def _apart(event: TraceEvent, context: TraceContext, project: str) -> Parts | Skip | Rejected | None:
    """What needs no trace: the evaluation of a session, or one that names nothing; None for others."""
    try:
        return scores.of_session(event, context, project)
    except (TypeError, ValueError) as e:  # orjson's errors, as below
        return Rejected("not_json", f"cannot be written as JSON: {type(e).__name__}")


def payload(parts: Parts) -> Payload:
    """The payload of a record: its bytes in requests, and its objects, which Opik's rate limit counts."""
    trace, span, score, _ = parts
    size = objects = 0
    if trace is not None:
        size, objects = len(trace) + 1, 1
    if span is not None:
        size, objects = size + len(span) + 1, objects + 1
    if score is not None:
        size, objects = size + len(score[3] or score[1]) + 1, objects + 1
    return Payload(parts, size, objects)


def _beyond(late_ms: int, window_ms: int) -> Rejected:
    window = f"{window_ms / _HOUR_MS:g} h"
    if late_ms < 0:
        return Rejected(
            "too_far_future",
            f"the trace starts {-late_ms / _HOUR_MS:.1f} h after its event was appended; ids may be at most "
            f"{window} ahead",
        )
    return Rejected(
        "too_old",
        f"the trace began {late_ms / _HOUR_MS:.1f} h before its event was appended; {remedy(window)}",
    )


def remedy(window: str) -> str:
    """What to do about ids that are too old, for an error.

    Args:
        window: The longest age that Opik accepts, e.g. "24 h".
    """
    return (
        f"Opik takes ids of the last {window}. To send copies with new ids, run another instance of this "
        "sink with id_time_ms set to the current time; if your server takes older ids, set id_window_hours"
    )


def is_root(event: TraceEvent, context: TraceContext, trace: str) -> bool:
    """Whether the operation is the root of its trace: it has no parent, and the trace is named after it."""
    if context.parent_span_id is not None:
        return False
    source = event.source_id
    if source == trace:
        return True
    if event.trace_id is not None and event.trace_id != trace:
        return False
    if event.kind in ("message", "workflow_run"):
        return True
    return event.message_id in (None, source) and event.workflow_run_id in (None, source)


def _operation(
    how: _OperationPlan, event: TraceEvent, context: TraceContext, project: str, trace: str, ms: int
) -> Parts:
    scope, trace_id = ids.trace_scope(ms, project, trace)
    name, kind, tags = _looks(how, event, context)
    span_id = ids.span_id(ms, scope, context.span_id)
    shared = _shared(how, event, context, scope, kind, tags, ms)
    root = is_root(event, context, trace)
    if root:
        shared = [b"".join(shared)]
    out = [f'{{"id":"{span_id}","trace_id":"{trace_id}"'.encode()]
    _PROJECT.text(out, project)
    _NAME.text(out, name)
    _TYPE.text(out, kind)
    out += shared
    _spent(out, event, context, kind)
    out.append(b"}")
    span = b"".join(out)
    if not root:
        return None, span, None, ms
    out = [f'{{"id":"{trace_id}"'.encode()]
    _PROJECT.text(out, project)
    _NAME.text(out, "message" if event.kind == "message" else name)
    out += shared
    _THREAD.optional(out, event.conversation_id or context.conversation_id or None)
    out.append(b"}")
    return b"".join(out), span, None, ms


def _shared(
    how: _OperationPlan,
    event: TraceEvent,
    context: TraceContext,
    scope: bytes,
    kind: str,
    tags: list[str],
    ms: int,
) -> list[bytes]:
    """Members that a trace and its root span have in common; for other spans also the parent."""
    known: list[bytes] = []
    how.metadata.write(RecordValues(event, context), known)
    prompts = _prompts(event) if kind == "llm" else None
    if prompts is not None and event.inputs is not None:
        _INPUTS.json(known, event.inputs)
    end, updated = max(event.started_at, event.ended_at), event.published_at
    if updated is None or not in_time(updated):
        updated = end
    times = (
        f',"start_time":"{iso(event.started_at)}","end_time":"{iso(end)}","last_updated_at":"{iso(updated)}"'
    )
    out = [
        times.encode(),
        b',"source":"sdk","tags":',
        _dumps(tags),
        b',"metadata":',
        joined(known),
    ]
    if context.parent_span_id is not None:
        _PARENT.text(out, ids.parent_id(ms, scope, context.parent_span_id))
    _content(out, event, prompts)
    if event.environment:
        _ENVIRONMENT.text(out, event.environment[:_MAX_ENVIRONMENT])
    _error(out, event)
    if event.time_to_first_token is not None and event.time_to_first_token >= 0:
        _TTFT.encoded(out, _dumps(event.time_to_first_token / 1000))
    return out


def _prompts(event: TraceEvent) -> bytes | None:
    """The prompts of a node's model, in the object that Opik shows as chat messages."""
    body = event.node_execution
    prompts = None if body is None or body.process_data is None else messages(body.process_data)
    return None if prompts is None else b'{"messages":' + prompts + b"}"


def _content(out: list[bytes], event: TraceEvent, prompts: bytes | None) -> None:
    """Writes input and output.

    For a tool they are its own, if it has some, else those of its message. For a model the input is its
    prompts, if it has some, else the node's inputs. What is not used here is in the metadata.
    """
    given, returned, tool = event.inputs, event.outputs, event.tool
    if tool is not None:
        given = given if tool.tool_inputs is None else tool.tool_inputs
        returned = returned if tool.tool_outputs is None else tool.tool_outputs
    value = as_object(given, "input") if prompts is None else prompts
    if value is not None:
        _INPUT.encoded(out, value)
    value = as_object(returned, "output")
    if value is not None:
        _OUTPUT.encoded(out, value)


def _spent(out: list[bytes], event: TraceEvent, context: TraceContext, kind: str) -> None:
    """Writes tokens, cost and model of a span.

    Opik sums tokens and cost over all spans of a trace, so a span that repeats those of others has none.
    """
    spent = None
    named = context.provider_name or event.model_provider
    if not roll_ups.of_event(event):
        spent = metadata.usage(event, LARGEST, named)
        if spent is not None:
            _USAGE.encoded(out, spent)
        if (cost := price(costs.dollars(event, context))) is not None:
            _COST.encoded(out, cost)
    if spent is not None or kind == "llm":
        _MODEL.optional(out, context.request_model or event.model_name or None)
        if named:
            _PROVIDER.text(out, PROVIDERS.get(named, named))


def _looks(how: _OperationPlan, event: TraceEvent, context: TraceContext) -> tuple[str, str, list[str]]:
    """Name, Opik's type and tags of a span; as in seed 000 for the kinds that it has."""
    kind: str = event.kind
    detail: str | None = None
    if kind in ("node_execution", "draft_node_execution"):
        detail = event.node_type
        name, of_type = event.name or detail or kind, _NODE_TYPES.get(detail)
        if of_type is None:
            body = event.node_execution
            of_type = "llm" if body is not None and body.model_mode else "general"
    elif kind == "span":
        detail = event.span_kind
        name, of_type = event.name or "span", _SPAN_TYPES.get(detail, "general")
    elif kind == "message":
        name, of_type, detail = "llm", "general" if event.workflow_run_id else "llm", event.mode
    elif kind == "workflow_run":
        log_id = event.origin.workflow_app_log_id if event.origin is not None else None
        name, of_type = f"workflow_{log_id or event.workflow_run_id or event.source_id or ''}", "general"
    elif kind == "tool":
        detail = context.tool_name or event.tool_name or event.name
        name, of_type = detail or "tool", "tool"
    else:
        name, of_type = how.name or kind, how.type
        detail = event.operation_type if kind == "prompt_generation" else None
    tags = ["workflow" if kind == "workflow_run" else kind]
    if detail:
        tags.append(detail)
    if event.tags:
        tags += event.tags
    return name, of_type, tags


def _error(out: list[bytes], event: TraceEvent) -> None:
    message = event.error or ""
    if event.status not in _FAILED and not message.strip():
        return
    kind = event.error_type or ""
    info = {
        "exception_type": kind if kind.strip() else "Error",
        "message": message,
        "traceback": message if message.strip() else event.status or "failed",
    }
    _ERROR.encoded(out, _dumps(info))


Scored = Callable[[TraceEvent, TraceContext, str, str, int], "Parts | Skip | Rejected"]
_NONE: Final = Skip("not_traced")
KINDS: Final[Mapping[Kind, Operation | Scored | Skip]] = {
    Kind.WORKFLOW_RUN: Operation(metadata.WORKFLOW_RUN),
    Kind.NODE_EXECUTION: Operation(metadata.NODE),
    Kind.DRAFT_NODE_EXECUTION: Operation(metadata.NODE),
    Kind.MESSAGE: Operation(metadata.MESSAGE),
    Kind.MODERATION: Operation(metadata.MODERATION, "guardrail"),
    Kind.SUGGESTED_QUESTION: Operation(metadata.SUGGESTED_QUESTION, "llm"),
    Kind.DATASET_RETRIEVAL: Operation(metadata.DATASET_RETRIEVAL, "tool"),
    Kind.TOOL: Operation(metadata.TOOL),
    Kind.GENERATE_NAME: Operation(metadata.GENERATE_NAME, "llm", "generate_conversation_name"),
    Kind.PROMPT_GENERATION: Operation(metadata.PROMPT_GENERATION, "llm"),
    Kind.SPAN: Operation(metadata.SPAN),
    Kind.FEEDBACK: scores.of_feedback,
    Kind.EVALUATION: scores.of_evaluation,
    Kind.APP_CREATED: _NONE,
    Kind.APP_UPDATED: _NONE,
    Kind.APP_DELETED: _NONE,
    Kind.REHYDRATION_FAILED: _NONE,
    Kind.LINK: _NONE,
    Kind.UNKNOWN: _NONE,
}
"""How each kind is mapped: as a span (and its trace), as a score, or not at all."""
_SCORED: Final[dict[str, Scored]] = {
    str(kind): how for kind, how in KINDS.items() if not isinstance(how, Operation | Skip)
}
_OPERATIONS: Final = {kind: how for kind, how in KINDS.items() if isinstance(how, Operation)}
FIELDS: Final = fields_of(*(how.metadata for how in _OPERATIONS.values())) | {
    *scores.FIELDS,
    "attributes",
    changes.FIELD,
    "ended_at",
    "environment",
    "error_type",
    "input_tokens",
    "inputs",
    "kind",
    "name",
    "output_tokens",
    "outputs",
    "published_at",
    "started_at",
    "tags",
    "time_to_first_token",
    "token_classes",
    "trace_id",
    "usage_repeats",
}
"""Fields of `TraceEvent` that this mapping reads, in its tables and in its functions."""


class _OperationPlan:
    """The table of a kind, compiled."""

    def __init__(self, how: Operation) -> None:
        self.metadata: Final[Plan] = plan(how.metadata, JsonMember)
        self.type: Final[str] = how.type
        self.name: Final[str] = how.name


_PLANS: Final[dict[str, _OperationPlan]] = {
    str(kind): _OperationPlan(how) for kind, how in _OPERATIONS.items()
}
