"""Recently seen event ids, in buckets of append time.

In trace.state they are written in pieces and deleted by whole buckets.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import Final

from tailrace.codec import wire
from tailrace.codec.varint import varint
from tailrace.errors import DecodeError
from tailrace.ids import dedupe_hash
from tailrace.records import DedupeBucket

BUCKET_MS: Final = 300_000
"""Length of a bucket: 5 minutes."""
PIECE: Final = 512
"""Hashes per state record.

A quiet partition rewrites at most 4 KiB per unit; a busy one writes full pieces.
"""
_from_bytes: Final = int.from_bytes


class Dedupe:
    """Remembers event ids for a horizon, by the partition's clock.

    `horizon_ms` is rounded up to whole buckets. An id is forgotten with its bucket; a duplicate that
    arrives later than the horizon is taken for a new event.
    """

    def __init__(self, horizon_ms: int) -> None:
        self._keep = -(-horizon_ms // BUCKET_MS)
        self._seen: set[int] = set()
        self._buckets: dict[int, list[array[int]]] = {}
        self._changed: set[tuple[int, int]] = set()
        self._gone: list[bytes] = []
        self._newest = -1

    def __len__(self) -> int:
        return len(self._seen)

    def seen(self, event_id: bytes) -> int | None:
        """None if the id was seen within the horizon, else its hash, to pass to `add`."""
        h = _from_bytes(dedupe_hash(event_id), "little")
        return None if h in self._seen else h

    def add(self, h: int, clock_ms: int) -> None:
        """Remembers a hash. `clock_ms` is the partition's clock, which never goes back."""
        bucket = clock_ms // BUCKET_MS
        if bucket > self._newest:
            self._advance(bucket)
        pieces = self._buckets.get(bucket)
        if pieces is None:
            pieces = self._buckets[bucket] = []
        if not pieces or len(pieces[-1]) >= PIECE:
            pieces.append(array("Q"))
        pieces[-1].append(h)
        self._seen.add(h)
        self._changed.add((bucket, len(pieces) - 1))

    def _advance(self, bucket: int) -> None:
        self._newest = bucket
        for old in [b for b in self._buckets if b <= bucket - self._keep - 1]:
            for i, piece in enumerate(self._buckets.pop(old)):
                self._seen.difference_update(piece)
                self._changed.discard((old, i))
                self._gone.append(key(old, i))

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """State records since the last call: changed pieces, and tombstones of deleted ones."""
        for bucket, i in sorted(self._changed):
            yield (
                key(bucket, i),
                wire.encode_versioned(DedupeBucket(hashes=_packed(self._buckets[bucket][i]))),
            )
        for gone in self._gone:
            yield gone, None
        self._changed, self._gone = set(), []

    def restore(self, name: bytes, value: bytes) -> None:
        """Restores one state record of a former owner; the order does not matter. Raises `DecodeError`."""
        bucket, i = (int(part) for part in name.split(b"/")[1:])
        piece = _unpacked(_hashes(value))
        pieces = self._buckets.setdefault(bucket, [])
        pieces.extend(array("Q") for _ in range(i + 1 - len(pieces)))
        pieces[i] = piece
        self._seen.update(piece)
        self._newest = max(self._newest, bucket)


def _hashes(value: bytes) -> bytes:
    """The hashes of a state record of any version. Raises `DecodeError`."""
    if value[:1] != b"\1":
        return wire.decode_versioned(value, DedupeBucket).hashes
    length, p = varint(value, 1)  # decoded by hand, because there are many
    if len(value) - p != length:
        raise DecodeError("truncated", f"{len(value) - p} of {length} bytes of hashes")
    return value[p:]


def _packed(piece: array[int]) -> bytes:
    """8 bytes per hash, little-endian."""
    if sys.byteorder == "big":
        piece = array("Q", piece)
        piece.byteswap()
    return piece.tobytes()


def _unpacked(hashes: bytes) -> array[int]:
    """Raises `DecodeError` if it is not a whole number of hashes."""
    piece = array("Q")
    try:
        piece.frombytes(hashes)
    except ValueError as e:
        raise DecodeError("malformed", f"{len(hashes)} bytes of hashes: {e}") from None
    if sys.byteorder == "big":
        piece.byteswap()
    return piece


def key(bucket: int, piece: int) -> bytes:
    """Key in trace.state."""
    return b"d/%d/%d" % (bucket, piece)
