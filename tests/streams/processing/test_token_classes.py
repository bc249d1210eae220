"""Token classes and roll-ups in the pass: what metrics, summaries and contexts make of them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing.operations import Operations
from streams.processing.trace import Trace
from tailrace import codec
from tailrace.identity import complete
from tailrace.records import Kind, SpanKind, TokenClasses, TraceContext, TraceEvent, TraceSummary
from tests.harness.kept import Kept, compare
from tests.harness.mixed import as_log
from tests.streams.events import NOW, Source, apply, dead_letters, fresh
from tests.streams.processing.test_recount import processed, recounted

USAGE = "gen_ai.client.inference.usage."
GPT: dict[str, Any] = {"model_provider": "openai", "model_name": "gpt-4.1"}


def event(kind: Kind = Kind.SPAN, **fields: Any) -> TraceEvent:
    base: dict[str, Any] = {"trace_id": "T", "started_at": NOW, "ended_at": NOW + 1000, "tenant_id": "t"}
    return complete(TraceEvent(kind=kind, **(base | fields)), NOW)


def span(source: str, kind: SpanKind, parent: str | None = None, **fields: Any) -> TraceEvent:
    return event(source_id=source, span_kind=kind, parent_id=parent, name=source, **fields)


def of(*events: TraceEvent) -> Kept:
    """What the topics hold of the events, which is also what the recount says."""
    log = as_log(events, 1, NOW)
    found = processed(log, 1, Random(1))
    assert compare(recounted(log), found) == []
    return found


def summary(*events: TraceEvent) -> TraceSummary:
    (found,) = of(*events).summaries.values()
    return found


def cost(found: Kept) -> int:
    return sum(total.sum for (_, metric, _), total in found.totals.items() if metric == "tailrace.cost")


def usage(found: Kept) -> dict[str, int]:
    """Counter and modality -> tokens."""
    return {
        f"{metric.removeprefix(USAGE)} {dict(labels)['gen_ai.token.modality']}": total.sum
        for (_, metric, labels), total in found.totals.items()
        if metric.startswith(USAGE)
    }


# -- roll-ups
CALLS = (
    span("call 1", SpanKind.LLM, "agent", input_tokens=10, total_price="1", currency="USD"),
    span("call 2", SpanKind.LLM, "agent", input_tokens=20, total_price="2", currency="USD"),
)


@pytest.mark.parametrize("kind", [SpanKind.AGENT, SpanKind.CHAIN, SpanKind.TASK])
def test_spans_that_repeat_their_childrens_tokens_are_not_added(kind: SpanKind) -> None:
    root = span("root", SpanKind.TOOL)
    rolled = span("agent", kind, "root", input_tokens=30, total_price="3", currency="USD")
    found = of(*CALLS, rolled, root)
    assert cost(found) == 3 * 10**12
    (trace,) = found.summaries.values()
    assert (trace.input_tokens, trace.cost) == (30, {"USD": "3"})


def test_what_a_roll_up_repeats_need_not_have_come() -> None:
    root = span("root", SpanKind.TOOL)
    rolled = span("agent", SpanKind.AGENT, "root", input_tokens=30, total_price="3")
    found = of(rolled, root)
    assert cost(found) == 0
    (trace,) = found.summaries.values()
    assert (trace.input_tokens, trace.cost) == (0, {})
    own = span("agent", SpanKind.AGENT, "root", input_tokens=30, total_price="3", usage_repeats=False)
    found = of(own, root)
    assert cost(found) == 3 * 10**12
    (trace,) = found.summaries.values()
    assert (trace.input_tokens, trace.cost) == (30, {"USD": "3"})


def test_an_operation_that_says_that_it_repeats_is_not_added() -> None:
    """The node and the span inside it report the same call."""
    node = event(
        Kind.NODE_EXECUTION,
        source_id="n",
        node_type="llm",
        workflow_run_id="T",
        input_tokens=1000,
        output_tokens=1,
        usage_repeats=True,
        **GPT,
    )
    call = span("call", SpanKind.LLM, "n", input_tokens=1000, output_tokens=1, **GPT)
    found = of(node, call, event(Kind.WORKFLOW_RUN, source_id="T", workflow_run_id="T"))
    assert cost(found) == 1000 * 2_000_000 + 8_000_000
    assert usage(found) == {"input_tokens unknown": 1000, "output_tokens unknown": 1}
    (trace,) = found.summaries.values()
    assert trace.total_tokens == 1001
    dify = Counter(metric for _, metric, _ in found.totals)
    assert dify["dify.tokens.input"] == 1  # the seed's own counters have every node


def test_a_roots_own_numbers_are_its_traces_if_it_repeats_them() -> None:
    agent: dict[str, Any] = {"input_tokens": 50, "total_price": "5", "currency": "USD"}
    assert summary(*CALLS, span("agent", SpanKind.AGENT, **agent)).input_tokens == 50
    beside = summary(*CALLS, span("agent", SpanKind.AGENT, usage_repeats=False, **agent))
    assert (beside.input_tokens, beside.cost) == (80, {"USD": "8"})
    model = summary(*CALLS, span("agent", SpanKind.LLM, **agent))
    assert (model.input_tokens, model.cost) == (80, {"USD": "8"})


def test_a_message_speaks_for_its_trace_with_and_without_a_run() -> None:
    call = span("call", SpanKind.LLM, "T", input_tokens=7)
    for run in (None, "r"):
        message = event(Kind.MESSAGE, source_id="T", message_id="T", workflow_run_id=run, input_tokens=9)
        assert summary(call, message).input_tokens == 9
    below = event(Kind.MESSAGE, source_id="m", message_id="m", parent_id="T", input_tokens=9)
    assert summary(below, span("T", SpanKind.TOOL)).input_tokens == 9


def test_operations_that_are_not_kept_one_by_one_follow_the_same_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classes = TokenClasses(cache_read=4, reasoning=2)
    calls = [
        span(f"call {i}", SpanKind.LLM, "agent", input_tokens=10, output_tokens=5, token_classes=classes)
        for i in range(6)
    ]
    rolled = span("agent", SpanKind.AGENT, "root", input_tokens=60, output_tokens=30, token_classes=classes)
    whole = summary(*calls, rolled, span("root", SpanKind.TOOL))
    monkeypatch.setattr(Operations, "most", Operations.most * 3 // 10_000)
    log = as_log([*calls, rolled, span("root", SpanKind.TOOL)], 1, NOW)
    (cut,) = processed(log, 1, Random(1)).summaries.values()
    assert cut.truncated
    for name in ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "reasoning_tokens"):
        assert getattr(cut, name) == getattr(whole, name), name
    assert (whole.input_tokens, whole.cache_read_tokens, whole.reasoning_tokens) == (60, 24, 12)


# -- classes
FULL = TokenClasses(
    cache_read=400,
    cache_write=100,
    cache_write_1h=60,
    reasoning=30,
    input_audio=200,
    input_image=50,
    cache_read_audio=150,
    output_audio=20,
    output_image=10,
)


def test_classes_have_counters_of_their_own_and_totals_are_not_doubled() -> None:
    plain = span("a", SpanKind.LLM, input_tokens=7, output_tokens=3)
    full = span("b", SpanKind.LLM, input_tokens=1000, output_tokens=100, token_classes=FULL)
    part = span("c", SpanKind.LLM, input_tokens=500, token_classes=TokenClasses(input_audio=100))
    found = of(plain, full, part)
    assert usage(found) == {
        "input_tokens unknown": 7 + 400,
        "input_tokens text": 750,
        "input_tokens audio": 200 + 100,
        "input_tokens image": 50,
        "output_tokens unknown": 3,
        "output_tokens text": 70,
        "output_tokens audio": 20,
        "output_tokens image": 10,
        "cache_read.input_tokens unknown": 250,
        "cache_read.input_tokens audio": 150,
        "cache_write.input_tokens unknown": 100,
        "reasoning.output_tokens unknown": 30,
    }
    histogram = [
        (dict(labels)["gen_ai.token.type"], total.sum, total.count)
        for (_, metric, labels), total in found.totals.items()
        if metric == "gen_ai.client.token.usage"
    ]
    assert sorted(histogram) == [("input", 1507, 3), ("output", 103, 2)]


def test_a_summary_counts_classes_by_the_rule_of_its_tokens() -> None:
    call = span("call", SpanKind.LLM, "root", input_tokens=1000, output_tokens=100, token_classes=FULL)
    again = span("again", SpanKind.LLM, "root", input_tokens=1000, output_tokens=100, token_classes=FULL)
    s = summary(call, again, span("root", SpanKind.TOOL))
    assert (s.cache_read_tokens, s.cache_write_tokens, s.reasoning_tokens) == (800, 200, 60)
    assert (s.input_audio_tokens, s.input_image_tokens) == (400, 100)
    assert (s.output_audio_tokens, s.output_image_tokens) == (40, 20)
    of_root = summary(call, again, span("root", SpanKind.AGENT, input_tokens=5000))
    assert (of_root.input_tokens, of_root.cache_read_tokens) == (5000, 0)


def test_classes_are_in_the_state_that_another_owner_restores() -> None:
    state = fresh()
    calls = [
        span(f"c{i}", SpanKind.LLM, "root", input_tokens=1000, output_tokens=100, token_classes=FULL)
        for i in range(20)
    ]
    apply(state, [Source(i, NOW // 1000, b"T", codec.encode(e)) for i, e in enumerate(calls)])
    trace = state.trace(b"T")
    assert trace is not None
    chunks = [(fixed, texts) for _, fixed, texts in trace.operations.full_chunks()]
    assert len(chunks) == 1
    restored = Trace.unpack(trace.pack(), chunks)
    assert restored.summary(0) == trace.summary(0)
    assert codec.decode(restored.summary(0), TraceSummary).cache_read_tokens == 20 * 400


def test_a_cached_call_is_estimated_as_it_is_billed() -> None:
    call = span(
        "call",
        SpanKind.LLM,
        input_tokens=10_000,
        output_tokens=500,
        token_classes=TokenClasses(cache_read=8_000),
        **GPT,
    )
    assert contexts(call)[0].estimated_cost == "0.012"
    assert cost(of(call)) == 12 * 10**9


# -- other producers
def contexts(*events: TraceEvent) -> list[TraceContext]:
    records = [Source(i, NOW // 1000, b"T", codec.encode(e)) for i, e in enumerate(events)]
    unit = apply(fresh(), records)
    assert not unit.dead_letters, dead_letters(unit)
    return [codec.decode(context, TraceContext) for _, _, context in unit.outputs]


def test_classes_that_do_not_fit_are_marked_and_ignored() -> None:
    plain = span("call", SpanKind.LLM, input_tokens=100, output_tokens=10, **GPT)
    odd = msgspec.structs.replace(plain, token_classes=TokenClasses(cache_read=900, reasoning=5))
    (expected,), (found,) = contexts(plain), contexts(odd)
    assert list(found.marks) == ["token_classes_ignored"]
    assert found.estimated_cost == expected.estimated_cost
    log = as_log([odd], 1, NOW)
    kept = processed(log, 1, Random(1))
    assert usage(kept) == {"input_tokens unknown": 100, "output_tokens unknown": 10}
    (s,) = kept.summaries.values()
    assert (s.input_tokens, s.cache_read_tokens, s.reasoning_tokens) == (100, 0, 0)
    assert compare(recounted(log), kept) == []


any_count = st.none() | st.integers(-5, 20) | st.integers(-(2**63), 2**63 - 1)


@given(
    st.sampled_from(list(SpanKind)),
    any_count,
    any_count,
    any_count,
    st.builds(TokenClasses, **dict.fromkeys(TokenClasses.__struct_fields__, any_count)),
    st.none() | st.booleans(),
    st.none() | st.text(max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_any_classes_are_counted_as_the_recount_counts_them(
    kind: SpanKind,
    given_: int | None,
    received: int | None,
    total: int | None,
    classes: TokenClasses,
    repeats: bool | None,
    tier: str | None,
) -> None:
    plain = span("call", kind, usage_repeats=repeats, service_tier=tier, **GPT)
    small = 2**50
    e = msgspec.structs.replace(
        plain,
        input_tokens=None if given_ is None or given_ >= small else given_,
        output_tokens=None if received is None or received >= small else received,
        total_tokens=None if total is None or total >= small else total,
        token_classes=classes,
    )
    log = as_log([e], 1, NOW)
    assert compare(recounted(log), processed(log, 1, Random(1))) == []
