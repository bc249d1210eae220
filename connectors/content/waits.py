"""Decides how long a record waits for the content store. Pure; times are monotonic seconds."""

from __future__ import annotations

from typing import Final

PROBE_SECONDS: Final = 2.0
"""Longest wait of a record that is fetched to see whether a store that does not answer is back."""


class StoreWaitPolicy:
    """Limits what one outage of the store costs. Not thread-safe.

    While the store answers, each record waits up to `seconds`. In an outage the records wait for the rest of
    that time, counted from the start of the first request without an answer; later ones do not wait. Once in
    `seconds` one record waits again, up to `PROBE_SECONDS`. Any answer ends the outage, also the answer that
    the store has no such content.

    A request that fails while others are answered does not make an outage: only its content is at fault.
    """

    def __init__(self, seconds: float) -> None:
        """
        Args:
            seconds: The setting content.rehydrate_seconds.
        """
        self._seconds = seconds
        self._since: float | None = None
        self._probe = 0.0
        self._answered = float("-inf")

    @property
    def down(self) -> bool:
        """Whether the last request had no answer."""
        return self._since is not None

    def until(self, now: float) -> float:
        """Until when a record that asks at `now` waits; in the past if it does not wait."""
        if self._since is None:
            return now + self._seconds
        until = self._since + self._seconds
        if now < until or now < self._probe:
            return until
        self._probe = now + self._seconds
        return now + min(self._seconds, PROBE_SECONDS)

    def failed(self, began: float) -> bool:
        """Takes a request that had no answer. Returns whether an outage begins.

        Args:
            began: When the request was made.
        """
        if self._since is not None or self._answered > began:
            return False
        self._since, self._probe = began, began + self._seconds
        return True

    def answered(self, now: float) -> bool:
        """Takes an answer. Returns whether an outage ends."""
        ended, self._since, self._answered = self._since is not None, None, now
        return ended
