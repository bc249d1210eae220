"""Money as integers: one unit is 1e-12 US dollars. Pure.

No floats are used. There is at most one rounding, half to even.
"""

from __future__ import annotations

import re
from typing import Final

DECIMALS: Final = 12
"""Decimal places of a unit.

A unit is a millionth of the price of a token at one dollar per million, so prices per token are
integers.
"""

LIMIT: Final = 2**63
"""Amounts lie strictly between -LIMIT and LIMIT, about 9.2 million dollars.

That is the range of a signed 64-bit field.
"""

LONGEST: Final = 64
"""Bytes of the longest text that is read as an amount."""

_ONE: Final = 10**DECIMALS
_POWERS: Final = tuple(10**n for n in range(LONGEST + DECIMALS + 1))
_NUMBER: Final = re.compile(rb"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")


def half_even(numerator: int, denominator: int) -> int:
    """The integer nearest to a fraction; the even one of two. `denominator` must be above 0."""
    whole, rest = divmod(numerator, denominator)
    rest += rest
    return whole + 1 if rest > denominator or (rest == denominator and whole & 1) else whole


def decimal_text(units: int) -> str:
    """An amount as plain decimal dollars, without exponent or trailing zeros.

    1_230_000_000 is "0.00123", 0 is "0".
    """
    whole, rest = divmod(abs(units), _ONE)
    text = f"{whole}.{rest:012d}".rstrip("0") if rest else str(whole)
    return "-" + text if units < 0 else text


def units_of(text: bytes) -> int | None:
    """A decimal text in dollars, in units, rounded once, half to even. A sign and an exponent are allowed.

    None if it is not a finite number as JSON or Python's `str(Decimal)` writes it (so no blanks,
    underscores or digits other than ASCII), if it is longer than `LONGEST` bytes, or if it is not
    within `LIMIT`.
    """
    if len(text) > LONGEST:
        return None
    whole, _, rest = text.partition(b".")
    if whole.isdigit() and (rest.isdigit() or not rest):
        shift = DECIMALS - len(rest)
        units = (
            int(whole + rest) * _POWERS[shift]
            if shift >= 0
            else half_even(int(whole + rest), _POWERS[-shift])
        )
        return units if units < LIMIT else None
    return _any(text)


def _any(text: bytes) -> int | None:
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, rest, exponent = found.group(1, 2, 3, 4)
    digits = whole + (rest or b"")
    if not digits:
        return None
    number = int(digits)
    shift = int(exponent or 0) - len(rest or b"") + DECIMALS
    if number == 0 or shift < -LONGEST:
        return 0
    if shift > 18:
        return None
    units = number * _POWERS[shift] if shift >= 0 else half_even(number, _POWERS[-shift])
    if units >= LIMIT:
        return None
    return -units if sign == b"-" else units
