"""Maps an enriched event to a complete call of Weave. Pure. Names, tags and fields are those of seed 004.

An operation becomes a call; a rating or an evaluation becomes feedback (connectors/sinks/weave/scores.py).
What Weave knows by its project is left out here: the sink adds it when it sends, because the entity may be
known only then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from connectors.mapping import changes
from connectors.mapping.members import JsonMember, json_value
from connectors.mapping.prompts import messages
from connectors.mapping.rows import Plan, RecordValues, Table, fields_of, plan
from connectors.mapping.values import as_object, iso
from connectors.sdk.contract import Enriched, Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.weave import metadata, scores
from connectors.sinks.weave.row_limits import MOST_LEVELS, UNCOUNTED, stored
from connectors.sinks.weave.scores import Feedback
from connectors.sinks.weave.values import json_without_references
from tailrace import roll_ups
from tailrace.cutting import cut_text
from tailrace.ids import otel_span_id
from tailrace.memo import Memo
from tailrace.records import Kind, TraceContext, TraceEvent

END_OF_TIME: Final = 9_214_646_400_000_000
"""2262-01-01, microseconds UTC: Weave also stores times as 64 bits of nanoseconds."""
MAX_OP: Final = 128
"""Most characters of an operation's name."""
MAX_ERROR: Final = 40_000
"""Most bytes of an exception; attributes have the whole error."""
MAX_MODEL: Final = 512
"""Most characters of a model's name in the summary, which is never cut; attributes have the whole name."""
MAX_DISPLAY: Final = 1024
"""Most characters of a call's display name."""


class Operation(NamedTuple):
    """How events of a kind become calls."""

    metadata: Table
    of: str = "tool"
    """Weave's kind of the call, for kinds of events that always have the same."""


_NODE_KINDS: Final[Mapping[str | None, str]] = {
    "llm": "llm",
    "question-classifier": "llm",
    "parameter-extractor": "llm",
    "agent": "agent",
    "knowledge-retrieval": "retriever",
    "iteration": "chain",
    "loop": "chain",
}
_SPAN_KINDS: Final[Mapping[str | None, str]] = {
    "llm": "llm",
    "chain": "chain",
    "retriever": "retriever",
    "embedding": "embedding",
    "agent": "agent",
    "guardrail": "guardrail",
    "reranker": "reranker",
}
_FAILED: Final = frozenset({"failed", "exception"})
_NODES: Final = frozenset({"node_execution", "draft_node_execution"})
_NO_TURN: Final = frozenset({"generate_name", "prompt_generation", "draft_node_execution"})
"""Kinds that are no turn of a conversation, though they may be the root of a trace."""
_UNKNOWN_MODEL: Final = "unknown"

_dumps: Final[Callable[[Any], bytes]] = orjson.dumps
_OP: Final = JsonMember("op_name")
_DISPLAY: Final = JsonMember("display_name")
_EXCEPTION: Final = JsonMember("exception")
_THREAD: Final = JsonMember("thread_id")
_INPUTS: Final = JsonMember("inputs")
_MARK: Final = JsonMember("tailrace.cut_for_weave")
_USAGE: Final = JsonMember(metadata.USAGE)
_ZERO8: Final = bytes(8)
_ZERO16: Final = bytes(16)


def to_call(record: Enriched) -> bytes | tuple[Feedback, ...] | Skip | Rejected:
    """The call or the feedback of an event. Does not raise for any event that the codec decodes.

    Returns:
        A call as the text of a JSON object without its opening brace and its `project_id`. `Skip` for kinds
        that are not sent to Weave. `Rejected` for times, ids and texts that Weave cannot store.
    """
    event, context = record.event, record.context
    operation = _PLANS.get(event.kind)
    try:
        if operation is None:
            how = KINDS[event.kind]
            return how if isinstance(how, Skip) else _SCORED[event.kind](event, context)
        started_at, ended_at = event.started_at, event.ended_at
        if not (0 <= started_at < END_OF_TIME and 0 <= ended_at < END_OF_TIME):
            field = "ended_at" if 0 <= started_at < END_OF_TIME else "started_at"
            return Rejected(
                "time_out_of_range", f"{field} is {getattr(event, field)} µs; Weave stores 1970 to 2261"
            )
        if context.message_trace_id == _ZERO16 or context.span_id == _ZERO8:
            return Rejected("invalid_id", "the context's trace or span id is all zero")
        return _call(operation, event, context)
    except (TypeError, ValueError) as e:  # orjson's errors: lone surrogates, numbers beyond 64 bits
        return Rejected("not_json", f"cannot be written as JSON: {type(e).__name__}")


