"""From events to Opik's objects: ids, the tree, content, prices, windows, ratings. Payloads of whole events:
tests/golden/opik."""

from __future__ import annotations

import functools
import itertools
import json
import uuid
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mapping.members import json_value
from connectors.mapping.values import as_object, iso
from connectors.sdk.contract import Enriched, Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.opik import ids as opik_ids
from connectors.sinks.opik.mapping import FIELDS, KINDS, Operation, to_parts
from connectors.sinks.opik.scores import LIMIT, Parts
from connectors.sinks.opik.values import price
from connectors.testing.doubles.opik_rules import problems, version
from tailrace import ids
from tailrace.records import Evaluation, Kind, ParentKind, Tool
from tests.connectors.enriching import START, make_context, make_event
from tests.connectors.generated import contexts, events
from tests.golden.events import golden as every_golden

HOUR = 3_600_000
golden = functools.cache(every_golden)
OPERATIONS = {str(kind) for kind, how in KINDS.items() if isinstance(how, Operation)}
ALL = sorted(golden())


def objects(record: Enriched, project: str = "Default Project", **options: int) -> dict[str, Any]:
    """Trace, span and score of a record; those that it has."""
    parts = to_parts(record, project, **options)
    assert isinstance(parts, tuple), parts
    names = zip(("trace", "span"), parts[:2], strict=True)
    found = {name: json.loads(body) for name, body in names if body is not None}
    if parts[2] is not None:
        found["score"] = parts[2]
    return found


def changed(record: Enriched, context: dict[str, Any] | None = None, **event: Any) -> Enriched:
    return msgspec.structs.replace(
        record,
        event=msgspec.structs.replace(record.event, **event),
        context=msgspec.structs.replace(record.context, **(context or {})),
    )


# -- ids and the tree
@given(st.integers(0, opik_ids.LATEST_MS), st.binary(max_size=40))
def test_ids_are_uuids_of_version_7_with_their_time(ms: int, name: bytes) -> None:
    text = opik_ids.uuid7(ms, name)
    found = uuid.UUID(text)
    assert (found.version, found.variant, found.int >> 80, str(found)) == (7, uuid.RFC_4122, ms, text)
    assert opik_ids.uuid7(ms, name) == text
    assert version(text) == 7


def test_every_span_has_a_parent_in_its_trace_and_every_trace_its_root() -> None:
    """But for the iteration, of which there is no event among the golden ones."""
    found = {name: objects(r) for name, r in golden().items() if r.event.kind in OPERATIONS}
    traces = {o["trace"]["id"]: name for name, o in found.items() if "trace" in o}
    spans = {(o["span"]["trace_id"], o["span"]["id"]): name for name, o in found.items()}
    assert len(spans) == len(found)
    parents = {}
    for name, o in found.items():
        span = o["span"]
        assert span["trace_id"] in traces, name
        if (parent := span.get("parent_span_id")) is None:
            assert "trace" in o, name
        else:
            assert "trace" not in o, name
            parents[name] = spans.get((span["trace_id"], parent), "missing")
    side = dict.fromkeys(
        ("workflow_run", "moderation", "suggested_question", "dataset_retrieval", "tool"), "message"
    )
    nodes = dict.fromkeys(("node_llm", "node_knowledge", "node_tool"), "workflow_run")
    calls = {"span_llm": "node_llm", **dict.fromkeys(("span_llm_cached", "span_llm_audio"), "span_agent")}
    assert parents == {**side, **nodes, **calls, "node_failed_in_iteration": "missing"}
    assert set(traces.values()) == {
        "message",
        "workflow_run_alone",
        "draft_node_execution",
        "generate_name",
        "prompt_generation",
        "span_agent",
    }


def test_all_ids_of_a_trace_have_its_start_as_time() -> None:
    for name, record in golden().items():
        if record.event.kind not in OPERATIONS:
            continue
        for o in objects(record).values():
            for key in ("id", "trace_id", "parent_span_id"):
                if key in o:
                    assert uuid.UUID(o[key]).int >> 80 == record.context.trace_started_at // 1000, name


def test_a_nested_run_is_the_child_of_its_node_in_the_trace_of_the_root() -> None:
    outer = golden()["node_tool"]
    inner = changed(
        golden()["workflow_run_alone"],
        context={
            **{
                f: getattr(outer.context, f)
                for f in ("root_trace_id", "message_trace_id", "run_trace_id", "trace_started_at")
            },
            "parent_source_id": outer.event.source_id,
            "parent_span_id": outer.context.span_id,
            "parent_kind": ParentKind.NODE,
        },
    )
    found = objects(inner)
    assert found["span"]["parent_span_id"] == objects(outer)["span"]["id"]
    assert found["span"]["trace_id"] == objects(outer)["span"]["trace_id"]
    assert "trace" not in found


