"""The hand-written encoders and decoders follow the schemas, byte for byte."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing import context, links
from streams.processing.avro import nullable, strings
from streams.processing.correlate import Link
from streams.processing.dedupe import BUCKET_MS, PIECE, Dedupe
from streams.processing.header import read
from streams.processing.metrics import distribution
from streams.processing.metrics.definitions import Histogram, definitions
from streams.processing.metrics.distribution import (
    CLASSED_SIZE,
    DURATION,
    FIRST_TOKEN,
    INPUT,
    OUTPUT,
    SECONDS,
    SIZE,
)
from streams.processing.metrics.group_state import GroupState
from streams.processing.metrics.grouping import LABELS, Group
from streams.processing.metrics.series import Series, measured
from streams.processing.operations import FIXED
from streams.processing.overflow_totals import OverflowTotals
from streams.processing.trace import Stored, Trace
from tailrace import codec
from tailrace.codec.varint import zigzag
from tailrace.ids import dedupe_hash
from tailrace.metrics.row_period import ROW_PERIOD_US
from tailrace.records import (
    Kind,
    MetricGroup,
    MetricRow,
    MetricTotal,
    ParentKind,
    RootSource,
    TraceContext,
    TraceEvent,
    TraceState,
)

text = st.text(st.characters(codec="utf-8"), max_size=100)
maybe = st.none() | text
positive = st.integers(0, 2**62)


def encoded(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def enriched(c: TraceContext) -> bytes:
    """The context's fields from linked_span_id to price_table."""
    return b"".join(
        (
            b"\0" if c.linked_span_id is None else b"\2" + c.linked_span_id,
            *(nullable(encoded(v)) for v in (c.provider_name, c.request_model, c.tool_name)),
            strings([d.encode() for d in c.dataset_names]),
            *(nullable(encoded(v)) for v in (c.estimated_cost, c.price_table)),
        )
    )


@given(
    st.builds(
        TraceContext,
        generation=st.integers(0, 1000),
        sequence=positive,
        source_offset=positive,
        appended_at=positive,
        span_id=st.binary(min_size=8, max_size=8),
        parent_span_id=st.none() | st.binary(min_size=8, max_size=8),
        parent_source_id=maybe,
        parent_kind=st.sampled_from(ParentKind),
        marks=st.lists(text, max_size=3),
        linked_span_id=st.none() | st.binary(min_size=8, max_size=8),
        provider_name=maybe,
        request_model=maybe,
        tool_name=maybe,
        dataset_names=st.lists(text, max_size=3),
        estimated_cost=maybe,
        price_table=maybe,
        run_trace_id=st.just(b"T" * 16),
        message_trace_id=st.just(b"T" * 16),
        root_trace_id=maybe,
        root_run_id=maybe,
        trace_started_at=positive,
        user_id=maybe,
        session_id=maybe,
        conversation_id=maybe,
        tenant_id=maybe,
        app_id=maybe,
        app_name=maybe,
        workspace_name=maybe,
    )
)
@settings(max_examples=300, deadline=None)
def test_a_context_is_byte_for_byte_what_the_codec_writes(c: TraceContext) -> None:
    trace = Trace(encoded(c.root_trace_id), c.trace_started_at)
    trace.root_run_id, trace.user_id, trace.session_id = (
        encoded(c.root_run_id),
        encoded(c.user_id),
        encoded(c.session_id),
    )
    trace.conversation_id, trace.app_id = encoded(c.conversation_id), encoded(c.app_id)
    trace.tenant_id = encoded(c.tenant_id)
    trace.app_name, trace.workspace_name, trace.otel_trace_id = (
        encoded(c.app_name),
        encoded(c.workspace_name),
        b"T" * 16,
    )
    written = context.encode(
        zigzag(c.generation) + zigzag(c.sequence),
        c.source_offset,
        zigzag(c.appended_at),
        c.span_id,
        c.parent_span_id,
        encoded(c.parent_source_id),
        str(c.parent_kind),
        tuple(m.encode() for m in c.marks),
        enriched(c),
        trace.shared(b"x"),
    )
    assert written == codec.encode(c)


