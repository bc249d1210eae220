"""Prices that publishers give: one plain form, which the processor reads, or a refusal."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.processing.money import decimal_text, units_of
from tailrace import codec
from tailrace.errors import InvalidEvent
from tailrace.identity import complete
from tailrace.money import LONGEST, amount, currency_code, price_text, total_of
from tailrace.records import Kind, TraceEvent

NOW = 1_764_000_000_000_000


def event(**fields: Any) -> TraceEvent:
    return TraceEvent(**{"kind": Kind.TOOL, "source_id": "s", "started_at": NOW, "ended_at": NOW, **fields})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("0.5", "0.5"),
        ("1.10", "1.10"),
        ("0.0", "0.0"),
        (".5", "0.5"),
        ("+0.5", "0.5"),
        ("00.5", "0.5"),
        ("5.", "5"),
        (" 0.5\n", "0.5"),
        ("-0.0", "0"),
        ("1e-3", "0.001"),
        ("1E+3", "1000"),
        (Decimal("0.00123"), "0.00123"),
        (Decimal("1E-7"), "0.0000001"),
        (0.1, "0.1"),
        (1e-06, "0.000001"),
        (0.0, "0"),
        (3, "3"),
        ("9223372.036854775807", "9223372.036854775807"),
        ("0." + "1" * 80, "0." + "1" * 30),
    ],
)
@pytest.mark.parametrize("field", ["input_price", "output_price", "total_price"])
def test_a_price_is_published_as_plain_decimal_text(field: str, value: Any, text: str | None) -> None:
    done = complete(event(**{field: value}), NOW)
    assert getattr(done, field) == text
    assert getattr(codec.decode(codec.encode(done), TraceEvent), field) == text


@pytest.mark.parametrize(
    "value",
    [
        "$0.5",
        "0.5 USD",
        "0,5",
        "1_000",
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "e5",
        ".",
        "١",
        "-0.5",
        "-1e-40",
        "1e-31",
        "1e7",
        "1e999999999",
        "1e-999999999",
        "1e9999999999999999999999",
        "9223372.036854775808",
        "9" * 2000,
        float("nan"),
        float("inf"),
        -0.5,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-1"),
        Decimal("Infinity"),
        10**5000,
        -1,
        True,
        b"0.5",
        ["0.5"],
        object(),
    ],
    ids=range(33),
)
def test_what_is_not_a_price_is_refused_with_the_field_named(value: Any) -> None:
    for field in ("input_price", "output_price", "total_price"):
        with pytest.raises(InvalidEvent) as caught:
            complete(event(**{field: value}), NOW)
        assert caught.value.field == field
        assert len(str(caught.value)) < 300


numbers = st.from_regex(
    r"[+]?([0-9]{1,9}(\.[0-9]{0,70})?|\.[0-9]{1,70})([eE][+-]?[0-9]{1,2})?", fullmatch=True
)


@given(numbers | st.decimals(min_value=0, max_value=10_000_000, allow_nan=False) | st.floats(0, 1e7))
@example("9223372.03685477580749999999999999999999999999999999999999999999999")
def test_every_published_price_is_read_by_the_processor_and_keeps_its_value(value: Any) -> None:
    try:
        text = price_text("total_price", value)
    except InvalidEvent:
        return
    assert text is not None
    units = units_of(text.encode())
    assert units is not None
    assert len(text) <= LONGEST
    assert "e" not in text.lower()
    exact = Decimal(value if isinstance(value, str) else repr(value) if isinstance(value, float) else value)
    assert abs(Decimal(decimal_text(units)) - exact) <= Decimal("0.5000001e-12")


@given(st.text(max_size=12) | st.floats() | st.decimals() | st.integers() | st.binary(max_size=3))
def test_any_price_is_published_or_refused(value: Any) -> None:
    try:
        text = price_text("total_price", value)
    except InvalidEvent:
        return
    assert text is None or units_of(text.encode()) is not None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("usd", "USD"),
        (" Eur ", "EUR"),
        ("USD", "USD"),
        ("", None),
        (None, None),
        ("credits", "credits"),
        (5, 5),
    ],
)
def test_currency_codes_are_in_capitals(value: Any, code: Any) -> None:
    assert currency_code(value) == code
    if not isinstance(value, int):
        assert complete(event(currency=value), NOW).currency == code


@pytest.mark.parametrize(
    ("given", "made", "total"),
    [
        ("0.1", "0.2", "0.3"),
        ("0.10", "0.20", "0.30"),
        ("0", "0.0", "0"),
        (".5", "+1e-1", "0.6"),
        ("0E-999999999", "0.5", Decimal("0.5")),
        ("1e-999999999", "0", "0"),
        ("1e999999999", "0", None),
        ("9223372", "0.5", None),
        ("0.1", "", None),
        ("", "0.1", None),
        ("0.1", "NaN", None),
        ("-0.1", "0.2", None),
        ("$0.1", "0.2", None),
        ("1" * 65, "0", None),
    ],
)
def test_the_parts_of_a_price_add_up_to_a_price_that_the_processor_reads(
    given: str, made: str, total: str | Decimal | None
) -> None:
    found = total_of(given, made)
    if isinstance(total, Decimal):
        assert found is not None
        assert Decimal(found) == total
    else:
        assert found == total
    if found is not None:
        assert len(found) <= LONGEST
        assert units_of(found.encode()) == round(Decimal(found) * 10**12)


UNUSABLE = [
    "1e400",
    "9e99",
    "10000000",
    "9" * 80,
    "0." + "0" * 80,
    "-1",
    "-0.5",
    "NaN",
    "inf",
    "1,5",
    "$1",
    "",
    "1e99999999999",
]
UNUSABLE += ["9223372.0368547758075", "9223372.036854775808"]
USABLE = [
    "0",
    "0.5",
    ".5",
    "+1",
    "007",
    "1.",
    "5e-1",
    "1e3",
    "1e-400",
    "9223372.036854775807",
    "9223372.0368547758074",
]


@pytest.mark.parametrize("text", [*UNUSABLE, *USABLE])
def test_an_amount_is_a_price_that_the_processor_can_use(text: str) -> None:
    found, units = amount(text), units_of(text.encode())
    assert (found is None) == (units is None or units < 0) == (text in UNUSABLE)
    if found is not None:
        assert json.loads(found) == pytest.approx(float(text))
        assert len(found) < 100


@given(
    st.decimals(allow_nan=True, allow_infinity=True).map(str)
    | st.text("0123456789.eE+-", max_size=70)
    | st.from_regex(r"[+-]?[0-9]{0,9}\.?[0-9]{0,9}(e[+-]?[0-9]{1,3})?", fullmatch=True)
)
def test_sinks_and_the_processor_agree_on_what_is_a_price(text: str) -> None:
    found, units = amount(text), units_of(text.encode())
    assert found is None if units is None or units < 0 else found is not None or text.startswith("-")
    assert found is None or json.loads(found) >= 0
