"""The span of each kind, attribute by attribute as seed 003 writes it, and that no event breaks the
mapping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from connectors.otlp import as_json, wire
from connectors.otlp.rendering import as_document
from connectors.sdk.contract import Enriched, Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.otlp import mapping
from connectors.sinks.otlp.mapping import FIELDS
from tailrace import codec, ids
from tailrace.codec import schemas
from tailrace.codec.wire import BODY
from tailrace.records import (
    BY_NAME,
    Kind,
    NodeExecution,
    Origin,
    ParentKind,
    SpanKind,
    TraceContext,
    TraceEvent,
    WorkflowRun,
)
from tailrace.records import Span as SpanBody
from tests.connectors.enriching import START
from tests.connectors.generated import contexts, events


class Content(NamedTuple):
    include: bool = True
    on_spans: bool = False


SEED = Content()
RUN = "550e8400-e29b-41d4-a716-446655440000"
OUTER = "660e8400-e29b-41d4-a716-446655440001"
ROOT = Path(__file__).resolve().parents[3]
CALLER = "770e8400-e29b-41d4-a716-446655440002"
NODE = "880e8400-e29b-41d4-a716-446655440003"


def context(root: str, source: str, parent: str | None, kind: ParentKind, **changes: Any) -> TraceContext:
    fields: dict[str, Any] = {
        "generation": 0,
        "sequence": 0,
        "source_offset": 0,
        "appended_at": 0,
        "span_id": ids.otel_span_id(source),
        "parent_span_id": ids.otel_span_id(parent) if parent else None,
        "parent_source_id": parent,
        "parent_kind": kind,
        "marks": (),
        "run_trace_id": ids.otel_trace_id(root),
        "message_trace_id": ids.otel_trace_id(root),
        "trace_started_at": START,
    }
    return TraceContext(**{**fields, **changes})


def to_span(record: Enriched, content: Content) -> Span | Skip | Rejected:
    """As the protobuf classes read what the mapping wrote; the JSON of it must say the same."""
    found = mapping.to_span(record, mapping.PROTOBUF, *content)
    written = mapping.to_span(record, mapping.JSON, *content)
    if not isinstance(found, bytes):
        assert written == found
        return found
    assert isinstance(written, bytes)
    span: Span
    (span,) = ScopeSpans.FromString(found).spans
    at_zero = 0 in (span.start_time_unix_nano, span.end_time_unix_nano)  # where the classes write nothing
    assert at_zero or ScopeSpans(spans=[span]).SerializeToString(deterministic=True) == found
    parts = (
        (wire.resource(()), wire.scope("s"), [found]),
        (as_json.resource(()), as_json.scope("s"), [written]),
    )
    document = as_document(wire.request(parts[:1]))
    assert plain(json.loads(as_json.request(parts[1:]))) == plain(document)
    return span


def plain(value: Any) -> Any:
    """JSON without what is empty or 0, which a writer may leave out; values of attributes stay."""
    if isinstance(value, dict):
        cut = {k: plain(v) for k, v in value.items()}
        keep = ("stringValue", "boolValue", "intValue", "doubleValue", "arrayValue")
        return {k: v for k, v in cut.items() if v not in ("", "0", [], {}) or k in keep}
    return [plain(v) for v in value] if isinstance(value, list) else value


def through_the_codec(event: TraceEvent, ctx: TraceContext) -> Enriched:
    """As the runner hands it to the sink: only the fields that the mapping names."""
    decode, paths = codec.decoder_for(schemas.current("TraceEvent"), FIELDS, text=True, build=dict(BY_NAME))
    found = TraceEvent(**dict(zip(paths, decode(codec.encode(event), BODY), strict=True)))
    return Enriched(found, codec.decode(codec.encode(ctx), TraceContext), "trace.enriched", 0, 0, 0)


def span_of(event: TraceEvent, ctx: TraceContext, content: Content = SEED) -> Span:
    span = to_span(through_the_codec(event, ctx), content)
    assert isinstance(span, Span)
    return span


def attributes(span: Span) -> dict[str, tuple[str, Any]]:
    """Name -> type and value; names must be unique."""
    found: dict[str, tuple[str, Any]] = {}
    for pair in span.attributes:
        assert pair.key not in found
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, str(kind))
        if kind == "array_value":
            value = [v.string_value for v in value.values]
        found[pair.key] = (str(kind).removesuffix("_value"), value)
    return found


def strings(**values: str) -> dict[str, tuple[str, Any]]:
    return {k.replace("__", "."): ("string", v) for k, v in values.items()}


WORKFLOW = TraceEvent(
    event_id="e1",
    kind=Kind.WORKFLOW_RUN,
    trace_id="m1",
    source_id=RUN,
    workflow_run_id=RUN,
    parent_trace_id="outer-message",
    parent_run_id=OUTER,
    parent_node_execution_id=CALLER,
    parent_app_id="outer-app",
    tenant_id="tenant-1",
    app_id="app-1",
    app_name="Support",
    message_id="m1",
    conversation_id="c1",
    user_id="user-9",
    host_name="dify-api-7f8b",
    name="Flow",
    started_at=START,
    ended_at=START + 2_500_000,
    published_at=START,
    status="failed",
    error="node 3 failed",
    invoke_from="webapp",
    total_tokens=420,
    origin=Origin(invoked_by="user-1"),
    inputs='{"q": 1}',
    outputs='{"a": 2}',
    workflow_run=WorkflowRun(workflow_id="wf-1", workflow_version="3", query="What?", elapsed_time=2_250_000),
)


@pytest.mark.parametrize(
    ("invoke_from", "triggered_from", "expected"),
    [("webapp", "app-run", "webapp"), (None, "app-run", "app-run"), (None, None, None)],
)
def test_a_run_says_what_triggered_it_in_either_field(
    invoke_from: str | None, triggered_from: str | None, expected: str | None
) -> None:
    event = msgspec.structs.replace(
        WORKFLOW, invoke_from=invoke_from, origin=Origin(triggered_from=triggered_from)
    )
    found = attributes(span_of(event, context(OUTER, RUN, CALLER, ParentKind.NODE))).get("dify.invoke_from")
    assert found == (None if expected is None else ("string", expected))


def test_workflow_run_nested_in_another() -> None:
    """Seed 003, section 4.1 and scenario B."""
    span = span_of(
        WORKFLOW, context(OUTER, RUN, CALLER, ParentKind.NODE, marks=("clock_skew", "root_inferred"))
    )
    assert span.name == "dify.workflow.run"
    assert span.trace_id.hex() == OUTER.replace("-", "")
    assert span.span_id == ids.otel_span_id(RUN)
    assert span.parent_span_id == ids.otel_span_id(CALLER)
    assert span.kind == Span.SPAN_KIND_INTERNAL
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (START * 1000, (START + 2_500_000) * 1000)
    assert (span.status.code, span.status.message) == (2, "node 3 failed")
    assert attributes(span) == {
        **strings(
            dify__trace_id=RUN,
            dify__tenant_id="tenant-1",
            dify__app_id="app-1",
            dify__workflow__id="wf-1",
            dify__workflow__run_id=RUN,
            dify__workflow__status="failed",
            dify__workflow__error="node 3 failed",
            dify__invoke_from="webapp",
            dify__conversation__id="c1",
            dify__message__id="m1",
            dify__invoked_by="user-1",
            dify__parent__trace_id=OUTER,
            dify__parent__workflow__run_id=OUTER,
            dify__parent__node__execution_id=CALLER,
            dify__parent__app__id="outer-app",
            dify__app__name="Support",
            tailrace__event_id="e1",
        ),
        "dify.workflow.elapsed_time": ("double", 2.25),
        "gen_ai.usage.total_tokens": ("int", 420),
        "tailrace.marks": ("array", ["clock_skew", "root_inferred"]),
    }


NODE_EVENT = TraceEvent(
    event_id="e2",
    kind=Kind.NODE_EXECUTION,
    trace_id=RUN,
    source_id=NODE,
    workflow_run_id=RUN,
    tenant_id="tenant-1",
    app_id="app-1",
    message_id="m1",
    conversation_id="c1",
    name="Ask the model",
    node_type="llm",
    started_at=START,
    ended_at=START + 1_500_000,
    published_at=START,
    status="succeeded",
    model_provider="openai",
    model_name="gpt-4",
    input_tokens=50,
    output_tokens=30,
    total_tokens=80,
    origin=Origin(invoked_by="user-1"),
    inputs='"in"',
    outputs='"out"',
    node_execution=NodeExecution(
        node_id="llm",
        workflow_id="wf-1",
        index=3,
        predecessor_node_id="start",
        iteration_id="it",
        loop_id="lo",
        parallel_id="pa",
        process_data='{"prompt": "p"}',
        retry_count=2,
    ),
)
NODE_ATTRIBUTES = {
    **strings(
        dify__tenant_id="tenant-1",
        dify__app_id="app-1",
        dify__workflow__id="wf-1",
        dify__workflow__run_id=RUN,
        dify__message__id="m1",
        dify__conversation__id="c1",
        dify__node__execution_id=NODE,
        dify__node__id="llm",
        dify__node__type="llm",
        dify__node__title="Ask the model",
        dify__node__status="succeeded",
        dify__node__predecessor_node_id="start",
        dify__node__iteration_id="it",
        dify__node__loop_id="lo",
        dify__node__parallel_id="pa",
        dify__node__invoked_by="user-1",
        dify__app__name="Support",
        gen_ai__provider__name="openai",
        gen_ai__request__model="gpt-4",
        tailrace__event_id="e2",
    ),
    "dify.node.elapsed_time": ("double", 1.5),
    "dify.node.index": ("int", 3),
    "gen_ai.usage.input_tokens": ("int", 50),
    "gen_ai.usage.output_tokens": ("int", 30),
    "gen_ai.usage.total_tokens": ("int", 80),
    "tailrace.node.retry_count": ("int", 2),
}


def test_node_execution() -> None:
    """Seed 003, section 4.2 and scenario A; the application's name is the trace's."""
    span = span_of(NODE_EVENT, context(RUN, NODE, RUN, ParentKind.RUN, app_name="Support"))
    assert (span.name, span.kind) == ("dify.node.execution", Span.SPAN_KIND_INTERNAL)
    assert (span.trace_id.hex(), span.parent_span_id) == (RUN.replace("-", ""), ids.otel_span_id(RUN))
    assert (span.status.code, span.status.message) == (1, "")
    assert attributes(span) == {**NODE_ATTRIBUTES, "dify.trace_id": ("string", RUN)}


def test_draft_node_execution() -> None:
    """Seed 003, section 4.3 and scenario C: identical, in a trace of its own."""
    event = msgspec.structs.replace(NODE_EVENT, kind=Kind.DRAFT_NODE_EXECUTION, trace_id=NODE)
    span = span_of(event, context(NODE, NODE, None, ParentKind.NONE, app_name="Support"))
    assert span.name == "dify.node.execution.draft"
    assert (span.trace_id.hex(), span.parent_span_id) == (NODE.replace("-", ""), b"")
    assert attributes(span) == {**NODE_ATTRIBUTES, "dify.trace_id": ("string", NODE)}


SPAN_EVENT = TraceEvent(
    event_id="e3",
    kind=Kind.SPAN,
    trace_id="t1",
    source_id="s1",
    tenant_id="tenant-1",
    user_id="u1",
    name="chat gpt-4",
    started_at=START,
    ended_at=START - 5,
    published_at=START,
    span_kind=SpanKind.LLM,
    model_provider="openai",
    model_name="gpt-4",
    input_tokens=7,
    output_tokens=0,
    attributes={"temperature": "0.2", "gen_ai.request.model": "mine", "": "nameless"},
    span=SpanBody(finish_reason="stop", trace_state="a=b"),
    inputs='[{"role": "user"}]',
    outputs='"hi"',
)


def test_span_with_its_own_name() -> None:
    span = span_of(SPAN_EVENT, context("t1", "s1", None, ParentKind.NONE, session_id="sess", app_id="app-1"))
    assert (span.name, span.kind, span.trace_state) == ("chat gpt-4", Span.SPAN_KIND_CLIENT, "a=b")
    assert (
        span.end_time_unix_nano == span.start_time_unix_nano == START * 1000
    )  # an end before the start is the start
    assert (span.status.code, span.status.message) == (0, "")
    assert attributes(span) == {
        **strings(
            gen_ai__operation__name="chat",
            openinference__span__kind="LLM",
            gen_ai__provider__name="openai",
            gen_ai__request__model="gpt-4",
            session__id="sess",
            user__id="u1",
            dify__tenant_id="tenant-1",
            dify__app_id="app-1",
            tailrace__event_id="e3",
            input__value='[{"role": "user"}]',
            output__value='"hi"',
            temperature="0.2",
        ),
        "gen_ai.usage.input_tokens": ("int", 7),
        "gen_ai.usage.output_tokens": ("int", 0),
        "gen_ai.response.finish_reasons": ("array", ["stop"]),
    }


@pytest.mark.parametrize(
    ("kind", "operation", "openinference", "otel"),
    [
        (SpanKind.TASK, None, "CHAIN", 1),
        (SpanKind.LLM, "chat", "LLM", 3),
        (SpanKind.CHAIN, None, "CHAIN", 1),
        (SpanKind.TOOL, "execute_tool", "TOOL", 1),
        (SpanKind.RETRIEVER, "retrieval", "RETRIEVER", 1),
        (SpanKind.EMBEDDING, "embeddings", "EMBEDDING", 1),
        (SpanKind.AGENT, "invoke_agent", "AGENT", 1),
        (SpanKind.GUARDRAIL, None, "GUARDRAIL", 1),
        (SpanKind.RERANKER, None, "RERANKER", 1),
    ],
)
def test_every_span_kind_has_its_names(
    kind: SpanKind, operation: str | None, openinference: str, otel: int
) -> None:
    span = span_of(
        msgspec.structs.replace(SPAN_EVENT, span_kind=kind), context("t1", "s1", None, ParentKind.NONE)
    )
    found = attributes(span)
    assert found.get("gen_ai.operation.name", (None, None))[1] == operation
    assert (found["openinference.span.kind"][1], span.kind) == (openinference, otel)


def test_the_kind_that_instrumentation_gave_wins() -> None:
    event = msgspec.structs.replace(SPAN_EVENT, span=SpanBody(otel_kind="producer"))
    assert span_of(event, context("t1", "s1", None, ParentKind.NONE)).kind == Span.SPAN_KIND_PRODUCER


def test_under_a_message_the_run_is_the_root() -> None:
    """A message is a log in seed 003, so nothing in the trace would be its span."""
    span = span_of(WORKFLOW, context(RUN, RUN, "m1", ParentKind.MESSAGE))
    assert span.parent_span_id == b""


def test_content_only_where_it_is_asked_for_and_else_by_reference() -> None:
    """Seed 003, section 9."""
    ctx = context(RUN, NODE, RUN, ParentKind.RUN)
    content = {
        "dify.node.inputs",
        "dify.node.outputs",
        "dify.node.process_data",
        "dify.workflow.query",
        "input.value",
        "output.value",
    }
    assert not content & attributes(span_of(NODE_EVENT, ctx)).keys()
    full = attributes(span_of(NODE_EVENT, ctx, Content(on_spans=True)))
    assert (full["dify.node.inputs"][1], full["dify.node.outputs"][1], full["dify.node.process_data"][1]) == (
        '"in"',
        '"out"',
        '{"prompt": "p"}',
    )
    gated = attributes(span_of(NODE_EVENT, ctx, Content(include=False, on_spans=True)))
    assert {gated[n][1] for n in ("dify.node.inputs", "dify.node.outputs", "dify.node.process_data")} == {
        f"ref:node_execution_id={NODE}"
    }
    run = attributes(
        span_of(WORKFLOW, context(RUN, RUN, None, ParentKind.NONE), Content(include=False, on_spans=True))
    )
    assert {run[f"dify.workflow.{n}"][1] for n in ("inputs", "outputs", "query")} == {
        f"ref:workflow_run_id={RUN}"
    }
    assert (
        not content
        & attributes(
            span_of(SPAN_EVENT, context("t1", "s1", None, ParentKind.NONE), Content(include=False))
        ).keys()
    )


def test_what_is_no_span() -> None:
    ctx = context(RUN, NODE, RUN, ParentKind.RUN)
    spans = {Kind.WORKFLOW_RUN, Kind.NODE_EXECUTION, Kind.DRAFT_NODE_EXECUTION, Kind.SPAN}
    for kind in set(Kind) - spans:
        event = TraceEvent(kind=kind, source_id="x", started_at=START, ended_at=START)
        assert to_span(Enriched(event, ctx, "t", 0, 0, 0), SEED) == Skip("log_only")
    late = context(RUN, NODE, RUN, ParentKind.RUN, marks=("superseded",))
    assert to_span(Enriched(NODE_EVENT, late, "t", 0, 0, 0), SEED) == Skip("superseded")


@pytest.mark.parametrize("changes", [{"started_at": -1}, {"ended_at": 2**62}, {"started_at": 2**62}])
def test_times_that_otlp_cannot_say_are_rejected_not_mended(changes: dict[str, int]) -> None:
    event = msgspec.structs.replace(NODE_EVENT, **changes)
    found = to_span(Enriched(event, context(RUN, NODE, RUN, ParentKind.RUN), "t", 0, 0, 0), SEED)
    assert isinstance(found, Rejected)
    assert found.reason == "time_out_of_range"
    assert found.detail.startswith(next(iter(changes)))


SPANS = (Kind.WORKFLOW_RUN, Kind.NODE_EXECUTION, Kind.DRAFT_NODE_EXECUTION, Kind.SPAN)
timed = st.builds(
    lambda event, kind, start, took: msgspec.structs.replace(
        event, kind=kind, started_at=start, ended_at=start + took
    ),
    events,
    st.sampled_from(SPANS),
    st.integers(0, 2**53),
    st.integers(-(2**40), 2**40),
)
slow = settings(
    max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)


@slow
@given(events, contexts)
def test_any_event_maps_or_skips(event: TraceEvent, ctx: TraceContext) -> None:
    found = to_span(Enriched(event, ctx, "t", 0, 0, 0), SEED)
    assert isinstance(found, Skip) == (event.kind not in SPANS or "superseded" in ctx.marks)


@slow
@given(timed, contexts, st.builds(Content, st.booleans(), st.booleans()))
def test_any_span_reads_back_with_valid_ids(event: TraceEvent, ctx: TraceContext, content: Content) -> None:
    found = to_span(Enriched(event, ctx, "t", 0, 0, 0), content)
    if isinstance(found, Rejected):
        assert not any(ctx.run_trace_id) or not any(ctx.span_id)
        return
    assert isinstance(found, Span)
    span = Span.FromString(found.SerializeToString())
    assert span == found
    assert len(span.trace_id) == 16
    assert any(span.trace_id)
    assert len(span.span_id) == 8
    assert any(span.span_id)
    assert span.parent_span_id == b"" or (len(span.parent_span_id) == 8 and any(span.parent_span_id))
    assert span.end_time_unix_nano >= span.start_time_unix_nano
    assert span.name
    keys = [pair.key for pair in span.attributes]
    assert len(keys) == len(set(keys))
    assert "" not in keys
    assert all(pair.value.WhichOneof("value") for pair in span.attributes)


def test_a_span_whose_root_was_inferred_links_to_the_calling_run() -> None:
    given = msgspec.structs.replace(
        context("t1", "s1", None, ParentKind.NONE), linked_span_id=b"\1" * 8, marks=["root_inferred"]
    )
    (link,) = span_of(SPAN_EVENT, given).links
    assert (link.trace_id, link.span_id) == (given.run_trace_id, b"\1" * 8)
    assert link.attributes[0].key == "tailrace.link"
    assert not span_of(SPAN_EVENT, context("t1", "s1", None, ParentKind.NONE)).links


def test_names_that_the_processor_normalised_win_over_the_event_s() -> None:
    given = msgspec.structs.replace(
        context("t1", "s1", None, ParentKind.NONE),
        provider_name="openai",
        request_model="gpt-4",
        tool_name="search",
        estimated_cost="0.5",
        price_table="t 1",
    )
    event = msgspec.structs.replace(
        SPAN_EVENT, model_provider="langgenius/openai/openai", model_name="openai/gpt-4"
    )
    found = attributes(span_of(event, given))
    assert found["gen_ai.provider.name"] == ("string", "openai")
    assert found["gen_ai.request.model"] == ("string", "gpt-4")
    assert found["gen_ai.tool.name"] == ("string", "search")
    assert found["tailrace.estimated_cost"] == ("string", "0.5")
    assert found["tailrace.price_table"] == ("string", "t 1")
