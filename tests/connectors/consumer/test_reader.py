"""Reading records of trace.enriched for a sink."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.consumer.dead_letters import dead_letter_key, sink_dead_letter
from connectors.consumer.reader import ALWAYS, Reader, Unreadable, source
from connectors.sdk.contract import Enriched, RecordOrigin
from connectors.sdk.outcomes import Rejected
from tailrace import codec
from tailrace.dead_letters import NAME
from tailrace.records import ContentRef, DeadLetter, NodeExecution, Stage, TraceContext, TraceEvent
from tailrace.topics import HEADER
from tests.connectors.enriching import make_context, make_event
from tests.connectors.generated import contexts, events
from tests.harness import foreign

EVENT = make_event(1, user_id="u", tags=("a",))
VALUE = codec.encode(EVENT)
HEADERS = [("other", b"x"), (HEADER, codec.encode(make_context(EVENT, 9)))]


@settings(
    max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)
@given(events, contexts)
def test_what_was_written_is_read(event: TraceEvent, context: TraceContext) -> None:
    event = msgspec.structs.replace(event, event_id=event.event_id or "e", source_id=event.source_id or "s")
    found = Reader(None).read("t", 1, 2, 3, foreign.encode(event), [(HEADER, codec.encode(context))])
    assert isinstance(found, Enriched)
    zeros = {name: None for name in foreign.NATIVE if not any(getattr(event, name) or b"")}
    assert codec.encode(found.event) == codec.encode(msgspec.structs.replace(event, **zeros))
    assert codec.encode(found.context) == codec.encode(context)
    assert (found.topic, found.partition, found.offset, found.appended_at) == ("t", 1, 2, 3)


def test_an_empty_text_of_any_producer_is_null_for_a_sink() -> None:
    body = NodeExecution(node_id="", metadata="", dataset_names=["", "a"])
    event = msgspec.structs.replace(foreign.emptied(EVENT), source_id="", node_execution=body)
    found = Reader(None).read("t", 0, 0, 0, foreign.encode(event), HEADERS)
    assert isinstance(found, Enriched)
    nullable = [name for name in foreign.TEXTS if not getattr(event, name)]
    assert len(nullable) > 20
    assert {getattr(found.event, name) for name in (*nullable, *foreign.NATIVE, "source_id")} == {None}
    assert found.event.node_execution == NodeExecution(dataset_names=["", "a"])


def test_a_sink_gets_the_fields_that_it_names_and_those_of_a_dead_letter() -> None:
    ref = ContentRef(field="inputs", tenant_id="t", hash="sha256:00", bytes=9)
    referring = msgspec.structs.replace(EVENT, content_refs=[ref])
    found = Reader({"user_id"}).read("t", 0, 0, 0, codec.encode(referring), HEADERS)
    assert isinstance(found, Enriched)
    assert {
        n for n in TraceEvent.__struct_fields__ if getattr(found.event, n) == getattr(referring, n)
    } >= ALWAYS | {"user_id"}
    assert (found.event.user_id, found.event.tags, found.event.inputs) == ("u", (), None)


@given(st.binary(max_size=80) | st.none(), st.binary(max_size=80), st.booleans())
def test_reading_never_raises(value: bytes | None, header: bytes, framed: bool) -> None:
    frame = VALUE[:10] if framed else b""
    found = Reader(None).read("t", 0, 0, 0, None if value is None else frame + value, [(HEADER, header)])
    assert isinstance(found, Unreadable)
    assert found.reason


@given(st.integers(0, len(VALUE) - 1), st.binary(min_size=1, max_size=3))
def test_damaged_records_never_raise(at: int, damage: bytes) -> None:
    found = Reader(None).read("t", 0, 0, 0, VALUE[:at] + damage + VALUE[at + len(damage) :], HEADERS)
    assert isinstance(found, Enriched | Unreadable)


@pytest.mark.parametrize(
    ("value", "headers", "reason", "has_event", "sequence"),
    [
        (b"garbage", HEADERS, "bad_magic", False, 9),
        (VALUE[:-1], HEADERS, "truncated", False, 9),
        (VALUE, None, "no_context", True, None),
        (VALUE, [(HEADER, None)], "no_context", True, None),
        (VALUE, [(HEADER, VALUE)], "wrong_record", True, None),
        (HEADERS[1][1], HEADERS, "wrong_record", False, 9),
        (b"\xc3\x01" + b"\0" * 20, HEADERS, "unknown_schema", False, 9),
        (None, [], "empty", False, None),
    ],
)
def test_what_cannot_be_read_says_why_and_keeps_what_can(
    value: bytes | None,
    headers: list[tuple[str, bytes | None]] | None,
    reason: str,
    has_event: bool,
    sequence: int | None,
) -> None:
    found = Reader(None).read("t", 0, 0, 0, value, headers)
    assert isinstance(found, Unreadable)
    assert (found.reason, found.event is not None) == (reason, has_event)
    where = source(found.event, found.context, "t", 0, 0, 0, b"key")
    assert (where.sequence, where.event_id) == (sequence, "event-1" if has_event else None)


@settings(max_examples=50)
@given(
    st.text(max_size=3000),
    st.text(max_size=3000),
    st.one_of(st.none(), st.binary(max_size=300)),
    st.one_of(st.none(), st.text(max_size=3000)),
    st.integers(0, 100),
)
def test_any_dead_letter_can_be_written_and_is_bounded(
    reason: str, detail: str, value: bytes | None, name: str | None, keep: int
) -> None:
    where = RecordOrigin("t", 0, 5, 1, b"k" * 5000, 3, 0, name, name, name, name, name)
    rejected = Rejected(reason, detail, 400, detail, detail)
    dead_letter = sink_dead_letter(Stage.SEND, "otlp", where, rejected, 2, attempts=4, value=value, keep=keep)
    encoded = codec.encode(dead_letter)
    assert codec.decode(encoded, DeadLetter) == dead_letter
    assert len(encoded) < 60_000
    assert dead_letter.dead_letter_id == "send:otlp:t:0:5"
    assert dead_letter.raw == (None if value is None else value[:keep])
    assert (dead_letter.raw_sha256 is not None) == (len(value or b"") > keep)
    assert dead_letter_key(where) == ((name.encode() if name else None) or b"k" * 5000)[:NAME]


def test_context_decodes_to_its_class() -> None:
    found = Reader(None).read("t", 0, 0, 0, VALUE, HEADERS)
    assert isinstance(found, Enriched)
    assert isinstance(found.context, TraceContext)
    assert found.context.sequence == 9
