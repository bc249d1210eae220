"""Starts of traces that have left the state: a trace that continues later keeps its start.

Entries have a fixed size, and are found by a search in the bytes of a shard, so that one takes little more
memory than its bytes. In trace.state they are written in pieces, and deleted by whole pieces, the oldest
first.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from tailrace.codec import wire
from tailrace.errors import DecodeError
from tailrace.ids import dedupe_hash
from tailrace.records import TraceStarts

PREFIX: Final = b"s/"
"""Prefix of a piece's key in trace.state; its number follows."""
ENTRY: Final = 20
"""Bytes of an entry: hash (8), start (8), tenant and flags (4)."""
COST: Final = 32
"""Bytes of memory for an entry, with its share of the containers (benchmarks/state.py measures it)."""
PIECE: Final = 128
"""Entries per state record: a quiet partition rewrites at most 2.5 KiB per unit."""
_IN_SHARD: Final = 32
"""Entries that a shard has when the memory is full."""
_MOST_SHARDS: Final = 1 << 16
_CERTAIN: Final = 1
_UNKNOWN: Final = 2
_TENANTS: Final = (1 << 30) - 1
_rest: Final = struct.Struct("<qI")


class Known:
    """What is known of a trace that has left the state."""

    __slots__ = ("_tenant", "certain", "started_at", "unknown")

    def __init__(self, started_at: int, tag: int) -> None:
        self.started_at = started_at
        self.certain = bool(tag & _CERTAIN)
        """As `Trace.certain`."""
        self.unknown = bool(tag & _UNKNOWN)
        """As `Trace.start_unknown`."""
        self._tenant = tag >> 2

    def of_another(self, tenant: bytes | None) -> bool:
        """Whether the trace is that of another tenant. False if one of the two is not known."""
        return tenant is not None and self._tenant != 0 and self._tenant != _tenant_hash(tenant)


def _tenant_hash(tenant: bytes) -> int:
    """A number from 1 to 2**30 - 1."""
    return int.from_bytes(blake2b(tenant, digest_size=4).digest(), "little") % _TENANTS + 1


