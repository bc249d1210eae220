"""The trace that an event belongs to, its ids and its Kafka key."""

from __future__ import annotations

import enum
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing.header_fields import NAMES
from tailrace import codec, identity, kinds, records
from tailrace.content import Limits
from tailrace.errors import InvalidEvent
from tailrace.prepare import prepared
from tailrace.records import Kind, TraceEvent
from tests.tailrace import generated

NOW = 1_764_000_000_000_000
R, M, S, C, T = "run", "message", "own", "conversation", "given"
TIMES: dict[str, Any] = {"started_at": NOW, "ended_at": NOW, "root_started_at": None}
PRICES: dict[str, Any] = {"input_price": None, "output_price": ".5", "total_price": "0.5"}
TRACED = [k for k in Kind if k not in kinds.WITHOUT_TRACE | {Kind.UNKNOWN, Kind.LINK, Kind.EVALUATION}]
"""Kinds of events that belong to a trace, and need no field for that (tests/tailrace/test_evaluations.py has
evaluations)."""


def event(kind: Kind = Kind.TOOL, **fields: Any) -> TraceEvent:
    return TraceEvent(**{"kind": kind, "started_at": NOW, "ended_at": NOW + 10, **fields})


def completed(kind: Kind = Kind.TOOL, **fields: Any) -> TraceEvent:
    return identity.complete(event(kind, **fields), NOW, lambda: "minted")


@pytest.mark.parametrize(
    ("kind", "fields", "trace", "source"),
    [
        # a draft is its own trace, whatever else it names
        (Kind.DRAFT_NODE_EXECUTION, {"source_id": S, "workflow_run_id": R, "message_id": M}, S, S),
        # of a chatflow: the message, for its run, its nodes and its side operations
        (Kind.WORKFLOW_RUN, {"workflow_run_id": R, "message_id": M, "conversation_id": C}, M, R),
        (Kind.NODE_EXECUTION, {"source_id": S, "workflow_run_id": R, "message_id": M}, M, S),
        (Kind.MESSAGE, {"message_id": M, "conversation_id": C}, M, M),
        (Kind.MODERATION, {"message_id": M}, M, "minted"),
        (Kind.SUGGESTED_QUESTION, {"message_id": M, "source_id": S}, M, S),
        (Kind.DATASET_RETRIEVAL, {"message_id": M}, M, "minted"),
        (Kind.TOOL, {"message_id": M, "workflow_run_id": R}, M, "minted"),
        (Kind.FEEDBACK, {"message_id": M}, M, "minted"),
        # of a workflow alone: the run
        (Kind.WORKFLOW_RUN, {"workflow_run_id": R}, R, R),
        (Kind.WORKFLOW_RUN, {"source_id": S, "workflow_run_id": R}, R, S),
        (Kind.NODE_EXECUTION, {"source_id": S, "workflow_run_id": R}, R, S),
        (Kind.TOOL, {"workflow_run_id": R}, R, "minted"),
        # nothing to belong to: its own; a conversation is the session, never the trace
        (Kind.GENERATE_NAME, {"source_id": S, "conversation_id": C}, S, S),
        (Kind.GENERATE_NAME, {"conversation_id": C}, "minted", "minted"),
        (Kind.PROMPT_GENERATION, {}, "minted", "minted"),
        (Kind.SPAN, {"source_id": S}, S, S),
        # the publisher says so
        (Kind.SPAN, {"source_id": S, "trace_id": T, "message_id": M, "workflow_run_id": R}, T, S),
        (Kind.DRAFT_NODE_EXECUTION, {"source_id": S, "trace_id": T}, S, S),
        # no trace at all
        (Kind.APP_CREATED, {"app_id": "a", "message_id": M, "trace_id": T}, None, "minted"),
        (Kind.APP_UPDATED, {"source_id": S}, None, S),
        (Kind.APP_DELETED, {}, None, "minted"),
        (Kind.REHYDRATION_FAILED, {"workflow_run_id": R}, None, "minted"),
        # OpenTelemetry's ids, where there are no others
        (Kind.SPAN, {"otel_trace_id": b"T" * 16, "otel_span_id": b"S" * 8}, "54" * 16, "53" * 8),
        (Kind.SPAN, {"otel_trace_id": b"T" * 16, "source_id": S}, "54" * 16, S),
        (Kind.SPAN, {"otel_trace_id": bytes(16), "otel_span_id": bytes(8)}, "minted", "minted"),
        (Kind.TOOL, {"otel_trace_id": b"T" * 16, "otel_span_id": b"S" * 8, "message_id": M}, M, "53" * 8),
        (Kind.MESSAGE, {"otel_span_id": b"S" * 8, "message_id": M}, M, M),
        # empty is as good as missing
        (Kind.SPAN, {"source_id": "", "trace_id": "", "message_id": "", "workflow_run_id": R}, R, "minted"),
    ],
)
def test_the_trace_and_the_own_id_of_an_event(
    kind: Kind, fields: dict[str, Any], trace: str | None, source: str
) -> None:
    done = completed(kind, **fields)
    assert (done.trace_id, done.source_id) == (trace, source)


