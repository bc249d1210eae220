"""Weave's judge: the types of the SDK that is generated from its server's API."""

from __future__ import annotations

import copy
import functools
import importlib
import json
from collections.abc import Iterator
from typing import Any, Final

from tests.vendor import strict
from tests.vendor.inside import Request, serve
from tests.vendor.inside.bare import bare

REQUIRES: Final = (
    "weave==0.54.0",
    "distro==1.9.0",
    "httpx==0.28.1",
    "pydantic==2.14.4",
    "sniffio==1.3.1",
)
VARIANTS: Final[tuple[dict[str, str], ...]] = ({"view": "agents"},)
TYPES: Final = "weave.vendor.weave_server_sdk.types"
AGENTS: Final = "/agents/otel/v1/traces"
"""OTLP, for which the SDK has no types; the judge of OTLP reads it too."""
READ: Final = frozenset(
    f"gen_ai.{name}"
    for name in (
        "agent.description",
        "agent.id",
        "agent.name",
        "agent.version",
        "conversation.id",
        "conversation.name",
        "input.messages",
        "operation.name",
        "output.messages",
        "output.type",
        "provider.name",
        "request.choice.count",
        "request.frequency_penalty",
        "request.max_tokens",
        "request.model",
        "request.presence_penalty",
        "request.seed",
        "request.stop_sequences",
        "request.temperature",
        "request.top_p",
        "response.finish_reasons",
        "response.id",
        "response.model",
        "system_instructions",
        "tool.call.arguments",
        "tool.call.id",
        "tool.call.result",
        "tool.definitions",
        "tool.description",
        "tool.name",
        "tool.type",
        "usage.cache_creation.input_tokens",
        "usage.cache_read.input_tokens",
        "usage.input_tokens",
        "usage.output_tokens",
        "usage.reasoning.output_tokens",
    )
)
"""The attributes with this prefix that the Agents view reads: weave/shared/agents/semconv.py of 0.53.12, the
last release that has the server, without older names. It keeps others, but neither shows nor adds them up."""
DETAILS: Final = {
    "prompt_tokens_details": frozenset({"audio_tokens", "image_tokens"}),
    "completion_tokens_details": frozenset({"audio_tokens", "image_tokens", "reasoning_tokens"}),
}
OPERATIONS: Final = frozenset(
    {"chat", "embeddings", "execute_tool", "invoke_agent", "invoke_workflow", "retrieval"}
)
"""Of OpenTelemetry's values of gen_ai.operation.name those of what a workflow does."""
PROJECT: Final = frozenset({"wandb.entity", "wandb.project"})
"""Resource attributes without which the server drops a span."""


def problems(request: Request) -> Iterator[str]:
    if request.matches("POST", "/calls/complete"):
        entity, project = request.path.split("/")[-4:-2]
        body = {"entity": entity, **copy.deepcopy(request.body)}  # a part of the path, which is in the type
        for i, call in enumerate(body.get("batch", ())):
            yield from (f".batch[{i}].summary.usage.{text}" for text in _details(call))
        yield from _typed("v2_call_complete_params:V2CallCompleteParams", body)
        for i, call in enumerate(request.body.get("batch", ())):
            if call.get("project_id") != f"{entity}/{project}":
                yield f".batch[{i}].project_id: {call.get('project_id')!r} is not the path's"
    elif request.matches("POST", "/feedback/replace"):
        yield from _typed("feedback_replace_params:FeedbackReplaceParams", request.body)
        if request.body.get("feedback_id") != request.body.get("id"):
            yield ".feedback_id: is another id than that of the row, so a resend would add rows"
    elif request.matches("POST", "/feedback/purge"):
        # its keys start with $, which only the SDK's own encoder knows
        yield from strict.problems(_type("feedback_purge_params:FeedbackPurgeParams"), request.body)
    elif request.matches("POST", AGENTS):
        for group in request.body["resourceSpans"]:
            names = {a["key"] for a in group.get("resource", {}).get("attributes", ())}
            yield from (f"resource: no {name}" for name in sorted(PROJECT - names))
            for scope in group["scopeSpans"]:
                for span in scope["spans"]:
                    yield from (f"span {span['spanId']}: {text}" for text in _of_agents(span))
    else:
        yield f"{request.method} {request.path}: not a request that the sink may make"


def _details(call: Any) -> Iterator[str]:
    """Takes the details of tokens out of a call's usage, and says what is wrong with them.

    The type of usage is open (`extra_items`), and these are what clients of models put there.
    """
    summary = call.get("summary")
    usage = summary.get("usage") if isinstance(summary, dict) else None
    for model, counts in usage.items() if isinstance(usage, dict) else ():
        for name in DETAILS.keys() & counts.keys():
            found = counts.pop(name)
            if not isinstance(found, dict) or not found.keys() <= DETAILS[name]:
                yield f"{model}.{name}: {found!r} has not only {sorted(DETAILS[name])}"
            elif any(type(n) is not int for n in found.values()):
                yield f"{model}.{name}: {found!r} are not integers"


def _of_agents(span: Any) -> Iterator[str]:
    for attribute in span.get("attributes", ()):
        key, value = attribute["key"], attribute["value"]
        if not key.startswith("gen_ai."):
            continue
        if key not in READ:
            yield f"{key}: unknown attribute"
        elif key.startswith("gen_ai.usage.") and "intValue" not in value:
            yield f"{key}: {value} is not an integer"
        elif key.endswith(".messages") and not _messages(value):
            yield f"{key}: is not a JSON array of messages"
        elif key == "gen_ai.operation.name" and value.get("stringValue") not in OPERATIONS:
            yield f"{key}: {value} is not one of {sorted(OPERATIONS)}"


def _messages(value: Any) -> bool:
    try:
        found = json.loads(value["stringValue"])
    except (KeyError, ValueError):
        return False
    return isinstance(found, list) and all(
        isinstance(m, dict) and {"role", "parts"} <= m.keys() for m in found
    )


def _typed(where: str, body: Any) -> Iterator[str]:
    yield from strict.problems(_type(where), body)
    yield from strict.parsed(_type(where), body)


@functools.cache
def _type(where: str) -> Any:
    bare("weave")
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(f"{TYPES}.{module}"), name)


if __name__ == "__main__":
    serve(problems)
