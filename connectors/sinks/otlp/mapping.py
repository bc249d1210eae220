"""From an enriched event to what an OTLP span says: pure, and the names are those of seed 003 (telemetry data
dictionary).

Spans are workflow runs, node executions, drafts (seed 003, section 4) and events of kind span. Everything
else is a structured log there (section 8), not a span. Attributes without a value are left out (section 10).
How a span is written down is `connectors.otlp`'s: what is here calls one of its two modules, as `Encoding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from connectors.filters.content import shown
from connectors.otlp.wire import CLIENT, CONSUMER, ERROR, INTERNAL, OK, PRODUCER, SERVER, UNSET
from connectors.sdk.contract import Enriched, Skip
from connectors.sdk.outcomes import Rejected
from tailrace.records import Kind, ParentKind, TraceContext, TraceEvent

Pairs = list[Any]
"""Attributes as name, value, name, value, …; None is no value."""

MAX_NS: Final = 2**64 - 1
FIELDS: Final = frozenset(
    {
        "event_id",
        "kind",
        "trace_id",
        "source_id",
        "parent_trace_id",
        "parent_run_id",
        "parent_node_execution_id",
        "parent_app_id",
        "tenant_id",
        "app_id",
        "workflow_run_id",
        "message_id",
        "conversation_id",
        "user_id",
        "session_id",
        "host_name",
        "app_name",
        "name",
        "started_at",
        "ended_at",
        "status",
        "error",
        "error_type",
        "model_provider",
        "model_name",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "node_type",
        "span_kind",
        "tool_name",
        "invoke_from",
        "attributes",
        "origin",
        "workflow_run",
        "node_execution",
        "span",
        "inputs",
        "outputs",
    }
)
"""Fields of TraceEvent that this mapping reads."""

OPERATIONS: Final[Mapping[str, str]] = {
    "llm": "chat",
    "embedding": "embeddings",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "retriever": "retrieval",
}
"""Span kind -> gen_ai.operation.name, where the OpenTelemetry GenAI conventions have one."""
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
"""Span kind -> openinference.span.kind; OpenInference has no task, a chain is its general step."""
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


class Encoding(Protocol):
    """`connectors.otlp.wire` or `connectors.otlp.as_json`."""

    def attributes(self, pairs: Iterable[Any]) -> list[bytes]: ...

    def span(
        self,
        trace_id: bytes,
        span_id: bytes,
        parent_span_id: bytes | None,
        name: str,
        kind: int,
        start_ns: int,
        end_ns: int,
        attributes: Iterable[bytes],
        status_code: int,
        status_message: str,
        links: Iterable[bytes],
        trace_state: str,
    ) -> bytes: ...

    def link(self, trace_id: bytes, span_id: bytes, pairs: Iterable[Any]) -> bytes: ...


def to_span(record: Enriched, encoding: Encoding, include: bool, on_spans: bool) -> bytes | Skip | Rejected:
    """The span of an event, encoded.

    include: content goes along, else it is replaced by a reference on workflow and node spans (seed 003,
    section 9) and left out of others; on_spans: workflow and node spans have content at all, which seed 003
    puts into their companion logs. `Skip` for kinds that are no spans and for corrections that came too late;
    `Rejected` for what OTLP cannot say: times before 1970 or after 2554, ids of zeros, text that is not
    UTF-8, numbers beyond 64 bits. Does not raise for anything that the codec decodes."""
    event, context = record.event, record.context
    describe = KINDS.get(event.kind, LOG_ONLY)
    if isinstance(describe, Skip):
        return describe
    marks = context.marks
    if marks and "superseded" in marks:
        return Skip("superseded")
    started, ended = event.started_at, event.ended_at
    start, end = started * 1000, (ended if ended > started else started) * 1000
    if start < 0 or end > MAX_NS:
        field = "started_at" if not 0 <= start <= MAX_NS else "ended_at"
        return Rejected(
            "time_out_of_range", f"{field} is {getattr(event, field)} µs; OTLP holds 1970 to 2554"
        )
    trace_id, span_id = context.run_trace_id, context.span_id
    if trace_id == _ZERO16 or span_id == _ZERO8:
        return Rejected("invalid_id", "the context's trace or span id is all zero")
    parent = context.parent_span_id
    if parent == _ZERO8 or context.parent_kind == _MESSAGE:  # a message is a log, so the run is the root
        parent = None
    name, kind, pairs = describe(event, context, include, on_spans)
    failed = event.error or event.status in FAILED
    linked = context.linked_span_id
    try:
        return encoding.span(
            trace_id,
            span_id,
            parent,
            name,
            kind,
            start,
            end,
            encoding.attributes(pairs),
            ERROR if failed else OK if event.status == "succeeded" else UNSET,
            (event.error or "") if failed else "",
            () if linked is None or linked == _ZERO8 else (encoding.link(trace_id, linked, _LINKED),),
            (event.span.trace_state or "") if event.span is not None else "",
        )
    except (UnicodeEncodeError, OverflowError, TypeError) as e:  # TypeError: orjson's, for lone surrogates
        return Rejected("not_encodable", f"a value cannot be written as OTLP ({type(e).__name__})")


# -- the four kinds of span
Described = tuple[str, int, Pairs]


def _workflow(event: TraceEvent, context: TraceContext, include: bool, on_spans: bool) -> Described:
    """Seed 003, section 4.1, and section 8.1.1 where content is asked for on spans."""
    body = event.workflow_run
    run = event.workflow_run_id or event.source_id
    pairs = [
        "dify.trace_id",
        run,
        "dify.tenant_id",
        event.tenant_id,
        "dify.app_id",
        event.app_id or context.app_id,
        "dify.message.id",
        event.message_id,
        "dify.conversation.id",
        event.conversation_id or context.conversation_id,
        "dify.workflow.id",
        None if body is None else body.workflow_id,
        "dify.workflow.run_id",
        run,
        "dify.workflow.status",
        event.status,
        "dify.workflow.error",
        event.error or None,
        "dify.workflow.elapsed_time",
        _seconds(event, None if body is None else body.elapsed_time),
        "dify.invoke_from",
        event.invoke_from,
        "dify.invoked_by",
        _invoked_by(event, context),
        "dify.parent.trace_id",
        event.parent_run_id or event.parent_trace_id,
        "dify.parent.workflow.run_id",
        event.parent_run_id,
        "dify.parent.node.execution_id",
        event.parent_node_execution_id,
        "dify.parent.app.id",
        event.parent_app_id,
    ]
    _add_model(pairs, event, context)
    pairs += ("dify.app.name", event.app_name or context.app_name)
    _add_own(pairs, event, context)
    if on_spans:
        query = None if body is None else body.query
        _add_content(pairs, "dify.workflow.inputs", event.inputs, include, "workflow_run_id", run)
        _add_content(pairs, "dify.workflow.outputs", event.outputs, include, "workflow_run_id", run)
        _add_content(pairs, "dify.workflow.query", query, include, "workflow_run_id", run)
    return "dify.workflow.run", INTERNAL, pairs


def _node(event: TraceEvent, context: TraceContext, include: bool, on_spans: bool) -> Described:
    """Seed 003, section 4.2."""
    pairs = _node_pairs(event, context, include, on_spans, event.workflow_run_id or event.trace_id)
    return "dify.node.execution", INTERNAL, pairs


def _draft(event: TraceEvent, context: TraceContext, include: bool, on_spans: bool) -> Described:
    """Seed 003, section 4.3."""
    return (
        "dify.node.execution.draft",
        INTERNAL,
        _node_pairs(event, context, include, on_spans, event.source_id),
    )


def _node_pairs(
    event: TraceEvent, context: TraceContext, include: bool, on_spans: bool, trace: str | None
) -> Pairs:
    """Seed 003, sections 4.2 and 4.3, and section 8.1.2 where content is asked for on spans."""
    body = event.node_execution
    pairs = [
        "dify.trace_id",
        trace,
        "dify.tenant_id",
        event.tenant_id,
        "dify.app_id",
        event.app_id or context.app_id,
        "dify.message.id",
        event.message_id,
        "dify.conversation.id",
        event.conversation_id or context.conversation_id,
        "dify.workflow.run_id",
        event.workflow_run_id,
        "dify.node.execution_id",
        event.source_id,
        "dify.node.type",
        event.node_type,
        "dify.node.title",
        event.name,
        "dify.node.status",
        event.status,
        "dify.node.error",
        event.error or None,
        "dify.node.elapsed_time",
        _seconds(event, None if body is None else body.elapsed_time),
        "dify.node.invoked_by",
        _invoked_by(event, context),
        "dify.app.name",
        event.app_name or context.app_name,
    ]
    if body is not None:
        pairs += (
            "dify.workflow.id",
            body.workflow_id,
            "dify.node.id",
            body.node_id,
            "dify.node.index",
            body.index,
            "dify.node.predecessor_node_id",
            body.predecessor_node_id,
            "dify.node.iteration_id",
            body.iteration_id,
            "dify.node.loop_id",
            body.loop_id,
            "dify.node.parallel_id",
            body.parallel_id,
            "tailrace.node.retry_count",
            body.retry_count or None,
        )
    _add_model(pairs, event, context)
    _add_own(pairs, event, context)
    if on_spans:
        data = None if body is None else body.process_data
        _add_content(pairs, "dify.node.inputs", event.inputs, include, "node_execution_id", event.source_id)
        _add_content(pairs, "dify.node.outputs", event.outputs, include, "node_execution_id", event.source_id)
        _add_content(pairs, "dify.node.process_data", data, include, "node_execution_id", event.source_id)
    return pairs


def _span(event: TraceEvent, context: TraceContext, include: bool, on_spans: bool) -> Described:
    """OpenTelemetry GenAI and OpenInference names, then the event's own attributes; of a name that comes
    twice the first one counts."""
    body, span_kind = event.span, event.span_kind or ""
    pairs: Pairs = [
        "gen_ai.operation.name",
        OPERATIONS.get(span_kind),
        "openinference.span.kind",
        OPENINFERENCE.get(span_kind),
    ]
    _add_model(pairs, event, context)
    pairs += (
        "gen_ai.tool.name",
        context.tool_name or event.tool_name,
        "gen_ai.conversation.id",
        event.conversation_id or context.conversation_id,
        "session.id",
        event.session_id or context.session_id,
        "user.id",
        event.user_id or context.user_id,
        "error.type",
        event.error_type,
        "gen_ai.response.finish_reasons",
        (body.finish_reason,) if body is not None and body.finish_reason else None,
        "dify.tenant_id",
        event.tenant_id,
        "dify.app_id",
        event.app_id or context.app_id,
    )
    _add_own(pairs, event, context)
    if include:
        pairs += ("input.value", _text(event.inputs), "output.value", _text(event.outputs))
    if event.attributes:
        taken = {key for key, value in zip(pairs[::2], pairs[1::2], strict=True) if value is not None}
        for key, value in event.attributes.items():
            if key and key not in taken:
                pairs += (key, value)
    default = CLIENT if span_kind == "llm" else INTERNAL
    kind = OTEL_KINDS.get((body.otel_kind if body is not None else None) or "", default)
    return event.name or "span", kind, pairs


LOG_ONLY: Final = Skip("log_only")
KINDS: Final[Mapping[Kind, Callable[[TraceEvent, TraceContext, bool, bool], Described] | Skip]] = {
    Kind.UNKNOWN: LOG_ONLY,
    Kind.WORKFLOW_RUN: _workflow,
    Kind.NODE_EXECUTION: _node,
    Kind.DRAFT_NODE_EXECUTION: _draft,
    Kind.MESSAGE: LOG_ONLY,
    Kind.MODERATION: LOG_ONLY,
    Kind.SUGGESTED_QUESTION: LOG_ONLY,
    Kind.DATASET_RETRIEVAL: LOG_ONLY,
    Kind.TOOL: LOG_ONLY,
    Kind.GENERATE_NAME: LOG_ONLY,
    Kind.PROMPT_GENERATION: LOG_ONLY,
    Kind.SPAN: _span,
    Kind.FEEDBACK: LOG_ONLY,
    Kind.APP_CREATED: LOG_ONLY,
    Kind.APP_UPDATED: LOG_ONLY,
    Kind.APP_DELETED: LOG_ONLY,
    Kind.REHYDRATION_FAILED: LOG_ONLY,
    Kind.LINK: LOG_ONLY,
}
"""What a kind becomes: what describes its span, or why it has none."""


def _add_model(pairs: Pairs, event: TraceEvent, context: TraceContext) -> None:
    """Provider and model as OpenTelemetry names them, where the processor said so. On Dify's spans they go
    beyond seed 003's section 4: it has them in the companion logs."""
    pairs += (
        "gen_ai.provider.name",
        context.provider_name or event.model_provider,
        "gen_ai.request.model",
        context.request_model or event.model_name,
        "gen_ai.usage.input_tokens",
        event.input_tokens,
        "gen_ai.usage.output_tokens",
        event.output_tokens,
        "gen_ai.usage.total_tokens",
        event.total_tokens,
    )


def _add_own(pairs: Pairs, event: TraceEvent, context: TraceContext) -> None:
    pairs += ("tailrace.event_id", event.event_id)
    if context.marks:
        pairs += ("tailrace.marks", tuple(context.marks))
    if context.estimated_cost is not None or context.price_table is not None:
        pairs += (
            "tailrace.estimated_cost",
            context.estimated_cost,
            "tailrace.price_table",
            context.price_table,
        )


def _seconds(event: TraceEvent, elapsed: int | None) -> float:
    """Execution time as the engine measured it, else from start to end, in seconds."""
    return (max(0, event.ended_at - event.started_at) if elapsed is None else elapsed) / 1e6


def _invoked_by(event: TraceEvent, context: TraceContext) -> str | None:
    return (event.origin.invoked_by if event.origin is not None else None) or event.user_id or context.user_id


def _add_content(pairs: Pairs, name: str, value: Any, include: bool, about: str, source: str | None) -> None:
    if value is not None:
        pairs += (name, shown(str(value)) if include else f"ref:{about}={source}")


def _text(value: Any) -> str | None:
    """A content field: JSON text as the codec decodes it; what stands in its place without quotes."""
    return None if value is None else shown(str(value))
