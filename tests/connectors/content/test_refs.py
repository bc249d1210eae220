"""Which references are followed, and what becomes of a record. Pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connectors.content import refs
from connectors.content.refs import PATHS, Failure, chosen, fetched_paths, filled, report, value_of
from connectors.sdk.contract import Enriched
from tailrace import codec
from tailrace.content import Limits
from tailrace.fields import FIELDS
from tailrace.identity import complete, kafka_key
from tailrace.prepare import prepared
from tailrace.records import ChangeKind, ContentChange, ContentRef, Kind, NodeExecution, TraceEvent
from tests.connectors.content.stores import ref_to
from tests.connectors.enriching import make_context, make_event

MOST = 1_000_000
BIG = json.dumps({"text": "x" * 300}).encode()
PREVIEW = '"preview"'


def record(*references: ContentRef, **changes: Any) -> Enriched:
    event = make_event(1, content_refs=references, **{"inputs": PREVIEW, **changes})
    return Enriched(event, make_context(event), "trace.enriched", 0, 7, 0)


def test_a_field_gets_its_content_back_and_nothing_else_changes() -> None:
    before = record(ref_to(BIG), ref_to(b'"out"', "node_execution.process_data"))
    wanted, failures = chosen(before.event, PATHS, MOST)
    assert (wanted, failures) == (list(before.event.content_refs), [])
    after, failed = filled(before, [(wanted[0], BIG), (wanted[1], b'"out"')], [])
    assert failed == []
    assert after == msgspec.structs.replace(
        before,
        event=msgspec.structs.replace(
            before.event,
            inputs=BIG.decode(),
            node_execution=NodeExecution(node_id="n", process_data='"out"'),
            content_refs=(),
        ),
    )


def test_content_that_does_not_come_leaves_the_preview_and_is_marked() -> None:
    before = record(ref_to(BIG), ref_to(b'"out"', "outputs"), outputs=PREVIEW)
    first, second = before.event.content_refs
    after, failed = filled(before, [(second, b'"out"')], [Failure(first, refs.MISSING)])
    assert failed == [Failure(first, refs.MISSING)]
    assert (after.event.inputs, after.event.outputs) == (PREVIEW, '"out"')
    assert after.event.content_refs == (first,)
    assert after.event.content_changes == (
        ContentChange(field="inputs", change=ChangeKind.CUT, bytes=len(BIG)),
    )
    assert after.context.marks == (refs.MARK,)


def test_the_content_of_another_tenant_is_never_fetched() -> None:
    for own, named in (("tenant", "other"), (None, "tenant"), ("tenant", "TENANT")):
        found = record(ref_to(BIG, tenant_id=named), tenant_id=own)
        wanted, failures = chosen(found.event, PATHS, MOST)
        assert wanted == []
        assert [f.reason for f in failures] == [refs.OTHER_TENANT]
    for own in (None, "tenant"):
        found = record(ref_to(BIG, tenant_id=None), tenant_id=own)
        assert chosen(found.event, PATHS, MOST) == (list(found.event.content_refs), [])


def test_ids_and_what_metrics_count_are_never_replaced() -> None:
    for field in ("tenant_id", "trace_id", "event_id", "model_name", "status", "kind", "content_refs"):
        assert [f.reason for f in chosen(record(ref_to(BIG, field)).event, PATHS, MOST)[1]] == [refs.UNUSABLE]


def test_a_hash_that_could_be_a_path_is_not_followed() -> None:
    for name in ("sha256:../../secret", "", "sha256:" + "A" * 64, "md5:" + "0" * 32):
        bad = msgspec.structs.replace(ref_to(BIG), hash=name)
        assert [f.reason for f in chosen(record(bad).event, PATHS, MOST)[1]] == [refs.UNUSABLE]


def test_a_sink_fetches_only_what_it_decodes_and_its_policy_leaves() -> None:
    assert fetched_paths(None) == PATHS
    some = fetched_paths({"inputs", "tool"}, {"tool.tool_inputs"})
    assert {"inputs", "tool.tool_outputs"} <= some
    assert not {"outputs", "tool.tool_inputs"} & some
    found = record(ref_to(BIG, "outputs"), ref_to(BIG, "tool.tool_inputs"))
    assert chosen(found.event, some, MOST) == ([], [])


def test_a_medium_inside_a_field_stays_a_reference() -> None:
    found = record(ref_to(b"\x89PNG", "inputs#media"))
    assert chosen(found.event, PATHS, MOST) == ([], [])


def test_a_record_gets_back_no_more_than_the_limit() -> None:
    found = record(ref_to(b"1" * 60), ref_to(b"2" * 50, "outputs"), ref_to(b"3" * 40, "attributes"))
    wanted, failures = chosen(found.event, PATHS, 100)
    assert [r.field for r in wanted] == ["inputs", "attributes"]
    assert [(f.ref.field, f.reason) for f in failures] == [("outputs", refs.TOO_LARGE)]


def test_lists_and_maps_come_back_as_such() -> None:
    assert value_of(b'["a","b"]', "tool.file_urls") == ("a", "b")
    assert value_of(b'{"a":"b"}', "attributes") == {"a": "b"}
    assert value_of("Ünïcode".encode(), "error") == "Ünïcode"


def test_a_report_is_the_same_event_from_every_sink_and_holds_what_the_seed_names() -> None:
    found = record(ref_to(BIG), ref_to(BIG, "outputs"), kind=Kind.WORKFLOW_RUN, node_execution=None)
    failures = [Failure(r, refs.MISSING) for r in found.event.content_refs]
    context = msgspec.structs.replace(found.context, root_run_id="root-run")
    first = complete(report(found.event, context, failures, 1_800_000_000_000_000), 1_800_000_000_000_000)
    again = complete(report(found.event, context, failures[:1], 1_800_000_009_000_000), 1_800_000_009_000_000)
    assert (first.event_id, first.source_id, kafka_key(first)) == (
        again.event_id,
        again.source_id,
        kafka_key(again),
    )
    assert (first.kind, first.tenant_id, first.app_id, first.trace_id) == (
        Kind.REHYDRATION_FAILED,
        "tenant",
        "app",
        None,
    )
    assert first.error == "inputs, outputs: the store does not have it"
    assert first.rehydration_failed is not None
    assert first.rehydration_failed.payload_type == "workflow"
    assert first.rehydration_failed.correlation_id == "root-run"
    other = complete(report(make_event(2), context, failures, 1_800_000_000_000_000), 1_800_000_000_000_000)
    assert other.event_id != first.event_id


ANY_REF = st.builds(
    ContentRef,
    field=st.one_of(st.sampled_from(sorted(FIELDS)), st.text(max_size=20)),
    tenant_id=st.sampled_from([None, "", "tenant", "other"]),
    hash=st.one_of(st.text(max_size=80), st.just(ref_to(BIG).hash)),
    bytes=st.integers(-(1 << 63), (1 << 63) - 1),
    media_type=st.none() | st.text(max_size=10),
)


@given(st.lists(ANY_REF, max_size=8), st.lists(st.binary(max_size=50), max_size=8))
def test_no_reference_and_no_bytes_make_it_raise_or_an_event_that_cannot_be_written(
    references: list[ContentRef], data: list[bytes]
) -> None:
    found = record(*references)
    wanted, failures = chosen(found.event, PATHS, MOST)
    assert all(r.tenant_id in ("tenant", "", None) for r in wanted)
    assert sum(r.bytes for r in wanted) <= MOST
    sized = [(msgspec.structs.replace(r, bytes=len(d)), d) for r, d in zip(wanted, data, strict=False)]
    after, failed = filled(found, [*zip(wanted, data, strict=False), *sized], failures)
    codec.encode(after.event)
    if failed:
        event = report(after.event, after.context, failed, 1_800_000_000_000_000)
        made = prepared(event, 1_800_000_000_000_000, Limits(900_000, cut=True))
        assert len(made.value) < 10_000


def test_very_many_references_are_cheap_and_their_report_is_small() -> None:
    many = tuple(msgspec.structs.replace(ref_to(BIG), field=f"field-{i}") for i in range(100_000))
    wanted, failures = chosen(record(*many).event, PATHS, MOST)
    assert not wanted
    assert len(failures) <= len(PATHS) + 1
    after, failed = filled(record(*many), [], failures)
    assert len(after.event.content_changes) == len(failed)
    assert isinstance(after.event, TraceEvent)
