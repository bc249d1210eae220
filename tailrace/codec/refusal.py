"""What is wrong with bytes that could not be decoded, by what the attempt raised."""

from __future__ import annotations

import struct
from typing import Final

from tailrace.errors import DecodeError

MALFORMED: Final = (IndexError, ValueError, OverflowError, struct.error)
"""What decoders raise for bytes that do not fit their schema."""


def refusal(error: Exception, size: int) -> DecodeError:
    """error: one of MALFORMED; size: of the data, in bytes."""
    if isinstance(error, IndexError):
        return DecodeError("truncated", f"{size} bytes are not one whole record")
    if isinstance(error, UnicodeDecodeError):
        return DecodeError("invalid_utf8", str(error))
    return DecodeError("malformed", str(error))
