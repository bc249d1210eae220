"""Maps an enriched event to a span by Alibaba Cloud's GenAI conventions, encoded as OTLP. Pure.

Attributes of the conventions have their names and types, everything else is metadata with the prefix `dify.`
(`connectors.sinks.alibaba.metadata`). Attributes without a value are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from connectors.mapping import changes
from connectors.mapping.attributes import WireAttribute
from connectors.mapping.rows import (
    ENCODED,
    SECONDS,
    Plan,
    RecordValues,
    Row,
    Table,
    fields_of,
    names_of,
    plan,
)
from connectors.otlp import wire
from connectors.otlp.wire import CLIENT, CONSUMER, ERROR, INTERNAL, OK, PRODUCER, SERVER, UNSET
from connectors.sdk.contract import Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.alibaba import messages, metadata
from connectors.sinks.alibaba.metadata import PREFIX
from tailrace import roll_ups
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.oversize import sizes, truncate
from tailrace.records import Kind, TraceContext, TraceEvent

MAX_NS: Final = 2**64 - 1
MAX_SPAN: Final = 1_900_000
"""Most bytes of a span. A request is limited to 2 MB, and has a resource besides."""
_TRIES: Final = 8
"""How often a span that is too large is cut. Content may be in it twice, in two forms."""
FAILED: Final = frozenset({"failed", "exception"})
SUCCEEDED: Final = frozenset({"succeeded", "normal"})

ENTRY: Final = "ENTRY"
WORKFLOW: Final = "WORKFLOW"
AGENT: Final = "AGENT"
LLM: Final = "LLM"
TOOL: Final = "TOOL"
RETRIEVER: Final = "RETRIEVER"
EMBEDDING: Final = "EMBEDDING"
RERANKER: Final = "RERANKER"
STEP: Final = "STEP"
SPAN_KINDS: Final[Mapping[str, str]] = {
    "task": STEP,
    "llm": LLM,
    "chain": WORKFLOW,
    "tool": TOOL,
    "retriever": RETRIEVER,
    "embedding": EMBEDDING,
    "agent": AGENT,
    "guardrail": STEP,
    "reranker": RERANKER,
}
NODE_TYPES: Final[Mapping[str, str]] = {
    "llm": LLM,
    "question-classifier": LLM,
    "parameter-extractor": LLM,
    "agent": AGENT,
    "knowledge-retrieval": RETRIEVER,
    "tool": TOOL,
}
OPERATIONS: Final[Mapping[str, str]] = {
    ENTRY: "enter",
    WORKFLOW: "invoke_workflow",
    AGENT: "invoke_agent",
    LLM: "chat",
    TOOL: "execute_tool",
    RETRIEVER: "retrieval",
    EMBEDDING: "embeddings",
    RERANKER: "rerank",
    STEP: "run_task",
}
"""gen_ai.span.kind -> gen_ai.operation.name. A node that is no other kind is a task; a round is `react`."""
SEED: Final[Mapping[str, tuple[str, str]]] = {
    ENTRY: ("CHAIN", "workflow"),
    WORKFLOW: ("CHAIN", "workflow"),
    STEP: ("TASK", "run_task"),
}
"""What `kinds = "seed"` writes instead, as seed 002 and Dify have it: kind and operation."""

_NODES: Final = frozenset({"node_execution", "draft_node_execution"})
_LINKED: Final = ("tailrace.link", "calling_run")
_EXTERNAL: Final = ("tailrace.link", "external_trace_id")
_OTEL_KINDS: Final[Mapping[str, int]] = {"client": CLIENT, "producer": PRODUCER, "consumer": CONSUMER}
_PARENTED: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
"""A W3C traceparent."""
_UUID: Final = re.compile(
    r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}"
)
_ZERO8: Final = bytes(8)
_ZERO16: Final = bytes(16)
_LONG: Final = 1 << 63

_NUMBERS: Final = frozenset(
    f"gen_ai.request.{name}"
    for name in ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")
)
_WHOLE: Final = frozenset({"gen_ai.request.max_tokens", "gen_ai.request.seed", "gen_ai.request.choice.count"})
"""Attributes of an event, which are texts, that the conventions have as numbers."""
NOT_A_NUMBER: Final = "tailrace.attribute."
"""Prefix of such an attribute if its text is not a number."""


# -- values that are not fields
def _text(content: Any) -> str:
    """A content field as text: JSON, but a JSON string, such as a reference, without quotes."""
    text = str(content)
    return messages.unquoted(text) if text.startswith('"') else text


def _documents(event: TraceEvent, context: TraceContext) -> bytes | None:
    body = event.dataset_retrieval
    if body is None:
        return None
    listed: Any = body.documents
    if listed is None:
        return None
    return messages.documents(str(listed)) or str(listed).encode()


# -- attributes
_COMMON: Final = (
    Row("gen_ai.turn.id", "message_id"),
    Row("error.type", "error_type"),
    Row("tailrace.event_id", "event_id"),
    Row("tailrace.marks", "context.marks"),
    Row("tailrace.estimated_cost", "context.estimated_cost"),
    Row("tailrace.price_table", "context.price_table"),
)
_MODEL: Final = (
    Row("gen_ai.provider.name", "context.provider_name or model_provider"),
    Row("gen_ai.request.model", "context.request_model or model_name"),
)
_USAGE: Final = (
    *_MODEL,
    Row("gen_ai.response.model", "response_model"),
    Row("gen_ai.request.service_tier", "service_tier"),
    Row("gen_ai.usage.input_tokens", "input_tokens"),
    Row("gen_ai.usage.output_tokens", "output_tokens"),
    Row("gen_ai.usage.total_tokens", "total_tokens"),
    Row("gen_ai.usage.cache_read.input_tokens", "token_classes.cache_read"),
    Row("gen_ai.usage.cache_creation.input_tokens", "token_classes.cache_write"),
    Row("gen_ai.usage.reasoning.output_tokens", "token_classes.reasoning"),
    Row("tailrace.usage.cache_write_1h.input_tokens", "token_classes.cache_write_1h"),
    Row("tailrace.usage.audio.input_tokens", "token_classes.input_audio"),
    Row("tailrace.usage.image.input_tokens", "token_classes.input_image"),
    Row("tailrace.usage.audio.cache_read.input_tokens", "token_classes.cache_read_audio"),
    Row("tailrace.usage.audio.output_tokens", "token_classes.output_audio"),
    Row("tailrace.usage.image.output_tokens", "token_classes.output_image"),
)
"""The conventions follow OpenTelemetry 1.41, which calls cache writes cache_creation."""
_RUN: Final = (Row("gen_ai.workflow.name", "name"),)
_CALLED: Final = (Row("gen_ai.tool.name", "context.tool_name or tool_name"),)
_TOOL: Final = (
    *_CALLED,
    Row("gen_ai.tool.call.id", "tool.call_id"),
    Row("gen_ai.tool.description", "tool.description"),
    Row("gen_ai.tool.call.arguments", "tool.tool_inputs", _text),
    Row("gen_ai.tool.call.result", "tool.tool_outputs", _text),
    Row("gen_ai.tool.call.duration", "tool.time_cost", SECONDS),
)
_RETRIEVAL: Final = (
    Row("gen_ai.retrieval.query.text", "dataset_retrieval.query"),
    Row("gen_ai.retrieval.documents", _documents, ENCODED),
)


class Span(NamedTuple):
    """How events of a kind become spans."""

    kind: str
    """gen_ai.span.kind; empty: `span_kind` decides."""
    metadata: Table
    rows: Table = ()
    streamed: bool = True
    """Whether it has a time to the first token."""
    searches: bool = False
    """Whether it has the data sources that it searched."""


_NO_OPERATION: Final = Skip("no_operation")
_LOG: Final = Skip("log_only")
KINDS: Final[Mapping[Kind, Span | Skip]] = {
    Kind.WORKFLOW_RUN: Span(WORKFLOW, metadata.WORKFLOW_RUN, _RUN, streamed=False),
    Kind.NODE_EXECUTION: Span("", metadata.NODE, _CALLED, searches=True),
    Kind.DRAFT_NODE_EXECUTION: Span("", metadata.NODE, _CALLED, searches=True),
    Kind.MESSAGE: Span("", metadata.MESSAGE),
    Kind.MODERATION: Span(STEP, metadata.MODERATION, streamed=False),
    Kind.SUGGESTED_QUESTION: Span(LLM, metadata.SUGGESTED_QUESTION),
    Kind.DATASET_RETRIEVAL: Span(
        RETRIEVER, metadata.DATASET_RETRIEVAL, _RETRIEVAL, streamed=False, searches=True
    ),
    Kind.TOOL: Span(TOOL, metadata.TOOL, _TOOL, streamed=False),
    Kind.GENERATE_NAME: Span(LLM, metadata.GENERATE_NAME),
    Kind.PROMPT_GENERATION: Span(LLM, metadata.PROMPT_GENERATION),
    Kind.SPAN: Span("", metadata.SPAN, _CALLED, searches=True),
    Kind.FEEDBACK: _LOG,
    Kind.EVALUATION: _LOG,
    Kind.APP_CREATED: _NO_OPERATION,
    Kind.APP_UPDATED: _NO_OPERATION,
    Kind.APP_DELETED: _NO_OPERATION,
    Kind.REHYDRATION_FAILED: _NO_OPERATION,
    Kind.LINK: _NO_OPERATION,
    Kind.UNKNOWN: _NO_OPERATION,
}
"""How each kind is mapped: as a span, or not at all."""
_SPANS: Final = {kind: how for kind, how in KINDS.items() if isinstance(how, Span)}
_TABLES: Final = (_COMMON, _USAGE, *(how.rows for how in _SPANS.values()))
FIELDS: Final = fields_of(*_TABLES, *metadata.TABLES) | {
    "attributes",
    changes.FIELD,
    "conversation_id",
    "dataset_ids",
    "dataset_retrieval",
    "ended_at",
    "environment",
    "error",
    "host_name",
    "inputs",
    "kind",
    "message",
    "name",
    "node_execution",
    "outputs",
    "prompt_generation",
    "session_id",
    "span",
    "started_at",
    "status",
    "time_to_first_token",
    "tool",
    "usage_repeats",
    "user_id",
}
"""Fields of `TraceEvent` that this mapping reads, in its tables and in its functions."""
_SESSION: Final = WireAttribute("gen_ai.session.id")
_CONVERSATION: Final = WireAttribute("gen_ai.conversation.id")
_USER: Final = WireAttribute("gen_ai.user.id")
_INPUT: Final = WireAttribute("input.value")
_OUTPUT: Final = WireAttribute("output.value")
_CHANGES: Final = WireAttribute(changes.NAME)
_FIRST_TOKEN: Final = WireAttribute("gen_ai.response.time_to_first_token")
_FIRST_SEEN: Final = WireAttribute("gen_ai.user.time_to_first_token")
_FINISHED: Final = WireAttribute("gen_ai.response.finish_reasons")
_SEARCHED: Final = WireAttribute("gen_ai.data_source.id")
_AGENT: Final = WireAttribute("gen_ai.agent.name")
_ASKED: Final = WireAttribute("gen_ai.input.messages")
_ANSWERED: Final = WireAttribute("gen_ai.output.messages")
_PROCESS_DATA: Final = WireAttribute("dify.process_data")
_CALL_ARGUMENTS: Final = WireAttribute("gen_ai.tool.call.arguments")
_CALL_RESULT: Final = WireAttribute("gen_ai.tool.call.result")
_QUERY: Final = WireAttribute("gen_ai.retrieval.query.text")
_DOCUMENTS: Final = WireAttribute("gen_ai.retrieval.documents")
_FRAMEWORK: Final = b"".join(wire.attributes(("gen_ai.framework", "dify")))
RESERVED: Final = (
    names_of(*_TABLES)
    | metadata.NAMES
    | {
        changes.NAME,
        "dify.process_data",
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "gen_ai.data_source.id",
        "gen_ai.framework",
        "gen_ai.input.messages",
        "gen_ai.operation.name",
        "gen_ai.output.messages",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.time_to_first_token",
        "gen_ai.retrieval.documents",
        "gen_ai.retrieval.query.text",
        "gen_ai.session.id",
        "gen_ai.span.kind",
        "gen_ai.user.id",
        "gen_ai.user.time_to_first_token",
        "input.value",
        "output.value",
    }
)
"""Names that an event's own attributes may not use, but for those in `SHARED`."""
SHARED: Final = frozenset(
    {
        "error.type",
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "gen_ai.data_source.id",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.request.service_tier",
        "gen_ai.response.model",
        "gen_ai.retrieval.documents",
        "gen_ai.retrieval.query.text",
        "gen_ai.session.id",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.id",
        "gen_ai.tool.call.result",
        "gen_ai.tool.description",
        "gen_ai.tool.name",
        "gen_ai.turn.id",
        "gen_ai.user.id",
        "gen_ai.workflow.name",
        "input.value",
        "output.value",
    }
)
"""Texts of the conventions: an event's own attribute has such a name if the sink writes nothing there."""


