"""The lines of a file or stream, one by one, in bounded memory, for commands that read events from lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tailrace.errors import InvalidEvent

LONGEST: Final = 256 << 20
"""Bytes of the longest line that is read."""
_PART: Final = 1 << 20
"""Bytes that are read at once of a line that is skipped."""
_BOM: Final = b"\xef\xbb\xbf"
_BEGINNINGS: Final = {
    b"\x1f\x8b": "the file is compressed with gzip; unpack it first: zcat FILE | tailrace …",
    b"\x28\xb5\x2f\xfd": "the file is compressed with zstd; unpack it first: zstdcat FILE | tailrace …",
    b"PK\x03\x04": "the file is a ZIP archive; unpack it first: unzip -p FILE | tailrace …",
    b"\xff\xfe": "the file is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8 FILE | tailrace …",
    b"\xfe\xff": "the file is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8 FILE | tailrace …",
}
"""How files begin that have no lines of JSON -> what to do."""


class Line(NamedTuple):
    """A line that is not blank."""

    number: int
    """From 1."""
    raw: bytes
    problem: InvalidEvent | None = None
    """Why it cannot be given to a format; `raw` is empty then."""


def lines_of(read: Callable[[int], bytes], longest: int = LONGEST) -> Iterator[Line]:
    """The lines that are not blank. A byte order mark before the first one is left out.

    Args:
        read: `readline` of a binary file: reads a line, or that many bytes of it.
        longest: bytes of the longest line; a longer one is skipped and has a problem.
    """
    number = 0
    while raw := read(longest + 1):
        number += 1
        if number == 1:
            for beginning, what in _BEGINNINGS.items():
                if raw.startswith(beginning):
                    yield Line(number, b"", InvalidEvent("line", f"is not JSON: {what}"))
                    return
            raw = raw.removeprefix(_BOM)
        if len(raw) > longest and not raw.endswith(b"\n"):
            while part := read(_PART):
                if part.endswith(b"\n"):
                    break
            yield Line(number, b"", InvalidEvent("line", f"is longer than {longest:,} bytes, the most"))
        elif raw.strip():
            yield Line(number, raw)
