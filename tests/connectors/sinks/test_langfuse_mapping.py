"""What becomes of an event at Langfuse: the mapping, beyond the golden payloads and the seed's rows
(tests/seeds)."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.filters.content import ContentPolicy
from connectors.mapping.attributes import decimal_seconds
from connectors.sdk.contract import Enriched, Payload, Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.langfuse.mapping import FIELDS
from connectors.sinks.langfuse.sink import Langfuse, Score
from connectors.sinks.langfuse.values import MAX_TIME, environment
from connectors.testing.doubles import otlp_request
from connectors.testing.doubles.langfuse_store import LangfuseStore, score_of
from tailrace import ids
from tailrace.records import (
    Evaluation,
    Feedback,
    Kind,
    Message,
    NodeExecution,
    Origin,
    SuggestedQuestion,
    TraceContext,
    TraceEvent,
)
from tests.connectors import generated
from tests.connectors.enriching import make_context, make_event
from tests.golden.events import golden
from tests.seeds.walker import readable


def make(**values: Any) -> Langfuse:
    return Langfuse(Langfuse.Settings(**{"public_key": "pk-lf-1", "secret_key": "sk-lf-1", **values}))


def record(
    kind: Kind = Kind.NODE_EXECUTION, context: dict[str, Any] | None = None, **changes: Any
) -> Enriched:
    body = (
        {}
        if kind in (Kind.NODE_EXECUTION, Kind.DRAFT_NODE_EXECUTION)
        else {"node_execution": None, "node_type": None}
    )
    event = make_event(1, kind=kind, **{**body, **changes})
    return Enriched(event, make_context(event, **(context or {})), "t", 0, 0, 0)


def attributes(found: Enriched, **values: Any) -> dict[str, Any]:
    sink = make(**values)
    payload = sink.map(found)
    assert isinstance(payload, Payload), payload
    return dict(readable(sink.render(payload))["attributes"])


def stored(sink: Langfuse, payload: Payload) -> LangfuseStore:
    """What Langfuse would make of it."""
    store = LangfuseStore()
    if isinstance(payload.body, Score):
        store.add_score(score_of(msgspec.json.decode(payload.body.data)))
    else:
        store.add_spans(otlp_request.parse(sink.request([payload.body]), 1, 0))
    return store


# -- whatever comes
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(
    generated.events,
    generated.contexts,
    st.sampled_from(["", "Prod / EU"]),
    st.sampled_from(["leaves", "all"]),
)
def test_any_record_is_what_langfuse_takes_or_a_rejection(
    event: TraceEvent, context: TraceContext, environment: str, usage: str
) -> None:
    sink = make(environment=environment, usage=usage)
    found = Enriched(event, context, "t", 0, 0, 0)
    mapped = sink.map(found)
    assert sink.map(found) == mapped
    if isinstance(mapped, Payload):
        assert mapped.size == len(mapped.body.data if isinstance(mapped.body, Score) else mapped.body)
        assert stored(sink, mapped).problems == []
    else:
        assert isinstance(mapped, Skip | Rejected)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    generated.events,
    generated.contexts,
    st.integers(1, MAX_TIME // 2),
    st.sampled_from([k for k in Kind if k != "link"]),
)
def test_any_record_of_our_time_is_sent(
    event: TraceEvent, context: TraceContext, start: int, kind: Kind
) -> None:
    event = msgspec.structs.replace(event, kind=kind, started_at=start + 1000, ended_at=start + 2000)
    context = msgspec.structs.replace(context, span_id=b"spanspan", message_trace_id=b"tracetracetracet")
    if kind == Kind.EVALUATION:  # as a publisher checks them
        body = Evaluation(flag=True, explanation=event.error)
        event = msgspec.structs.replace(event, evaluation=body, evaluation_target="trace")
        context = msgspec.structs.replace(context, root_trace_id="root")
    if kind == Kind.FEEDBACK and event.rating:
        event = msgspec.structs.replace(event, rating="dislike")
    sink = make()
    mapped = sink.map(Enriched(event, context, "t", 0, 0, 0))
    if isinstance(mapped, Skip):
        assert mapped.reason in ("no_observation", "nothing_rated")
        return
    assert isinstance(mapped, Payload), mapped
    assert stored(sink, mapped).problems == []


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(generated.events, generated.contexts, st.sampled_from(list(Kind)))
def test_fields_that_are_not_asked_for_are_not_read(
    event: TraceEvent, context: TraceContext, kind: Kind
) -> None:
    event = msgspec.structs.replace(event, kind=kind, started_at=10**15, ended_at=10**15)
    other = {
        f.name: f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory()
        for f in msgspec.structs.fields(TraceEvent)
        if f.name not in FIELDS
    }
    sink = make(usage="all")
    without = msgspec.structs.replace(event, **other)
    assert sink.map(Enriched(event, context, "t", 0, 0, 0)) == sink.map(
        Enriched(without, context, "t", 0, 0, 0)
    )


def test_text_that_utf_8_cannot_say_rejects_the_record() -> None:
    for changes in (
        {"name": "\ud800"},
        {"inputs": '"\ud800"'},
        {"attributes": {"\ud800": "x"}},
        {"tenant_id": "\udfff"},
    ):
        mapped = make().map(record(**changes))
        assert isinstance(mapped, Rejected)
        assert mapped.reason == "not_utf8"
    assert isinstance(make().map(record(Kind.FEEDBACK, feedback=Feedback(content="\ud800"))), Rejected)


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ({"started_at": -1}, "time_out_of_range"),
        ({"started_at": 0}, "time_out_of_range"),
        ({"started_at": 999}, "time_out_of_range"),
        ({"ended_at": 2**63 - 1}, "time_out_of_range"),
    ],
)
def test_times_that_langfuse_cannot_keep(times: dict[str, Any], reason: str) -> None:
    mapped = make().map(record(**times))
    assert isinstance(mapped, Rejected)
    assert mapped.reason == reason


def test_a_missing_id_rejects_the_record() -> None:
    for empty in ({"span_id": bytes(8)}, {"message_trace_id": bytes(16)}):
        mapped = make().map(record(context=empty))
        assert isinstance(mapped, Rejected)
        assert mapped.reason == "invalid_id"


# -- the trace
def test_all_of_a_trace_has_the_same_name_user_and_session() -> None:
    traces: dict[str, list[dict[str, Any]]] = defaultdict(list)
    sink = make()
    for found in golden(FIELDS).values():
        payload = sink.map(found)
        if isinstance(payload, Payload) and not isinstance(payload.body, Score):
            span = readable(sink.render(payload))
            traces[span["traceId"]].append(span)
    assert sorted(map(len, traces.values())) == [1, 1, 1, 2, 3, 10]
    for spans in traces.values():
        for name in ("langfuse.trace.name", "user.id", "session.id", "langfuse.environment"):
            found_names = {span["attributes"].get(name) for span in spans}
            if name == "langfuse.trace.name":  # only the root of a trace of spans says it
                found_names -= {None} if len(spans) > 1 else set()
            assert len(found_names) == 1, name
        assert sum("parentSpanId" not in span for span in spans) == 1
        ids = {span["spanId"] for span in spans}
        missing = {span["parentSpanId"] for span in spans if "parentSpanId" in span} - ids
        assert len(missing) <= 1  # the iteration whose node failed is not among the golden events


def test_start_is_the_same_to_the_millisecond_whatever_the_microseconds() -> None:
    """Langfuse replaces by trace, observation and start: a start that is not the same is another
    observation."""
    starts = set()
    for us in (123_000, 123_001, 123_999):
        payload = make().map(
            record(started_at=1_700_000_000_000_000 + us, ended_at=1_700_000_000_000_000 + us)
        )
        assert isinstance(payload, Payload)
        span = make().render(payload)
        starts.add(span["startTimeUnixNano"])
        assert span["endTimeUnixNano"] >= span["startTimeUnixNano"]
    assert starts == {"1700000000123000000"}


def test_a_nested_run_is_named_after_the_root() -> None:
    inner = record(
        Kind.WORKFLOW_RUN,
        {"root_trace_id": "message-1", "root_run_id": "outer"},
        trace_id="inner",
        source_id="inner",
        workflow_run_id="inner",
        parent_run_id="outer",
    )
    found = attributes(inner)
    assert found["langfuse.trace.name"] == "message_message-1"
    assert found["langfuse.observation.metadata.parent_run_id"] == "outer"


def test_a_trace_without_message_or_run_is_named_by_its_root_alone() -> None:
    ours = {"workflow_run_id": None, "trace_id": "job", "session_id": "s", "user_id": "u", "name": "Plan"}
    root = attributes(record(Kind.SPAN, {"parent_span_id": None, "root_trace_id": "job"}, **ours))
    child = attributes(record(Kind.SPAN, {"parent_span_id": b"spanspan", "root_trace_id": "job"}, **ours))
    assert root["langfuse.trace.name"] == "Plan"
    assert "langfuse.trace.name" not in child
    assert (child["user.id"], child["session.id"]) == ("u", "s")


def test_users_and_sessions_are_cut_at_what_langfuse_takes() -> None:
    found = attributes(record(session_id="s" * 300, conversation_id="c" * 300, name="n" * 2000))
    assert (len(found["user.id"]), len(found["session.id"])) == (200, 200)
    payload = make().map(record(name="n" * 2000))
    assert isinstance(payload, Payload)
    assert len(make().render(payload)["name"]) == 1000


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("production", "production"),
        (" Prod / EU ", "prod---eu"),
        ("langfuse-staging", "staging"),
        ("langfuselangfuse", ""),
        ("langfuse", ""),
        ("Ünïcode", "-n-code"),
        ("x" * 50, "x" * 40),
        ("", ""),
        ("a_b-c9", "a_b-c9"),
    ],
)
def test_environments(text: str, name: str) -> None:
    assert environment(text) == name


@given(st.text())
def test_an_environment_is_one_that_langfuse_takes_or_none(text: str) -> None:
    found = environment(text)
    assert len(found) <= 40
    assert not found.startswith("langfuse")
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")


def test_the_settings_environment_is_everywhere() -> None:
    found = golden(FIELDS)
    assert (
        attributes(found["message"], environment="Staging", release="v7")["langfuse.environment"] == "staging"
    )
    assert attributes(found["message"], environment="Staging", release="v7")["langfuse.release"] == "v7"
    score = make(environment="Staging").map(found["feedback_like"])
    assert isinstance(score, Payload)
    assert make().render(score)["environment"] == "staging"


# -- tokens and cost
def test_the_tokens_of_a_trace_are_counted_once() -> None:
    for usage, want in (("leaves", 1540 + 60 + 1540), ("all", 1540 * 4 + 60)):
        sink, store = make(usage=usage), LangfuseStore()
        for found in golden(FIELDS).values():
            payload = sink.map(found)
            if isinstance(payload, Payload) and not isinstance(payload.body, Score):
                store.add_spans(otlp_request.parse(sink.request([payload.body]), 1, 0))
        # the node's and, as the golden events have both, those of the span inside it; and the suggested
        # questions'
        assert store.tokens("00000003000040008000000000000003") == want


def test_a_message_without_a_run_is_the_generation() -> None:
    chat = {
        "input_tokens": 3,
        "output_tokens": 4,
        "total_tokens": 7,
        "model_name": "gpt-4o",
        "workflow_run_id": None,
    }
    found = attributes(
        record(Kind.MESSAGE, {"request_model": "gpt-4o"}, message_id="m", total_price="0.10", **chat)
    )
    assert found["langfuse.observation.type"] == "generation"
    assert found["langfuse.observation.model.name"] == "gpt-4o"
    assert json.loads(found["langfuse.observation.usage_details"]) == {"input": 3, "output": 4, "total": 7}
    assert found["langfuse.observation.cost_details"] == '{"total":0.10}'


UNUSABLE = ("-1", "1e400", "9e99", "10000000", "9" * 80)


def test_prices_are_the_decimal_text_they_were() -> None:
    text = "0.00000012345678901234567890"
    assert attributes(record(total_price=text))["langfuse.observation.cost_details"] == f'{{"total":{text}}}'
    for odd, number in ((".5", "0.5"), ("+1", "1"), ("01", "1"), ("1.", "1"), ("+5e-1", "0.5")):
        found = attributes(record(total_price=odd, currency="usd"))
        assert found["langfuse.observation.cost_details"] == f'{{"total":{number}}}'
    for wrong in ("", "NaN", "1_000", "0x1", "Infinity", "1,5", "１", "$1", *UNUSABLE):
        assert "langfuse.observation.cost_details" not in attributes(
            record(total_price=wrong, currency="USD")
        ), wrong
    found = attributes(record(total_price="5", input_price="3", output_price="2"))
    assert found["langfuse.observation.cost_details"] == '{"input":3,"output":2,"total":5}'
    assert "langfuse.observation.cost_details" not in attributes(record(input_price="3"))
    found = attributes(record(total_price="7", input_price="3", currency="RMB"))
    assert "langfuse.observation.cost_details" not in found
    assert found["langfuse.observation.metadata.total_price"] == "7"
    assert found["langfuse.observation.metadata.currency"] == "RMB"


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({}, '{"total":0.25}'),
        ({"total_price": "0.0"}, '{"total":0.25}'),
        ({"total_price": "0", "input_price": "0.0", "output_price": "0"}, '{"total":0.25}'),
        ({"total_price": "$0.5"}, '{"total":0.25}'),
        ({"total_price": "-1"}, '{"total":0.25}'),
        ({"total_price": "1e400"}, '{"total":0.25}'),
        ({"total_price": "9e99", "currency": "USD"}, '{"total":0.25}'),
        ({"total_price": "10000000"}, '{"total":0.25}'),
        ({"total_price": "9" * 80}, '{"total":0.25}'),
        ({"total_price": "0.0", "currency": "EUR"}, '{"total":0.25}'),
        ({"input_price": "0.1"}, '{"total":0.25}'),
    ],
)
def test_an_estimate_is_sent_where_there_is_no_price_above_0(prices: dict[str, str], cost: str) -> None:
    context = {"estimated_cost": "0.25", "price_table": "t"}
    assert (
        attributes(record(Kind.NODE_EXECUTION, context, **prices))["langfuse.observation.cost_details"]
        == cost
    )


def test_a_retrieval_has_neither_the_model_nor_the_tokens_of_its_message() -> None:
    found = attributes(record(Kind.DATASET_RETRIEVAL, model_name="gpt-4o", total_tokens=9, total_price="1"))
    assert not any("usage" in k or "cost" in k or "model.name" in k for k in found)
    assert found["langfuse.observation.metadata.ls_model_name"] == "gpt-4o"


def test_tokens_below_zero_are_left_out() -> None:
    assert "langfuse.observation.usage_details" not in attributes(record(total_tokens=-1))
    assert (
        attributes(record(total_tokens=-1, input_tokens=2))["langfuse.observation.usage_details"]
        == '{"input":2}'
    )


# -- what went wrong
@pytest.mark.parametrize(
    ("status", "error", "level"),
    [
        ("succeeded", None, "DEFAULT"),
        ("normal", None, "DEFAULT"),
        (None, None, "DEFAULT"),
        ("failed", None, "ERROR"),
        ("exception", None, "ERROR"),
        ("error", None, "ERROR"),
        ("succeeded", "boom", "ERROR"),
        ("partial-succeeded", None, "WARNING"),
        ("stopped", None, "WARNING"),
        ("paused", None, "DEFAULT"),
    ],
)
def test_levels(status: str | None, error: str | None, level: str) -> None:
    """A node's own error, not its run's."""
    found = attributes(record(status=status, error=error))
    assert found["langfuse.observation.level"] == level
    assert found.get("langfuse.observation.status_message") == error


def test_a_suggestions_level_is_its_own_unless_it_failed() -> None:
    body = SuggestedQuestion(level="warning", status_message="slow")
    assert (
        attributes(record(Kind.SUGGESTED_QUESTION, suggested_question=body))["langfuse.observation.level"]
        == "WARNING"
    )
    assert (
        attributes(record(Kind.SUGGESTED_QUESTION, suggested_question=body, status="failed"))[
            "langfuse.observation.level"
        ]
        == "ERROR"
    )
    odd = SuggestedQuestion(level="normal")
    assert (
        attributes(record(Kind.SUGGESTED_QUESTION, suggested_question=odd))["langfuse.observation.level"]
        == "DEFAULT"
    )


# -- content and metadata
def test_content_goes_through_as_it_is() -> None:
    text = '{"a": [1,  2.50, "\\u00e9", "é"], "b": null}'
    found = attributes(record(inputs=text, outputs="null"))
    assert found["langfuse.observation.input"] == text
    assert found["langfuse.observation.output"] == "null"
    assert not any("put" in k for k in attributes(record(inputs=None, outputs=None)) if "metadata" not in k)


def test_a_body_stands_in_for_missing_content() -> None:
    found = attributes(record(Kind.MESSAGE, message_id="m", message=Message(query='say "hi"'), inputs=None))
    assert json.loads(found["langfuse.observation.input"]) == 'say "hi"'


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (
            '{"prompts": [{"role": "user", "text": "a\\u00e9", "files": [ 1.50 ]}], "x": 1}',
            '[{"role":"user","content":"a\\u00e9","files":[ 1.50 ]}]',
        ),
        (
            '{"prompts": [{"role": "user", "text": "a", "content": "b"}]}',
            '[{"role":"user","text":"a","content":"b"}]',
        ),
        ('{"prompts": []}', None),
        ('{"prompts": "ref:x"}', None),
        ('"ref:node_execution_id=1"', None),
        ("{", None),
        ("{}", None),
        ('{"prompts": [{"text": ' + "[" * 100_000 + "]" * 100_000 + "}]}", None),
    ],
)
def test_a_models_input_is_what_it_was_given(data: str, shown: str | None) -> None:
    found = attributes(
        record(node_type="llm", node_execution=NodeExecution(process_data=data), inputs='{"a":1}')
    )
    assert found["langfuse.observation.input"] == (shown or '{"a":1}')
    assert found.get("langfuse.observation.metadata.inputs") == ('{"a":1}' if shown else None)
    assert found.get("langfuse.observation.metadata.process_data") == (None if shown else data)
    other = attributes(
        record(node_type="code", node_execution=NodeExecution(process_data=data), inputs='{"a":1}')
    )
    assert other["langfuse.observation.input"] == '{"a":1}'


def test_an_events_own_attributes_do_not_replace_ours() -> None:
    found = attributes(
        record(attributes={"status": "mine", "temperature": "0.2", "": "x", "langfuse.x": "y"})
    )
    assert found["langfuse.observation.metadata.status"] == "succeeded"
    assert found["langfuse.observation.metadata.temperature"] == "0.2"
    assert found["langfuse.observation.metadata.langfuse.x"] == "y"
    assert "langfuse.observation.metadata." not in found


def test_no_attribute_comes_twice() -> None:
    sink = make(environment="e", release="r")
    for found in golden(FIELDS).values():
        payload = sink.map(found)
        if isinstance(payload, Payload) and not isinstance(payload.body, Score):
            names = [a["key"] for a in sink.render(payload)["attributes"]]
            assert len(names) == len(set(names))


def test_seconds() -> None:
    assert [decimal_seconds(us) for us in (0, 1, 1_500_000, 2_000_000, 10_000_010)] == [
        "0",
        "0.000001",
        "1.5",
        "2",
        "10.00001",
    ]
    assert decimal_seconds(-1_500_000) == "-1.5"


@given(st.integers(-(2**63), 2**63 - 1))
def test_seconds_are_exact(us: int) -> None:
    from decimal import Decimal

    assert Decimal(decimal_seconds(us)) * 1_000_000 == us


def test_node_types() -> None:
    types = {
        "llm": "generation",
        "question-classifier": "generation",
        "parameter-extractor": "generation",
        "agent": "agent",
        "tool": "tool",
        "knowledge-retrieval": "retriever",
        "iteration": "chain",
        "loop": "chain",
        "code": "span",
        "a-plugin's": "span",
    }
    for kind in (Kind.NODE_EXECUTION, Kind.DRAFT_NODE_EXECUTION):
        for node_type, want in types.items():
            assert attributes(record(kind, node_type=node_type))["langfuse.observation.type"] == want
    assert (
        attributes(record(node_type="a-plugin's", model_name="m"))["langfuse.observation.type"]
        == "generation"
    )


def test_an_iterations_tokens_are_those_of_the_nodes_inside() -> None:
    found = attributes(record(node_type="iteration", total_tokens=9, node_execution=NodeExecution()))
    assert "langfuse.observation.usage_details" not in found
    assert found["langfuse.observation.metadata.total_tokens"] == "9"


# -- feedback
def rated(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "message_id": "m",
        "rating": "like",
        "origin": Origin(from_end_user_id="u1"),
        **changes,
    }
    payload = make().map(record(Kind.FEEDBACK, **fields))
    assert isinstance(payload, Payload)
    return dict(make().render(payload))


def test_a_changed_mind_is_the_same_score() -> None:
    scores = [
        rated(rating=r, source_id=f"f{i}", started_at=1_700_000_000_000_000 + i * 1_000_000)
        for i, r in enumerate(("like", "dislike", None))
    ]
    assert [s["value"] for s in scores] == [1, -1, 0]
    assert [s["metadata"]["rating"] for s in scores] == ["like", "dislike", "withdrawn"]
    assert len({s["id"] for s in scores}) == 1
    others = [
        rated(origin=Origin(from_account_id="a1")),
        rated(message_id="m2"),
        rated(origin=None, user_id=None),
    ]
    assert len({s["id"] for s in (*scores, *others)}) == 4


@pytest.mark.parametrize("rating", ["LIKE", "5 stars", "0", " like"])
def test_an_unknown_rating_is_refused_and_withdraws_nothing(rating: str) -> None:
    mapped = make().map(record(Kind.FEEDBACK, message_id="m", rating=rating))
    assert isinstance(mapped, Rejected)
    assert mapped.reason == "unknown_rating"


def test_an_empty_rating_is_a_withdrawal_as_null_is() -> None:
    assert rated(rating="") == rated(rating=None)


def test_feedback_without_a_message_is_of_the_conversation_or_left_out() -> None:
    found = rated(message_id=None, workflow_run_id=None, conversation_id="c")
    assert found["sessionId"] == "c"
    assert "traceId" not in found
    mapped = make().map(record(Kind.FEEDBACK, message_id=None, workflow_run_id=None, rating="like"))
    assert mapped == Skip("nothing_rated")


# -- evaluations
IN_TRACE: dict[str, Any] = {"parent_span_id": None, "parent_source_id": None, "root_trace_id": "run-0"}
OF_RUN = ids.otel_trace_id("run-0").hex()


def scored(
    body: Evaluation | None, context: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any] | Rejected:
    found = record(Kind.EVALUATION, IN_TRACE if context is None else context, evaluation=body, **fields)
    payload = make().map(found)
    if isinstance(payload, Rejected):
        return payload
    assert isinstance(payload, Payload)
    [score] = stored(make(), payload).scores.values()  # Langfuse takes it
    assert score.id
    return dict(make().render(payload))


@pytest.mark.parametrize(
    ("body", "kind", "value", "label"),
    [
        (Evaluation(number=0.25), "NUMERIC", 0.25, None),
        (Evaluation(number=-7.0, label="bad"), "NUMERIC", -7.0, "bad"),
        (Evaluation(label="übel"), "CATEGORICAL", "übel", None),
        (Evaluation(flag=True), "BOOLEAN", 1, None),
        (Evaluation(flag=False), "BOOLEAN", 0, None),
    ],
)
def test_the_result_of_an_evaluation(body: Evaluation, kind: str, value: Any, label: str | None) -> None:
    score = scored(body, name="tone")
    assert isinstance(score, dict)
    assert (score["dataType"], score["value"], score["name"]) == (kind, value, "tone")
    assert score["metadata"].get("label") == label
    assert "comment" not in score


def test_what_an_evaluation_is_about() -> None:
    body = Evaluation(flag=True)
    trace, operation, session = (
        scored(body),
        scored(
            body, {"root_trace_id": "run-0", "parent_span_id": b"12345678"}, evaluation_target="operation"
        ),
        scored(
            body,
            {"root_trace_id": None, "parent_span_id": None},
            evaluation_target="session",
            conversation_id="c" * 300,
            session_id="s",
        ),
    )
    names = ("traceId", "observationId", "sessionId")
    found = [{k: s[k] for k in names if k in s} for s in (trace, operation, session) if isinstance(s, dict)]
    assert found == [
        {"traceId": OF_RUN},
        {"traceId": OF_RUN, "observationId": b"12345678".hex()},
        {"sessionId": "c" * 200},
    ]


def test_a_corrected_evaluation_is_the_same_score() -> None:
    first = scored(Evaluation(number=1.0), source_id="own")
    again = scored(Evaluation(number=0.0), source_id="own", revision=1, event_id="e2")
    other = scored(Evaluation(number=1.0), source_id="else")
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert isinstance(other, dict)
    assert first["id"] == again["id"] != other["id"]


@pytest.mark.parametrize(
    ("body", "context", "fields", "reason"),
    [
        (None, None, {}, "no_result"),
        (Evaluation(explanation="x"), None, {}, "no_result"),
        (Evaluation(number=float("nan")), None, {}, "not_finite"),
        (Evaluation(flag=True), None, {"evaluation_target": "operation"}, "no_target"),
        (Evaluation(flag=True), None, {"evaluation_target": "session"}, "no_target"),
        (Evaluation(flag=True), IN_TRACE | {"message_trace_id": bytes(16)}, {}, "invalid_id"),
        (Evaluation(flag=True), None, {"started_at": -1}, "time_out_of_range"),
        (Evaluation(flag=True, explanation="\ud800"), None, {}, "not_utf8"),
    ],
)
def test_an_evaluation_that_langfuse_cannot_have(
    body: Evaluation | None, context: dict[str, Any] | None, fields: dict[str, Any], reason: str
) -> None:
    found = scored(body, context, **fields)
    assert isinstance(found, Rejected)
    assert found.reason == reason


def test_content_policies_apply_to_explanations() -> None:
    about = Evaluation(number=1.0, label="to a@b.example", explanation="write to a@b.example", evaluator="j")
    found = record(Kind.EVALUATION, IN_TRACE, evaluation=about)
    for policy, comment, label in (
        ("full", "write to a@b.example", "to a@b.example"),
        ("masked", "write to [email]", "to [email]"),
        ("none", None, "to [email]"),
        ("reference", None, "to [email]"),
    ):
        admitted = msgspec.structs.replace(found, event=ContentPolicy(policy).apply(found.event))
        payload = make().map(admitted)
        assert isinstance(payload, Payload)
        score = make().render(payload)
        assert (score.get("comment"), score["metadata"]["label"]) == (comment, label)


@pytest.mark.parametrize(
    "kind", ["app_created", "app_updated", "app_deleted", "rehydration_failed", "unknown", "link"]
)
def test_what_is_no_operation_is_filtered(kind: str) -> None:
    assert make().map(record(Kind(kind))) == Skip("no_observation")


def test_settings_do_not_change_ids_or_times() -> None:
    variants = [
        dict(zip(("usage", "environment"), v, strict=True))
        for v in itertools.product(("leaves", "all"), ("", "x"))
    ]
    for found in golden(FIELDS).values():
        keys = set()
        for values in variants:
            sink = make(**values)
            payload = sink.map(found)
            if isinstance(payload, Payload):
                shown = sink.render(payload)
                keys.add(
                    tuple(shown.get(k) for k in ("traceId", "spanId", "startTimeUnixNano", "id", "timestamp"))
                )
        assert len(keys) <= 1