def _compiled(*tables: Table) -> Plan:
    """A plan of tables, in the order of the places that their rows read: so it reads each place once."""
    rows = [row for table in tables for row in table]
    return plan(tuple(sorted(rows, key=_place)), WireAttribute, empty_texts=False)


def _place(row: Row) -> str:
    value = row.value
    if not isinstance(value, str) or " or " in value or not isinstance(row.form, int):
        return "~"
    return value.rpartition(".")[0]


def _prefixed(table: Table) -> Table:
    """Metadata under its names on the wire."""
    return tuple(row._replace(name=PREFIX + row.name) for row in table)


class _SpanPlan:
    """What is known of a kind before an event of it comes."""

    def __init__(self, kind: str, how: Span) -> None:
        self.kind: Final[str] = how.kind
        self.streamed: Final[bool] = how.streamed
        self.searches: Final[bool] = how.searches
        self.is_span: Final[bool] = kind == "span"
        self.is_node: Final[bool] = kind in _NODES
        self.is_message: Final[bool] = kind == "message"
        self.rows: Final[Plan] = _compiled(
            _COMMON, how.rows, _prefixed(how.metadata), _prefixed(metadata.EVERY)
        )


_PLANS: Final[dict[str, _SpanPlan]] = {str(kind): _SpanPlan(str(kind), how) for kind, how in _SPANS.items()}
_COUNTED: Final = _compiled(_USAGE, _prefixed(metadata.PRICE))
"""Tokens and price of what used them."""
_OF_AGENT: Final = _compiled(_USAGE)
_OF_RETRIEVER: Final = _compiled(_MODEL, _prefixed(metadata.REPEATED))
_REPEATED: Final = _compiled(_prefixed(metadata.REPEATED))
"""Tokens of what repeats those of others."""


