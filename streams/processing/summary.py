"""Summarises a trace: a pure function of its operations. The rules are in docs/summaries.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, Final, NamedTuple

from streams.processing.operations import (
    CLASSED,
    CLASSES,
    ESTIMATED,
    FAILED,
    FIXED,
    KINDS,
    OWN,
    REPEATS,
    ROOT,
    TOP,
    Operations,
    classes_at,
    entry_at,
    source_at,
    texts_at,
)
from tailrace.codec.varint import zigzag
from tailrace.kinds import REPEATING_WITH_RUN

SLOWEST: Final = 5
MOST_PATH_BYTES: Final = 32_768
"""Most bytes of the ids and names in `slowest_path`; steps beyond are left out."""
_SPAN, _REVISION = 0, 9
LARGEST: Final = (1 << 63) - 1
"""The largest Avro long."""
Row = tuple[Any, ...]
"""One operation as `FIXED` unpacks it."""
Texts = tuple[bytes, ...]
SourceOf = Callable[[int], bytes]


_span: Final = itemgetter(_SPAN)
_SPEAKING: Final = frozenset(KINDS.index(k) for k in REPEATING_WITH_RUN)
"""Kinds whose tokens and price are those of their trace if they are its root, also without a run."""


class Sums(NamedTuple):
    """What a summary holds besides the trace's own fields."""

    complete: bool
    truncated: bool
    name: bytes | None
    status: bytes | None
    started_at: int
    ended_at: int
    duration: int
    counts: dict[str, int]
    errors: int
    first_error: bytes | None
    first_error_source_id: bytes | None
    input_tokens: int
    output_tokens: int
    total_tokens: int
    classes: list[int]
    """Tokens by class, in the order of `CLASSES`."""
    cost: dict[str, int]
    """Currency -> amount in 1e-12 of it."""
    cost_estimated: bool
    slowest: list[bytes]
    """As Avro `SlowOperation`."""
    slowest_path: list[bytes]


def latest(rows: list[Row]) -> list[Row]:
    """The highest revision of each operation; of equal ones the first."""
    if len(set(map(_span, rows))) == len(rows):
        return rows
    found: dict[bytes, Row] = {}
    for r in rows:
        before = found.get(r[_SPAN])
        if before is None or r[_REVISION] > before[_REVISION]:
            found[r[_SPAN]] = r
    return list(found.values())


