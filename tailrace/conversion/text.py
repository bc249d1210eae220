"""Text that UTF-8 and JSON can represent. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class JsonText(str):
    """A string that holds JSON text. Publishing validates it once and sends it unchanged."""

    __slots__ = ()


def sound(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 cannot represent: U+FFFD is in their place."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def as_text(data: Any) -> str:
    """Converted data as text: a string as it is, everything else as JSON."""
    text = _encode(data).decode()
    return _decode(text) if text.startswith('"') else text
