"""Tables of what is encoded again and again. They forget at a cap: hostile values cost time, not memory. Not
compiled: what is looked up stays a plain dict subclass, whose `__getitem__` is C."""

from __future__ import annotations

from typing import Final

CAP: Final = 4096


def varint(n: int) -> bytes:
    """A number from 0 as a protobuf varint. Raises ValueError below."""
    if n < 0:
        raise ValueError(f"{n} has no varint")
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


class Varints(dict[int, bytes]):
    """Number from 0 -> protobuf varint."""

    def __missing__(self, n: int) -> bytes:
        data = varint(n)
        if len(self) < 16 * CAP:
            self[n] = data
        return data


class Prefixes(dict[int, bytes]):
    """Length of a text in bytes -> all of a KeyValue field that comes before these bytes."""

    def __init__(self, key: str, tag: bytes) -> None:
        """tag: of the field that holds the KeyValue. Raises UnicodeEncodeError."""
        super().__init__()
        name = key.encode()
        self._key = b"\x0a" + varint(len(name)) + name if name else b""
        self._tag = tag
        self.double: Final = self.around(bytes(9))[:-9] + b"\x21"
        """All that comes before the eight bytes of a double."""

    def __missing__(self, n: int) -> bytes:
        text = b"\x0a" + varint(n)
        inner = self._key + b"\x12" + varint(len(text) + n) + text
        data = self._tag + varint(len(inner) + n) + inner
        if len(self) >= CAP:
            self.clear()
        self[n] = data
        return data

    def around(self, value: bytes) -> bytes:
        """The whole field, of an AnyValue."""
        inner = self._key + b"\x12" + varint(len(value)) + value
        return self._tag + varint(len(inner)) + inner


class Keys(dict[str, Prefixes]):
    """Attribute name -> its prefixes."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, key: str) -> Prefixes:
        found = Prefixes(key, self._tag)
        if len(self) >= CAP:
            self.clear()
        self[key] = found
        return found


def int_value(value: int) -> bytes:
    """AnyValue of an integer. Raises OverflowError beyond 64 bits with sign."""
    if not -(1 << 63) <= value < 1 << 63:
        raise OverflowError("an integer attribute has 64 bits")
    return b"\x18" + varint(value & (1 << 64) - 1)
