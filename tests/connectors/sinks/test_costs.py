"""One price is one cost: in the metrics, in the summary, at Langfuse and at Opik."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from connectors.preview.offline import enriched
from connectors.sdk.contract import Enriched
from tailrace.identity import complete
from tailrace.records import Kind, SpanKind, TraceEvent
from tests.harness.kept import compare
from tests.harness.mixed import as_log
from tests.seeds.walker import seeds
from tests.streams.events import NOW
from tests.streams.processing.test_recount import processed, recounted

SEEDS = seeds()
LISTED: dict[str, Any] = {
    "model_provider": "openai",
    "model_name": "gpt-4.1",
    "input_tokens": 1_000_000,
    "output_tokens": 1_000_000,
}
LIST_PRICE = Decimal(10)
"""Of these tokens: 2 dollars and 8 dollars."""


def call(**prices: Any) -> TraceEvent:
    """A model call whose prices are as another producer may have written them."""
    fields: dict[str, Any] = {"kind": Kind.SPAN, "span_kind": SpanKind.LLM, "source_id": "call"}
    done = complete(TraceEvent(**fields, trace_id="T", started_at=NOW, ended_at=NOW + 1000, **LISTED), NOW)
    return msgspec.structs.replace(done, **prices)


def counted(event: TraceEvent) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """The cost by currency: of the metric, and of the summary. A recount says the same."""
    log = as_log([event], 1, NOW)
    found = processed(log, 1, Random(1))
    assert compare(recounted(log), found) == []
    metric = {
        dict(labels)["currency"]: Decimal(total.sum).scaleb(-12)
        for (_, name, labels), total in found.totals.items()
        if name == "tailrace.cost"
    }
    (summary,) = found.summaries.values()
    return metric, {currency: Decimal(text) for currency, text in summary.cost.items()}


def sent(event: TraceEvent) -> tuple[Decimal | None, Decimal | None]:
    """The cost in dollars that Langfuse and Opik get. Langfuse takes the total, not the parts."""
    (record,) = enriched([event], None)
    assert isinstance(record, Enriched)
    langfuse: Any = SEEDS["langfuse"].payload(record)
    attributes = {a["key"]: next(iter(a["value"].values())) for a in langfuse["attributes"]}
    details = json.loads(attributes.get("langfuse.observation.cost_details", "{}"), parse_float=Decimal)
    opik: Any = SEEDS["opik"].payload(record)
    cost = opik["spans"][0].get("total_estimated_cost")
    return (
        Decimal(details["total"]) if details else None,
        None if cost is None else Decimal(str(cost)),
    )


@pytest.mark.parametrize(
    ("prices", "currency", "cost"),
    [
        ({"total_price": "0.5"}, "USD", Decimal("0.5")),
        ({"total_price": "0.5", "currency": "usd"}, "USD", Decimal("0.5")),
        ({"total_price": "0.5", "currency": ""}, "USD", Decimal("0.5")),
        ({"input_price": "0.1", "output_price": "0.4"}, "USD", Decimal("0.5")),
        ({"input_price": "0.1", "output_price": "4e-1", "currency": "USD"}, "USD", Decimal("0.5")),
        ({"input_price": "0.1", "output_price": "0.4", "total_price": ""}, "USD", Decimal("0.5")),
        ({"input_price": "0.1", "output_price": "0.4", "total_price": "0.75"}, "USD", Decimal("0.75")),
        ({"input_price": "0.5", "output_price": "0"}, "USD", Decimal("0.5")),
        # a price in another currency is no cost in dollars
        ({"total_price": "0.5", "currency": "EUR"}, "EUR", Decimal("0.5")),
        ({"input_price": "0.1", "output_price": "0.4", "currency": "EUR"}, "EUR", Decimal("0.5")),
        # the list price, since nothing else is a price
        ({}, "USD", LIST_PRICE),
        ({"input_price": "0.1"}, "USD", LIST_PRICE),
        ({"output_price": "0.1", "currency": "EUR"}, "USD", LIST_PRICE),
        ({"input_price": "0.1", "output_price": "$0.4"}, "USD", LIST_PRICE),
        ({"input_price": "0.1", "output_price": "-0.4"}, "USD", LIST_PRICE),
        ({"input_price": "0.0", "output_price": "0"}, "USD", LIST_PRICE),
        ({"input_price": "0.1", "output_price": "0.4", "total_price": "0"}, "USD", LIST_PRICE),
        ({"total_price": "NaN", "input_price": "0.1", "output_price": "0.4"}, "USD", LIST_PRICE),
    ],
)
def test_a_price_is_the_same_cost_everywhere(prices: dict[str, str], currency: str, cost: Decimal) -> None:
    event = call(**prices)
    metric, summary = counted(event)
    assert metric == summary == {currency: cost}
    in_dollars = cost if currency == "USD" else None
    assert sent(event) == (in_dollars, in_dollars)


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({"total_price": "0.5"}, Decimal("0.5")),
        ({"input_price": "0.1", "output_price": "0.4"}, Decimal("0.5")),
        ({"total_price": "0"}, Decimal(0)),
        ({"input_price": "0.1"}, None),
        ({"total_price": "-1"}, None),
        ({"total_price": "1e7"}, None),
        ({"input_price": "9e6", "output_price": "9e6"}, None),
    ],
)
def test_so_it_is_for_a_model_without_a_list_price(prices: dict[str, str], cost: Decimal | None) -> None:
    event = call(model_name="a name that no table has", **prices)
    metric, summary = counted(event)
    assert metric == ({} if cost is None else {"USD": cost})
    assert sum(summary.values()) == (cost or 0)
    assert sent(event) == (cost, cost)
