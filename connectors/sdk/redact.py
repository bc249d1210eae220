"""Text that is safe to log and to keep: secrets masked, control characters out, length bounded."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

T = TypeVar("T")

MASK: Final = "***"


def clean(text: str, limit: int = 500) -> str:
    """Printable, one line, valid UTF-8, at most `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else " " for c in cut)


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets`, in any of their `forms`. To be called before a text is cut: half a key
    is a key, too."""
    for form in sorted({form for secret in secrets for form in forms(secret)}, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


def safe(text: str, secrets: Iterable[str], limit: int = 500) -> str:
    """What somebody else said, masked, then as `clean` has it."""
    return clean(masked(text, secrets), limit)


@lru_cache(maxsize=256)
def forms(secret: str) -> tuple[str, ...]:
    """How a secret may be written: as it is, quoted for a URL or in JSON; of the value of an Authorization
    header what follows its scheme, and the password that is in it. Those under four characters are left out:
    they would mask half of every sentence."""
    scheme, _, rest = secret.partition(" ")
    found = [secret, rest.strip()]
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest, validate=True).decode()
        except ValueError:
            pass
        else:
            found += [pair, pair.partition(":")[2]]
    written = [w for f in found for w in (f, quote(f, safe=""), json.dumps(f)[1:-1])]
    return tuple(dict.fromkeys(w for w in written if len(w) >= 4))


def hidden(value: T, secrets: Sequence[str]) -> T:
    """A struct with its texts masked (an outcome, a health); anything else as it is."""
    if not secrets or not isinstance(value, msgspec.Struct):
        return value
    texts = {name: text for name in value.__struct_fields__ if isinstance(text := getattr(value, name), str)}
    changed = {name: clear for name, text in texts.items() if (clear := masked(text, secrets)) != text}
    return msgspec.structs.replace(value, **changed) if changed else value


def stack(error: BaseException, secrets: Iterable[str]) -> str:
    """Its traceback, masked; for the debug log."""
    return masked("".join(traceback.format_exception(error)), secrets)


def where(error: BaseException) -> str:
    """An exception without its message, which may quote an event's content: type, and the line that raised
    it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname}, line {trace.tb_lineno}"
