"""A series as records of trace.metrics and trace.totals. What its records share is encoded once."""

from __future__ import annotations

import functools
import hashlib
from typing import Final

from streams.processing.avro import longs, string
from streams.processing.metrics.definitions import Counter, Definition, Histogram, Rest
from streams.processing.metrics.distribution import MOST, SIZE, Values
from tailrace.codec.varint import zigzag
from tailrace.codec.wire import frame_of
from tailrace.metrics.row_period import ROW_PERIOD_US

_ROW: Final = frame_of("MetricRow")
_TOTAL: Final = frame_of("MetricTotal")

Measured = tuple[int, int, int, int, list[int]]
"""Count, sum, minimum, maximum, buckets (empty for a counter)."""


def measured(definition: Definition, parts: list[Values]) -> Measured:
    """A series' part of the values of its groups, summed."""
    part = definition.part
    if isinstance(part, Rest):
        everything, left, count, total = part.everything, part.left, 0, 0
        for v in parts:
            at = left if len(v) > SIZE else everything
            count, total = count + v[at], total + v[at + 1]
        return count, total, 0, 0, []
    if isinstance(part, Counter):
        seen = part.seen
        if seen >= SIZE:
            parts = [v for v in parts if len(v) > SIZE]
        if len(parts) == 1:
            count = parts[0][seen]
            return count, count if part.sum is None else parts[0][part.sum], 0, 0, []
        count = sum(v[seen] for v in parts)
        return count, count if part.sum is None else sum(v[part.sum] for v in parts), 0, 0, []
    return _histogram(part, parts)


def _histogram(part: Histogram, parts: list[Values]) -> Measured:
    at, end = part.at, part.at + 4 + part.kept
    seen = [v for v in parts if v[at]]
    if not seen:
        return 0, 0, 0, 0, [0] * (len(part.bounds) + 1)
    buckets = (
        seen[0][at + 4 : end]
        if len(seen) == 1
        else [sum(c) for c in zip(*(v[at + 4 : end] for v in seen), strict=True)]
    )
    bounds = len(part.bounds)
    if part.kept > bounds + 1:
        buckets = [*buckets[:bounds], sum(buckets[bounds:])]
    return (
        sum(v[at] for v in seen),
        sum(v[at + 1] for v in seen),
        min(v[at + 2] for v in seen),
        max(v[at + 3] for v in seen),
        buckets,
    )


@functools.lru_cache(maxsize=16_384)
def _text(value: str) -> bytes:
    """An Avro string, cached: names and label values repeat."""
    return string(value.encode())


_bounds: Final = functools.cache(longs)


class Series:
    """One series of one partition."""

    __slots__ = ("_bounds", "_labels", "_unit", "definition", "groups", "key")

    def __init__(self, partition: int, definition: Definition) -> None:
        self.definition = definition
        self.groups: list[int] = []
        """Numbers of the groups that count into it."""
        labels = definition.labels
        texts = [_text(text) for pair in labels for text in pair]
        self._labels = b"".join((_text(definition.metric), zigzag(len(labels)), *texts, b"\0"))
        self.key = (
            f"{partition}/{definition.metric}/{hashlib.blake2b(self._labels, digest_size=8).hexdigest()}"
        ).encode()
        """Key in trace.totals. The hash covers the metric's name and its labels in their order, as Avro."""
        self._unit = _text(definition.unit)
        part = definition.part
        self._bounds = _bounds(part.bounds) if isinstance(part, Histogram) else b"\0"

    def row(
        self, partition: bytes, minute: int, parts: list[Values], offset: int
    ) -> tuple[bytes, bytes] | None:
        """Key and value for trace.metrics; None without observations. `partition` is encoded."""
        count, total, least, most, buckets = measured(self.definition, parts)
        if not count:
            return None
        extremes = b"\2" + zigzag(least) + b"\2" + zigzag(most) if buckets else b"\0\0"
        value = b"".join(
            (
                _ROW,
                partition,
                zigzag(minute * ROW_PERIOD_US),
                self._labels,
                self._unit,
                zigzag(count),
                zigzag(min(total, MOST)),
                extremes,
                self._bounds,
                longs(buckets),
                zigzag(offset),
            )
        )
        return b"%b/%d" % (self.key, minute), value

    def total(
        self, partition: bytes, started_at: int, updated_at: int, parts: list[Values], offset: int
    ) -> tuple[bytes, bytes] | None:
        """Key and value for trace.totals, times in microseconds UTC; None without observations."""
        count, total, _, _, buckets = measured(self.definition, parts)
        if not count:
            return None
        value = b"".join(
            (
                _TOTAL,
                partition,
                self._labels,
                self._unit,
                zigzag(started_at),
                zigzag(updated_at),
                zigzag(count),
                zigzag(min(total, MOST)),
                self._bounds,
                longs(buckets),
                zigzag(offset),
            )
        )
        return self.key, value
