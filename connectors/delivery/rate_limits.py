"""Rate limits of a sink: token buckets for events and requests per minute. Times are passed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from connectors.sdk.contract import Rates
from connectors.sdk.http import Http, Response

SHARE: Final = 0.1
"""Share of a minute's limit that may be used at once; the rest is spread evenly over the minute."""


class TokenBucket:
    """One limit: at most `per_minute` tokens in any 60 seconds, unless a single grant is larger."""

    def __init__(self, per_minute: int, now: float) -> None:
        """
        Args:
            per_minute: Tokens per minute, above 0.
            now: Monotonic seconds.
        """
        self.burst = max(1.0, per_minute * SHARE)
        """Tokens that an idle bucket holds."""
        self._rate = max(per_minute - self.burst, per_minute / 2) / 60
        self._tokens, self._at = self.burst, now

    def take(self, tokens: float, now: float) -> float:
        """Grants `tokens`, in the order of the calls. Returns the seconds to wait before they are used."""
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self._rate) - tokens
        self._at = max(self._at, now)
        return max(0.0, -self._tokens / self._rate)


class RateLimiter:
    """The limits of one sink, over all its partitions in this process."""

    def __init__(
        self, rates: Rates, sleep: Callable[[float], Awaitable[None]], clock: Callable[[], float]
    ) -> None:
        self._sleep, self._clock = sleep, clock
        self.waiting = 0
        """Requests that wait for a rate limit now."""
        now = clock()
        self._events = TokenBucket(rates.events_per_minute, now) if rates.events_per_minute else None
        self._requests = TokenBucket(rates.requests_per_minute, now) if rates.requests_per_minute else None

    @property
    def most_events(self) -> int | None:
        """Most events that one request should have: what an idle bucket holds. None: no limit."""
        return int(self._events.burst) if self._events else None

    async def events(self, count: int) -> None:
        """Waits until `count` events may be sent."""
        await self._wait(self._events, count)

    async def request(self) -> None:
        """Waits until a request may be made."""
        await self._wait(self._requests, 1)

    async def _wait(self, bucket: TokenBucket | None, tokens: int) -> None:
        seconds = bucket.take(tokens, self._clock()) if bucket else 0.0
        if seconds <= 0:
            return
        self.waiting += 1
        try:
            await self._sleep(seconds)
        finally:
            self.waiting -= 1


class RateLimitedHttp:
    """An `Http` that waits for the request limit before each request; the timeout starts after that."""

    def __init__(self, http: Http, limiter: RateLimiter) -> None:
        self._http, self._rate_limiter = http, limiter

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        await self._rate_limiter.request()
        return await self._http.request(method, url, body, headers, seconds=seconds)
