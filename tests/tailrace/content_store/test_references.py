"""References that an event brings along: nonsense is refused with the field named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tailrace import InvalidEvent, Kind, TraceEvent, codec
from tailrace.content import Limits
from tailrace.content_store.references import MEDIA, MOST
from tailrace.event_lines import parse
from tailrace.prepare import prepared
from tailrace.records import ContentRef

HASH = "sha256:" + "0a" * 32


def with_refs(*refs: Any, tenant: str | None = "acme") -> TraceEvent:
    return TraceEvent(
        kind=Kind.TOOL, started_at=10**15, ended_at=10**15, source_id="s", tenant_id=tenant, content_refs=refs
    )


def ref(**values: Any) -> ContentRef:
    return ContentRef(**{"field": "outputs", "hash": HASH, "bytes": 9, **values})


@pytest.mark.parametrize(
    "good",
    [
        ref(),
        ref(tenant_id="acme", media_type="application/json"),
        ref(field="tool.tool_outputs"),
        ref(field="inputs" + MEDIA, media_type="image/png"),
        ref(bytes=0),
    ],
)
def test_references_to_content_are_published_as_they_are(good: ContentRef) -> None:
    read = codec.decode(prepared(with_refs(good), 10**15, Limits()).value, TraceEvent)
    assert list(read.content_refs) == [good]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (ref(field="nowhere"), "content_refs.field"),
        (ref(field="trace_id"), "content_refs.field"),
        (ref(field=""), "content_refs.field"),
        (ref(field=5), "content_refs.field"),
        (ref(hash=""), "content_refs.hash"),
        (ref(hash="sha256:00"), "content_refs.hash"),
        (ref(hash="../../secret"), "content_refs.hash"),
        (ref(hash=None), "content_refs.hash"),
        (ref(bytes=-1), "content_refs.bytes"),
        (ref(bytes=1 << 60), "content_refs.bytes"),
        (ref(bytes=True), "content_refs.bytes"),
        (ref(tenant_id="other"), "content_refs.tenant_id"),
        (ref(tenant_id=5), "content_refs.tenant_id"),
        (ref(media_type="x" * 201), "content_refs.media_type"),
        (ref(media_type=5), "content_refs.media_type"),
        ({"field": "outputs"}, "content_refs"),
        (None, "content_refs"),
    ],
)
def test_a_reference_that_names_nothing_is_refused_with_its_field(bad: Any, field: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        prepared(with_refs(ref(), bad), 10**15, Limits())
    assert refused.value.field == field


def test_an_event_without_a_tenant_names_no_tenants_content() -> None:
    prepared(with_refs(ref(), tenant=None), 10**15, Limits())
    with pytest.raises(InvalidEvent) as refused:
        prepared(with_refs(ref(tenant_id="acme"), tenant=None), 10**15, Limits())
    assert refused.value.field == "content_refs.tenant_id"


def test_more_references_than_an_event_may_have_are_refused() -> None:
    prepared(with_refs(*[ref()] * MOST), 10**15, Limits())
    with pytest.raises(InvalidEvent, match="has 301 references, may have 300"):
        prepared(with_refs(*[ref()] * (MOST + 1)), 10**15, Limits())


def test_a_json_line_brings_references_too() -> None:
    def line(**values: Any) -> bytes:
        reference = {"field": "outputs", "hash": HASH, "bytes": 9, **values}
        return json.dumps(
            {"kind": "tool", "started_at": 10**15, "ended_at": 10**15, "content_refs": [reference]}
        ).encode()

    done = prepared(parse(line()), 10**15, Limits())
    assert list(codec.decode(done.value, TraceEvent).content_refs) == [ref()]
    for wrong in ({"hash": "md5:00"}, {"field": "trace_id"}, {"bytes": -1}, {"tenant_id": "other"}):
        with pytest.raises(InvalidEvent) as refused:
            prepared(parse(line(**wrong)), 10**15, Limits())
        assert refused.value.field == f"content_refs.{next(iter(wrong))}"
