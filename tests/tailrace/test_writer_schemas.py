"""Other writers' schemas: what is read as ours, and what is refused with the field named."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.consumer.reader import Reader
from streams.processing import header
from tailrace import codec
from tailrace.codec import schemas
from tailrace.codec import writer_schemas as foreign
from tailrace.codec.decode_plan import Planner
from tailrace.codec.schemas import MARKER, Resolver
from tailrace.codec.table_decoder import ARRAY
from tailrace.errors import DecodeError, UnknownSchema
from tailrace.records import Kind, TraceContext, TraceEvent
from tailrace.schema_registry.fetcher import learn

OURS = schemas.current("TraceEvent")
REQUIRED = ("event_id", "kind", "source_id", "started_at", "ended_at", "published_at")
PLAIN = {
    "event_id": "e1",
    "kind": "tool",
    "source_id": "s1",
    "started_at": 1,
    "ended_at": 1 << 50,
    "published_at": 3,
}


def field(name: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [f for f in copy.deepcopy(OURS)["fields"] if f["name"] == name]
    return found


def theirs(*fields: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A small TraceEvent of another project, in another namespace and another order."""
    given = {f["name"] for f in fields}
    needed = [field(n) for n in reversed(REQUIRED) if n not in without and n not in given]
    return {
        "type": "record",
        "name": "TraceEvent",
        "namespace": "com.acme.traces",
        "fields": [*fields, *needed],
    }


