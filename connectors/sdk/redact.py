"""Makes text safe to log and to store: masks secrets, removes control characters, bounds the length."""

from __future__ import annotations

import base64
import json
import re
import traceback
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

T = TypeVar("T")

MASK: Final = "***"


def clean(text: str, limit: int = 500) -> str:
    """Returns `text` on one line with printable characters only, cut to at most `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else " " for c in cut)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Returns `text` with every form of every secret replaced by `MASK`, see `forms` and `escaped`.

    Call it before a text is cut: half a key would not be recognised.
    """
    given = tuple(secrets)
    if "%" in text or "\\" in text or "&" in text:
        for secret in given:
            for pattern in escaped(secret):
                text = pattern.sub(MASK, text)
    for form in sorted({form for secret in given for form in forms(secret)}, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


def safe(text: str, secrets: Iterable[str], limit: int = 500) -> str:
    """Masks and then cleans text that came from outside, e.g. from a response."""
    return clean(masked(text, secrets), limit)


@lru_cache(maxsize=256)
def forms(secret: str) -> tuple[str, ...]:
    """The ways in which a secret may appear in a text.

    These are the secret itself and, for the value of an Authorization header, what follows its scheme and the
    user and password in it; each also quoted for a URL and in JSON. Forms under four characters are left out:
    they would mask parts of ordinary words.
    """
    plain = _plain(secret)
    quoted = [form for text in plain for form in (text, quote(text, safe=""), json.dumps(text)[1:-1])]
    return tuple(dict.fromkeys(form for form in quoted if len(form) >= 4))


@lru_cache(maxsize=256)
def escaped(secret: str) -> tuple[re.Pattern[str], ...]:
    """Patterns of a secret as servers and proxies repeat it, the longest first.

    Each of its characters may be escaped or not: for a URL in upper or lower case, up to three times; in JSON
    with up to eight backslashes, so also in JSON inside JSON; in HTML. All repetitions are bounded, so that a
    hostile answer takes linear time.
    """
    plain = sorted({text for text in _plain(secret) if len(text) >= 4}, key=len, reverse=True)
    return tuple(re.compile("".join(_escaped_or_not(c) for c in text)) for text in plain)


def _plain(secret: str) -> list[str]:
    """The secret, and the parts of a header's value that are secrets themselves."""
    scheme, _, rest = secret.partition(" ")
    plain = [secret, rest.strip()]
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest, validate=True).decode()
        except ValueError:
            pass
        else:
            plain += [pair, pair.partition(":")[2]]
    return plain


_NAMED: Final = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
"""Character -> its name in HTML."""


def _escaped_or_not(c: str) -> str:
    number = ord(c)
    ways = [
        r"\\{1,4}" if c == "\\" else c if c.isalnum() else rf"\\{{0,8}}{re.escape(c)}",
        "".join(f"%(?:25){{0,2}}(?i:{byte:02x})" for byte in c.encode("utf-8", "surrogatepass")),
        rf"\\{{1,8}}u(?i:{number:04x})" if number < 1 << 16 else "",
        f"&(?:amp;)?#(?:0{{0,6}}{number}|[xX]0{{0,6}}(?i:{number:x}));",
        f"&(?:amp;)?{_NAMED[c]};" if c in _NAMED else "",
    ]
    return f"(?:{'|'.join(way for way in reversed(ways) if way)})"


def hidden(value: T, secrets: Sequence[str]) -> T:
    """Returns a struct (an outcome, a `Health`) with its texts masked; any other value unchanged."""
    if not secrets or not isinstance(value, msgspec.Struct):
        return value
    texts = {name: text for name in value.__struct_fields__ if isinstance(text := getattr(value, name), str)}
    changed = {name: clear for name, text in texts.items() if (clear := masked(text, secrets)) != text}
    return msgspec.structs.replace(value, **changed) if changed else value


def stack(error: BaseException, secrets: Iterable[str]) -> str:
    """The traceback of `error`, masked, for the debug log."""
    return masked("".join(traceback.format_exception(error)), secrets)


def where(error: BaseException) -> str:
    """Type of an exception and the line that raised it.

    The message is left out: it may quote an event's content.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname}, line {trace.tb_lineno}"
