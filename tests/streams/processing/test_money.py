"""Amounts: exact, rounded once, and no input raises."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation, localcontext
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.processing.money import LIMIT, LONGEST, decimal_text, half_even, units_of

UNIT = Decimal("1e-12")
WIDE = Context(prec=200, Emax=10**6, Emin=-(10**6))

amounts = st.integers(1 - LIMIT, LIMIT - 1)
plain = st.from_regex(r"[0-9]{1,30}\.[0-9]{1,40}", fullmatch=True).map(lambda s: s[:LONGEST])
written = st.from_regex(
    r"[+-]?([0-9]{1,24}(\.[0-9]{0,24})?|\.[0-9]{1,24})([eE][+-]?[0-9]{1,3})?", fullmatch=True
)


def expected(text: str) -> int | None:
    with localcontext(WIDE):
        value = Decimal(text)
        if abs(value) >= 10**8:
            return None
        units = int(value.quantize(UNIT, ROUND_HALF_EVEN) / UNIT)
    return units if abs(units) < LIMIT else None


@given(amounts)
@example(0)
@example(1)
@example(-1)
@example(LIMIT - 1)
def test_an_amount_survives_its_text(units: int) -> None:
    text = decimal_text(units)
    assert units_of(text.encode()) == units
    assert Decimal(text) == Decimal(units).scaleb(-12)
    assert "e" not in text.lower()
    assert "." not in text or not text.endswith(("0", "."))


@given(plain | written)
@example("9223372.036854775807")
@example("9223372.036854775808")
@example("9223372.0368547758074999")
@example("9223372.0368547758075")
@example("0.0000000000005")
@example("0.0000000000015")
@example("0.00000000000050000000000000000000000001")
@example("1e-400")
@example("0e999")
@example("1E+6")
@example("9e6")
@example("1E+7")
@example("12.")
@example("007.50")
def test_a_text_is_read_as_decimal_reads_it(text: str) -> None:
    assert units_of(text.encode()) == expected(text)


@given(st.binary(max_size=80) | st.text(max_size=70).map(str.encode))
def test_any_bytes_give_an_amount_or_none(text: bytes) -> None:
    units = units_of(text)
    assert units is None or abs(units) < LIMIT
    try:
        with localcontext(WIDE):
            finite = Decimal(text.decode()).is_finite()
    except (InvalidOperation, UnicodeDecodeError, ValueError):
        finite = False
    assert units is None or finite


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-",
        "e5",
        "1e",
        "1e+",
        "nan",
        "NaN",
        "sNaN",
        "inf",
        "-Infinity",
        "1_000",
        " 1",
        "1 ",
        "1\n",
        "0x10",
        "1,5",
        "$1",
        "\u0661",
        "1..2",
        "9223372.036854775808",
        "-9223372.036854775808",
        "92233720.36854775808e-1",
        "1e7000000000000000000000",
        "1" * 65,
        "0." + "0" * 63,
    ],
)
def test_texts_that_are_not_an_amount(text: str) -> None:
    assert units_of(text.encode()) is None


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0.00123", 1_230_000_000),
        ("0", 0),
        ("-0.0", 0),
        ("1", 10**12),
        ("-1.5", -15 * 10**11),
        ("1.23e-3", 1_230_000_000),
        (".5", 5 * 10**11),
        ("1230000000000000e-25", 123),
        ("+1250000000000000000000000000000e-42", 1),
        ("-1" + "5" * 55 + "e-65", -156),
        ("9223372036854775807e-12", LIMIT - 1),
        ("0e99999999999999999999999999999999", 0),
        ("1e-99999999999999999999999999999999", 0),
        ("0." + "0" * 62, 0),
    ],
)
def test_some_amounts(text: str, units: int) -> None:
    assert units_of(text.encode()) == units


def test_texts() -> None:
    assert [decimal_text(u) for u in (0, 1_230_000_000, 10**12, -(10**12) // 2, 1)] == [
        "0",
        "0.00123",
        "1",
        "-0.5",
        "0.000000000001",
    ]


@given(st.integers(), st.integers(1))
def test_rounding_is_half_even_as_in_python(numerator: int, denominator: int) -> None:
    assert half_even(numerator, denominator) == round(Fraction(numerator, denominator))
