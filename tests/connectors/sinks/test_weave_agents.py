"""The Agents view of the Weave sink: spans by OpenTelemetry's GenAI conventions."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.delivery.batch_sender import BatchSender
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin, Skip
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Delivered, Paused, Rejected
from connectors.sinks.weave.agents import MAX_SPAN, to_span
from connectors.sinks.weave.mapping import END_OF_TIME, KINDS, Operation
from connectors.sinks.weave.sink import Weave
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.received import ReceivedSpan
from connectors.testing.doubles.weave import WeaveDouble
from tailrace.records import TraceContext, TraceEvent
from tests.connectors.enriching import START, make_context, make_event
from tests.connectors.generated import contexts, events
from tests.golden.events import golden as every_golden
from tests.seeds.walker import readable

golden = functools.cache(every_golden)
OPERATIONS = {str(kind) for kind, how in KINDS.items() if isinstance(how, Operation)}
SENT = sorted(name for name, r in golden().items() if r.event.kind in OPERATIONS)


def make(view: str = "agents", **values: Any) -> Weave:
    given = {"api_key": "key-1", "project": "shop", "entity": "acme", "host": "http://w", "view": view}
    return Weave(msgspec.convert({**given, **values}, Weave.Settings))


def shown(record: Enriched, view: str = "agents") -> dict[str, Any]:
    sink = make(view)
    payload = sink.map(record)
    assert isinstance(payload, Payload), payload
    return sink.render(payload)


def attributes(record: Enriched) -> dict[str, Any]:
    found: dict[str, Any] = readable(shown(record))["attributes"]
    return found


def named(name: str) -> dict[str, Any]:
    return attributes(golden()[name])


def test_operations_and_names() -> None:
    found = {n: (named(n).get("gen_ai.operation.name"), shown(golden()[n])["name"]) for n in SENT}
    assert found == {
        "message": ("invoke_agent", "invoke_agent Support Assistant"),
        "workflow_run": ("invoke_workflow", "workflow_00000032-0000-4000-8000-000000000032"),
        "workflow_run_alone": ("invoke_agent", "invoke_agent Support Assistant"),
        "node_llm": ("chat", "chat gpt-4o"),
        "node_knowledge": ("retrieval", "Look up order"),
        "node_tool": ("execute_tool", "execute_tool send_mail"),
        "node_failed_in_iteration": (None, "Fetch"),
        "draft_node_execution": (None, "Try code"),
        "moderation": (None, "moderation"),
        "suggested_question": ("chat", "chat gpt-4o-mini"),
        "dataset_retrieval": ("retrieval", "dataset_retrieval"),
        "tool": ("execute_tool", "execute_tool track_parcel"),
        "generate_name": ("chat", "chat generate_name"),
        "prompt_generation": ("chat", "chat gpt-4o"),
        "span_llm": ("chat", "chat gpt-4o"),
        "span_agent": ("invoke_agent", "invoke_agent Plan trip"),
        "span_llm_cached": ("chat", "chat claude-sonnet-4-5"),
        "span_llm_audio": ("chat", "chat gpt-realtime"),
    }


def test_ids_are_those_of_the_calls() -> None:
    for name in SENT:
        span, call = shown(golden()[name]), shown(golden()[name], "calls")
        assert (span["spanId"], span["traceId"]) == (call["id"], call["trace_id"].replace("-", "")), name
        assert span.get("parentSpanId") == call.get("parent_id"), name


def test_conversation_agent_model_and_user() -> None:
    message = named("message")
    assert message["gen_ai.conversation.id"] == golden()["message"].event.conversation_id
    assert message["gen_ai.agent.name"] == "Support Assistant"
    assert message["user.id"] == "user-42"
    assert named("span_llm_cached")["gen_ai.response.model"] == "claude-sonnet-4-5-20250929"
    assert named("node_llm")["gen_ai.provider.name"] == "openai"
    assert named("tool")["error.type"] == "ToolInvokeError"


def test_content_is_messages_and_that_of_a_tool_is_arguments_and_result() -> None:
    def said(role: str, text: str) -> list[Any]:
        return [{"role": role, "parts": [{"type": "text", "content": text}]}]

    node = named("node_llm")
    assert json.loads(node["gen_ai.input.messages"]) == said("user", "Where is my order?")
    assert json.loads(node["inputs"]) == {"context": "Order A-1001 ships on 2 March."}
    assert json.loads(named("message")["gen_ai.output.messages"]) == said("assistant", "It ships tomorrow.")
    tool = named("tool")
    assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"number": "1Z999"}
    assert json.loads(tool["gen_ai.tool.call.result"]) == "not found"
    assert tool["gen_ai.tool.call.id"] == "call_9"
    assert "gen_ai.input.messages" not in tool


def test_tokens_are_those_of_leaves() -> None:
    def tokens(name: str) -> dict[str, Any]:
        return {k.removeprefix("gen_ai.usage."): v for k, v in named(name).items() if "gen_ai.usage" in k}

    assert tokens("message") == tokens("workflow_run") == {}
    assert tokens("node_llm") == {"input_tokens": 1200, "output_tokens": 340}
    assert tokens("span_llm_cached") == {
        "input_tokens": 21000,
        "output_tokens": 1000,
        "cache_read.input_tokens": 15000,
        "cache_creation.input_tokens": 5000,  # the name that Weave's server reads
        "reasoning.output_tokens": 300,
    }


@pytest.mark.parametrize("name", SENT)
def test_what_the_conventions_do_not_have_is_under_the_seeds_names(name: str) -> None:
    """As in the attributes of the call."""
    of_call = dict(shown(golden()[name], "calls")["attributes"])
    found = named(name)
    for placed in ("tags", "weave", "inputs"):  # written in another form
        of_call.pop(placed, None)
    missing = [key for key in of_call if key not in found]
    assert missing == []


def test_failures_are_errors() -> None:
    assert shown(golden()["tool"])["status"] == {"code": 2, "message": "parcel not found"}
    assert shown(golden()["node_llm"]).get("status", {}) == {}


def test_ratings_and_evaluations_are_filtered() -> None:
    others = {name: to_span(r) for name, r in golden().items() if name not in SENT}
    assert {str(o) for n, o in others.items() if n.startswith(("feedback", "evaluation"))} == {
        str(Skip("no_call"))
    }
    assert {str(o) for n, o in others.items() if n.startswith(("app_", "rehydration"))} == {
        str(Skip("not_traced"))
    }


@pytest.mark.parametrize(
    ("event", "context", "reason"),
    [
        ({"started_at": -1}, {}, "time_out_of_range"),
        ({"ended_at": END_OF_TIME}, {}, "time_out_of_range"),
        ({}, {"span_id": bytes(8)}, "invalid_id"),
        ({}, {"message_trace_id": bytes(16)}, "invalid_id"),
        ({"outputs": "\ud800"}, {}, "not_encodable"),
        ({"name": "\ud800"}, {}, "not_encodable"),
    ],
)
def test_what_weave_cannot_store_is_rejected(
    event: dict[str, Any], context: dict[str, Any], reason: str
) -> None:
    made = make_event(1, **event)
    found = to_span(Enriched(made, make_context(made, **context), "t", 0, 0, 0))
    assert isinstance(found, Rejected)
    assert found.reason == reason


@given(event=events, context=contexts)
@settings(max_examples=200, deadline=None)
def test_any_event_maps_or_is_skipped_or_rejected(event: TraceEvent, context: TraceContext) -> None:
    assert isinstance(to_span(Enriched(event, context, "t", 0, 0, 0)), bytes | Skip | Rejected)


def test_any_operation_is_a_span_that_can_be_read() -> None:
    for kind in OPERATIONS:
        made = make_event(1, kind=kind, started_at=START, ended_at=START)
        assert shown(Enriched(made, make_context(made), "t", 0, 0, 0))["startTimeUnixNano"]


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["é", '\\"'])
def test_a_large_span_is_cut_to_a_request_and_says_so(letter: str) -> None:
    text = json.dumps({"document": "LONG", "question": "What is it?"}).replace(
        "LONG", letter * (12_000_000 // len(letter.encode()))
    )
    record = golden()["node_llm"]
    assert record.event.node_execution is not None
    prompts = text.replace('{"document"', '{"prompts": [{"role": "user", "text": "hi"}], "document"')
    node = msgspec.structs.replace(record.event.node_execution, process_data=prompts)
    event = msgspec.structs.replace(record.event, inputs=text, outputs=text, node_execution=node)
    large = msgspec.structs.replace(record, event=event)
    span = to_span(large)
    assert isinstance(span, bytes)
    assert MAX_SPAN * 0.8 < len(span) <= MAX_SPAN
    found = attributes(large)
    assert json.loads(found["inputs"])["question"] == "What is it?"
    said = found["tailrace.content_changes"]
    for field in ("inputs", "outputs", "node_execution.process_data"):
        assert f"{field}: cut from " in said


def test_the_page_of_a_trace_is_not_known() -> None:
    assert make().link("T") is None


# -- the double
def stored(double: WeaveDouble) -> dict[tuple[str, str, str], ReceivedSpan]:
    return {k: msgspec.structs.replace(s, request=0) for k, s in double.store.spans.items()}


def batch(sink: Weave) -> Batch:
    payloads = [sink.map(golden()[name]) for name in SENT]
    items = [Item(p, RecordOrigin("t", 0, i, 0)) for i, p in enumerate(payloads) if isinstance(p, Payload)]
    return Batch(tuple(items))


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(status=503, status_first=2),
        Faults(reset="response", reset_first=1),
    ],
)
def test_redelivery_and_faults_leave_the_same_spans(faults: Faults) -> None:
    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    async def run() -> None:
        async with WeaveDouble(api_key="key-1", entity="team-7") as double:
            transport = AiohttpTransport()
            try:
                sink = make(host=double.endpoint, entity="")  # the entity is asked for
                sender = BatchSender("weave", sink, transport, sleep=at_once, random=lambda: 0.0)
                assert {type(r.verdict) for r in await sender.deliver(batch(sink))} == {Delivered}
                once = stored(double)
                assert {key[0] for key in once} == {"team-7/shop"}
                assert len(once) == len(SENT)
                double.faults = faults
                await sender.deliver(batch(sink))
                assert stored(double) == once
                bodies = {e.body for e in double.exchanges if "/agents/" in e.path}
                assert len(bodies) == 1  # each resend is byte-identical
            finally:
                await transport.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("kind", "page", "delivered"),
    [
        ({"content-type": "text/html; charset=utf-8"}, b"", False),
        ({}, b"\n<!DOCTYPE html>", False),
        ({"content-type": "application/x-protobuf"}, b"", True),
        ({"content-type": "application/json"}, b"{}", True),
    ],
)
def test_a_page_is_no_delivery(kind: dict[str, str], page: bytes, delivered: bool) -> None:
    class Http:
        async def request(
            self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
        ) -> Response:
            return Response(200, kind, page)

    sink = make()
    found = asyncio.run(sink.send(batch(sink), Http()))
    assert isinstance(found, Delivered if delivered else Paused)


def test_spans_without_a_project_are_dropped_by_the_double() -> None:
    """As by Weave: so the resource is what makes them arrive."""

    async def run() -> None:
        async with WeaveDouble() as double:
            transport = AiohttpTransport()
            try:
                sink = make(host=double.endpoint)
                body = sink._request(batch(sink).bodies).replace(b"wandb.project", b"other.project")
                headers = {"Content-Type": "application/x-protobuf"}
                url = f"{double.endpoint}/traces/agents/otel/v1/traces"
                answer = await transport.request("POST", url, body, headers)
                assert (answer.status, double.store.spans) == (200, {})
            finally:
                await transport.close()

    asyncio.run(run())
