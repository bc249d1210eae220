"""The spans of the Alibaba Cloud sink: kinds, names, tokens, links, sizes, and that no event breaks it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from connectors.sdk.contract import Enriched, Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.alibaba import mapping, messages
from connectors.sinks.alibaba.mapping import AS_SEED, CURRENT, FIELDS, MAX_SPAN, NODE_TYPES, SPAN_KINDS
from connectors.testing.samples import copy, read, samples
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.records import (
    DatasetRetrieval,
    Kind,
    Message,
    NodeExecution,
    SpanKind,
    TokenClasses,
    Tool,
    TraceContext,
    TraceEvent,
)
from tailrace.records import Span as SpanBody
from tests.connectors.enriching import make_context, make_event
from tests.connectors.generated import contexts, events
from tests.golden.events import golden

RUN = "550e8400-e29b-41d4-a716-446655440000"
SENT = sorted(str(kind) for kind, how in mapping.KINDS.items() if not isinstance(how, Skip))


def encoded(
    event: TraceEvent, context: TraceContext | None = None, **options: Any
) -> bytes | Skip | Rejected:
    chosen: dict[str, Any] = {"dialect": CURRENT, "every_usage": False, **options}
    return mapping.to_span(event, make_context(event) if context is None else context, **chosen)


def span_of(event: TraceEvent, context: TraceContext | None = None, **options: Any) -> Span:
    """As the protobuf classes read it."""
    data = encoded(event, context, **options)
    assert isinstance(data, bytes), data
    [span] = ScopeSpans.FromString(data).spans
    assert isinstance(span, Span)
    return span


def attributes(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in span.attributes:
        assert pair.key not in found, f"{pair.key} is there twice"
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [v.string_value for v in value.values] if kind == "array_value" else value
    return found


def event(kind: str = "node_execution", **fields: Any) -> TraceEvent:
    return make_event(1, kind=kind, **fields)


# -- kinds
@pytest.mark.parametrize(
    ("made", "current", "seed"),
    [
        (event("workflow_run"), ("WORKFLOW", "invoke_workflow"), ("CHAIN", "workflow")),
        (event("message", workflow_run_id=RUN), ("ENTRY", "enter"), ("CHAIN", "workflow")),
        (event("message", workflow_run_id=None), ("LLM", "chat"), ("LLM", "chat")),
        (event(node_type="llm"), ("LLM", "chat"), ("LLM", "chat")),
        (event(node_type="question-classifier"), ("LLM", "chat"), ("LLM", "chat")),
        (event(node_type="agent"), ("AGENT", "invoke_agent"), ("AGENT", "invoke_agent")),
        (event(node_type="tool"), ("TOOL", "execute_tool"), ("TOOL", "execute_tool")),
        (event(node_type="knowledge-retrieval"), ("RETRIEVER", "retrieval"), ("RETRIEVER", "retrieval")),
        (event(node_type="iteration"), ("STEP", "run_task"), ("TASK", "run_task")),
        (event(node_type=None), ("STEP", "run_task"), ("TASK", "run_task")),
        (event("draft_node_execution", node_type="code"), ("STEP", "run_task"), ("TASK", "run_task")),
        (event("moderation"), ("STEP", "run_task"), ("TASK", "run_task")),
        (event("tool"), ("TOOL", "execute_tool"), ("TOOL", "execute_tool")),
        (event("dataset_retrieval"), ("RETRIEVER", "retrieval"), ("RETRIEVER", "retrieval")),
        (event("span", span_kind=SpanKind.CHAIN), ("WORKFLOW", "invoke_workflow"), ("CHAIN", "workflow")),
        (event("span", span_kind=SpanKind.TASK), ("STEP", "run_task"), ("TASK", "run_task")),
        (
            event("span", span_kind=SpanKind.EMBEDDING),
            ("EMBEDDING", "embeddings"),
            ("EMBEDDING", "embeddings"),
        ),
        (event("span", span_kind=SpanKind.RERANKER), ("RERANKER", "rerank"), ("RERANKER", "rerank")),
        (event("span", span_kind=None, model_name=None), ("STEP", "run_task"), ("TASK", "run_task")),
        (event("span", span_kind=None, model_name="m"), ("LLM", "chat"), ("LLM", "chat")),
    ],
)
def test_the_kind_in_both_dialects(made: TraceEvent, current: tuple[str, str], seed: tuple[str, str]) -> None:
    for dialect, want in ((CURRENT, current), (AS_SEED, seed)):
        found = attributes(span_of(made, dialect=dialect))
        assert (found["gen_ai.span.kind"], found["gen_ai.operation.name"]) == want


def test_every_span_kind_has_a_kind_and_every_kind_an_operation() -> None:
    assert set(SPAN_KINDS) == {str(k) for k in SpanKind} - {"unknown"}
    assert {*SPAN_KINDS.values(), *NODE_TYPES.values(), "ENTRY"} == set(mapping.OPERATIONS)


@pytest.mark.parametrize(
    ("made", "parent", "want"),
    [
        (event("message"), None, Span.SPAN_KIND_SERVER),
        (
            event("span", span_kind=SpanKind.AGENT, span=SpanBody(otel_kind="internal")),
            None,
            Span.SPAN_KIND_SERVER,
        ),
        (event(node_type="llm"), b"p" * 8, Span.SPAN_KIND_CLIENT),
        (event(node_type="code"), b"p" * 8, Span.SPAN_KIND_INTERNAL),
        (
            event("span", span_kind=SpanKind.LLM, span=SpanBody(otel_kind="internal")),
            b"p" * 8,
            Span.SPAN_KIND_INTERNAL,
        ),
        (event("span", span=SpanBody(otel_kind="consumer")), b"p" * 8, Span.SPAN_KIND_CONSUMER),
        (event("span", span=SpanBody(otel_kind="server")), b"p" * 8, Span.SPAN_KIND_INTERNAL),
        (event("message"), bytes(8), Span.SPAN_KIND_SERVER),
    ],
)
def test_the_root_alone_is_a_server(made: TraceEvent, parent: bytes | None, want: int) -> None:
    """Else a trace would have several requests at an entry, or none."""
    context = msgspec.structs.replace(make_context(made), parent_span_id=parent)
    span = span_of(made, context)
    assert span.kind == want
    assert span.parent_span_id == (parent if parent and any(parent) else b"")


def test_ids_are_those_of_the_trace_of_the_message() -> None:
    made = event()
    context = make_context(made)
    span = span_of(made, context)
    assert (span.trace_id, span.span_id) == (context.message_trace_id, context.span_id)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": "succeeded"}, 1),
        ({"status": "normal"}, 1),
        ({"status": "running"}, 0),
        ({"status": "failed"}, 2),
        ({"status": "exception"}, 2),
        ({"status": "succeeded", "error": "no"}, 2),
    ],
)
def test_the_status(fields: dict[str, Any], code: int) -> None:
    span = span_of(event(**{"error": None, **fields}))
    assert span.status.code == code
    assert span.status.message == (fields.get("error") or "")


# -- who and what
def test_session_and_user_of_dify_and_of_others() -> None:
    names = {
        "conversation_id": None,
        "session_id": "s",
        "user_id": "u",
        "message_id": None,
        "workflow_run_id": None,
    }
    other = event("span", **names)
    empty = msgspec.structs.replace(make_context(other), conversation_id=None, session_id=None, user_id=None)
    found = attributes(span_of(other, empty))
    assert (found["gen_ai.session.id"], found["gen_ai.user.id"]) == ("s", "u")
    ours = event("workflow_run", **{**names, "workflow_run_id": RUN})
    found = attributes(span_of(ours, empty))
    assert found["gen_ai.user.id"] == "s"
    assert "gen_ai.session.id" not in found
    found = attributes(span_of(msgspec.structs.replace(ours, conversation_id="c", message_id="m"), empty))
    assert (found["gen_ai.session.id"], found["gen_ai.conversation.id"], found["gen_ai.turn.id"]) == (
        "c",
        "c",
        "m",
    )


def test_tokens_are_integers_with_their_classes() -> None:
    classes = TokenClasses(cache_read=50, cache_write=20, cache_write_1h=5, reasoning=7, input_audio=3)
    made = event(node_type="llm", input_tokens=100, output_tokens=30, total_tokens=130, token_classes=classes)
    found = attributes(span_of(made))
    assert {k: v for k, v in found.items() if "usage" in k} == {
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.total_tokens": 130,
        "gen_ai.usage.cache_read.input_tokens": 50,
        "gen_ai.usage.cache_creation.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 7,
        "tailrace.usage.cache_write_1h.input_tokens": 5,
        "tailrace.usage.audio.input_tokens": 3,
    }
    assert all(type(v) is int for k, v in found.items() if "usage" in k)


@pytest.mark.parametrize(
    ("made", "counted"),
    [
        (event("workflow_run"), False),
        (event("message", workflow_run_id=RUN), False),
        (event("message", workflow_run_id=None), True),
        (event(node_type="iteration"), False),
        (event(node_type="llm"), True),
        (event(node_type="llm", usage_repeats=True), False),
        (event("span", span_kind=SpanKind.CHAIN), False),
        (event("span", span_kind=SpanKind.AGENT), True),
    ],
)
def test_what_repeats_tokens_has_them_as_metadata(made: TraceEvent, counted: bool) -> None:
    """But an agent, of which Alibaba expects them."""
    made = msgspec.structs.replace(made, input_tokens=2, output_tokens=3, total_tokens=5, total_price="1")
    found = attributes(span_of(made))
    here, there = ("gen_ai.usage", "dify") if counted else ("dify", "gen_ai.usage")
    for name, n in (("input_tokens", 2), ("output_tokens", 3), ("total_tokens", 5)):
        assert found[f"{here}.{name}"] == n
        assert f"{there}.{name}" not in found
    agent = made.span_kind == SpanKind.AGENT
    assert found.get("dify.total_price") == ("1" if counted and not agent else None)
    everything = attributes(span_of(made, every_usage=True))
    assert everything["gen_ai.usage.total_tokens"] == 5
    assert everything["dify.total_price"] == "1"


def test_the_first_token_is_in_nanoseconds() -> None:
    found = attributes(span_of(event("message", time_to_first_token=820_000)))
    assert (
        found["gen_ai.response.time_to_first_token"]
        == found["gen_ai.user.time_to_first_token"]
        == 820_000_000
    )
    for odd in (-1, 2**62):
        assert "gen_ai.user.time_to_first_token" not in attributes(
            span_of(event("message", time_to_first_token=odd))
        )


def test_own_attributes_are_typed_and_take_no_name_of_ours() -> None:
    own = {
        "gen_ai.request.temperature": "0.2",
        "gen_ai.request.max_tokens": "100",
        "gen_ai.request.top_p": "high",
        "gen_ai.request.seed": str(2**70),
        "gen_ai.request.top_k": "nan",
        "gen_ai.request.presence_penalty": "1e999",
        "gen_ai.span.kind": "CHAIN",
        "dify.tenant_id": "another",
        "": "nameless",
        "color": "red",
    }
    found = attributes(span_of(event("span", attributes=own, tenant_id="t")))
    assert found["gen_ai.request.temperature"] == 0.2
    assert found["gen_ai.request.max_tokens"] == 100
    assert found["tailrace.attribute.gen_ai.request.top_p"] == "high"
    assert found["tailrace.attribute.gen_ai.request.seed"] == str(2**70)
    assert found["tailrace.attribute.gen_ai.request.top_k"] == "nan"
    assert found["tailrace.attribute.gen_ai.request.presence_penalty"] == "1e999"
    assert (found["dify.tenant_id"], found["color"]) == ("t", "red")
    assert found["gen_ai.span.kind"] != "CHAIN"
    assert "" not in found


def test_own_attributes_have_the_names_that_the_event_leaves_free() -> None:
    """An instrumentation that follows the conventions publishes its messages as attributes of a span."""
    own = {name: f"own {name}" for name in (*mapping.SHARED, "gen_ai.usage.input_tokens", "dify.query")}
    bare = event("span", attributes=own, inputs=None, outputs=None, conversation_id=None, session_id=None)
    bare = msgspec.structs.replace(
        bare, user_id=None, message_id=None, error_type=None, model_name=None, model_provider=None
    )
    bare = msgspec.structs.replace(bare, tool_name=None, span_kind=SpanKind.LLM, response_model=None)
    nobody = {"conversation_id": None, "session_id": None, "user_id": None, "tool_name": None}
    models = {"provider_name": None, "request_model": None}
    context = msgspec.structs.replace(make_context(bare), **nobody, **models)
    found = attributes(span_of(bare, context))
    assert {name: found[name] for name in mapping.SHARED} == {n: f"own {n}" for n in mapping.SHARED}
    assert not {"gen_ai.usage.input_tokens", "dify.query"} & {k for k, v in found.items() if "own" in str(v)}
    full = msgspec.structs.replace(
        bare, inputs='"asked"', outputs='"x"', conversation_id="c", model_name="m", error_type="E", name="n"
    )
    found = attributes(span_of(full, context))
    names = ("input.value", "output.value", "gen_ai.conversation.id", "gen_ai.session.id", "error.type")
    assert [found[name] for name in names] == ["asked", "x", "c", "c", "E"]
    assert found["gen_ai.request.model"] == "m"


# -- content
def test_a_question_and_its_answer_are_messages() -> None:
    made = event("message", inputs='{"query": "q"}', outputs='"a \\"b\\""', message=Message(query="q"))
    found = attributes(span_of(made))
    assert found["output.value"] == 'a "b"'
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "q"}]}
    ]
    assert json.loads(found["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": 'a "b"'}], "finish_reason": "stop"}
    ]


def test_prompts_become_messages_and_what_is_no_text_a_part_of_its_own() -> None:
    prompts = [
        {"role": "system", "text": "Be kind"},
        {"role": "user", "text": "Hi", "files": [{"name": "a.png"}]},
        {"role": "assistant", "text": ""},
        {"role": None, "text": "And?"},
    ]
    node = NodeExecution(process_data=json.dumps({"prompts": prompts, "usage": {}}), finish_reason="length")
    found = attributes(span_of(event(node_type="llm", node_execution=node, outputs='{"text": "Hello"}')))
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be kind"}]},
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "Hi"},
                {"type": "generic", "generic_type": "files", "content": [{"name": "a.png"}]},
            ],
        },
        {"role": "assistant", "parts": []},
        {"role": "user", "parts": [{"type": "text", "content": "And?"}]},
    ]
    [answer] = json.loads(found["gen_ai.output.messages"])
    assert answer["finish_reason"] == "length"
    assert "dify.process_data" not in found


@pytest.mark.parametrize(
    "data", ["", "x", "[]", "{}", '{"prompts": []}', '{"prompts": 1}', '{"prompts": [1]}', "[" * 5000]
)
def test_process_data_without_prompts_are_sent_as_they_are(data: str) -> None:
    node = NodeExecution(process_data=data)
    found = attributes(span_of(event(node_type="llm", node_execution=node, outputs="not json")))
    assert found.get("dify.process_data") == (data or None)
    assert found["output.value"] == "not json"
    assert not {"gen_ai.input.messages", "gen_ai.output.messages"} & found.keys()


@pytest.mark.parametrize(
    ("listed", "want"),
    [
        ('[{"content": "c", "metadata": {"document_id": "d", "score": 0.5}}]', [("d", 0.5)]),
        ('[{"id": "i", "score": 1, "document": {"content": "c"}}]', [("i", 1)]),
        ('[{"metadata": {"segment_id": "s", "document_id": "d"}}]', [("s", None)]),
        ('[{"content": "c"}]', [(None, None)]),
    ],
)
def test_documents_have_the_members_of_the_conventions(listed: str, want: list[tuple[Any, Any]]) -> None:
    made = event("dataset_retrieval", dataset_retrieval=DatasetRetrieval(query="q", documents=listed))
    found = attributes(span_of(made))
    documents = json.loads(found["gen_ai.retrieval.documents"])
    assert [(d.get("id"), d.get("score")) for d in documents] == want
    assert all(set(old) <= set(new) for old, new in zip(json.loads(listed), documents, strict=True))
    assert found["gen_ai.retrieval.query.text"] == "q"
    node = event(node_type="knowledge-retrieval", inputs='{"query": "q"}', outputs=f'{{"result": {listed}}}')
    found = attributes(span_of(node))
    assert json.loads(found["gen_ai.retrieval.documents"]) == documents
    assert found["gen_ai.retrieval.query.text"] == "q"


def test_a_tool_has_its_call_and_its_message() -> None:
    body = Tool(tool_inputs='{"n": 1}', tool_outputs='"done"', call_id="c", time_cost=1_500_000)
    found = attributes(
        span_of(event("tool", tool=body, inputs='"asked"', outputs='"answered"', tool_name="t"))
    )
    assert found["gen_ai.tool.call.arguments"] == '{"n": 1}'
    assert found["gen_ai.tool.call.result"] == "done"
    assert found["gen_ai.tool.call.duration"] == 1.5
    assert (found["input.value"], found["output.value"]) == ("asked", "answered")
    alone = attributes(span_of(event("tool", tool=body, inputs=None, outputs=None)))
    assert (alone["input.value"], alone["output.value"]) == ('{"n": 1}', "done")


@given(st.text(max_size=60))
def test_a_json_string_is_shown_without_its_quotes(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert messages.unquoted(json.dumps(text)) == text
    if not text.startswith('"'):
        assert messages.unquoted(text) == text


@pytest.mark.parametrize("odd", ['"', '"\\ud800"', '"a"b', '"\\x"'])
def test_what_is_no_json_string_stays_as_it_is(odd: str) -> None:
    assert messages.unquoted(odd) == odd


# -- links
@pytest.mark.parametrize(
    ("named", "trace"),
    [
        ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("4BF92F35-77b3-4da6-a3ce-929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ],
)
def test_an_external_trace_is_a_link(named: str, trace: str) -> None:
    [link] = span_of(event(external_trace_id=named)).links
    assert link.trace_id.hex() == trace
    assert link.span_id == otel_span_id(named)
    assert link.trace_id == otel_trace_id(named)


def test_a_traceparent_is_a_link_to_its_span() -> None:
    made = event(external_trace_id="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    [link] = span_of(made).links
    assert (link.trace_id.hex(), link.span_id.hex()) == (
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
    )


@pytest.mark.parametrize(
    "odd", ["order-7", "", "0" * 32, "xyz" * 11, "4bf92f35-77b34da6a3ce929d0e0e4736", "٣" * 32]
)
def test_any_other_external_id_is_an_attribute_and_costs_no_span(odd: str) -> None:
    """Dify loses the whole trace for an id that is not hexadecimal."""
    span = span_of(event(external_trace_id=odd or None))
    assert list(span.links) == []
    assert attributes(span).get("dify.external_trace_id") == (odd or None)


def test_an_inferred_root_links_to_the_calling_run() -> None:
    made = event("workflow_run")
    context = msgspec.structs.replace(make_context(made), linked_span_id=b"12345678")
    [link] = span_of(made, context).links
    assert (link.trace_id, link.span_id) == (context.message_trace_id, b"12345678")


# -- sizes
@pytest.mark.parametrize("kind", SENT)
def test_a_span_that_is_too_large_is_cut_and_says_so(kind: str) -> None:
    large = json.dumps({"text": "ü" * 1_500_000, "list": ["x" * 1000] * 900})
    made = event(
        kind, inputs=large, outputs=json.dumps("y" * 2_000_000), node_type="llm", error="e" * 900_000
    )
    data = encoded(made)
    assert isinstance(data, bytes)
    assert MAX_SPAN // 3 < len(data) <= MAX_SPAN
    found = attributes(span_of(made))
    assert "outputs: cut from 2000002 bytes" in found["tailrace.content_changes"]
    assert encoded(made) == data


@pytest.mark.parametrize(
    "content",
    [
        "[" * 2_500_000,
        '{"a":' * 600_000,
        '"' + "\\ud800" * 500_000 + '"',
        '"' + "\\\\" * 1_200_000,
        "\x01" * 2_500_000,
    ],
    ids=["brackets", "objects", "half pairs", "backslashes", "controls"],
)
@pytest.mark.parametrize("kind", ["node_execution", "message"])
def test_content_that_is_no_json_is_cut_all_the_same(kind: str, content: str) -> None:
    made = event(
        kind,
        node_type="llm",
        inputs=content,
        outputs=content,
        node_execution=NodeExecution(process_data=content),
        message=Message(query=content),
    )
    data = encoded(made)
    assert isinstance(data, bytes)
    assert len(data) <= MAX_SPAN
    assert "inputs: cut from" in attributes(span_of(made))["tailrace.content_changes"]


def test_content_that_is_there_twice_is_cut_until_it_fits() -> None:
    long = "é" * 900_000
    node = NodeExecution(process_data=json.dumps({"prompts": [{"role": "user", "text": long}]}))
    made = event(
        node_type="llm", inputs=json.dumps(long), outputs=json.dumps({"text": long}), node_execution=node
    )
    data = encoded(made)
    assert isinstance(data, bytes)
    assert len(data) <= MAX_SPAN


def test_what_cannot_be_cut_is_a_dead_letter() -> None:
    found = encoded(event("span", source_id="s" * (MAX_SPAN + 1)))
    assert isinstance(found, Rejected)
    assert found.reason == "too_large"


# -- what is not sent
def test_a_superseded_event_is_not_sent() -> None:
    made = event()
    context = msgspec.structs.replace(make_context(made), marks=("superseded",))
    assert encoded(made, context) == Skip("superseded")


@pytest.mark.parametrize(
    ("fields", "reason", "names"),
    [
        ({"started_at": -1}, "time_out_of_range", "started_at"),
        ({"ended_at": 2**62}, "time_out_of_range", "ended_at"),
        ({"name": "\ud800"}, "not_encodable", "UnicodeEncodeError"),
        ({"inputs": "\ud800"}, "not_encodable", "UnicodeEncodeError"),
        ({"input_tokens": 2**63}, "not_encodable", "OverflowError"),
    ],
)
def test_what_otlp_cannot_represent_is_a_dead_letter(fields: dict[str, Any], reason: str, names: str) -> None:
    found = encoded(event(**fields))
    assert isinstance(found, Rejected)
    assert found.reason == reason
    assert names in found.detail


def test_ids_of_zeros_are_a_dead_letter() -> None:
    made = event()
    for name, zeros in (("span_id", bytes(8)), ("message_trace_id", bytes(16))):
        found = encoded(made, msgspec.structs.replace(make_context(made), **{name: zeros}))
        assert isinstance(found, Rejected)
        assert found.reason == "invalid_id"


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(event=events, context=contexts, seed=st.booleans(), every=st.booleans(), data=st.data())
def test_no_event_breaks_it(
    event: TraceEvent, context: TraceContext, seed: bool, every: bool, data: st.DataObject
) -> None:
    event = msgspec.structs.replace(event, kind=data.draw(st.sampled_from([str(k) for k in Kind])))
    dialect = AS_SEED if seed else CURRENT
    found = mapping.to_span(event, context, dialect, every)
    if isinstance(found, bytes):
        attributes(ScopeSpans.FromString(found).spans[0])
    assert mapping.to_span(event, context, dialect, every) == found


def test_the_golden_records_give_the_same_bytes_again() -> None:
    for name, record in golden(FIELDS).items():
        first = mapping.to_span(record.event, record.context, CURRENT, False)
        again = Enriched(record.event, record.context, "other", 9, 99, 999)
        assert mapping.to_span(again.event, again.context, CURRENT, False) == first, name


def test_every_golden_and_sample_has_the_same_in_both_dialects() -> None:
    """`kinds = "seed"` changes two attributes; all fields of seed 002 are where they are without it."""
    records = [*golden(FIELDS).values(), *(read(copy(s, 1), FIELDS) for s in samples().values())]
    kinds = set()
    for record in records:
        made, context = record.event, record.context
        if isinstance(encoded(made, context), Skip):
            continue
        current, seed = span_of(made, context), span_of(made, context, dialect=AS_SEED)
        now, then = attributes(current), attributes(seed)
        for name in ("gen_ai.span.kind", "gen_ai.operation.name"):
            kinds.add((now.pop(name), then.pop(name)))
        assert now == then
        for span in (current, seed):
            del span.attributes[:]
        assert current == seed
    assert {("WORKFLOW", "CHAIN"), ("ENTRY", "CHAIN"), ("STEP", "TASK"), ("LLM", "LLM")} <= kinds


def test_a_plan_reads_each_part_of_an_event_once() -> None:
    """A part is turned into a tuple each time that a plan comes to it."""
    for kind_plan in mapping._PLANS.values():
        places = [run.place for run in kind_plan.rows._runs]
        assert len(places) == len(set(places))
