"""Shortens text, JSON text, lists and maps of text to a number of bytes. Pure.

Text that was cut ends with a mark. JSON stays JSON: its longest strings are cut first, and
then, if that is not enough, its last items. Neither a character of UTF-8 nor an escape is ever cut.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

MARK: Final = "… [cut]".encode()
"""The end of a text that was cut."""
DEPTH: Final = 100
"""Most levels of nested lists and objects in content."""
SHORT: Final = 64
"""Bytes of a text that is not cut while others are longer; below it items are left out."""
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("(\s*:)?|\\?\Z)', re.DOTALL)
"""A string of JSON. Group 2: it is a key. At the end of the text it may be unfinished."""
_TOKEN: Final = re.compile(_STRING.pattern + rb"|[\[\]{},]|[^\s\[\]{},:\"]+", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
_HIGH: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_BACKSLASH: Final = ord("\\")
_OPEN: Final = {b"{": b"}", b"[": b"]"}


def level(sizes: Sequence[int], excess: int) -> int:
    """The size to which the largest are cut, so that `excess` is saved in all; 0 if that is not enough."""
    return _level(Counter(sizes), excess)


def _level(counts: Mapping[int, int], excess: int) -> int:
    """As `level`. Of each size it takes how many have it: there may be millions of short ones."""
    total = many = 0
    ordered = sorted(counts, reverse=True)
    for at, size in enumerate(ordered, 1):
        many += counts[size]
        total += size * counts[size]
        found = (total - excess) // many
        if at == len(ordered) or found >= ordered[at]:
            return max(found, 0)
    return 0


def _start(raw: bytes, room: int) -> bytes:
    """The first bytes of UTF-8 text, at most `room`, without a part of a character."""
    return raw[: max(room, 0)].decode("utf-8", "ignore").encode()


def cut_text(text: str, room: int) -> str:
    """The start of `text` with a mark, at most `room` bytes of UTF-8."""
    raw = text.encode()
    if len(raw) <= room:
        return text
    if room < 2 * len(MARK):
        return _start(raw, room).decode()
    return (_start(raw, room - len(MARK)) + MARK).decode()


def written(size: int) -> int:
    """Bytes of a text of `size` bytes in a list or map, with those of its length."""
    return size + (1 if size < 64 else 2 if size < 8192 else 3 if size < 1 << 20 else 4)


def cut_texts(values: Sequence[str], room: int) -> list[str]:
    """The longest of the texts cut, and then the last ones left out; at most `room` bytes as `written`."""
    sizes = [len(v.encode()) for v in values]
    longest = max(level(sizes, sum(map(written, sizes)) - room), min(SHORT, room))
    found = []
    for value, size in zip(values, sizes, strict=True):
        text = value if size <= longest else cut_text(value, longest)
        room -= written(size if size <= longest else len(text.encode()))
        if room < 0:
            break
        found.append(text)
    return found


def cut_map(values: Mapping[str, str], room: int) -> dict[str, str]:
    """The longest values cut, and then what does not fit left out; at most `room` bytes as `written`."""
    keys = [written(len(k.encode())) for k in values]
    sizes = [len(v.encode()) for v in values.values()]
    longest = max(level(sizes, sum(map(written, sizes)) + sum(keys) - room), min(SHORT, room))
    found = {}
    for (key, value), named, size in zip(values.items(), keys, sizes, strict=True):
        text = value if size <= longest else cut_text(value, longest)
        left = room - named - written(size if size <= longest else len(text.encode()))
        if left >= 0:
            found[key] = text
            room = left
    return found


def cut_json(text: str, room: int) -> str | None:
    """JSON text of at most `room` bytes; None if nothing fits.

    Args:
        text: JSON text, or the start of one.
        room: bytes.
    """
    raw = text.encode()
    counts: Counter[int] = Counter()
    whole = True
    for m in _STRING.finditer(raw):  # twice, instead of keeping matches, which take more than the text
        if m[2] is None:
            counts[m.end() - m.start()] += 1
            whole = raw.startswith(b'"', m.start(1))
    excess = len(raw) - room
    if not whole:
        excess += DEPTH  # for the brackets that are open where the start ends
    longest = max(_level(counts, excess), min(SHORT, room))
    parts, at = [], 0
    for m in _STRING.finditer(raw):
        if m[2] is None and (m.end() - m.start() > longest or not raw.startswith(b'"', m.start(1))):
            parts += [raw[at : m.start()], _cut_string(raw[m.start() : m.end()], longest)]
            at = m.end()
    shorter = _closed(b"".join([*parts, raw[at:]]), room)
    return None if shorter is None else shorter.decode()


def _cut_string(token: bytes, room: int) -> bytes:
    """A string of JSON, cut to `room` bytes; one that is unfinished is closed."""
    body = token[1:-1] if token.endswith(b'"') and len(token) > 1 else token[1:]
    room -= 2 + len(MARK)
    body = _whole_escapes(_start(body, room if room >= 0 else room + len(MARK)))
    return b'"' + body + (MARK if room >= 0 else b"") + b'"'


def _whole_escapes(body: bytes) -> bytes:
    """The start of a string without the part of an escape, or of a pair of them, that it ends with."""
    end = len(body)
    while True:
        at = body.rfind(b"\\", max(0, end - 6), end)
        if at < 0 or not _starts_escape(body, at):
            return body[:end]
        if _ESCAPE.match(body, at, end) and not _HIGH.match(body, at, end):
            return body[:end]
        end = at


def _starts_escape(body: bytes, at: int) -> bool:
    """Whether the backslash at `at` starts an escape; else it is the second one of an escaped backslash."""
    before = at
    while before and body[before - 1] == _BACKSLASH:
        before -= 1
    return (at - before) % 2 == 0


def _closed(raw: bytes, room: int) -> bytes | None:
    """The longest start of JSON text that fits once it is closed at its end; None if nothing does."""
    closers: list[bytes] = []
    end, key = 0, False
    for m in _TOKEN.finditer(raw):
        token = m[0]
        first = token[:1]
        if first == b",":
            key = bool(closers) and closers[-1] == b"}"
            continue
        if first == b'"' and key:
            if m[2] is None:  # an unfinished key
                break
            key = False
            continue
        opened = _OPEN.get(first)
        if opened is not None:
            if m.end() + len(closers) + 1 > room:
                break
            closers.append(opened)
            key = opened == b"}"
        elif first in (b"}", b"]"):
            if not closers or m.end() + len(closers) - 1 > room:
                break  # not JSON, or the space before the bracket is too much
            closers.pop()
        elif m.end() + len(closers) > room or (m.end() == len(raw) and closers and first != b'"'):
            break  # too large, or a number of which the end may be missing
        end = m.end()
    return raw[:end] + b"".join(reversed(closers)) if end else None