class Dialect:
    """The attributes gen_ai.span.kind and gen_ai.operation.name of every kind."""

    def __init__(self, seed: bool) -> None:
        """
        Args:
            seed: Whether CHAIN and TASK are written, as seed 002 has them.
        """
        self.classes: Final[dict[str, bytes]] = {}
        for kind, operation in OPERATIONS.items():
            name, said = SEED.get(kind, (kind, operation)) if seed else (kind, operation)
            pairs = ("gen_ai.span.kind", name, "gen_ai.operation.name", said)
            self.classes[kind] = b"".join(wire.attributes(pairs))


CURRENT: Final = Dialect(seed=False)
AS_SEED: Final = Dialect(seed=True)


def to_span(
    event: TraceEvent, context: TraceContext, dialect: Dialect, every_usage: bool
) -> bytes | Skip | Rejected:
    """The span of an event, encoded, of at most `MAX_SPAN` bytes. Does not raise.

    Args:
        event: The event.
        context: The event's context.
        dialect: `CURRENT` or `AS_SEED`.
        every_usage: Whether operations that repeat the tokens of others have them, too.

    Returns:
        The encoded span. A larger one is cut, which its attribute `tailrace.content_changes` says. `Skip` for
        kinds that are not spans, and for superseded events. `Rejected` for what OTLP cannot represent: times
        before 1970 or after 2554, ids of zeros, text with lone surrogates, numbers beyond 64 bits.
    """
    kind_plan = _PLANS.get(event.kind)
    if kind_plan is None:
        how = KINDS[event.kind]
        return how if isinstance(how, Skip) else _NO_OPERATION
    marks = context.marks
    if marks and "superseded" in marks:
        return Skip("superseded")
    started, ended = event.started_at, event.ended_at
    start, end = started * 1000, (ended if ended > started else started) * 1000
    if start < 0 or end > MAX_NS:
        field = "started_at" if not 0 <= start <= MAX_NS else "ended_at"
        return Rejected(
            "time_out_of_range", f"{field} is {getattr(event, field)} µs; OTLP takes times from 1970 to 2554"
        )
    if context.message_trace_id == _ZERO16 or context.span_id == _ZERO8:
        return Rejected("invalid_id", "the context's trace or span id is all zero")
    try:
        span = _span(event, context, kind_plan, dialect, every_usage, start, end)
        for _ in range(_TRIES):
            if len(span) <= MAX_SPAN:
                return span
            event = _shorter(event, len(span))
            span = _span(event, context, kind_plan, dialect, every_usage, start, end)
    except (UnicodeEncodeError, OverflowError) as e:
        return Rejected("not_encodable", f"a value cannot be written as OTLP ({type(e).__name__})")
    if len(span) <= MAX_SPAN:
        return span
    return Rejected(
        "too_large", f"the span has {len(span)} bytes without what can be cut; most are {MAX_SPAN}"
    )


