"""Decides which schema to request from a registry next, and when. Pure; times are monotonic seconds."""

from __future__ import annotations

from typing import Final

import msgspec

ABSENT_SECONDS: Final = 5.0
"""Seconds until a schema is requested again after the registry answered that there is none."""
AWAY_SECONDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits after the first, second, … request in a row without an answer; the last one repeats."""
MAX_WANTED: Final = 1000
"""Most frames that are remembered. A producer of garbage may have a new frame in every record."""


class _Frame(msgspec.Struct):
    due: float
    wanted: bool = True
    absent: int = 0
    """How often in a row the registry has answered that there is no such schema."""


class FetchPolicy:
    """Schedules the requests, one at a time. Not thread-safe.

    While the registry does not answer, requests are made only to find out whether it does again.
    """

    def __init__(self) -> None:
        self._frames: dict[bytes, _Frame] = {}
        self._failures = 0
        self._again_at = float("-inf")

    def want(self, frame: bytes, now: float) -> bool:
        """Notes that a reader needs the schema of a frame.

        Returns:
            Whether this adds a request to make.
        """
        known = self._frames.get(frame)
        if known is not None:
            added, known.wanted = not known.wanted, True
            return added
        if len(self._frames) >= MAX_WANTED:
            self._frames = {f: s for f, s in self._frames.items() if s.wanted or s.due > now}
            if len(self._frames) >= MAX_WANTED:
                return False
        self._frames[frame] = _Frame(now)
        return True

    def next(self, now: float) -> tuple[bytes | None, float | None]:
        """The next frame to request.

        Returns:
            The frame, or None and the seconds to wait; the seconds are None if no frame is wanted.
        """
        wanted = [(s.due, f) for f, s in self._frames.items() if s.wanted]
        if not wanted:
            return None, None
        due, frame = min(wanted)
        due = max(due, self._again_at)
        return (frame, 0.0) if due <= now else (None, due - now)

    def found(self, frame: bytes) -> None:
        """Notes that the schema of a frame is known now."""
        self._frames.pop(frame, None)
        self._failures = 0

    def absent(self, frame: bytes, now: float) -> None:
        """Notes that the registry does not have the schema. It is requested again if it is wanted again."""
        state = self._frames.setdefault(frame, _Frame(now))
        state.due, state.wanted, state.absent = now + ABSENT_SECONDS, False, state.absent + 1
        self._failures = 0

    def away(self, frame: bytes, now: float) -> float:
        """Notes that the registry did not answer. Other frames are requested before this one.

        Returns:
            Seconds until the next request.
        """
        wait = AWAY_SECONDS[min(self._failures, len(AWAY_SECONDS) - 1)]
        if frame in self._frames:
            self._frames[frame].due = now + wait
        self._failures += 1
        self._again_at = now + wait
        return wait

    def denied(self, frame: bytes) -> bool:
        """Whether the registry has answered twice, some time apart, that it does not have the schema."""
        state = self._frames.get(frame)
        return state is not None and state.absent >= 2

    def asked(self, frame: bytes, now: float) -> bool:
        """Whether an answer is expected soon: the request is due, and the registry answered the last one."""
        state = self._frames.get(frame)
        return state is not None and state.wanted and state.due <= now and not self._failures
