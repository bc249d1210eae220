"""What the context adds to the event: names, tool, datasets, a price estimate, and the link of a guess."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from streams.processing.prices import Prices
from tailrace.ids import otel_span_id
from tailrace.records import DatasetRetrieval, Kind, NodeExecution, Span, SpanKind, TraceContext, TraceEvent
from tests.harness import foreign
from tests.streams.events import apply, contexts, event, fresh, record, records, uuid


def context_of(*events: TraceEvent) -> TraceContext:
    """The context of the last event."""
    unit = apply(fresh(), records(list(events)))
    assert not unit.dead_letters
    return contexts(unit)[-1]


def test_provider_and_model_are_named_as_opentelemetry_names_them() -> None:
    found = context_of(event(model_provider="langgenius/azure_openai/azure_openai", model_name="gpt-4o"))
    assert (found.provider_name, found.request_model) == ("azure.ai.openai", "gpt-4o")
    found = context_of(event())
    assert (found.provider_name, found.request_model) == (None, None)


@pytest.mark.parametrize(
    ("fields", "tool"),
    [
        ({"name": "Search", "node_type": "tool"}, "Search"),
        ({"name": "Search", "node_type": "tool", "tool_name": "google"}, "google"),
        ({"name": "Search", "node_type": "llm"}, None),
        ({"name": "Search", "node_type": "llm", "span_kind": SpanKind.TOOL}, "Search"),
        ({"name": "Search", "node_type": "code", "tool_name": "google"}, "google"),
    ],
)
def test_a_tool_is_named(fields: dict[str, Any], tool: str | None) -> None:
    assert context_of(event(**fields)).tool_name == tool


def test_a_tool_span_is_named_by_its_display_name() -> None:
    span = event(Kind.SPAN, source_id="s", name="fetch", span_kind=SpanKind.TOOL, span=Span())
    assert context_of(span).tool_name == "fetch"


def test_names_of_datasets_come_from_the_event_or_from_the_trace_before_it() -> None:
    named = event(
        Kind.DATASET_RETRIEVAL,
        n=1,
        source_id="r1",
        dataset_ids=["d1", "d2"],
        dataset_retrieval=DatasetRetrieval(dataset_names=["Docs", "Wiki"]),
    )
    bare = event(n=2, dataset_ids=["d2"], node_execution=NodeExecution(node_id="n"))
    unknown = event(n=3, dataset_ids=["d2", "d3"], node_execution=NodeExecution(node_id="n"))
    assert context_of(named).dataset_names == ["Docs", "Wiki"]
    assert context_of(named, bare).dataset_names == ["Wiki"]
    assert context_of(bare).dataset_names == []
    assert context_of(named, unknown).dataset_names == []


CALL: Final[dict[str, Any]] = {
    "model_provider": "openai",
    "model_name": "gpt-4o",
    "input_tokens": 1000,
    "output_tokens": 100,
}


def test_only_a_call_of_a_model_without_a_price_gets_an_estimate() -> None:
    call = CALL
    found = context_of(event(**call))
    assert list(found.marks) == []
    assert found.estimated_cost is not None
    assert float(found.estimated_cost) > 0
    assert found.price_table == Prices().table
    for other in (
        event(**call, total_price="0.5", currency="USD"),
        event(model_provider="openai", model_name="gpt-4o"),
        event(**(call | {"model_name": "model-of-our-own"})),
        event(Kind.WORKFLOW_RUN, **call),
    ):
        found = context_of(other)
        assert (found.estimated_cost, found.price_table) == (None, None)
        assert list(found.marks) == []


@pytest.mark.parametrize(
    ("price", "mark"),
    [
        ("0", "price_zero"),
        ("0.0", "price_zero"),
        ("-0.00", "price_zero"),
        ("0E+3", "price_zero"),
        ("$0.5", "price_unusable"),
        ("NaN", "price_unusable"),
        ("inf", "price_unusable"),
        ("-0.5", "price_unusable"),
        ("1e300", "price_unusable"),
        ("0,5", "price_unusable"),
    ],
)
def test_a_price_that_cannot_be_one_does_not_take_the_estimate_away_and_is_marked(
    price: str, mark: str
) -> None:
    found = priced(**CALL, total_price=price)
    assert (found.estimated_cost, list(found.marks)) == (context_of(event(**CALL)).estimated_cost, [mark])


def priced(**fields: Any) -> TraceContext:
    """The context of a node whose price another producer wrote."""
    made = msgspec.structs.replace(event(), **fields)
    unit = apply(fresh(), [record(event(n=9), 0)._replace(value=foreign.encode(made))])
    assert not unit.dead_letters
    return contexts(unit)[0]


def test_a_price_of_0_is_right_where_nothing_is_known_to_cost() -> None:
    for fields in (
        {"model_provider": "openai", "model_name": "gpt-4o"},
        CALL | {"model_name": "model-of-our-own"},
        {"total_tokens": 100},
    ):
        found = priced(**fields, total_price="0.0")
        assert (found.estimated_cost, list(found.marks)) == (None, [])
    found = priced(model_name="model-of-our-own", input_tokens=5, total_price="free")
    assert (found.estimated_cost, list(found.marks)) == (None, ["price_unusable"])


@pytest.mark.parametrize("price", [".5", "+0.5", "00.5", "5e-1", "0.50"])
def test_a_price_in_another_spelling_is_a_price(price: str) -> None:
    found = priced(**CALL, total_price=price, currency="usd")
    assert (found.estimated_cost, list(found.marks)) == (None, [])


def test_a_guessed_root_has_a_link_to_the_calling_run() -> None:
    inner = event(n=1, run=2, parent_run_id=uuid(1), parent_node_execution_id="caller")
    found = context_of(inner)
    assert list(found.marks) == ["root_inferred"]
    assert found.linked_span_id == otel_span_id(uuid(1))
    assert context_of(event()).linked_span_id is None
