"""Maps an enriched event to a Langfuse observation, an encoded OTLP span. Pure. Names are seed 001's.

Langfuse's OTLP endpoint has no object for a trace, so every observation carries the trace's name, user,
session, tags, environment and metadata. Attributes without a value are left out. Content is JSON text and
is passed on unchanged.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from connectors.mapping import changes, costs
from connectors.mapping.attributes import TextAttribute
from connectors.mapping.prompts import messages
from connectors.mapping.rows import Plan, RecordValues, Row, Table, fields_of, plan
from connectors.otlp import wire
from connectors.sdk.contract import Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.langfuse import metadata, scores
from connectors.sinks.langfuse.metadata import PREFIX, RESERVED
from connectors.sinks.langfuse.values import MAX_ID, MAX_TIME, environment, iso
from tailrace import roll_ups
from tailrace.memo import Memo
from tailrace.money import amount
from tailrace.records import Kind, TokenClasses, TraceContext, TraceEvent
from tailrace.token_classes import plausible

MAX_NAME: Final = 1000
"""Most characters of an observation's name."""
FAILED: Final = frozenset({"failed", "exception", "error"})
PARTLY: Final = frozenset({"partial-succeeded", "stopped"})
LEVELS: Final = frozenset({"DEBUG", "DEFAULT", "WARNING", "ERROR"})

NODE_TYPES: Final = {
    "llm": "generation",
    "question-classifier": "generation",
    "parameter-extractor": "generation",
    "agent": "agent",
    "knowledge-retrieval": "retriever",
    "tool": "tool",
    "iteration": "chain",
    "loop": "chain",
}
SPAN_KINDS: Final = {
    "task": "span",
    "llm": "generation",
    "chain": "chain",
    "tool": "tool",
    "retriever": "retriever",
    "embedding": "embedding",
    "agent": "agent",
    "guardrail": "guardrail",
    "reranker": "retriever",
}
PROMPTED: Final = frozenset({"llm", "question-classifier", "parameter-extractor"})
"""Node types whose observation input is the prompts of their model."""
_NODES: Final = frozenset({"node_execution", "draft_node_execution"})

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

_INPUT: Final = TextAttribute("langfuse.observation.input")
_OUTPUT: Final = TextAttribute("langfuse.observation.output")
_FIRST_TOKEN: Final = TextAttribute("langfuse.observation.completion_start_time")
_MODEL: Final = TextAttribute("langfuse.observation.model.name")
_TIER: Final = TextAttribute("gen_ai.request.service_tier")
_USAGE: Final = TextAttribute("langfuse.observation.usage_details")
_COST: Final = TextAttribute("langfuse.observation.cost_details")
_PROCESS_DATA: Final = TextAttribute(PREFIX + "process_data")
_INPUTS: Final = TextAttribute(PREFIX + "inputs")
_DOCUMENTS: Final = TextAttribute(PREFIX + "documents")
_PRICE_TABLE: Final = TextAttribute(PREFIX + "price_table")
_CURRENCY: Final = TextAttribute(PREFIX + "currency")
_TOTAL_PRICE: Final = TextAttribute(PREFIX + "total_price")


