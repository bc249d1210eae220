"""Maps an enriched event to an OTLP span. Pure. Names are those of seed 003 (telemetry data dictionary).

Workflow runs, node executions, drafts (seed 003, section 4) and events of kind span become spans. All other
kinds are structured logs in seed 003 (section 8) and are skipped. Attributes without a value are left out
(section 10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from connectors.filters.content import shown
from connectors.mapping import changes
from connectors.mapping.attributes import JsonAttribute, WireAttribute
from connectors.mapping.rows import SECONDS, TEXTS, Key, Plan, RecordValues, Row, Table, fields_of, plan
from connectors.otlp import as_json, wire
from connectors.otlp.wire import CLIENT, CONSUMER, ERROR, INTERNAL, OK, PRODUCER, SERVER, UNSET
from connectors.sdk.contract import Enriched, Skip
from connectors.sdk.outcomes import Rejected
from tailrace.records import Kind, ParentKind, TraceContext, TraceEvent

MAX_NS: Final = 2**64 - 1
OPERATIONS: Final[Mapping[str, str]] = {
    "llm": "chat",
    "embedding": "embeddings",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "retriever": "retrieval",
}
"""Span kind -> gen_ai.operation.name, for those in the OpenTelemetry GenAI conventions."""
OPENINFERENCE: Final[Mapping[str, str]] = {
    "task": "CHAIN",
    "llm": "LLM",
    "chain": "CHAIN",
    "tool": "TOOL",
    "retriever": "RETRIEVER",
    "embedding": "EMBEDDING",
    "agent": "AGENT",
    "guardrail": "GUARDRAIL",
    "reranker": "RERANKER",
}
"""Span kind -> openinference.span.kind. OpenInference has no task; its general step is a chain."""
OTEL_KINDS: Final[Mapping[str, int]] = {
    "internal": INTERNAL,
    "client": CLIENT,
    "server": SERVER,
    "producer": PRODUCER,
    "consumer": CONSUMER,
}
FAILED: Final = frozenset({"failed", "exception"})
_ZERO8: Final = bytes(8)
_ZERO16: Final = bytes(16)
_MESSAGE: Final = ParentKind.MESSAGE
_LINKED: Final = ("tailrace.link", "calling_run")


# -- values that are not fields
def _run_id(event: TraceEvent) -> str | None:
    return event.workflow_run_id or event.source_id


def _run_time(event: TraceEvent, context: TraceContext) -> int:
    """Execution time in microseconds: as the engine measured it, else the time from start to end."""
    return _elapsed(event, None if event.workflow_run is None else event.workflow_run.elapsed_time)


def _node_time(event: TraceEvent, context: TraceContext) -> int:
    return _elapsed(event, None if event.node_execution is None else event.node_execution.elapsed_time)


def _elapsed(event: TraceEvent, measured: int | None) -> int:
    return max(0, event.ended_at - event.started_at) if measured is None else measured


def _finish_reasons(event: TraceEvent, context: TraceContext) -> tuple[str, ...] | None:
    reason = None if event.span is None else event.span.finish_reason
    return (reason,) if reason else None


def _operation(span_kind: str) -> str | None:
    return OPERATIONS.get(span_kind)


def _openinference(span_kind: str) -> str | None:
    return OPENINFERENCE.get(span_kind)


def _shown(content: object) -> str:
    """A content field as text: the JSON text of the event; a reference in its place without its quotes."""
    return shown(str(content))


def _of_run(event: TraceEvent) -> str:
    return f"ref:workflow_run_id={_run_id(event)}"


def _of_node(event: TraceEvent) -> str:
    return f"ref:node_execution_id={event.source_id}"


# -- attributes
_CALLED: Final = (
    Row("dify.tenant_id", "tenant_id or context.tenant_id"),
    Row("dify.app_id", "app_id or context.app_id"),
    Row("dify.message.id", "message_id"),
    Row("dify.conversation.id", "conversation_id or context.conversation_id"),
)
_INVOKED_BY: Final = "origin.invoked_by or user_id or context.user_id"
_MODEL: Final = (
    Row("gen_ai.provider.name", "context.provider_name or model_provider"),
    Row("gen_ai.request.model", "context.request_model or model_name"),
    Row("gen_ai.response.model", "response_model"),
    Row("gen_ai.request.service_tier", "service_tier"),
    Row("gen_ai.usage.input_tokens", "input_tokens"),
    Row("gen_ai.usage.output_tokens", "output_tokens"),
    Row("gen_ai.usage.total_tokens", "total_tokens"),
    Row("gen_ai.usage.cache_read.input_tokens", "token_classes.cache_read"),
    Row("gen_ai.usage.cache_write.input_tokens", "token_classes.cache_write"),
    Row("tailrace.usage.cache_write_1h.input_tokens", "token_classes.cache_write_1h"),
    Row("gen_ai.usage.reasoning.output_tokens", "token_classes.reasoning"),
    Row("gen_ai.usage.audio.input_tokens", "token_classes.input_audio"),
    Row("gen_ai.usage.image.input_tokens", "token_classes.input_image"),
    Row("gen_ai.usage.audio.cache_read.input_tokens", "token_classes.cache_read_audio"),
    Row("gen_ai.usage.audio.output_tokens", "token_classes.output_audio"),
    Row("gen_ai.usage.image.output_tokens", "token_classes.output_image"),
)
"""Provider and model under OpenTelemetry's names, as the processor found them.

