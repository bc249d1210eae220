"""Metadata of an Opik trace or span: what seed 000 lists for the event's kind, under the seed's names, and what else would be
lost. Pure. What has no value is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from connectors.sinks.opik_values import Json, content
from tailrace.records import Origin, TraceContext, TraceEvent

Metadata = dict[str, Json]

_NO_ORIGIN: Final = Origin()
Usage = dict[str, int]


def metadata(event: TraceEvent, context: TraceContext, usage: Usage) -> Metadata:
    """All of it, in a fixed order. usage: the event's tokens."""
    found: Metadata = {
        "tenant_id": event.tenant_id,
        "conversation_id": event.conversation_id or context.conversation_id,
        "message_id": event.message_id,
        "workflow_run_id": event.workflow_run_id,
        "user_id": event.user_id or context.user_id,
        "user_session_id": event.session_id or context.session_id,
        "status": event.status,
        "error": event.error,
        "app_id": event.app_id or context.app_id,
        "app_name": event.app_name or context.app_name,
        "workspace_name": event.workspace_name or context.workspace_name,
        "invoke_from": event.invoke_from,
        "conversation_mode": event.mode,
        "host_name": event.host_name,
        "external_trace_id": event.external_trace_id,
        "tailrace.event_id": event.event_id,
        "tailrace.trace_id": context.root_trace_id,
        "tailrace.source_id": event.source_id,
    }
    if context.marks:
        found["tailrace.marks"] = context.marks
    if event.attributes:
        found["attributes"] = event.attributes
    if event.model_provider is not None or event.model_name is not None:
        found["ls_provider"] = event.model_provider
        found["ls_model_name"] = event.model_name
    if usage:
        found["total_tokens"] = event.total_tokens
        found["usage_metadata"] = usage
    if event.total_price is not None or event.input_price is not None or event.output_price is not None:
        found["input_price"] = event.input_price
        found["output_price"] = event.output_price
        found["total_price"] = event.total_price
    if event.currency is not None:
        found["currency"] = event.currency
    if context.estimated_cost is not None or context.price_table is not None:
        found["estimated_cost"] = context.estimated_cost
        found["price_table"] = context.price_table
    if event.origin is not None:
        _origin(found, event.origin)
    of_kind = _KINDS.get(event.kind)
    if of_kind is not None:
        of_kind(found, event, context)
    return {k: v for k, v in found.items() if v is not None}


def _origin(found: Metadata, origin: Origin) -> None:
    found["from_source"] = origin.from_source
    found["from_end_user_id"] = origin.from_end_user_id
    found["from_account_id"] = origin.from_account_id
    found["invoked_by"] = origin.invoked_by
    found["triggered_from"] = origin.triggered_from
    found["agent_based"] = origin.agent_based
    found["created_by_role"] = origin.created_by_role
    found["created_user_id"] = origin.created_user_id
    found["workflow_app_log_id"] = origin.workflow_app_log_id
    found["message_status"] = origin.message_status
    found["message_data"] = content(origin.message_data)
    found["message_file_data"] = content(origin.message_file_data)
    found["message_file_id"] = origin.message_file_id
    found["file_list"] = origin.file_list or None


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1_000_000