def written(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    """As fastavro writes it, single-object encoded."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(schema)), record)
    return MARKER + schemas.fingerprint(schema) + out.getvalue()


def learned(schema: dict[str, Any]) -> None:
    found = learn(schemas.known, json.dumps(schema))
    assert not isinstance(found, DecodeError), found


def test_an_event_of_another_writer_is_read_by_every_reader() -> None:
    """Its schema has more fields, fewer fields, and another order.

    A missing field has its default, an additional one is skipped.
    """
    schema = theirs(
        {
            "name": "deployment",
            "type": {
                "type": "record",
                "name": "Deployment",
                "fields": [
                    {"name": "region", "type": "string"},
                    {"name": "weights", "type": {"type": "map", "values": "double"}},
                ],
            },
        },
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "retries", "type": ["null", "int"], "default": None},
        {"name": "user_id", "type": ["string", "null"], "default": ""},
        {"name": "input_tokens", "type": "int"},
        {"name": "inputs", "type": "string"},
        {"name": "name", "type": "bytes"},
        {
            "name": "tool",
            "type": [
                {
                    "type": "record",
                    "name": "Tool",
                    "fields": [
                        {"name": "vendor", "type": "string"},
                        {"name": "call_id", "type": ["null", "string"], "default": None},
                    ],
                },
                "null",
            ],
        },
    )
    learned(schema)
    value = written(
        schema,
        {
            **PLAIN,
            "deployment": {"region": "eu", "weights": {"a": 1.5}},
            "tags": ["x"],
            "retries": 4,
            "user_id": "u",
            "input_tokens": 7,
            "inputs": json.dumps("x" * 100_000),
            "name": "größer".encode(),
            "tool": {"vendor": "acme", "call_id": "c"},
        },
    )
    event = codec.decode(value, TraceEvent)
    assert (event.event_id, event.kind, event.user_id, event.input_tokens) == ("e1", Kind.TOOL, "u", 7)
    assert (event.name, event.tags, event.ended_at, event.revision) == ("größer", ["x"], 1 << 50, 0)
    assert (event.session_id, event.attributes, event.workflow_run) == (None, {}, None)
    assert event.tool is not None
    assert event.tool.call_id == "c"
    assert json.loads(str(event.inputs)) == "x" * 100_000
    h = header.read(value)
    assert (h.event_id, h.kind, h.user_id, h.name, h.input_tokens) == (
        b"e1",
        "tool",
        b"u",
        "größer".encode(),
        7,
    )
    assert (h.revision, len(h.dataset_ids), h.session_id) == (0, 0, None)
    sunk = Reader({"user_id", "tool"}).event(value)
    assert (sunk.user_id, sunk.kind, sunk.tool) == ("u", "tool", event.tool)


def test_single_fields_of_a_body_whose_null_comes_second_are_read() -> None:
    body = {
        "type": "record",
        "name": "NodeExecution",
        "fields": [{"name": "dataset_names", "type": {"type": "array", "items": "string"}}],
    }
    schema = theirs({"name": "node_execution", "type": [body, "null"]})
    learned(schema)
    for names in (["a", "b"], None):
        value = written(
            schema, {**PLAIN, "node_execution": None if names is None else {"dataset_names": names}}
        )
        wanted = None if names is None else [n.encode() for n in names]
        assert header.read(value).node_dataset_names == wanted
        decode, paths = codec.decoder_for(
            foreign.adopted(json.dumps(schema))[1], {"node_execution.dataset_names", "source_id"}
        )
        assert dict(zip(paths, decode(value, 10), strict=True)) == {
            "node_execution.dataset_names": wanted,
            "source_id": b"s1",
        }
        with pytest.raises(DecodeError):
            decode(b"\4" + value[11:], 0)


def test_a_kind_that_is_not_ours_is_unknown_to_all_readers() -> None:
    kinds = field("kind")["type"]
    schema = theirs({"name": "kind", "type": {**kinds, "symbols": ["dream", "tool"], "default": "tool"}})
    learned(schema)
    value = written(schema, {**PLAIN, "kind": "dream"})
    assert codec.decode(value, TraceEvent).kind is Kind.UNKNOWN
    assert header.read(value).kind == "unknown"
    assert Reader(None).event(value).kind == "unknown"
    assert header.read(written(schema, PLAIN)).kind == "tool"


def test_our_own_schema_is_recognised_in_any_spelling() -> None:
    text = json.dumps(copy.deepcopy(OURS), indent=4)
    assert foreign.adopted(text) == ("TraceEvent", OURS)
    assert foreign.adopted(json.dumps(schemas.current("TraceContext")))[0] == "TraceContext"
    assert foreign.adopted(json.dumps({**OURS, "namespace": "com.acme"}))[0] == "TraceEvent"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (theirs(without=("source_id",)), "cannot be read as TraceEvent: source_id: has no default"),
        (theirs({"name": "source_id", "type": "long"}), "source_id: long became string"),
        (theirs({"name": "started_at", "type": "string"}), "started_at: string became long"),
        (theirs({"name": "started_at", "type": ["null", "long"]}), "started_at: null became long"),
        (
            theirs({"name": "user_id", "type": ["null", "long"]}),
            "user_id: no branch of the reader's union can read long",
        ),
        (
            theirs({"name": "started_at", "type": {"type": "long", "logicalType": "timestamp-millis"}}),
            "started_at: logical type timestamp-millis",
        ),
        (
            theirs(
                {
                    "name": "total_price",
                    "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
                }
            ),
            "total_price: logical type decimal",
        ),
        (
            theirs({"name": "otel_span_id", "type": {"type": "fixed", "name": "OtelSpanId", "size": 16}}),
            "otel_span_id: fixed of 16 bytes became 8",
        ),
        (
            theirs(
                {
                    "name": "tool",
                    "type": {
                        "type": "record",
                        "name": "Tool",
                        "fields": [{"name": "call_id", "type": "int"}],
                    },
                }
            ),
            "tool.call_id: no branch of the reader's union can read int",
        ),
        (
            theirs({"name": "tool", "type": {"type": "record", "name": "Hammer", "fields": []}}),
            "tool: record Hammer became record Tool",
        ),
        (theirs({"name": "a=1", "type": "string"}), "a field without a valid name"),
        (theirs({"name": "__import__('os')", "type": "string"}), "a field without a valid name"),
        (theirs({"name": "x", "type": "string"}, {"name": "x", "type": "string"}), "two with the same name"),
        (
            theirs({"name": "x", "type": {"type": "enum", "name": "E", "symbols": ["a b"]}}),
            "an enum needs symbols that are valid names",
        ),
        (theirs({"name": "x", "type": "Missing"}), "x: 'Missing' is not a known Avro type"),
        (
            theirs(
                {
                    "name": "x",
                    "type": {
                        "type": "record",
                        "name": "Node",
                        "fields": [{"name": "next", "type": ["null", "Node"]}],
                    },
                }
            ),
            "Node contains itself",
        ),
        (
            theirs({"name": "x", "type": {"type": "array", "items": "null"}}),
            "x: an array whose items take no",
        ),
        (
            theirs(
                {
                    "name": "x",
                    "type": {
                        "type": "array",
                        "items": {
                            "type": "record",
                            "name": "Nothing",
                            "fields": [
                                {"name": "a", "type": {"type": "fixed", "name": "F", "size": 0}},
                                {"name": "b", "type": "null"},
                            ],
                        },
                    },
                }
            ),
            "x: an array whose items take no bytes",
        ),
        (
            {"type": "record", "name": "Order", "fields": []},
            "the schema is of Order, not of a record of tailrace",
        ),
        ("string", "the schema is of no record"),
        ({"type": "array", "items": "string"}, "the schema is of no record"),
        ([], "a union must have 1 to 63 types"),
        (None, "is not a valid Avro type"),
        (7, "is not a valid Avro type"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_refused_with_the_field_named(schema: Any, said: str) -> None:
    with pytest.raises(DecodeError) as caught:
        foreign.adopted(json.dumps(schema))
    assert said in str(caught.value)
    assert caught.value.reason in ("unreadable_schema", "wrong_record")


def test_a_schema_that_expands_without_bound_is_refused() -> None:
    """Each record contains the one before twice: 2^40 types in 40 lines."""
    inner: Any = "string"
    for n in range(8):
        inner = {"type": "record", "name": f"R{n}", "fields": [{"name": "a", "type": inner}]}
        inner["fields"] += [{"name": f"b{i}", "type": f"R{n - 1}" if n else "string"} for i in range(20)]
    with pytest.raises(DecodeError, match="more than 10000 types"):
        foreign.adopted(json.dumps(theirs({"name": "x", "type": inner})))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '"' + "x" * (1 << 20) + '"', '{"type": "record"}'])
def test_what_is_not_a_schema_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        foreign.adopted(text)


@pytest.mark.parametrize("shape", ["array", "map"])
def test_the_deepest_accepted_type_has_a_decoder(shape: str) -> None:
    def nested(depth: int) -> Any:
        inner: Any = "long"
        for _ in range(depth):
            inner = {"type": shape, "items" if shape == "array" else "values": ["null", inner]}
        return inner

    schema = theirs({"name": "x", "type": nested(foreign.MAX_DEPTH - 1)})
    deepest: Any = 7
    for _ in range(foreign.MAX_DEPTH - 1):
        deepest = [deepest, None] if shape == "array" else {"a": deepest, "b": None}
    decode, paths = codec.decoder_for(foreign.adopted(json.dumps(schema))[1], {"x"}, text=True)
    assert (paths, decode(written(schema, {**PLAIN, "x": deepest}), 10)) == (("x",), (deepest,))
    with pytest.raises(DecodeError, match="levels of nested types"):
        foreign.adopted(json.dumps(theirs({"name": "x", "type": nested(foreign.MAX_DEPTH)})))


def test_fields_without_bytes_cost_no_step_in_the_items_of_an_array() -> None:
    """Else an item of one byte would cost as many steps as its record has such fields."""
    item = {
        "type": "record",
        "name": "Item",
        "fields": [{"name": f"n{i}", "type": "null"} for i in range(900)]
        + [{"name": "b", "type": "boolean"}],
    }
    schema = theirs({"name": "x", "type": {"type": "array", "items": item}})
    adopted = foreign.adopted(json.dumps(schema))[1]
    steps = Planner({"source_id"}, True, {}).top(adopted, None)
    assert [len(step.steps[0].steps) for step in steps if step.kind == ARRAY and step.steps[0].steps] == [1]
    decode, _ = codec.decoder_for(adopted, {"source_id"}, text=True)
    record = {**PLAIN, "x": [{**{f"n{i}": None for i in range(900)}, "b": True}] * 3}
    assert decode(written(schema, record), 10) == (PLAIN["source_id"],)


TYPES = st.recursive(
    st.sampled_from(["null", "string", "bytes", "long", "int", "double", "boolean", "Kind", "Nope"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.builds(lambda t: {"type": "array", "items": t}, inner),
        st.builds(lambda t: {"type": "map", "values": t}, inner),
        st.builds(
            lambda n, fields: {
                "type": "record",
                "name": n,
                "fields": [{"name": f"f{i}", "type": t} for i, t in enumerate(fields)],
            },
            st.sampled_from(["A", "B", "Tool", "a.C", ""]),
            st.lists(inner, max_size=3),
        ),
        st.builds(lambda t: {"type": t}, inner),
    ),
    max_leaves=12,
)


@given(
    st.lists(
        st.tuples(st.sampled_from([f["name"] for f in OURS["fields"]]), TYPES),
        max_size=4,
        unique_by=lambda x: x[0],
    )
)
def test_any_schema_is_either_refused_or_has_decoders(fields: list[tuple[str, Any]]) -> None:
    text = json.dumps(theirs(*({"name": n, "type": t} for n, t in fields)))
    try:
        _, adopted = foreign.adopted(text)
    except DecodeError:
        return
    codec.decoder_for(adopted, None, text=True)
    codec.decoder_for(adopted, header.PATHS)
    fastavro.parse_schema(json.loads(text))


# -- the resolver


def test_what_is_learned_is_found_and_stays() -> None:
    resolver, wanted = Resolver(), list[bytes]()
    resolver.want = wanted.append
    frame = schemas.id_frame(7)
    with pytest.raises(UnknownSchema) as caught:
        resolver.find(frame)
    assert (caught.value.schema_id, caught.value.fingerprint, caught.value.reason) == (
        7,
        None,
        "unknown_schema",
    )
    assert wanted == []
    with pytest.raises(UnknownSchema):
        resolver.find_or_want(frame)
    assert wanted == [frame]
    learn(resolver, json.dumps(OURS), 7)
    assert resolver.find_or_want(frame) == ("TraceEvent", OURS)
    learn(resolver, '"string"', 7)
    assert resolver.find(frame).schema is OURS
    assert resolver.find(MARKER + schemas.fingerprint(OURS)).schema is OURS


def test_a_schema_that_cannot_be_read_says_so_for_each_of_its_values() -> None:
    resolver = Resolver()
    schema = theirs({"name": "source_id", "type": "long"})
    learn(resolver, json.dumps(schema), 9)
    for frame in (schemas.id_frame(9), MARKER + schemas.fingerprint(schema)):
        assert resolver.knows(frame)
        with pytest.raises(
            DecodeError, match="schema id 9: cannot be read as TraceEvent: source_id: long became string"
        ) as caught:
            resolver.find(frame)
        assert caught.value.reason == "unreadable_schema"


# -- the frame


def test_both_frames_give_the_same_event() -> None:
    event = TraceEvent(event_id="e", source_id="s", kind=Kind.TOOL, started_at=1, ended_at=2, published_at=3)
    learn(schemas.known, json.dumps(OURS), 4_000_000_001)
    value = codec.encode(event, schemas.id_frame(4_000_000_001))
    assert value[:5] == b"\0\xee\x6b\x28\x01"

    def of_processor(v: bytes) -> list[Any]:
        found = header.read(v)
        return [getattr(found, name) for name in header.NAMES]

    readers: list[Callable[[bytes], Any]] = [
        lambda v: codec.decode(v, TraceEvent),
        of_processor,
        Reader(None).event,
    ]
    for read in readers:
        for _ in range(2):  # the second time by its compiled decoder
            assert read(value) == read(codec.encode(event))
        for cut in range(5, len(value)):
            with pytest.raises(DecodeError) as caught:
                read(value[:cut])
            assert caught.value.reason in ("truncated", "malformed")


def test_a_record_of_another_kind_by_id_is_refused() -> None:
    learn(schemas.known, json.dumps(schemas.current("TraceContext")), 4_000_000_002)
    value = schemas.id_frame(4_000_000_002) + b"\0" * 100
    for read in (lambda v: codec.decode(v, TraceEvent), header.read, Reader(None).event):
        with pytest.raises(DecodeError, match="a TraceContext, not a TraceEvent"):
            read(value)
    with pytest.raises(DecodeError):
        codec.decode(value[:5], TraceContext)
