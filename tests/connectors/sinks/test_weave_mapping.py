"""From events to Weave's calls: ids, the tree, names, tokens, feedback, what is too large. Payloads of whole
events: tests/golden/weave."""

from __future__ import annotations

import functools
import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mapping.values import iso
from connectors.sdk.contract import Enriched, Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.weave import requests
from connectors.sinks.weave.mapping import END_OF_TIME, KINDS, Operation, call_of, to_call
from connectors.sinks.weave.metadata import place_of
from connectors.sinks.weave.row_limits import MOST, MOST_LEVELS, fitted, flattened, is_deep, server_size
from connectors.sinks.weave.scores import MAX_NOTE, MAX_SHORT, MAX_TEXT, Feedback
from connectors.testing.doubles.weave_rules import ROW_BYTES, WeaveStore, feedback_of, problems, time_of
from tailrace import ids
from tailrace.cutting import MARK
from tailrace.records import Evaluation, Kind, ParentKind, TokenClasses, TraceContext, TraceEvent
from tests.connectors.enriching import START, make_context, make_event
from tests.connectors.generated import contexts, events
from tests.golden.events import golden as every_golden

PROJECT = "acme/support"
EPOCH = datetime.fromtimestamp(0, UTC)
golden = functools.cache(every_golden)
OPERATIONS = {str(kind) for kind, how in KINDS.items() if isinstance(how, Operation)}
CALLS = sorted(name for name, r in golden().items() if r.event.kind in OPERATIONS)


def call(record: Enriched) -> dict[str, Any]:
    found = to_call(record)
    assert isinstance(found, bytes), found
    document: dict[str, Any] = json.loads(requests.calls_body(PROJECT, [found]))["batch"][0]
    assert list(problems(document)) == []
    return document


def feedback(record: Enriched) -> list[Feedback]:
    found = to_call(record)
    assert isinstance(found, tuple), found
    for item in found:
        if item.body is not None:
            feedback_of(json.loads(requests.feedback_body(PROJECT, item)), replaces=True)
    return list(found)


def changed(record: Enriched, context: dict[str, Any] | None = None, **event: Any) -> Enriched:
    return msgspec.structs.replace(
        record,
        event=msgspec.structs.replace(record.event, **event),
        context=msgspec.structs.replace(record.context, **(context or {})),
    )


def made(**fields: Any) -> Enriched:
    event = make_event(1, **fields)
    return Enriched(event, make_context(event), "t", 0, 0, 0)


# -- ids and the tree
def test_every_call_has_its_parent_in_its_trace_and_there_is_no_circle() -> None:
    """But for the iteration, of which there is no event among the golden ones."""
    store = WeaveStore()
    found = {name: call(golden()[name]) for name in CALLS}
    for each in found.values():
        store.put(each)
    assert len(store.calls) == len(found)
    assert store.cycles() == []
    names = {(c["trace_id"], c["id"]): name for name, c in found.items()}
    parents = {
        name: names.get((c["trace_id"], c["parent_id"]), "missing")
        for name, c in found.items()
        if "parent_id" in c
    }
    side = ("workflow_run", "moderation", "suggested_question", "dataset_retrieval", "tool")
    nodes = dict.fromkeys(("node_llm", "node_knowledge", "node_tool"), "workflow_run")
    calls = {"span_llm": "node_llm", **dict.fromkeys(("span_llm_cached", "span_llm_audio"), "span_agent")}
    assert parents == {
        **dict.fromkeys(side, "message"),
        **nodes,
        **calls,
        "node_failed_in_iteration": "missing",
    }


@pytest.mark.parametrize("conversation", ["message", "run", "own"])
def test_a_conversation_is_never_a_parent(conversation: str) -> None:
    """Whatever a publisher takes for its conversation: the message, the run, or the operation itself."""
    store = WeaveStore()
    message, run = golden()["message"], golden()["workflow_run"]
    for name in ("message", "workflow_run", "node_llm", "moderation"):
        record = golden()[name]
        about = {
            "message": message.event.message_id,
            "run": run.event.workflow_run_id,
            "own": record.event.source_id,
        }[conversation]
        with_it = changed(record, {"conversation_id": about}, conversation_id=about)
        found = call(with_it)
        assert found.get("parent_id") == call(record).get("parent_id")
        assert found["thread_id"] == about
        store.put(found)
    assert store.cycles() == []


