"""Maps an enriched event to a span of Weave's Agents view, by OpenTelemetry's GenAI conventions. Pure.

The view knows three operations: a turn of an agent (invoke_agent), a call of a model (chat) and of a tool
(execute_tool). Other operations are spans between them. What the conventions have no name for is an attribute
under the seed's name, as in the calls of `mapping`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from connectors.mapping.attributes import WireAttribute
from connectors.mapping.prompts import messages
from connectors.mapping.rows import Plan, RecordValues, Row, Table, plan
from connectors.otlp import wire
from connectors.sdk.contract import Enriched, Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.weave import metadata
from connectors.sinks.weave.mapping import END_OF_TIME, KINDS, Operation, error_of, looks
from connectors.sinks.weave.values import without_references
from tailrace import roll_ups
from tailrace.oversize import sizes, truncate
from tailrace.records import TraceContext, TraceEvent
from tailrace.token_classes import plausible

_NODES: Final[Mapping[str | None, str]] = {
    "llm": "chat",
    "question-classifier": "chat",
    "parameter-extractor": "chat",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "knowledge-retrieval": "retrieval",
}
_SPANS: Final[Mapping[str | None, str]] = {
    "llm": "chat",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "embedding": "embeddings",
    "retriever": "retrieval",
}
_OTHERS: Final[Mapping[str, str]] = {
    "suggested_question": "chat",
    "generate_name": "chat",
    "prompt_generation": "chat",
    "tool": "execute_tool",
    "dataset_retrieval": "retrieval",
    "message": "invoke_agent",
}
MAX_SPAN: Final = 30_000_000
"""Most bytes of a span. Weave takes requests of 32 MiB."""
_TRIES: Final = 8
"""How often a span that is too large is cut. Content may be in it several times, in several forms."""
_TURN: Final = "invoke_agent"
_NO_FEEDBACK: Final = Skip("no_call")
_dumps: Final[Callable[[Any], bytes]] = orjson.dumps

_COMMON: Final[Table] = (
    Row("gen_ai.conversation.id", "conversation_id or context.conversation_id", empty=False),
    Row("gen_ai.provider.name", "context.provider_name or model_provider", empty=False),
    Row("gen_ai.request.model", "context.request_model or model_name", empty=False),
    Row("gen_ai.response.model", "response_model", empty=False),
    Row("user.id", "user_id or context.user_id", empty=False),
    Row("error.type", "error_type", empty=False),
)
_OPERATION: Final = WireAttribute("gen_ai.operation.name")
_AGENT: Final = WireAttribute("gen_ai.agent.name")
_TOOL: Final = WireAttribute("gen_ai.tool.name")
_CALL_ID: Final = WireAttribute("gen_ai.tool.call.id")
_ARGUMENTS: Final = WireAttribute("gen_ai.tool.call.arguments")
_RESULT: Final = WireAttribute("gen_ai.tool.call.result")
_INPUT: Final = WireAttribute("gen_ai.input.messages")
_OUTPUT: Final = WireAttribute("gen_ai.output.messages")
_INPUT_TOKENS: Final = WireAttribute("gen_ai.usage.input_tokens")
_OUTPUT_TOKENS: Final = WireAttribute("gen_ai.usage.output_tokens")
_CACHE_READ: Final = WireAttribute("gen_ai.usage.cache_read.input_tokens")
_CACHE_WRITE: Final = WireAttribute("gen_ai.usage.cache_creation.input_tokens")
_REASONING: Final = WireAttribute("gen_ai.usage.reasoning.output_tokens")
_INPUTS: Final = WireAttribute("inputs")
_USAGE: Final = WireAttribute(metadata.USAGE)
_TAGS: Final = WireAttribute("tags")


def to_span(record: Enriched) -> bytes | Skip | Rejected:
    """The span of an event, encoded. Does not raise for any event that the codec decodes.

    Returns:
        `Skip` for kinds that are not sent, and for ratings and evaluations, which are about calls. `Rejected`
        for times, ids and texts that Weave cannot store.
    """
    event, context = record.event, record.context
    operation = _PLANS.get(event.kind)
    if operation is None:
        how = KINDS[event.kind]
        return how if isinstance(how, Skip) else _NO_FEEDBACK
    started_at, ended_at = event.started_at, event.ended_at
    if not (0 <= started_at < END_OF_TIME and 0 <= ended_at < END_OF_TIME):
        field = "ended_at" if 0 <= started_at < END_OF_TIME else "started_at"
        return Rejected(
            "time_out_of_range", f"{field} is {getattr(event, field)} µs; Weave stores 1970 to 2261"
        )
    trace_id, own, parent = context.message_trace_id, context.span_id, context.parent_span_id
    if not (any(trace_id) and any(own)):
        return Rejected("invalid_id", "the context's trace or span id is all zero")
    if parent is not None and (parent == own or not any(parent)):
        parent = None
    try:
        span = _span(operation, event, context, parent)
        for _ in range(_TRIES):
            if len(span) <= MAX_SPAN:
                break
            event = _shorter(event, len(span))
            span = _span(operation, event, context, parent)
        return without_references(span)
    except (TypeError, ValueError, OverflowError) as e:  # lone surrogates, numbers beyond 64 bits
        return Rejected("not_encodable", f"a value cannot be written as OTLP ({type(e).__name__})")


def _shorter(event: TraceEvent, size: int) -> TraceEvent:
    """The event cut in the proportion in which its span of `size` bytes is too large, and 2% more."""
    texts = 0
    for found, _ in sizes(event):
        texts += found
    return truncate(event, texts - texts * (MAX_SPAN * 49 // 50) // size)


def _span(how: _SpanPlan, event: TraceEvent, context: TraceContext, parent: bytes | None) -> bytes:
    name, attributes = _attributes(how, event, context, parent is None)
    failed = error_of(event)
    return wire.span(
        context.message_trace_id,
        context.span_id,
        parent,
        name,
        wire.CLIENT if name.startswith("chat ") else wire.INTERNAL,
        event.started_at * 1000,
        max(event.started_at, event.ended_at) * 1000,
        attributes,
        wire.UNSET if failed is None else wire.ERROR,
        failed or "",
    )


def _attributes(
    how: _SpanPlan, event: TraceEvent, context: TraceContext, head: bool
) -> tuple[str, list[bytes]]:
    """The span's name and attributes."""
    _, display, kind, tags = looks(how.of, event, context)
    operation = _operation_of(event, kind, head)
    out: list[bytes] = []
    source = RecordValues(event, context)
    name = display
    if operation is not None:
        _OPERATION.text(out, operation)
        if operation == _TURN:
            agent = _agent(event, context)
            _AGENT.text(out, agent)
            name = f"{_TURN} {agent}"
        elif operation == "chat":
            name = f"chat {context.request_model or event.model_name or display}"
        elif operation == "execute_tool":
            tool = context.tool_name or event.tool_name or display
            _TOOL.text(out, tool)
            name = f"execute_tool {tool}"
            if event.tool is not None and event.tool.call_id:
                _CALL_ID.text(out, event.tool.call_id)
    how.common.write(source, out)
    _content(out, event, operation)
    if not roll_ups.of_event(event):
        _usage(out, event)
    how.metadata.write(source, out)
    spent = metadata.usage(event)
    if spent is not None:
        _USAGE.encoded(out, f"{{{spent}}}".encode())
    _TAGS.texts(out, tags)
    return name, out