@given(
    st.builds(
        TraceState,
        root_trace_id=maybe,
        root_run_id=maybe,
        root=st.sampled_from(RootSource),
        started_at=positive,
        ended=st.booleans(),
        tenant_id=maybe,
        part=positive,
        appended_at=positive,
        touched=positive,
        user_id=maybe,
        session_id=maybe,
        conversation_id=maybe,
        app_id=maybe,
        app_name=maybe,
        workspace_name=maybe,
        otel_trace_id=st.none() | st.binary(min_size=16, max_size=16),
        events=positive,
        certain=st.booleans(),
        start_unknown=st.booleans(),
        runs=st.lists(text, max_size=3, unique=True),
        revisions=st.dictionaries(
            st.binary(min_size=8, max_size=8), st.integers(1, 2**31 - 1), max_size=3
        ).map(lambda d: b"".join(k + v.to_bytes(4, "big") for k, v in d.items())),
        chunks=st.just(0),
        currencies=st.lists(text, max_size=3),
        datasets=st.dictionaries(text, text, max_size=3),
        fixed=st.just(bytes(FIXED.size)),
        texts=st.binary(max_size=50),
        beyond=st.sampled_from(
            [b"", msgspec.json.encode(OverflowTotals(counts={"span": 3}, cost={"USD": 7}))]
        ),
    )
)
@settings(max_examples=300, deadline=None)
def test_a_trace_packs_as_the_codec_writes_it_and_unpacks_to_the_same(s: TraceState) -> None:
    value = codec.encode_versioned(s)
    trace = Trace.unpack(value)
    assert trace.pack() == value
    assert (
        Stored(value).remains()
        == trace.remains()
        == (s.started_at, encoded(s.tenant_id), s.certain, s.start_unknown)
    )


def test_dedupe_forgets_whole_buckets_after_the_horizon_and_not_before() -> None:
    d = Dedupe(2 * BUCKET_MS)
    for i in range(5):
        h = d.seen(b"id%d" % i)
        assert h is not None
        d.add(h, i * BUCKET_MS)
    assert [d.seen(b"id%d" % i) is None for i in range(5)] == [False, False, True, True, True]


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3)), max_size=1500))
@settings(max_examples=30, deadline=None)
def test_dedupe_restores_from_its_records_to_the_same_memory(steps: list[tuple[int, int]]) -> None:
    d, log, clock = Dedupe(3 * BUCKET_MS), dict[bytes, bytes | None](), 0
    for i, (n, forward) in enumerate(steps):
        clock += forward * BUCKET_MS // 2
        h = d.seen(b"%d" % n)
        if h is not None:
            d.add(h, clock)
        if i % 97 == 0:
            log.update(d.changes())
    log.update(d.changes())
    other = Dedupe(3 * BUCKET_MS)
    for key, value in log.items():
        if value is not None:
            other.restore(key, value)
    assert other._seen == d._seen
    assert all(value is None or len(value) <= PIECE * 8 + 16 for value in log.values())


def test_dedupe_hash_is_eight_bytes() -> None:
    assert len(dedupe_hash(b"x")) == 8


places = st.integers(0, 2**40)
counted = st.lists(places, min_size=SIZE, max_size=SIZE) | st.lists(
    places, min_size=CLASSED_SIZE, max_size=CLASSED_SIZE
)
label = st.text(st.characters(codec="utf-8"), max_size=20)
groups = st.builds(
    Group,
    st.sampled_from(
        [
            "workflow_run",
            "node_execution",
            "message",
            "tool",
            "feedback",
            "evaluation",
            "dataset_retrieval",
            "span",
            "prompt_generation",
        ]
    ),
    st.tuples(*({"call": label | st.just("chat"), "classes": st.just("true")}.get(n, label) for n in LABELS)),
    st.lists(text, max_size=3, unique=True).map(tuple),
)


@given(groups, counted, positive, positive)
@settings(max_examples=100, deadline=None)
def test_a_metric_group_packs_as_the_codec_writes_it(
    group: Group, values: list[int], at: int, offset: int
) -> None:
    found = GroupState(7, group, at, values)
    found.appended_at, found.touched = at + 5, offset
    expected = MetricGroup(
        kind=group.kind,
        labels=list(group.labels),
        datasets=list(group.datasets),
        started_at=at,
        appended_at=at + 5,
        touched=offset,
        values=distribution.pack(values),
    )
    assert found.pack() == codec.encode_versioned(expected)
    unpacked = distribution.unpack(distribution.pack(values))
    assert len(unpacked) in (SIZE, len(values))
    assert [*unpacked, *[0] * (len(values) - len(unpacked))] == values


