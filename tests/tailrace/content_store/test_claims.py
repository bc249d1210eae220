"""What of an event goes to the store: the record fits, nothing is lost, and a reader sees what it is."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import EventTooLarge, InvalidEvent, Kind, TraceEvent, codec
from tailrace.content import Limits
from tailrace.content_store import media, previews
from tailrace.content_store.claims import (
    Claimed,
    Large,
    Policy,
    claimed,
    contents,
    cut,
    prepared,
    prepared_without_store,
)
from tailrace.content_store.naming import content_hash
from tailrace.content_store.references import MEDIA
from tailrace.oversize import CONTENT
from tailrace.prepare import Prepared
from tailrace.prepare import prepared as without_store
from tailrace.records import ChangeKind, ContentRef, Message, Origin, Tool, WorkflowRun

NOW = 10**15
LIMITS = Limits(66_000)
PNG = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(30_000)
B64 = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{B64}"


DEFAULT = Policy()


def event(**values: Any) -> TraceEvent:
    return TraceEvent(
        **{"kind": Kind.TOOL, "source_id": "s", "trace_id": "t", "started_at": NOW, "ended_at": NOW, **values}
    )


def large(event: TraceEvent, policy: Policy = DEFAULT, limits: Limits = LIMITS) -> Large:
    found = prepared(event, NOW, limits, policy)
    assert isinstance(found, Large)
    return found


def read(found: Claimed) -> TraceEvent:
    return codec.decode(found.value, TraceEvent)


def stored(found: Claimed) -> dict[str, bytes]:
    assert all(blob.hash == content_hash(blob.data) for blob in found.blobs)
    return {blob.hash: blob.data for blob in found.blobs}


def test_an_event_that_fits_is_what_it_is_without_a_store() -> None:
    for small in (event(inputs="x"), event(inputs="x " * 30_000), event(inputs={"a": 1j}, tags={"x"})):
        found = prepared(small, NOW, LIMITS, Policy())
        assert isinstance(found, Prepared)
        assert found == without_store(small, NOW, LIMITS)


def test_the_largest_field_goes_to_the_store_as_a_whole_and_the_others_stay() -> None:
    inputs = {"text": "ä" * 100_000, "number": 5}
    claim = large(event(inputs=inputs, outputs="o" * 20_000, tenant_id="acme"))
    found = claimed(claim)
    done = read(found)
    text = json.dumps(inputs, ensure_ascii=False, separators=(",", ":"))
    assert stored(found) == {content_hash(text.encode()): text.encode()}
    assert list(done.content_refs) == [
        ContentRef(
            field="inputs",
            tenant_id="acme",
            hash=content_hash(text.encode()),
            bytes=len(text.encode()),
            media_type="application/json",
        )
    ]
    assert done.outputs == json.dumps("o" * 20_000)
    assert not done.content_changes
    assert len(found.value) <= claim.room
    preview = json.loads(str(done.inputs))
    assert preview["tailrace.content"] == {
        "hash": content_hash(text.encode()),
        "bytes": len(text.encode()),
    }
    assert preview["preview"]["text"].startswith("äää")
    assert len(str(done.inputs)) < 1500


def test_text_has_a_preview_that_is_text() -> None:
    query = "why? " * 100_000
    body = WorkflowRun(query=query)
    found = claimed(large(event(kind=Kind.WORKFLOW_RUN, workflow_run=body)))
    done = read(found)
    [ref] = done.content_refs
    assert (ref.field, ref.media_type, ref.tenant_id) == ("workflow_run.query", "text/plain", None)
    assert stored(found) == {ref.hash: query.encode()}
    assert done.workflow_run is not None
    shown = done.workflow_run.query
    assert shown is not None
    assert shown.startswith("why? why?")
    assert shown.endswith(f"[tailrace.content: 500000 bytes, {ref.hash}]")


def test_fields_above_the_threshold_go_to_the_store_though_they_fit() -> None:
    one = event(inputs="i" * 9_000, outputs="o" * 11_000, tool=Tool(tool_outputs="t" * 12_000))
    assert isinstance(prepared(one, NOW, LIMITS, Policy()), Prepared)
    done = read(claimed(large(one, Policy(threshold=10_000))))
    assert {ref.field for ref in done.content_refs} == {"outputs", "tool.tool_outputs"}
    assert done.inputs == json.dumps("i" * 9_000)
    assert isinstance(prepared(one, NOW, LIMITS, Policy(threshold=12_002)), Prepared)
    tiny = event(inputs="i" * (previews.LEAST - 10))
    assert isinstance(prepared(tiny, NOW, LIMITS, Policy(threshold=1)), Prepared)


def test_media_go_to_the_store_as_bytes_and_are_named_in_the_text() -> None:
    message: dict[str, Any] = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": URI}}, "what is it?"],
    }
    found = claimed(
        large(event(inputs=[message, message], outputs={"data": B64, "media_type": "image/webp"}))
    )
    done = read(found)
    hash = content_hash(PNG)
    assert stored(found) == {hash: PNG}
    assert [(r.field, r.hash, r.bytes, r.media_type) for r in done.content_refs] == [
        ("inputs" + MEDIA, hash, len(PNG), "image/png"),
        ("outputs" + MEDIA, hash, len(PNG), "image/webp"),
    ]
    message["content"][0] = {
        "type": "image_url",
        "image_url": {"url": f"[image/png, {len(PNG)} bytes, {hash}]"},
    }
    assert json.loads(str(done.inputs)) == [message, message]
    assert not done.content_changes


def test_a_field_with_media_that_is_still_too_large_is_stored_with_their_names() -> None:
    found = claimed(large(event(inputs={"image": URI, "text": "x y " * 50_000})))
    done = read(found)
    assert [r.field for r in done.content_refs] == ["inputs" + MEDIA, "inputs"]
    held = stored(found)
    assert held[done.content_refs[0].hash] == PNG
    whole = json.loads(held[done.content_refs[1].hash])
    assert whole == {"image": f"[image/png, {len(PNG)} bytes, {content_hash(PNG)}]", "text": "x y " * 50_000}


def test_content_that_is_in_a_store_already_is_not_stored_again() -> None:
    ref = ContentRef(field="inputs", hash="sha256:" + "00" * 32, bytes=5)
    found = claimed(large(event(inputs="i" * 5_000, outputs="o" * 90_000, content_refs=[ref]), Policy(4_500)))
    done = read(found)
    assert [r.field for r in done.content_refs] == ["inputs", "outputs"]
    assert done.content_refs[0] == ref
    assert done.inputs == json.dumps("i" * 5_000)


def test_what_cannot_be_stored_is_refused_or_cut_as_it_says() -> None:
    heavy = event(inputs="i" * 90_000, attributes={"a": "x" * 90_000})
    with pytest.raises(EventTooLarge):
        prepared(heavy, NOW, LIMITS, Policy())
    found = prepared(heavy, NOW, Limits(LIMITS.most, True), Policy())
    assert isinstance(found, Prepared)
    assert {c.field for c in found.event.content_changes} >= {"attributes"}
    assert len(found.value) <= LIMITS.most
    too_much = event(inputs="i" * 3_000_000)
    with pytest.raises(EventTooLarge, match=r"raise content\.max_bytes") as refused:
        prepared(too_much, NOW, LIMITS, Policy(most=2_000_000))
    assert refused.value.field == "inputs"
    done = read(claimed(large(too_much, Policy(most=2_000_000), Limits(LIMITS.most, True))))
    assert [(c.field, c.change, c.bytes) for c in done.content_changes] == [
        ("inputs", ChangeKind.CUT, 3_000_002)
    ]
    assert [r.bytes <= 2_000_002 for r in done.content_refs] == [True]
    with pytest.raises(InvalidEvent):
        prepared(event(inputs="i" * 90_000, status={1}), NOW, LIMITS, Policy())


def test_without_the_store_the_same_event_is_cut_and_says_so() -> None:
    claim = large(event(inputs={"a": "i" * 90_000}, outputs="o"))
    found = cut(claim)
    assert len(found.value) <= claim.room
    done = codec.decode(found.value, TraceEvent)
    assert (done.event_id, done.published_at, found.key) == (
        claim.event.event_id,
        claim.event.published_at,
        claim.key,
    )
    assert not done.content_refs
    assert [(c.field, c.change) for c in done.content_changes] == [("inputs", ChangeKind.CUT)]
    assert json.loads(str(done.inputs))["a"].endswith("… [cut]")
    assert done.outputs == '"o"'


def test_without_the_store_media_are_named_before_anything_is_cut() -> None:
    two = base64.b64encode(PNG + b"2").decode()
    images = {"a": URI, "b": f"data:image/png;base64,{two}", "text": "kept"}
    found = cut(large(event(inputs=images)))
    done = codec.decode(found.value, TraceEvent)
    named = json.loads(str(done.inputs))
    assert named["a"] == f"[image/png, {len(PNG)} bytes, {content_hash(PNG)}]"
    assert named["text"] == "kept"
    assert [(c.field, c.change) for c in done.content_changes] == [("inputs", ChangeKind.CUT)]
    assert done.content_changes[0].bytes > 80_000


# -- no store is set, and events that are too large are cut


def cutting(one: TraceEvent) -> TraceEvent:
    found = prepared_without_store(one, NOW, Limits(LIMITS.most, True))
    assert len(found.value) <= LIMITS.most
    return codec.decode(found.value, TraceEvent)


def test_media_are_named_instead_of_cut_where_no_store_is_set() -> None:
    for value in (
        {"image": f"data:image/png;base64,{base64.b64encode(PNG * 4).decode()}", "text": "kept"},
        {"image": PNG * 4, "text": "kept"},
    ):
        done = cutting(event(source_id=None, inputs=value))
        named = json.loads(str(done.inputs))
        assert named == {
            "image": f"[image/png, {len(PNG) * 4} bytes, {content_hash(PNG * 4)}]",
            "text": "kept",
        }
        assert [(c.field, c.change) for c in done.content_changes] == [("inputs", ChangeKind.CUT)]
        assert not done.content_refs
        assert done.source_id


def test_media_that_fit_stay_where_no_store_is_set() -> None:
    done = cutting(event(inputs={"image": URI}))
    assert json.loads(str(done.inputs)) == {"image": URI}
    assert not done.content_changes


def test_what_has_no_media_is_cut_as_before() -> None:
    for one in (
        event(inputs="i" * 90_000),
        event(inputs={"a": ["x y"] * 90_000}),
        event(inputs=range(10**9)),
        event(attributes={"a": "x" * 90_000}),
    ):
        found = prepared_without_store(one, NOW, Limits(LIMITS.most, True))
        assert found == without_store(one, NOW, Limits(LIMITS.most, True))


# -- any event


CONTENTS = st.recursive(
    st.none()
    | st.integers(-5, 5)
    | st.text(max_size=20)
    | st.sampled_from(["x" * 20_000, "ä y" * 30_000, '"\\\n' * 9_000, URI, B64, PNG]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    inputs=CONTENTS,
    outputs=CONTENTS,
    files=CONTENTS,
    query=st.none() | st.sampled_from(["q", "q\u00e4" * 40_000, URI * 2]),
    tenant=st.none() | st.sampled_from(["acme", ""]),
    threshold=st.sampled_from([0, 1, 10_000]),
)
def test_what_was_stored_and_the_record_hold_all_of_the_event(
    inputs: Any, outputs: Any, files: Any, query: str | None, tenant: str | None, threshold: int
) -> None:
    one = event(
        kind=Kind.MESSAGE,
        inputs=inputs,
        outputs=outputs,
        origin=Origin(message_data=files),
        message=Message(query=query),
        tenant_id=tenant,
    )
    found = prepared(one, NOW, LIMITS, Policy(threshold))
    whole = without_store(one, NOW, Limits(10_000_000))
    if isinstance(found, Prepared):
        assert found == whole
        assert len(found.value) <= LIMITS.most
        return
    made = claimed(found)
    assert len(made.value) + len(found.key or b"") <= LIMITS.most
    done, held = read(made), stored(made)
    assert {ref.hash for ref in done.content_refs} == set(held)
    assert all(ref.bytes == len(held[ref.hash]) for ref in done.content_refs)
    assert {ref.tenant_id for ref in done.content_refs} <= {tenant or None}
    texts = dict(contents(done))
    for ref in done.content_refs:
        if ref.field in CONTENT:
            texts[ref.field] = held[ref.hash].decode()
    names = {
        media.marker(media.Medium(str(ref.media_type), held[ref.hash], ref.hash)): held[ref.hash]
        for ref in done.content_refs
        if ref.field.endswith(MEDIA)
    }
    for path, text in contents(whole.event):
        back, sent = texts[path], text
        for name, data in names.items():
            back = back.replace(f"data:image/png;base64,{base64.b64encode(data).decode()}", name)
            sent = sent.replace(f"data:image/png;base64,{base64.b64encode(data).decode()}", name)
            sent = sent.replace(base64.b64encode(data).decode(), name)
        assert back == sent
    assert (done.event_id, done.trace_id, done.source_id) == (
        whole.event.event_id,
        whole.event.trace_id,
        whole.event.source_id,
    )
    smaller = cut(found)
    assert len(smaller.value) + len(found.key or b"") <= LIMITS.most
    assert smaller.event.event_id == whole.event.event_id


@given(text=st.text(max_size=50), size=st.integers(0, 10**12))
def test_a_preview_is_json_and_small(text: str, size: int) -> None:
    hash = content_hash(text.encode("utf-8", "surrogatepass"))
    for content in (
        json.dumps(text),
        json.dumps([text] * 500),
        json.dumps({text: text * 500}),
        json.dumps(text * 500),
    ):
        shown = previews.of_json(content, hash, size)
        assert json.loads(shown)["tailrace.content"] == {"hash": hash, "bytes": size}
        assert len(shown.encode()) <= previews.BYTES + 200
