"""The attributes of a call in Weave, by kind. Pure.

They have what seed 004 lists for the kind, under the seed's names, and fields that would be lost otherwise.
"""

from __future__ import annotations

from typing import Final

import orjson

from connectors.mapping import changes
from connectors.mapping.members import json_value
from connectors.mapping.rows import ENCODED, JSON, SECONDS, Row, Table
from tailrace.records import TraceContext, TraceEvent
from tailrace.token_classes import plausible

USAGE: Final = "usage_metadata"
"""The attribute with the tokens of any operation, which Weave does not sum. It is in no table."""


# -- values that are not fields
def usage(event: TraceEvent) -> str | None:
    """Token counts by Weave's names, as the members of a JSON object; None if there is none.

    Weave adds up the members that it knows: totals and the cached parts of the input. The other classes are
    in the two objects that OpenAI's usage has for them. A count below 0 is left out.
    """
    given, returned, total = event.input_tokens, event.output_tokens, event.total_tokens
    found = []
    if given is not None and given >= 0:
        found.append(f'"prompt_tokens":{given}')
    if returned is not None and returned >= 0:
        found.append(f'"completion_tokens":{returned}')
    if total is not None and total >= 0:
        found.append(f'"total_tokens":{total}')
    classes = event.token_classes
    if classes is not None and plausible(given, returned, classes):
        if classes.cache_read is not None:
            found.append(f'"cache_read_input_tokens":{classes.cache_read}')
        if classes.cache_write is not None:
            found.append(f'"cache_creation_input_tokens":{classes.cache_write}')
        _details(found, "prompt", classes.input_audio, classes.input_image, None)
        _details(found, "completion", classes.output_audio, classes.output_image, classes.reasoning)
    return ",".join(found) if found else None


def _details(found: list[str], of: str, audio: int | None, image: int | None, thought: int | None) -> None:
    parts = []
    if audio is not None:
        parts.append(f'"audio_tokens":{audio}')
    if image is not None:
        parts.append(f'"image_tokens":{image}')
    if thought is not None:
        parts.append(f'"reasoning_tokens":{thought}')
    if parts:
        found.append(f'"{of}_tokens_details":{{{",".join(parts)}}}')


def _attributes(event: TraceEvent, context: TraceContext) -> bytes | None:
    return orjson.dumps(event.attributes) if event.attributes else None


def _message_inputs(event: TraceEvent, context: TraceContext) -> bytes | None:
    """Inputs of the message, for a tool that has its own inputs."""
    return None if event.tool is None or event.tool.tool_inputs is None else json_value(event.inputs)


def _message_outputs(event: TraceEvent, context: TraceContext) -> bytes | None:
    return None if event.tool is None or event.tool.tool_outputs is None else json_value(event.outputs)


def place_of(row: Row) -> str:
    """What a row reads: empty if it may be several things."""
    if not isinstance(row.value, str) or " or " in row.value:
        return ""
    return row.value.rpartition(".")[0] or "event"


# -- tables
_TOOL_NAME: Final = Row("tool_name", "context.tool_name or tool_name")


def _table(*own: Row, of_message: bool = False) -> Table:
    """The rows of a kind: those that every kind has, and its own.

    Args:
        own: what only this kind has.
        of_message: `status` is the message's, as seed 004 wants it; the operation's own is another row.
    """
    status = "origin.message_status" if of_message else "status"
    rows: Table = (
        Row("tenant_id", "tenant_id or context.tenant_id"),
        Row("conversation_id", "conversation_id or context.conversation_id"),
        Row("message_id", "message_id"),
        Row("workflow_run_id", "workflow_run_id"),
        Row("user_id", "user_id or context.user_id"),
        Row("user_session_id", "session_id or context.session_id"),
        Row("status", status),
        Row("error", "error"),
        Row("error_type", "error_type"),
        Row("environment", "environment"),
        Row("time_to_first_token", "time_to_first_token", SECONDS),
        Row("app_id", "app_id or context.app_id"),
        Row("app_name", "app_name or context.app_name"),
        Row("workspace_name", "workspace_name or context.workspace_name"),
        Row("invoke_from", "invoke_from"),
        Row("conversation_mode", "mode"),
        Row("host_name", "host_name"),
        Row("external_trace_id", "external_trace_id"),
        Row("tailrace.event_id", "event_id"),
        Row("tailrace.trace_id", "context.root_trace_id"),
        Row("tailrace.source_id", "source_id"),
        Row("tailrace.marks", "context.marks"),
        Row(changes.NAME, changes.content_changes),
        Row("attributes", _attributes, ENCODED),
        Row("ls_provider", "model_provider"),
        Row("ls_model_name", "model_name"),
        Row("response_model", "response_model"),
        Row("service_tier", "service_tier"),
        Row("cache_write_1h_tokens", "token_classes.cache_write_1h"),
        Row("cache_read_audio_tokens", "token_classes.cache_read_audio"),
        Row("total_tokens", "total_tokens"),
        Row("input_price", "input_price"),
        Row("output_price", "output_price"),
        Row("total_price", "total_price"),
        Row("currency", "currency"),
        Row("estimated_cost", "context.estimated_cost"),
        Row("price_table", "context.price_table"),
        Row("from_source", "origin.from_source"),
        Row("from_end_user_id", "origin.from_end_user_id"),
        Row("from_account_id", "origin.from_account_id"),
        Row("invoked_by", "origin.invoked_by"),
        Row("triggered_from", "origin.triggered_from"),
        Row("agent_based", "origin.agent_based"),
        Row("created_by_role", "origin.created_by_role"),
        Row("created_user_id", "origin.created_user_id"),
        Row("workflow_app_log_id", "origin.workflow_app_log_id"),
        *(() if of_message else (Row("message_status", "origin.message_status"),)),
        Row("message_data", "origin.message_data"),
        Row("message_file_data", "origin.message_file_data"),
        Row("message_file_id", "origin.message_file_id"),
        Row("file_list", "origin.file_list"),
        *own,
    )
    places = list(dict.fromkeys(map(place_of, rows)))
    return tuple(sorted(rows, key=lambda row: places.index(place_of(row))))  # a plan reads each place once