def _trace(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


TRACES: Final[Memo[bytes, str]] = Memo(_trace, 4096)
"""OpenTelemetry's trace id -> the same as a UUID: of a message or run that has a UUID, it is that."""


def _head(source: str) -> str:
    return otel_span_id(source).hex()


_HEADS: Final[Memo[str, str]] = Memo(_head, 4096)
"""source_id of an operation -> the id of its call."""


def call_of(source: str) -> str:
    """The id of the call of an operation that is named by its `source_id`, such as the root of a trace.

    Raises:
        UnicodeEncodeError: The text has a lone surrogate.
    """
    return _HEADS[source]


def _labels(key: tuple[str, tuple[str, ...]]) -> bytes:
    kind, tags = key
    return b'{"tags":' + _dumps(tags) + f',"weave":{{"kind":"{kind}"}}'.encode()


_LABELS: Final[Memo[tuple[str, tuple[str, ...]], bytes]] = Memo(_labels, 1024)
"""Weave's kind and the tags -> the first attributes, with the brace before them."""


def _call(how: _OperationPlan, event: TraceEvent, context: TraceContext) -> bytes:
    name, display, kind, tags = looks(how.of, event, context)
    own, parent = context.span_id, context.parent_span_id
    if parent in (own, _ZERO8):
        parent = None
    call = own.hex()
    started_at, ended_at = event.started_at, event.ended_at
    start = iso(started_at)
    end = start if ended_at <= started_at else iso(ended_at)
    above = "" if parent is None else f',"parent_id":"{parent.hex()}"'
    turn = ""
    thread = event.conversation_id or context.conversation_id
    if thread:
        root = _turn(event, context) if parent is not None else None if event.kind in _NO_TURN else call
        if root is not None:
            turn = f',"turn_id":"{root}"'
    out = [
        (
            f'"id":"{call}","trace_id":"{TRACES[context.message_trace_id]}","started_at":"{start}",'
            f'"ended_at":"{end}"{above}{turn}'
        ).encode()
    ]
    _OP.text(out, name[:MAX_OP])
    _DISPLAY.text(out, display[:MAX_DISPLAY])
    if thread:
        _THREAD.text(out, thread)
    failed = error_of(event)
    if failed is not None:
        _EXCEPTION.text(out, failed if len(failed) <= MAX_ERROR // 4 else cut_text(failed, MAX_ERROR))
    key = (kind, tuple(tags))
    known = [_labels(key) if event.tags else _LABELS[key]]
    how.metadata.write(RecordValues(event, context), known)
    spent = metadata.usage(event)
    if spent is not None:
        _USAGE.encoded(known, f"{{{spent}}}".encode())
    inputs, output = _content(event, kind, known)
    known.append(b"}")
    ended = _summary(event, context, spent, failed is not None)
    made = b"".join([*out, b',"inputs":', inputs, b',"output":', output, b',"attributes":', *known, ended])
    if len(made) > UNCOUNTED or made.count(b"[") + made.count(b"{") > MOST_LEVELS:
        inputs, output, attributes, said = stored(inputs, output, b"".join(known))
        if said is not None:
            mark: list[bytes] = []
            _MARK.text(mark, said)
            known = [b"{", b"".join(mark)[1:], *([b","] if len(attributes) > 2 else []), attributes[1:]]
            made = b"".join(
                [*out, b',"inputs":', inputs, b',"output":', output, b',"attributes":', *known, ended]
            )
    return json_without_references(made)


def _turn(event: TraceEvent, context: TraceContext) -> str | None:
    """The id of the call of the trace's root: the message, or the run, that the trace is named after."""
    root = context.root_trace_id
    return call_of(root) if root is not None and root in (event.message_id, context.root_run_id) else None


def _requests(model: str) -> str:
    return f'{_dumps(model[:MAX_MODEL]).decode()}:{{"requests":1,'


_REQUESTS: Final[Memo[str, str]] = Memo(_requests, 1024)
"""Name of a model -> the start of its usage."""


def _summary(event: TraceEvent, context: TraceContext, spent: str | None, failed: bool) -> bytes:
    """Tokens by model, which Weave sums over the calls of a trace, and how the call ended.

    A call that repeats the tokens of others has none, so that nothing counts twice.
    """
    ended = '"success":0,"error":1' if failed else '"success":1,"error":0'
    if spent is None or roll_ups.of_event(event):
        return f',"summary":{{"status_counts":{{{ended}}}}}}}'.encode()
    start = _REQUESTS[context.request_model or event.model_name or _UNKNOWN_MODEL]
    return f',"summary":{{"usage":{{{start}{spent}}}}},"status_counts":{{{ended}}}}}}}'.encode()


def _content(event: TraceEvent, kind: str, known: list[bytes]) -> tuple[bytes, bytes]:
    """Inputs and output of a call.

    For a tool they are its own, if it has some, else those of its message. For a model the inputs are its
    prompts, if it has some. What is not used here is in the attributes.
    """
    given, returned, tool, node = event.inputs, event.outputs, event.tool, event.node_execution
    if tool is not None:
        given = given if tool.tool_inputs is None else tool.tool_inputs
        returned = returned if tool.tool_outputs is None else tool.tool_outputs
    prompts = None
    if kind == "llm" and node is not None and node.process_data is not None:
        prompts = messages(node.process_data)
    if prompts is None:
        inputs = as_object(given, "input") or b"{}"
    else:
        inputs = b'{"messages":' + prompts + b"}"
        if event.inputs is not None:
            _INPUTS.json(known, event.inputs)
    return inputs, json_value(returned) or b"null"


def error_of(event: TraceEvent) -> str | None:
    """Why an operation failed; None if it did not. Weave shows a call with an exception as failed."""
    message = event.error or ""
    if message.strip():
        return message
    return event.status if event.status in _FAILED else None


def looks(of: str, event: TraceEvent, context: TraceContext) -> tuple[str, str, str, list[str]]:
    """Operation, display name, Weave's kind and tags of a call; as in seed 004 for the kinds that it has.

    An operation is what calls have in common, and Weave groups by it. The seed's names have ids in them: they
    are the display names.

    Args:
        of: `Operation.of` of the kind.
        event: The event.
        context: Its context.
    """
    kind: str = event.kind
    detail: str | None = None
    if kind in _NODES:
        detail = event.node_type
        body = event.node_execution
        name = detail or kind
        display = event.name or name
        of = _NODE_KINDS.get(detail) or ("llm" if body is not None and body.model_mode else of)
    elif kind == "span":
        detail = event.span_kind
        name = display = event.name or "span"
        of = _SPAN_KINDS.get(detail) or of
    elif kind == "message":
        name, display, detail = kind, f"message_{event.message_id or event.source_id or ''}", event.mode
        of = "chain" if event.workflow_run_id else "llm"
    elif kind == "workflow_run":
        log_id = event.origin.workflow_app_log_id if event.origin is not None else None
        name, display = "workflow", f"workflow_{log_id or event.workflow_run_id or event.source_id or ''}"
    elif kind == "tool":
        detail = context.tool_name or event.tool_name or event.name
        name = display = detail or "tool"
    else:
        name = display = kind
        if kind == "prompt_generation":
            detail = event.operation_type
    tags = ["workflow" if kind == "workflow_run" else kind]
    if detail:
        tags.append(detail)
    if event.tags:
        tags += event.tags
    return name, display, of, tags


Scored = Callable[[TraceEvent, TraceContext], "tuple[Feedback, ...] | Skip | Rejected"]
_NONE: Final = Skip("not_traced")
KINDS: Final[Mapping[Kind, Operation | Scored | Skip]] = {
    Kind.WORKFLOW_RUN: Operation(metadata.WORKFLOW_RUN, "chain"),
    Kind.NODE_EXECUTION: Operation(metadata.NODE),
    Kind.DRAFT_NODE_EXECUTION: Operation(metadata.NODE),
    Kind.MESSAGE: Operation(metadata.MESSAGE, "chain"),
    Kind.MODERATION: Operation(metadata.MODERATION, "guardrail"),
    Kind.SUGGESTED_QUESTION: Operation(metadata.SUGGESTED_QUESTION, "llm"),
    Kind.DATASET_RETRIEVAL: Operation(metadata.DATASET_RETRIEVAL, "retriever"),
    Kind.TOOL: Operation(metadata.TOOL),
    Kind.GENERATE_NAME: Operation(metadata.GENERATE_NAME, "llm"),
    Kind.PROMPT_GENERATION: Operation(metadata.PROMPT_GENERATION, "llm"),
    Kind.SPAN: Operation(metadata.SPAN),
    Kind.FEEDBACK: scores.of_feedback,
    Kind.EVALUATION: scores.of_evaluation,
    Kind.APP_CREATED: _NONE,
    Kind.APP_UPDATED: _NONE,
    Kind.APP_DELETED: _NONE,
    Kind.REHYDRATION_FAILED: _NONE,
    Kind.LINK: _NONE,
    Kind.UNKNOWN: _NONE,
}
"""How each kind is mapped: as a call, as feedback, or not at all."""
_SCORED: Final[dict[str, Scored]] = {
    str(kind): how for kind, how in KINDS.items() if not isinstance(how, Operation | Skip)
}
_OPERATIONS: Final = {kind: how for kind, how in KINDS.items() if isinstance(how, Operation)}
FIELDS: Final = fields_of(*(how.metadata for how in _OPERATIONS.values())) | {
    *scores.FIELDS,
    "attributes",
    changes.FIELD,
    "ended_at",
    "input_tokens",
    "inputs",
    "kind",
    "name",
    "output_tokens",
    "outputs",
    "started_at",
    "tags",
    "token_classes",
    "trace_id",
    "usage_repeats",
}
"""Fields of `TraceEvent` that this mapping reads, in its tables and in its functions."""


class _OperationPlan:
    """The table of a kind, compiled."""

    def __init__(self, how: Operation) -> None:
        self.metadata: Final[Plan] = plan(how.metadata, JsonMember)
        self.of: Final[str] = how.of


_PLANS: Final[dict[str, _OperationPlan]] = {
    str(kind): _OperationPlan(how) for kind, how in _OPERATIONS.items()
}
