"""Reads JSON that is valid but for lone surrogates, NaN and infinities, as Python writes it. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from tailrace.conversion.text import sound

_encode: Final = msgspec.json.Encoder().encode
_NO_NUMBER: Final = object()


class Repair:
    """Plain JSON from such data, and how many values were changed. It is used once."""

    def __init__(self) -> None:
        self.changed = 0

    def of(self, value: Any) -> Any:
        """The value with U+FFFD for lone surrogates and null for what is not a number."""
        t = type(value)
        if t is str:
            return self._text(value)
        if t is dict:
            return {self._text(k): self.of(x) for k, x in value.items()}
        if t is list:
            return [self.of(x) for x in value]
        if value is _NO_NUMBER:
            self.changed += 1
            return None
        return value

    def _text(self, text: str) -> str:
        valid = sound(text)
        self.changed += valid is not text
        return valid


def read(line: bytes) -> Any:
    """The data of a JSON text, with its numbers as they are written; to be given to `Repair`.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(
        line.decode("utf-8", "surrogatepass"),
        parse_constant=lambda _: _NO_NUMBER,
        parse_float=_as_written,
        parse_int=_as_written,
    )


def _as_written(digits: str) -> msgspec.Raw:
    return msgspec.Raw(digits.encode())


def text(data: Any) -> bytes:
    """Repaired data as JSON text."""
    return _encode(data)
