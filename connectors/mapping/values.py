"""Converts values for sinks that send JSON: times to ISO 8601, content to JSON objects. Pure."""

from __future__ import annotations

import time
from typing import Final

import orjson

from connectors.mapping.members import is_json

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
    """ISO 8601 in UTC, always with six decimals.

    Args:
        us: Microseconds UTC, from 1970 to 9999.
    """
    s = us // 1_000_000
    fraction = us - s * 1_000_000
    return (_SECONDS.get(s) or _second(s)) + _THREE[fraction // 1000] + _THREE[fraction % 1000] + "Z"


def as_object(text: str | None, key: str) -> bytes | None:
    """Content as a JSON object. Other content is wrapped as ``{key: …}``.

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
