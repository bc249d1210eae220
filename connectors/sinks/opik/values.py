"""From an event's values to what Opik's JSON takes: content as objects, times as ISO 8601, prices as JSON
numbers. Pure.

Content is JSON text already. It is checked to be JSON, which costs about 0.5 µs a KB, and goes into the
request as it stands."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
import orjson

END_OF_TIME: Final = 9_214_646_400_000_000
"""2262-01-01, microseconds UTC: Opik takes times from 1970 to before it."""
LARGEST: Final = (1 << 31) - 1
"""Largest token count that Opik takes."""

Json = Any
"""What orjson writes: JSON values with `orjson.Fragment` for content."""

_check: Final[Callable[[str], Any]] = msgspec.json.Decoder(msgspec.Raw).decode
_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,25})(?:\.[0-9]{1,30})?")
_LEAST: Final = Decimal("1e-30")
_MOST: Final = Decimal("1e26")


def in_time(us: int) -> bool:
    """Whether Opik can hold the time."""
    return 0 <= us < END_OF_TIME


_THREE: Final = tuple(f"{n:03d}" for n in range(1000))
_SECONDS: Final[dict[int, str]] = {}
"""The last seconds met, written; events come in about the order of their times."""


def _second(s: int) -> str:
    text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(s))
    if len(_SECONDS) >= 4096:
        _SECONDS.clear()
    _SECONDS[s] = text
    return text


def iso(us: int) -> str:
    """ISO 8601 in UTC with six digits of a second, always; `us` must be `in_time`."""
    s = us // 1_000_000
    fraction = us - s * 1_000_000
    return (_SECONDS.get(s) or _second(s)) + _THREE[fraction // 1000] + _THREE[fraction % 1000] + "Z"


def is_json(text: str) -> bool:
    try:
        _check(text)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeEncodeError are ValueErrors
        return False
    return True


def content(text: str | None) -> Json:
    """Content as a JSON value: None where there is none or it is null, a JSON string where the text isn't
    JSON."""
    if text is None or text == "null":
        return None
    return orjson.Fragment(text) if is_json(text) else text


def as_object(text: str | None, key: str) -> Json:
    """Content as the JSON object that Opik shows best: what isn't one becomes ``{key: …}``. None: no content,
    null, or an empty object."""
    if text is None or text == "{}":
        return None
    if not is_json(text):
        return {key: text}
    first = text[:1]
    if first in " \t\r\n":
        first = text.lstrip()[:1]
    if first == "{":
        return orjson.Fragment(text)
    return None if first == "n" else {key: orjson.Fragment(text)}


def price(text: str | None) -> Json:
    """A price in decimal text as the same JSON number; None where there is none or Opik cannot hold it: below
    zero, infinite, 1e26 and more."""
    if text is None:
        return None
    if _NUMBER.fullmatch(text):
        return orjson.Fragment(text)
    if len(text) > 40:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if value.is_zero():
        return orjson.Fragment("0")
    return orjson.Fragment(f"{value:f}") if value.is_finite() and _LEAST <= value < _MOST else None