@pytest.mark.parametrize(
    ("kind", "fields", "key"),
    [
        (Kind.SPAN, {"trace_id": T}, T),
        (Kind.WORKFLOW_RUN, {"workflow_run_id": R, "message_id": M}, M),
        # nested: the root's trace, else the root's run, else the parent run
        (Kind.WORKFLOW_RUN, {"workflow_run_id": R, "parent_run_id": "outer"}, "outer"),
        (Kind.NODE_EXECUTION, {"source_id": S, "workflow_run_id": R, "parent_run_id": "outer"}, "outer"),
        (Kind.WORKFLOW_RUN, {"workflow_run_id": R, "parent_run_id": "outer", "root_run_id": "rr"}, "rr"),
        (
            Kind.WORKFLOW_RUN,
            {"workflow_run_id": R, "parent_run_id": "outer", "root_run_id": "rr", "root_trace_id": "rt"},
            "rt",
        ),
        (Kind.SPAN, {"trace_id": T, "parent_trace_id": "pt", "parent_id": "p"}, T),
        # where the inner run's events are
        (Kind.LINK, {"source_id": R, "root_trace_id": "rt"}, R),
        (Kind.LINK, {"source_id": R, "root_run_id": "rr", "parent_run_id": "outer"}, R),
        # no trace: the application
        (Kind.APP_CREATED, {"app_id": "a"}, "a"),
        (Kind.APP_DELETED, {"app_id": "a", "root_trace_id": "rt"}, "a"),
        (Kind.REHYDRATION_FAILED, {"source_id": S}, S),
        # an empty id is none
        (Kind.SPAN, {"trace_id": T, "parent_run_id": "", "root_run_id": "", "root_trace_id": ""}, T),
        (Kind.APP_CREATED, {"app_id": "", "source_id": S}, S),
        # a draft: its own trace, whatever it names
        (Kind.DRAFT_NODE_EXECUTION, {"source_id": S, "trace_id": T, "root_trace_id": "rt"}, S),
        (Kind.DRAFT_NODE_EXECUTION, {"source_id": S, "parent_run_id": "outer"}, S),
    ],
)
def test_the_kafka_key_of_an_event(kind: Kind, fields: dict[str, Any], key: str) -> None:
    assert identity.kafka_key(completed(kind, **fields)) == key


@pytest.mark.parametrize("kind", TRACED)
def test_every_kind_has_an_identity_without_any_field_set(kind: Kind) -> None:
    done = completed(kind)
    assert done.source_id == done.trace_id == identity.kafka_key(done) == "minted"
    assert done.event_id
    assert done.published_at == NOW


