"""How an event is written in a spool file. Pure.

    4 bytes  length of what follows the checksum
    4 bytes  CRC-32 of what follows
    1 byte   1 if there is a key, else 0
    2 bytes  length of the event's id
    4 bytes  length of the key
    …        id, key, value

All numbers are little-endian. A file begins with `MAGIC`. What is behind the last whole frame was being
written when its process died, and was not reported as spooled.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

MAGIC: Final = b"tailrace spool 1\n"
_HEAD: Final = struct.Struct("<II")
_INNER: Final = struct.Struct("<BHI")
LONGEST_ID: Final = 65_535
"""Most bytes of an event's id."""


class Spooled(NamedTuple):
    """An event on disk."""

    event_id: str
    key: bytes | None
    value: bytes


def encode(event: Spooled) -> bytes:
    """The frame of an event. Raises ValueError if its id has more than `LONGEST_ID` bytes."""
    name = event.event_id.encode("utf-8", "surrogatepass")
    if len(name) > LONGEST_ID:
        raise ValueError(f"the event's id has {len(name)} bytes, may have {LONGEST_ID}")
    key = event.key or b""
    body = b"".join((_INNER.pack(event.key is not None, len(name), len(key)), name, key, event.value))
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def decode(file: BinaryIO, most: int) -> Iterator[Spooled]:
    """The events of a file, up to the first frame that is not whole.

    Args:
        file: At its beginning. A file without `MAGIC` has no events.
        most: Most bytes of a frame; a longer one is taken for garbage.
    """
    if file.read(len(MAGIC)) != MAGIC:
        return
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        length, checksum = _HEAD.unpack(head)
        if not _INNER.size <= length <= most:
            return
        body = file.read(length)
        if len(body) < length or zlib.crc32(body) != checksum:
            return
        has_key, name, key = _INNER.unpack_from(body)
        begin = _INNER.size
        if begin + name + key > length or has_key > 1:
            return
        yield Spooled(
            body[begin : begin + name].decode("utf-8", "surrogatepass"),
            body[begin + name : begin + name + key] if has_key else None,
            body[begin + name + key :],
        )