@pytest.mark.parametrize(
    ("name", "event", "context", "root"),
    [
        (
            "workflow_run",
            {},
            {"parent_span_id": None, "parent_source_id": None},
            True,
        ),  # messages are filtered at this sink
        ("moderation", {}, {"parent_span_id": None, "parent_source_id": None}, False),
        ("span_agent", {}, {}, True),
        ("span_agent", {}, {"root_trace_id": "other"}, False),  # a part of another operation's trace
        ("span_agent", {"message_id": "m"}, {}, False),
        ("tool", {"message_id": None, "trace_id": "t"}, {"parent_span_id": None, "root_trace_id": "t"}, True),
        ("message", {"trace_id": "job-1"}, {"root_trace_id": "job-1"}, True),
        ("message", {}, {"parent_span_id": b"12345678"}, False),
    ],
)
def test_only_a_root_is_a_trace(
    name: str, event: dict[str, Any], context: dict[str, Any], root: bool
) -> None:
    found = objects(changed(golden()[name], context, **event))
    assert ("trace" in found) is root
    assert "span" in found


def test_native_opentelemetry_ids_make_a_tree_as_well() -> None:
    """A child that names its parent by its OpenTelemetry span id alone."""
    parent = changed(golden()["span_agent"], {"span_id": b"\1" * 8})
    child = changed(
        golden()["span_agent"], {"span_id": b"\2" * 8, "parent_span_id": b"\1" * 8}, source_id="child"
    )
    assert objects(child)["span"]["parent_span_id"] == objects(parent)["span"]["id"]


def test_another_project_or_trace_has_other_ids() -> None:
    record = golden()["span_agent"]
    other = changed(record, {"root_trace_id": "job-78"}, trace_id="job-78")
    found = [objects(record), objects(record, project="b"), objects(other)]
    assert len({o[name]["id"] for o in found for name in ("trace", "span")}) == 6