def _shorter(event: TraceEvent, size: int) -> TraceEvent:
    """The event cut in the proportion in which its span of `size` bytes is too large, and 2% more."""
    texts = 0
    for found, _ in sizes(event):
        texts += found
    return truncate(event, texts - texts * (MAX_SPAN * 49 // 50) // size)


def _span(
    event: TraceEvent,
    context: TraceContext,
    kind_plan: _SpanPlan,
    dialect: Dialect,
    every_usage: bool,
    start: int,
    end: int,
) -> bytes:
    kind = kind_plan.kind or span_kind(event)
    error, status = event.error, event.status
    failed = bool(error) or status in FAILED
    out: list[bytes] = [dialect.classes[kind]]
    _add_who(out, event, context, kind_plan.is_span)
    _add_content(out, event, context)
    source = RecordValues(event, context)
    kind_plan.rows.write(source, out)
    if every_usage or not roll_ups.of_event(event):
        _COUNTED.write(source, out)
    elif kind == AGENT:  # Alibaba expects an agent to repeat the tokens of its model's calls
        _OF_AGENT.write(source, out)
    elif kind == RETRIEVER:
        _OF_RETRIEVER.write(source, out)
    else:
        _REPEATED.write(source, out)
    first = event.time_to_first_token if kind_plan.streamed else None
    if first is not None and 0 <= first < _LONG // 1000:  # in nanoseconds
        _FIRST_TOKEN.integer(out, first * 1000)
        if kind_plan.is_message:
            _FIRST_SEEN.integer(out, first * 1000)
    if kind_plan.searches and event.dataset_ids:
        _SEARCHED.optional(out, ",".join(event.dataset_ids) or None)
    if kind_plan.is_node:
        _add_shaped(out, event, kind)
        _add_model(out, event, kind, failed)
    elif kind_plan.is_span:
        _add_shaped(out, event, kind)
        body = event.span
        if body is not None and body.finish_reason:
            _FINISHED.texts(out, (body.finish_reason,))
    elif kind_plan.is_message:
        _add_turn(out, event, failed)
    if event.attributes:
        _add_own(out, event)
    parent = context.parent_span_id
    if parent == _ZERO8:
        parent = None
    return wire.span(
        context.message_trace_id,
        context.span_id,
        parent,
        span_name(event, context),
        _otel_kind(event, kind, parent is None),
        start,
        end,
        out,
        ERROR if failed else OK if status in SUCCEEDED else UNSET,
        (error or "") if failed else "",
        _links(event, context),
        (event.span.trace_state or "") if event.span is not None else "",
    )


# -- kind and name
def span_kind(event: TraceEvent) -> str:
    """gen_ai.span.kind of a message, a node or a span. Those of other kinds are in `KINDS`."""
    kind: str = event.kind
    if kind == "message":  # a chatflow's message contains the run; any other is the model's answer
        return ENTRY if event.workflow_run_id else LLM
    if kind == "span":
        return SPAN_KINDS.get(event.span_kind or "") or (LLM if event.model_name else STEP)
    return NODE_TYPES.get(event.node_type or "", STEP)


def span_name(event: TraceEvent, context: TraceContext) -> str:
    """The span's name, as Dify has it: the node's title, the tool, the kind; a span's own."""
    kind: str = event.kind
    if kind in ("node_execution", "draft_node_execution"):
        return event.name or event.node_type or "node"
    if kind == "span":
        return event.name or "span"
    if kind == "workflow_run":
        return "workflow"
    if kind == "tool":
        return context.tool_name or event.tool_name or "tool"
    if kind == "prompt_generation":
        return event.operation_type or kind
    return kind  # message, moderation, suggested_question, dataset_retrieval, generate_name


def _otel_kind(event: TraceEvent, kind: str, root: bool) -> int:
    """SERVER for the root, so that it is a request at an entry; CLIENT for calls of a model."""
    if root:
        return SERVER
    said = (event.span.otel_kind or "") if event.span is not None else ""
    return _OTEL_KINDS.get(said, CLIENT if kind == LLM and not said else INTERNAL)


# -- attributes that are not fields
def _add_who(out: list[bytes], event: TraceEvent, context: TraceContext, is_span: bool) -> None:
    """Writes conversation, session and user.

    The session is the conversation. Of a span without message and run, which may be of another application
    than Dify's, it may be the session. Elsewhere the session is the end user's (seed 002: user_session_id).
    """
    conversation = context.conversation_id or event.conversation_id
    session = context.session_id or event.session_id
    of_dify = not is_span or bool(event.message_id or event.workflow_run_id)
    if not is_span:
        out.append(_FRAMEWORK)
    if conversation:
        named = conversation.encode()
        _SESSION.encoded(out, named)
        _CONVERSATION.encoded(out, named)
    elif session and not of_dify:
        _SESSION.text(out, session)
    user = (session if of_dify else None) or context.user_id or event.user_id
    if user:
        _USER.text(out, user)


def _add_content(out: list[bytes], event: TraceEvent, context: TraceContext) -> None:
    """Writes input and output; of an event without them, what its body has instead."""
    given: Any = event.inputs
    made: Any = event.outputs
    asked = _input_of_body(event) if given is None else _text(given)
    if asked:
        _INPUT.text(out, asked)
    answered = _output_of_body(event) if made is None else _text(made)
    if answered:
        _OUTPUT.text(out, answered)
    if event.content_changes:
        _CHANGES.optional(out, changes.content_changes(event, context))


def _input_of_body(event: TraceEvent) -> str | None:
    if event.tool is not None and event.tool.tool_inputs is not None:
        return _text(event.tool.tool_inputs)
    if event.message is not None:
        return event.message.query
    if event.dataset_retrieval is not None:
        return event.dataset_retrieval.query
    return None if event.prompt_generation is None else event.prompt_generation.instruction


def _output_of_body(event: TraceEvent) -> str | None:
    if event.tool is not None and event.tool.tool_outputs is not None:
        return _text(event.tool.tool_outputs)
    return None if event.prompt_generation is None else event.prompt_generation.output


def _add_shaped(out: list[bytes], event: TraceEvent, kind: str) -> None:
    """Writes the conventions' names for what a node or span of this kind has as input and output."""
    if kind == AGENT:
        _AGENT.optional(out, event.name or None)
    elif kind == TOOL:
        given: Any = event.inputs
        made: Any = event.outputs
        if given is not None:
            _CALL_ARGUMENTS.text(out, _text(given))
        if made is not None:
            _CALL_RESULT.text(out, _text(made))
    elif kind == RETRIEVER:
        asked: Any = event.inputs
        result: Any = event.outputs
        _QUERY.optional(out, None if asked is None else messages.query(str(asked)))
        found = None if result is None else messages.found(str(result))
        if found is not None:
            _DOCUMENTS.encoded(out, found)


def _add_model(out: list[bytes], event: TraceEvent, kind: str, failed: bool) -> None:
    """Writes prompts and answer of a model's node as messages; process data without prompts as they are."""
    body = event.node_execution
    reason = None if body is None else body.finish_reason
    if reason:
        _FINISHED.texts(out, (reason,))
    made: Any = event.outputs
    if kind == LLM and made is not None:
        answer = messages.answer(str(made))
        if answer is not None:
            _ANSWERED.encoded(out, messages.of_model(answer, reason or ("error" if failed else "stop")))
    data: Any = None if body is None else body.process_data
    if not data:
        return
    prompts = messages.of_prompts(data) if kind == LLM else None
    if prompts is None:
        _PROCESS_DATA.text(out, data)
    else:
        _ASKED.encoded(out, prompts)


def _add_turn(out: list[bytes], event: TraceEvent, failed: bool) -> None:
    """Writes question and answer of a message as messages."""
    query = None if event.message is None else event.message.query
    if query:
        _ASKED.encoded(out, messages.of_user(query))
    made: Any = event.outputs
    if made is not None and str(made).startswith('"'):
        answer = messages.unquoted(str(made))
        _ANSWERED.encoded(out, messages.of_model(answer, "error" if failed else "stop"))


def _add_own(out: list[bytes], event: TraceEvent) -> None:
    """Writes the event's own attributes, except names that the sink has; numbers as the conventions do."""
    pairs: list[Any] = []
    for name, text in event.attributes.items():
        if not name or (name in RESERVED and (name not in SHARED or _has(out, name))):
            continue
        if name in _NUMBERS or name in _WHOLE:
            value = _number(text, name in _WHOLE)
            pairs += (name, value) if value is not None else (NOT_A_NUMBER + name, text)
        else:
            pairs += (name, text)
    out += wire.attributes(pairs)


def _has(out: list[bytes], name: str) -> bool:
    """Whether an attribute is among those written. It begins with a few bytes of lengths, and its name."""
    key = name.encode()
    key = b"\x0a" + bytes((len(key),)) + key
    most = len(key) + 12
    return any(key in part[:most] for part in out)


def _number(text: str, whole: bool) -> int | float | None:
    if len(text) > 40:
        return None
    try:
        if whole:
            n = int(text)
            return n if -_LONG <= n < _LONG else None
        number = float(text)
        return number if math.isfinite(number) else None
    except ValueError:
        return None


# -- links
def _links(event: TraceEvent, context: TraceContext) -> tuple[bytes, ...]:
    """To the calling run of an inferred root, and to the trace that the caller named."""
    external, linked = event.external_trace_id, context.linked_span_id
    if not external and linked is None:
        return ()
    found: list[bytes] = []
    if linked is not None and linked != _ZERO8:
        found.append(wire.link(context.message_trace_id, linked, _LINKED))
    if external:
        ids = external_ids(external)
        if ids is not None:
            found.append(wire.link(ids[0], ids[1], _EXTERNAL))
    return tuple(found)


def external_ids(text: str) -> tuple[bytes, bytes] | None:
    """Trace and span id of a link to a trace that the caller named.

    Args:
        text: 32 hexadecimal digits, a UUID, or a W3C traceparent.

    Returns:
        None for any other text, and for zeros. A link needs a span id: without one it is the hash of the
        text, by the rule of all span ids.
    """
    parented = _PARENTED.fullmatch(text)
    if parented is not None:
        trace_id, span_id = bytes.fromhex(parented.group(1)), bytes.fromhex(parented.group(2))
        return (trace_id, span_id) if trace_id != _ZERO16 and span_id != _ZERO8 else None
    if _UUID.fullmatch(text) is None or not text.replace("-", "").strip("0"):
        return None
    return otel_trace_id(text), otel_span_id(text)
