"""Events over the limit: what is cut, what stays readable, and what is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import codec, identity, kinds, oversize, records
from tailrace.content import BODY_CONTENT, JsonText, Limits
from tailrace.errors import EventTooLarge
from tailrace.fields import FIELDS
from tailrace.prepare import prepared
from tailrace.records import ChangeKind, ContentChange, Kind, TraceEvent

NOW = 1_764_000_000_000_000
LIMIT = 65_536
NOW = 1_764_000_000_000_000
BODIES = {
    "workflow_run": Kind.WORKFLOW_RUN,
    "node_execution": Kind.NODE_EXECUTION,
    "message": Kind.MESSAGE,
    "tool": Kind.TOOL,
    "moderation": Kind.MODERATION,
    "suggested_question": Kind.SUGGESTED_QUESTION,
    "dataset_retrieval": Kind.DATASET_RETRIEVAL,
    "prompt_generation": Kind.PROMPT_GENERATION,
    "span": Kind.SPAN,
    "feedback": Kind.FEEDBACK,
    "evaluation": Kind.EVALUATION,
}

large = st.builds(
    lambda c, n: c * n, st.sampled_from(["a", "é", "😀", '"', "\\", "\n", "\x00"]), st.integers(0, 60_000)
)


def cls_of(body: str) -> type[Any]:
    return records.BY_NAME["".join(w.title() for w in body.split("_"))]


@st.composite
def large_events(draw: st.DrawFn) -> TraceEvent:
    """Events that are large because of their content."""
    body = draw(st.sampled_from(sorted(BODIES)))
    paths = [p for p in oversize.CONTENT if "." not in p or p.split(".")[0] in (body, "origin")]
    values: dict[str, dict[str, Any]] = {"": {}, body: {}, "origin": {}}
    for path in draw(st.sets(st.sampled_from(paths), min_size=1)):
        outer, _, inner = path.partition(".")
        value = draw(st.lists(large, max_size=3) if path.endswith("questions") else large)
        values[outer if inner else ""][inner or outer] = value
    if body == "evaluation":  # which needs a name, a trace and a result
        values[""] |= {"name": "n", "trace_id": "T"}
        values[body]["flag"] = True
    event = TraceEvent(kind=BODIES[body], source_id="s", started_at=NOW, ended_at=NOW, **values[""])
    return identity.complete(
        msgspec.structs.replace(
            event, origin=records.Origin(**values["origin"]), **{body: cls_of(body)(**values[body])}
        ),
        NOW,
    )


@given(large_events())
@settings(max_examples=80, deadline=None)
def test_cutting_brings_an_event_under_the_limit_if_content_is_what_makes_it_large(event: TraceEvent) -> None:
    size = len(codec.encode(event))
    cut = oversize.truncate(event, size - LIMIT)
    value = codec.encode(cut)
    assert len(value) <= max(size, LIMIT)
    assert len(value) <= LIMIT
    if size <= LIMIT:
        assert cut == event
    for path, kind in oversize.CONTENT.items():
        text = oversize._value(cut, path)
        if kind == "json" and text is not None:
            json.loads(text)


def changes(event: TraceEvent) -> dict[str, int]:
    """Field -> its size before it was cut."""
    assert all(c.change == ChangeKind.CUT for c in event.content_changes)
    return {c.field: c.bytes for c in event.content_changes}


def event(**values: Any) -> TraceEvent:
    return identity.complete(
        TraceEvent(kind=values.pop("kind", Kind.SPAN), source_id="s", started_at=NOW, ended_at=NOW, **values),
        NOW,
    )


def test_what_fits_is_kept() -> None:
    """An output of 990,002 bytes kept 1,145."""
    whole = event(outputs="o" * 990_000)
    assert len(whole.outputs) == 990_002
    cut = oversize.truncate(whole, len(codec.encode(whole)) - 934_464)
    assert 934_400 < len(codec.encode(cut)) <= 934_464
    assert len(cut.outputs) > 934_000
    assert json.loads(cut.outputs) == "o" * (len(cut.outputs) - 2 - len("… [cut]")) + "… [cut]"
    assert changes(cut) == {"outputs": 990_002}


def test_the_largest_field_is_cut_first_and_small_ones_stay() -> None:
    whole = event(inputs="i" * 5_000, outputs="o" * 90_000, error="e" * 6_000)
    cut = oversize.truncate(whole, len(codec.encode(whole)) - 20_000)
    assert (cut.inputs, cut.error) == (whole.inputs, whole.error)
    assert 8_500 < len(cut.outputs.encode()) < 9_000
    assert changes(cut) == {"outputs": 90_002}


def test_two_large_fields_are_cut_to_the_same_length() -> None:
    whole = event(inputs="i" * 70_000, outputs="o" * 90_000, error="e" * 1_000)
    cut = oversize.truncate(whole, len(codec.encode(whole)) - 60_000)
    assert len(cut.inputs.encode()) == len(cut.outputs.encode()) > 29_000
    assert cut.error == whole.error
    assert changes(cut) == {"outputs": 90_002, "inputs": 70_002}


def test_a_document_keeps_its_shape() -> None:
    """The longest text in it is what is cut."""
    answer = {
        "choices": [{"message": {"role": "assistant", "content": "é" * 100_000}}],
        "usage": {"total": 7},
    }
    whole = event(outputs=answer)
    cut = oversize.truncate(whole, len(codec.encode(whole)) - 65_536)
    found = json.loads(cut.outputs)
    content = found["choices"][0]["message"].pop("content")
    assert content.startswith("é" * 30_000)
    assert content.endswith("é… [cut]")
    assert found == {"choices": [{"message": {"role": "assistant"}}], "usage": {"total": 7}}


def test_text_keeps_its_start_and_ends_with_a_mark() -> None:
    whole = event(kind=Kind.MESSAGE, message_id="m", message=records.Message(query="é" * 40_000))
    cut = oversize.truncate(whole, 60_000)
    assert cut.message is not None
    assert cut.message.query is not None
    assert cut.message.query.startswith("é" * 9_900)
    assert cut.message.query.endswith("é… [cut]")
    assert changes(cut) == {"message.query": 80_000}


def test_of_a_list_of_texts_the_longest_are_cut_and_the_last_left_out() -> None:
    questions = ["short", "l" * 90_000, *["q" * 50] * 2_000]
    whole = event(
        kind=Kind.SUGGESTED_QUESTION, suggested_question=records.SuggestedQuestion(questions=questions)
    )
    cut = oversize.truncate(whole, 150_000)
    assert cut.suggested_question is not None
    kept = cut.suggested_question.questions
    assert kept[0] == "short"
    assert kept[1] == "l" * 55 + "… [cut]"
    assert 600 < len(kept) < 2_000
    assert set(kept[2:]) == {"q" * 50}
    assert changes(cut) == {"suggested_question.questions": 192_009}


def test_a_change_that_the_event_has_already_is_kept() -> None:
    before = ContentChange(field="inputs", change=ChangeKind.CONVERTED, count=2)
    larger = ContentChange(field="inputs", change=ChangeKind.CUT, bytes=10**9)
    whole = event(inputs="i" * 90_000, content_changes=[before, larger])
    cut = oversize.truncate(whole, 30_000)
    assert cut.content_changes == (before, larger)


CUTTABLE = sorted(path for path, field in FIELDS.items() if field.cut)
NOT_TEXTS = {"content_changes", "content_refs", "input_price", "output_price", "total_price"}
"""Fields that no long text fits: a price must be a number."""
FIXED = sorted(
    path
    for path, field in FIELDS.items()
    if not field.cut and field.type in ("string", "array") and path not in NOT_TEXTS
)


def holding(path: str, value: Any) -> TraceEvent:
    outer, _, inner = path.partition(".")
    kind = next((Kind(k) for k, body in kinds.BODY.items() if body == outer), Kind.GENERATE_NAME)
    base = TraceEvent(kind=kind, source_id="s", started_at=NOW, ended_at=NOW)
    if outer == "evaluation":  # which needs a name, a trace and a result
        values: dict[str, Any] = {"flag": None if inner == "label" else True, inner: value}
        body = records.Evaluation(**values)
        return msgspec.structs.replace(base, name="n", trace_id="T", evaluation=body)
    if inner:
        cls = BODY_CONTENT[outer][0]
        return msgspec.structs.replace(base, **{outer: cls(**{inner: value})})
    return msgspec.structs.replace(base, **{path: value})


def large_value(path: str) -> Any:
    field = FIELDS[path]
    return {"map": {"k": "é" * 90_000}, "array": ["é" * 90_000]}.get(field.type, "é" * 90_000)


@pytest.mark.parametrize("path", CUTTABLE)
def test_every_text_that_is_not_identity_is_cut(path: str) -> None:
    found = prepared(holding(path, large_value(path)), NOW, Limits(100_000, True))
    assert 99_000 < len(found.value) + len(found.key or b"") <= 100_000
    assert changes(found.event) == {path: pytest.approx(180_000, abs=5)}
    if FIELDS[path].text == "json" and path in oversize.CONTENT:
        json.loads(oversize._value(found.event, path))
    with pytest.raises(EventTooLarge) as caught:
        prepared(holding(path, large_value(path)), NOW, Limits(100_000, False))
    assert caught.value.field == path


@pytest.mark.parametrize("path", sorted({*FIXED} - {"input_price", "output_price", "total_price"}))
def test_identity_and_what_the_processor_reads_is_not_cut(path: str) -> None:
    event = holding(path, large_value(path))
    for cut in (True, False):
        with pytest.raises(EventTooLarge) as caught:
            prepared(event, NOW, Limits(100_000, cut))
        assert caught.value.field in (path, "trace_id")  # which is the source_id or message_id
        assert ("publisher.oversize" in str(caught.value)) is not cut


def test_the_fields_that_are_cut_are_those_of_the_documentation() -> None:
    assert {p for p in CUTTABLE if "." not in p} == {
        *(
            "app_name",
            "attributes",
            "error",
            "host_name",
            "inputs",
            "name",
            "outputs",
            "tags",
            "workspace_name",
        )
    }
    assert all(path.endswith("_id") for path in FIXED if "." in path)
    named = {p for p, f in _fields_with_docs() if "JSON" in f["doc"] and p != "attributes"}
    assert named == {p for p, f in FIELDS.items() if f.text == "json"}


def _fields_with_docs() -> list[tuple[str, Any]]:
    schema = json.loads((Path(__file__).parents[2] / "schemas" / "TraceEvent.avsc").read_text())
    found = []
    for field in schema["fields"]:
        inner = field["type"][1] if isinstance(field["type"], list) else field["type"]
        if isinstance(inner, dict) and inner["type"] == "record":
            found += [(f"{field['name']}.{f['name']}", f) for f in inner["fields"]]
        elif not (isinstance(inner, dict) and isinstance(inner.get("items"), dict)):
            found.append((field["name"], field))
    return found


@pytest.mark.parametrize("value", ["😀" * 300, '"' * 1500, "\x00" * 1100])
def test_nothing_gets_longer_by_being_cut(value: str) -> None:
    whole = event(inputs=value, error=value, tags=["a", value])
    assert len(codec.encode(oversize.truncate(whole, 10**6))) <= len(codec.encode(whole))


MOST = 100_000


@pytest.mark.parametrize(
    "value",
    [
        "\x00" * 90_000,
        "\x00" * 20_000,
        ["\x00" * 90_000, "short"],
        {"a": ["\x00" * 30_000, 5], "b": "short"},
        {"a": "\ud800" * 90_000, "b": "short"},
        {"a": ["\ud800" * 30_000, "\x00" * 30_000], "b": "short"},
        JsonText('{"a": "' + "\\u0000" * 30_000 + '", "b": "short"}'),
        OSError(5, "\x00" * 90_000),
    ],
)
@pytest.mark.parametrize("path", ["inputs", "tool.tool_outputs", "span.resource"])
def test_json_that_is_longer_than_its_value_is_cut_as_json(path: str, value: Any) -> None:
    if path == "span.resource" and not isinstance(value, (dict, list)):
        value = [value]
    found = prepared(holding(path, value), NOW, Limits(MOST, True))
    assert 0.9 * MOST < len(found.value) + len(found.key or b"") <= MOST
    text = oversize._value(codec.decode(found.value, TraceEvent), path)
    assert not (isinstance(value, (dict, list)) and "short" in value) or "short" in text
    json.loads(text)
    assert any(c.change == "cut" and c.field == path for c in found.event.content_changes)
    with pytest.raises(EventTooLarge) as caught:
        prepared(holding(path, value), NOW, Limits(MOST, False))
    assert caught.value.field == path


@pytest.mark.parametrize("text", ['{"a": "' + "x" * 150_000 + '"}', '["' + "é" * 150_000 + '"]'])
def test_json_text_that_is_no_content_stays_json(text: str) -> None:
    found = prepared(holding("span.links", text), NOW, Limits(MOST, True))
    json.loads(oversize._value(codec.decode(found.value, TraceEvent), "span.links"))
    assert len(found.value) > 0.9 * MOST


@pytest.mark.parametrize(
    ("path", "value", "least"),
    [
        ("tags", [""] * 150_000, 0.99),
        ("tags", ["t"] * 120_000, 0.99),
        ("tags", ["tags"] * 90_000, 0.99),
        ("attributes", {f"{n:05x}": "v" for n in range(40_000)}, 0.99),
        ("attributes", {f"{n:05x}": "" for n in range(40_000)}, 0.99),
    ],
)
def test_of_many_short_texts_as_many_are_kept_as_fit(path: str, value: Any, least: float) -> None:
    """A text in a list has a byte or more for its length."""
    found = prepared(holding(path, value), NOW, Limits(MOST, True))
    assert least * MOST < len(found.value) + len(found.key or b"") <= MOST
    assert list(changes(found.event)) == [path]
    with pytest.raises(EventTooLarge) as caught:
        prepared(holding(path, value), NOW, Limits(MOST, False))
    assert caught.value.field == path


def test_sizes_name_the_largest_field_of_any_kind_first() -> None:
    whole = event(
        kind=Kind.TOOL,
        error="e" * 3000,
        inputs="é" * 500,
        attributes={"k" * 10: "v" * 4000},
        tags=["t" * 50] * 100,
        tool=records.Tool(description="d" * 2000),
    )
    assert oversize.sizes(whole)[:5] == [
        (5100, "tags"),
        (4013, "attributes"),
        (3000, "error"),
        (2000, "tool.description"),
        (1002, "inputs"),
    ]


pieces = st.sampled_from(["a", "é", "😀", "\\", '"', "\x00", "\n", "\ud83d", "b" * 30, "\x00" * 40])
odd_texts = st.lists(pieces, max_size=40).map("".join)
odd_json = st.recursive(
    odd_texts | st.none() | st.integers(0, 10**20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(odd_texts, inner, max_size=6),
    max_leaves=12,
)


@given(odd_json, odd_json, st.integers(300, 3000))
@settings(max_examples=400, deadline=None)
def test_what_is_cut_is_valid_json_whatever_it_holds(one: Any, other: Any, most: int) -> None:
    whole = holding("tool.tool_inputs", one)
    found = prepared(msgspec.structs.replace(whole, inputs=other), NOW, Limits(most, True))
    assert len(found.value) + len(found.key or b"") <= most
    event = codec.decode(found.value, TraceEvent)
    for path in ("inputs", "tool.tool_inputs"):
        text = oversize._value(event, path)
        if text is not None:
            json.loads(text)
