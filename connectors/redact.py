"""Text that is safe to log and to keep: secrets masked, control characters out, length bounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

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


def where(error: BaseException) -> str:
    """An exception without its message, which may quote an event's content: type, and the line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname}, line {trace.tb_lineno}"
