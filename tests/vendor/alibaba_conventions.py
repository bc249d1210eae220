"""Alibaba Cloud's GenAI conventions as a table: every attribute with its type and its allowed values.

From loongsuite-semantic-conventions-genai of August 2026, which builds on OpenTelemetry 1.41, and from ARMS'
page on LLM traces, which has the attributes without a kind of its own in OpenTelemetry. Strict: an attribute
of the conventions' name spaces that is not in the table is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

SPACES: Final = ("gen_ai.", "input.", "output.", "retrieval.", "reranker.", "tool.", "acs.")
"""Beginnings of names that belong to the conventions."""


class Attribute(NamedTuple):
    of: type[Any]
    values: frozenset[str] | None = None
    """None: any."""
    json: bool = False
    """Whether its text must be a JSON array of objects."""


KINDS: Final = frozenset(
    ["RETRIEVER", "LLM", "EMBEDDING", "TOOL", "MCP", "AGENT", "RERANKER", "WORKFLOW", "ENTRY", "STEP"]
)
OLDER: Final = frozenset({"CHAIN", "TASK"})
"""In seed 002 and in Dify, no longer in the conventions: with `kinds = "seed"` only."""
OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "RETRIEVER": frozenset({"retrieval"}),
    "LLM": frozenset({"chat", "generate_content", "text_completion"}),
    "EMBEDDING": frozenset({"embeddings"}),
    "TOOL": frozenset({"execute_tool"}),
    "AGENT": frozenset({"invoke_agent", "create_agent"}),
    "RERANKER": frozenset({"rerank"}),
    "WORKFLOW": frozenset({"invoke_workflow"}),
    "ENTRY": frozenset({"enter"}),
    "STEP": frozenset({"react", "run_task"}),
    "CHAIN": frozenset({"workflow", "task"}),
    "TASK": frozenset({"run_task"}),
}
"""gen_ai.span.kind -> gen_ai.operation.name. The conventions allow values of one's own; these are known."""
RESOURCE: Final[Mapping[str, Attribute]] = {
    "service.name": Attribute(str),
    "service.version": Attribute(str),
    "host.name": Attribute(str),
    "deployment.environment": Attribute(str),
    "acs.arms.service.feature": Attribute(str, frozenset({"genai_app"})),
    "acs.cms.workspace": Attribute(str),
}
SPAN: Final[Mapping[str, Attribute]] = {
    "gen_ai.span.kind": Attribute(str, KINDS | OLDER),
    "gen_ai.operation.name": Attribute(str, frozenset().union(*OPERATIONS.values())),
    "gen_ai.framework": Attribute(str),
    "gen_ai.session.id": Attribute(str),
    "gen_ai.user.id": Attribute(str),
    "gen_ai.user.name": Attribute(str),
    "gen_ai.turn.id": Attribute(str),
    "gen_ai.step.id": Attribute(str),
    "gen_ai.conversation.id": Attribute(str),
    "gen_ai.provider.name": Attribute(str),
    "gen_ai.output.type": Attribute(str, frozenset({"image", "json", "speech", "text"})),
    "gen_ai.request.model": Attribute(str),
    "gen_ai.request.service_tier": Attribute(str),
    "gen_ai.request.choice.count": Attribute(int),
    "gen_ai.request.seed": Attribute(int),
    "gen_ai.request.max_tokens": Attribute(int),
    "gen_ai.request.frequency_penalty": Attribute(float),
    "gen_ai.request.presence_penalty": Attribute(float),
    "gen_ai.request.temperature": Attribute(float),
    "gen_ai.request.top_p": Attribute(float),
    "gen_ai.request.top_k": Attribute(float),
    "gen_ai.request.stop_sequences": Attribute(list),
    "gen_ai.request.encoding_formats": Attribute(list),
    "gen_ai.response.id": Attribute(str),
    "gen_ai.response.model": Attribute(str),
    "gen_ai.response.finish_reasons": Attribute(list),
    "gen_ai.response.time_to_first_token": Attribute(int),
    "gen_ai.response.reasoning_time": Attribute(int),
    "gen_ai.user.time_to_first_token": Attribute(int),
    "gen_ai.usage.input_tokens": Attribute(int),
    "gen_ai.usage.output_tokens": Attribute(int),
    "gen_ai.usage.total_tokens": Attribute(int),
    "gen_ai.usage.cache_creation.input_tokens": Attribute(int),
    "gen_ai.usage.cache_read.input_tokens": Attribute(int),
    "gen_ai.usage.reasoning.output_tokens": Attribute(int),
    "gen_ai.input.messages": Attribute(str, json=True),
    "gen_ai.output.messages": Attribute(str, json=True),
    "gen_ai.system_instructions": Attribute(str, json=True),
    "gen_ai.tool.definitions": Attribute(str, json=True),
    "gen_ai.input.multimodal_metadata": Attribute(list),
    "gen_ai.output.multimodal_metadata": Attribute(list),
    "gen_ai.embeddings.dimension.count": Attribute(int),
    "gen_ai.tool.name": Attribute(str),
    "gen_ai.tool.type": Attribute(str, frozenset({"function", "extension", "datastore"})),
    "gen_ai.tool.description": Attribute(str),
    "gen_ai.tool.call.id": Attribute(str),
    "gen_ai.tool.call.exec.id": Attribute(str),
    "gen_ai.tool.call.arguments": Attribute(str),
    "gen_ai.tool.call.result": Attribute(str),
    "gen_ai.tool.call.duration": Attribute(float),
    "gen_ai.agent.id": Attribute(str),
    "gen_ai.agent.name": Attribute(str),
    "gen_ai.agent.description": Attribute(str),
    "gen_ai.workflow.name": Attribute(str),
    "gen_ai.data_source.id": Attribute(str),
    "gen_ai.retrieval.query.text": Attribute(str),
    "gen_ai.retrieval.documents": Attribute(str, json=True),
    "gen_ai.react.round": Attribute(int),
    "gen_ai.react.finish_reason": Attribute(str),
    "gen_ai.skill.id": Attribute(str),
    "gen_ai.skill.name": Attribute(str),
    "reranker.query": Attribute(str),
    "reranker.model_name": Attribute(str),
    "reranker.top_k": Attribute(int),
    "reranker.input_document": Attribute(str, json=True),
    "reranker.output_document": Attribute(str, json=True),
    "input.value": Attribute(str),
    "input.mime_type": Attribute(str),
    "output.value": Attribute(str),
    "output.mime_type": Attribute(str),
    "error.type": Attribute(str),
}
REQUIRED: Final = ("gen_ai.span.kind", "gen_ai.operation.name")
ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
FINISHED: Final = frozenset({"stop", "length", "content_filter", "tool_call", "tool_calls", "error"})