# -- windows
@pytest.mark.parametrize(
    ("appended", "reason"),
    [
        (24 * HOUR, None),
        (24 * HOUR + 1, "too_old"),
        (-24 * HOUR, None),
        (-24 * HOUR - 1, "too_far_future"),
        (0, None),
    ],
)
def test_the_window_is_from_the_trace_to_the_events_append_time(appended: int, reason: str | None) -> None:
    record = golden()["node_llm"]
    record = changed(record, {"appended_at": record.context.trace_started_at // 1000 + appended})
    found = to_parts(record, "p", 24 * HOUR)
    assert (found.reason if isinstance(found, Rejected) else None) == reason
    assert isinstance(to_parts(record, "p"), tuple)  # no window
    if reason == "too_old":
        assert isinstance(found, Rejected)
        assert "24.0 h before" in found.detail
        assert all(w in found.detail for w in ("another instance", "id_time_ms", "id_window_hours"))


def test_new_copies_have_another_time_and_the_same_tree() -> None:
    record = changed(golden()["node_llm"], {"appended_at": 0})
    parent = golden()["workflow_run"]
    now = 1_800_000_000_000
    found = objects(record, window_ms=24 * HOUR, id_time_ms=now)["span"]
    assert uuid.UUID(found["id"]).int >> 80 == now
    assert found["parent_span_id"] == objects(parent, window_ms=24 * HOUR, id_time_ms=now)["span"]["id"]
    assert found["start_time"] == "2026-03-01T12:00:01.023000Z"


@pytest.mark.parametrize("us", [-1, 9_214_646_400_000_000, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("field", ["started_at", "ended_at", "trace_started_at"])
def test_times_that_opik_cannot_hold_are_rejected(field: str, us: int) -> None:
    record = golden()["node_llm"]
    odd: dict[str, Any] = {field: us}
    record = changed(record, odd) if field.startswith("trace") else changed(record, **odd)
    found = to_parts(record, "p")
    assert isinstance(found, Rejected)
    assert found.reason == "time_out_of_range"


def test_an_end_before_the_start_is_the_start_and_odd_publishing_times_do_not_count() -> None:
    record = golden()["node_llm"]
    found = objects(changed(record, ended_at=record.event.started_at - 5, published_at=-7))["span"]
    assert found["end_time"] == found["start_time"] == found["last_updated_at"]


# -- values
@pytest.mark.parametrize(
    ("text", "want"),
    [
        (None, None),
        ("null", None),
        ("{}", None),
        ('{"a": 1}', {"a": 1}),
        (' \n{"a": 1}', {"a": 1}),
        ("[1, 2]", {"input": [1, 2]}),
        ('"x"', {"input": "x"}),
        ("0", {"input": 0}),
        ("true", {"input": True}),
        ("nope", {"input": "nope"}),
        ('{"a": 1', {"input": '{"a": 1'}),
        ("", {"input": ""}),
        ('{"a": 1}, "b": 2', {"input": '{"a": 1}, "b": 2'}),
    ],
)
def test_content_is_an_object(text: str | None, want: Any) -> None:
    value = as_object(text, "input")
    assert (None if value is None else json.loads(value)) == want


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_content_never_breaks_the_request(text: str) -> None:
    value = as_object(text, "k")
    whole = orjson.loads(b'{"a":%b,"b":%b,"c":1}' % (json_value(text) or b"null", value or b"null"))
    assert whole["c"] == 1
    assert whole["b"] is None or isinstance(whole["b"], dict)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0.0064", "0.0064"),
        ("0", "0"),
        ("12", "12"),
        ("1E-7", "0.0000001"),
        ("+1.50", "1.50"),
        (".5", "0.5"),
        ("007", "7"),
        ("-0.0", "0"),
        ("-1", None),
        ("NaN", None),
        ("Infinity", None),
        ("", None),
        ("1e27", None),
        ("1e999999999", None),
        ("1e-999999", None),
        ("9" * 50, None),
        ("1,5", None),
        (None, None),
        ("١", "1"),
        ("0.1\n", "0.1"),
    ],
)
def test_a_price_is_the_same_number(text: str | None, want: str | None) -> None:
    value = price(text)
    assert (None if value is None else value.decode()) == want


def test_times_have_six_digits() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000000Z"
    assert iso(1_772_366_400_123_456) == "2026-03-01T12:00:00.123456Z"
    assert iso(9_214_646_399_999_999) == "2261-12-31T23:59:59.999999Z"


def test_tokens_are_32_bit() -> None:
    record = changed(golden()["node_llm"], input_tokens=-1, output_tokens=2**31 - 1, total_tokens=2**31)
    span = objects(record)["span"]
    assert span["usage"] == {"completion_tokens": 2**31 - 1}
    assert span["metadata"]["usage_metadata"]["total_tokens"] == 2**31


# -- mapping
@pytest.mark.parametrize(
    ("name", "event", "counted"),
    [
        ("message", {}, False),
        ("message", {"workflow_run_id": None}, True),
        ("workflow_run", {}, False),
        ("node_llm", {}, True),
        ("node_llm", {"node_type": "iteration"}, False),
        ("node_llm", {"node_type": "loop"}, False),
        ("node_llm", {"node_type": "agent"}, True),
        ("span_llm", {}, True),
        ("span_llm", {"span_kind": "agent"}, False),
        ("span_llm", {"span_kind": "chain"}, False),
        ("span_llm", {"span_kind": "task"}, False),
        ("span_llm", {"span_kind": "agent", "usage_repeats": False}, True),
        ("span_llm", {"usage_repeats": True}, False),
    ],
)
def test_what_contains_other_operations_has_no_usage_of_its_own(
    name: str, event: dict[str, Any], counted: bool
) -> None:
    """Opik sums a trace up over its spans."""
    span = objects(changed(golden()[name], **event))["span"]
    assert ("usage" in span) is counted
    assert ("total_estimated_cost" in span) is (counted and name != "workflow_run")
    assert span["metadata"]["usage_metadata"]


def test_a_message_without_a_workflow_is_an_llm_call() -> None:
    span = objects(changed(golden()["message"], workflow_run_id=None))["span"]
    assert (span["type"], span["model"], span["provider"]) == ("llm", "gpt-4o", "openai")
    assert span["usage"] == {"prompt_tokens": 1200, "completion_tokens": 340, "total_tokens": 1540}
    assert span["total_estimated_cost"] == 0.0064


def test_costs_are_dollars() -> None:
    record = golden()["node_llm"]
    assert "total_estimated_cost" not in objects(changed(record, currency="EUR"))["span"]
    assert objects(changed(record, currency=None))["span"]["total_estimated_cost"] == 0.0064
    found = objects(changed(record, {"estimated_cost": "0.5"}, total_price=None))["span"]
    assert found["total_estimated_cost"] == 0.5
    for unusable in (
        "0.0",
        "$1",
        "-1",
        "1e400",
        "9e99",
        "10000000",
        "9" * 80,
    ):  # the processor estimates only what has no usable price
        found = objects(changed(record, {"estimated_cost": "0.5"}, total_price=unusable))["span"]
        assert found["total_estimated_cost"] == 0.5
        assert objects(changed(record, total_price=unusable))["span"].get("total_estimated_cost") in (None, 0)
    assert objects(changed(record, currency="usd"))["span"]["total_estimated_cost"] == 0.0064


def test_further_metadata_of_a_node_is_json() -> None:
    record = golden()["node_tool"]
    body = msgspec.structs.replace(record.event.node_execution, metadata='{"tool_info": {"a": 1}}')  # type: ignore[type-var]
    span = objects(changed(record, node_execution=body))["span"]
    assert span["metadata"]["metadata"] == {"tool_info": {"a": 1}}


def test_the_price_is_written_as_its_text() -> None:
    parts = to_parts(changed(golden()["node_llm"], total_price="0.12345678901234567890"), "p")
    assert isinstance(parts, tuple)
    assert b'"total_estimated_cost":0.12345678901234567890' in (parts[1] or b"")


def test_opiks_names_of_providers() -> None:
    record = changed(golden()["node_llm"], {"provider_name": "gcp.gemini"})
    assert objects(record)["span"]["provider"] == "google_ai"


@pytest.mark.parametrize(
    ("event", "want"),
    [
        (
            {"status": "failed", "error": None},
            {"exception_type": "HTTPError", "message": "", "traceback": "failed"},
        ),
        (
            {"error": " ", "error_type": " "},
            {"exception_type": "Error", "message": " ", "traceback": "failed"},
        ),
        (
            {"status": "stopped", "error": "by hand"},
            {"exception_type": "HTTPError", "message": "by hand", "traceback": "by hand"},
        ),
        ({"status": "succeeded", "error": ""}, None),
        ({"status": None, "error": None}, None),
    ],
)
def test_errors(event: dict[str, Any], want: dict[str, str] | None) -> None:
    assert objects(changed(golden()["node_failed_in_iteration"], **event))["span"].get("error_info") == want


def test_a_tool_shows_its_own_inputs_or_those_of_the_event() -> None:
    span = objects(changed(golden()["tool"], tool=Tool(call_id="c")))["span"]
    assert (span["input"], span["output"]) == (
        {"query": "Where is my order?"},
        {"output": "It ships tomorrow."},
    )
    assert "message_inputs" not in span["metadata"]


@pytest.mark.parametrize(
    ("process_data", "want"),
    [
        (
            '{"prompts": [{"role": "system", "text": "a", "files": []}], "x": 1}',
            {"messages": [{"role": "system", "content": "a", "files": []}]},
        ),
        ('{"prompts": [{"content": "a", "text": "b"}]}', {"messages": [{"content": "a", "text": "b"}]}),
        ('{"prompts": []}', {"context": "Order A-1001 ships on 2 March."}),
        ('{"prompts": "a"}', {"context": "Order A-1001 ships on 2 March."}),
        ('{"prompts": [{"text": "a"}', {"context": "Order A-1001 ships on 2 March."}),
        (None, {"context": "Order A-1001 ships on 2 March."}),
    ],
)
def test_a_models_node_shows_its_prompts(process_data: str | None, want: Any) -> None:
    record = golden()["node_llm"]
    body = msgspec.structs.replace(record.event.node_execution, process_data=process_data)  # type: ignore[type-var]
    span = objects(changed(record, node_execution=body))["span"]
    assert span["input"] == want
    assert ("inputs" in span["metadata"]) is ("messages" in want)


def test_without_content_everything_else_is_sent() -> None:
    """What a content policy leaves."""
    record = golden()["node_llm"]
    body = msgspec.structs.replace(record.event.node_execution, process_data=None)  # type: ignore[type-var]
    span = objects(changed(record, inputs=None, outputs=None, node_execution=body))["span"]
    assert not {"input", "output"} & span.keys()
    assert span["usage"]


def test_marks_are_metadata() -> None:
    span = objects(changed(golden()["node_llm"], {"marks": ("clock_skew",)}))["span"]
    assert span["metadata"]["tailrace.marks"] == ["clock_skew"]


def test_an_environment_is_cut_to_what_opik_takes() -> None:
    assert len(objects(changed(golden()["node_llm"], environment="e" * 151))["span"]["environment"]) == 150


@pytest.mark.parametrize("name", ALL)
def test_the_same_record_is_the_same_bytes(name: str) -> None:
    first, second = (to_parts(golden(FIELDS)[name], "p") for _ in range(2))
    assert first == second
    assert first == to_parts(golden(None)[name], "p")  # nothing is read that FIELDS has not


# -- ratings
def test_ratings_of_messages() -> None:
    like = golden()["feedback_like"]
    trace = objects(golden()["message"])["trace"]["id"]
    entity, rated, name, body = objects(like)["score"]
    assert (entity, rated, name) == ("traces", trace, "user_feedback")
    dislike = json.loads(objects(changed(like, rating="dislike", feedback=None))["score"][3])
    assert (dislike["value"], dislike["category_name"], "reason" in dislike) == (0, "dislike", False)
    assert objects(golden()["feedback_withdrawn"])["score"] == ("traces", trace, "admin_feedback", None)
    assert body


def test_a_rating_of_what_is_no_root_is_a_span_score() -> None:
    outer = {"root_trace_id": "outer", "trace_started_at": START}
    message = changed(golden()["message"], {**outer, "parent_span_id": b"12345678"})
    like = changed(golden()["feedback_like"], {**outer})
    assert objects(like)["score"][:2] == ("spans", objects(message)["span"]["id"])


def test_a_rating_of_a_trace_whose_start_is_unknown_is_refused_and_not_sent_astray() -> None:
    like = golden()["feedback_like"]
    late = changed(like, {"marks": ("start_unknown",)})
    found = to_parts(late, "p")
    assert isinstance(found, Rejected)
    assert found.reason == "trace_start_unknown"
    assert "root_started_at" in found.detail
    assert isinstance(to_parts(changed(late, root_started_at=like.event.started_at), "p"), tuple)
    assert isinstance(to_parts(late, "p", id_time_ms=1_800_000_000_000), tuple)


def test_ratings_have_no_window_and_unknown_ones_are_refused() -> None:
    like = golden()["feedback_like"]
    assert isinstance(to_parts(changed(like, {"appended_at": 0}), "p", 24 * HOUR), tuple)
    found = to_parts(changed(like, rating="meh"), "p")
    assert isinstance(found, Rejected)
    assert found.reason == "unknown_rating"


# -- evaluations
def scored(body: Evaluation | None, **changes: Any) -> Any:
    """The score of an evaluation of a trace, or why there is none."""
    record = changed(golden()["evaluation_of_trace"], evaluation=body, **changes)
    parts = to_parts(record, "p")
    if not isinstance(parts, tuple):
        return parts
    check(parts)
    assert parts[2] is not None
    return json.loads(parts[2][3] or b"{}")


def test_an_evaluation_is_a_score_of_what_it_is_about() -> None:
    found = golden()
    trace, span = objects(found["message"])["trace"]["id"], objects(found["node_llm"])["span"]["id"]
    conversation = found["message"].event.conversation_id
    wanted = {
        "evaluation_of_trace": ("traces", trace, "policy"),
        "evaluation_of_operation": ("spans", span, "correctness"),
        "evaluation_of_session": ("traces/threads", conversation, "resolved"),
    }
    assert {n: objects(found[n])["score"][:3] for n in wanted} == wanted


@pytest.mark.parametrize(
    ("body", "value", "category"),
    [
        (Evaluation(number=0.5, label="so so"), 0.5, "so so"),
        (Evaluation(number=-2.0), -2.0, None),
        (Evaluation(flag=True), 1, None),
        (Evaluation(flag=False), 0, None),
        (Evaluation(label=" Correct "), 1, " Correct "),
        (Evaluation(label="not_relevant"), 0, "not_relevant"),
    ],
)
def test_the_value_of_an_evaluation(body: Evaluation, value: float, category: str | None) -> None:
    score = scored(body)
    assert (score["value"], score.get("category_name"), "reason" in score) == (value, category, False)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "no_result"),
        (Evaluation(number=float("inf")), "not_finite"),
        (Evaluation(number=float(LIMIT)), "value_out_of_range"),
        (Evaluation(number=-1e300), "value_out_of_range"),
        (Evaluation(flag=True, explanation="\ud800"), "not_json"),
    ],
)
def test_an_evaluation_that_opik_cannot_have(body: Evaluation | None, reason: str) -> None:
    found = scored(body)
    assert isinstance(found, Rejected)
    assert found.reason == reason


