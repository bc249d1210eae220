"""OTLP bytes and JSON, compared with the protobuf classes."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from connectors.otlp import as_json, memo, wire
from connectors.otlp.rendering import as_document

texts = st.text(st.characters(codec="utf-8"), max_size=300) | st.sampled_from(
    ["", "x" * 127, "x" * 128, "ü" * 64, "y" * 16_384]
)
names = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.lists(texts, max_size=3).map(tuple),
    st.none(),
)
pairs = st.lists(st.tuples(names, values), max_size=6)
links = st.lists(
    st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), pairs), max_size=2
)
spans = st.fixed_dictionaries(
    {
        "trace_id": st.binary(min_size=16, max_size=16),
        "span_id": st.binary(min_size=8, max_size=8),
        "parent_span_id": st.none() | st.binary(min_size=8, max_size=8),
        "name": texts,
        "kind": st.integers(0, 5),
        "start_ns": st.sampled_from((0, 1, 2**64 - 1)) | st.integers(1, 2**64 - 1),
        "end_ns": st.integers(1, 2**64 - 1),
        "attributes": pairs,
        "status_code": st.integers(0, 2),
        "status_message": texts,
        "links": links,
        "trace_state": texts,
    }
)
groups = st.lists(st.tuples(pairs, names, names, st.lists(spans, max_size=3)), max_size=3)


def flat(found: list[tuple[str, Any]]) -> list[Any]:
    return [part for pair in found for part in pair]


def oracle_value(value: Any) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=v) for v in value]))


def oracle_pairs(found: list[tuple[str, Any]]) -> list[KeyValue]:
    return [KeyValue(key=k, value=oracle_value(v)) for k, v in found if v is not None]


def oracle_span(span: dict[str, Any]) -> Span:
    return Span(
        trace_id=span["trace_id"],
        span_id=span["span_id"],
        parent_span_id=span["parent_span_id"] or b"",
        name=span["name"],
        kind=span["kind"],
        start_time_unix_nano=span["start_ns"],
        end_time_unix_nano=span["end_ns"],
        attributes=oracle_pairs(span["attributes"]),
        status=Status(code=span["status_code"], message=span["status_message"]),
        links=[Span.Link(trace_id=t, span_id=s, attributes=oracle_pairs(p)) for t, s, p in span["links"]],
        trace_state=span["trace_state"],
    )


def oracle(found: list[Any]) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=oracle_pairs(resource)),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name=name, version=version),
                        spans=[oracle_span(s) for s in members],
                    )
                ],
            )
            for resource, name, version, members in found
        ]
    )


def written(encoding: Any, found: list[Any]) -> bytes:
    def one(span: dict[str, Any]) -> bytes:
        linked = [encoding.link(t, s, flat(p)) for t, s, p in span["links"]]
        given = {**span, "attributes": encoding.attributes(flat(span["attributes"])), "links": linked}
        data: bytes = encoding.span(**given)
        return data

    body: bytes = encoding.request(
        [
            (encoding.resource(flat(resource)), encoding.scope(name, version), [one(s) for s in members])
            for resource, name, version, members in found
        ]
    )
    return body


@settings(max_examples=60, deadline=None)
@given(groups)
def test_bytes_are_those_of_the_protobuf_classes(found: list[Any]) -> None:
    body, right = written(wire, found), oracle(found)
    assert ExportTraceServiceRequest.FromString(body) == right or "nan" in str(right)  # NaN equals nothing
    # wire writes a time of 0, protobuf leaves it out: without one, the bytes are equal.
    if all(s["start_ns"] and s["end_ns"] for _, _, _, members in found for s in members):
        assert body == right.SerializeToString(deterministic=True)


def full(value: Any, name: str = "") -> Any:
    """A JSON document without what a writer may leave out.

    That is empty texts, lists, messages and zeros outside of attribute values. Doubles are as Python writes
    them.
    """
    if isinstance(value, dict):
        cut = {k: full(v, k) for k, v in value.items()}
        keep = ("stringValue", "boolValue", "intValue", "doubleValue", "arrayValue")
        return {k: v for k, v in cut.items() if k in keep or v not in ("", "0", 0, [], {})}
    if name == "doubleValue":
        return repr(float(value))
    return [full(v) for v in value] if isinstance(value, list) else value


@settings(max_examples=60, deadline=None)
@given(groups)
def test_json_is_that_of_the_protobuf_classes_with_ids_in_hexadecimal(found: list[Any]) -> None:
    body = written(as_json, found)
    assert full(json.loads(body)) == full(as_document(oracle(found).SerializeToString()))
    orjson.loads(body)  # strict: no NaN, UTF-8


@given(texts, values.filter(lambda v: v is not None))
def test_one_attribute_is_what_several_are_made_of(key: str, value: Any) -> None:
    assert b"".join(wire.attributes((key, value))) == wire.attribute(key, value)
    assert as_json.attributes((key, value)) == [as_json.attribute(key, value)]


@pytest.mark.parametrize("value", ["\ud800", ("a", "\udfff"), 2**63, -(2**63) - 1])
def test_what_otlp_cannot_hold_is_refused_by_the_encoder(value: Any) -> None:
    for encoding in (wire, as_json):
        with pytest.raises((UnicodeEncodeError, OverflowError, TypeError)):
            encoding.attribute("k", value)
    with pytest.raises(UnicodeEncodeError):
        wire.attribute("\ud800", "v")


def test_one_and_true_are_not_the_same() -> None:
    """1 == True == 1.0 as keys of a dict: a table by value alone would confuse them."""
    for key in ("a", "b"):
        for value in (1, True, 1.0, 0, False, 0.0):
            found = KeyValue.FromString(wire.attribute(key, value)[2:]).value
            assert found == oracle_value(value)


def test_tables_forget_at_their_cap() -> None:
    """Names and lengths come from events: ever new ones must not fill the memory."""
    table = memo.Keys(b"\x4a")
    for i in range(memo.CAP + 10):
        assert table[f"k{i}"][1]
    assert len(table) <= memo.CAP
    lengths = memo.Prefixes("k", b"\x4a")
    for n in range(memo.CAP + 10):
        assert lengths[n]
    assert len(lengths) <= memo.CAP
    with pytest.raises(ValueError, match="varint"):
        memo.Varints()[-1]


def test_doubles_without_a_json_number_are_text() -> None:
    found = [
        json.loads(as_json.attribute("k", v))["value"]["doubleValue"] for v in (math.nan, math.inf, -math.inf)
    ]
    assert found == ["NaN", "Infinity", "-Infinity"]
