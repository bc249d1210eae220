"""From an enriched event to an OTLP span: pure, and the names are those of seed 003 (telemetry data dictionary).

Spans are workflow runs, node executions, drafts (seed 003, section 4) and events of kind span. Everything else is a
structured log there (section 8), not a span. Attributes without a value are left out (section 10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from connectors.contract import Enriched, Skip
from connectors.outcomes import Rejected
from connectors.privacy import shown
from tailrace.records import Kind, ParentKind, TraceContext, TraceEvent

Value = str | int | float | bool | Sequence[str] | None
Attributes = Iterator[tuple[str, Value]]

MAX_NS: Final = 2**64 - 1
FIELDS: Final = frozenset(
    {
        "event_id", "kind", "trace_id", "source_id", "parent_trace_id", "parent_run_id", "parent_node_execution_id", "parent_app_id",
        "tenant_id", "app_id", "workflow_run_id", "message_id", "conversation_id", "user_id", "session_id", "host_name", "app_name",
        "name", "started_at", "ended_at", "status", "error", "error_type", "model_provider", "model_name", "input_tokens",
        "output_tokens", "total_tokens", "node_type", "span_kind", "tool_name", "invoke_from", "attributes", "origin",
        "workflow_run", "node_execution", "span", "inputs", "outputs",
    }
)  # fmt: skip
"""Fields of TraceEvent that this mapping reads."""

OPERATIONS: Final[Mapping[str, str]] = {
    "llm": "chat", "embedding": "embeddings", "tool": "execute_tool", "agent": "invoke_agent", "retriever": "retrieval",
}  # fmt: skip
"""Span kind -> gen_ai.operation.name, where the OpenTelemetry GenAI conventions have one."""
OPENINFERENCE: Final[Mapping[str, str]] = {
    "task": "CHAIN", "llm": "LLM", "chain": "CHAIN", "tool": "TOOL", "retriever": "RETRIEVER", "embedding": "EMBEDDING",
    "agent": "AGENT", "guardrail": "GUARDRAIL", "reranker": "RERANKER",
}  # fmt: skip
"""Span kind -> openinference.span.kind; OpenInference has no task, a chain is its general step."""
OTEL_KINDS: Final[Mapping[str, Span.SpanKind.ValueType]] = {
    "internal": Span.SPAN_KIND_INTERNAL, "client": Span.SPAN_KIND_CLIENT, "server": Span.SPAN_KIND_SERVER,
    "producer": Span.SPAN_KIND_PRODUCER, "consumer": Span.SPAN_KIND_CONSUMER,
}  # fmt: skip
FAILED: Final = frozenset({"failed", "exception"})


class Content(msgspec.Struct, frozen=True):
    """Which content a span carries."""

    include: bool = True
    """Else content is replaced by a reference on workflow and node spans (seed 003, section 9) and left out of others."""
    on_spans: bool = False
    """Workflow and node spans carry content; seed 003 has it in their companion logs."""


def to_span(record: Enriched, content: Content) -> Span | Skip | Rejected:
    """The span of an event; `Skip` for kinds that are none and for corrections that came too late; `Rejected` for what OTLP
    cannot say: times before 1970 or after 2554, ids of zeros. Does not raise for anything that the codec decodes."""
    event, context = record.event, record.context
    describe = _KINDS.get(event.kind)
    if describe is None:
        return Skip("log_only")
    if "superseded" in context.marks:
        return Skip("superseded")
    start, end = event.started_at * 1000, max(event.started_at, event.ended_at) * 1000
    if start < 0 or end > MAX_NS:
        field = "started_at" if not 0 <= start <= MAX_NS else "ended_at"
        return Rejected("time_out_of_range", f"{field} is {getattr(event, field)} µs; OTLP holds 1970 to 2554")
    if not (any(context.run_trace_id) and any(context.span_id)):
        return Rejected("invalid_id", "the context's trace or span id is all zero")
    name, kind, attributes = describe(event, context, content)
    span = Span(
        trace_id=context.run_trace_id,
        span_id=context.span_id,
        name=name,
        kind=kind,
        start_time_unix_nano=start,
        end_time_unix_nano=end,
        status=_status(event),
    )
    parent = context.parent_span_id
    if (
        parent and any(parent) and context.parent_kind != ParentKind.MESSAGE
    ):  # a message is a log, so the run is the root
        span.parent_span_id = parent
    if event.span is not None and event.span.trace_state:
        span.trace_state = event.span.trace_state
    if context.linked_span_id is not None and any(context.linked_span_id):
        link = span.links.add(trace_id=context.run_trace_id, span_id=context.linked_span_id)
        link.attributes.append(KeyValue(key="tailrace.link", value=any_value("calling_run")))
    _put(span, attributes)
    return span


def _status(event: TraceEvent) -> Status:
    if event.status in FAILED or event.error:
        return Status(code=Status.STATUS_CODE_ERROR, message=event.error or "")
    return Status(code=Status.STATUS_CODE_OK if event.status == "succeeded" else Status.STATUS_CODE_UNSET)


def _put(span: Span, attributes: Attributes) -> None:
    """Adds what has a value; of a name that comes twice the first one counts."""
    seen: set[str] = set()
    for key, value in attributes:
        if value is None or not key or key in seen:
            continue
        seen.add(key)
        span.attributes.append(KeyValue(key=key, value=any_value(value)))


def any_value(value: str | int | float | bool | Sequence[str]) -> AnyValue:
    """The OTLP value of an attribute, by its Python type."""
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=v) for v in value]))


# -- the four kinds of span
Described = tuple[str, Span.SpanKind.ValueType, Attributes]


def _workflow(event: TraceEvent, context: TraceContext, content: Content) -> Described:
    return "dify.workflow.run", Span.SPAN_KIND_INTERNAL, _workflow_attributes(event, context, content)


def _node(event: TraceEvent, context: TraceContext, content: Content) -> Described:
    return "dify.node.execution", Span.SPAN_KIND_INTERNAL, _node_attributes(event, context, content, draft=False)


def _draft(event: TraceEvent, context: TraceContext, content: Content) -> Described:
    return "dify.node.execution.draft", Span.SPAN_KIND_INTERNAL, _node_attributes(event, context, content, draft=True)


def _span(event: TraceEvent, context: TraceContext, content: Content) -> Described:
    default = Span.SPAN_KIND_CLIENT if event.span_kind == "llm" else Span.SPAN_KIND_INTERNAL
    kind = OTEL_KINDS.get((event.span.otel_kind if event.span else None) or "", default)
    return event.name or "span", kind, _span_attributes(event, context, content)


_KINDS: Final[Mapping[str, Callable[[TraceEvent, TraceContext, Content], Described]]] = {
    Kind.WORKFLOW_RUN: _workflow, Kind.NODE_EXECUTION: _node, Kind.DRAFT_NODE_EXECUTION: _draft, Kind.SPAN: _span,
}  # fmt: skip


def _workflow_attributes(event: TraceEvent, context: TraceContext, content: Content) -> Attributes:
    """Seed 003, section 4.1, and section 8.1.1 where content is asked for on spans."""
    body = event.workflow_run
    run = event.workflow_run_id or event.source_id
    yield "dify.trace_id", run
    yield from _common(event, context)
    yield "dify.workflow.id", body.workflow_id if body else None
    yield "dify.workflow.run_id", run
    yield "dify.workflow.status", event.status
    yield "dify.workflow.error", event.error or None
    yield "dify.workflow.elapsed_time", _seconds(event, body.elapsed_time if body else None)
    yield "dify.invoke_from", event.invoke_from
    yield "dify.invoked_by", _invoked_by(event, context)
    yield "dify.parent.trace_id", event.parent_run_id or event.parent_trace_id
    yield "dify.parent.workflow.run_id", event.parent_run_id
    yield "dify.parent.node.execution_id", event.parent_node_execution_id
    yield "dify.parent.app.id", event.parent_app_id
    yield from _added(event, context)
    if content.on_spans:
        reference = f"ref:workflow_run_id={run}"
        yield "dify.workflow.inputs", _content(event.inputs, content, reference)
        yield "dify.workflow.outputs", _content(event.outputs, content, reference)
        yield "dify.workflow.query", _content(body.query if body else None, content, reference)


def _node_attributes(event: TraceEvent, context: TraceContext, content: Content, *, draft: bool) -> Attributes:
    """Seed 003, sections 4.2 and 4.3, and section 8.1.2 where content is asked for on spans."""
    body = event.node_execution
    yield "dify.trace_id", event.source_id if draft else event.workflow_run_id or event.trace_id
    yield from _common(event, context)
    yield "dify.workflow.id", body.workflow_id if body else None
    yield "dify.workflow.run_id", event.workflow_run_id
    yield "dify.node.execution_id", event.source_id
    yield "dify.node.id", body.node_id if body else None
    yield "dify.node.type", event.node_type
    yield "dify.node.title", event.name
    yield "dify.node.status", event.status
    yield "dify.node.error", event.error or None
    yield "dify.node.elapsed_time", _seconds(event, body.elapsed_time if body else None)
    if body:
        yield "dify.node.index", body.index
        yield "dify.node.predecessor_node_id", body.predecessor_node_id
        yield "dify.node.iteration_id", body.iteration_id
        yield "dify.node.loop_id", body.loop_id
        yield "dify.node.parallel_id", body.parallel_id
        yield "tailrace.node.retry_count", body.retry_count or None
    yield "dify.node.invoked_by", _invoked_by(event, context)
    yield from _added(event, context)
    if content.on_spans:
        reference = f"ref:node_execution_id={event.source_id}"
        yield "dify.node.inputs", _content(event.inputs, content, reference)
        yield "dify.node.outputs", _content(event.outputs, content, reference)
        yield "dify.node.process_data", _content(body.process_data if body else None, content, reference)


def _span_attributes(event: TraceEvent, context: TraceContext, content: Content) -> Attributes:
    """OpenTelemetry GenAI and OpenInference names, then the event's own attributes."""
    if event.span_kind:
        yield "gen_ai.operation.name", OPERATIONS.get(event.span_kind)
        yield "openinference.span.kind", OPENINFERENCE.get(event.span_kind)
    yield from _model(event, context)
    yield "gen_ai.tool.name", context.tool_name or event.tool_name
    yield "gen_ai.conversation.id", event.conversation_id or context.conversation_id
    yield "session.id", event.session_id or context.session_id
    yield "user.id", event.user_id or context.user_id
    yield "error.type", event.error_type
    if event.span is not None and event.span.finish_reason:
        yield "gen_ai.response.finish_reasons", (event.span.finish_reason,)
    yield "dify.tenant_id", event.tenant_id
    yield "dify.app_id", event.app_id or context.app_id
    yield from _own(event, context)
    if content.include:
        yield "input.value", _text(event.inputs)
        yield "output.value", _text(event.outputs)
    yield from event.attributes.items()


