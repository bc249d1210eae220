"""Prices as decimal text, as events carry them. Pure."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Any, Final

from tailrace.codec.encoder import whole, wrong
from tailrace.errors import InvalidEvent

LONGEST: Final = 64
"""Characters of the longest price."""
MOST: Final = Decimal(2**63 - 1).scaleb(-12)
"""The largest price, about 9.2 million. The pipeline counts 1e-12 of a currency in 64 bits."""
_BEYOND: Final = Decimal(2**64 - 1).scaleb(-12) / 2
"""What rounds to more than `MOST`."""
LEAST: Final = Decimal("1e-30")
"""The smallest price above 0."""

_PLAIN: Final = re.compile(r"(?:0|[1-9][0-9]{0,5})(?:\.[0-9]{1,50})?")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_EXPECTED: Final = 'a decimal number such as "0.0025"; its currency belongs in the field currency'
_WIDE: Final = Context(prec=60)


def price_text(field: str, value: object) -> str | None:
    """A price in plain decimal text: without sign, exponent, blanks or superfluous zeros before it.

    Text is taken as it is if it is plain. A float is read as Python shows it, so 0.1 is 0.1. A price of
    more than `LONGEST` characters is rounded to 30 decimal places.

    Args:
        field: the field's name.
        value: text, a Decimal, an integer or a float. None and empty text are no price.

    Raises:
        InvalidEvent: it is not a finite decimal number, negative, or out of range.
    """
    if value is None:
        return None
    if type(value) is str and _PLAIN.fullmatch(value):
        return value
    text = _text(field, value)
    if not text:
        return None
    if len(text) > 1000 or not _NUMBER.fullmatch(text):
        raise wrong(field, value, _EXPECTED)
    number = Decimal(text)
    if number < 0:
        raise InvalidEvent(field, f"is {_short(text)}, a negative price; must be 0 or more")
    if number == 0:
        return "0"
    if number > MOST:
        raise InvalidEvent(field, f"is {_short(text)}; prices may be at most {MOST:f}")
    if number < LEAST:
        raise InvalidEvent(field, f"is {_short(text)}; prices above 0 must be at least {LEAST}")
    plain = f"{number:f}"
    return plain if len(plain) <= LONGEST else f"{number.quantize(LEAST, context=_WIDE):f}"


def amount(text: str | None) -> str | None:
    """The price of an enriched event as a JSON number with the same value, for what shows or sends it.

    Args:
        text: what the event has, whoever published it.

    Returns:
        None if there is no price, or the processor cannot use it and marks the event `price_unusable`: it is
        no decimal number, negative, out of range, or longer than `LONGEST` characters.
    """
    if text is None or _PLAIN.fullmatch(text):
        return text
    if len(text) > LONGEST or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    if not 0 <= number < _BEYOND:
        return None
    return f"{number:f}" if number >= LEAST else "0"


def total_of(input_price: str, output_price: str) -> str | None:
    """What a call costs whose publisher gives only its parts: their sum, in plain decimal text.

    This is the one rule for everything that counts or forwards prices. A part alone is not a price.

    Args:
        input_price: price of the prompt, as any producer may have written it.
        output_price: price of the completion, the same.

    Returns:
        None if a part is not an `amount`, or the sum is out of range.
    """
    given, made = amount(input_price), amount(output_price)
    if given is None or made is None:
        return None
    total = _WIDE.add(Decimal(given), Decimal(made))
    if total < LEAST:
        return "0"
    return f"{total:f}" if total <= MOST else None


def _text(field: str, value: object) -> str:
    kind: Any = type(value)  # isinstance would ask the value for its class
    known: Any = value
    if issubclass(kind, str):
        return str.strip(known)
    if issubclass(kind, Decimal):
        return Decimal.__str__(known)
    if issubclass(kind, float):
        return float.__repr__(known)
    number = whole(value)
    if number is None or abs(number) >= 1 << 128:
        raise wrong(field, value, _EXPECTED)
    return str(number)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def currency_code(value: object) -> object:
    """A currency's code in capitals; other texts and values are not changed. Empty text is None."""
    if not isinstance(value, str):
        return value
    code = value.strip()
    return (code.upper() if len(code) == 3 and code.isascii() else code) or None