def _workflow(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    body = event.workflow_run
    if body is not None:
        found["workflow_id"] = body.workflow_id
        found["version"] = body.workflow_version
        found["query"] = body.query
        found["elapsed_time"] = _seconds(body.elapsed_time)
        found["steps"] = body.steps
        found["exceptions_count"] = body.exceptions_count
    found["parent_workflow_run_id"] = event.parent_run_id
    found["parent_node_execution_id"] = event.parent_node_execution_id
    found["parent_app_id"] = event.parent_app_id


def _node(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    found["node_type"] = event.node_type
    found["tool_name"] = context.tool_name or event.tool_name
    found["plugin_name"] = event.plugin_name
    found["dataset_ids"] = event.dataset_ids or None
    found["dataset_names"] = context.dataset_names or None
    body = event.node_execution
    if body is not None:
        found["node_id"] = body.node_id
        found["workflow_id"] = body.workflow_id
        found["index"] = body.index
        found["predecessor_node_id"] = body.predecessor_node_id
        found["iteration_id"] = body.iteration_id
        found["iteration_index"] = body.iteration_index
        found["loop_id"] = body.loop_id
        found["loop_index"] = body.loop_index
        found["parallel_id"] = body.parallel_id
        found["elapsed_time"] = _seconds(body.elapsed_time)
        found["process_data"] = content(body.process_data)
        found["plugin_id"] = body.plugin_id
        found["credential_id"] = body.credential_id
        found["credential_name"] = body.credential_name
        found["dataset_names"] = body.dataset_names or found["dataset_names"]
        found["model_mode"] = body.model_mode
        found["finish_reason"] = body.finish_reason
        found["retry_count"] = body.retry_count
        found["retries"] = content(body.retries)


def _message(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    body = event.message
    if body is not None:
        found["conversation_model"] = body.conversation_model
        found["model_id"] = body.model_id
        found["query"] = body.query
        found["provider_response_latency"] = _seconds(body.provider_response_latency)
        found["streaming"] = body.streaming
        found["time_to_generate"] = _seconds(body.time_to_generate)


def _moderation(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    body = event.moderation
    if body is not None:
        found["moderation_type"] = body.moderation_type
        found["action"] = body.action
        found["flagged"] = body.flagged
        found["categories"] = body.categories or None
        found["preset_response"] = body.preset_response
        found["query"] = body.query


def _message_status(found: Metadata, event: TraceEvent) -> None:
    """Seed 000: the status of a suggestion and of a retrieval is the message's; the operation's own is another field."""
    origin = event.origin or _NO_ORIGIN
    found["status"] = origin.message_status
    found["message_status"] = None
    found["operation_status"] = event.status


def _suggested_question(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    _message_status(found, event)
    body = event.suggested_question
    if body is not None:
        found["suggested_question"] = body.questions or None
        found["level"] = body.level
        found["status_message"] = body.status_message


def _dataset_retrieval(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    _message_status(found, event)
    found["dataset_ids"] = event.dataset_ids or None
    found["dataset_names"] = context.dataset_names or None
    body = event.dataset_retrieval
    if body is not None:
        found["query"] = body.query
        found["documents"] = content(body.documents)
        found["document_count"] = body.document_count
        found["dataset_names"] = body.dataset_names or found["dataset_names"]
        found["embedding_models"] = content(body.embedding_models)
        found["rerank_model_provider"] = body.rerank_model_provider
        found["rerank_model_name"] = body.rerank_model_name


def _tool(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    found["tool_name"] = context.tool_name or event.tool_name
    found["plugin_name"] = event.plugin_name
    body = event.tool
    if body is not None:
        found["tool_inputs"] = content(body.tool_inputs)
        found["tool_outputs"] = content(body.tool_outputs)
        found["tool_config"] = content(body.tool_config)
        found["tool_parameters"] = content(body.tool_parameters)
        found["time_cost"] = _seconds(body.time_cost)
        found["file_url"] = body.file_urls or None
        found["call_id"] = body.call_id
        found["description"] = body.description
        if body.tool_inputs is not None:
            found["message_inputs"] = content(event.inputs)
        if body.tool_outputs is not None:
            found["message_outputs"] = content(event.outputs)


def _prompt_generation(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    found["operation_type"] = event.operation_type
    body = event.prompt_generation
    if body is not None:
        found["instruction"] = body.instruction
        found["output"] = body.output
        found["latency"] = _seconds(body.latency)


def _span(found: Metadata, event: TraceEvent, context: TraceContext) -> None:
    found["span_kind"] = event.span_kind
    found["tool_name"] = context.tool_name or event.tool_name
    found["dataset_ids"] = event.dataset_ids or None
    found["dataset_names"] = context.dataset_names or None
    body = event.span
    if body is not None:
        found["otel_kind"] = body.otel_kind
        found["scope_name"] = body.scope_name
        found["scope_version"] = body.scope_version
        found["trace_state"] = body.trace_state
        found["finish_reason"] = body.finish_reason
        found["span_attributes"] = content(body.attributes_json)
        found["span_events"] = content(body.events)
        found["span_links"] = content(body.links)
        found["resource"] = content(body.resource)


_KINDS: Final[Mapping[str, Callable[[Metadata, TraceEvent, TraceContext], None]]] = {
    "workflow_run": _workflow, "node_execution": _node, "draft_node_execution": _node, "message": _message, "moderation": _moderation,
    "suggested_question": _suggested_question, "dataset_retrieval": _dataset_retrieval, "tool": _tool,
    "prompt_generation": _prompt_generation, "span": _span,
}  # fmt: skip
"""Kind -> what its metadata has beyond the common part."""
