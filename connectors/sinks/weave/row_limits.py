"""Cuts the columns of a call to what Weave stores of one. Pure.

Weave replaces the largest columns of a call of more than 3.5 MiB by an error text, and says so nowhere. So
they are cut here first, and marked. The server counts JSON as its Python writes it: with escapes for all that
is not ASCII.
"""

from __future__ import annotations

import json
import re
from typing import Final

import orjson

from tailrace.cutting import cut_json, level

MOST: Final = 3_500_000
"""Most bytes of a call's columns; Weave's limit is 3,670,016 with its own additions."""
UNCOUNTED: Final = MOST // 6
"""Bytes of columns that are within the limit, however the server writes them.

A character's escape has at most three times its bytes, a number such as 1e15 at most five times.
"""
_LEAST: Final = 64
"""Bytes below which a column is left out rather than cut."""


MOST_LEVELS: Final = 150
"""Most levels of nested values in a column.

Weave's server refuses a request with more than 200 as too large, and fails on one with some hundreds more.
"""
_STRING: Final = re.compile(rb'"[^"]*"')
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_AS_LISTS: Final = bytes.maketrans(b"{}", b"[]")
_NEITHER: Final = bytes(set(range(256)) - set(b'[]{}"'))


_REDACTED: Final = len("REDACTED")
_CREDENTIAL: Final = re.compile(
    rb"(?:%b)"
    % b"|".join(
        b"[_-]*".join(bytes([letter]) for letter in word)
        for word in (b"token", b"key", b"keyid", b"secret", b"headers", b"authorization", b"credentials")
    )
    + rb'[_-]*"\s*:\s*"[^"\\]{1,7}"',
    re.IGNORECASE,
)
"""A text shorter than what the server may put in its place, under a name that may be that of a credential."""


def is_deep(column: bytes, most: int = MOST_LEVELS) -> bool:
    """Whether JSON has more than `most` levels. It takes about 1 µs per KB, and does not recurse."""
    if column.count(b"[") + column.count(b"{") <= most:
        return False
    plain = column.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_AS_LISTS, _NEITHER)
    rest = _STRING.sub(b"", plain)
    for _ in range(most):
        rest = rest.replace(b"[]", b"")  # one level, the lowest
        if not rest:
            return False
    return True


def flattened(column: bytes, most: int = MOST_LEVELS) -> bytes:
    """JSON of which everything below `most` levels is written as texts of JSON."""
    parts, at, level, start = list[bytes](), 0, 0, 0
    for m in _TOKEN.finditer(column):
        first = m[0][:1]
        if first in b"[{":
            level += 1
            if level == most + 1:
                start = m.start()
        elif first in b"]}":
            if level == most + 1:
                parts += (column[at:start], orjson.dumps(column[start : m.end()].decode()))
                at = m.end()
            level -= 1
    return b"".join([*parts, column[at:]])


def stored(inputs: bytes, output: bytes, attributes: bytes) -> tuple[bytes, bytes, bytes, str | None]:
    """The three columns of a call that hold content, as Weave's server stores them whole.

    Returns:
        The columns, and what was changed, for people; None if nothing was.
    """
    said: list[str] = []
    columns = []
    for name, column in (("inputs", inputs), ("output", output), ("attributes", attributes)):
        deep = is_deep(column)
        columns.append(flattened(column) if deep else column)
        if deep:
            said.append(f"{name}: what is below {MOST_LEVELS} levels is text")
    inputs, output, attributes, cut = fitted(columns[0], columns[1], columns[2])
    if cut is not None:
        said.append(cut)
    return inputs, output, attributes, "; ".join(said) or None


def server_size(column: bytes) -> int:
    """Most bytes of a column as the server writes it, with credentials hidden."""
    try:
        size = len(json.dumps(json.loads(column)))
    except (ValueError, RecursionError):
        size = 6 * len(column)
    return size + _REDACTED * len(_CREDENTIAL.findall(column))


def fitted(
    inputs: bytes, output: bytes, attributes: bytes, most: int = MOST
) -> tuple[bytes, bytes, bytes, str | None]:
    """The three columns of a call that hold content, cut so that they are within the limit.

    The largest are cut first, their longest strings first. JSON stays JSON, and an object stays an object.

    Args:
        inputs: A JSON object.
        output: Any JSON.
        attributes: A JSON object.
        most: Most bytes of the three, as the server counts them.

    Returns:
        The columns, and what was cut, for people; None if nothing was.
    """
    sizes = [server_size(column) for column in (inputs, output, attributes)]
    excess = sum(sizes) - most
    if excess <= 0:
        return inputs, output, attributes, None
    room = level(sizes, excess)
    said: list[str] = []
    columns = []
    for name, column, size, nothing in (
        ("inputs", inputs, sizes[0], b"{}"),
        ("output", output, sizes[1], b"null"),
        ("attributes", attributes, sizes[2], b"{}"),
    ):
        if size > room:
            said.append(f"{name}: cut from {len(column)} bytes")
            columns.append(_cut(column, size, room, nothing))
        else:
            columns.append(column)
    return columns[0], columns[1], columns[2], "; ".join(said)


def _cut(column: bytes, size: int, room: int, nothing: bytes) -> bytes:
    """The column in at most `room` bytes as the server counts them; `nothing` if that is too little."""
    text, target = column.decode(), room * len(column) // size
    while target >= _LEAST:
        cut = cut_json(text, target)
        if cut is None:
            break
        found = cut.encode()
        size = server_size(found)
        if size <= room:
            return found
        target = min(target * room // size, target) - _LEAST
    return nothing
