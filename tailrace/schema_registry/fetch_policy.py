"""Which schema a registry is asked for next, and when: pure; time is passed in, monotonic seconds."""

from __future__ import annotations

from typing import Final

import msgspec

ABSENT_SECONDS: Final = 5.0
"""How long "there is no such schema" is believed."""
AWAY_SECONDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits after the first, second, ... request in a row that got no answer; the last one goes on."""
MAX_WANTED: Final = 1000
"""Frames that are remembered; a producer of garbage has a new one a record."""


class _Frame(msgspec.Struct):
    due: float
    wanted: bool = True
    absent: int = 0
    """How often in a row the registry has said that it is not there."""


class FetchPolicy:
    """One request at a time, one a frame; none while the registry is away, but to see whether it is back. Not
    thread-safe."""

    def __init__(self) -> None:
        self._frames: dict[bytes, _Frame] = {}
        self._failures = 0
        self._again_at = float("-inf")

    def want(self, frame: bytes, now: float) -> bool:
        """Somebody needs it. True: there is something to do that there was not."""
        known = self._frames.get(frame)
        if known is not None:
            news, known.wanted = not known.wanted, True
            return news
        if len(self._frames) >= MAX_WANTED:
            self._frames = {f: s for f, s in self._frames.items() if s.wanted or s.due > now}
            if len(self._frames) >= MAX_WANTED:
                return False
        self._frames[frame] = _Frame(now)
        return True

    def next(self, now: float) -> tuple[bytes | None, float | None]:
        """The frame to ask for now, and if there is none how many seconds to wait; None: until one is
        wanted."""
        wanted = [(s.due, f) for f, s in self._frames.items() if s.wanted]
        if not wanted:
            return None, None
        due, frame = min(wanted)
        due = max(due, self._again_at)
        return (frame, 0.0) if due <= now else (None, due - now)

    def found(self, frame: bytes) -> None:
        self._frames.pop(frame, None)
        self._failures = 0

    def absent(self, frame: bytes, now: float) -> None:
        """The registry does not have it. It is asked again, if somebody still wants it then."""
        asked = self._frames.setdefault(frame, _Frame(now))
        asked.due, asked.wanted, asked.absent = now + ABSENT_SECONDS, False, asked.absent + 1
        self._failures = 0

    def away(self, frame: bytes, now: float) -> float:
        """No answer for this one. Seconds until the next try; another frame's turn comes first."""
        wait = AWAY_SECONDS[min(self._failures, len(AWAY_SECONDS) - 1)]
        if frame in self._frames:
            self._frames[frame].due = now + wait
        self._failures += 1
        self._again_at = now + wait
        return wait

    def denied(self, frame: bytes) -> bool:
        """Whether the registry has said twice, some time apart, that it does not have it."""
        asked = self._frames.get(frame)
        return asked is not None and asked.absent >= 2

    def asked(self, frame: bytes, now: float) -> bool:
        """Whether an answer is about to come: it is asked for now, and the registry is there as far as is
        known."""
        asked = self._frames.get(frame)
        return asked is not None and asked.wanted and asked.due <= now and not self._failures
