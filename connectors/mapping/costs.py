"""What an operation costs, for sinks that send costs. Pure.

The processor counts by the same rule (streams/processing/enrich.py), so a vendor's sums are those of the
metrics and summaries.
"""

from __future__ import annotations

from typing import Final

from tailrace.money import amount, total_of
from tailrace.records import TraceContext, TraceEvent

_DOLLARS: Final = "USD"
_UNUSABLE: Final = "price_unusable"


def own_price(event: TraceEvent, context: TraceContext) -> str | None:
    """The publisher's total price, else the sum of both its parts, in the event's currency, as a JSON number.

    None if there is none, or if the processor could not use it. It may be 0.
    """
    total = event.total_price
    if not total and event.input_price and event.output_price:
        total = total_of(event.input_price, event.output_price)
    return amount(total) if total and _UNUSABLE not in context.marks else None


def in_dollars(event: TraceEvent) -> bool:
    """Whether the event's own prices are in US dollars, as they are if it names no currency."""
    return not event.currency or event.currency.upper() == _DOLLARS


def dollars(event: TraceEvent, context: TraceContext) -> str | None:
    """The cost in US dollars: the processor's estimate, else the event's own price if it is in US dollars.

    An event has an estimate only instead of a price of its own. None if neither is known. Whether an
    operation repeats the cost of others is a question for `tailrace.roll_ups`.
    """
    if context.estimated_cost is not None:
        return context.estimated_cost
    return own_price(event, context) if in_dollars(event) else None
