"""What both recounts need of an event: what it says, if it counts and has failed, its price, its parent.

Written from docs/metrics.md, docs/summaries.md and the schemas, without looking at the processor's code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final, NamedTuple

import msgspec

from tailrace.ids import event_id, otel_span_id
from tailrace.records import Kind, SpanKind, TokenClasses, TraceEvent

HOUR: Final = 3_600_000_000
"""Microseconds."""
LONG: Final = 1 << 63
"""The first amount that is too large for an Avro long."""


CLASSES: Final = TokenClasses.__struct_fields__


class Logged(NamedTuple):
    """A record of trace.events."""

    partition: int
    offset: int
    appended_at_ms: int
    event: TraceEvent


Estimate = Callable[[TraceEvent], int | None]
"""What an event's tokens cost by a price table, in 1e-12 US dollars. None: not in the table."""
Normalise = Callable[[str | None, str | None], tuple[str | None, str | None]]
"""model_provider and model_name as OpenTelemetry names them."""


class Price(NamedTuple):
    amount: int
    """1e-12 of the currency."""
    currency: str
    estimated: bool


_TEXTS: Final = tuple(
    f.name for f in msgspec.structs.fields(TraceEvent) if f.type in (str | None,) and f.name != "event_id"
)
_JOINING: Final = [
    "parent_id",
    "parent_trace_id",
    "parent_run_id",
    "parent_node_execution_id",
    "parent_app_id",
    "root_trace_id",
    "root_run_id",
    "root_app_id",
    "root_started_at",
    "otel_trace_id",
    "otel_parent_span_id",
]
_APART: Final = (Kind.APP_CREATED, Kind.APP_UPDATED, Kind.APP_DELETED, Kind.REHYDRATION_FAILED, Kind.LINK)


def as_read(event: TraceEvent) -> TraceEvent:
    """What an event says (schemas/README.md): empty text and ids of zeros are null, ids are complete.

    A draft names no other trace.
    """
    said: dict[str, str | bytes | None] = {name: getattr(event, name) or None for name in _TEXTS}
    for name in ("otel_trace_id", "otel_span_id", "otel_parent_span_id"):
        native = getattr(event, name)
        said[name] = native if native and native.strip(b"\0") else None
    e = msgspec.structs.replace(event, **said)
    own = {Kind.WORKFLOW_RUN: e.workflow_run_id, Kind.MESSAGE: e.message_id}.get(e.kind)
    source, parent = e.source_id or own, e.parent_id
    if source is None and e.otel_span_id is not None:
        source = e.otel_span_id.hex()
        if parent is None and e.otel_parent_span_id is not None:
            parent = e.otel_parent_span_id.hex()
    trace = e.trace_id or e.message_id or e.workflow_run_id
    trace = trace or (e.otel_trace_id.hex() if e.otel_trace_id else source)
    if e.kind == Kind.DRAFT_NODE_EXECUTION:
        e, trace, parent = msgspec.structs.replace(e, **dict.fromkeys(_JOINING)), source, None
    if e.kind in _APART:
        trace = e.trace_id
    id_ = e.event_id or event_id(e.kind, trace, source or "", e.revision, e.tenant_id)
    return msgspec.structs.replace(e, event_id=id_, source_id=source, trace_id=trace, parent_id=parent)


def by_partition(log: Iterable[Logged]) -> dict[int, list[Logged]]:
    """The partitions of the log, each in its order."""
    found: dict[int, list[Logged]] = {}
    for logged in log:
        found.setdefault(logged.partition, []).append(logged)
    return found


def applied(log: Iterable[Logged]) -> list[Logged]:
    """The events that the processor enriches: no links, and each event_id once a partition and tenant."""
    seen: set[tuple[int, str | None, str | None]] = set()
    found = []
    for logged in log:
        this = logged.partition, logged.event.tenant_id, logged.event.event_id
        if this not in seen and logged.event.kind != Kind.LINK:
            seen.add(this)
            found.append(logged)
    return found


def cut(text: str, size: int) -> str:
    """The first `size` bytes of a text, without a half character at the end."""
    return text.encode()[:size].decode(errors="ignore")


def failed(event: TraceEvent) -> bool:
    return event.status == "failed" or bool(event.error)


def duration(event: TraceEvent) -> int:
    return max(event.ended_at - event.started_at, 0)


def repeats(event: TraceEvent) -> bool:
    """Whether an event's tokens and price are those of other events."""
    if event.usage_repeats is not None:
        return event.usage_repeats
    match event.kind:
        case Kind.WORKFLOW_RUN | Kind.DATASET_RETRIEVAL:
            return True
        case Kind.MESSAGE:
            return bool(event.workflow_run_id)
        case Kind.SPAN:
            return event.span_kind in (SpanKind.AGENT, SpanKind.CHAIN, SpanKind.TASK)
        case _:
            return event.node_type in ("iteration", "loop")


