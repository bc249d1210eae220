"""A trace summed up: a pure function of its operations. The rules are those of docs/summaries.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from streams.operations import ESTIMATED, FAILED, FIXED, KINDS, NO_SPAN, ROOT, TOP, Operations, texts_at

SLOWEST: Final = 5
_SPAN, _PARENT, _START, _END, _INPUT, _OUTPUT, _TOTAL, _PRICE, _AT, _REVISION, _KIND, _FLAGS, _CURRENCY = range(13)

Row = tuple[Any, ...]
"""One operation as `FIXED` unpacks it."""
SourceOf = Callable[[Row], bytes]


class Slow(NamedTuple):
    """An operation and how long it took, microseconds."""

    source_id: bytes
    name: bytes
    duration: int


_span: Final = itemgetter(_SPAN)


class Sums(NamedTuple):
    """What a summary says beyond the trace's own fields."""

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
    cost: dict[str, int]
    """Currency -> 1e-12 of it."""
    cost_estimated: bool
    slowest: list[Slow]
    slowest_path: list[Slow]


def duration(row: Row) -> int:
    """Microseconds; never below zero."""
    took: int = row[_END] - row[_START]
    return took if took > 0 else 0


def latest(rows: list[Row]) -> list[Row]:
    """Of each operation its highest revision; of equal ones the first."""
    if len(set(map(_span, rows))) == len(rows):
        return rows
    found: dict[bytes, Row] = {}
    for r in rows:
        before = found.get(r[_SPAN])
        if before is None or r[_REVISION] > before[_REVISION]:
            found[r[_SPAN]] = r
    return list(found.values())


def uncovered(rows: list[Row], bearing: list[Row]) -> list[Row]:
    """Those of `bearing` (with tokens, or with a price) below which no other of them is: what counts for sums."""
    parents = {r[_SPAN]: r[_PARENT] for r in rows}
    covered: set[bytes] = set()
    for r in bearing:
        above = r[_PARENT]
        while above != NO_SPAN and above != r[_SPAN] and above not in covered:
            covered.add(above)
            above = parents.get(above, NO_SPAN)
    return [r for r in bearing if r[_SPAN] not in covered]


def sum_up(ops: Operations) -> Sums:
    """Sums up an open trace. At least one operation must be there."""
    texts = ops.texts
    rows = latest(list(FIXED.iter_unpack(ops.fixed)))
    columns: Sequence[tuple[Any, ...]] = list(zip(*rows, strict=True))

    def source_of(r: Row) -> bytes:
        return texts_at(texts, r[_AT]).source_id

    def slow(r: Row) -> Slow:
        found = texts_at(texts, r[_AT])
        return Slow(found.source_id, found.name, duration(r))

    flags = columns[_FLAGS]
    root = _root(rows, flags, source_of) if ops.ended else None
    first, last = min(columns[_START]), max(columns[_END])
    counts = {KINDS[k]: n for k, n in Counter(columns[_KIND]).items()}
    bad = [r for r, f in zip(rows, flags, strict=True) if f & FAILED]
    first_bad = min(bad, key=lambda r: (r[_END], source_of(r))) if bad else None

    if root is not None and root[_TOTAL]:
        counted = [root]
    else:
        bearing = [r for r, n in zip(rows, columns[_TOTAL], strict=True) if n]
        counted = uncovered(rows, bearing) if bearing else []
    tokens = [sum(r[i] for r in counted) for i in (_INPUT, _OUTPUT, _TOTAL)]
    if root is not None and root[_PRICE]:
        priced = [root]
    else:
        bearing = [r for r, n in zip(rows, columns[_PRICE], strict=True) if n]
        priced = uncovered(rows, bearing) if bearing else []
    cost: dict[str, int] = {}
    for r in priced:
        code = (ops.currencies or [b"USD"])[r[_CURRENCY]].decode()
        cost[code] = cost.get(code, 0) + r[_PRICE]
    estimated = any(r[_FLAGS] & ESTIMATED for r in priced)

    errors, beyond = len(bad), ops.beyond
    if beyond is not None:
        errors += beyond.errors
        first, last = min(first, beyond.started_at), max(last, beyond.ended_at)
        for kind, n in beyond.counts.items():
            counts[kind] = counts.get(kind, 0) + n
        if root is None or not root[_TOTAL]:
            tokens = [
                a + b
                for a, b in zip(tokens, (beyond.input_tokens, beyond.output_tokens, beyond.total_tokens), strict=True)
            ]
        if root is None or not root[_PRICE]:
            for code, amount in beyond.cost.items():
                cost[code] = cost.get(code, 0) + amount
            estimated = estimated or beyond.estimated
    last = max(first, last)
    own = texts_at(texts, root[_AT]) if root is not None else None
    bad_texts = texts_at(texts, first_bad[_AT]) if first_bad is not None else None
    return Sums(
        complete=root is not None,
        truncated=beyond is not None,
        name=own.name or None if own else None,
        status=own.status or None if own else None,
        started_at=first,
        ended_at=last,
        duration=duration(root) if root is not None else last - first,
        counts=counts,
        errors=errors,
        first_error=bad_texts.error or None if bad_texts else None,
        first_error_source_id=bad_texts.source_id if bad_texts else None,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        total_tokens=tokens[2],
        cost=cost,
        cost_estimated=estimated,
        slowest=[slow(r) for r in _slowest(rows, columns[_PARENT], root, source_of)],
        slowest_path=[slow(r) for r in _path(rows, root, source_of)],
    )


def _root(rows: list[Row], flags: tuple[int, ...], source_of: SourceOf) -> Row | None:
    for r, f in zip(rows, flags, strict=True):
        if f & ROOT:
            return r
    tops = [r for r in rows if r[_FLAGS] & TOP]
    return min(tops, key=lambda r: (r[_START], source_of(r))) if tops else None


def _slowest(rows: list[Row], parents: tuple[bytes, ...], root: Row | None, source_of: SourceOf) -> list[Row]:
    """The slowest operations that contain no other."""
    above = set(parents)
    leaves = sorted((-duration(r), i) for i, r in enumerate(rows) if r[_SPAN] not in above and r is not root)
    first = leaves[: SLOWEST + 1]
    if len({d for d, _ in first}) < len(first):  # equal ones: by source_id
        least = first[-1][0]
        leaves = sorted((d, source_of(rows[i]), i) for d, i in leaves if d <= least)  # type: ignore[misc]
    return [rows[leaf[-1]] for leaf in leaves[:SLOWEST]]


def _path(rows: list[Row], root: Row | None, source_of: SourceOf) -> list[Row]:
    """From the root down to the slowest child at each step; parents that contain each other end it."""
    if root is None:
        return []
    best: dict[bytes, Row] = {}
    for r in rows:
        above = r[_PARENT]
        before = best.get(above)
        if before is None:
            best[above] = r
            continue
        ours, theirs = duration(r), duration(before)
        if ours > theirs or (ours == theirs and source_of(r) < source_of(before)):
            best[above] = r
    path, seen = [root], {root[_SPAN]}
    below = best.get(root[_SPAN])
    while below is not None and below[_SPAN] not in seen:
        path.append(below)
        seen.add(below[_SPAN])
        below = best.get(below[_SPAN])
    return path
