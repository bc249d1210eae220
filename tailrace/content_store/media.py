"""Base64 media in text: found, decoded, and named by their type, size and hash instead. Pure.

Looked for are data URIs, and strings of JSON that are base64 as a whole and whose type is known: from a
sibling such as `media_type`, `mimeType` or `format` (Anthropic, Gemini, OpenAI), or from their first bytes.
JSON inside of a string of JSON is searched too. Base64 in lines, as MIME has it, counts if it is in a data
URI or its first bytes tell its type: lists of ids look the same. Time is linear in the length of the text.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tailrace.content import JsonText
from tailrace.content_store.naming import content_hash

LEAST: Final = 16_384
"""Characters of base64 below which a medium stays in its text."""
MOST: Final = 100
"""Media of one event that are named. Further ones stay in the text."""
NODES: Final = 10_000
"""Values of an event that `likely` looks at."""
_STEP: Final = LEAST // 2
_SIGNS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-\\"
_WINDOW: Final = re.compile(r"[A-Za-z0-9+/_\\-]{64}")
_LINES: Final = re.compile(r"[A-Za-z0-9+/_\\\r\n-]{64}")
"""The same of a value, which may have line breaks that JSON escapes."""
_OTHER: Final = re.compile(r"[^A-Za-z0-9+/_\\-]")
_AROUND: Final = 400
"""Characters before and after base64 in which its type is looked for."""
_URI: Final = re.compile(
    r"data:(?:([\w.+-]{1,60})\\*/([\w.+-]{1,60}))?(?:;[\w-]{1,40}=[^;,\"\s]{0,100}){0,5};base64,\Z",
    re.ASCII | re.IGNORECASE,
)
_ESCAPED: Final = re.compile(r"\\+(?:[rn/]|u00(?:0[aAdD]|2[bBfF]|3[dD]))")
"""A line break, `+`, `/` or `=` as JSON may have it, also inside of a string of JSON."""
_SIGN: Final = {"/": "/", "b": "+", "f": "/"}
"""Last character of an escape, in lower case -> what it stands for. Others are left out, as padding is."""
_BREAKS: Final = re.compile(r"(?:\\+[rn])*")
_LINE: Final = re.compile(r"\\+(?:[rn]|u000[aAdD])")
_DECLARED: Final = re.compile(
    r'"(?:media_type|mediaType|mime_type|mimeType|content_type|contentType|format)\\*"\s{0,9}:\s{0,9}\\*"'
    r"([\w.+-]{1,60})(?:\\*/([\w.+-]{1,60}))?\\*\"",
    re.ASCII,
)
_FORMATS: Final = {
    "aac": "audio/aac",
    "flac": "audio/flac",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "opus": "audio/opus",
    "pcm16": "audio/pcm",
    "pdf": "application/pdf",
    "png": "image/png",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
}
_STARTS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"PK\x03\x04", "application/zip"),
)
_BRANDS: Final = {
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
}
_UNKNOWN: Final = "application/octet-stream"


class Medium(NamedTuple):
    """What was found in a text."""

    media_type: str
    data: bytes
    """The medium's own bytes, without base64."""
    hash: str


def marker(medium: Medium) -> str:
    """What is in the text instead of the medium, e.g. `[image/png, 53412 bytes, sha256:9f86…]`."""
    return f"[{medium.media_type}, {len(medium.data)} bytes, {medium.hash}]"


def may_hold(text: str) -> bool:
    """Whether a text may have a medium. Looks at 64 of every 8,192 characters only."""
    size = len(text)
    return size >= LEAST and any(_LINES.match(text, at) for at in range(_STEP, size, _STEP))


def likely(value: Any) -> bool:
    """Whether content, as an application gives it, may have a medium. Never raises, calls no method of it."""
    waiting, left = [value], NODES
    while waiting and left > 0:
        found = waiting.pop()
        left -= 1
        t = type(found)
        if t is str or t is JsonText:
            if may_hold(found):
                return True
        elif t is bytes:
            if len(found) * 4 // 3 >= LEAST:
                return True
        elif t is list or t is tuple:
            waiting += found[:left]
        elif t is dict:
            waiting += list(found.values())[:left]
    return False


def named(text: str, most: int = MOST) -> tuple[str, list[Medium]]:
    """The text with its media named, and what these are.

    Args:
        text: JSON or any other text. JSON stays JSON.
        most: media that are named.
    """
    parts: list[str] = []
    found: list[Medium] = []
    at = 0
    for start, end in _runs(text):
        if len(found) >= most:
            break
        place = _medium(text, start, end, at)
        if place is None:
            continue
        begin, after, medium = place
        parts += [text[at:begin], marker(medium)]
        found.append(medium)
        at = after
    return ("".join([*parts, text[at:]]) if found else text), found


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Where the text has at least `LEAST` signs of base64 in a row."""
    done, at = 0, _STEP
    while at < len(text):
        if _WINDOW.match(text, at) is None:
            at += _STEP
            continue
        other = _OTHER.search(text, at)
        end = len(text) if other is None else other.start()
        before = text[max(done, at - _STEP - 64) : at]
        start = at - (len(before) - len(before.rstrip(_SIGNS)))
        if end - start >= LEAST:
            yield start, end
        done, at = end, end + _STEP


def _medium(text: str, start: int, end: int, floor: int) -> tuple[int, int, Medium] | None:
    """The medium in a run of base64, with what it replaces; None if there is none.

    Args:
        text: the text.
        start: of the run.
        end: of the run.
        floor: where what may be replaced begins.
    """
    uri = _URI.search(text[max(floor, start - _AROUND) : start])
    signs = text[start:end].rstrip("\\")  # of an escaped quote
    end = start + len(signs)
    padding = 0
    while padding < 2 and text[end + padding : end + padding + 1] == "=":
        padding += 1
    end += padding
    in_lines = _LINE.search(signs) is not None
    if in_lines:
        breaks = _BREAKS.match(text, end)  # after the padding
        end = end if breaks is None else breaks.end()
    if uri is None and not (text[start - 1 : start] == '"' and text[end : end + 4].lstrip("\\")[:1] == '"'):
        return None
    data = _decoded(signs)
    if data is None:
        return None
    if uri is not None:
        declared = f"{uri[1]}/{uri[2]}" if uri[1] else None
        begin = start - (len(uri[0]))
    else:
        declared, begin = _declared(text, start, end), start
    known = _of_start(data)
    kind = declared or known
    if kind is None or (in_lines and uri is None and known is None):
        if uri is None:
            return None
        kind = _UNKNOWN
    return begin, end, Medium(kind.lower(), data, content_hash(data))


def _decoded(signs: str) -> bytes | None:
    if "\\" in signs:
        signs = _ESCAPED.sub(lambda found: _SIGN.get(found[0][-1].lower(), ""), signs)
        if "\\" in signs:
            return None
    signs = signs.replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(signs + "=" * (-len(signs) % 4), strict_mode=True)
    except ValueError:
        return None


def _declared(text: str, start: int, end: int) -> str | None:
    """The type that a sibling in the same object of JSON declares."""
    before, after = text[max(0, start - _AROUND) : start], text[end : end + _AROUND]
    before = before[max(before.rfind("{"), before.rfind("}")) + 1 :]
    brace = re.search(r"[{}]", after)
    for part in (before, after if brace is None else after[: brace.start()]):
        for found in _DECLARED.finditer(part):
            kind = f"{found[1]}/{found[2]}" if found[2] else _FORMATS.get(found[1].lower())
            if kind is not None:
                return kind
    return None


def _of_start(data: bytes) -> str | None:
    """The type that the first bytes tell."""
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video/mp4")
    return None
