"""What sinks make of token classes and of operations that repeat the usage of others."""

from __future__ import annotations

import importlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.preview.offline import enriched
from connectors.sdk.contract import Enriched
from tailrace.identity import complete
from tailrace.records import Kind, SpanKind, TokenClasses, TraceEvent
from tests.seeds.walker import seeds

NOW = 1_763_700_000_000_000
SEEDS = seeds()


def record(classes: TokenClasses | None = None, **fields: Any) -> Enriched:
    base: dict[str, Any] = {
        "kind": Kind.SPAN,
        "span_kind": SpanKind.LLM,
        "source_id": "call",
        "trace_id": "T",
    }
    times = {"started_at": NOW, "ended_at": NOW + 1000, "model_provider": "openai", "model_name": "gpt-4.1"}
    event = complete(TraceEvent(**(base | times | fields)), NOW)
    (found,) = enriched([msgspec.structs.replace(event, token_classes=classes)], None)
    assert isinstance(found, Enriched)
    return found


def attributes(found: Enriched) -> dict[str, str]:
    """Those of the observation at Langfuse."""
    payload: Any = SEEDS["langfuse"].payload(found)
    return {a["key"]: next(iter(a["value"].values())) for a in payload["attributes"]}


def langfuse(found: Enriched) -> dict[str, int] | None:
    usage = attributes(found).get("langfuse.observation.usage_details")
    return None if usage is None else json.loads(usage)


def opik(found: Enriched) -> dict[str, Any]:
    payload: Any = SEEDS["opik"].payload(found)
    span: dict[str, Any] = payload["spans"][0]
    return span


def weave(found: Enriched) -> dict[str, Any] | None:
    """What Weave adds up."""
    payload: Any = SEEDS["weave"].payload(found)
    usage: dict[str, Any] | None = payload["summary"].get("usage")
    return usage


# -- classes
counts = st.integers(0, 100)


@given(st.lists(counts, min_size=12, max_size=12), st.booleans())
@settings(max_examples=150, deadline=None)
def test_langfuse_gets_parts_that_add_up_to_the_totals(parts: list[int], known: bool) -> None:
    text, read, write, hour, audio, image, read_audio, plain, thought, spoken, drawn, more = parts
    given_in, made = text + read + write + hour + audio + image + read_audio, plain + thought + spoken + drawn
    classes = TokenClasses(
        cache_read=read + read_audio,
        cache_write=write + hour,
        cache_write_1h=hour,
        input_audio=audio + read_audio,
        input_image=image,
        cache_read_audio=read_audio if known else None,
        reasoning=thought,
        output_audio=spoken,
        output_image=drawn,
    )
    usage = langfuse(record(classes, input_tokens=given_in, output_tokens=made, total_tokens=given_in + more))
    assert usage is not None
    assert min(usage.values()) >= 0
    assert sum(n for name, n in usage.items() if name.startswith("input")) == given_in
    assert sum(n for name, n in usage.items() if name.startswith("output")) == made
    assert usage["total"] == given_in + more
    assert usage.get("input_cache_read", 0) == read + read_audio
    assert usage.get("input_cache_creation", 0) == write
    assert usage.get("input_cache_creation_1h", 0) == hour
    if known:
        assert usage["input"] == text + image
        assert usage.get("input_audio_tokens", 0) == audio
    assert usage["output"] == plain + drawn


def test_classes_that_do_not_fit_are_not_sent_as_usage() -> None:
    odd = record(TokenClasses(cache_read=900), input_tokens=100, output_tokens=5)
    assert langfuse(odd) == {"input": 100, "output": 5}
    assert opik(odd)["usage"] == {"prompt_tokens": 100, "completion_tokens": 5}
    assert weave(odd) == {"gpt-4.1": {"requests": 1, "prompt_tokens": 100, "completion_tokens": 5}}


