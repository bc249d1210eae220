"""Records to bytes and back: the codec compared with fastavro, and bytes that are not a record."""

from __future__ import annotations

import functools
import io
import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import fastavro
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailrace import codec, records
from tailrace.codec import schemas, wire
from tailrace.codec.decoder import Decode
from tailrace.codec.varint import zigzag
from tailrace.errors import DecodeError, InvalidEvent, UnknownSchema
from tailrace.records import Kind, TraceContext, TraceEvent, TraceSummary
from tests.tailrace import generated

NAMES = schemas.NAMES
EVENT = schemas.current("TraceEvent")


def paths_of(schema: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted path of a schema."""
    found = []
    for field in schema["fields"]:
        found.append(prefix + field["name"])
        inner = field["type"][1] if isinstance(field["type"], list) else field["type"]
        if isinstance(inner, dict) and inner["type"] == "record":
            found += paths_of(inner, f"{prefix}{field['name']}.")
    return found


def at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data[part] if data is not None else None
    return data


def named(t: Any) -> dict[str, Any]:
    """The record types of a schema by name. A second use of a type is its name alone."""
    if isinstance(t, list):
        return {k: v for branch in t for k, v in named(branch).items()}
    if not isinstance(t, dict):
        return {}
    found = {t["name"]: t} if t["type"] == "record" else {}
    parts = [f["type"] for f in t.get("fields", ())] + [t[k] for k in ("items", "values") if k in t]
    return {**found, **{k: v for part in parts for k, v in named(part).items()}}


RECORDS = {k: v for name in NAMES for k, v in named(schemas.current(name)).items()}


def as_bytes(t: Any, value: Any) -> Any:
    """What fastavro read, with strings as bytes; enums stay symbols."""
    if value is None:
        return None
    t = RECORDS.get(t, t) if isinstance(t, str) else t
    if isinstance(t, list):
        return as_bytes(t[1], value)
    if t == "string":
        return value.encode()
    if isinstance(t, dict):
        if t["type"] == "record":
            return {f["name"]: as_bytes(f["type"], value[f["name"]]) for f in t["fields"]}
        if t["type"] == "array":
            return [as_bytes(t["items"], x) for x in value]
        if t["type"] == "map":
            return {k.encode(): as_bytes(t["values"], x) for k, x in value.items()}
    return value


def type_at(schema: Mapping[str, Any], path: str) -> Any:
    first, _, rest = path.partition(".")
    t = next(f["type"] for f in schema["fields"] if f["name"] == first)
    return type_at(t[1] if isinstance(t, list) else t, rest) if rest else t


# -- both ways


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_our_bytes_are_fastavros_and_come_back_as_the_same_record(name: str, data: st.DataObject) -> None:
    plain, record = data.draw(generated.of(name))
    value = codec.encode(record)
    if name == "TraceEvent":
        plain = generated.without_empty(EVENT, plain)
        record = generated.as_record(EVENT, plain)
    assert value[:10] == b"\xc3\x01" + schemas.fingerprint(schemas.current(name))
    assert value[10:] == generated.written(schemas.current(name), plain)
    assert codec.decode(value, type(record)) == record
    assert codec.decode_versioned(codec.encode_versioned(record), type(record)) == record


def test_decoded_enums_are_members() -> None:
    event = TraceEvent(
        event_id="e",
        source_id="s",
        kind=Kind.SPAN,
        started_at=1,
        ended_at=2,
        published_at=3,
        span_kind=records.SpanKind.LLM,
    )
    decoded = codec.decode(codec.encode(event), TraceEvent)
    assert (decoded.kind, decoded.span_kind) == (Kind.SPAN, records.SpanKind.LLM)
    assert isinstance(decoded.kind, Kind)
    assert isinstance(decoded.span_kind, records.SpanKind)


@given(st.integers(-(2**63), 2**63 - 1))
@example(8191)
@example(-(2**63))
def test_integers_are_written_as_fastavro_writes_them(n: int) -> None:
    assert zigzag(n) == generated.written(
        {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]}, {"n": n}
    )


# -- any part of a record


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_wanted_part_is_what_fastavro_reads(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["TraceEvent", "TraceEvent", "TraceEvent", *NAMES]))
    schema = schemas.current(name)
    want = data.draw(st.one_of(st.none(), st.sets(st.sampled_from(paths_of(schema)), max_size=12)))
    text, prefix_only = data.draw(st.booleans()), data.draw(st.booleans())
    body = generated.written(schema, data.draw(generated.data(schema)))
    start = data.draw(st.integers(0, 10))
    decode, paths = codec.decoder_for(schema, want, text=text, prefix_only=prefix_only)
    oracle = generated.read(schema, body)
    got = decode(bytes(start) + body, start)
    assert list(paths) == [p for p in paths_of(schema) if p in paths]
    assert len(got) == len(paths)
    for path, value in zip(paths, got, strict=True):
        expected = at(oracle, path)
        assert value == (expected if text else as_bytes(type_at(schema, path), expected)), path
    fields = [f["name"] for f in schema["fields"]]
    last = fields.index(schema["header_last"]) if prefix_only and "header_last" in schema else len(fields)
    reachable = {p for p in paths_of(schema) if fields.index(p.split(".")[0]) <= last}
    wanted = {f for f in fields if f in reachable} if want is None else want & reachable
    assert set(paths) == {p for p in wanted if not any(p.startswith(q + ".") for q in wanted)}


@given(data=st.data(), junk=st.binary(max_size=40))
@settings(max_examples=40, deadline=None)
def test_a_reader_of_the_header_does_not_look_at_what_follows(data: st.DataObject, junk: bytes) -> None:
    names = [f["name"] for f in EVENT["fields"]]
    header = {**EVENT, "fields": EVENT["fields"][: names.index(EVENT["header_last"]) + 1]}
    plain = data.draw(generated.data(header))
    decode, paths = codec.decoder_for(EVENT, text=True, prefix_only=True)
    assert dict(zip(paths, decode(generated.written(header, plain) + junk, 0), strict=True)) == plain


@pytest.mark.parametrize(
    "path", ["nothing", "name.first", "attributes.key", "tool.nothing", "kind.x", "dataset_ids.0"]
)
def test_a_path_that_the_schema_lacks_is_not_among_the_results(path: str) -> None:
    decode, paths = codec.decoder_for(EVENT, {path, "source_id"}, text=True)
    body = codec.encode(
        TraceEvent(
            event_id="e",
            source_id="s",
            kind=Kind.TOOL,
            started_at=1,
            ended_at=2,
            published_at=3,
            tool=records.Tool(call_id="c"),
        )
    )[10:]
    assert (paths, decode(body, 0)) == (("source_id",), ("s",))


# -- bytes that are not a record


def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        how = draw(st.sampled_from(["cut", "flip", "insert", "delete"]))
        i = draw(st.integers(0, max(0, len(data) - 1)))
        if how == "cut":
            del data[i:]
        elif how == "flip" and data:
            data[i] = draw(st.integers(0, 255))
        elif how == "insert":
            data[i:i] = draw(st.binary(min_size=1, max_size=10))
        elif how == "delete":
            del data[i : i + draw(st.integers(1, 10))]
    return bytes(data)


@st.composite
def broken(draw: st.DrawFn, name: str) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    return mutated(
        draw, generated.written(schemas.current(name), draw(generated.data(schemas.current(name))))
    )


REASONS = {"truncated", "malformed", "invalid_utf8"}


@functools.cache
def decoder(name: str, part: bool, text: bool, prefix_only: bool) -> tuple[Decode, tuple[str, ...]]:
    """A decoder. part: of some fields only, so that the others are skipped."""
    schema = schemas.current(name)
    want = paths_of(schema)[::3] if part else None
    return codec.decoder_for(schema, want, text=text, prefix_only=prefix_only)


def outcome(found: tuple[Decode, tuple[str, ...]], body: bytes) -> dict[str, Any] | str:
    """The values by path, or the reason why the bytes are refused."""
    decode, paths = found
    try:
        return dict(zip(paths, decode(body, 0), strict=True))
    except DecodeError as e:
        return e.reason


def up_to_header_last(schema: dict[str, Any]) -> dict[str, Any]:
    names = [f["name"] for f in schema["fields"]]
    end = names.index(schema["header_last"]) + 1 if "header_last" in schema else len(names)
    return {**schema, "fields": schema["fields"][:end]}


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_broken_bytes_are_refused_or_read_as_fastavro_reads_them(name: str, data: st.DataObject) -> None:
    """A reader of a part, or one that leaves text as bytes, reads at least what a full reader reads."""
    body = data.draw(broken(name))
    part, text, prefix_only = (data.draw(st.booleans()) for _ in range(3))
    whole = outcome(decoder(name, False, True, prefix_only), body)
    found = outcome(decoder(name, part, text, prefix_only), body)
    if isinstance(whole, str):
        assert whole in REASONS
        assert isinstance(found, dict) or found in REASONS
        return
    schema = schemas.current(name)
    oracle = generated.read(up_to_header_last(schema) if prefix_only else schema, body)
    assert whole == oracle
    assert isinstance(found, dict)
    for path, value in found.items():
        expected = at(oracle, path)
        assert value == (expected if text else as_bytes(type_at(schema, path), expected)), path


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_broken_value_of_a_topic_raises_decode_error_and_nothing_else(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    cls = records.BY_NAME[name]
    body = data.draw(broken(name))
    for decode, value in (
        (codec.decode, wire.frame_of(name) + body),
        (codec.decode, body),
        (codec.decode_versioned, b"\1" + body),
        (codec.decode_versioned, body),
    ):
        try:
            assert isinstance(decode(value, cls), cls)
        except DecodeError:
            pass


@given(generated.of("TraceEvent"))
@settings(max_examples=30, deadline=None)
def test_every_cut_of_a_record_is_truncated(pair: tuple[dict[str, Any], TraceEvent]) -> None:
    value = codec.encode(pair[1])
    cuts = set(range(1, min(len(value), 400))) | set(range(max(1, len(value) - 200), len(value)))
    reasons = set()
    for cut in cuts - {1}:
        with pytest.raises(DecodeError) as caught:
            codec.decode(value[:cut], TraceEvent)
        reasons.add(caught.value.reason)
    # of a cut within an array, the count may be more than all bytes that are left
    assert reasons - {"malformed"} == {"truncated"}


@pytest.mark.parametrize("items", ["string", "long", "boolean", {"type": "map", "values": "string"}])
@pytest.mark.parametrize("kind", ["array", "map"])
@pytest.mark.parametrize("want", [None, frozenset({"other"})])
def test_a_block_that_claims_more_than_the_record_holds_costs_nothing(
    kind: str, items: Any, want: frozenset[str] | None
) -> None:
    part = {"type": "array", "items": items} if kind == "array" else {"type": "map", "values": items}
    schema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "x", "type": part}, {"name": "other", "type": "long"}],
    }
    decode, _ = codec.decoder_for(schema, want)
    tracemalloc.start()
    for count in (2**62, 2**40, 2**31, -(2**62), -(2**63)):
        with pytest.raises(DecodeError):
            decode(zigzag(count) + b"\1\0" * 50, 0)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x80" * 11, "malformed"),  # a varint without an end
        (b"\x03", "malformed"),  # a negative length
        (b"\xff" * 9 + b"\x01", "malformed"),  # the most negative length
        (b"\xfe" + b"\xff" * 8 + b"\x01", "truncated"),  # the longest length
        (b"\x02\xff", "invalid_utf8"),
        (b"", "truncated"),
    ],
)
def test_a_broken_first_string_is_named(body: bytes, reason: str) -> None:
    decode, _ = codec.decoder_for(EVENT, text=True)
    with pytest.raises(DecodeError) as caught:
        decode(body + (b"" if reason == "truncated" else b"\0" * 200), 0)
    assert caught.value.reason == reason


def test_an_invalid_symbol_or_boolean_is_malformed() -> None:
    kinds = {"type": "enum", "name": "E", "symbols": ["a", "b"]}
    for t in (kinds, "boolean", ["null", "long"]):
        decode, _ = codec.decoder_for({"type": "record", "name": "R", "fields": [{"name": "x", "type": t}]})
        with pytest.raises(DecodeError) as caught:
            decode(b"\x08", 0)
        assert caught.value.reason == "malformed"


# -- other writers


def blocks(pieces: list[list[bytes]], sized: list[bool]) -> bytes:
    """An array or map body in several blocks, some of them with their size in bytes."""
    out = b""
    for items, with_size in zip(pieces, sized, strict=True):
        body = b"".join(items)
        out += zigzag(-len(items)) + zigzag(len(body)) + body if with_size else zigzag(len(items)) + body
    return out + b"\0"


def string(text: str) -> bytes:
    return zigzag(len(text.encode())) + text.encode()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_arrays_and_maps_in_blocks_with_and_without_sizes(data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.lists(generated.texts, min_size=1, max_size=3), max_size=3))
    sized = [data.draw(st.booleans()) for _ in pieces]
    keys = [f"k{i}" for i in range(sum(map(len, pieces)))]
    left = iter(keys)
    body = blocks([[string(x) for x in piece] for piece in pieces], sized)
    body += blocks([[string(next(left)) + string(x) for x in piece] for piece in pieces], sized)
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "a", "type": {"type": "array", "items": "string"}},
            {"name": "m", "type": {"type": "map", "values": "string"}},
            {"name": "n", "type": "long"},
        ],
    }
    flat = [x for piece in pieces for x in piece]
    body += zigzag(7)
    assert generated.read(schema, body) == {"a": flat, "m": dict(zip(keys, flat, strict=True)), "n": 7}
    whole, _ = codec.decoder_for(schema, text=True)
    part, _ = codec.decoder_for(schema, {"n"}, text=True)
    assert whole(body, 0) == (flat, dict(zip(keys, flat, strict=True)), 7)
    assert part(body, 0) == (7,)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_avro_type_is_read_and_skipped(data: st.DataObject) -> None:
    """Including types that our schemas do not use yet."""
    types: list[Any] = [
        "null",
        "boolean",
        "int",
        "long",
        "float",
        "double",
        "bytes",
        "string",
        ["null", "double"],
        ["string", "null", "long"],
        {"type": "fixed", "name": "F", "size": 5},
        {"type": "enum", "name": "E", "symbols": [f"s{i}" for i in range(70)]},
        {"type": "array", "items": {"type": "array", "items": "float"}},
        {"type": "map", "values": ["null", "F2"]},
        {
            "type": "record",
            "name": "N",
            "fields": [{"name": "x", "type": "E2"}, {"name": "y", "type": ["null", "string"]}],
        },
        {"type": "string"},
    ]
    first = [
        {"name": "e2", "type": {"type": "enum", "name": "E2", "symbols": ["p", "q"]}},
        {"name": "f2", "type": {"type": "fixed", "name": "F2", "size": 3}},
    ]
    schema: dict[str, Any] = {
        "type": "record",
        "name": "R",
        "fields": [
            *first,
            *({"name": f"t{i}", "type": t} for i, t in enumerate(types)),
            {"name": "end", "type": "long"},
        ],
    }
    plain = data.draw(generated.data(schema))
    body = generated.written(schema, plain)
    want = data.draw(st.one_of(st.none(), st.sets(st.sampled_from([f["name"] for f in schema["fields"]]))))
    decode, paths = codec.decoder_for(schema, want, text=True)
    oracle = generated.read(schema, body)
    assert decode(body, 0) == tuple(oracle[p] for p in paths)


# -- other versions of a schema


def versions(draw: st.DrawFn) -> dict[str, Any]:
    """A schema with which another version of tailrace could write TraceEvents."""
    fields = [dict(f) for f in EVENT["fields"]]
    for name in draw(st.sets(st.sampled_from([f["name"] for f in fields if "default" in f]), max_size=6)):
        if name not in ("otel_span_id",):  # the type of otel_parent_span_id is defined there
            fields = [f for f in fields if f["name"] != name]
    for i in range(draw(st.integers(0, 4))):
        new: dict[str, Any] = draw(
            st.sampled_from(
                [
                    {"type": ["null", "string"], "default": None},
                    {"type": "long", "default": 5},
                    {"type": {"type": "array", "items": "string"}, "default": []},
                    {
                        "type": [
                            "null",
                            {
                                "type": "record",
                                "name": f"NewBody{i}",
                                "fields": [{"name": "x", "type": ["null", "string"], "default": None}],
                            },
                        ],
                        "default": None,
                    },
                ]
            )
        )
        fields.insert(draw(st.integers(0, len(fields))), {"name": f"new_{i}", **new})
    for field in fields:
        t = field["type"]
        if field["name"] == "kind":
            kept = [s for s in t["symbols"] if s == "unknown" or draw(st.integers(0, 5))]
            field["type"] = {**t, "symbols": kept + [f"kind_{i}" for i in range(draw(st.integers(0, 2)))]}
        elif (
            isinstance(t, list)
            and isinstance(t[1], dict)
            and t[1]["type"] == "record"
            and "NewBody" not in t[1]["name"]
        ):
            inner = [f for f in t[1]["fields"] if "default" not in f or draw(st.integers(0, 9))]
            if draw(st.booleans()):
                inner = [*inner, {"name": "newer", "type": ["null", "long"], "default": None}]
            field["type"] = ["null", {**t[1], "fields": inner}]
    return {**EVENT, "fields": fields}


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_events_of_other_schema_versions_are_read_as_avro_resolves_them(data: st.DataObject) -> None:
    writer = data.draw(st.composite(versions)())
    plain = data.draw(generated.data(writer))
    body = generated.written(writer, plain)
    decode, cls = wire._into_class("TraceEvent", writer)
    event = decode(body, 0)
    resolved = generated.read(writer, body, EVENT)
    expected = generated.as_record(EVENT, resolved)
    for field in cls.__struct_fields__:
        got, want = getattr(event, field), getattr(expected, field)
        if isinstance(got, tuple):  # the class's own default of a field that the writer lacks
            got = list(got)
        assert same(got, want), field


def same(a: Any, b: Any) -> bool:
    if type(a) is type(b) and hasattr(a, "__struct_fields__"):
        return all(same(getattr(a, f), getattr(b, f)) for f in a.__struct_fields__)
    return bool((list(a) if isinstance(a, tuple) else a) == b)


def test_a_kind_of_a_newer_writer_is_unknown() -> None:
    kinds = next(f["type"] for f in EVENT["fields"] if f["name"] == "kind")
    fields = [
        {**f, "type": {**kinds, "symbols": [*kinds["symbols"], "dream"]}} if f["name"] == "kind" else f
        for f in EVENT["fields"]
    ]
    writer = {**EVENT, "fields": fields}
    plain = {f["name"]: f.get("default") for f in writer["fields"]}
    plain |= {
        "event_id": "e",
        "source_id": "s",
        "kind": "dream",
        "started_at": 1,
        "ended_at": 2,
        "published_at": 3,
    }
    decode, _ = wire._into_class("TraceEvent", writer)
    event = decode(generated.written(writer, plain), 0)
    assert event.kind is Kind.UNKNOWN
    assert event.source_id == "s"


# -- frames


@pytest.mark.parametrize(
    ("schema", "big_endian"),
    [
        ('"null"', "63dd24e7cc258f8a"),
        ('"boolean"', "9f42fc78a4d4f764"),
        ('"int"', "7275d51a3f395c8f"),
        ('"long"', "d054e14493f41db7"),
        ('"float"', "4d7c02cb3ea8d790"),
        ('"double"', "8e7535c032ab957e"),
        ('"bytes"', "4fc016dac3201965"),
        ('"string"', "8f014872634503c7"),
    ],
)
def test_fingerprints_are_those_of_the_avro_specification_in_wire_order(schema: str, big_endian: str) -> None:
    assert schemas.fingerprint(json.loads(schema))[::-1].hex() == big_endian


@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_a_single_object_that_fastavro_knows(name: str) -> None:
    assert schemas.by_fingerprint()[wire.frame_of(name)[2:]] == (name, schemas.current(name))
    assert len(schemas.by_fingerprint()) == sum(len(schemas.history(n)) for n in NAMES)


VALID = codec.encode(
    TraceEvent(event_id="e", source_id="s", kind=Kind.TOOL, started_at=1, ended_at=2, published_at=3)
)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b"\x00\x00\x00\x00\x01abcdefgh", "unknown_schema"),
        (b"\x00\x00\x00\x01", "truncated"),
        (b"{", "bad_magic"),
        (VALID[:2], "truncated"),
        (VALID[:9], "truncated"),
        (VALID[:10], "truncated"),
        (VALID[:-1], "truncated"),
        (VALID + b"\0", "truncated"),
        (b"\xc3\x01" + b"\xab" * 8 + VALID[10:], "unknown_schema"),
    ],
)
def test_what_is_wrong_with_a_frame_is_named(value: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode(value, TraceEvent)
    assert caught.value.reason == reason


def test_a_missing_value_is_empty() -> None:
    with pytest.raises(DecodeError, match="empty"):
        wire.frame_in(None)


def test_another_record_is_refused_and_named() -> None:
    with pytest.raises(DecodeError, match="a TraceEvent, not a TraceContext") as caught:
        codec.decode(VALID, TraceContext)
    assert caught.value.reason == "wrong_record"


def test_an_unknown_schema_says_its_fingerprint() -> None:
    with pytest.raises(UnknownSchema, match="abababababababab") as caught:
        codec.decode(b"\xc3\x01" + b"\xab" * 8, TraceEvent)
    assert caught.value.fingerprint == b"\xab" * 8


@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_state_of_a_newer_version_says_so(version: int) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode_versioned(bytes([version]), TraceSummary)
    assert caught.value.reason == "unknown_version"
    with pytest.raises(DecodeError) as caught:
        codec.decode_versioned(b"", TraceSummary)
    assert caught.value.reason == "empty"


def test_a_file_of_our_values_is_read_by_any_avro_reader() -> None:
    body = io.BytesIO(VALID[10:])
    assert fastavro.schemaless_reader(body, fastavro.parse_schema(EVENT), None)["source_id"] == "s"
    assert body.read() == b""


# -- numbers that a schema may hold one day


@pytest.mark.parametrize("t", ["float", "double"])
@pytest.mark.parametrize("value", [10**400, "1", True, None], ids=["huge", "text", "truth", "nothing"])
def test_floats_that_cannot_be_written_are_refused_with_the_field_named(t: str, value: Any) -> None:
    class R:
        x = value

    encode = codec.compile_encoder({"type": "record", "name": "R", "fields": [{"name": "x", "type": t}]}, {})
    with pytest.raises(InvalidEvent) as caught:
        encode(R())
    assert caught.value.field == "x"
