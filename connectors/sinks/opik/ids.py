"""Opik's ids: UUIDs of version 7 that are functions of the event and its context, so that a redelivery
overwrites.

The first 48 bits of every id of a trace are one time, the trace's start as the context has it, so that a
child computes its parent's id without having seen it. Pure."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

LATEST_MS: Final = (1 << 48) - 1
"""Highest time that an id can hold, milliseconds UTC."""


def uuid7(ms: int, name: bytes) -> str:
    """A UUID of version 7 with the time `ms` (milliseconds UTC, 0 to `LATEST_MS`) and, in place of random
    bits, a hash of `name`."""
    t = _TIMES.get(ms) or _time(ms)
    h = blake2b(name, digest_size=10).hexdigest()
    return t + h[1:4] + _VARIANT[h[4]] + h[5:8] + "-" + h[8:]


_TIMES: Final[dict[int, str]] = {}
"""The last times met, written; all ids of a trace have one."""


def _time(ms: int) -> str:
    t = f"{ms:012x}"
    if len(_TIMES) >= 4096:
        _TIMES.clear()
    _TIMES[ms] = text = f"{t[:8]}-{t[8:]}-7"
    return text


_VARIANT: Final = {f"{i:x}": f"-{'89ab'[i & 3]}" for i in range(16)}
"""What stands before the hash's next digits: the digit that holds the RFC's variant and two bits of the
hash."""


@lru_cache(maxsize=4096)
def trace_scope(ms: int, project: str, trace: str) -> tuple[bytes, str]:
    """What tells the ids of one trace in one project from all others (Opik refuses an id that another project
    has), and the trace's own id. Events of a trace come close to each other, so the last ones are kept.

    Raises UnicodeEncodeError for text that is no Unicode.
    """
    scope = f"{project}\0{trace}\0".encode()
    return scope, uuid7(ms, scope)


def span_id(ms: int, scope: bytes, span: bytes) -> str:
    """Id of an operation's span. span: its OpenTelemetry span id (8 bytes), as the context has it of the
    operation itself and of its parent: a hash of the operation's own id, or the native id of what came from
    OpenTelemetry."""
    return uuid7(ms, scope + span)


parent_id: Final = lru_cache(maxsize=4096)(span_id)
"""The same of the span that an operation hangs on: siblings share it, so the last ones are kept."""
