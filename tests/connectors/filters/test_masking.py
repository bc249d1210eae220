"""Masks: what is masked, what is left, and that JSON stays JSON."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.filters.masking import BUILT_IN, Masks, luhn
from tailrace.errors import ConfigError

ALL = Masks()

FOUND = [
    ("write to bob.smith+x@mail.example.org.", "write to [email]."),
    ("müller@straße.example", "[email]"),
    ("<a@b.co>,<c@d.co>", "<[email]>,<[email]>"),
    ("card 4111 1111 1111 1111, 123", "card [credit_card], 123"),
    ("4111-1111-1111-1111 123", "[credit_card] 123"),
    ("378282246310005 and 5500000000000004", "[credit_card] and [credit_card]"),
    ("to DE89 3704 0044 0532 0130 00 NOW", "to [iban] NOW"),
    ("GB82WEST12345698765432", "[iban]"),
    ("call +49 (30) 123-4567 or (555) 123-4567", "call [phone] or [phone]"),
    ("555-123-4567; 0171 1234567; (030) 123456", "[phone]; [phone]; [phone]"),
    ("from 192.168.0.17:8080", "from [ip]:8080"),
    ("at 2001:db8::ff00:42:8329, fe80::1: ok", "at [ip], [ip]: ok"),
    ("::ffff:10.0.0.1 is v4", "[ip] is v4"),
    ("key sk-proj-abcdefghijkl0123456789", "key [api_key]"),
    ("sk_live_abcdefghij0123456789, ghp_" + "a1" * 18, "[api_key], [api_key]"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nx==\n-----END RSA PRIVATE KEY-----!", "[api_key]!"),
    ("id AKIAIOSFODNN7EXAMPLE", "id [aws_key]"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = [aws_key]"),
    ("Authorization: Bearer abc123.DEF-456", "Authorization: Bearer [token]"),
    ("authorization: Basic dXNlcjpwYXNzd29yZA==", "authorization: Basic [token]"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln", "[token]"),
]
LEFT = [
    "2026-11-21 17:52:51.123456",
    "1767225600000000",
    "550e8400-e29b-41d4-a716-446655440000",
    "4111 1111 1111 1112",
    "version 1.2.3",
    "std::vector<a::b>",
    "00:1a:2b:3c:4d:5e",
    "DE88 3704 1044 1532 1130 10",
    "bearer securities",
    "basic telecommunications",
    "@home",
    "a@b",
    "300.1.1.1",
    "0.0171 1234567",
    "risk-management-of-portfolios",
    "3.14159265358979",
    "the sk- prefix",
    "10:30 to 11:45",
]


@pytest.mark.parametrize(("text", "masked"), FOUND)
def test_each_example_is_masked_in_text_and_in_json(text: str, masked: str) -> None:
    assert ALL.text(text) == masked
    assert json.loads(ALL.json(json.dumps({"a": [text]}))) == {"a": [masked]}
    assert json.loads(ALL.json(json.dumps({text: 1}))) == {masked: 1}


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_similar_is_left(text: str) -> None:
    assert ALL.text(text) == text
    document = json.dumps({"a": text})
    assert ALL.json(document) == document


def test_only_the_named_masks_apply() -> None:
    text = "bob@x.org 10.0.0.1"
    assert Masks(["ip"]).text(text) == "bob@x.org [ip]"
    assert Masks([]).text(text) == text
    assert Masks([], {"order": r"ORD-\d{2,9}"}).text("ORD-12, ORD-9") == "[order], ORD-9"


def test_json_is_changed_only_where_something_is_masked() -> None:
    text = (
        '{ "n": 1.50e+3,  "u": "\\u00fc\\ud800", "deep": {"m": '
        '"bob@x.org\\n"},"big":123456789012345678901234567890 }'
    )
    assert ALL.json(text) == text.replace("bob@x.org", "[email]")


def test_numbers_are_masked_as_strings() -> None:
    assert (
        ALL.json("[4111111111111111, -4111111111111111, 4111.1111]")
        == '["[credit_card]", -4111111111111111, 4111.1111]'
    )
    own = Masks([], {"pin": r"\d{4}"})
    assert (
        own.json('{"pin": 1234, "n": 12345, "t": "x1234y"}') == '{"pin": "[pin]", "n": 12345, "t": "x[pin]y"}'
    )


def test_json_inside_a_string_stays_json_too() -> None:
    inner = json.dumps({"q": "line\nbob@x.org", "card": 4111111111111111})
    outer = json.dumps({"arguments": inner})
    found = json.loads(json.loads(ALL.json(outer))["arguments"])
    assert found == {"q": "line\n[email]", "card": "[credit_card]"}


def test_an_escaped_character_hides_nothing() -> None:
    assert json.loads(ALL.json('{"a": "bob\\u0040x.org"}')) == {"a": "[email]"}


def test_text_that_is_not_json_is_masked_as_text() -> None:
    assert ALL.json('{"a": bob@x.org') == '{"a": [email]'
    assert ALL.json("[" * 100_000 + '"bob@x.org"' + "]" * 100_000).count("bob") == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"names": ["emal"]}, "mask: there is no mask emal; known are api_key,"),
        ({"own": {"x": "("}}, "mask_patterns.x: is not a valid regular expression"),
        ({"own": {"x": "a*"}}, "mask_patterns.x: must not match the empty text"),
        ({"own": {"x": r"\w+"}}, "mask_patterns.x: must not match the empty text"),
        ({"own": {"X y": "a"}}, "mask_patterns: 'X y' is not a valid name"),
    ],
)
def test_wrong_settings(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as e:
        Masks(**options)
    assert str(e.value).startswith(says)


PIECES = (
    *(text for text, _ in FOUND),
    *LEFT,
    " ",
    "\n",
    '"',
    "\\",
    "{",
    "}",
    ":",
    ",",
    "é",
    "\ud800",
    "1",
    "-",
    "+",
    "@",
    ".x",
)
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=6).map("".join)
documents = st.recursive(
    texts | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3) | inner.map(json.dumps)
    ),
    max_leaves=8,
)


@given(texts)
@example("+49 30 1234567 4111 1111 1111 1111 1 1")
def test_masking_twice_is_masking_once(text: str) -> None:
    once = ALL.text(text)
    assert ALL.text(once) == once


@given(documents, st.booleans(), st.sampled_from([ALL, Masks(["email"], {"one": "1"})]))
@settings(max_examples=200)
def test_masked_json_is_json_of_the_same_shape_and_masking_again_changes_nothing(
    document: Any, ascii_only: bool, masks: Masks
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    once = masks.json(text)
    assert _shape(json.loads(once)) == _shape(document, masked=masks)
    assert masks.json(once) == once


def _shape(value: Any, masked: Masks | None = None) -> Any:
    """The value without its texts. Keys are as the masks leave them."""
    if isinstance(value, dict):
        return {(masked.text(k) if masked else k): _shape(v, masked) for k, v in value.items()}.keys()
    if isinstance(value, list):
        return [_shape(v, masked) for v in value]
    return type(value) if value is None or isinstance(value, (bool, float)) else "text or number"


KEYS = [text.partition(" ")[2] for text, _ in FOUND if text.startswith(("key ", "id "))]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("after", ["write", "X", "7", "-", "_", "/", "é", "."])
def test_a_key_is_masked_whatever_follows_it(key: str, after: str) -> None:
    assert key not in ALL.text(f"the key {key}{after} and more")


@given(st.sampled_from(KEYS), documents)
@example("AKIAIOSFODNN7EXAMPLE", "id AKIAIOSFODNN7EXAMPLEwrite to")
def test_a_key_is_masked_wherever_it_stands(key: str, document: Any) -> None:
    assert key not in ALL.json(json.dumps({"a": [document, {"b": f"x {key} y"}]}))


def test_luhn_finds_every_single_wrong_digit() -> None:
    rng = random.Random(1)
    for _ in range(200):
        body = "".join(rng.choices("0123456789", k=15))
        (check,) = [d for d in "0123456789" if luhn(body + d)]
        number = body + check
        i = rng.randrange(16)
        wrong = number[:i] + str((int(number[i]) + rng.randrange(1, 10)) % 10) + number[i + 1 :]
        assert luhn(number)
        assert not luhn(wrong)


def test_every_built_in_mask_is_found_by_an_example() -> None:
    assert {name for name in BUILT_IN for _, masked in FOUND if f"[{name}]" in masked} == set(BUILT_IN)
