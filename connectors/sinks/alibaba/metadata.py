"""The metadata of a span by kind: the fields of seed 002 and what else the event has. Pure.

Names are the seed's with the prefix `dify.`. What has a name in Alibaba's conventions is in the tables of
`connectors.sinks.alibaba.mapping` instead: session, user, turn, model, tokens, tool, query.
"""

from __future__ import annotations

from typing import Final

from connectors.mapping.rows import SECONDS, Row, names_of

PREFIX: Final = "dify."

_SENDER: Final = (
    Row("from_source", "origin.from_source"),
    Row("from_end_user_id", "origin.from_end_user_id"),
    Row("from_account_id", "origin.from_account_id"),
    Row("agent_based", "origin.agent_based"),
    Row("message_data", "origin.message_data"),
)
_MODEL: Final = (
    Row("ls_provider", "model_provider"),
    Row("ls_model_name", "model_name"),
)

WORKFLOW_RUN: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("mode", "mode"),
    Row("invoke_from", "invoke_from"),
    Row("parent_run_id", "parent_run_id"),
    Row("parent_node_execution_id", "parent_node_execution_id"),
    Row("parent_app_id", "parent_app_id"),
    Row("triggered_from", "origin.triggered_from"),
    Row("workflow_app_log_id", "origin.workflow_app_log_id"),
    Row("created_by_role", "origin.created_by_role"),
    Row("from_account_id", "origin.from_account_id"),
    Row("from_end_user_id", "origin.from_end_user_id"),
    Row("file_list", "origin.file_list"),
    Row("workflow_id", "workflow_run.workflow_id"),
    Row("version", "workflow_run.workflow_version"),
    Row("query", "workflow_run.query"),
    Row("elapsed_time", "workflow_run.elapsed_time", SECONDS),
    Row("steps", "workflow_run.steps"),
    Row("exceptions_count", "workflow_run.exceptions_count"),
)

MESSAGE: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("conversation_mode", "mode"),
    Row("invoke_from", "invoke_from"),
    *_MODEL,
    *_SENDER,
    Row("message_file_data", "origin.message_file_data"),
    Row("message_file_id", "origin.message_file_id"),
    Row("created_by_role", "origin.created_by_role"),
    Row("file_list", "origin.file_list"),
    Row("conversation_model", "message.conversation_model"),
    Row("query", "message.query"),
    Row("streaming", "message.streaming"),
    Row("provider_response_latency", "message.provider_response_latency", SECONDS),
    Row("time_to_generate", "message.time_to_generate", SECONDS),
)

MODERATION: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("workflow_app_log_id", "origin.workflow_app_log_id"),
    Row("message_data", "origin.message_data"),
    Row("moderation_type", "moderation.moderation_type"),
    Row("action", "moderation.action"),
    Row("flagged", "moderation.flagged"),
    Row("categories", "moderation.categories"),
    Row("preset_response", "moderation.preset_response"),
    Row("query", "moderation.query"),
)

SUGGESTED_QUESTION: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "origin.message_status"),
    *_SENDER,
    Row("level", "suggested_question.level"),
    Row("status_message", "suggested_question.status_message"),
    Row("suggested_question", "suggested_question.questions"),
)

DATASET_RETRIEVAL: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    *_MODEL,
    Row("dataset_names", "context.dataset_names"),
    Row("status", "origin.message_status"),
    *_SENDER,
    Row("document_count", "dataset_retrieval.document_count"),
    Row("embedding_models", "dataset_retrieval.embedding_models"),
    Row("rerank_model_provider", "dataset_retrieval.rerank_model_provider"),
    Row("rerank_model_name", "dataset_retrieval.rerank_model_name"),
)

TOOL: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("plugin_name", "plugin_name"),
    *_SENDER,
    Row("message_file_id", "origin.message_file_id"),
    Row("created_by_role", "origin.created_by_role"),
    Row("created_user_id", "origin.created_user_id"),
    Row("tool_config", "tool.tool_config"),
    Row("tool_parameters", "tool.tool_parameters"),
    Row("file_url", "tool.file_urls"),
)

GENERATE_NAME: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("from_source", "origin.from_source"),
)

PROMPT_GENERATION: Final = (
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("operation_type", "operation_type"),
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
    Row("dataset_names", "context.dataset_names"),
    Row("workflow_id", "node_execution.workflow_id"),
    Row("node_id", "node_execution.node_id"),
    Row("index", "node_execution.index"),
    Row("predecessor_node_id", "node_execution.predecessor_node_id"),
    Row("iteration_id", "node_execution.iteration_id"),
    Row("iteration_index", "node_execution.iteration_index"),
    Row("loop_id", "node_execution.loop_id"),
    Row("loop_index", "node_execution.loop_index"),
    Row("parallel_id", "node_execution.parallel_id"),
    Row("elapsed_time", "node_execution.elapsed_time", SECONDS),
    Row("plugin_id", "node_execution.plugin_id"),
    Row("credential_id", "node_execution.credential_id"),
    Row("credential_name", "node_execution.credential_name"),
    Row("model_mode", "node_execution.model_mode"),
    Row("retry_count", "node_execution.retry_count", empty=False),
    Row("retries", "node_execution.retries"),
    Row("node_metadata", "node_execution.metadata"),
)

SPAN: Final = (
    Row("operation_id", "source_id"),
    Row("workflow_run_id", "workflow_run_id"),
    Row("status", "status"),
    Row("span_kind", "span_kind"),
    Row("otel_kind", "span.otel_kind"),
    Row("scope_name", "span.scope_name"),
    Row("scope_version", "span.scope_version"),
    Row("otel_attributes", "span.attributes_json"),
    Row("otel_events", "span.events"),
    Row("otel_links", "span.links"),
    Row("otel_resource", "span.resource"),
)

PRICE: Final = (
    Row("input_price", "input_price"),
    Row("output_price", "output_price"),
    Row("total_price", "total_price"),
    Row("currency", "currency"),
)
"""Of operations that do not repeat the price of others."""
REPEATED: Final = (
    Row("input_tokens", "input_tokens"),
    Row("output_tokens", "output_tokens"),
    Row("total_tokens", "total_tokens"),
)
"""Tokens of operations that repeat those of others: the conventions' names would be added up."""
EVERY: Final = (
    Row("tenant_id", "tenant_id or context.tenant_id"),
    Row("app_id", "app_id or context.app_id"),
    Row("app_name", "app_name or context.app_name"),
    Row("workspace_name", "workspace_name"),
    Row("user_id", "user_id"),
    Row("external_trace_id", "external_trace_id"),
    Row("tags", "tags"),
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
    PRICE,
    REPEATED,
    EVERY,
)
NAMES: Final = frozenset(PREFIX + name for name in names_of(*TABLES))