Seed 003 has them in the companion logs, not on Dify's spans (section 4).
"""
_OWN: Final = (
    Row("tailrace.event_id", "event_id"),
    Row("tailrace.marks", "context.marks"),
    Row("tailrace.estimated_cost", "context.estimated_cost"),
    Row("tailrace.price_table", "context.price_table"),
    Row(changes.NAME, changes.content_changes),
)

_WORKFLOW: Final = (
    Row("dify.trace_id", "workflow_run_id or source_id"),
    *_CALLED,
    Row("dify.workflow.id", "workflow_run.workflow_id"),
    Row("dify.workflow.run_id", "workflow_run_id or source_id"),
    Row("dify.workflow.status", "status"),
    Row("dify.workflow.error", "error", empty=False),
    Row("dify.workflow.elapsed_time", _run_time, SECONDS),
    Row("dify.invoke_from", "invoke_from or origin.triggered_from"),
    Row("dify.invoked_by", _INVOKED_BY),
    Row("dify.parent.trace_id", "parent_run_id or parent_trace_id"),
    Row("dify.parent.workflow.run_id", "parent_run_id"),
    Row("dify.parent.node.execution_id", "parent_node_execution_id"),
    Row("dify.parent.app.id", "parent_app_id"),
    *_MODEL,
    Row("dify.app.name", "app_name or context.app_name"),
    *_OWN,
)
"""Seed 003, section 4.1."""
_WORKFLOW_CONTENT: Final = (
    Row("dify.workflow.inputs", "inputs", _shown),
    Row("dify.workflow.outputs", "outputs", _shown),
    Row("dify.workflow.query", "workflow_run.query", _shown),
)
"""Section 8.1.1."""
_NODE: Final = (
    *_CALLED,
    Row("dify.workflow.run_id", "workflow_run_id"),
    Row("dify.node.execution_id", "source_id"),
    Row("dify.node.type", "node_type"),
    Row("dify.node.title", "name"),
    Row("dify.node.status", "status"),
    Row("dify.node.error", "error", empty=False),
    Row("dify.node.elapsed_time", _node_time, SECONDS),
    Row("dify.node.invoked_by", _INVOKED_BY),
    Row("dify.app.name", "app_name or context.app_name"),
    Row("dify.workflow.id", "node_execution.workflow_id"),
    Row("dify.node.id", "node_execution.node_id"),
    Row("dify.node.index", "node_execution.index"),
    Row("dify.node.predecessor_node_id", "node_execution.predecessor_node_id"),
    Row("dify.node.iteration_id", "node_execution.iteration_id"),
    Row("dify.node.loop_id", "node_execution.loop_id"),
    Row("dify.node.parallel_id", "node_execution.parallel_id"),
    Row("tailrace.node.retry_count", "node_execution.retry_count", empty=False),
    *_MODEL,
    *_OWN,
)
"""Sections 4.2 and 4.3, without the trace."""
_NODE_CONTENT: Final = (
    Row("dify.node.inputs", "inputs", _shown),
    Row("dify.node.outputs", "outputs", _shown),
    Row("dify.node.process_data", "node_execution.process_data", _shown),
)
"""Section 8.1.2."""
_SPAN: Final = (
    Row("gen_ai.operation.name", "span_kind", _operation),
    Row("openinference.span.kind", "span_kind", _openinference),
    *_MODEL,
    Row("gen_ai.tool.name", "context.tool_name or tool_name"),
    Row("gen_ai.conversation.id", "conversation_id or context.conversation_id"),
    Row("session.id", "session_id or context.session_id"),
    Row("user.id", "user_id or context.user_id"),
    Row("error.type", "error_type"),
    Row("gen_ai.response.finish_reasons", _finish_reasons, TEXTS),
    Row("dify.tenant_id", "tenant_id or context.tenant_id"),
    Row("dify.app_id", "app_id or context.app_id"),
    *_OWN,
)
"""OpenTelemetry GenAI and OpenInference names."""
_SPAN_CONTENT: Final = (
    Row("input.value", "inputs", _shown),
    Row("output.value", "outputs", _shown),
)


class Span(NamedTuple):
    """How events of a kind become spans."""

    name: str
    """The span's name; empty: the event's name."""
    rows: Table
    content: Table
    reference: Callable[[TraceEvent], str] | None
    """The text that replaces content that is not sent; None: such content is left out."""


_LOG: Final = Skip("log_only")
KINDS: Final[Mapping[Kind, Span | Skip]] = {
    Kind.WORKFLOW_RUN: Span("dify.workflow.run", _WORKFLOW, _WORKFLOW_CONTENT, _of_run),
    Kind.NODE_EXECUTION: Span(
        "dify.node.execution",
        (Row("dify.trace_id", "workflow_run_id or trace_id"), *_NODE),
        _NODE_CONTENT,
        _of_node,
    ),
    Kind.DRAFT_NODE_EXECUTION: Span(
        "dify.node.execution.draft", (Row("dify.trace_id", "source_id"), *_NODE), _NODE_CONTENT, _of_node
    ),
    Kind.SPAN: Span("", _SPAN, _SPAN_CONTENT, None),
    Kind.MESSAGE: _LOG,
    Kind.MODERATION: _LOG,
    Kind.SUGGESTED_QUESTION: _LOG,
    Kind.DATASET_RETRIEVAL: _LOG,
    Kind.TOOL: _LOG,
    Kind.GENERATE_NAME: _LOG,
    Kind.PROMPT_GENERATION: _LOG,
    Kind.FEEDBACK: _LOG,
    Kind.EVALUATION: _LOG,
    Kind.APP_CREATED: _LOG,
    Kind.APP_UPDATED: _LOG,
    Kind.APP_DELETED: _LOG,
    Kind.REHYDRATION_FAILED: _LOG,
    Kind.LINK: _LOG,
    Kind.UNKNOWN: _LOG,
}
"""How each kind is mapped: as a span, or not at all."""
_SPANS: Final = {kind: how for kind, how in KINDS.items() if isinstance(how, Span)}

FIELDS: Final = fields_of(*(table for how in _SPANS.values() for table in (how.rows, how.content))) | {
    "attributes",
    changes.FIELD,
    "ended_at",
    "host_name",
    "kind",
    "span",
    "started_at",
}
"""Fields of `TraceEvent` that this mapping reads, in its tables and in its functions."""


class _SpanPlan:
    """The tables of a kind, compiled for one encoding."""

    def __init__(self, how: Span, key: Callable[[str], Key]) -> None:
        self.name: Final[str] = how.name
        self.attributes: Final[Plan] = plan(how.rows, key)
        self.content: Final[Plan] = plan(how.content, key)
        self.reference: Final = how.reference


class Encoding:
    """OTLP as protobuf or JSON, and the tables compiled for it."""

    def __init__(self, json: bool) -> None:
        self.json: Final = json
        key: Callable[[str], Key] = JsonAttribute if json else WireAttribute
        self.plans: Final[dict[str, _SpanPlan]] = {
            str(kind): _SpanPlan(how, key) for kind, how in _SPANS.items()
        }


PROTOBUF: Final = Encoding(json=False)
JSON: Final = Encoding(json=True)


def to_span(record: Enriched, encoding: Encoding, include: bool, on_spans: bool) -> bytes | Skip | Rejected:
    """The span of an event, encoded. Does not raise for any event that the codec decodes.

    Args:
        record: The event with its context.
        encoding: `PROTOBUF` or `JSON`.
        include: Whether content is sent. If not, it is replaced by a reference on workflow and node spans
            (seed 003, section 9), and left out of others.
        on_spans: Whether workflow and node spans have content at all. Seed 003 puts it into companion logs.

    Returns:
        The encoded span. `Skip` for kinds that are not spans, and for superseded events. `Rejected` for what
        OTLP cannot represent: times before 1970 or after 2554, ids of zeros, text with lone surrogates,
        numbers beyond 64 bits.
    """
    event, context = record.event, record.context
    kind_plan = encoding.plans.get(event.kind)
    if kind_plan is None:
        how = KINDS[event.kind]
        assert isinstance(how, Skip)
        return how
    marks = context.marks
    if marks and "superseded" in marks:
        return Skip("superseded")
    started, ended = event.started_at, event.ended_at
    start, end = started * 1000, (ended if ended > started else started) * 1000
    if start < 0 or end > MAX_NS:
        field = "started_at" if not 0 <= start <= MAX_NS else "ended_at"
        return Rejected(
            "time_out_of_range", f"{field} is {getattr(event, field)} µs; OTLP takes times from 1970 to 2554"
        )
    trace_id, span_id = context.run_trace_id, context.span_id
    if trace_id == _ZERO16 or span_id == _ZERO8:
        return Rejected("invalid_id", "the context's trace or span id is all zero")
    parent = context.parent_span_id
    if parent == _ZERO8 or context.parent_kind == _MESSAGE:  # a message is a log, so the run is the root
        parent = None
    name = kind_plan.name or event.name or "span"
    kind = INTERNAL if kind_plan.name else _span_kind(event)
    failed = event.error or event.status in FAILED
    code = ERROR if failed else OK if event.status == "succeeded" else UNSET
    message = (event.error or "") if failed else ""
    state = (event.span.trace_state or "") if event.span is not None else ""
    linked = context.linked_span_id
    try:
        attributes = _attributes(kind_plan, event, context, encoding.json, include, on_spans)
        if encoding.json:
            links = () if linked is None or linked == _ZERO8 else (as_json.link(trace_id, linked, _LINKED),)
            return as_json.span(
                trace_id, span_id, parent, name, kind, start, end, attributes, code, message, links, state
            )
        links = () if linked is None or linked == _ZERO8 else (wire.link(trace_id, linked, _LINKED),)
        return wire.span(
            trace_id, span_id, parent, name, kind, start, end, attributes, code, message, links, state
        )
    except (UnicodeEncodeError, OverflowError, TypeError) as e:  # TypeError: orjson's, for lone surrogates
        return Rejected("not_encodable", f"a value cannot be written as OTLP ({type(e).__name__})")


def _attributes(
    kind_plan: _SpanPlan, event: TraceEvent, context: TraceContext, json: bool, include: bool, on_spans: bool
) -> list[bytes]:
    out: list[bytes] = []
    source = RecordValues(event, context)
    kind_plan.attributes.write(source, out)
    reference = kind_plan.reference
    if reference is None:
        if include:
            kind_plan.content.write(source, out)
        if event.attributes:
            _add_free(kind_plan, source, out, json, include)
    elif on_spans and include:
        kind_plan.content.write(source, out)
    elif on_spans:
        kind_plan.content.write_instead(source, out, reference(event))
    return out


def _add_free(
    kind_plan: _SpanPlan, source: RecordValues, out: list[bytes], json: bool, include: bool
) -> None:
    """Adds the event's own attributes, except those whose names the tables have already written."""
    pairs: list[str] = []
    for key, value in source.event.attributes.items():
        taken = kind_plan.attributes.has(key, source) or (include and kind_plan.content.has(key, source))
        if key and not taken:
            pairs += (key, value)
    out += as_json.attributes(pairs) if json else wire.attributes(pairs)


def _span_kind(event: TraceEvent) -> int:
    """The OTLP span kind: the event's own if it has one, else CLIENT for calls of a model."""
    default = CLIENT if event.span_kind == "llm" else INTERNAL
    return OTEL_KINDS.get((event.span.otel_kind if event.span is not None else None) or "", default)