def test_a_label_of_unknown_worth_is_left_out() -> None:
    assert scored(Evaluation(label="delivery")) == Skip("label_without_number")
    assert scored(Evaluation(label="delivery", number=3.0))["category_name"] == "delivery"


def test_a_session_that_is_no_conversation_is_left_out() -> None:
    of_session = golden()["evaluation_of_session"]
    assert to_parts(changed(of_session, conversation_id=None), "p") == Skip("no_thread")
    nothing = to_parts(changed(of_session, conversation_id=None, session_id=None), "p")
    assert isinstance(nothing, Rejected)
    assert nothing.reason == "no_target"
    broken = to_parts(changed(of_session, conversation_id="\ud800"), "p")
    assert isinstance(broken, Rejected)
    assert broken.reason == "not_json"


def test_a_late_evaluation_is_not_sent_astray_and_that_of_a_session_needs_no_start() -> None:
    found = golden()
    for name in ("evaluation_of_trace", "evaluation_of_operation"):
        late = changed(found[name], {"marks": ["start_unknown"]})
        refused = to_parts(late, "p")
        assert isinstance(refused, Rejected)
        assert refused.reason == "trace_start_unknown"
        assert isinstance(to_parts(changed(late, root_started_at=late.event.started_at), "p"), tuple)
    of_session = found["evaluation_of_session"]
    assert of_session.context.trace_started_at == of_session.event.started_at
    assert isinstance(to_parts(of_session, "p"), tuple)