def test_an_operation_is_never_its_own_parent() -> None:
    record = golden()["node_llm"]
    own = changed(record, {"parent_span_id": record.context.span_id, "parent_source_id": "x"})
    assert "parent_id" not in call(own)
    assert "parent_id" not in call(changed(record, {"parent_span_id": bytes(8)}))


def test_a_trace_with_a_uuid_has_that_and_any_other_a_hash() -> None:
    message = call(golden()["message"])
    assert message["trace_id"] == golden()["message"].event.message_id
    agent = call(golden()["span_agent"])
    assert uuid.UUID(agent["trace_id"]).bytes == ids.otel_trace_id("job-77")
    assert {len(call(golden()[name])["id"]) for name in CALLS} == {16}


@pytest.mark.parametrize("field", ["span_id", "message_trace_id"])
def test_ids_of_zeros_are_rejected(field: str) -> None:
    record = golden()["node_llm"]
    found = to_call(changed(record, {field: bytes(len(getattr(record.context, field)))}))
    assert isinstance(found, Rejected)
    assert found.reason == "invalid_id"


def test_a_nested_run_is_below_the_node_that_called_it() -> None:
    outer = golden()["node_tool"]
    inner = changed(
        golden()["workflow_run_alone"],
        {
            **{f: getattr(outer.context, f) for f in ("root_trace_id", "message_trace_id", "root_run_id")},
            "parent_source_id": outer.event.source_id,
            "parent_span_id": outer.context.span_id,
            "parent_kind": ParentKind.NODE,
        },
    )
    found = call(inner)
    assert (found["trace_id"], found["parent_id"]) == (call(outer)["trace_id"], call(outer)["id"])


def test_the_turn_is_the_call_of_the_message_or_of_the_run() -> None:
    message = call(golden()["message"])
    of_message = ("message", "workflow_run", "node_llm", "moderation", "tool", "span_llm")
    assert {call(golden()[name])["turn_id"] for name in of_message} == {message["id"]}
    assert {call(golden()[name])["thread_id"] for name in of_message} == {message["thread_id"]}
    alone = golden()["workflow_run_alone"]
    assert not {"thread_id", "turn_id"} & call(alone).keys()  # it is in no conversation
    talked = call(changed(alone, conversation_id="c"))
    assert talked["turn_id"] == talked["id"] == call_of(alone.event.source_id or "")
    assert "turn_id" not in call(golden()["generate_name"])  # a title is no turn
    elsewhere = changed(golden()["node_llm"], {"root_trace_id": "of OpenTelemetry", "root_run_id": None})
    assert "turn_id" not in call(elsewhere)


# -- times
def test_the_start_is_always_written_in_the_same_way() -> None:
    """Weave's key of a call has it, to the microsecond."""
    for us in (0, 1, 999_999, 1_000_000, START, START + 123_000, END_OF_TIME - 1):
        found = call(made(started_at=us, ended_at=us))
        assert found["started_at"] == iso(us)
        assert len(found["started_at"]) == 27
        assert found["started_at"].endswith("Z")
        assert (time_of(found["started_at"]) - EPOCH) // timedelta(microseconds=1) == us


@pytest.mark.parametrize("field", ["started_at", "ended_at"])
@pytest.mark.parametrize("us", [-1, END_OF_TIME, -(2**63), 2**63 - 1])
def test_times_that_weave_cannot_store(field: str, us: int) -> None:
    found = to_call(made(**{field: us}))
    assert isinstance(found, Rejected)
    assert found.reason == "time_out_of_range"
    assert found.detail.startswith(field)


def test_the_end_is_never_before_the_start() -> None:
    found = call(made(started_at=START + 5, ended_at=START))
    assert found["ended_at"] == found["started_at"]


# -- names, content, errors
def test_names_are_cut_to_what_weave_takes() -> None:
    found = call(made(kind=Kind.SPAN, name="ü" * 3000))
    assert (len(found["op_name"]), len(found["display_name"])) == (128, 1024)


