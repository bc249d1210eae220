"""Caches of encoded values. They are bounded in bytes: hostile values cost time, not memory.

Not compiled: a lookup must stay the C `__getitem__` of a plain dict subclass.
"""

from __future__ import annotations

from typing import Final

from tailrace.memo import LONGEST

CAP: Final = 4096
NAMES: Final = 1024
"""Most attribute names that are not in a mapping's tables and whose prefixes are kept."""
LENGTHS_OF_A_NAME: Final = 64
"""Most lengths for which such a name keeps its prefix."""


def varint(n: int) -> bytes:
    """A non-negative number as a protobuf varint. Raises ValueError if it is negative."""
    if n < 0:
        raise ValueError(f"{n} is negative and has no varint")
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


class Varints(dict[int, bytes]):
    """Non-negative number -> protobuf varint."""

    def __missing__(self, n: int) -> bytes:
        data = varint(n)
        if len(self) < 16 * CAP:
            self[n] = data
        return data


class Prefixes(dict[int, bytes]):
    """Length of a text in bytes -> everything in a KeyValue field before these bytes."""

    def __init__(self, key: str, tag: bytes, most: int = CAP) -> None:
        """Creates the prefixes of one attribute name. Raises UnicodeEncodeError.

        Args:
            key: The name.
            tag: Tag of the field that holds the KeyValue.
            most: Most lengths whose prefix is kept.
        """
        super().__init__()
        self._most = most
        name = key.encode()
        self._key = b"\x0a" + varint(len(name)) + name if name else b""
        self._tag = tag
        self.double: Final = self.around(bytes(9))[:-9] + b"\x21"
        """Everything before the eight bytes of a double."""

    def __missing__(self, n: int) -> bytes:
        text = b"\x0a" + varint(n)
        inner = self._key + b"\x12" + varint(len(text) + n) + text
        data = self._tag + varint(len(inner) + n) + inner
        if len(self) >= self._most:
            self.clear()
        self[n] = data
        return data

    def around(self, value: bytes) -> bytes:
        """The whole field around an encoded AnyValue."""
        inner = self._key + b"\x12" + varint(len(value)) + value
        return self._tag + varint(len(inner)) + inner


class Keys(dict[str, Prefixes]):
    """Attribute name -> its prefixes."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, key: str) -> Prefixes:
        found = Prefixes(key, self._tag, LENGTHS_OF_A_NAME)
        if len(key) <= LONGEST:
            if len(self) >= NAMES:
                self.clear()
            self[key] = found
        return found


def int_value(value: int) -> bytes:
    """AnyValue of an integer. Raises OverflowError if it does not fit into signed 64 bits."""
    if not -(1 << 63) <= value < 1 << 63:
        raise OverflowError("an integer attribute must fit into 64 bits")
    return b"\x18" + varint(value & (1 << 64) - 1)