def test_kinds_without_a_trace_are_left_out() -> None:
    for kind in (Kind.APP_CREATED, Kind.REHYDRATION_FAILED, Kind.UNKNOWN, Kind.LINK):
        assert to_parts(changed(golden()["message"], kind=kind), "p") == Skip("not_traced")


# -- totality
@given(events, contexts, st.sampled_from([0, HOUR]), st.sampled_from([0, 1_800_000_000_000]))
def test_any_event_maps_or_says_why_not(event: Any, context: Any, window: int, id_time: int) -> None:
    record = Enriched(event, context, "t", 0, 0, 0)
    parts = to_parts(record, "p", window, id_time)
    if isinstance(parts, Skip | Rejected):
        assert parts.reason
        return
    assert parts == to_parts(record, "p", window, id_time)
    check(parts)


@given(st.data())
def test_any_event_of_today_is_what_opik_takes(data: st.DataObject) -> None:
    """Times as they are, everything else as it comes: nothing but its texts can be at fault."""
    event = msgspec.structs.replace(data.draw(events), started_at=START, ended_at=START + 5)
    context = msgspec.structs.replace(data.draw(contexts), trace_started_at=START)
    event = msgspec.structs.replace(event, kind=data.draw(st.sampled_from(sorted(OPERATIONS))))
    parts = to_parts(Enriched(event, context, "t", 0, 0, 0), "p")
    if isinstance(parts, Rejected):
        assert parts.reason == "invalid_id"
        assert not any((context.root_trace_id, event.trace_id, event.source_id))
        return
    assert isinstance(parts, tuple)
    check(parts)


