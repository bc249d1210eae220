"""Which records wait for their schema, and for how long: pure; time is passed in, monotonic seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from tailrace.codec import wire
from tailrace.errors import DecodeError

MAX_FRAMES: Final = 10_000
"""Unknown frames that are remembered; a producer of garbage has a new one a record, and beyond this none
waits."""


class Schemas(Protocol):
    """Where schemas are looked for (`tailrace.schema_registry.Source`); none of it blocks."""

    def want(self, frame: bytes) -> None:
        """Somebody needs the schema of a frame: look for it."""

    def denied(self, frame: bytes) -> bool:
        """Whether waiting longer is of no use."""

    def asked(self, frame: bytes) -> bool:
        """Whether an answer is about to come."""


class SchemaWaitPolicy:
    """knows: whether the schema of a frame is known. seconds: how long a frame's first record may wait. Later
    ones wait as long as is left; when that is over, or the schema was denied, only for the answer to one more
    request, which a registry that is away does not get."""

    def __init__(self, schemas: Schemas, knows: Callable[[bytes], bool], seconds: float) -> None:
        self._schemas, self._knows, self._seconds = schemas, knows, seconds
        self._until: dict[bytes, float] = {}
        self._fine: set[bytes] = set()
        """Frames that are known to be known."""

    def first(self, records: Sequence[Any], now: float) -> int:
        """Index of the first record that waits; the number of records if none does."""
        if {v[:5] if v[:1] == b"\0" else v[:10] for r in records if (v := r.value)} <= self._fine:
            return len(records)
        for i, record in enumerate(records):
            frame = _frame(record.value)
            if frame in self._fine:
                continue
            if self.waits(frame, now):
                return i
            if self._knows(frame):
                self._fine.add(frame)
        return len(records)

    def frames(self, records: Sequence[Any], now: float) -> set[bytes]:
        """Frames of the records that wait."""
        return {frame for frame in {_frame(r.value) for r in records} if self.waits(frame, now)}

    def waits(self, frame: bytes, now: float) -> bool:
        if not frame or self._knows(frame):
            self._until.pop(frame, None)
            return False
        if frame not in self._until and len(self._until) >= MAX_FRAMES:
            return False
        self._schemas.want(frame)
        if self._schemas.denied(frame):
            self._until[frame] = float("-inf")
        return now < self._until.setdefault(frame, now + self._seconds) or self._schemas.asked(frame)


def _frame(value: bytes | None) -> bytes:
    """What stands before a value's body; nothing where that is no frame, which no schema mends."""
    try:
        return wire.frame_in(value)
    except DecodeError:
        return b""
