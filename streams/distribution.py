"""What a group of events adds up to: a list of integers of fixed layout, and its packed form.

Counts and sums of everything that a metric asks for; each series reads its part (streams/instruments.py). Most places are 0,
so what is packed is the places that are not.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from tailrace.errors import DecodeError

SECONDS: Final = tuple(
    int(s * 1_000_000)
    for s in (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 300)
)
"""Upper bounds of durations, microseconds: the first 14 are those of OpenTelemetry's GenAI metrics, the others reach 300 s."""
TOKENS: Final = tuple(4**n for n in range(14))
"""Upper bounds of token counts, OpenTelemetry's for gen_ai.client.token.usage."""

EVENTS, ERRORS, TOTAL_COUNT, TOTAL_SUM, COST_COUNT, COST_SUM = range(6)
_HEAD: Final = 4
"""Before a distribution's buckets: count, sum, smallest, largest."""
DURATION: Final = 6
INPUT: Final = DURATION + _HEAD + len(SECONDS) + 1
OUTPUT: Final = INPUT + _HEAD + len(TOKENS) + 1
FIRST_TOKEN: Final = OUTPUT + _HEAD + len(TOKENS) + 1
SIZE: Final = FIRST_TOKEN + _HEAD + len(SECONDS) + 1
_SUMS: Final = (TOTAL_SUM, COST_SUM, DURATION + 1, INPUT + 1, OUTPUT + 1, FIRST_TOKEN + 1)
MOST: Final = (1 << 63) - 1
"""Where sums stop: what an Avro long holds."""

Values = list[int]


def empty() -> Values:
    return [0] * SIZE


def observe(
    values: Values,
    failed: bool,
    duration: int,
    total: int | None,
    given: int,
    received: int,
    first_token: int,
    price: int,
) -> None:
    """Adds one event. duration, first_token: microseconds, first_token -1 for none; total: tokens, None for not counted;
    given, received: input and output tokens, 0 for none; price: 1e-12 of the currency, -1 for none."""
    values[0] += 1
    if failed:
        values[1] += 1
    n = values[6]
    values[6] = n + 1
    values[7] += duration
    if not n or duration < values[8]:
        values[8] = duration
    if duration > values[9]:
        values[9] = duration
    values[10 + bisect_left(SECONDS, duration)] += 1
    if total is not None:
        values[2] += 1
        values[3] += total
    if given:
        _add(values, INPUT, TOKENS, given)
    if received:
        _add(values, OUTPUT, TOKENS, received)
    if first_token >= 0:
        _add(values, FIRST_TOKEN, SECONDS, first_token)
    if price >= 0:
        values[4] += 1
        values[5] += price


def _add(values: Values, at: int, bounds: tuple[int, ...], value: int) -> None:
    n = values[at]
    values[at] = n + 1
    values[at + 1] += value
    if not n or value < values[at + 2]:
        values[at + 2] = value
    if value > values[at + 3]:
        values[at + 3] = value
    values[at + 4 + bisect_left(bounds, value)] += 1


def merge(parts: Iterable[Values]) -> Values:
    """The sum of several; the same in any order."""
    found: Values | None = None
    for part in parts:
        if found is None:
            found = list(part)
            continue
        smallest = [
            (at, min(found[at + 2], part[at + 2]) if found[at] and part[at] else found[at + 2] + part[at + 2],
             max(found[at + 3], part[at + 3]))
            for at in (DURATION, INPUT, OUTPUT, FIRST_TOKEN)
        ]  # fmt: skip
        found = [a + b for a, b in zip(found, part, strict=True)]
        for at, low, high in smallest:
            found[at + 2], found[at + 3] = low, high
    return found if found is not None else empty()


def pack(values: Values) -> bytes:
    """How many places are not 0, which, and their values, 8 bytes each. Sums over `MOST` stop there, in `values` too."""
    try:
        return _pack(values)
    except struct.error:
        for i in _SUMS:
            values[i] = min(values[i], MOST)
        return _pack(values)


def _pack(values: Values) -> bytes:
    places = [i for i, v in enumerate(values) if v]
    n = len(places)
    return struct.pack(f"<B{n}B{n}q", n, *places, *[values[i] for i in places])


def unpack(raw: bytes) -> Values:
    """What `pack` wrote. Raises `DecodeError`."""
    values = empty()
    try:
        n = raw[0]
        for i, v in zip(raw[1 : 1 + n], struct.unpack_from(f"<{n}q", raw, 1 + n), strict=True):
            values[i] = v
    except (IndexError, ValueError, struct.error) as e:
        raise DecodeError("malformed", f"counted values: {e}") from None
    return values
