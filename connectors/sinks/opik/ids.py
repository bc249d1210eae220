"""Deterministic ids for Opik: UUIDs of version 7 computed from the event and its context. Pure.

A redelivery has the same ids and overwrites the first delivery. The first 48 bits of all ids of a trace are
the trace's start as the context has it, so an operation's parent id can be computed without having seen the
parent.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from tailrace.memo import Memo

LATEST_MS: Final = (1 << 48) - 1
"""Latest time that an id can hold, milliseconds UTC."""


def uuid7(ms: int, name: bytes) -> str:
    """A UUID of version 7 that has a hash of `name` in place of random bits.

    Args:
        ms: The id's time, milliseconds UTC, 0 to `LATEST_MS`.
        name: What is hashed.
    """
    t = _TIMES.get(ms) or _time(ms)
    h = blake2b(name, digest_size=10).hexdigest()
    return t + h[1:4] + _VARIANT[h[4]] + h[5:8] + "-" + h[8:]


_TIMES: Final[dict[int, str]] = {}
"""Cache of formatted times; all ids of a trace have the same time."""


def _time(ms: int) -> str:
    t = f"{ms:012x}"
    if len(_TIMES) >= 4096:
        _TIMES.clear()
    _TIMES[ms] = text = f"{t[:8]}-{t[8:]}-7"
    return text


_VARIANT: Final = {f"{i:x}": f"-{'89ab'[i & 3]}" for i in range(16)}
"""Hex digit of the hash -> dash, and the digit with the RFC's variant and two bits of the hash."""


def trace_scope(ms: int, project: str, trace: str) -> tuple[bytes, str]:
    """The scope of a trace's ids, and the trace's own id. Cached: events of a trace come close to each other.

    The scope makes the ids of a trace in a project different from all others: Opik refuses an id that another
    project has.

    Raises:
        UnicodeEncodeError: A text has a lone surrogate.
    """
    return _SCOPES[ms, project, trace]


def _scope(key: tuple[int, str, str]) -> tuple[bytes, str]:
    ms, project, trace = key
    scope = f"{project}\0{trace}\0".encode()
    return scope, uuid7(ms, scope)


_SCOPES: Final[Memo[tuple[int, str, str], tuple[bytes, str]]] = Memo(_scope, 4096)


def span_id(ms: int, scope: bytes, span: bytes) -> str:
    """The id of an operation's span.

    Args:
        ms: The id's time, milliseconds UTC.
        scope: The scope of the trace.
        span: The operation's OpenTelemetry span id (8 bytes), as the context has it.
    """
    return uuid7(ms, scope + span)


def _span_id(key: tuple[int, bytes, bytes]) -> str:
    return span_id(*key)


_PARENTS: Final[Memo[tuple[int, bytes, bytes], str]] = Memo(_span_id, 4096)


def parent_id(ms: int, scope: bytes, span: bytes) -> str:
    """The id of a parent's span, as `span_id`. Cached: siblings share it."""
    return _PARENTS[ms, scope, span]