WORKFLOW_RUN: Final = _table(
    Row("workflow_id", "workflow_run.workflow_id"),
    Row("version", "workflow_run.workflow_version"),
    Row("query", "workflow_run.query"),
    Row("elapsed_time", "workflow_run.elapsed_time", SECONDS),
    Row("steps", "workflow_run.steps"),
    Row("exceptions_count", "workflow_run.exceptions_count"),
    Row("parent_workflow_run_id", "parent_run_id"),
    Row("parent_node_execution_id", "parent_node_execution_id"),
    Row("parent_app_id", "parent_app_id"),
)
NODE: Final = _table(
    Row("node_type", "node_type"),
    _TOOL_NAME,
    Row("plugin_name", "plugin_name"),
    Row("dataset_ids", "dataset_ids"),
    Row("dataset_names", "node_execution.dataset_names or context.dataset_names"),
    Row("node_id", "node_execution.node_id"),
    Row("workflow_id", "node_execution.workflow_id"),
    Row("index", "node_execution.index"),
    Row("predecessor_node_id", "node_execution.predecessor_node_id"),
    Row("iteration_id", "node_execution.iteration_id"),
    Row("iteration_index", "node_execution.iteration_index"),
    Row("loop_id", "node_execution.loop_id"),
    Row("loop_index", "node_execution.loop_index"),
    Row("parallel_id", "node_execution.parallel_id"),
    Row("elapsed_time", "node_execution.elapsed_time", SECONDS),
    Row("process_data", "node_execution.process_data"),
    Row("plugin_id", "node_execution.plugin_id"),
    Row("credential_id", "node_execution.credential_id"),
    Row("credential_name", "node_execution.credential_name"),
    Row("model_mode", "node_execution.model_mode"),
    Row("finish_reason", "node_execution.finish_reason"),
    Row("retry_count", "node_execution.retry_count"),
    Row("retries", "node_execution.retries"),
    Row("metadata", "node_execution.metadata"),
)
MESSAGE: Final = _table(
    Row("conversation_model", "message.conversation_model"),
    Row("model_id", "message.model_id"),
    Row("query", "message.query"),
    Row("provider_response_latency", "message.provider_response_latency", SECONDS),
    Row("streaming", "message.streaming"),
    Row("time_to_generate", "message.time_to_generate", SECONDS),
)
MODERATION: Final = _table(
    Row("moderation_type", "moderation.moderation_type"),
    Row("action", "moderation.action"),
    Row("flagged", "moderation.flagged"),
    Row("categories", "moderation.categories"),
    Row("preset_response", "moderation.preset_response"),
    Row("query", "moderation.query"),
)
SUGGESTED_QUESTION: Final = _table(
    Row("operation_status", "status"),
    Row("suggested_question", "suggested_question.questions"),
    Row("level", "suggested_question.level"),
    Row("status_message", "suggested_question.status_message"),
    of_message=True,
)
DATASET_RETRIEVAL: Final = _table(
    Row("operation_status", "status"),
    Row("dataset_ids", "dataset_ids"),
    Row("dataset_names", "dataset_retrieval.dataset_names or context.dataset_names"),
    Row("query", "dataset_retrieval.query"),
    Row("documents", "dataset_retrieval.documents"),
    Row("document_count", "dataset_retrieval.document_count"),
    Row("embedding_models", "dataset_retrieval.embedding_models", JSON),
    Row("rerank_model_provider", "dataset_retrieval.rerank_model_provider"),
    Row("rerank_model_name", "dataset_retrieval.rerank_model_name"),
    of_message=True,
)
TOOL: Final = _table(
    _TOOL_NAME,
    Row("plugin_name", "plugin_name"),
    Row("tool_inputs", "tool.tool_inputs"),
    Row("tool_outputs", "tool.tool_outputs"),
    Row("tool_config", "tool.tool_config"),
    Row("tool_parameters", "tool.tool_parameters"),
    Row("time_cost", "tool.time_cost", SECONDS),
    Row("file_url", "tool.file_urls"),
    Row("call_id", "tool.call_id"),
    Row("description", "tool.description"),
    Row("message_inputs", _message_inputs, ENCODED),
    Row("message_outputs", _message_outputs, ENCODED),
)
GENERATE_NAME: Final = _table()
PROMPT_GENERATION: Final = _table(
    Row("operation_type", "operation_type"),
    Row("instruction", "prompt_generation.instruction"),
    Row("output", "prompt_generation.output"),
    Row("latency", "prompt_generation.latency", SECONDS),
)
SPAN: Final = _table(
    Row("span_kind", "span_kind"),
    _TOOL_NAME,
    Row("dataset_ids", "dataset_ids"),
    Row("dataset_names", "context.dataset_names"),
    Row("otel_kind", "span.otel_kind"),
    Row("scope_name", "span.scope_name"),
    Row("scope_version", "span.scope_version"),
    Row("trace_state", "span.trace_state"),
    Row("finish_reason", "span.finish_reason"),
    Row("span_attributes", "span.attributes_json"),
    Row("span_events", "span.events"),
    Row("span_links", "span.links", JSON),
    Row("resource", "span.resource", JSON),
)
