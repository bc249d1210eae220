"""Text that is safe to log and to keep: secrets masked, control characters out, length bounded."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

MASK: Final = "***"


def clean(text: str, limit: int = 500) -> str:
    """Printable, one line, valid UTF-8, at most `limit` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else " " for c in cut)


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets`. Secrets under four characters are left: they would mask half of every sentence."""
    for secret in sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


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
    """An exception without its message, which may quote an event's content: type, and the line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname}, line {trace.tb_lineno}"
