"""Adds names by OpenTelemetry's conventions, tool, datasets and a missing price to an event's context.

The event's own bytes are not changed.
"""

from __future__ import annotations

from typing import Final

from streams.processing.avro import nullable, strings
from streams.processing.header import Header
from streams.processing.metrics.grouping import call_of
from streams.processing.money import decimal_text, units_of
from streams.processing.prices import Prices
from streams.processing.providers import normalised
from streams.processing.trace import MOST_DATASET_BYTES, Trace
from tailrace.kinds import TOOLS
from tailrace.memo import Memo
from tailrace.money import total_of
from tailrace.records import TokenClasses

NO_PRICE, OWN_PRICE, ESTIMATED_PRICE = range(3)
PRICE_ZERO: Final = b"price_zero"
"""Mark: the event's price is 0, but it has tokens that cost something by the table, whose price applies."""
PRICE_UNUSABLE: Final = b"price_unusable"
"""Mark: the event's price is not a decimal number, is negative or too large, and counts as none."""
_NOTHING_ELSE: Final = b"\0\0\0\0"
"""Encoded: no tool, no datasets, no estimate, no price table."""
_MEMO: Final = 4096
_TOOL: Final = b"tool"
_TOOLS: Final = TOOLS


class Enricher:
    """Enriches events, and caches what repeats.

    Args:
        prices: the price table for events with tokens and a model but no price.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._table = nullable(prices.table.encode())
        self._names: Memo[tuple[bytes | None, bytes | None], tuple[bytes, bytes]] = Memo(_names, _MEMO)
        """Provider and model -> their encoded names, and those followed by `_NOTHING_ELSE`."""

    def price(self, h: Header, classes: TokenClasses | None = None) -> tuple[int, int, bytes | None]:
        """The price of an operation in 1e-12 of its currency, where it comes from, and a mark if it is odd.

        Its own is its total price, else the sum of its parts (`tailrace.money.total_of`).
        The source is `OWN_PRICE`, `ESTIMATED_PRICE` (in US dollars), or -1 and `NO_PRICE` if there is
        no price. Only an operation that is itself a model call gets an estimate, or one that says that its
        usage is its own (`usage_repeats` is False): if its own price is missing, unusable, or 0 although
        its tokens cost something.

        Args:
            classes: its tokens by class, if they are plausible.
        """
        own, mark = -1, None  # type: int, bytes | None
        said = h.total_price
        if said is None and h.input_price is not None and h.output_price is not None:
            said = _total(h.input_price, h.output_price)
        if said is not None:
            units = units_of(said)
            if units is not None and units > 0:
                return units, OWN_PRICE, None
            if units == 0:
                own = 0
            else:
                mark = PRICE_UNUSABLE
        if (
            (h.input_tokens or h.output_tokens)
            and (h.model_name or h.response_model)
            and (call_of(h) or h.usage_repeats is False)
        ):
            found = self._prices.estimate(
                h.model_provider,
                h.model_name,
                h.input_tokens,
                h.output_tokens,
                h.started_at,
                classes,
                h.service_tier,
                h.response_model,
            )
            if found is not None and (found > 0 or own < 0):
                return found, ESTIMATED_PRICE, PRICE_ZERO if own == 0 else mark
        return own, OWN_PRICE if own == 0 else NO_PRICE, mark

    def fields(self, h: Header, linked: bytes | None, price: int, known: int, trace: Trace | None) -> bytes:
        """The fields of `TraceContext` from linked_span_id to price_table.

        Args:
            linked: span id of the calling run, if the root was inferred.
        """
        key = (h.model_provider, h.model_name)
        found = self._names[key]
        tool = tool_of(h)
        if tool is None and linked is None and known != ESTIMATED_PRICE and not h.dataset_ids:
            return found[1]
        return b"".join(
            (
                b"\0" if linked is None else b"\2" + linked,
                found[0],
                b"\0" if tool is None else nullable(tool),
                strings(datasets_of(h, trace)) if h.dataset_ids else b"\0",
                nullable(decimal_text(price).encode()) + self._table if known == ESTIMATED_PRICE else b"\0\0",
            )
        )


def _total(input_price: bytes, output_price: bytes) -> bytes:
    """The sum of an event's parts; no number if they have none."""
    total = total_of(input_price.decode("utf-8", "replace"), output_price.decode("utf-8", "replace"))
    return b"" if total is None else total.encode()


def _names(key: tuple[bytes | None, bytes | None]) -> tuple[bytes, bytes]:
    provider, model = normalised(*key)
    names = nullable(provider) + nullable(model)
    return names, b"\0" + names + _NOTHING_ELSE


def tool_of(h: Header) -> bytes | None:
    """The tool that ran: as the event says, else the display name of an operation that is a tool."""
    if h.tool_name is not None:
        return h.tool_name
    if h.node_type == _TOOL or h.kind in _TOOLS or h.span_kind == "tool":
        return h.name
    return None


def dataset_names(h: Header) -> list[bytes]:
    """Names of an event's datasets from its body, in the order of dataset_ids; empty if it has none."""
    return h.retrieved_dataset_names or h.node_dataset_names or []


def datasets_of(h: Header, trace: Trace | None) -> list[bytes]:
    """Names of an event's datasets: its own, else those from earlier events of the trace.

    Empty unless all of them are known, and if they are too long together: an id that is there many times
    can have a long name.
    """
    names = dataset_names(h)
    if names:
        return names
    known = trace.datasets if trace is not None else None
    if not known or any(d not in known for d in h.dataset_ids):
        return []
    names = [known[d] for d in h.dataset_ids]
    return names if sum(map(len, names)) + len(names) <= MOST_DATASET_BYTES else []
