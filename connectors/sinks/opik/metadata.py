"""Metadata of an Opik trace or span: what seed 000 lists for the event's kind, under the seed's names, and
what else would be lost. Pure. What has no value is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from connectors.sinks.opik.values import Json, content
from tailrace.records import Origin, TraceContext, TraceEvent

Metadata = dict[str, Json]

Pairs = list[Any]
"""Name, value, name, value, …; None is no value."""

_MESSAGES: Final = frozenset({"suggested_question", "dataset_retrieval"})
"""Kinds whose status is the message's (seed 000); the operation's own is another field."""
Usage = dict[str, int]


def metadata(event: TraceEvent, context: TraceContext, usage: Usage) -> Metadata:
    """All of it, in a fixed order. usage: the event's tokens."""
    origin = event.origin
    of_message = event.kind in _MESSAGES
    found: Pairs = [
        "tenant_id",
        event.tenant_id,
        "conversation_id",
        event.conversation_id or context.conversation_id,
        "message_id",
        event.message_id,
        "workflow_run_id",
        event.workflow_run_id,
        "user_id",
        event.user_id or context.user_id,
        "user_session_id",
        event.session_id or context.session_id,
        "status",
        (origin.message_status if origin is not None else None) if of_message else event.status,
        "error",
        event.error,
        "app_id",
        event.app_id or context.app_id,
        "app_name",
        event.app_name or context.app_name,
        "workspace_name",
        event.workspace_name or context.workspace_name,
        "invoke_from",
        event.invoke_from,
        "conversation_mode",
        event.mode,
        "host_name",
        event.host_name,
        "external_trace_id",
        event.external_trace_id,
        "tailrace.event_id",
        event.event_id,
        "tailrace.trace_id",
        context.root_trace_id,
        "tailrace.source_id",
        event.source_id,
    ]
    if context.marks:
        found += ("tailrace.marks", context.marks)
    if event.attributes:
        found += ("attributes", event.attributes)
    if event.model_provider is not None or event.model_name is not None:
        found += ("ls_provider", event.model_provider, "ls_model_name", event.model_name)
    if usage:
        found += ("total_tokens", event.total_tokens, "usage_metadata", usage)
    if event.total_price is not None or event.input_price is not None or event.output_price is not None:
        found += (
            "input_price",
            event.input_price,
            "output_price",
            event.output_price,
            "total_price",
            event.total_price,
        )
    if event.currency is not None:
        found += ("currency", event.currency)
    if context.estimated_cost is not None or context.price_table is not None:
        found += ("estimated_cost", context.estimated_cost, "price_table", context.price_table)
    if origin is not None:
        _origin(found, origin, of_message)
    of_kind = _KINDS.get(event.kind)
    if of_kind is not None:
        of_kind(found, event, context)
    known: Metadata = {}
    for i in range(0, len(found), 2):
        value = found[i + 1]
        if value is not None:
            known[found[i]] = value
    return known


def _origin(found: Pairs, origin: Origin, of_message: bool) -> None:
    found += (
        "from_source",
        origin.from_source,
        "from_end_user_id",
        origin.from_end_user_id,
        "from_account_id",
        origin.from_account_id,
        "invoked_by",
        origin.invoked_by,
        "triggered_from",
        origin.triggered_from,
        "agent_based",
        origin.agent_based,
        "created_by_role",
        origin.created_by_role,
        "created_user_id",
        origin.created_user_id,
        "workflow_app_log_id",
        origin.workflow_app_log_id,
        "message_status",
        None if of_message else origin.message_status,
        "message_data",
        content(origin.message_data),
        "message_file_data",
        content(origin.message_file_data),
        "message_file_id",
        origin.message_file_id,
        "file_list",
        origin.file_list or None,
    )


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1_000_000


