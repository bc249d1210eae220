"""Ids: fixed vectors, and rules that hold for every id."""

from __future__ import annotations

import uuid
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import ids

NIL = "00000000-0000-0000-0000-000000000000"
uuids = st.uuids().filter(lambda u: u.int)


@pytest.mark.parametrize(
    ("source_id", "span_id"),
    [
        ("00000001-0000-4000-8000-000000000001", "d57d19d1bc9e3d9c"),
        ("00000002-0000-4000-8000-000000000002", "56c4db0df6b84c83"),
    ],
)
def test_span_ids_are_those_of_the_data_dictionary(source_id: str, span_id: str) -> None:
    assert ids.otel_span_id(source_id).hex() == span_id
    assert ids.otel_span_id(source_id.encode()).hex() == span_id


@pytest.mark.parametrize("text", ["00f067aa0ba902b7", "00F067AA0BA902B7", "1234567890123456"])
def test_the_text_of_a_span_id_is_that_span(text: str) -> None:
    assert ids.otel_span_id(text) == ids.otel_span_id(text.encode()) == bytes.fromhex(text)


@pytest.mark.parametrize(
    "text",
    ["0" * 16, "00f067aa0ba902b", "00f067aa0ba902b7 ", "0_f067aa0ba902b7", "00 067aa0ba902b7", "é" * 8],
)
def test_a_source_id_that_is_not_the_text_of_a_span_id_is_hashed(text: str) -> None:
    assert ids.otel_span_id(text) == sha256(text.encode()).digest()[:8]


def test_a_trace_id_is_the_number_of_its_uuid() -> None:
    text = "00000001-0000-4000-8000-000000000001"
    assert ids.otel_trace_id(text).hex() == "00000001000040008000000000000001"
    assert int.from_bytes(ids.otel_trace_id(text), "big") == uuid.UUID(text).int


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run-1",
        "会話",
        NIL + " ",
        "urn:uuid:" + NIL,
        "{" + NIL + "}",
        "urn:uuid:" + "1" * 31,
        "{" + "1" * 33 + "}",
        "URN:UUID:" + "1" * 32,
        "0x" + "1" * 30,
        "1_1" + "1" * 29,
        "\u0661" * 32,
        "g" * 32,
        "1" * 31,
    ],
)
def test_a_correlation_id_that_is_not_a_uuid_is_hashed(text: str) -> None:
    assert ids.otel_trace_id(text) == sha256(text.encode()).digest()[:16]


@pytest.mark.parametrize("text", [NIL, NIL.replace("-", "")])
def test_the_nil_uuid_is_hashed_since_an_id_is_never_all_zero(text: str) -> None:
    assert ids.otel_trace_id(text) == sha256(text.encode()).digest()[:16]


@given(uuids)
def test_the_spelling_of_a_uuid_does_not_matter_to_its_trace_id(u: uuid.UUID) -> None:
    spellings = {str(u), u.hex, str(u).upper(), u.hex.upper(), u.urn, f"{{{u}}}", f"urn:uuid:{{{u.hex}}}"}
    assert {ids.otel_trace_id(s) for s in spellings} == {u.bytes}


@given(uuids)
def test_every_spelling_of_a_uuid_has_one_form(u: uuid.UUID) -> None:
    for s in (str(u), str(u).upper(), u.urn, f"{{{u}}}", f"urn:uuid:{{{u.hex}}}", f"{{{u.hex.upper()}}}"):
        assert ids.canonical(s) == str(u)
    assert {ids.canonical(u.hex), ids.canonical(u.hex.upper())} == {u.hex}  # as OpenTelemetry writes it


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-fA-FurnidU:{}-]{30,50}", fullmatch=True))
def test_a_canonical_form_is_a_uuid_with_the_same_trace_id_or_the_text_itself(text: str) -> None:
    found = ids.canonical(text)
    assert ids.canonical(found) == found
    if found != text:
        assert uuid.UUID(found) == uuid.UUID(text)
    if any(uuid.UUID(found).bytes) if found != text else True:
        assert ids.otel_trace_id(found) == ids.otel_trace_id(text)


near_uuids = st.lists(
    st.sampled_from(["urn:", "uuid:", "{", "}", "-", "0", "7", "a", "F", "g", "00000000", "abcdef12"]),
    max_size=24,
).map("".join)


@given(
    near_uuids | st.uuids().map(lambda u: u.urn) | st.uuids().map(lambda u: f"{{{u.hex[:9]}-{u.hex[9:]}}}")
)
def test_what_pythons_uuid_reads_is_a_uuid_and_nothing_else_is(text: str) -> None:
    """`UUID` alone reads digits that are not hexadecimal, such as 0x and 1_0: those are hashed."""
    try:
        value = uuid.UUID(text).bytes
    except ValueError:
        value = bytes(16)
    assert ids.otel_trace_id(text) == (value if any(value) else sha256(text.encode()).digest()[:16])


@given(st.one_of(st.text(), st.uuids().map(str)))
def test_ids_have_their_length_are_never_zero_and_always_the_same(text: str) -> None:
    trace, span = ids.otel_trace_id(text), ids.otel_span_id(text)
    assert (len(trace), len(span)) == (16, 8)
    assert any(trace)
    assert any(span)
    assert (trace, span) == (ids.otel_trace_id(text.encode()), ids.otel_span_id(text.encode()))


@given(st.tuples(st.text(), st.none() | st.text(), st.text(), st.integers(0, 2**31 - 1)))
def test_an_event_id_is_a_uuid_and_stable(parts: tuple[str, str | None, str, int]) -> None:
    made = ids.event_id(*parts)
    assert made == ids.event_id(*parts)
    assert uuid.UUID(made).version == 8
    assert uuid.UUID(made).variant == uuid.RFC_4122


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["tool", "span"]), st.uuids().map(str), st.uuids().map(str), st.integers(0, 3)
        ),
        unique=True,
    )
)
def test_different_events_have_different_ids(all_parts: list[tuple[str, str, str, int]]) -> None:
    assert len({ids.event_id(*p) for p in all_parts}) == len(all_parts)


def test_the_event_id_of_an_operation_never_changes() -> None:
    assert ids.event_id("tool", "t", "s", 0) == "70dbac8d-5ab5-8356-8cd6-f624c661beef"
    assert ids.event_id("tool", "t", "s", 0, "") == "70dbac8d-5ab5-8356-8cd6-f624c661beef"
    assert ids.event_id("tool", "t", "s", 0, "acme") == "1811a518-28f2-8aa2-8444-bfbcef40692b"


@given(st.binary())
def test_a_dedupe_hash_has_eight_bytes(raw: bytes) -> None:
    assert len(ids.dedupe_hash(raw)) == 8
