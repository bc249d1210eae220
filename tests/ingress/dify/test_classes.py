"""Each info class and each envelope: where its fields go, and that none is lost in silence."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ingress.dify.lines import CLASSES
from tailrace.records import Kind, TraceEvent
from tests.ingress.dify import samples
from tests.ingress.dify.converting import converted, events, published
from tests.ingress.dify.samples import APP, TENANT, Line, u, us

KINDS = {
    "WorkflowTraceInfo": Kind.WORKFLOW_RUN,
    "WorkflowNodeTraceInfo": Kind.NODE_EXECUTION,
    "DraftNodeExecutionTrace": Kind.DRAFT_NODE_EXECUTION,
    "MessageTraceInfo": Kind.MESSAGE,
    "ModerationTraceInfo": Kind.MODERATION,
    "SuggestedQuestionTraceInfo": Kind.SUGGESTED_QUESTION,
    "DatasetRetrievalTraceInfo": Kind.DATASET_RETRIEVAL,
    "ToolTraceInfo": Kind.TOOL,
    "GenerateNameTraceInfo": Kind.GENERATE_NAME,
    "PromptGenerationTraceInfo": Kind.PROMPT_GENERATION,
}


def only(line: Line, *others: Line) -> TraceEvent:
    """The event of the class of `line`."""
    kind = KINDS[line["trace_info_type"]]
    [found] = [event for event in events([line, *others]) if event.kind == kind]
    return found


def test_all_ten_classes_are_read() -> None:
    assert set(CLASSES) == set(KINDS) == set(samples.CLASSES)
    for name, line in samples.CLASSES.items():
        kinds = [event.kind for event in events([line])]
        assert kinds[-1] == KINDS[name]
        assert len(kinds) == (2 if name == "WorkflowTraceInfo" else 1), "a chatflow's run makes its message"


def test_a_run() -> None:
    line = samples.run(1, 0, 4.5, total_tokens=30, prompt_tokens=10, completion_tokens=20, file_list=["f1"])
    event = only(line)
    assert (event.source_id, event.workflow_run_id, event.trace_id) == (u(1), u(1), u(1))
    assert (event.tenant_id, event.app_id, event.user_id) == (TENANT, APP, u(0x30))
    assert (event.started_at, event.ended_at) == (us(0), us(4.5))
    assert (event.status, event.error, event.mode) == ("succeeded", None, "workflow")
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (10, 20, 30)
    assert event.invoke_from == "app-run"
    assert event.workflow_run is not None
    assert (event.workflow_run.workflow_id, event.workflow_run.workflow_version) == (u(0x40), "2026-02-11")
    assert (event.workflow_run.query, event.workflow_run.elapsed_time) == ("Where is my order?", 4_500_000)
    assert event.origin is not None
    assert (event.origin.triggered_from, event.origin.file_list) == ("app-run", ("f1",))
    assert event.origin.invoked_by == f"end_user:{u(0x30)}"
    assert json.loads(event.inputs or "") == {"sys.query": "Where is my order?"}
    assert json.loads(event.outputs or "") == {"answer": "It ships tomorrow."}


def test_a_failed_run_says_why() -> None:
    event = only(samples.run(1, 0, 1, workflow_run_status="failed", error="node 'Fetch' failed: 503"))
    assert (event.status, event.error) == ("failed", "node 'Fetch' failed: 503")


def test_a_run_without_tokens_has_no_counts_of_zero() -> None:
    event = only(samples.run(1, 0, 1))
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (None, None, None)


def test_a_node() -> None:
    line = samples.llm(
        0x65,
        1,
        1,
        3,
        title="Answer",
        index=3,
        predecessor_node_id="start-1",
        parallel_id="p1",
        metadata={
            "plugin_name": "acme/mail",
            "credential_id": "c1",
            "dataset_ids": ["d1"],
            "dataset_names": ["D"],
        },
    )
    event = only(line)
    assert (event.source_id, event.workflow_run_id, event.name) == (u(0x65), u(1), "Answer")
    assert (event.node_type, event.model_name) == ("llm", "gpt-4o")
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (1200, 340, 1540)
    assert (event.input_price, event.output_price) == ("0.0030", "0.0034")
    assert (event.total_price, event.currency) == ("0.0064", "USD")
    assert event.time_to_first_token == 700_000
    assert (event.plugin_name, list(event.dataset_ids), event.invoke_from) == ("acme/mail", ["d1"], "web-app")
    body = event.node_execution
    assert body is not None
    assert (body.node_id, body.index, body.predecessor_node_id) == ("llm-101", 3, "start-1")
    assert (body.parallel_id, body.elapsed_time, body.credential_id) == ("p1", 2_000_000, "c1")
    assert (list(body.dataset_names), body.model_mode, body.finish_reason) == (["D"], "chat", "stop")
    assert json.loads(body.process_data or "")["usage"]["prompt_tokens"] == 1200
    assert (event.inputs, event.outputs) == ('{"x": 1}', '{"y": 2}')


def test_a_draft_is_a_trace_of_its_own_and_waits_for_nothing() -> None:
    line = samples.draft(0x6A)
    [found] = [one for one in converted([line, samples.run(1, 0, 1)]) if one.where == "1"]
    [event] = published([found])
    assert (event.kind, event.trace_id, event.root_trace_id) == (Kind.DRAFT_NODE_EXECUTION, u(0x6A), None)
    assert event.workflow_run_id is None


def test_a_message() -> None:
    event = only(samples.message(3, 0, 4, file_list=[{"id": "f1"}, "https://files.example/a.pdf"]))
    assert (event.source_id, event.trace_id, event.conversation_id) == (u(3), u(3), u(0x50))
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (1200, 340, 1540)
    assert (event.total_price, event.currency) == ("0.0064", "USD")
    assert (event.model_provider, event.model_name) == ("langgenius/openai/openai", "gpt-4o")
    assert (event.mode, event.invoke_from, event.user_id) == ("chat", "api", u(0x30))
    assert event.time_to_first_token == 820_000
    body = event.message
    assert body is not None
    assert (body.conversation_model, body.model_id, body.query) == ("gpt-4o", "gpt-4o", "Where is my order?")
    assert (body.streaming, body.time_to_generate) == (True, 3_380_000)
    assert body.provider_response_latency == 4_000_000
    assert event.origin is not None
    assert (event.origin.from_source, event.origin.from_end_user_id) == ("api", u(0x30))
    assert event.origin.file_list == ('{"id": "f1"}', "https://files.example/a.pdf")
    assert json.loads(event.origin.message_data or "")["query"] == "Where is my order?"
    assert event.outputs == '"It ships tomorrow."'


@pytest.mark.parametrize(
    ("status", "error", "said"), [("error", "quota", "failed"), ("normal", None, "normal")]
)
def test_a_message_that_failed(status: str, error: str | None, said: str) -> None:
    event = only(samples.message(3, 0, 4, error=error, metadata={"status": status}))
    assert (event.status, event.error) == (said, error)


def test_a_moderation() -> None:
    event = only(samples.moderation(3, 0, 1))
    body = event.moderation
    assert body is not None
    assert (body.moderation_type, body.flagged, body.action) == ("input", True, "direct_output")
    assert (body.preset_response, body.query) == ("Please ask something else.", "Where is my order?")
    assert (event.message_id, event.started_at, event.ended_at) == (u(3), us(0), us(1))


def test_a_retrieval() -> None:
    event = only(samples.retrieval(3, 0, 1))
    body = event.dataset_retrieval
    assert body is not None
    assert list(event.dataset_ids) == [u(0x60), u(0x61)]
    assert list(body.dataset_names) == ["Orders", "Terms"]
    assert (body.document_count, body.query) == (2, "Where is my order?")
    assert (body.rerank_model_provider, body.rerank_model_name) == ("cohere", "rerank-v3.5")
    assert json.loads(body.embedding_models or "")[u(0x60)]["embedding_model"] == "e-3"
    assert len(json.loads(body.documents or "")) == 2


def test_a_tool() -> None:
    event = only(samples.tool(3, 0, 1))
    body = event.tool
    assert body is not None
    assert (event.name, event.tool_name, event.status) == ("track_parcel", "track_parcel", "succeeded")
    assert (body.tool_inputs, body.tool_outputs) == ('{"number": "1Z999"}', '"on its way"')
    assert (body.tool_config, body.tool_parameters) == ('{"tool_provider": "acme"}', '{"region": "eu"}')
    assert (body.time_cost, list(body.file_urls)) == (200_000, ["https://files.example/label.png"])
    assert (event.started_at, event.ended_at) == (us(0), us(1)), "the timer's, not the time that it cost"


def test_a_conversations_name_alone_is_a_trace_of_its_own() -> None:
    event = only(samples.name(0, 1))
    assert (event.trace_id, event.message_id) == (event.source_id, None)
    assert (event.conversation_id, event.tenant_id) == (u(0x50), TENANT)
    assert (event.inputs, event.outputs) == ('"Where is my order?"', '"Order status"')


def test_a_prompt_generation_may_have_no_times() -> None:
    event = only(samples.prompt())
    assert (event.operation_type, event.user_id) == ("rule_generate", u(0x31))
    assert (event.input_tokens, event.output_tokens, event.total_tokens) == (100, 200, 300)
    assert (event.total_price, event.currency) == ("0.00225", "USD")
    assert event.prompt_generation is not None
    assert event.prompt_generation.latency == 2_000_000
    assert event.prompt_generation.output == "You are a support agent."
    assert event.ended_at - event.started_at == 2_000_000
    assert event.attributes["tailrace.times"] == "estimated"


@pytest.mark.parametrize(("given", "code"), [("RMB", "CNY"), ("usd", "USD"), ("EUR", "EUR")])
def test_a_currency_is_its_iso_code(given: str, code: str) -> None:
    assert only(samples.llm(0x65, 1, 0, 1, currency=given)).currency == code


@pytest.mark.parametrize(
    ("field", "value", "of_event"),
    [
        ("prompt_tokens", -1, "input_tokens"),
        ("completion_tokens", 1.5, "output_tokens"),
        ("total_tokens", 1 << 64, "total_tokens"),
        ("prompt_tokens", "many", "input_tokens"),
        ("total_price", "-0.5", "total_price"),
        ("total_price", "a lot", "total_price"),
        ("total_price", 1e300, "total_price"),
        ("currency", "bitcoin", "currency"),
        ("title", ["x"], "name"),
        ("model_provider", {"x": 1}, "model_provider"),
        ("error", True, "error"),
    ],
)
def test_a_value_that_is_not_what_it_should_be_is_left_out_and_said(
    field: str, value: object, of_event: str
) -> None:
    line = samples.llm(0x65, 1, 0, 1, process_data=None, **{field: value})
    [one] = converted([line])
    [event] = published([one])
    assert getattr(event, of_event) is None
    assert ("unread", f"trace_info.{field}") in {(note.what, note.field) for note in one.notes}


def test_an_id_that_is_a_number_is_its_text() -> None:
    assert only(samples.run(1, 0, 1, workflow_run_id=17)).source_id == "17"


# -- envelopes


@pytest.mark.parametrize("rating", ["like", "dislike", None])
def test_feedback(rating: str | None) -> None:
    [event] = events([samples.feedback(3, rating)])
    assert (event.kind, event.source_id, event.trace_id) == (Kind.FEEDBACK, u(0xE0), u(3))
    assert (event.rating, event.tenant_id, event.user_id) == (rating, TENANT, u(0x30))
    assert event.feedback is not None
    assert event.feedback.content == "Helpful"
    assert (event.started_at, event.ended_at) == (us(60), us(60))


@pytest.mark.parametrize(
    ("case", "kind", "seconds"),
    [
        ("app_created", Kind.APP_CREATED, 0),
        ("app_updated", Kind.APP_UPDATED, 1),
        ("app_deleted", Kind.APP_DELETED, 2),
    ],
)
def test_applications(case: str, kind: Kind, seconds: float) -> None:
    [event] = events([samples.app(case)])
    assert (event.kind, event.source_id, event.trace_id) == (kind, u(0xE1), None)
    assert (event.tenant_id, event.app_id, event.mode) == (TENANT, APP, "advanced-chat")
    assert event.started_at == us(seconds)


def test_a_payload_that_dify_stored_elsewhere_is_reported() -> None:
    line = {**samples.feedback(3), "payload": {}, "metadata": {"payload_ref": "telemetry/t/e.json"}}
    [event] = events([line])
    assert event.kind == Kind.REHYDRATION_FAILED
    assert event.rehydration_failed is not None
    assert event.rehydration_failed.payload_type == "feedback_created"
    assert event.rehydration_failed.correlation_id == u(0xE0)
    assert "telemetry/t/e.json" in (event.error or "")


def test_what_an_envelope_says_besides_is_kept_or_named() -> None:
    line = {
        **samples.feedback(3),
        "metadata": {"payload_ref": "telemetry/t/e.json", "region": "eu"},
        "more": "x",
    }
    [one] = converted([line])
    assert one.event is not None
    assert one.event.attributes == {"dify.more": "x", "dify.region": "eu"}
    noted = {(note.what, note.field) for note in one.notes}
    assert noted >= {
        ("unread", "metadata.payload_ref"),
        ("unplaced", "metadata.region"),
        ("unplaced", "more"),
    }


def test_a_draft_that_names_a_caller_says_that_it_is_left_out() -> None:
    line = samples.draft(0x6A, metadata={"parent_trace_context": {"parent_workflow_run_id": u(1)}})
    [one] = converted([line])
    assert ("unread", "trace_info.metadata.parent_trace_context") in {(n.what, n.field) for n in one.notes}


def test_attributes_are_bounded_and_what_does_not_fit_is_named() -> None:
    more = {f"new_{n}": "x" * (10 if n else 2000) for n in range(60)}
    [one] = converted([samples.message(3, 0, 1, **more)])
    assert one.event is not None
    assert len(one.event.attributes) == 32
    lost = [note.field for note in one.notes if note.why.endswith("no room for it as an attribute")]
    assert len(lost) == 60 - 32
    assert "trace_info.new_0" in lost


def test_what_a_nodes_metadata_says_besides_is_in_its_metadata() -> None:
    event = only(samples.node(0x64, 1, 0, 1, metadata={"tool_info": {"icon": "x" * 5000}}))
    assert event.node_execution is not None
    assert json.loads(event.node_execution.metadata or "") == {"tool_info": {"icon": "x" * 5000}}


# -- nothing is lost in silence


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of what a line says; content counts as one value."""
    if isinstance(value, dict) and path in ((), ("trace_info",), ("trace_info", "metadata"), ("payload",)):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path