def test_names_of_the_seed_are_display_names_and_operations_have_no_ids() -> None:
    names = {name: (call(golden()[name])["op_name"], call(golden()[name])["display_name"]) for name in CALLS}
    assert names["message"] == ("message", f"message_{golden()['message'].event.message_id}")
    assert names["workflow_run"] == ("workflow", "workflow_00000032-0000-4000-8000-000000000032")
    assert names["workflow_run_alone"][1] == "workflow_00000002-0000-4000-8000-000000000002"
    assert names["node_llm"] == ("llm", "Answer")
    assert names["tool"] == ("track_parcel", "track_parcel")
    assert names["generate_name"] == ("generate_name", "generate_name")


@pytest.mark.parametrize(
    ("text", "inputs", "output"),
    [
        (None, {}, None),
        ("null", {}, None),
        ("{}", {}, {}),
        ('{"a": 1}', {"a": 1}, {"a": 1}),
        ("[1]", {"input": [1]}, [1]),
        ('"x"', {"input": "x"}, "x"),
        ("plain text", {"input": "plain text"}, "plain text"),
        (' {"a": 1}', {"a": 1}, {"a": 1}),
    ],
)
def test_inputs_are_an_object_and_output_is_any_json(text: str | None, inputs: Any, output: Any) -> None:
    found = call(made(inputs=text, outputs=text))
    assert (found["inputs"], found["output"]) == (inputs, output)


@pytest.mark.parametrize(
    ("status", "error", "exception"),
    [
        ("succeeded", None, None),
        ("succeeded", " ", None),
        ("failed", None, "failed"),
        ("exception", "", "exception"),
        ("failed", "503", "503"),
        ("succeeded", "late", "late"),
    ],
)
def test_an_operation_that_failed_has_an_exception(
    status: str, error: str | None, exception: str | None
) -> None:
    found = call(made(status=status, error=error))
    assert found.get("exception") == exception
    assert found["summary"]["status_counts"] == {
        "success": int(exception is None),
        "error": int(exception is not None),
    }


# -- tokens
def test_usage_is_that_of_the_leaves_and_the_attributes_have_it_for_all() -> None:
    store = WeaveStore()
    whole = 0
    for name in ("message", "workflow_run", "node_llm"):  # the same tokens, three times
        found = call(golden()[name])
        whole += found["attributes"]["usage_metadata"]["total_tokens"]
        store.put(found)
    assert whole == 3 * 1540
    assert store.usage() == {
        "gpt-4o": {"requests": 1, "prompt_tokens": 1200, "completion_tokens": 340, "total_tokens": 1540}
    }


def test_all_classes_of_tokens() -> None:
    classes = TokenClasses(
        cache_read=5,
        cache_write=4,
        cache_write_1h=3,
        input_audio=2,
        input_image=1,
        cache_read_audio=1,
        reasoning=6,
        output_audio=2,
        output_image=0,
    )
    span = {"kind": Kind.SPAN, "span_kind": "llm", "model_name": "m"}
    found = call(made(**span, input_tokens=20, output_tokens=10, total_tokens=30, token_classes=classes))
    assert found["summary"]["usage"]["m"] == {
        "requests": 1,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "total_tokens": 30,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 4,
        "prompt_tokens_details": {"audio_tokens": 2, "image_tokens": 1},
        "completion_tokens_details": {"audio_tokens": 2, "image_tokens": 0, "reasoning_tokens": 6},
    }
    assert found["attributes"]["cache_write_1h_tokens"] == 3
    assert found["attributes"]["cache_read_audio_tokens"] == 1


def test_tokens_without_a_model_are_counted_as_unknown_and_odd_ones_are_not() -> None:
    found = call(made(input_tokens=3, output_tokens=-1, model_name=None))
    assert found["summary"]["usage"] == {"unknown": {"requests": 1, "prompt_tokens": 3}}
    odd = call(made(input_tokens=3, token_classes=TokenClasses(cache_read=9), model_name='m"\n'))
    assert odd["summary"]["usage"] == {'m"\n': {"requests": 1, "prompt_tokens": 3}}


