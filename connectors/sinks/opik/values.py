"""Converts values for Opik: content to JSON objects, times to ISO 8601, prices to numbers. Pure."""

from __future__ import annotations

import re
import time
from decimal import Decimal, InvalidOperation
from typing import Final

import orjson

from connectors.mapping.members import is_json

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


_THREE: Final = tuple(f"{n:03d}" for n in range(1000))
_SECONDS: Final[dict[int, str]] = {}
"""Cache of formatted seconds; events come approximately in the order of their times."""


def _second(s: int) -> str:
    text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(s))
    if len(_SECONDS) >= 4096:
        _SECONDS.clear()
    _SECONDS[s] = text
    return text


def iso(us: int) -> str:
    """ISO 8601 in UTC, always with six decimals; `us` must be `in_time`."""
    s = us // 1_000_000
    fraction = us - s * 1_000_000
    return (_SECONDS.get(s) or _second(s)) + _THREE[fraction // 1000] + _THREE[fraction % 1000] + "Z"


def as_object(text: str | None, key: str) -> bytes | None:
    """Content as a JSON object, which Opik shows best. Other content is wrapped as ``{key: …}``.

    Returns:
        None for no content, null, or an empty object.
    """
    if text is None or text == "{}":
        return None
    if not is_json(text):
        return b'{"%b":%b}' % (key.encode(), orjson.dumps(text))
    first = text[:1]
    if first in " \t\r\n":
        first = text.lstrip()[:1]
    if first == "{":
        return text.encode()
    return None if first == "n" else b'{"%b":%b}' % (key.encode(), text.encode())


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
