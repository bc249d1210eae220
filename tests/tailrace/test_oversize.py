"""Events over the limit: what is cut, what stays readable, and what is named."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import codec, identity, oversize, records
from tailrace.records import Kind, TraceEvent

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
    event = TraceEvent(kind=BODIES[body], source_id="s", started_at=NOW, ended_at=NOW, **values[""])
    return identity.complete(
        msgspec.structs.replace(
            event, origin=records.Origin(**values["origin"]), **{body: cls_of(body)(**values[body])}
        ),
        3,
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


def test_the_largest_field_is_cut_first_and_small_ones_stay() -> None:
    event = identity.complete(
        TraceEvent(
            kind=Kind.SPAN,
            source_id="s",
            started_at=NOW,
            ended_at=NOW,
            inputs="i" * 5_000,
            outputs="o" * 90_000,
        ),
        3,
    )
    cut = oversize.truncate(event, len(codec.encode(event)) - 20_000)
    assert cut.inputs == event.inputs
    marker = json.loads(cut.outputs)
    raw = event.outputs.encode()
    assert marker == {
        "truncated": True,
        "bytes": 90_002,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "start": '"' + "o" * 1023,
    }


def test_text_keeps_its_start_and_says_what_was_cut() -> None:
    query = "é" * 40_000
    event = identity.complete(
        TraceEvent(
            kind=Kind.MESSAGE,
            message_id="m",
            started_at=NOW,
            ended_at=NOW,
            message=records.Message(query=query),
        ),
        3,
    )
    cut = oversize.truncate(event, 60_000)
    digest = hashlib.sha256(query.encode()).hexdigest()
    assert cut.message is not None
    assert cut.message.query == "é" * 512 + f"… [truncated by tailrace: 80000 bytes, sha256 {digest}]"


def test_a_list_of_texts_is_cut_too() -> None:
    event = identity.complete(
        TraceEvent(
            kind=Kind.SUGGESTED_QUESTION,
            message_id="m",
            started_at=NOW,
            ended_at=NOW,
            suggested_question=records.SuggestedQuestion(questions=["q" * 900] * 200),
        ),
        3,
    )
    cut = oversize.truncate(event, 100_000)
    assert cut.suggested_question is not None
    (question,) = cut.suggested_question.questions
    assert question.startswith("q" * 900 + "\n")
    assert "truncated by tailrace" in question


@pytest.mark.parametrize("value", ["😀" * 300, '"' * 1500, "\x00" * 1100])
def test_nothing_gets_longer_by_being_cut(value: str) -> None:
    event = identity.complete(
        TraceEvent(kind=Kind.SPAN, source_id="s", started_at=NOW, ended_at=NOW, inputs=value), 3
    )
    assert len(codec.encode(oversize.truncate(event, 10**6))) <= len(codec.encode(event))


def test_sizes_name_the_largest_field_of_any_kind_first() -> None:
    event = identity.complete(
        TraceEvent(
            kind=Kind.TOOL,
            source_id="s",
            started_at=NOW,
            ended_at=NOW,
            error="e" * 3000,
            inputs="é" * 500,
            attributes={"k" * 10: "v" * 4000},
            tags=["t" * 50] * 100,
            tool=records.Tool(description="d" * 2000),
        ),
        3,
    )
    assert oversize.sizes(event)[:5] == [
        (5000, "tags"),
        (4010, "attributes"),
        (3000, "error"),
        (2000, "tool.description"),
        (1002, "inputs"),
    ]