@given(groups, counted, counted, st.integers(0, 2**32), positive)
@settings(max_examples=100, deadline=None)
def test_rows_and_series_are_byte_for_byte_what_the_codec_writes(
    group: Group, a: list[int], b: list[int], minute: int, offset: int
) -> None:
    for definition in definitions(group):
        series = Series(3, definition)
        count, total, least, most, buckets = measured(definition, [a, b])
        row, whole = (
            series.row(zigzag(3), minute, [a, b], offset),
            series.total(zigzag(3), 5, 6, [a, b], offset),
        )
        if not count:
            assert row is whole is None
            continue
        histogram = isinstance(definition.part, Histogram)
        common: dict[str, Any] = {
            "partition": 3,
            "metric": definition.metric,
            "labels": dict(definition.labels),
            "unit": definition.unit,
            "count": count,
            "sum": total,
            "bounds": list(definition.part.bounds) if isinstance(definition.part, Histogram) else [],
            "buckets": buckets,
            "source_offset": offset,
        }
        assert row is not None
        assert whole is not None
        assert row[1] == codec.encode(
            MetricRow(
                minute=minute * ROW_PERIOD_US,
                minimum=least if histogram else None,
                maximum=most if histogram else None,
                **common,
            )
        )
        assert whole[1] == codec.encode(MetricTotal(started_at=5, updated_at=6, **common))


def test_the_parts_of_a_distribution_do_not_overlap() -> None:
    assert FIRST_TOKEN + 4 + len(SECONDS) + 1 == SIZE
    assert DURATION < INPUT < OUTPUT < FIRST_TOKEN < SIZE < CLASSED_SIZE <= 255
    assert distribution.unpack(distribution.pack([5] * SIZE)) == [5] * SIZE
    assert distribution.unpack(distribution.pack([5] * CLASSED_SIZE)) == [5] * CLASSED_SIZE


def test_sums_by_class_are_limited_to_what_a_long_holds() -> None:
    values = [0] * CLASSED_SIZE
    values[CLASSED_SIZE - 1] = 1 << 70
    assert distribution.unpack(distribution.pack(values))[-1] == distribution.MOST


run_ids = (st.text(st.characters(codec="ascii"), max_size=70) | st.uuids().map(str) | text).filter(bool)


@given(
    run_ids,
    run_ids,
    st.none() | run_ids,
    st.none() | run_ids,
    st.none() | run_ids,
    st.none() | positive,
    positive,
)
@settings(max_examples=300, deadline=None)
def test_our_own_link_is_read_like_its_header(
    run: str, root: str, root_run: str | None, app: str | None, tenant: str | None, began: int | None, at: int
) -> None:
    link = Link(root.encode(), encoded(root_run), began, encoded(app), encoded(tenant))
    value = links.record(run.encode(), link, at)
    event = codec.decode(value, TraceEvent)
    assert codec.encode(event) == value
    assert (event.kind, event.source_id, event.root_trace_id, event.root_run_id, event.tenant_id) == (
        Kind.LINK,
        run,
        root,
        root_run,
        tenant,
    )
    assert links.made_here(value) in ((run.encode(), link), None)
    ids = (run, root, root_run or "", app or "", tenant or "")
    if run and root and max(map(len, ids)) < 58 and "".join(ids).isprintable() and "".join(ids).isascii():
        assert links.made_here(value) == (run.encode(), link)


@given(run_ids, st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_link_of_another_writer_is_read_like_its_header_or_not_at_all(run: str, at: int, byte: int) -> None:
    value = bytearray(
        links.record(run.encode(), Link(b"root", b"run", 5, b"app", b"tenant"), 1_795_272_711_570_162)
    )
    value[at % len(value)] = byte
    known = links.made_here(bytes(value))
    if known is not None:
        h = read(bytes(value))
        assert known == (
            h.source_id,
            Link(h.root_trace_id or b"", h.root_run_id, h.root_started_at, h.root_app_id, h.tenant_id),
        )
        assert h.kind == "link"