def check(parts: Parts) -> None:
    for name, body in (("traces", parts[0]), ("spans", parts[1])):
        if body is not None:
            assert list(problems(name, json.loads(body))) == []
    if parts[2] is not None and parts[2][3] is not None:
        of = "thread_scores" if parts[2][0] == "traces/threads" else "scores"
        assert list(problems(of, json.loads(parts[2][3]))) == []


def test_text_that_is_no_unicode_is_rejected() -> None:
    event = make_event(1, name="\ud800")
    found = to_parts(Enriched(event, make_context(event), "t", 0, 0, 0), "p")
    assert isinstance(found, Rejected)
    assert found.reason == "not_json"


def test_ids_of_operations_are_those_of_their_source_ids() -> None:
    """What docs/sinks/opik.md says of them, once more by hand."""
    record = golden()["node_llm"]
    ms = record.context.trace_started_at // 1000
    scope, _ = opik_ids.trace_scope(ms, "Default Project", record.context.root_trace_id or "")
    want = [
        opik_ids.span_id(ms, scope, ids.otel_span_id(s or ""))
        for s in (record.event.source_id, record.context.parent_source_id)
    ]
    span = objects(record)["span"]
    assert [span["id"], span["parent_span_id"]] == want
    assert all(a != b for a, b in itertools.combinations([*want, span["trace_id"]], 2))
