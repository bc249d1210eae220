"""The sums of a group of events: a list of integers of fixed layout, and its packed form.

It holds the counts and sums that all metrics need; each series reads its part
(streams/processing/metrics/definitions.py). Most places are 0, so only the others are packed.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from tailrace.errors import DecodeError
from tailrace.records import TokenClasses

SECONDS: Final = tuple(
    int(s * 1_000_000)
    for s in (
        0.01,
        0.02,
        0.04,
        0.08,
        0.16,
        0.32,
        0.64,
        1.28,
        2.56,
        5.12,
        10.24,
        20.48,
        40.96,
        81.92,
        163.84,
        300,
    )
)
"""Upper bounds of durations, microseconds: OpenTelemetry's 14 for GenAI, then further ones up to 300 s."""
TOKENS: Final = tuple(4**n for n in range(14))
"""Upper bounds of token counts: OpenTelemetry's for gen_ai.client.token.usage."""

EVENTS, ERRORS, TOTAL_COUNT, TOTAL_SUM, COST_COUNT, COST_SUM = range(6)
_HEAD: Final = 4
"""Places before a distribution's buckets: count, sum, minimum, maximum."""
DURATION: Final = 6
INPUT: Final = DURATION + _HEAD + len(SECONDS) + 1
OUTPUT: Final = INPUT + _HEAD + len(TOKENS) + 1
FIRST_TOKEN: Final = OUTPUT + _HEAD + len(TOKENS) + 1
SIZE: Final = FIRST_TOKEN + _HEAD + len(SECONDS) + 1
(
    INPUT_UNKNOWN,
    INPUT_TEXT,
    INPUT_AUDIO,
    INPUT_IMAGE,
    OUTPUT_UNKNOWN,
    OUTPUT_TEXT,
    OUTPUT_AUDIO,
    OUTPUT_IMAGE,
    READ_UNKNOWN,
    READ_AUDIO,
    WRITE,
    REASONING,
) = range(SIZE, SIZE + 24, 2)
"""Count and sum of tokens by class. Only the values of events with classes have these places."""
CLASSED_SIZE: Final = SIZE + 24
_SUMS: Final = (
    TOTAL_SUM,
    COST_SUM,
    DURATION + 1,
    INPUT + 1,
    OUTPUT + 1,
    FIRST_TOKEN + 1,
    *range(SIZE + 1, CLASSED_SIZE, 2),
)
MOST: Final = (1 << 63) - 1
"""Upper limit of sums: what an Avro long holds."""

Values = list[int]


def empty() -> Values:
    return [0] * SIZE


Split = tuple[int, ...]
"""Tokens of one event by class: one for each pair of places from `INPUT_UNKNOWN` on."""


def split(given: int, received: int, c: TokenClasses) -> Split:
    """The tokens of one event by class, which must be plausible.

    What is left of a total is text if the event says how many of its tokens are audio and how many are
    images; else it is of unknown modality.
    """
    audio, image, spoken, drawn = c.input_audio, c.input_image, c.output_audio, c.output_image
    read, cached = c.cache_read or 0, c.cache_read_audio or 0
    left_in, left_out = given - (audio or 0) - (image or 0), received - (spoken or 0) - (drawn or 0)
    text_in, text_out = audio is not None and image is not None, spoken is not None and drawn is not None
    return (
        0 if text_in else left_in,
        left_in if text_in else 0,
        audio or 0,
        image or 0,
        0 if text_out else left_out,
        left_out if text_out else 0,
        spoken or 0,
        drawn or 0,
        read - cached,
        cached,
        c.cache_write or 0,
        c.reasoning or 0,
    )


def add_splits(targets: Sequence[Values], splits: Sequence[Split]) -> None:
    """Adds the tokens of events by class to each of `targets`. A count of 0 is none."""
    for values in targets:
        if len(values) < CLASSED_SIZE:
            values.extend([0] * (CLASSED_SIZE - len(values)))
    place = SIZE
    for column in zip(*splits, strict=True):
        total = sum(column)
        if total:
            seen = sum([1 for n in column if n])
            for values in targets:
                values[place] += seen
                values[place + 1] += total
        place += 2


Observed = tuple[bool, int, int | None, int, int, int, int]
"""One event as it is counted.

In this order: whether it failed; duration in microseconds; tokens, None if not counted; input and
output tokens, 0 if not counted; time to the first token in microseconds and price in 1e-12 of the
currency, -1 if not counted.
"""


def add(targets: Sequence[Values], events: Sequence[Observed]) -> None:
    """Adds events to each of `targets`."""
    failed, durations, totals, given, received, first_tokens, prices = zip(*events, strict=True)
    n, bad = len(events), sum(failed)
    counted = [x for x in totals if x is not None]
    tokens = sum(counted)
    paid = [x for x in prices if x >= 0]
    price = sum(paid)
    for values in targets:
        values[EVENTS] += n
        values[ERRORS] += bad
        values[TOTAL_COUNT] += len(counted)
        values[TOTAL_SUM] += tokens
        values[COST_COUNT] += len(paid)
        values[COST_SUM] += price
    _distribute(targets, DURATION, SECONDS, durations)
    if any(given):
        _distribute(targets, INPUT, TOKENS, [x for x in given if x])
    if any(received):
        _distribute(targets, OUTPUT, TOKENS, [x for x in received if x])
    if max(first_tokens) >= 0:
        _distribute(targets, FIRST_TOKEN, SECONDS, [x for x in first_tokens if x >= 0])


def _distribute(targets: Sequence[Values], at: int, bounds: tuple[int, ...], seen: Sequence[int]) -> None:
    total, least, most = sum(seen), min(seen), max(seen)
    first = at + _HEAD
    places = [first + bisect_left(bounds, x) for x in seen]
    for values in targets:
        if not values[at] or least < values[at + 2]:
            values[at + 2] = least
        values[at] += len(seen)
        values[at + 1] += total
        if most > values[at + 3]:
            values[at + 3] = most
        for place in places:
            values[place] += 1


def pack(values: Values) -> bytes:
    """How many places are not 0, which ones, and their values, 8 bytes each.

    Sums above `MOST` are limited to it, also in `values`.
    """
    try:
        return _pack(values)
    except struct.error:
        for i in _SUMS:
            if i < len(values):
                values[i] = min(values[i], MOST)
        return _pack(values)


def _pack(values: Values) -> bytes:
    places = [i for i, v in enumerate(values) if v]
    n = len(places)
    return struct.pack(f"<B{n}B{n}q", n, *places, *[values[i] for i in places])


def unpack(raw: bytes) -> Values:
    """Decodes what `pack` wrote. Raises `DecodeError`."""
    values = empty()
    try:
        n = raw[0]
        if n and raw[n] >= SIZE:
            values.extend([0] * (CLASSED_SIZE - SIZE))
        for i, v in zip(raw[1 : 1 + n], struct.unpack_from(f"<{n}q", raw, 1 + n), strict=True):
            values[i] = v
    except (IndexError, ValueError, struct.error) as e:
        raise DecodeError("malformed", f"counted values: {e}") from None
    return values
