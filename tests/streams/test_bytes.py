"""The hand-written encodings are what the schema says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streams import context
from streams.dedupe import BUCKET_MS, PIECE, Dedupe
from streams.trace import Trace
from tailrace import codec
from tailrace.codec.encoder import zigzag
from tailrace.ids import dedupe_hash
from tailrace.records import ParentKind, RootSource, TraceContext, TraceState

text = st.text(st.characters(codec="utf-8"), max_size=100)
maybe = st.none() | text
positive = st.integers(0, 2**62)


def encoded(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


@given(
    st.builds(
        TraceContext,
        generation=st.integers(0, 1000), sequence=positive, source_offset=positive, appended_at=positive, span_id=st.binary(min_size=8, max_size=8),
        parent_span_id=st.none() | st.binary(min_size=8, max_size=8), parent_source_id=maybe, parent_kind=st.sampled_from(ParentKind),
        marks=st.lists(text, max_size=3), run_trace_id=st.just(b"T" * 16), message_trace_id=st.just(b"T" * 16), root_trace_id=maybe, root_run_id=maybe,
        trace_started_at=positive, user_id=maybe, session_id=maybe, conversation_id=maybe, app_id=maybe, app_name=maybe, workspace_name=maybe,
    )
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_a_context_is_byte_for_byte_what_the_codec_writes(c: TraceContext) -> None:
    trace = Trace(encoded(c.root_trace_id), c.trace_started_at)
    trace.root_run_id, trace.user_id, trace.session_id = (
        encoded(c.root_run_id),
        encoded(c.user_id),
        encoded(c.session_id),
    )
    trace.conversation_id, trace.app_id = encoded(c.conversation_id), encoded(c.app_id)
    trace.app_name, trace.workspace_name, trace.otel_trace_id = (
        encoded(c.app_name),
        encoded(c.workspace_name),
        b"T" * 16,
    )
    written = context.encode(
        zigzag(c.generation) + zigzag(c.sequence), c.source_offset, zigzag(c.appended_at), c.span_id, c.parent_span_id,
        encoded(c.parent_source_id), str(c.parent_kind), tuple(m.encode() for m in c.marks), trace.shared(b"x"),
    )  # fmt: skip
    assert written == codec.encode(c)


@given(
    st.builds(
        TraceState,
        root_trace_id=maybe, root_run_id=maybe, root=st.sampled_from(RootSource), started_at=positive, first_started_at=positive, last_ended_at=positive,
        appended_at=positive, touched=positive, user_id=maybe, session_id=maybe, conversation_id=maybe, app_id=maybe, app_name=maybe,
        workspace_name=maybe, otel_trace_id=st.none() | st.binary(min_size=16, max_size=16), events=positive, errors=positive,
        certain=st.booleans(), runs=st.lists(text, max_size=3, unique=True),
        revisions=st.dictionaries(st.binary(min_size=8, max_size=8), st.integers(1, 2**31 - 1), max_size=3).map(
            lambda d: b"".join(k + v.to_bytes(4, "big") for k, v in d.items())
        ),
    )
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_a_trace_packs_as_the_codec_writes_it_and_unpacks_to_the_same(s: TraceState) -> None:
    value = codec.encode_versioned(s)
    assert Trace.unpack(value).pack() == value


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
