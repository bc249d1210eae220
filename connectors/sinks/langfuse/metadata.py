"""The metadata of a Langfuse observation, by kind. Names are those of seed 001, if it has the field. Pure."""

from __future__ import annotations

from typing import Final

from connectors.mapping import changes
from connectors.mapping.rows import ENCODED, SECONDS, Row, names_of
from tailrace.records import TraceContext, TraceEvent

PREFIX: Final = "langfuse.observation.metadata."


_MODEL: Final = (
    Row("ls_provider", "model_provider"),
    Row("ls_model_name", "model_name"),
    Row("response_model", "response_model"),
    Row("service_tier", "service_tier"),
)
_SENDER: Final = (
    Row("from_source", "origin.from_source"),
    Row("from_end_user_id", "origin.from_end_user_id"),
    Row("from_account_id", "origin.from_account_id"),
)

WORKFLOW_RUN: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    Row("conversation_id", "conversation_id"),
    Row("message_id", "message_id"),
    Row("tenant_id", "tenant_id or context.tenant_id"),
    Row("status", "status"),
    Row("invoke_from", "invoke_from"),
    Row("error_type", "error_type"),
    Row("parent_run_id", "parent_run_id"),
    Row("parent_node_execution_id", "parent_node_execution_id"),
    Row("parent_app_id", "parent_app_id"),
    Row("total_tokens", "total_tokens"),
    Row("triggered_from", "origin.triggered_from"),
    Row("workflow_app_log_id", "origin.workflow_app_log_id"),
    Row("created_by_role", "origin.created_by_role"),
    Row("file_list", "origin.file_list"),
    Row("workflow_id", "workflow_run.workflow_id"),
    Row("version", "workflow_run.workflow_version"),
    Row("query", "workflow_run.query"),
    Row("elapsed_time", "workflow_run.elapsed_time", SECONDS),
    Row("steps", "workflow_run.steps"),
    Row("exceptions_count", "workflow_run.exceptions_count"),
)

MESSAGE: Final = (
    Row("message_id", "message_id"),
    Row("conversation_id", "conversation_id"),
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("conversation_mode", "mode"),
    Row("invoke_from", "invoke_from"),
    Row("error_type", "error_type"),
    *_MODEL,
    Row("message_tokens", "input_tokens"),
    Row("answer_tokens", "output_tokens"),
    Row("total_tokens", "total_tokens"),
    *_SENDER,
    Row("message_data", "origin.message_data"),
    Row("message_file_data", "origin.message_file_data"),
    Row("message_file_id", "origin.message_file_id"),
    Row("created_by_role", "origin.created_by_role"),
    Row("agent_based", "origin.agent_based"),
    Row("file_list", "origin.file_list"),
    Row("conversation_model", "message.conversation_model"),
    Row("query", "message.query"),
    Row("streaming", "message.streaming"),
    Row("provider_response_latency", "message.provider_response_latency", SECONDS),
    Row("time_to_generate", "message.time_to_generate", SECONDS),
)

MODERATION: Final = (
    Row("message_id", "message_id"),
    Row("status", "status"),
    Row("error_type", "error_type"),
    Row("workflow_app_log_id", "origin.workflow_app_log_id"),
    Row("message_data", "origin.message_data"),
    Row("moderation_type", "moderation.moderation_type"),
    Row("action", "moderation.action"),
    Row("preset_response", "moderation.preset_response"),
    Row("query", "moderation.query"),
    Row("flagged", "moderation.flagged"),
    Row("categories", "moderation.categories"),
)

SUGGESTED_QUESTION: Final = (
    Row("message_id", "message_id"),
    Row("workflow_run_id", "workflow_run_id"),
    Row("error_type", "error_type"),
    *_MODEL,
    Row("total_tokens", "total_tokens"),
    Row("status", "origin.message_status"),
    *_SENDER,
    Row("message_data", "origin.message_data"),
    Row("agent_based", "origin.agent_based"),
    Row("level", "suggested_question.level"),
    Row("suggested_question", "suggested_question.questions"),
)

DATASET_RETRIEVAL: Final = (
    Row("message_id", "message_id"),
    Row("workflow_run_id", "workflow_run_id"),
    Row("error_type", "error_type"),
    *_MODEL,
    Row("dataset_ids", "dataset_ids"),
    Row("status", "origin.message_status"),
    *_SENDER,
    Row("message_data", "origin.message_data"),
    Row("agent_based", "origin.agent_based"),
    Row("query", "dataset_retrieval.query"),
    Row("embedding_models", "dataset_retrieval.embedding_models"),
    Row("rerank_model_provider", "dataset_retrieval.rerank_model_provider"),
    Row("rerank_model_name", "dataset_retrieval.rerank_model_name"),
    Row("document_count", "dataset_retrieval.document_count"),
)

