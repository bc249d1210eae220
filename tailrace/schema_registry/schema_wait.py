"""Which records wait for their schema, and for how long: one rule for the processor and the sinks. Pure; time
is passed in, monotonic seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from tailrace.codec import wire
from tailrace.errors import DecodeError

MAX_FRAMES: Final = 10_000
"""Unknown frames that are remembered; a producer of garbage has a new one a record, and beyond this none
waits."""


class Schemas(Protocol):
    """Where schemas are looked for (`tailrace.schema_registry.SchemaFetcher`). Its methods don't block."""

    def want(self, frame: bytes) -> None:
        """Somebody needs the schema of a frame: look for it."""

    def denied(self, frame: bytes) -> bool:
        """Whether waiting longer is of no use."""

    def asked(self, frame: bytes) -> bool:
        """Whether an answer is about to come."""


class SchemaWaitPolicy:
    """Waits once per frame. Not for several threads at once."""

    def __init__(self, schemas: Schemas | None, knows: Callable[[bytes], bool], seconds: float) -> None:
        """The first record of a frame waits up to `seconds`, later ones as long as is left. When that is
        over, or the schema was denied, a record waits only for the answer to one more request, which a
        registry that is away does not get.

        Args:
            schemas: Where unknown schemas are looked for; None: nowhere.
            knows: Whether the schema of a frame is known.
            seconds: `schemas.wait_seconds`.
        """
        self._schemas, self._knows, self._seconds = schemas, knows, seconds
        self._until: dict[bytes, float] = {}
        self._known: set[bytes] = set()
        """Frames for which `knows` has said yes to `first`."""

    def first(self, records: Sequence[Any], now: float) -> int:
        """Index of the first record that waits; the number of records if none does."""
        if {v[:5] if v[:1] == b"\0" else v[:10] for r in records if (v := r.value)} <= self._known:
            return len(records)
        for i, record in enumerate(records):
            frame = _frame(record.value)
            if frame in self._known:
                continue
            if self.waits(frame, now):
                return i
            if self._knows(frame):
                self._known.add(frame)
        return len(records)

    def frames(self, records: Sequence[Any], now: float) -> set[bytes]:
        """Frames of the records that wait."""
        return {frame for frame in {_frame(r.value) for r in records} if self.waits(frame, now)}

    def waits(self, frame: bytes, now: float) -> bool:
        """Whether a record of this frame waits at `now`. Looks for its schema. An empty frame never waits."""
        if not frame or self._knows(frame):
            self._until.pop(frame, None)
            return False
        if frame not in self._until and len(self._until) >= MAX_FRAMES:
            return False
        if self._schemas is None:
            return now < self._until.setdefault(frame, now + self._seconds)
        self._schemas.want(frame)
        if self._schemas.denied(frame):
            self._until[frame] = float("-inf")
        return now < self._until.setdefault(frame, now + self._seconds) or self._schemas.asked(frame)

    def remembers(self, frame: bytes) -> bool:
        """Whether a record of this frame, which is still unknown, has waited already."""
        return frame in self._until


def name_of(frame: bytes) -> str:
    """A frame's schema, for messages: the registry's id, or the fingerprint."""
    return (
        f"id {int.from_bytes(frame[1:], 'big')}" if frame[:1] == b"\0" else f"fingerprint {frame[2:].hex()}"
    )


def _frame(value: bytes | None) -> bytes:
    """What stands before a value's body; empty for a value that no schema makes readable."""
    try:
        return wire.frame_in(value)
    except DecodeError:
        return b""