def test_the_name_of_a_model_does_not_make_the_summary_too_large() -> None:
    found, store = call(made(input_tokens=3, model_name="嗨" * 900_000)), WeaveStore()
    store.put(found)
    assert store.stripped == []
    assert list(found["summary"]["usage"]) == ["嗨" * 512]


# -- feedback
def test_a_rating_and_its_text_are_a_reaction_and_a_note_on_the_message() -> None:
    reaction, note = feedback(golden()["feedback_like"])
    message = call(golden()["message"])
    assert {reaction.call, note.call} == {message["id"]}
    other = changed(golden()["feedback_like"], rating="dislike", event_id="later", feedback=None)
    [again] = feedback(other)
    assert (again.id, again.call) == (reaction.id, reaction.call)
    assert json.loads(b"{" + (again.body or b""))["payload"]["emoji"] == "👎"


def test_a_withdrawn_rating_deletes_what_the_same_person_gave() -> None:
    like = golden()["feedback_like"]
    withdrawn = feedback(changed(like, rating=None))
    assert [(item.id, item.body) for item in withdrawn] == [(item.id, None) for item in feedback(like)]
    others = feedback(golden()["feedback_withdrawn"])  # by an administrator
    assert not {item.id for item in others} & {item.id for item in withdrawn}


def test_a_rating_of_nothing_and_an_unknown_one() -> None:
    none = {"parent_span_id": None, "root_trace_id": None}
    unrated = changed(golden()["feedback_like"], none, message_id=None, workflow_run_id=None)
    assert to_call(unrated) == Skip("nothing_rated")
    found = to_call(changed(golden()["feedback_like"], rating="so so"))
    assert isinstance(found, Rejected)
    assert found.reason == "unknown_rating"


def test_an_evaluation_is_feedback_on_its_operation_or_on_the_root() -> None:
    [of_node] = feedback(golden()["evaluation_of_operation"])
    assert of_node.call == call(golden()["node_llm"])["id"]
    [of_trace] = feedback(golden()["evaluation_of_trace"])
    assert of_trace.call == call(golden()["message"])["id"]
    assert to_call(golden()["evaluation_of_session"]) == Skip("no_call")
    body = json.loads(b"{" + (of_node.body or b""))
    assert body["feedback_type"] == "tailrace.evaluation.correctness"
    assert (body["payload"]["number"], body["payload"]["label"]) == (0.8, "correct")


def test_a_correction_of_an_evaluation_replaces_it() -> None:
    first = golden()["evaluation_of_trace"]
    later = changed(first, event_id="later", evaluation=Evaluation(flag=False))
    assert feedback(first)[0].id == feedback(later)[0].id
    assert feedback(first)[0].id != feedback(changed(first, source_id="another"))[0].id


def test_a_text_that_is_too_long_for_a_note_is_whole_in_the_reaction() -> None:
    like = golden()["feedback_like"]
    assert like.event.feedback is not None
    for length, whole in ((MAX_NOTE, None), (MAX_NOTE + 1, "n" * (MAX_NOTE + 1))):
        body = msgspec.structs.replace(like.event.feedback, content="n" * length)
        reaction, note = (json.loads(b"{" + (i.body or b"")) for i in feedback(changed(like, feedback=body)))
        assert reaction["payload"].get("comment") == whole
        assert len(note["payload"]["note"]) == MAX_NOTE


@pytest.mark.parametrize("letter", ["x", "é", "嗨", "😀", "\x01"])
def test_texts_of_feedback_are_cut_to_weaves_limit(letter: str) -> None:
    long = letter * 2_000_000
    like = golden()["feedback_like"]
    assert like.event.feedback is not None
    said = changed(like, feedback=msgspec.structs.replace(like.event.feedback, content=long))
    reaction, note = (json.loads(b"{" + (item.body or b""))["payload"] for item in feedback(said))
    assert note["note"].endswith(MARK.decode())
    assert len(note["note"]) == MAX_NOTE
    assert reaction["comment"].endswith(MARK.decode())
    assert MAX_TEXT - 10 < len(reaction["comment"].encode()) <= MAX_TEXT
    judged = changed(golden()["evaluation_of_trace"], evaluation=Evaluation(flag=True, explanation=long))
    assert feedback(judged)  # the rules of the double have the limit
    texts: dict[str, Any] = dict.fromkeys(
        ("label", "explanation", "source", "evaluator", "evaluator_version"), long
    )
    [item] = feedback(changed(golden()["evaluation_of_trace"], evaluation=Evaluation(**texts), name=long))
    about = json.loads(b"{" + (item.body or b""))
    assert len(about["creator"].encode()) <= MAX_SHORT
    assert len(about["payload"]["label"].encode()) <= MAX_SHORT
    assert about["payload"]["label"].endswith(MARK.decode())


