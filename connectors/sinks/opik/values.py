"""What Opik can store: times, and prices as numbers. Pure."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

END_OF_TIME: Final = 9_214_646_400_000_000
"""2262-01-01, microseconds UTC. Opik accepts times from 1970 to before this."""
LARGEST: Final = (1 << 31) - 1
"""Largest token count that Opik accepts."""

_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,25})(?:\.[0-9]{1,30})?")
_LEAST: Final = Decimal("1e-30")
_MOST: Final = Decimal("1e26")


def in_time(us: int) -> bool:
    """Whether Opik can store the time."""
    return 0 <= us < END_OF_TIME


def price(text: str | None) -> bytes | None:
    """A price in decimal text as a JSON number with the same value.

    Returns:
        None if there is no price, or Opik cannot store it: below zero, infinite, 1e26 and more.
    """
    if text is None:
        return None
    if _NUMBER.fullmatch(text):
        return text.encode()
    if len(text) > 40:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if value.is_zero():
        return b"0"
    return f"{value:f}".encode() if value.is_finite() and _LEAST <= value < _MOST else None
