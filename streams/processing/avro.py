"""Avro encoding of single values, written by hand for the record path; tests compare it with the codec."""

from __future__ import annotations

from collections.abc import Iterable

from tailrace.codec.varint import LENGTHS, zigzag


def string(value: bytes | bytearray) -> bytes:
    """A string (UTF-8) or bytes."""
    n = len(value)
    return (LENGTHS[n] if n < 8192 else zigzag(n)) + value


def nullable(value: bytes | None) -> bytes:
    """A string or null, where null is the first branch of the union."""
    if value is None:
        return b"\0"
    n = len(value)
    return b"\2" + (LENGTHS[n] if n < 8192 else zigzag(n)) + value


def array(items: list[bytes]) -> bytes:
    """An array, or a map, of encoded items."""
    return b"".join((zigzag(len(items)), *items, b"\0")) if items else b"\0"


def strings(values: Iterable[bytes]) -> bytes:
    """An array of strings."""
    return array([string(v) for v in values])


def longs(values: Iterable[int]) -> bytes:
    """An array of non-negative longs."""
    return array([LENGTHS[v] if v < 8192 else zigzag(v) for v in values])