def violations(
    resource: Mapping[str, Any], attributes: Mapping[str, Any], *, older: bool = False
) -> Iterator[str]:
    """What a span has against the conventions.

    Args:
        resource: Attributes of its resource, as plain values.
        attributes: Its own attributes, as plain values.
        older: Whether CHAIN and TASK are allowed.
    """
    for name in ("service.name", "acs.arms.service.feature"):
        if name not in resource:
            yield f"resource: {name} is missing"
    yield from (f"resource: {p}" for p in _wrong(resource, RESOURCE, ("acs.", "service.")))
    for name in REQUIRED:
        if name not in attributes:
            yield f"{name} is missing"
    yield from _wrong(attributes, SPAN, SPACES)
    kind, operation = str(attributes.get("gen_ai.span.kind")), attributes.get("gen_ai.operation.name")
    if kind in OLDER and not older:
        yield f"gen_ai.span.kind: {kind} is no longer in the conventions"
    if kind in OPERATIONS and operation not in OPERATIONS[kind]:
        yield f"gen_ai.operation.name: {operation} is not one of {kind}"
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        if name in attributes:
            yield from (f"{name}: {p}" for p in _messages(attributes[name], name.startswith("gen_ai.output")))


def _wrong(
    found: Mapping[str, Any], known: Mapping[str, Attribute], spaces: tuple[str, ...]
) -> Iterator[str]:
    for name, value in found.items():
        rule = known.get(name)
        if rule is None:
            if name.startswith(spaces):
                yield f"{name}: unknown attribute"
            continue
        if type(value) is not rule.of:
            yield f"{name}: is {type(value).__name__}, must be {rule.of.__name__}"
        elif rule.of is list and not all(isinstance(v, str) for v in value):
            yield f"{name}: must be an array of strings"
        elif rule.values is not None and value not in rule.values:
            yield f"{name}: {value} is not an allowed value"
        elif rule.of is int and value < 0:
            yield f"{name}: is negative"
        elif rule.json and not _objects(value):
            yield f"{name}: must be a JSON array of objects"


def _objects(text: str) -> bool:
    try:
        document = json.loads(text)
    except ValueError:
        return False
    return isinstance(document, list) and all(isinstance(one, dict) for one in document)


def _messages(text: str, output: bool) -> Iterator[str]:
    if not _objects(text):
        return
    for message in json.loads(text):
        if message.get("role") not in ROLES:
            yield f"role {message.get('role')!r}"
        parts = message.get("parts")
        if not isinstance(parts, list) or not all(isinstance(p, dict) and p.get("type") for p in parts):
            yield "parts must be objects with a type"
        if output and message.get("finish_reason") not in FINISHED:
            yield f"finish_reason {message.get('finish_reason')!r}"
        if unknown := message.keys() - {"role", "parts", "name", "finish_reason"}:
            yield f"unknown members {sorted(unknown)}"