def to_span(
    event: TraceEvent, context: TraceContext, constant: bytes, own_environment: bool, every_usage: bool
) -> bytes | Skip | Rejected:
    """The observation of an event, as an encoded span.

    Args:
        event: The event.
        context: The event's context.
        constant: Encoded attributes that every observation has: release and environment.
        own_environment: Whether the event's own environment is sent.
        every_usage: Whether operations that repeat the tokens and costs of others have them, too.

    Returns:
        `Skip` for kinds that are not observations. `Rejected` for times and ids that Langfuse cannot store.

    Raises:
        UnicodeEncodeError: A text has a lone surrogate.
    """
    observed = _PLANS.get(event.kind)
    if observed is None:
        how = KINDS[event.kind]
        return how if isinstance(how, Skip) else _NONE
    start = event.started_at // 1000 * 1000
    end = max(start, event.ended_at // 1000 * 1000)
    if start <= 0 or end > MAX_TIME:  # Langfuse takes a start of 0 for a missing one
        field = "started_at" if not 0 < start <= MAX_TIME else "ended_at"
        return Rejected(
            "time_out_of_range", f"{field} is {getattr(event, field)} µs; Langfuse stores 1970 to 2299"
        )
    trace_id, span_id, parent = context.message_trace_id, context.span_id, context.parent_span_id
    if not (any(trace_id) and any(span_id)):
        return Rejected("invalid_id", "the context's trace or span id is all zero")
    if parent is not None and not any(parent):
        parent = None
    name = observation_name(event, context)[:MAX_NAME]
    level = level_of(event)
    source = RecordValues(event, context)
    attributes: list[bytes] = []
    observed.trace.write(source, attributes)
    _content(attributes, event)
    _tokens(attributes, event, context, every_usage)
    observed.metadata.write(source, attributes)
    if event.attributes:
        _own(attributes, event)
    attributes += (
        constant,
        _class(observed.type or observation_type(event), level),
        _WHOSE[
            event.tenant_id or context.tenant_id,
            event.app_id or context.app_id,
            event.app_name or context.app_name,
            event.workspace_name or context.workspace_name,
            event.environment if own_environment else None,
        ],
        _TAGS[(*tagged(event, context), *event.tags)],
    )
    status = wire.ERROR if level == "ERROR" else wire.UNSET
    return wire.span(
        trace_id, span_id, parent, name, wire.INTERNAL, start * 1000, end * 1000, attributes, status
    )


# -- type, name and level
def observation_type(event: TraceEvent) -> str:
    """Langfuse's type of a message, a node or a span. The types of other kinds are in `KINDS`."""
    kind: str = event.kind
    if kind == "message":  # a chatflow's message contains the run; any other is the model's answer
        return "chain" if event.workflow_run_id else "generation"
    by_kind = (
        SPAN_KINDS.get(event.span_kind or "") if kind == "span" else NODE_TYPES.get(event.node_type or "")
    )
    return by_kind or ("generation" if event.model_name else "span")


def observation_name(event: TraceEvent, context: TraceContext) -> str:
    """The observation's name: a node's title, a span's own name, for other kinds as in seed 001."""
    kind: str = event.kind
    if kind == "workflow_run":
        log = event.origin.workflow_app_log_id if event.origin is not None else None
        return f"workflow_{log or event.workflow_run_id or event.source_id or ''}"
    if kind == "message":
        return f"message_{event.message_id or event.source_id or ''}"
    if kind == "tool":
        return context.tool_name or event.tool_name or "tool"
    if kind in _NODES:
        return event.name or event.node_type or "node"
    if kind == "span":
        return event.name or "span"
    if kind == "prompt_generation":
        return event.operation_type or kind
    return kind  # moderation, suggested_question, dataset_retrieval, generate_name


def trace_name(event: TraceEvent, context: TraceContext) -> str | None:
    """The trace's name, `message_<id>` or `workflow_<run id>` of its root; the same on all its observations.

    Returns:
        None if the root is neither a message nor a run.
    """
    root = context.root_trace_id or event.trace_id
    if root is None or event.kind == "draft_node_execution":
        return None
    if root == event.message_id:
        return f"message_{root}"
    if root == (context.root_run_id or event.workflow_run_id):
        return f"workflow_{root}"
    return None if context.root_run_id is None else f"message_{root}"


def level_of(event: TraceEvent) -> str:
    """Langfuse's level of an event: ERROR, WARNING, DEFAULT, or the level that a suggested question has."""
    status = event.status
    if event.error or status in FAILED:
        return "ERROR"
    body = event.suggested_question
    if body is not None and body.level is not None and body.level.upper() in LEVELS:
        return body.level.upper()
    return "WARNING" if status in PARTLY else "DEFAULT"


# -- attributes: cached as encoded bytes if few values repeat, else written one by one
@functools.lru_cache(256)
def _class(kind: str, level: str) -> bytes:
    return b"".join(wire.attributes(("langfuse.observation.type", kind, "langfuse.observation.level", level)))


def _whose(key: tuple[str | None, ...]) -> bytes:
    tenant, app, app_name, workspace, where = key
    return b"".join(
        wire.attributes(
            (
                "langfuse.trace.metadata.tenant_id",
                tenant or None,
                "langfuse.trace.metadata.app_id",
                app or None,
                "langfuse.trace.metadata.app_name",
                app_name or None,
                "langfuse.trace.metadata.workspace_name",
                workspace or None,
                "langfuse.environment",
                environment(where) or None if where else None,
            )
        )
    )


_WHOSE: Final[Memo[tuple[str | None, ...], bytes]] = Memo(_whose, 4096)
"""Attributes for tenant, app, its name, workspace and environment."""


def _tags(key: tuple[str | None, ...]) -> bytes:
    tags = [tag for tag in dict.fromkeys(key) if tag]
    return wire.attribute("langfuse.trace.tags", tags) if tags else b""


_TAGS: Final[Memo[tuple[str | None, ...], bytes]] = Memo(_tags, 4096)
"""The attribute for the tags of an event."""


def tagged(event: TraceEvent, context: TraceContext) -> tuple[str | None, str | None]:
    """The tags of the event's kind, as in seed 001."""
    kind: str = event.kind
    if kind == "workflow_run":
        return "workflow", event.mode
    if kind == "message":
        return kind, event.mode
    if kind == "tool":
        return kind, context.tool_name or event.tool_name
    if kind == "draft_node_execution":
        return "draft", None
    return (None if kind in ("span", "node_execution") else kind), None


def _content(out: list[bytes], event: TraceEvent) -> None:
    """Writes input and output; if the event has none, those in its body."""
    given: Any = event.inputs
    made: Any = event.outputs
    kind: str = event.kind
    node = event.node_execution
    if node is not None and node.process_data is not None:
        prompts = messages(node.process_data) if event.node_type in PROMPTED else None
        if prompts is None:
            _PROCESS_DATA.text(out, node.process_data)
        else:
            _INPUTS.optional(out, given)
            given = prompts.decode()
    if kind == "tool" and event.tool is not None:
        given = event.tool.tool_inputs if given is None else given
        made = event.tool.tool_outputs if made is None else made
    elif kind == "prompt_generation" and event.prompt_generation is not None:
        given = _quoted(event.prompt_generation.instruction) if given is None else given
        made = _quoted(event.prompt_generation.output) if made is None else made
    elif kind == "message" and event.message is not None and given is None:
        given = _quoted(event.message.query)
    elif kind == "suggested_question" and event.suggested_question is not None and made is None:
        made = _json(event.suggested_question.questions) if event.suggested_question.questions else None
    elif kind == "dataset_retrieval" and event.dataset_retrieval is not None:
        given = _quoted(event.dataset_retrieval.query) if given is None else given
        documents = event.dataset_retrieval.documents
        if made is None:
            made = documents
        else:
            _DOCUMENTS.optional(out, documents)
    _INPUT.optional(out, given)
    _OUTPUT.optional(out, made)


def _tokens(out: list[bytes], event: TraceEvent, context: TraceContext, every: bool) -> None:
    """Writes model, tier of service, tokens, cost and the time of the first token.

    Langfuse sums tokens and costs over the observations of a trace. So operations that repeat those of
    others (`tailrace.roll_ups`) get none, unless `every` is set. A retrieval never gets any.
    """
    kind: str = event.kind
    first = event.time_to_first_token
    if first is not None and 0 <= first <= MAX_TIME - event.started_at:
        _FIRST_TOKEN.text(out, iso(event.started_at + first))
    if kind == "dataset_retrieval":
        return
    repeats = roll_ups.of_event(event)
    if not repeats:
        _MODEL.optional(out, context.request_model or event.model_name or None)
        _TIER.optional(out, event.service_tier or None)
    if every or not repeats:
        _USAGE.optional(out, _usage(event))
        _cost(out, event, context)


def _usage(event: TraceEvent) -> str | None:
    given, made, total = event.input_tokens, event.output_tokens, event.total_tokens
    classes = event.token_classes
    if classes is not None and plausible(given, made, classes):
        return _usage_by_class(given, made, total, classes)
    if (
        given is not None
        and made is not None
        and total is not None
        and given >= 0
        and made >= 0
        and total >= 0
    ):
        return f'{{"input":{given},"output":{made},"total":{total}}}'
    members = [
        f'"{name}":{n}'
        for name, n in (("input", given), ("output", made), ("total", total))
        if n is not None and n >= 0
    ]
    return "{" + ",".join(members) + "}" if members else None


def _usage_by_class(given: int | None, made: int | None, total: int | None, c: TokenClasses) -> str | None:
    """Usage in classes that have no tokens in common, because Langfuse adds them up.

    Image tokens have no name there: they are input or output.
    """
    found: list[tuple[str, int | None]] = [("input", given), ("output", made), ("total", total)]
    if given is not None:
        read, write, hour = c.cache_read or 0, c.cache_write or 0, c.cache_write_1h or 0
        left = given - read - write
        audio = min((c.input_audio or 0) - (c.cache_read_audio or 0), left)
        found[0] = "input", left - audio
        found += [
            ("input_cache_read", read or None),
            ("input_cache_creation", write - hour or None),
            ("input_cache_creation_1h", hour or None),
            ("input_audio_tokens", audio or None),
        ]
    if made is not None:
        thought = c.reasoning or 0
        spoken = min(c.output_audio or 0, made - thought)
        found[1] = "output", made - thought - spoken
        found += [("output_reasoning_tokens", thought or None), ("output_audio_tokens", spoken or None)]
    members = [f'"{name}":{n}' for name, n in found if n is not None and n >= 0]
    return "{" + ",".join(members) + "}" if members else None


def _cost(out: list[bytes], event: TraceEvent, context: TraceContext) -> None:
    """Writes the cost. Langfuse's costs are US dollars; a price in another currency becomes metadata.

    The estimate, which an event has only instead of a price of its own, comes first. Prices are decimal text,
    which is written unchanged if it is a JSON number.
    """
    estimate = context.estimated_cost
    if estimate is not None:
        if _NUMBER.fullmatch(estimate):
            _COST.text(out, f'{{"total":{estimate}}}')
            _PRICE_TABLE.optional(out, context.price_table or None)
        return
    own = costs.own_price(event, context)
    if own is None:
        return
    if not costs.in_dollars(event):
        _CURRENCY.optional(out, event.currency or None)
        _TOTAL_PRICE.optional(out, own)
        return
    given, made = amount(event.input_price), amount(event.output_price)
    members = [
        f'"{name}":{price}'
        for name, price in (("input", given), ("output", made), ("total", own))
        if price is not None
    ]
    if members:
        _COST.text(out, "{" + ",".join(members) + "}")


def _own(out: list[bytes], event: TraceEvent) -> None:
    """Writes the event's own attributes as metadata, except names that are `RESERVED`."""
    pairs: list[str] = []
    for name, text in event.attributes.items():
        if name and name not in RESERVED:
            pairs += (PREFIX + name, text)
    out += wire.attributes(pairs)


# -- values
def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _quoted(text: str | None) -> str | None:
    return None if text is None else _json(text)


# -- attributes of the trace, which each of its observations has; and errors
def _trace_name(event: TraceEvent, context: TraceContext) -> str | None:
    name = trace_name(event, context)
    if name:
        return name
    parent = context.parent_span_id
    return None if parent is not None and any(parent) else observation_name(event, context)[:MAX_NAME]


def _id(text: str) -> str:
    return text[:MAX_ID]


def _of_dify(event: TraceEvent) -> bool:
    return bool(event.message_id or event.workflow_run_id)


def _span_user(event: TraceEvent, context: TraceContext) -> str:
    """The user, as for other kinds. Outside Dify's applications a session is not taken for a user."""
    user = context.user_id or event.user_id or ""
    session = (context.session_id or event.session_id) if _of_dify(event) else None
    return (session or user)[:MAX_ID]


def _span_conversation(event: TraceEvent, context: TraceContext) -> str:
    """The conversation, as for other kinds. Outside Dify's applications it may be the session."""
    conversation = context.conversation_id or event.conversation_id
    if not conversation and not _of_dify(event):
        conversation = context.session_id or event.session_id
    return (conversation or "")[:MAX_ID]


_NAME: Final = Row("langfuse.trace.name", _trace_name)
_IDS: Final = (
    Row("langfuse.trace.metadata.trace_id", "context.root_trace_id or trace_id"),
    Row("langfuse.trace.metadata.external_trace_id", "external_trace_id"),
    Row("langfuse.observation.status_message", "error or suggested_question.status_message"),
    Row("langfuse.version", "workflow_run.workflow_version"),
)
TRACE: Final = (
    _NAME,
    Row("user.id", "context.session_id or session_id or context.user_id or user_id", _id),
    Row("session.id", "context.conversation_id or conversation_id", _id),
    *_IDS,
)
SPAN_TRACE: Final = (
    _NAME,
    Row("user.id", _span_user),
    Row("session.id", _span_conversation),
    *_IDS,
)


class Observation(NamedTuple):
    """How events of a kind become observations."""

    type: str
    """Langfuse's type; empty: `observation_type` decides."""
    metadata: Table
    trace: Table = TRACE


# -- how each kind is mapped
Score = Callable[[TraceEvent, TraceContext, bool, str], "scores.Body | Skip | Rejected"]
_NONE: Final = Skip("no_observation")
KINDS: Final[Mapping[Kind, Observation | Score | Skip]] = {
    Kind.WORKFLOW_RUN: Observation("chain", metadata.WORKFLOW_RUN),
    Kind.NODE_EXECUTION: Observation("", metadata.NODE),
    Kind.DRAFT_NODE_EXECUTION: Observation("", metadata.NODE),
    Kind.MESSAGE: Observation("", metadata.MESSAGE),
    Kind.MODERATION: Observation("guardrail", metadata.MODERATION),
    Kind.SUGGESTED_QUESTION: Observation("generation", metadata.SUGGESTED_QUESTION),
    Kind.DATASET_RETRIEVAL: Observation("retriever", metadata.DATASET_RETRIEVAL),
    Kind.TOOL: Observation("tool", metadata.TOOL),
    Kind.GENERATE_NAME: Observation("generation", metadata.GENERATE_NAME),
    Kind.PROMPT_GENERATION: Observation("generation", metadata.PROMPT_GENERATION),
    Kind.SPAN: Observation("", metadata.SPAN, SPAN_TRACE),
    Kind.FEEDBACK: scores.of_feedback,
    Kind.EVALUATION: scores.of_evaluation,
    Kind.APP_CREATED: _NONE,
    Kind.APP_UPDATED: _NONE,
    Kind.APP_DELETED: _NONE,
    Kind.REHYDRATION_FAILED: _NONE,
    Kind.LINK: _NONE,
    Kind.UNKNOWN: _NONE,
}
"""How each kind is mapped: as an observation, as a score, or not at all."""
SCORED: Final[dict[str, Score]] = {
    str(kind): how for kind, how in KINDS.items() if not isinstance(how, Observation | Skip)
}
"""The kinds that become scores."""
_OBSERVED: Final = {kind: how for kind, how in KINDS.items() if isinstance(how, Observation)}
FIELDS: Final = fields_of(metadata.EVERY, TRACE, *(how.metadata for how in _OBSERVED.values())) | {
    *scores.FIELDS,
    "app_id",
    "app_name",
    "attributes",
    changes.FIELD,
    "currency",
    "ended_at",
    "environment",
    "input_price",
    "inputs",
    "kind",
    "name",
    "output_price",
    "outputs",
    "started_at",
    "tags",
    "time_to_first_token",
    "token_classes",
    "total_price",
    "usage_repeats",
    "workspace_name",
}
"""Fields of `TraceEvent` that this mapping reads, in its tables and in its functions."""


class _ObservationPlan:
    """The tables of a kind, compiled."""

    def __init__(self, how: Observation) -> None:
        self.type: Final[str] = how.type
        self.trace: Final[Plan] = plan(how.trace, TextAttribute, empty_texts=False)
        every = (*how.metadata, *metadata.EVERY)
        self.metadata: Final[Plan] = plan(every, TextAttribute, PREFIX, empty_texts=False)


_PLANS: Final[dict[str, _ObservationPlan]] = {
    str(kind): _ObservationPlan(how) for kind, how in _OBSERVED.items()
}
