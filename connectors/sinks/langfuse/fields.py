"""Which fields of an event are an observation's metadata at Langfuse, by kind: tables for `langfuse_map`.

Names are those of seed 001's lists where it has the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args, get_origin, get_type_hints

from tailrace.records import TraceEvent

PREFIX: Final = "langfuse.observation.metadata."

_LANGUAGE_MODEL: Final = "model_provider=ls_provider model_name=ls_model_name"
_MESSAGE: Final = "from_source from_end_user_id from_account_id"
_CALLER: Final = "parent_run_id parent_node_execution_id parent_app_id"
_NODE: Final = {
    "": "source_id=node_execution_id workflow_run_id node_type status plugin_name dataset_ids "
    f"invoke_from error_type total_tokens {_LANGUAGE_MODEL}",
    "node_execution": "workflow_id node_id index predecessor_node_id iteration_id iteration_index loop_id "
    "loop_index parallel_id "
    "elapsed_time~ plugin_id credential_id credential_name model_mode finish_reason retry_count retries",
}
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "workflow_run": {
        "": "workflow_run_id conversation_id message_id tenant_id status total_tokens invoke_from "
        f"error_type {_CALLER}",
        "origin": "triggered_from workflow_app_log_id file_list created_by_role",
        "workflow_run": "workflow_id workflow_version=version query elapsed_time~ steps exceptions_count",
    },
    "message": {
        "": "message_id conversation_id workflow_run_id status mode=conversation_mode "
        "input_tokens=message_tokens "
        f"output_tokens=answer_tokens total_tokens invoke_from error_type {_LANGUAGE_MODEL}",
        "origin": f"{_MESSAGE} agent_based message_data message_file_data message_file_id file_list "
        "created_by_role",
        "message": "conversation_model query streaming provider_response_latency~ time_to_generate~",
    },
    "moderation": {
        "": "message_id status error_type",
        "origin": "workflow_app_log_id message_data",
        "moderation": "moderation_type action flagged preset_response categories query",
    },
    "suggested_question": {
        "": f"message_id workflow_run_id total_tokens error_type {_LANGUAGE_MODEL}",
        "origin": f"message_status=status {_MESSAGE} agent_based message_data",
        "suggested_question": "questions=suggested_question level",
    },
    "dataset_retrieval": {
        "": f"message_id workflow_run_id dataset_ids error_type {_LANGUAGE_MODEL}",
        "origin": f"message_status=status {_MESSAGE} agent_based message_data",
        "dataset_retrieval": "query document_count embedding_models rerank_model_provider rerank_model_name",
    },
    "tool": {
        "": "message_id workflow_run_id status error error_type plugin_name",
        "origin": "message_file_id created_by_role created_user_id message_data",
        "tool": "call_id description tool_inputs tool_outputs tool_config tool_parameters time_cost~ "
        "file_urls=file_url",
    },
    "generate_name": {"": "conversation_id tenant_id status error_type"},
    "prompt_generation": {
        "": f"operation_type status total_tokens error_type {_LANGUAGE_MODEL}",
        "prompt_generation": "instruction latency~",
    },
    "node_execution": _NODE,
    "draft_node_execution": _NODE,
    "span": {
        "": f"source_id=operation_id workflow_run_id span_kind status error_type {_LANGUAGE_MODEL}",
        "span": "otel_kind scope_name scope_version finish_reason attributes_json=otel_attributes "
        "events=otel_events "
        "links=otel_links resource=otel_resource",
    },
}
"""Kind -> body (empty: the event) -> fields. `=name` where seed 001 has another one; `~` for microseconds
that are shown as seconds."""


TEXT: Final = 0
NUMBER: Final = 1
FLAG: Final = 2
LIST: Final = 3
SECONDS: Final = 4
"""How a value becomes text."""

Table = tuple[str, tuple[tuple[str, str], ...], tuple[tuple[str, str, int], ...]]
"""Body (empty: the event), its texts as (field, attribute), and its other values as (field, attribute,
how)."""


def _form(hint: Any, word: str) -> int:
    if word.endswith("~"):
        return SECONDS
    kinds = {k for k in get_args(hint) or (hint,) if k is not type(None)}
    if kinds == {int}:
        return NUMBER
    if kinds == {bool}:
        return FLAG
    return LIST if get_origin(hint) is Sequence else TEXT


def _body(source: str) -> Any:
    """The struct of a body."""
    if not source:
        return TraceEvent
    return next(k for k in get_args(get_type_hints(TraceEvent)[source]) if k is not type(None))


def _table(source: str, spec: str) -> Table:
    hints = get_type_hints(_body(source))
    texts, others = [], []
    for word in spec.split():
        field, _, name = word.rstrip("~").partition("=")
        form = _form(hints[field], word)
        if form == TEXT:
            texts.append((field, PREFIX + (name or field)))
        else:
            others.append((field, PREFIX + (name or field), form))
    return source, tuple(texts), tuple(others)


TABLES: Final = {
    kind: tuple(_table(source, spec) for source, spec in bodies.items()) for kind, bodies in FIELDS.items()
}
RESERVED: Final = frozenset(
    key.removeprefix(PREFIX)
    for tables in TABLES.values()
    for _, texts, others in tables
    for key in (*(key for _, key in texts), *(key for _, key, _ in others))
)
"""Metadata names that an event's own attributes don't take."""