class Starts:
    """State key of a trace -> its start, for as many traces as fit.

    An entry is added when a trace leaves the state, again if it comes back and leaves once more: the latest
    one counts.
    """

    def __init__(self, max_bytes: int) -> None:
        """Creates an empty memory.

        Args:
            max_bytes: memory that it may take; above it the oldest piece is dropped.
        """
        self._most = max(1, max_bytes // COST)
        self._piece = max(1, min(PIECE, self._most // 8))
        shards = 1
        while shards < _MOST_SHARDS and shards * _IN_SHARD < self._most:
            shards *= 2
        self._mask = shards - 1
        self._shards: list[bytearray | None] = [None] * shards
        self._full: dict[int, tuple[array[int], int]] = {}
        """Number of a full piece, oldest first -> heads of its entries, and when the latest of them left."""
        self._number = 0
        self._open = bytearray()
        self._open_heads: array[int] = array("H")
        self._left_at = 0
        self._unwritten: dict[int, tuple[bytes, int]] = {}
        """Number of a full piece that is not written yet -> its entries, and when the latest of them left."""
        self._changed = False
        self._gone: list[bytes] = []
        self._count = 0
        self.forgotten = 0
        """Traces whose start was dropped."""
        self.before = 0
        """Traces that left the state at this time or earlier may be forgotten; 0: none is. Milliseconds."""

    def __len__(self) -> int:
        return self._count

    def find(self, key: bytes) -> Known | None:
        """What is known of a trace that left the state.

        Args:
            key: its state key.
        """
        entry = dedupe_hash(key)
        shard = self._shards[_head(entry) & self._mask]
        if shard is None:
            return None
        p = _last(shard, entry)
        if p < 0:
            return None
        started_at, tag = _rest.unpack_from(shard, p + 8)
        return Known(started_at, tag)

    def add(
        self, key: bytes, started_at: int, tenant: bytes | None, certain: bool, unknown: bool, clock_ms: int
    ) -> None:
        """Remembers a trace that leaves the state.

        Args:
            key: its state key.
            tenant: its tenant, if known.
            certain: as `Trace.certain`.
            unknown: as `Trace.start_unknown`.
            clock_ms: the partition's clock, which never goes back.
        """
        tag = 0 if tenant is None else _tenant_hash(tenant) << 2
        tag |= (_CERTAIN if certain else 0) | (_UNKNOWN if unknown else 0)
        entry = dedupe_hash(key) + _rest.pack(started_at, tag)
        self._insert(entry, array("H", (_head(entry),)))
        self._open += entry
        self._left_at = clock_ms
        self._changed = True
        if len(self._open_heads) >= self._piece:
            self._seal()
        while self._count > self._most and self._full:
            self._drop()

    def _insert(self, entries: bytes, heads: array[int]) -> None:
        """Adds entries of the open piece to their shards."""
        shards, mask = self._shards, self._mask
        p = 0
        for head in heads:
            entry = entries[p : p + ENTRY]
            shard = shards[head & mask]
            if shard is None:
                shards[head & mask] = bytearray(entry)
            else:
                shard += entry
            p += ENTRY
        self._open_heads += heads
        self._count += len(heads)

    def _seal(self) -> None:
        self._full[self._number] = self._open_heads, self._left_at
        self._unwritten[self._number] = bytes(self._open), self._left_at
        self._begin(self._number + 1)

    def _begin(self, number: int) -> None:
        self._number = number
        self._open, self._open_heads, self._changed = bytearray(), array("H"), False

    def _drop(self) -> None:
        """Drops the oldest full piece. Its entries are the first ones of their shards."""
        number = next(iter(self._full))
        heads, left_at = self._full.pop(number)
        for head in heads:
            shard = self._shards[head & self._mask]
            assert shard is not None
            if _last(shard, bytes(shard[:8])) == 0:
                self.forgotten += 1
                self.before = left_at
            del shard[:ENTRY]
            if not shard:
                self._shards[head & self._mask] = None
        self._count -= len(heads)
        self._unwritten.pop(number, None)
        self._gone.append(name(number))

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """State records since the last call: changed pieces, and tombstones of dropped ones."""
        for number, (entries, left_at) in self._unwritten.items():
            yield name(number), wire.encode_versioned(TraceStarts(left_at=left_at, entries=entries))
        if self._changed:
            yield (
                name(self._number),
                wire.encode_versioned(TraceStarts(left_at=self._left_at, entries=bytes(self._open))),
            )
        for gone in self._gone:
            yield gone, None
        self._unwritten, self._changed, self._gone = {}, False, []

    def restore(self, pieces: list[tuple[int, TraceStarts]]) -> None:
        """Restores what a former owner wrote: the number of each piece, and the piece. Any order."""
        for number, piece in sorted(pieces, key=lambda item: item[0]):
            if self._open:
                self._full[self._number] = self._open_heads, self._left_at
            self._begin(number)
            self._insert(piece.entries, _heads(piece.entries))
            self._open += piece.entries
            self._left_at = piece.left_at
        if len(self._open_heads) >= self._piece:
            self._full[self._number] = self._open_heads, self._left_at
            self._begin(self._number + 1)


def _head(entry: bytes) -> int:
    """The first two bytes of an entry, which choose its shard."""
    return entry[0] | entry[1] << 8


def _heads(entries: bytes) -> array[int]:
    """`_head` of each entry."""
    shorts = array("H", entries)
    if sys.byteorder == "big":
        shorts.byteswap()
    return shorts[:: ENTRY // 2]


def _last(shard: bytearray, entry: bytes) -> int:
    """Where the last entry with a hash begins; -1 if there is none."""
    p = shard.rfind(entry)
    while p > 0 and p % ENTRY:  # the bytes occur, but not where an entry begins
        p = shard.rfind(entry, 0, p + 7)
    return p


def name(number: int) -> bytes:
    """Key in trace.state of a piece."""
    return b"%b%d" % (PREFIX, number)


def unpack(key: bytes, value: bytes) -> tuple[int, TraceStarts]:
    """Number and contents of a piece, from its state record. Raises `DecodeError` or ValueError."""
    piece = wire.decode_versioned(value, TraceStarts)
    if not piece.entries or len(piece.entries) % ENTRY:
        raise DecodeError("malformed", f"{len(piece.entries)} bytes of starts, {ENTRY} each")
    return int(key[len(PREFIX) :]), piece
