"""Avro's integers: zigzag varints, lengths and block counts. Compiled by mypyc if a compiler is available."""

from __future__ import annotations

from typing import Final

SMALL: Final = tuple(bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7]) for n in range(1 << 14))
"""Encoded unsigned varints 0 to 16,383."""

LENGTHS: Final = SMALL[::2]
"""`zigzag` of 0 to 8,191, for lengths on the record path."""


def zigzag(n: int) -> bytes:
    """Encodes an Avro int or long. Raises OverflowError for more than 64 bits."""
    z = n << 1 if n >= 0 else (-n << 1) - 1
    if z < 16384:
        return SMALL[z]
    if z < 2097152:
        return bytes((z & 127 | 128, z >> 7 & 127 | 128, z >> 14))
    if z >> 56 == 0 and z >> 49:  # eight bytes: a time in microseconds
        z = z & 0x0FFFFFFF | (z & 0x00FFFFFFF0000000) << 4
        z = z & 0x00003FFF00003FFF | (z & 0x0FFFC0000FFFC000) << 2
        z = z & 0x007F007F007F007F | (z & 0x3F803F803F803F80) << 1 | 0x0080808080808080
        return z.to_bytes(8, "little")
    if z >> 64:
        raise OverflowError("more than 64 bits")
    out = bytearray()
    while z > 127:
        out.append(z & 127 | 128)
        z >>= 7
    out.append(z)
    return bytes(out)


def varint(b: bytes, p: int) -> tuple[int, int]:
    """Decodes the zigzag varint at `p` to (value, next position).

    The first loop handles up to eight bytes, enough for a time in microseconds. Compiled, its integers are
    machine words.

    Raises:
        IndexError: The data end inside the varint.
        ValueError: The value needs more than 64 bits.
    """
    n = shift = 0
    while shift < 56:
        c = b[p]
        p += 1
        if c < 128:
            n |= c << shift
            return (n >> 1) ^ -(n & 1), p
        n |= (c & 127) << shift
        shift += 7
    while True:
        c = b[p]
        p += 1
        n |= (c & 127) << shift
        if c < 128:
            if n >> 64:
                raise ValueError("varint over 64 bits")
            return (n >> 1) ^ -(n & 1), p
        shift += 7
        if shift > 63:
            raise ValueError("varint over 64 bits")


def size(b: bytes, p: int) -> tuple[int, int]:
    """Decodes the length at `p` to (length, next position). Raises ValueError for a negative one."""
    n, p = varint(b, p)
    if n < 0:
        raise ValueError("negative length")
    return n, p


def block(b: bytes, p: int) -> tuple[int, int]:
    """Decodes the item count of the array or map block at `p` to (count, next position).

    A negative count is followed by the block's size in bytes, which is skipped.
    """
    n, p = varint(b, p)
    if n < 0:
        n = -n
        _, p = varint(b, p)
    if n > len(b):
        raise ValueError("block longer than the record")
    return n, p
