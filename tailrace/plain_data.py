"""Whether content is plain JSON data that is not too large, so that it can be encoded as it is. Pure.

Only the types of values are looked at. No method of a value is called, so this is safe for any object.
Compiled by mypyc if a compiler is available.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any, Final

from tailrace.cutting import DEPTH

SCALARS: Final = frozenset(
    {
        int,
        float,
        bool,
        type(None),
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    }
)
"""Types that the JSON encoder writes, besides str, dict, list and tuple."""


def room_after(value: Any, room: int, depth: int = DEPTH) -> int:
    """The bytes that are left of `room` after `value`, if each of its parts is as short as it can be.

    Negative: it is too large, or nested too deeply, or not plain: something else than dicts, lists, tuples,
    str and `SCALARS`. Subclasses of them are not plain, and neither is a dict with other keys than str: two
    of them may have the same text.
    """
    t = type(value)
    if t is dict:
        pairs: dict[Any, Any] = value
        room -= 1 + 5 * len(pairs)
        if room < 0 or depth == 0:
            return -1
        for k, x in pairs.items():
            if type(k) is not str:
                return -1
            t = type(x)
            if t is str:
                room -= len(x)
            elif t not in SCALARS:
                room = room_after(x, room, depth - 1)
                if room < 0:
                    return -1
        return room
    if t is list or t is tuple:
        room -= 1 + 2 * len(value)
        if room < 0 or depth == 0:
            return -1
        items: list[Any] = value if t is list else list(value)
        for x in items:
            t = type(x)
            if t is str:
                room -= len(x)
            elif t not in SCALARS:
                room = room_after(x, room, depth - 1)
                if room < 0:
                    return -1
        return room
    if t is str:
        return room - len(value)
    return room - 1 if t in SCALARS else -1
