"""gzip for request bodies: ISA-L where it is installed, else zlib, both at level 1.

Measured on OTLP spans of 1.7 KB: ISA-L 2.2 µs a span, zlib 10.7, at the same ratio of 3.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

_GZIP: Final = 31
"""wbits of a gzip member with 15 bits of window."""


def _best() -> Callable[[bytes], bytes]:
    try:
        from isal import isal_zlib
    except ImportError:  # no wheel for this platform
        return lambda body: zlib.compress(body, 1, _GZIP)
    compress: Callable[[bytes, int, int], bytes] = isal_zlib.compress
    return lambda body: compress(body, 1, _GZIP)


gzip: Final = _best()
"""gzip(body) -> one gzip member."""