# -- what is too large
@pytest.mark.parametrize(
    ("letter", "fields"),
    [
        *((letter, ("inputs", "outputs")) for letter in ("x", "é", "嗨", "😀", "\x01", '"', "\\")),
        ("x", ("inputs",)),
        ("嗨", ("outputs",)),
        ("é", ("error", "outputs")),
    ],
)
def test_a_large_call_is_cut_so_that_the_server_replaces_nothing(
    letter: str, fields: tuple[str, ...]
) -> None:
    contents = {f: (letter if f == "error" else json.dumps({"short": 1, "long": letter})) for f in fields}
    size = 4_000_000 // len(letter.encode())
    for field in fields:
        contents[field] = contents[field].replace(json.dumps(letter)[1:-1], json.dumps(letter)[1:-1] * size)
    found, store = call(made(**contents)), WeaveStore()
    store.put(found)
    assert store.stripped == []
    names = ("inputs", "output", "attributes", "summary", "exception")
    columns = sum(len(json.dumps(found.get(name))) for name in names)
    assert ROW_BYTES * 0.6 < columns <= ROW_BYTES
    said = found["attributes"]["tailrace.cut_for_weave"]
    assert "cut from" in said
    for field, column in (("inputs", "inputs"), ("outputs", "output")):
        if field in fields:
            assert found[column]["short"] == 1
            assert found[column]["long"].endswith(MARK.decode())
            assert f"{column}: cut from {len(contents[field].encode())} bytes" in said