def classes_of(event: TraceEvent) -> dict[str, int] | None:
    """Tokens by class, without those that are not given. None: it has none, or they do not fit the totals."""
    if event.token_classes is None:
        return None
    found: dict[str, int] = {
        name: n for name, n in msgspec.structs.asdict(event.token_classes).items() if n is not None
    }
    input_, output = (n if n and n > 0 else 0 for n in (event.input_tokens, event.output_tokens))
    totals = {**dict.fromkeys(CLASSES, 0), **found, "input": input_, "output": output}
    for parts, whole in (
        ("cache_read cache_write", "input"),
        ("input_audio input_image", "input"),
        ("reasoning", "output"),
        ("output_audio output_image", "output"),
        ("cache_write_1h", "cache_write"),
        ("cache_read_audio", "cache_read"),
        ("cache_read_audio", "input_audio"),
    ):
        if sum(totals[part] for part in parts.split()) > totals[whole]:
            return None
    return None if any(n < 0 for n in found.values()) else found


def calls_a_model(event: TraceEvent) -> bool:
    """Whether an event is itself the call of a model, and does not only contain one."""
    if event.usage_repeats:
        return False
    match event.kind:
        case Kind.NODE_EXECUTION | Kind.DRAFT_NODE_EXECUTION | Kind.PROMPT_GENERATION:
            return bool(event.model_name)
        case Kind.MESSAGE:
            return bool(event.model_name) and not event.workflow_run_id
        case Kind.SPAN:
            return event.span_kind in (SpanKind.LLM, SpanKind.EMBEDDING)
        case _:
            return False


PRICED: Final = (
    Kind.WORKFLOW_RUN,
    Kind.NODE_EXECUTION,
    Kind.DRAFT_NODE_EXECUTION,
    Kind.MESSAGE,
    Kind.PROMPT_GENERATION,
    Kind.SPAN,
)


def amount_of(text: str | None) -> int | None:
    """A decimal text in 1e-12, half to even. None: not a finite decimal, or too large for a long."""
    try:
        value = Decimal(text or "")
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    if value <= 0:
        return 0 if value == 0 else -1  # any negative price, however small
    if value.adjusted() > 18:
        return None
    amount = round(Fraction(value) * 10**12) if value.adjusted() > -30 else 0
    return amount if amount < LONG else None


def price_of(event: TraceEvent, estimate: Estimate) -> Price | None:
    """The event's own price, or that of the price table. None: no price.

    Its own is the total, else the sum of both parts. A price that is negative or no number is none. One of
    0 is none if the table has one for the tokens.
    """
    amount = amount_of(event.total_price)
    if event.total_price is None and event.input_price is not None and event.output_price is not None:
        parts = [amount_of(event.input_price), amount_of(event.output_price)]
        amount = None if None in parts or -1 in parts else sum(p for p in parts if p is not None)
        amount = None if amount is None or amount >= LONG else amount
    own = amount if amount is not None and amount >= 0 else None
    asked = calls_a_model(event) or event.usage_repeats is False
    listed = estimate(event) if not own and asked else None
    if listed is not None and (listed > 0 or own is None):
        return Price(listed, "USD", True)
    currency = event.currency or "USD"
    return None if own is None else Price(own, currency.upper() if len(currency) == 3 else currency, False)


def span_of(event: TraceEvent) -> bytes:
    return event.otel_span_id or otel_span_id(event.source_id or "")


def parent_of(event: TraceEvent) -> str | bytes | None:
    """source_id of the structural parent, or its span id if only that is known.

    That is the first that the event names of: the container, the calling node, the calling run (for runs)
    or its own run (for nodes), the message, the run. A message or a draft has no parent, and no event is
    its own parent.
    """
    if event.otel_parent_span_id is not None:
        return event.otel_parent_span_id
    choices: tuple[str | None, ...]
    match event.kind:
        case Kind.WORKFLOW_RUN:
            choices = (event.parent_node_execution_id, event.parent_run_id, event.message_id)
        case Kind.NODE_EXECUTION:
            choices = (event.workflow_run_id, event.message_id)
        case Kind.MESSAGE | Kind.DRAFT_NODE_EXECUTION:
            choices = ()
        case _:
            choices = (event.message_id, event.workflow_run_id)
    parent = next((c for c in (event.parent_id, *choices) if c is not None), None)
    return None if parent == event.source_id else parent


def parent_span_of(event: TraceEvent) -> bytes | None:
    parent = parent_of(event)
    found = otel_span_id(parent) if isinstance(parent, str) else parent
    return None if found == span_of(event) else found