WITHOUT_ID = {
    Kind.MODERATION,
    Kind.SUGGESTED_QUESTION,
    Kind.DATASET_RETRIEVAL,
    Kind.TOOL,
    Kind.GENERATE_NAME,
    Kind.PROMPT_GENERATION,
}


def essence(found: list[TraceEvent]) -> bytes:
    """The events without ids that are hashes of the whole line."""
    made = []
    for event in found:
        values = msgspec.to_builtins(event)
        own = values["source_id"] if event.kind in WITHOUT_ID else None
        del values["event_id"]
        made.append({name: value for name, value in values.items() if value != own})
    return msgspec.json.encode(made)


NAMES = {**samples.CLASSES, "feedback": samples.feedback(3), "app_created": samples.app("app_created")}
FIELDS = [(name, path) for name, line in NAMES.items() for path in leaves(line)]
STRUCTURE = {"trace_info_type", "case"}
NUMBERS = {
    "elapsed_time", "workflow_run_elapsed_time", "latency", "time_cost", "index", "iteration_index",
    "loop_index", "gen_ai_server_time_to_first_token", "llm_streaming_time_to_generate",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path"), FIELDS, ids=lambda value: value if isinstance(value, str) else value[-1]
)
def test_every_field_is_in_the_event_or_named_in_the_notes(name: str, path: tuple[str, ...]) -> None:
    """A value that occurs nowhere else is put into one field at a time."""
    if path[-1] in STRUCTURE:
        return
    line = copy.deepcopy(NAMES[name])
    place = line
    for key in path[:-1]:
        place = place[key]
    field, value = path[-1], place[path[-1]]
    marked: Any = "marked-value"
    if field in ("start_time", "end_time") or field.endswith("ed_at"):
        marked = "2026-03-01T11:22:33.444555"
    elif field in NUMBERS or ("token" in field and "time" not in field) or "price" in field:
        marked = 987654
    elif isinstance(value, bool) or field in ("flagged", "agent_based", "is_streaming_request"):
        marked = not value
    elif isinstance(value, dict) or field in ("workflow_run_inputs", "workflow_run_outputs", "documents"):
        marked = {"marked": "marked-value"} if field != "documents" else [{"marked": "marked-value"}]
    elif field in ("rating", "currency"):
        marked = {"rating": "dislike", "currency": "SEK"}[field]
    place[field] = marked
    before, after = converted([NAMES[name]]), converted([line])
    assert all(one.event is not None for one in after), [str(one.problem) for one in after]
    was, now = (essence(published(found)) for found in (before, after))
    changed = was != now
    noted = [note for one in after for note in one.notes if note.field == ".".join(path)]
    repeats = path[:2] == ("trace_info", "metadata") and field in NAMES[name]["trace_info"]
    assert changed or noted or repeats, "the field has no effect and no note"
    if not isinstance(marked, bool) and not noted and not repeats:
        assert any(
            text in now for text in (b"marked-value", b"1772364153444555", b"987654", b"dislike", b"SEK")
        )
