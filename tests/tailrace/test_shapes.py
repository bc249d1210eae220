"""Values in the forms in which Dify has them: what is published, from code and from JSON lines."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import codec
from tailrace.codec import schemas
from tailrace.errors import InvalidEvent
from tailrace.event_lines import parse
from tailrace.identity import complete
from tailrace.records import (
    BY_NAME,
    DatasetRetrieval,
    Kind,
    Message,
    NodeExecution,
    Origin,
    Span,
    TokenClasses,
    Tool,
    TraceEvent,
    WorkflowRun,
)

NOW = 1_764_000_000_000_000
EVENT = schemas.current("TraceEvent")


def event(kind: Kind = Kind.TOOL, **fields: Any) -> TraceEvent:
    return TraceEvent(**{"kind": kind, "source_id": "s", "started_at": NOW, "ended_at": NOW, **fields})


def published(made: TraceEvent) -> TraceEvent:
    return codec.decode(codec.encode(complete(made, NOW)), TraceEvent)


def from_line(kind: str = "tool", **fields: Any) -> TraceEvent:
    line = {"kind": kind, "source_id": "s", "started_at": NOW, "ended_at": NOW, **fields}
    return published(parse(json.dumps(line).encode()))


A_FILE = {"filename": "a.pdf", "size": 3}
FILES = [
    (None, []),
    ("", []),
    ([], []),
    ("https://x/a.pdf", ["https://x/a.pdf"]),
    (["a", "", None, "b"], ["a", "b"]),
    ([A_FILE, "b"], ['{"filename":"a.pdf","size":3}', "b"]),
    (A_FILE, ['{"filename":"a.pdf","size":3}']),
    ([["a", 1]], ['["a",1]']),
]


@pytest.mark.parametrize(("value", "expected"), FILES)
def test_files_are_one_or_many_texts_or_objects(value: Any, expected: list[str]) -> None:
    origin, tool = published(event(origin=Origin(file_list=value), tool=Tool(file_urls=value))), None
    assert origin.origin is not None
    tool = origin.tool
    assert tool is not None
    assert (list(origin.origin.file_list), list(tool.file_urls)) == (expected, expected)
    line = from_line(origin={"file_list": value}, tool={"file_urls": value})
    assert (line.origin, line.tool) == (origin.origin, tool)


@pytest.mark.parametrize("value", [5, b"x", {1, 2}, ["a", 5], ["a", b"x"]])
def test_what_is_no_file_is_refused(value: Any) -> None:
    for made, field in (
        (event(origin=Origin(file_list=value)), "origin.file_list"),
        (event(tool=Tool(file_urls=value)), "tool.file_urls"),
    ):
        with pytest.raises(InvalidEvent) as caught:
            published(made)
        assert caught.value.field.removesuffix("[]") == field


MODELS = {"d1": {"embedding_model": "e", "embedding_model_provider": "p"}}


def test_json_text_may_be_given_as_an_object() -> None:
    text = msgspec.json.encode(MODELS).decode()
    retrieval = event(Kind.DATASET_RETRIEVAL, dataset_retrieval=DatasetRetrieval(embedding_models=MODELS))  # type: ignore[arg-type]
    found = [
        published(retrieval),
        from_line("dataset_retrieval", dataset_retrieval={"embedding_models": MODELS}),
    ]
    assert [e.dataset_retrieval for e in found] == [
        DatasetRetrieval(embedding_models=text, dataset_names=[])
    ] * 2
    span = event(Kind.SPAN, span=Span(links=[{"a": 1}], resource={"r": "x"}))  # type: ignore[arg-type]
    found = [published(span), from_line("span", span={"links": [{"a": 1}], "resource": {"r": "x"}})]
    assert [e.span for e in found] == [Span(links='[{"a":1}]', resource='{"r":"x"}')] * 2
    assert published(event(Kind.SPAN, span=Span(links="[]"))).span == Span(links="[]")


@pytest.mark.parametrize("value", [30.0, Decimal(30), Decimal("30.0"), Decimal("3e1"), True + 29])
def test_a_whole_number_is_an_integer(value: Any) -> None:
    done = published(
        event(
            Kind.MESSAGE,
            message_id="m",
            input_tokens=value,
            time_to_first_token=value,
            revision=0,
            token_classes=TokenClasses(cache_read=value),
            message=Message(time_to_generate=value),
        )
    )
    assert done.token_classes is not None
    assert done.message is not None
    found = (done.input_tokens, done.time_to_first_token)
    assert (*found, done.token_classes.cache_read, done.message.time_to_generate) == (30,) * 4
    assert type(done.input_tokens) is int


def test_a_whole_number_is_an_integer_in_json_lines() -> None:
    line = from_line("message", message_id="m", input_tokens=30.0, message={"time_to_generate": 2.0})
    assert (line.input_tokens, line.message) == (30, Message(time_to_generate=2))


@pytest.mark.parametrize(
    "value", [30.5, float("nan"), float("inf"), 1e300, True, "30", Decimal("30.5"), b"3"]
)
def test_any_other_number_is_refused(value: Any) -> None:
    for made, field in (
        (event(input_tokens=value), "input_tokens"),
        (event(tool=Tool(time_cost=value)), "tool.time_cost"),
    ):
        with pytest.raises(InvalidEvent) as caught:
            published(made)
        assert caught.value.field == field
    with pytest.raises(InvalidEvent) as caught:
        from_line(input_tokens=30.5)
    assert caught.value.field == "input_tokens"


def optional(prefix: str = "") -> list[tuple[str, Any]]:
    """Path and type of the fields of an event and its bodies."""
    found = []
    for field in EVENT["fields"]:
        found.append((field["name"], field["type"]))
        inner = field["type"][1] if isinstance(field["type"], list) else None
        if isinstance(inner, dict) and inner["type"] == "record":
            found += [(f"{field['name']}.{f['name']}", f["type"]) for f in inner["fields"]]
    return found


KINDS = {
    "workflow_run": Kind.WORKFLOW_RUN,
    "node_execution": Kind.NODE_EXECUTION,
    "message": Kind.MESSAGE,
    "moderation": Kind.MODERATION,
    "suggested_question": Kind.SUGGESTED_QUESTION,
    "dataset_retrieval": Kind.DATASET_RETRIEVAL,
    "prompt_generation": Kind.PROMPT_GENERATION,
    "span": Kind.SPAN,
    "feedback": Kind.FEEDBACK,
    "rehydration_failed": Kind.REHYDRATION_FAILED,
}
BODY_CLASSES = {
    f["name"]: BY_NAME[f["type"][1]["name"]]
    for f in EVENT["fields"]
    if isinstance(f["type"], list) and isinstance(f["type"][1], dict) and f["type"][1]["type"] == "record"
}


def with_value(path: str, value: Any) -> TraceEvent:
    outer, _, inner = path.partition(".")
    kind = KINDS.get(outer, Kind.TOOL)
    return event(kind, **{outer: BODY_CLASSES[outer](**{inner: value}) if inner else value})


TEXTS = [
    path
    for path, t in optional()
    if t == ["null", "string"] and not path.startswith("evaluation") and path != "trace_id"
]
COLLECTIONS = [path for path, t in optional() if isinstance(t, dict) and t["type"] in ("array", "map")]


def value_at(found: TraceEvent, path: str) -> Any:
    value: Any = found
    for name in path.split("."):
        value = getattr(value, name)
    return value


def content(path: str) -> bool:
    fields = {f["name"]: f for f in EVENT["fields"]}
    outer, _, inner = path.partition(".")
    if not inner:
        return bool(fields[outer].get("content") == "json")
    return any(f.get("content") == "json" for f in fields[outer]["type"][1]["fields"] if f["name"] == inner)


def test_an_empty_text_is_left_out_everywhere_but_in_content() -> None:
    paths = [p for p in TEXTS if not content(p)]
    assert len(paths) > 80
    for path in paths:
        assert value_at(published(with_value(path, "")), path) is None, path
    assert published(event(inputs="")).inputs == '""'


def test_null_is_an_empty_list_or_map_everywhere() -> None:
    assert {"tags", "attributes", "dataset_ids", "origin.file_list", "tool.file_urls"} <= set(COLLECTIONS)
    for path in COLLECTIONS:
        assert not value_at(published(with_value(path, None)), path), path
        outer, _, inner = path.partition(".")
        kind = KINDS.get(outer, Kind.TOOL)
        line = from_line(kind, **{outer: {inner: None} if inner else None})
        assert not value_at(line, path), path


def test_json_lines_take_empty_texts_and_prices_as_numbers() -> None:
    line = from_line(user_id="", otel_trace_id="", root_started_at="", currency="usd", revision=None)
    assert (line.user_id, line.otel_trace_id, line.root_started_at) == (None, None, None)
    assert (line.currency, line.revision) == ("USD", 0)
    prices = b'"total_price": 0.10000000000000000001, "input_price": 1e-3'
    done = published(parse(b'{"kind": "tool", "started_at": %d, "ended_at": %d, %b}' % (NOW, NOW, prices)))
    assert (done.total_price, done.input_price) == ("0.10000000000000000001", "0.001")


def test_a_prompt_generation_needs_no_times_in_json_lines() -> None:
    body = {"prompt_generation": {"latency": 1000}}
    for times in ({}, {"started_at": None, "ended_at": None}, {"started_at": ""}):
        line = {"kind": "prompt_generation", "source_id": "s", **times, **body}
        done = published(parse(json.dumps(line).encode()))
        assert (done.started_at, done.ended_at) == (NOW - 1000, NOW)
        assert done.attributes == {"tailrace.times": "estimated"}
    with pytest.raises(InvalidEvent, match="started_at"):
        parse(b'{"kind": "tool", "source_id": "s"}')


@pytest.mark.parametrize(
    ("invoke_from", "triggered_from", "expected"),
    [(None, "app-run", "app-run"), ("", "app-run", "app-run"), ("api", "app-run", "api"), (None, "", None)],
)
def test_what_triggered_a_run_is_what_invoked_it(
    invoke_from: str | None, triggered_from: str, expected: str | None
) -> None:
    made = event(
        Kind.WORKFLOW_RUN,
        invoke_from=invoke_from,
        origin=Origin(triggered_from=triggered_from),
        workflow_run=WorkflowRun(),
    )
    assert published(made).invoke_from == expected


def test_a_node_has_a_place_for_further_metadata() -> None:
    info = {"tool_info": {"provider_type": "builtin"}}
    done = published(event(Kind.NODE_EXECUTION, node_execution=NodeExecution(metadata=info)))
    assert done.node_execution is not None
    assert json.loads(done.node_execution.metadata) == info


odd = st.one_of(
    st.none(),
    st.text(max_size=4),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.booleans(),
    st.binary(max_size=9),
    st.lists(st.none() | st.text(max_size=2) | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.text(max_size=2) | st.none(), max_size=2),
)


@given(
    st.dictionaries(
        st.sampled_from([p for p, _ in optional() if not p.startswith("evaluation")]), odd, max_size=6
    )
)
def test_any_values_are_published_or_refused_with_a_field_named(values: dict[str, Any]) -> None:
    bodies = {p.partition(".")[0] for p in values} & KINDS.keys()
    fields: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        outer, _, name = path.partition(".")
        if name:
            inner.setdefault(outer, {})[name] = value
        else:
            fields[path] = value
    fields |= {outer: BODY_CLASSES[outer](**parts) for outer, parts in inner.items()}
    kind = KINDS[min(bodies)] if bodies else Kind.TOOL
    made = event(**{"kind": kind, **fields})
    try:
        said, source = "", published(made).source_id
    except InvalidEvent as e:
        said, source = e.field, None
    assert said or source
