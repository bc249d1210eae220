"""Decides which records wait for their schema, and for how long; for the processor and for sinks.

Pure; times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from tailrace.codec import wire
from tailrace.errors import DecodeError

MAX_FRAMES: Final = 10_000
"""Most unknown frames that are remembered. Beyond this number no record waits.

A producer of garbage may have a new frame in every record.
"""


class Schemas(Protocol):
    """Fetches schemas (`tailrace.schema_registry.SchemaFetcher`). Its methods do not block."""

    def want(self, frame: bytes) -> None:
        """Requests the schema of a frame."""

    def denied(self, frame: bytes) -> bool:
        """Whether waiting longer is useless."""

    def asked(self, frame: bytes) -> bool:
        """Whether an answer is expected soon."""


class SchemaWaitPolicy:
    """Limits the wait per frame. Not thread-safe.

    The first record of a frame waits up to `seconds`, later ones for the rest of that time. When it is
    over, or the registry does not have the schema, a record waits only for the answer to one more request.
    Without an answer to the last request, it does not wait for that either.
    """

    def __init__(self, schemas: Schemas | None, knows: Callable[[bytes], bool], seconds: float) -> None:
        """
        Args:
            schemas: Fetches unknown schemas; None: they are not fetched.
            knows: Whether the schema of a frame is known.
            seconds: The setting schemas.wait_seconds.
        """
        self._schemas, self._knows, self._seconds = schemas, knows, seconds
        self._until: dict[bytes, float] = {}
        self._known: set[bytes] = set()
        """Known frames, as `first` has found."""

    def first(self, records: Sequence[Any], now: float) -> int:
        """Index of the first record that has to wait; the number of records if none has to."""
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
        """Frames of the records that have to wait."""
        return {frame for frame in {_frame(r.value) for r in records} if self.waits(frame, now)}

    def waits(self, frame: bytes, now: float) -> bool:
        """Whether a record of this frame has to wait at `now`. Requests its schema.

        An empty frame never waits.
        """
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
        """Whether a record of this frame, which is still unknown, has already waited."""
        return frame in self._until


def name_of(frame: bytes) -> str:
    """A frame's schema in messages: the registry's id, or the fingerprint."""
    return (
        f"id {int.from_bytes(frame[1:], 'big')}" if frame[:1] == b"\0" else f"fingerprint {frame[2:].hex()}"
    )


def _frame(value: bytes | None) -> bytes:
    """The frame of a value; empty for a value that no schema could make readable."""
    try:
        return wire.frame_in(value)
    except DecodeError:
        return b""