@given(
    generated.events(source_id=None, event_id=None, trace_id=None, published_at=None, **TIMES, **PRICES),
    st.sampled_from(TRACED),
)
@settings(max_examples=60, deadline=None)
def test_completing_again_gives_the_same_ids(raw: TraceEvent, kind: Kind) -> None:
    # classes must fit the totals
    cleared = dict.fromkeys((*kinds.BODIES, "token_classes", "evaluation_target"))
    raw = msgspec.structs.replace(raw, kind=kind, revision=abs(raw.revision) % 2**31, **cleared)
    once = identity.complete(raw, NOW)
    again = identity.complete(once, NOW + 1)
    for field in ("event_id", "trace_id", "source_id", "published_at"):
        assert getattr(again, field) == getattr(once, field)
    assert identity.kafka_key(again) == identity.kafka_key(once)
    codec.encode(once)


@pytest.mark.parametrize(
    ("fields", "parent"),
    [
        ({"otel_span_id": b"S" * 8, "otel_parent_span_id": b"P" * 8}, "50" * 8),
        ({"otel_span_id": b"S" * 8, "otel_parent_span_id": b"P" * 8, "parent_id": "p"}, "p"),
        ({"otel_span_id": b"S" * 8, "otel_parent_span_id": bytes(8)}, None),
        ({"source_id": S, "otel_parent_span_id": b"P" * 8}, None),  # its parent may have an own id, too
    ],
)
def test_the_parent_of_an_event_with_ids_of_opentelemetry(fields: dict[str, Any], parent: str | None) -> None:
    assert completed(Kind.SPAN, **fields).parent_id == parent


def test_an_event_id_depends_on_kind_trace_source_and_revision_and_on_nothing_else() -> None:
    base = completed(source_id=S, trace_id=T)
    assert (
        completed(source_id=S, trace_id=T, name="x", started_at=NOW + 1, error="e").event_id == base.event_id
    )
    others = [
        completed(Kind.SPAN, source_id=S, trace_id=T),
        completed(source_id="other", trace_id=T),
        completed(source_id=S, trace_id="other"),
        completed(source_id=S, trace_id=T, revision=1),
    ]
    assert len({e.event_id for e in [base, *others]}) == 5


def test_ids_that_the_publisher_gives_stay() -> None:
    done = completed(event_id="e", source_id=S, trace_id=T, published_at=NOW - 1)
    assert (done.event_id, done.source_id, done.trace_id, done.published_at) == ("e", S, T, NOW - 1)


def test_operations_without_an_id_get_different_ones() -> None:
    a, b = identity.complete(event(message_id=M), 30), identity.complete(event(message_id=M), 30)
    assert a.source_id != b.source_id
    assert a.event_id != b.event_id


@pytest.mark.parametrize("kind", [k for k in Kind if k != Kind.UNKNOWN])
@pytest.mark.parametrize("body", kinds.BODIES)
def test_only_the_kinds_own_body_is_taken(kind: Kind, body: str) -> None:
    cls = next(
        c for c in records.BY_NAME.values() if "".join(w.title() for w in body.split("_")) == c.__name__
    )
    made = cls(flag=True) if cls is records.Evaluation else cls()
    raw = event(kind, source_id=S, root_trace_id="rt", name="n", **{body: made})
    if kinds.BODY.get(kind) == body:
        codec.encode(identity.complete(raw, NOW))
        return
    with pytest.raises(InvalidEvent) as caught:
        identity.complete(raw, NOW)
    assert caught.value.field == body
    assert str(kind) in str(caught.value)


def test_unknown_is_for_readers_only() -> None:
    with pytest.raises(InvalidEvent) as caught:
        completed(Kind.UNKNOWN)
    assert caught.value.field == "kind"


def test_a_kind_may_be_plain_text() -> None:
    plain: Any = "tool"
    done = identity.complete(event(plain, source_id=S), 30)
    assert codec.decode(codec.encode(done), TraceEvent).kind is Kind.TOOL