TOOL: Final = (
    Row("message_id", "message_id"),
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("error", "error"),
    Row("error_type", "error_type"),
    Row("plugin_name", "plugin_name"),
    Row("message_file_id", "origin.message_file_id"),
    Row("created_by_role", "origin.created_by_role"),
    Row("created_user_id", "origin.created_user_id"),
    Row("message_data", "origin.message_data"),
    Row("call_id", "tool.call_id"),
    Row("description", "tool.description"),
    Row("tool_inputs", "tool.tool_inputs"),
    Row("tool_outputs", "tool.tool_outputs"),
    Row("tool_config", "tool.tool_config"),
    Row("tool_parameters", "tool.tool_parameters"),
    Row("time_cost", "tool.time_cost", SECONDS),
    Row("file_url", "tool.file_urls"),
)

GENERATE_NAME: Final = (
    Row("conversation_id", "conversation_id"),
    Row("tenant_id", "tenant_id or context.tenant_id"),
    Row("status", "status"),
    Row("error_type", "error_type"),
)

PROMPT_GENERATION: Final = (
    Row("operation_type", "operation_type"),
    Row("status", "status"),
    Row("error_type", "error_type"),
    *_MODEL,
    Row("total_tokens", "total_tokens"),
    Row("instruction", "prompt_generation.instruction"),
    Row("latency", "prompt_generation.latency", SECONDS),
)

NODE: Final = (
    Row("node_execution_id", "source_id"),
    Row("workflow_run_id", "workflow_run_id"),
    Row("node_type", "node_type"),
    Row("status", "status"),
    Row("plugin_name", "plugin_name"),
    Row("invoke_from", "invoke_from"),
    Row("error_type", "error_type"),
    *_MODEL,
    Row("dataset_ids", "dataset_ids"),
    Row("total_tokens", "total_tokens"),
    Row("workflow_id", "node_execution.workflow_id"),
    Row("node_id", "node_execution.node_id"),
    Row("predecessor_node_id", "node_execution.predecessor_node_id"),
    Row("iteration_id", "node_execution.iteration_id"),
    Row("loop_id", "node_execution.loop_id"),
    Row("parallel_id", "node_execution.parallel_id"),
    Row("plugin_id", "node_execution.plugin_id"),
    Row("credential_id", "node_execution.credential_id"),
    Row("credential_name", "node_execution.credential_name"),
    Row("model_mode", "node_execution.model_mode"),
    Row("finish_reason", "node_execution.finish_reason"),
    Row("retries", "node_execution.retries"),
    Row("node_metadata", "node_execution.metadata"),
    Row("index", "node_execution.index"),
    Row("iteration_index", "node_execution.iteration_index"),
    Row("loop_index", "node_execution.loop_index"),
    Row("elapsed_time", "node_execution.elapsed_time", SECONDS),
    Row("retry_count", "node_execution.retry_count"),
)

SPAN: Final = (
    Row("operation_id", "source_id"),
    Row("workflow_run_id", "workflow_run_id"),
    Row("span_kind", "span_kind"),
    Row("status", "status"),
    Row("error_type", "error_type"),
    *_MODEL,
    Row("otel_kind", "span.otel_kind"),
    Row("scope_name", "span.scope_name"),
    Row("scope_version", "span.scope_version"),
    Row("finish_reason", "span.finish_reason"),
    Row("otel_attributes", "span.attributes_json"),
    Row("otel_events", "span.events"),
    Row("otel_links", "span.links"),
    Row("otel_resource", "span.resource"),
)


def _marks(event: TraceEvent, context: TraceContext) -> bytes | None:
    return ",".join(context.marks).encode() if context.marks else None


EVERY: Final = (
    Row("event_id", "event_id"),
    Row("user_id", "user_id"),
    Row("tool_name", "context.tool_name or tool_name"),
    Row("dataset_names", "context.dataset_names"),
    Row("marks", _marks, ENCODED),
    Row(changes.NAME, changes.content_changes),
)
"""Metadata of every kind, written after the kind's own."""
TABLES: Final = (
    WORKFLOW_RUN,
    MESSAGE,
    MODERATION,
    SUGGESTED_QUESTION,
    DATASET_RETRIEVAL,
    TOOL,
    GENERATE_NAME,
    PROMPT_GENERATION,
    NODE,
    SPAN,
    EVERY,
)
COMPUTED: Final = ("process_data", "inputs", "documents", "price_table", "currency", "total_price")
"""Names that functions of the mapping write."""
RESERVED: Final = names_of(*TABLES).union(COMPUTED)
"""Names that an event's own attributes may not use."""
