"""The header of an event, as the processor reads it.

Generated from schemas/*.avsc by tools/schemas.py (`make schemas`). Do not edit.
"""

from __future__ import annotations

from typing import Any, Final

from tailrace.records import TokenClasses

NAMES: Final = (
    "event_id",
    "revision",
    "kind",
    "trace_id",
    "source_id",
    "parent_id",
    "parent_run_id",
    "parent_node_execution_id",
    "root_trace_id",
    "root_run_id",
    "root_app_id",
    "root_started_at",
    "tenant_id",
    "app_id",
    "workflow_run_id",
    "message_id",
    "conversation_id",
    "user_id",
    "session_id",
    "otel_trace_id",
    "otel_span_id",
    "otel_parent_span_id",
    "app_name",
    "workspace_name",
    "name",
    "started_at",
    "ended_at",
    "published_at",
    "status",
    "error",
    "model_provider",
    "model_name",
    "response_model",
    "service_tier",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "token_classes",
    "usage_repeats",
    "input_price",
    "output_price",
    "total_price",
    "currency",
    "node_type",
    "span_kind",
    "tool_name",
    "plugin_name",
    "dataset_ids",
    "operation_type",
    "invoke_from",
    "rating",
    "evaluation_target",
    "mode",
    "time_to_first_token",
    "node_dataset_names",
    "retrieved_dataset_names",
    "evaluation_label",
    "evaluation_flag",
    "evaluation_source",
)
"""Attributes of `Header`, in the order of the schema."""

NESTED_PATHS: Final = {
    "node_dataset_names": "node_execution.dataset_names",
    "retrieved_dataset_names": "dataset_retrieval.dataset_names",
    "evaluation_label": "evaluation.label",
    "evaluation_flag": "evaluation.flag",
    "evaluation_source": "evaluation.source",
}
"""Attribute -> path in the schema, for attributes that are inside a nested record."""

TEXTS: Final = (
    "event_id",
    "trace_id",
    "source_id",
    "parent_id",
    "parent_run_id",
    "parent_node_execution_id",
    "root_trace_id",
    "root_run_id",
    "root_app_id",
    "tenant_id",
    "app_id",
    "workflow_run_id",
    "message_id",
    "conversation_id",
    "user_id",
    "session_id",
    "app_name",
    "workspace_name",
    "name",
    "status",
    "error",
    "model_provider",
    "model_name",
    "response_model",
    "service_tier",
    "input_price",
    "output_price",
    "total_price",
    "currency",
    "node_type",
    "tool_name",
    "plugin_name",
    "operation_type",
    "invoke_from",
    "rating",
    "mode",
    "evaluation_label",
)
LISTS_OF_TEXTS: Final = ("dataset_ids", "node_dataset_names", "retrieved_dataset_names")
RECORDS: Final[dict[str, Any]] = {"TokenClasses": TokenClasses}
"""Name -> class of the nested records that are read whole."""


def defaults() -> dict[str, Any]:
    """Values of fields that the writer's schema lacks; the others are None."""
    return {"revision": 0, "dataset_ids": []}


class Header:
    """The fields of an event that the processor reads. Texts are UTF-8 bytes, times µs UTC."""

    __slots__ = NAMES

    event_id: bytes
    revision: int
    kind: str
    trace_id: bytes | None
    source_id: bytes
    parent_id: bytes | None
    parent_run_id: bytes | None
    parent_node_execution_id: bytes | None
    root_trace_id: bytes | None
    root_run_id: bytes | None
    root_app_id: bytes | None
    root_started_at: int | None
    tenant_id: bytes | None
    app_id: bytes | None
    workflow_run_id: bytes | None
    message_id: bytes | None
    conversation_id: bytes | None
    user_id: bytes | None
    session_id: bytes | None
    otel_trace_id: bytes | None
    otel_span_id: bytes | None
    otel_parent_span_id: bytes | None
    app_name: bytes | None
    workspace_name: bytes | None
    name: bytes | None
    started_at: int
    ended_at: int
    published_at: int
    status: bytes | None
    error: bytes | None
    model_provider: bytes | None
    model_name: bytes | None
    response_model: bytes | None
    service_tier: bytes | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    token_classes: TokenClasses | None
    usage_repeats: bool | None
    input_price: bytes | None
    output_price: bytes | None
    total_price: bytes | None
    currency: bytes | None
    node_type: bytes | None
    span_kind: str | None
    tool_name: bytes | None
    plugin_name: bytes | None
    dataset_ids: list[bytes]
    operation_type: bytes | None
    invoke_from: bytes | None
    rating: bytes | None
    evaluation_target: str | None
    mode: bytes | None
    time_to_first_token: int | None
    node_dataset_names: list[bytes] | None
    retrieved_dataset_names: list[bytes] | None
    evaluation_label: bytes | None
    evaluation_flag: bool | None
    evaluation_source: str | None

    def __init__(self, values: tuple[Any, ...]) -> None:
        """Takes one value for each of `NAMES`, in order."""
        (
            self.event_id,
            self.revision,
            self.kind,
            self.trace_id,
            self.source_id,
            self.parent_id,
            self.parent_run_id,
            self.parent_node_execution_id,
            self.root_trace_id,
            self.root_run_id,
            self.root_app_id,
            self.root_started_at,
            self.tenant_id,
            self.app_id,
            self.workflow_run_id,
            self.message_id,
            self.conversation_id,
            self.user_id,
            self.session_id,
            self.otel_trace_id,
            self.otel_span_id,
            self.otel_parent_span_id,
            self.app_name,
            self.workspace_name,
            self.name,
            self.started_at,
            self.ended_at,
            self.published_at,
            self.status,
            self.error,
            self.model_provider,
            self.model_name,
            self.response_model,
            self.service_tier,
            self.input_tokens,
            self.output_tokens,
            self.total_tokens,
            self.token_classes,
            self.usage_repeats,
            self.input_price,
            self.output_price,
            self.total_price,
            self.currency,
            self.node_type,
            self.span_kind,
            self.tool_name,
            self.plugin_name,
            self.dataset_ids,
            self.operation_type,
            self.invoke_from,
            self.rating,
            self.evaluation_target,
            self.mode,
            self.time_to_first_token,
            self.node_dataset_names,
            self.retrieved_dataset_names,
            self.evaluation_label,
            self.evaluation_flag,
            self.evaluation_source,
        ) = values