@pytest.mark.parametrize(
    ("provider", "more"),
    [
        ("openai", {}),
        ("langgenius/anthropic/anthropic", {"original_usage.input_tokens": 300}),
        ("bedrock", {"original_usage.inputTokens": 300}),
    ],
)
def test_opik_gets_what_it_needs_to_calculate_a_cost(provider: str, more: dict[str, int]) -> None:
    classes = TokenClasses(cache_read=600, cache_write=100, reasoning=20, input_audio=5, output_audio=0)
    found = record(classes, model_provider=provider, model_name="m", input_tokens=1000, output_tokens=50)
    assert opik(found)["usage"] == {
        "prompt_tokens": 1000,
        "completion_tokens": 50,
        "cache_read_input_tokens": 600,
        "cache_creation_input_tokens": 100,
        "prompt_tokens_details.audio_tokens": 5,
        "completion_tokens_details.reasoning_tokens": 20,
        "completion_tokens_details.audio_tokens": 0,
        **more,
    }


def test_counts_beyond_32_bits_are_left_out_at_opik() -> None:
    found = record(
        TokenClasses(cache_read=2**31), input_tokens=2**32, output_tokens=1, model_provider="anthropic"
    )
    assert opik(found)["usage"] == {"completion_tokens": 1}


def test_the_tier_and_the_model_that_answered_are_sent() -> None:
    found = record(service_tier="priority", response_model="gpt-4.1-2025-04-14", input_tokens=5)
    at_langfuse = attributes(found)
    assert at_langfuse["gen_ai.request.service_tier"] == "priority"
    assert at_langfuse["langfuse.observation.metadata.response_model"] == "gpt-4.1-2025-04-14"
    assert opik(found)["metadata"]["service_tier"] == "priority"


@pytest.mark.parametrize("sink", sorted(SEEDS))
def test_the_fields_that_are_read_are_asked_for(sink: str) -> None:
    """A sink is given only those; the others have their defaults."""
    fields = importlib.import_module(f"connectors.sinks.{sink}.mapping").FIELDS
    classes = TokenClasses(cache_read=1, cache_write=2, reasoning=3)
    usage: dict[str, Any] = {
        "input_tokens": 9,
        "output_tokens": 5,
        "service_tier": "batch",
        "response_model": "m",
    }
    for more in ({}, {"usage_repeats": True}, {"span_kind": SpanKind.AGENT, "usage_repeats": False}):
        whole = record(classes, **(usage | more))
        (part,) = enriched([whole.event], fields)
        assert isinstance(part, Enriched)
        assert SEEDS[sink].payload(part) == SEEDS[sink].payload(whole)


# -- roll-ups
ROLL_UPS: list[dict[str, Any]] = [
    {"span_kind": SpanKind.AGENT},
    {"span_kind": SpanKind.CHAIN},
    {"span_kind": SpanKind.TASK},
    {"span_kind": SpanKind.LLM, "usage_repeats": True},
    {"kind": Kind.NODE_EXECUTION, "span_kind": None, "node_type": "iteration"},
    {"kind": Kind.MESSAGE, "span_kind": None, "message_id": "T", "workflow_run_id": "r"},
    {"kind": Kind.WORKFLOW_RUN, "span_kind": None, "workflow_run_id": "r"},
    {"kind": Kind.DATASET_RETRIEVAL, "span_kind": None},
]


@pytest.mark.parametrize("fields", ROLL_UPS)
def test_what_repeats_others_has_no_usage_and_no_cost(fields: dict[str, Any]) -> None:
    usage: dict[str, Any] = {"input_tokens": 5, "output_tokens": 1, "total_price": "1", "currency": "USD"}
    found = record(**usage, **fields)
    assert langfuse(found) is None
    assert "langfuse.observation.cost_details" not in attributes(found)
    assert not {"usage", "total_estimated_cost"} & opik(found).keys()
    assert weave(found) is None


@pytest.mark.parametrize("kind", [SpanKind.AGENT, SpanKind.CHAIN, SpanKind.TASK, SpanKind.LLM])
def test_what_says_that_its_usage_is_its_own_has_it(kind: SpanKind) -> None:
    found = record(span_kind=kind, usage_repeats=False, input_tokens=5, total_price="1", currency="USD")
    assert langfuse(found) == {"input": 5}
    assert opik(found)["usage"] == {"prompt_tokens": 5}
    assert weave(found) == {"gpt-4.1": {"requests": 1, "prompt_tokens": 5}}
    assert opik(found)["total_estimated_cost"] == 1