def sum_up(ops: Operations) -> Sums:
    """Summarises an open trace, which must have at least one operation."""
    rows = latest(list(FIXED.iter_unpack(ops.fixed)))
    spans, parents, starts, ends, given, received, totals, prices, places, _, kinds, flags, currencies = zip(
        *rows, strict=True
    )
    texts = bytes(ops.texts)
    durations = [e - s if e > s else 0 for s, e in zip(starts, ends, strict=True)]
    if max(durations) > LARGEST:
        durations = [min(d, LARGEST) for d in durations]

    def source_of(i: int) -> bytes:
        return source_at(texts, places[i])

    def slow(i: int) -> bytes:
        return entry_at(texts, places[i]) + zigzag(durations[i])

    root = _root(flags, starts, source_of) if ops.ended else None
    bad = [i for i, f in enumerate(flags) if f & FAILED]
    first_bad = min(bad, key=lambda i: (ends[i], source_of(i))) if bad else None
    counts: dict[str, int] = {}
    for kind in kinds:
        name = KINDS[kind]
        counts[name] = counts.get(name, 0) + 1

    by_root = root is not None and bool(
        flags[root] & REPEATS or (kinds[root] in _SPEAKING and not flags[root] & OWN)
    )
    tokens_of_root = root is not None and by_root and totals[root] > 0
    price_of_root = root is not None and by_root and prices[root] > 0
    leaves = [i for i, f in enumerate(flags) if not f & REPEATS]
    counted = [root] if root is not None and tokens_of_root else [i for i in leaves if totals[i]]
    priced = [root] if root is not None and price_of_root else [i for i in leaves if prices[i]]
    tokens = [sum([column[i] for i in counted]) for column in (given, received, totals)]
    classes = [0] * len(CLASSES)
    for i in counted:
        if flags[i] & CLASSED:
            classes = [a + n for a, n in zip(classes, classes_at(texts, places[i]), strict=True)]
    cost: dict[str, int] = {}
    for i in priced:
        code = (ops.currencies or [b"USD"])[currencies[i]].decode()
        cost[code] = cost.get(code, 0) + prices[i]
    estimated = any(flags[i] & ESTIMATED for i in priced)

    first, last, errors, beyond = min(starts), max(ends), len(bad), ops.beyond
    if beyond is not None:
        errors += beyond.errors
        first, last = min(first, beyond.started_at), max(last, beyond.ended_at)
        for name, n in beyond.counts.items():
            counts[name] = counts.get(name, 0) + n
        if not tokens_of_root:
            more = (beyond.input_tokens, beyond.output_tokens, beyond.total_tokens)
            tokens = [a + b for a, b in zip(tokens, more, strict=True)]
            if beyond.classes:
                classes = [a + n for a, n in zip(classes, beyond.classes, strict=True)]
        if not price_of_root:
            for code, amount in beyond.cost.items():
                cost[code] = cost.get(code, 0) + amount
            estimated = estimated or beyond.estimated
    last = max(first, last)
    own = texts_at(texts, places[root]) if root is not None else None
    failure = texts_at(texts, places[first_bad]) if first_bad is not None else None
    return Sums(
        complete=root is not None,
        truncated=beyond is not None,
        name=own.name or None if own else None,
        status=own.status or None if own else None,
        started_at=first,
        ended_at=last,
        duration=durations[root] if root is not None else min(last - first, LARGEST),
        counts=counts,
        errors=errors,
        first_error=failure.error or None if failure else None,
        first_error_source_id=failure.source_id if failure else None,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        total_tokens=tokens[2],
        classes=classes,
        cost=cost,
        cost_estimated=estimated,
        slowest=[slow(i) for i in _slowest(spans, parents, durations, root, source_of)],
        slowest_path=_first(slow(i) for i in _path(spans, parents, durations, root, source_of)),
    )


def _first(entries: Iterable[bytes]) -> list[bytes]:
    """The first entries that have `MOST_PATH_BYTES` together."""
    found: list[bytes] = []
    size = 0
    for entry in entries:
        size += len(entry)
        if size > MOST_PATH_BYTES:
            break
        found.append(entry)
    return found


def _root(flags: tuple[int, ...], starts: tuple[int, ...], source_of: SourceOf) -> int | None:
    tops = []
    for i, f in enumerate(flags):
        if f & ROOT:
            return i
        if f & TOP:
            tops.append(i)
    return min(tops, key=lambda i: (starts[i], source_of(i))) if tops else None


def _slowest(
    spans: Texts, parents: Texts, durations: list[int], root: int | None, source_of: SourceOf
) -> list[int]:
    """The slowest operations that contain no others."""
    above = set(parents)
    leaves = [(-d, i) for i, d in enumerate(durations) if spans[i] not in above and i != root]
    leaves.sort()
    first = leaves[: SLOWEST + 1]
    if len({d for d, _ in first}) == len(first):
        return [i for _, i in leaves[:SLOWEST]]
    least = first[-1][0]  # ties are ordered by source_id
    return [i for _, _, i in sorted((d, source_of(i), i) for d, i in leaves if d <= least)[:SLOWEST]]


def _path(
    spans: Texts, parents: Texts, durations: list[int], root: int | None, source_of: SourceOf
) -> list[int]:
    """From the root to the slowest child at each step. A cycle of parents ends it."""
    if root is None:
        return []
    best: dict[bytes, int] = {}
    for i, above in enumerate(parents):
        before = best.get(above)
        if before is not None:
            ours, theirs = durations[i], durations[before]
            if ours < theirs or (ours == theirs and source_of(i) > source_of(before)):
                continue
        best[above] = i
    path, seen = [root], {spans[root]}
    below = best.get(spans[root])
    while below is not None and spans[below] not in seen:
        path.append(below)
        seen.add(spans[below])
        below = best.get(spans[below])
    return path