def test_a_link_names_its_run_and_its_root() -> None:
    with pytest.raises(InvalidEvent) as caught:
        completed(Kind.LINK, source_id=R)
    assert caught.value.field == "root_trace_id"
    with pytest.raises(InvalidEvent) as caught:
        completed(Kind.LINK, root_trace_id="rt")
    assert caught.value.field == "source_id"
    assert completed(Kind.LINK, source_id=R, root_run_id="rr").source_id == R


def test_a_revision_is_never_negative() -> None:
    with pytest.raises(InvalidEvent) as caught:
        completed(revision=-1)
    assert caught.value.field == "revision"


def test_a_tenant_is_checked_before_it_goes_into_the_event_id() -> None:
    event = TraceEvent(kind=Kind.SPAN, tenant_id=5, started_at=1, ended_at=2)  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match="tenant_id: is int 5, must be a string or None"):
        identity.complete(event, 10)


UUID = "550e8400-e29b-41d4-a716-446655440000"
FORMS = [UUID, UUID.upper(), f"urn:uuid:{UUID}", f"{{{UUID}}}", f"urn:uuid:{{{UUID.replace('-', '')}}}"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (Kind.MESSAGE, "message_id"),
        (Kind.WORKFLOW_RUN, "workflow_run_id"),
        *((Kind.TOOL, f) for f in ("trace_id", "source_id", "message_id", "workflow_run_id", "parent_id")),
        *((Kind.SPAN, f) for f in ("parent_run_id", "parent_trace_id", "parent_node_execution_id")),
        *((Kind.SPAN, f) for f in ("root_trace_id", "root_run_id")),
    ],
)
def test_the_forms_of_a_uuid_are_one_id(kind: Kind, field: str, form: str) -> None:
    own: dict[str, Any] = {} if kind in kinds.OWN_ID else {"source_id": S}
    found, same = completed(kind, **{**own, field: form}), completed(kind, **{**own, field: UUID})
    assert getattr(found, field) == UUID
    assert (found.event_id, found.trace_id, found.source_id) == (same.event_id, same.trace_id, same.source_id)
    assert identity.kafka_key(found) == identity.kafka_key(same)


@pytest.mark.parametrize("text", ["4bf92f3577b34da6a3ce929d0e0e4736", "R-" + "A" * 34, f"{UUID} ", "x" * 36])
def test_what_is_no_uuid_stays_and_so_does_a_trace_id_of_opentelemetry(text: str) -> None:
    found = completed(trace_id=text, source_id=text)
    assert (found.trace_id, found.source_id) == (text, text)
    native = completed(Kind.SPAN, otel_trace_id=bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"))
    assert native.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"


Name: Any = enum.Enum("Name", {"ID": "e-1"}, type=str)
"""Not a `StrEnum`: `str` shows the member's name."""


@pytest.mark.parametrize("field", ["event_id", "trace_id", "source_id", "message_id", "tenant_id"])
def test_an_id_from_an_enumeration_is_the_text_that_is_published(field: str) -> None:
    given: dict[str, Any] = {field: Name.ID}
    found = completed(**given)
    assert type(getattr(found, field)) is str
    read = codec.decode(codec.encode(found), TraceEvent)
    assert str(getattr(found, field)) == getattr(read, field) == "e-1"


def test_texts_that_the_processor_refuses_are_refused_by_the_publisher() -> None:
    assert sorted(identity._TEXTS) == sorted(n for n in identity._TEXTS if n in NAMES)
    kind = {"message_id": Kind.MESSAGE, "workflow_run_id": Kind.WORKFLOW_RUN}
    for field in identity._TEXTS:
        if field in ("input_price", "output_price", "total_price"):
            continue
        whole = event(kind.get(field, Kind.TOOL), **{field: "é" * 4_097})
        with pytest.raises(InvalidEvent) as caught:
            prepared(whole, NOW, Limits())
        assert caught.value.field == field
        assert "has 8194 bytes; it may have 8192" in str(caught.value)
        prepared(msgspec.structs.replace(whole, **{field: "é" * 4_096}), NOW, Limits())