@pytest.mark.parametrize("name", ["api_key", "X-Api-Key", "awsAccessKeyId", "session_token", "Authorization"])
def test_what_the_server_writes_for_credentials_fits_too(name: str) -> None:
    """It is longer than they are, and the server counts after it has hidden them."""
    store = WeaveStore()
    store.put(call(made(inputs=json.dumps({"of": [{name: "x"}] * (3_400_000 // (len(name) + 11))}))))
    assert store.stripped == []


def test_a_call_that_fits_is_not_touched() -> None:
    text = json.dumps({"long": "嗨" * (MOST // 8)}, ensure_ascii=False)
    found = call(made(inputs=text))
    assert found["inputs"] == json.loads(text)
    assert "tailrace.cut_for_weave" not in found["attributes"]


def test_twenty_megabytes() -> None:
    text = json.dumps({"document": "x" * 20_000_000, "question": "What is it?"})
    found, store = call(made(inputs=text)), WeaveStore()
    store.put(found)
    assert store.stripped == []
    assert found["inputs"]["question"] == "What is it?"
    assert len(found["inputs"]["document"]) > 3_000_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
_OBJECT = st.dictionaries(st.text(max_size=8), _JSON, max_size=5)


@given(_OBJECT, _JSON, _OBJECT, st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_columns_stay_json_and_fit(inputs: Any, output: Any, attributes: Any, most: int) -> None:
    raw = [json.dumps(column, ensure_ascii=False).encode("utf-8", "ignore") for column in (inputs, output)]
    raw.append(json.dumps(attributes, ensure_ascii=False).encode("utf-8", "ignore"))
    *columns, said = fitted(raw[0], raw[1], raw[2], most)
    found = [json.loads(column) for column in columns]
    assert isinstance(found[0], dict)
    assert isinstance(found[2], dict)
    assert sum(map(server_size, columns)) <= max(most, 0) + len("{}") * 2 + len("null")
    assert (said is None) == (columns == raw) or said is not None
    if sum(map(server_size, raw)) <= most:
        assert (columns, said) == (raw, None)


# -- what is nested too deeply
def levels_of(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(levels_of, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(_JSON, st.integers(0, 6))
@settings(max_examples=300, deadline=None)
def test_what_is_below_a_level_is_text(value: Any, most: int) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode("utf-8", "ignore")
    value = json.loads(raw)
    assert is_deep(raw, most) == (levels_of(value) > most)
    found = json.loads(flattened(raw, most))
    assert levels_of(found) == min(levels_of(value), most)

    def unfolded(a: Any, b: Any) -> Any:
        """`a` with the values for the texts that stand for them in `b`."""
        if isinstance(b, dict | list) and isinstance(a, str):
            return json.loads(a)
        if isinstance(b, dict):
            return {k: unfolded(a[k], v) for k, v in b.items()}
        return [unfolded(x, y) for x, y in zip(a, b, strict=True)] if isinstance(b, list) else a

    assert unfolded(found, value) == value


@pytest.mark.parametrize("text", [r'"[[["', r'"\\"', r'"\"[[["', r'"\\\"{{"', '"]]]"', '"\\\\", "[["'])
def test_brackets_in_texts_are_no_levels(text: str) -> None:
    raw = f"[{text}]".encode()
    assert levels_of(json.loads(raw)) == 1
    assert not is_deep(raw, 1)
    assert flattened(raw, 1) == raw


def test_a_call_with_deep_content_says_so() -> None:
    deep = "[" * (MOST_LEVELS + 1) + "1" + "]" * (MOST_LEVELS + 1)
    found = call(made(outputs=deep, inputs=deep[1:-1]))
    assert levels_of(found["output"]) == levels_of(found["inputs"]) == MOST_LEVELS
    assert found["attributes"]["tailrace.cut_for_weave"] == (
        "inputs: what is below 150 levels is text; output: what is below 150 levels is text"
    )
    assert "tailrace.cut_for_weave" not in call(made(outputs=deep[1:-1]))["attributes"]


# -- the tables
def test_the_tables_read_each_place_once() -> None:
    """Each change of the place costs time for every record."""
    for kind, how in KINDS.items():
        if isinstance(how, Operation):
            places = [place for place, _ in itertools.groupby(map(place_of, how.metadata))]
            assert len(places) == len(set(places)), kind


def test_a_batch_is_its_calls_in_their_order() -> None:
    calls = [found for name in CALLS if isinstance(found := to_call(golden()[name]), bytes)]
    for number in (1, 2, len(calls)):
        document = json.loads(requests.calls_body('a "b"/c', calls[:number]))
        assert [c.pop("project_id") for c in document["batch"]] == ['a "b"/c'] * number
        assert document["batch"] == [json.loads(b"{" + c) for c in calls[:number]]


# -- anything
@given(event=events, context=contexts)
@settings(max_examples=300, deadline=None)
def test_any_event_maps_or_is_skipped_or_rejected(event: TraceEvent, context: TraceContext) -> None:
    found = to_call(Enriched(event, context, "t", 0, 0, 0))
    if isinstance(found, bytes):
        document = json.loads(requests.calls_body(PROJECT, [found]))["batch"][0]
        assert list(problems(document)) == []
    elif isinstance(found, tuple):
        for item in found:
            json.loads(requests.feedback_body(PROJECT, item))
    else:
        assert isinstance(found, Skip | Rejected)


@pytest.mark.parametrize("field", ["name", "conversation_id", "model_name", "error", "inputs", "outputs"])
def test_a_lone_surrogate_is_rejected(field: str) -> None:
    found = to_call(made(**{field: "\ud800", "input_tokens": 1}))
    assert isinstance(found, Rejected)
    assert found.reason == "not_json"


def test_the_same_record_gives_the_same_bytes() -> None:
    for name, record in golden().items():
        first, again = to_call(record), to_call(msgspec.structs.replace(record, offset=9, appended_at=9))
        assert first == again, name


def test_ids_of_calls_differ() -> None:
    found = [call(golden()[name])["id"] for name in CALLS]
    assert [a for a, b in itertools.pairwise(sorted(found)) if a == b] == []
