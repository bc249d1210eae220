"""What both recounts need to know of an event: whether it counts at all, whether it failed, what it cost,
where it hangs.

Written from docs/metrics.md, docs/summaries.md and the schemas; the processor's own code is not looked at.
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
"""What an Avro long does not hold."""


class Logged(NamedTuple):
    """A record of trace.events."""

    partition: int
    offset: int
    appended_at_ms: int
    event: TraceEvent


Estimate = Callable[[TraceEvent], int | None]
"""What an event's tokens cost by a price table, in 1e-12 US dollars; None where it does not know."""
Normalise = Callable[[str | None, str | None], tuple[str | None, str | None]]
"""model_provider and model_name as OpenTelemetry names them."""


class Price(NamedTuple):
    amount: int
    """1e-12 of the currency."""
    currency: str
    estimated: bool


def by_partition(log: Iterable[Logged]) -> dict[int, list[Logged]]:
    """The log's partitions, each in its order."""
    found: dict[int, list[Logged]] = {}
    for logged in log:
        found.setdefault(logged.partition, []).append(logged)
    return found


def applied(log: Iterable[Logged]) -> list[Logged]:
    """The events that the processor enriches: no links, and of an event_id the first of its partition."""
    seen: set[tuple[int, str | None]] = set()
    found = []
    for logged in log:
        this = logged.partition, logged.event.event_id
        if this not in seen and logged.event.kind != Kind.LINK:
            seen.add(this)
            found.append(logged)
    return found


def cut(text: str, size: int) -> str:
    """The first `size` bytes of a text, without half a character."""
    return text.encode()[:size].decode(errors="ignore")


def failed(event: TraceEvent) -> bool:
    return event.status == "failed" or bool(event.error)


def duration(event: TraceEvent) -> int:
    return max(event.ended_at - event.started_at, 0)


def calls_a_model(event: TraceEvent) -> bool:
    """Whether an event is itself a call of a model, and doesn't just contain one."""
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
    """A decimal text in 1e-12, half to even; None of what is no finite decimal or does not fit a long."""
    try:
        value = Decimal(text or "")
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    if value <= 0:
        return 0 if value == 0 else -1  # however small: a negative price is one
    if value.adjusted() > 18:
        return None
    amount = round(Fraction(value) * 10**12) if value.adjusted() > -30 else 0
    return amount if amount < LONG else None


def price_of(event: TraceEvent, estimate: Estimate) -> Price | None:
    """The event's own price, else that of the price table; None if there is none or it is negative."""
    amount, estimated, currency = amount_of(event.total_price), False, event.currency or "USD"
    if amount is None and calls_a_model(event):
        amount, estimated, currency = estimate(event), True, "USD"
    return Price(amount, currency, estimated) if amount is not None and amount >= 0 else None


def span_of(event: TraceEvent) -> bytes:
    return event.otel_span_id or otel_span_id(event.source_id or "")


def parent_of(event: TraceEvent) -> str | bytes | None:
    """source_id of the structural parent, or its span id where only that is known: what contains the
    operation, else the calling node, else the calling run (of runs) or the own run (of nodes), else the
    message, else the run. A message, a draft and what would be its own parent have none."""
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