def _workflow(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    body = event.workflow_run
    if body is not None:
        found += (
            "workflow_id",
            body.workflow_id,
            "version",
            body.workflow_version,
            "query",
            body.query,
            "elapsed_time",
            _seconds(body.elapsed_time),
            "steps",
            body.steps,
            "exceptions_count",
            body.exceptions_count,
        )
    found += (
        "parent_workflow_run_id",
        event.parent_run_id,
        "parent_node_execution_id",
        event.parent_node_execution_id,
        "parent_app_id",
        event.parent_app_id,
    )


def _node(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    found += (
        "node_type",
        event.node_type,
        "tool_name",
        context.tool_name or event.tool_name,
        "plugin_name",
        event.plugin_name,
        "dataset_ids",
        event.dataset_ids or None,
        "dataset_names",
        context.dataset_names or None,
    )
    body = event.node_execution
    if body is not None:
        found += (
            "node_id",
            body.node_id,
            "workflow_id",
            body.workflow_id,
            "index",
            body.index,
            "predecessor_node_id",
            body.predecessor_node_id,
            "iteration_id",
            body.iteration_id,
            "iteration_index",
            body.iteration_index,
            "loop_id",
            body.loop_id,
            "loop_index",
            body.loop_index,
            "parallel_id",
            body.parallel_id,
            "elapsed_time",
            _seconds(body.elapsed_time),
            "process_data",
            content(body.process_data),
            "plugin_id",
            body.plugin_id,
            "credential_id",
            body.credential_id,
            "credential_name",
            body.credential_name,
            "dataset_names",
            body.dataset_names or None,
            "model_mode",
            body.model_mode,
            "finish_reason",
            body.finish_reason,
            "retry_count",
            body.retry_count,
            "retries",
            content(body.retries),
        )


def _message(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    body = event.message
    if body is not None:
        found += (
            "conversation_model",
            body.conversation_model,
            "model_id",
            body.model_id,
            "query",
            body.query,
            "provider_response_latency",
            _seconds(body.provider_response_latency),
            "streaming",
            body.streaming,
            "time_to_generate",
            _seconds(body.time_to_generate),
        )


def _moderation(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    body = event.moderation
    if body is not None:
        found += (
            "moderation_type",
            body.moderation_type,
            "action",
            body.action,
            "flagged",
            body.flagged,
            "categories",
            body.categories or None,
            "preset_response",
            body.preset_response,
            "query",
            body.query,
        )


def _suggested_question(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    found += ("operation_status", event.status)
    body = event.suggested_question
    if body is not None:
        found += (
            "suggested_question",
            body.questions or None,
            "level",
            body.level,
            "status_message",
            body.status_message,
        )


def _dataset_retrieval(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    found += ("operation_status", event.status)
    found += (
        "dataset_ids",
        event.dataset_ids or None,
        "dataset_names",
        context.dataset_names or None,
    )
    body = event.dataset_retrieval
    if body is not None:
        found += (
            "query",
            body.query,
            "documents",
            content(body.documents),
            "document_count",
            body.document_count,
            "dataset_names",
            body.dataset_names or None,
            "embedding_models",
            content(body.embedding_models),
            "rerank_model_provider",
            body.rerank_model_provider,
            "rerank_model_name",
            body.rerank_model_name,
        )


def _tool(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    found += (
        "tool_name",
        context.tool_name or event.tool_name,
        "plugin_name",
        event.plugin_name,
    )
    body = event.tool
    if body is not None:
        found += (
            "tool_inputs",
            content(body.tool_inputs),
            "tool_outputs",
            content(body.tool_outputs),
            "tool_config",
            content(body.tool_config),
            "tool_parameters",
            content(body.tool_parameters),
            "time_cost",
            _seconds(body.time_cost),
            "file_url",
            body.file_urls or None,
            "call_id",
            body.call_id,
            "description",
            body.description,
        )
        if body.tool_inputs is not None:
            found += ("message_inputs", content(event.inputs))
        if body.tool_outputs is not None:
            found += ("message_outputs", content(event.outputs))


def _prompt_generation(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    found += ("operation_type", event.operation_type)
    body = event.prompt_generation
    if body is not None:
        found += (
            "instruction",
            body.instruction,
            "output",
            body.output,
            "latency",
            _seconds(body.latency),
        )


def _span(found: Pairs, event: TraceEvent, context: TraceContext) -> None:
    found += (
        "span_kind",
        event.span_kind,
        "tool_name",
        context.tool_name or event.tool_name,
        "dataset_ids",
        event.dataset_ids or None,
        "dataset_names",
        context.dataset_names or None,
    )
    body = event.span
    if body is not None:
        found += (
            "otel_kind",
            body.otel_kind,
            "scope_name",
            body.scope_name,
            "scope_version",
            body.scope_version,
            "trace_state",
            body.trace_state,
            "finish_reason",
            body.finish_reason,
            "span_attributes",
            content(body.attributes_json),
            "span_events",
            content(body.events),
            "span_links",
            content(body.links),
            "resource",
            content(body.resource),
        )


_KINDS: Final[Mapping[str, Callable[[Pairs, TraceEvent, TraceContext], None]]] = {
    "workflow_run": _workflow,
    "node_execution": _node,
    "draft_node_execution": _node,
    "message": _message,
    "moderation": _moderation,
    "suggested_question": _suggested_question,
    "dataset_retrieval": _dataset_retrieval,
    "tool": _tool,
    "prompt_generation": _prompt_generation,
    "span": _span,
}
"""Kind -> what its metadata has beyond the common part."""