def _common(event: TraceEvent, context: TraceContext) -> Attributes:
    yield "dify.tenant_id", event.tenant_id
    yield "dify.app_id", event.app_id or context.app_id
    yield "dify.message.id", event.message_id
    yield "dify.conversation.id", event.conversation_id or context.conversation_id


def _added(event: TraceEvent, context: TraceContext) -> Attributes:
    """Beyond seed 003's spans: what its companion logs say of the model, the application's name, and our own."""
    yield from _model(event, context)
    yield "dify.app.name", event.app_name or context.app_name
    yield from _own(event, context)


def _model(event: TraceEvent, context: TraceContext) -> Attributes:
    """Provider and model as OpenTelemetry names them, where the processor said so."""
    yield "gen_ai.provider.name", context.provider_name or event.model_provider
    yield "gen_ai.request.model", context.request_model or event.model_name
    yield "gen_ai.usage.input_tokens", event.input_tokens
    yield "gen_ai.usage.output_tokens", event.output_tokens
    yield "gen_ai.usage.total_tokens", event.total_tokens


def _own(event: TraceEvent, context: TraceContext) -> Attributes:
    yield "tailrace.event_id", event.event_id
    yield "tailrace.marks", tuple(context.marks) or None
    yield "tailrace.estimated_cost", context.estimated_cost
    yield "tailrace.price_table", context.price_table


def _seconds(event: TraceEvent, elapsed: int | None) -> float:
    """Execution time as the engine measured it, else from start to end, in seconds."""
    return (max(0, event.ended_at - event.started_at) if elapsed is None else elapsed) / 1e6


def _invoked_by(event: TraceEvent, context: TraceContext) -> str | None:
    return (event.origin.invoked_by if event.origin else None) or event.user_id or context.user_id


def _content(value: Any, content: Content, reference: str) -> str | None:
    return _text(value) if content.include or value is None else reference


def _text(value: Any) -> str | None:
    """A content field: JSON text as the codec decodes it; what stands in its place without quotes."""
    return None if value is None else shown(str(value))
