"""What both recounts need of an event: whether it counts, whether it failed, its price and its parent.

Written from docs/metrics.md, docs/summaries.md and the schemas, without looking at the processor's code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final, NamedTuple

from tailrace.ids import otel_span_id
from tailrace.records import Kind, SpanKind, TraceEvent

HOUR: Final = 3_600_000_000
"""Microseconds."""
LONG: Final = 1 << 63
"""The first amount that is too large for an Avro long."""


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


def calls_a_model(event: TraceEvent) -> bool:
    """Whether an event is itself the call of a model, and does not only contain one."""
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
    """The event's own price, or that of the price table. None: no price, or a negative one."""
    amount, estimated, currency = amount_of(event.total_price), False, event.currency or "USD"
    if amount is None and calls_a_model(event):
        amount, estimated, currency = estimate(event), True, "USD"
    return Price(amount, currency, estimated) if amount is not None and amount >= 0 else None


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
