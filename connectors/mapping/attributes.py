"""Keys of the mapping idiom for attributes of OTLP spans. Pure.

They write protobuf, protobuf with every value as a text, and OTLP/JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final, final

import msgspec
import orjson

from connectors.mapping.rows import Key
from connectors.otlp import as_json, wire
from connectors.otlp.memo import CAP, Prefixes

_SHORT: Final = 128
"""For texts shorter than this many bytes a key keeps its prefixes in a list, by length."""
_DOUBLE: Final = Struct("<d").pack
_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode
_dumps: Final[Callable[[Any], bytes]] = orjson.dumps


class WireAttribute(Key):
    """An attribute in protobuf.

    Its methods raise UnicodeEncodeError for text with lone surrogates, OverflowError for integers beyond 64
    bits.
    """

    def __init__(self, name: str) -> None:
        self._prefixes: Final = Prefixes(name, wire.ATTRIBUTE)
        self._short: Final[list[bytes]] = [b""] * _SHORT
        self._integers: Final[dict[int, bytes]] = {}

    def text(self, out: list[bytes], value: str) -> None:
        self.encoded(out, value.encode())

    def encoded(self, out: list[bytes], data: bytes) -> None:
        length = len(data)
        if length >= _SHORT:
            out.append(self._prefixes[length])
        else:
            prefix = self._short[length]
            if not prefix:
                prefix = self._short[length] = self._prefixes[length]
            out.append(prefix)
        out.append(data)

    def integer(self, out: list[bytes], value: int) -> None:
        attribute = self._integers.get(value)
        if attribute is None:
            attribute = self._prefixes.around(wire.any_value(value))
            if len(self._integers) >= CAP:
                self._integers.clear()
            self._integers[value] = attribute
        out.append(attribute)

    def flag(self, out: list[bytes], value: bool) -> None:
        out.append(self._prefixes.around(wire.any_value(value)))

    def texts(self, out: list[bytes], value: Sequence[str]) -> None:
        out.append(self._prefixes.around(wire.any_value(value)))

    def json(self, out: list[bytes], text: str) -> None:
        self.encoded(out, text.encode())

    def seconds(self, out: list[bytes], microseconds: int) -> None:
        out.append(self._prefixes.double)
        out.append(_DOUBLE(microseconds / 1e6))


@final
class TextAttribute(WireAttribute):
    """An attribute in protobuf whose value is always written as a text."""

    def integer(self, out: list[bytes], value: int) -> None:
        self.encoded(out, b"%d" % value)

    def flag(self, out: list[bytes], value: bool) -> None:
        self.encoded(out, b"true" if value else b"false")

    def texts(self, out: list[bytes], value: Sequence[str]) -> None:
        self.encoded(out, _encode(value))

    def seconds(self, out: list[bytes], microseconds: int) -> None:
        self.text(out, decimal_seconds(microseconds))


@final
class JsonAttribute(Key):
    """An attribute in OTLP/JSON, appended as one element.

    Its methods raise TypeError (`orjson.JSONEncodeError`) for text with lone surrogates, OverflowError for
    integers beyond 64 bits.
    """

    def __init__(self, name: str) -> None:
        self._prefix: Final = as_json.prefix(name)
        self._text: Final[bytes] = self._prefix + b'{"stringValue":'

    def text(self, out: list[bytes], value: str) -> None:
        out.append(self._text + _dumps(value) + b"}}")

    def integer(self, out: list[bytes], value: int) -> None:
        out.append(self._prefix + as_json.any_value(value) + b"}")

    def flag(self, out: list[bytes], value: bool) -> None:
        out.append(self._prefix + as_json.any_value(value) + b"}")

    def texts(self, out: list[bytes], value: Sequence[str]) -> None:
        out.append(self._prefix + as_json.any_value(value) + b"}")

    def json(self, out: list[bytes], text: str) -> None:
        self.text(out, text)

    def seconds(self, out: list[bytes], microseconds: int) -> None:
        out.append(self._prefix + as_json.any_value(microseconds / 1e6) + b"}")

    def encoded(self, out: list[bytes], data: bytes) -> None:
        self.text(out, data.decode())


def decimal_seconds(microseconds: int) -> str:
    """Microseconds as seconds, in decimal text without trailing zeros, e.g. 1500000 as 1.5."""
    whole, part = divmod(abs(microseconds), 1_000_000)
    sign = "-" if microseconds < 0 else ""
    return f"{sign}{whole}.{part:06d}".rstrip("0") if part else f"{sign}{whole}"
