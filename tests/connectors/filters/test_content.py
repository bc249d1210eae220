"""Content policies: each of them on every event, and the references of seed 003, section 9."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from connectors.filters.content import (
    CONTENT,
    PATHS,
    POLICIES,
    TEXTS,
    ContentPolicy,
    policies,
    reference,
    shown,
)
from connectors.sdk.contract import Enriched
from connectors.sinks.otlp.mapping import PROTOBUF, to_span
from tailrace.errors import ConfigError
from tailrace.oversize import CONTENT as MARKED
from tailrace.records import Kind, NodeExecution, SuggestedQuestion, Tool, TraceEvent
from tests.connectors.generated import events
from tests.golden.events import golden

SECRET = "xyzzy-5up3rs3cr3t"
EMAIL = "bob.smith@mail.example"
PARTIAL = {"inputs": "hashed", "tool": "none", "node_execution.process_data": "full", "*": "masked"}


def event(**fields: Any) -> TraceEvent:
    return TraceEvent(
        **{"kind": Kind.SPAN, "started_at": 0, "ended_at": 1, "trace_id": "t", "source_id": "s", **fields}
    )


def planted(kind: str = Kind.SPAN, secret: str = SECRET) -> TraceEvent:
    """An event with every body and a secret in every content field."""
    bodies: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    for path, form in CONTENT.items():
        body, _, name = path.rpartition(".")
        value: Any = (
            {"key": secret} if form == "map" else json.dumps({"a": [secret]}) if form == "json" else secret
        )
        if path in ("suggested_question.questions", "origin.file_list", "tool.file_urls"):
            value = [secret, "x " + secret]
        (bodies.setdefault(body, {}) if body else own)[name] = value
    kinds = {f.name: f.type for f in msgspec.structs.fields(TraceEvent)}
    for body, values in bodies.items():
        cls = next(t for t in kinds[body].__args__ if t is not type(None))
        own[body] = cls(**values)
    return event(kind=kind, workflow_run_id="run", message_id="message", conversation_id="c", **own)


def value_at(found: TraceEvent, path: str) -> Any:
    value: Any = found
    for part in path.split("."):
        value = getattr(value, part) if value is not None else None
    return value


def test_what_the_contract_marks_as_content_is_all_covered() -> None:
    assert MARKED.items() <= CONTENT.items()
    assert not set(CONTENT) & set(TEXTS)
    for path in PATHS:
        body, _, name = path.rpartition(".")
        fields = {f.name: f.type for f in msgspec.structs.fields(TraceEvent)}
        inner = next(t for t in fields[body].__args__ if t is not type(None)) if body else TraceEvent
        assert name in inner.__struct_fields__, path


@pytest.mark.parametrize("policy", ["none", "hashed", "reference"])
@pytest.mark.parametrize("kind", [k for k in Kind if k not in (Kind.UNKNOWN, Kind.LINK)])
def test_no_content_survives_what_replaces_it(policy: str, kind: Kind) -> None:
    before = planted(kind)
    after = ContentPolicy(policy).apply(before)
    assert SECRET in repr(before)
    assert SECRET not in repr(after)
    for path, form in CONTENT.items():
        value = value_at(after, path)
        if form == "json" and value is not None:
            json.loads(value)
    assert (after.kind, after.trace_id, after.workflow_run_id) == (
        before.kind,
        before.trace_id,
        before.workflow_run_id,
    )


def test_masked_keeps_all_but_what_is_found() -> None:
    after = ContentPolicy("masked").apply(planted(secret=EMAIL))
    assert EMAIL not in repr(after)
    assert after.inputs == '{"a": ["[email]"]}'
    assert after.attributes == {"key": "[email]"}
    assert after.suggested_question == SuggestedQuestion(questions=("[email]", "x [email]"))


def test_texts_about_an_operation_stay_but_are_masked() -> None:
    before = event(error=f"no mail to {EMAIL}", name="node", inputs='"x"', span=None)
    for policy in POLICIES:
        after = ContentPolicy(policy).apply(before)
        assert after.name == "node"
        assert after.error == (before.error if policy == "full" else "no mail to [email]")
    assert ContentPolicy({"*": "masked", "error": "none"}).apply(before).error is None
    assert ContentPolicy({"inputs": "none"}).apply(before).error == before.error


def test_hashes_are_of_the_text_and_keyed_if_there_is_a_key() -> None:
    before = event(inputs='{"a":1}', node_execution=NodeExecution(process_data='"p"'), attributes={"k": "v"})
    after = ContentPolicy("hashed").apply(before)
    assert after.inputs == f'"sha256:{hashlib.sha256(before.inputs.encode()).hexdigest()}"'
    assert after.attributes == {"k": f"sha256:{hashlib.sha256(b'v').hexdigest()}"}
    keyed = ContentPolicy("hashed", hash_key="k").apply(before)
    assert shown(keyed.inputs) == "sha256:" + hmac.new(b"k", before.inputs.encode(), "sha256").hexdigest()
    assert keyed.inputs != after.inputs


def test_references_are_those_of_seed_003_section_9() -> None:
    found = {name: reference(record.event) for name, record in golden().items()}
    ids = {name: record.event for name, record in golden().items()}
    assert found["workflow_run"] == f"ref:workflow_run_id={ids['workflow_run'].workflow_run_id}"
    for name in ("node_llm", "node_tool", "draft_node_execution"):
        assert found[name] == f"ref:node_execution_id={ids[name].source_id}"
    for name in ("message", "tool", "moderation", "suggested_question", "dataset_retrieval"):
        assert found[name] == f"ref:message_id={ids[name].message_id}"
    assert found["generate_name"] == f"ref:conversation_id={ids['generate_name'].conversation_id}"
    assert found["prompt_generation"] == f"ref:trace_id={ids['prompt_generation'].trace_id}"
    assert found["feedback_like"] is None, "omitted: it has no id to look it up by"
    assert found["evaluation_of_trace"] is None
    run = ContentPolicy("reference").apply(ids["workflow_run"])
    assert run.inputs == f'"{found["workflow_run"]}"'
    assert shown(run.inputs) == run.workflow_run.query == found["workflow_run"]  # type: ignore[union-attr]
    assert run.attributes == {}
    assert ContentPolicy("reference").apply(ids["feedback_like"]).feedback.content is None  # type: ignore[union-attr]


def test_what_is_shown_is_the_text_itself() -> None:
    assert shown('"ref:message_id=a\\"b"') == 'ref:message_id=a"b'
    assert shown('"reference"') == '"reference"'
    assert shown('{"a": "ref:x"}') == '{"a": "ref:x"}'
    assert shown('"ref:') == '"ref:'


def test_the_most_specific_name_counts() -> None:
    found = policies(PARTIAL)
    assert (found["inputs"], found["tool.tool_inputs"], found["tool.file_urls"]) == ("hashed", "none", "none")
    assert (found["node_execution.process_data"], found["outputs"], found["error"]) == (
        "full",
        "masked",
        "masked",
    )
    assert set(policies("full").values()) == {"full"}
    assert set(policies({"inputs": "none"}).values()) == {"full", "none"}
    before = event(tool=Tool(tool_inputs='"i"', call_id="c"), inputs='"i"', outputs='"o"')
    after = ContentPolicy(PARTIAL).apply(before)
    assert after.tool == Tool(call_id="c")
    assert (after.outputs, after.inputs is not None and after.inputs[:8]) == ('"o"', '"sha256:')


def test_nothing_to_change_is_the_same_event() -> None:
    for policy in POLICIES:
        before = event(name="plain", workflow_run_id="r")
        assert ContentPolicy(policy).apply(before) is before
    assert ContentPolicy().full
    assert ContentPolicy("none").reads == frozenset()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"content": "nothing"}, "content: there is no policy 'nothing'; known are full, masked,"),
        ({"content": {"inputs": "mask"}}, "content.inputs: there is no policy 'mask'"),
        ({"content": {"input": "none"}}, "content.input: is not a content field; known are *, "),
        ({"content": "full", "masks": ["email"]}, "mask: has no effect, because no content is masked"),
        (
            {"content": "full", "mask_patterns": {"x": "y"}},
            "mask_patterns: has no effect, because no content is masked",
        ),
        ({"content": "masked", "hash_key": "k3y"}, "hash_key: has no effect, because no content is hashed"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as e:
        ContentPolicy(**options)
    assert str(e.value).startswith(says)
    assert "k3y" not in str(e.value)


@given(events, st.sampled_from([*POLICIES, PARTIAL]))
def test_any_event_passes_every_policy_and_a_second_time_changes_nothing(
    before: TraceEvent, content: Any
) -> None:
    policy = ContentPolicy(content)
    once = policy.apply(before)
    assert policy.apply(once) == once
    outside = {p.partition(".")[0] for p in PATHS}
    for name in TraceEvent.__struct_fields__:
        if name not in outside:
            assert getattr(once, name) == getattr(before, name)


@given(events, st.sampled_from(["none", "hashed", "reference", "masked"]), st.data())
def test_a_planted_secret_does_not_survive_anywhere(
    before: TraceEvent, policy: str, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(CONTENT)))
    full = planted(before.kind, EMAIL)
    body, _, name = path.rpartition(".")
    if body and getattr(before, body) is None:
        before = msgspec.structs.replace(before, **{body: getattr(full, body)})
    elif body:
        inner = msgspec.structs.replace(getattr(before, body), **{name: value_at(full, path)})
        before = msgspec.structs.replace(before, **{body: inner})
    else:
        before = msgspec.structs.replace(before, **{path: value_at(full, path)})
    after = ContentPolicy(policy).apply(before)
    assert EMAIL in repr(value_at(before, path))
    assert EMAIL not in repr(value_at(after, path))


@pytest.mark.parametrize("name", ["workflow_run", "node_llm", "node_tool", "draft_node_execution"])
def test_a_span_has_the_reference_that_include_content_puts_there(name: str) -> None:
    """As in seed 003, section 9: the bare text, without the quotes of JSON."""
    full = golden()[name]
    by_policy = msgspec.structs.replace(full, event=ContentPolicy("reference").apply(full.event))

    def content(record: Enriched, include: bool) -> dict[str, str]:
        written = to_span(record, PROTOBUF, include, True)
        assert isinstance(written, bytes)
        (span,) = ScopeSpans.FromString(written).spans
        return {
            a.key: a.value.string_value for a in span.attributes if a.value.string_value.startswith("ref:")
        }

    assert content(full, False)
    assert content(by_policy, True) == content(full, False)