def _operation_of(event: TraceEvent, kind: str, head: bool) -> str | None:
    """The operation by OpenTelemetry's conventions; None for what they have no name for."""
    of: str = event.kind
    if of in ("node_execution", "draft_node_execution"):
        return _NODES.get(event.node_type) or ("chat" if kind == "llm" else None)
    if of == "span":
        return _SPANS.get(event.span_kind)
    if of == "workflow_run":  # a run that nothing called is the turn
        return _TURN if head else "invoke_workflow"
    return _OTHERS.get(of)


def _agent(event: TraceEvent, context: TraceContext) -> str:
    own = event.name if event.kind not in ("message", "workflow_run") else None
    return own or event.app_name or context.app_name or event.app_id or context.app_id or "agent"


def _content(out: list[bytes], event: TraceEvent, operation: str | None) -> None:
    given: Any = event.inputs
    made: Any = event.outputs
    tool, node = event.tool, event.node_execution
    if operation == "execute_tool":
        if tool is not None:
            given = given if tool.tool_inputs is None else tool.tool_inputs
            made = made if tool.tool_outputs is None else tool.tool_outputs
        _ARGUMENTS.optional(out, given)
        _RESULT.optional(out, made)
        return
    prompts = None
    if operation == "chat" and node is not None and node.process_data is not None:
        prompts = messages(node.process_data)
    if prompts is not None:
        _INPUT.encoded(out, _dumps([_message(m) for m in orjson.loads(prompts)]))
        _INPUTS.optional(out, given)
    elif given is not None:
        _INPUT.encoded(out, _dumps([_said("user", given)]))
    if made is not None:
        _OUTPUT.encoded(out, _dumps([_said("assistant", made)]))


def _said(role: str, content: str) -> dict[str, Any]:
    """Content as a message: the text of a JSON string, else the JSON as it is."""
    text = content
    if content[:1] == '"':
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            found = None
        text = found if isinstance(found, str) else content
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _message(prompt: dict[str, Any]) -> dict[str, Any]:
    content = prompt.get("content")
    text = content if isinstance(content, str) else _dumps(content).decode()
    role = prompt.get("role")
    return {
        "role": role if isinstance(role, str) else "user",
        "parts": [{"type": "text", "content": text}],
    }


def _usage(out: list[bytes], event: TraceEvent) -> None:
    given, returned, c = event.input_tokens, event.output_tokens, event.token_classes
    if given is not None and given >= 0:
        _INPUT_TOKENS.integer(out, given)
    if returned is not None and returned >= 0:
        _OUTPUT_TOKENS.integer(out, returned)
    if c is not None and plausible(given, returned, c):
        if c.cache_read is not None:
            _CACHE_READ.integer(out, c.cache_read)
        if c.cache_write is not None:
            _CACHE_WRITE.integer(out, c.cache_write)
        if c.reasoning is not None:
            _REASONING.integer(out, c.reasoning)


class _SpanPlan:
    """The tables of a kind, compiled."""

    def __init__(self, how: Operation) -> None:
        self.of: Final[str] = how.of
        self.common: Final[Plan] = plan(_COMMON, WireAttribute)
        self.metadata: Final[Plan] = plan(how.metadata, WireAttribute)


_PLANS: Final[dict[str, _SpanPlan]] = {
    str(kind): _SpanPlan(how) for kind, how in KINDS.items() if isinstance(how, Operation)
}
