"""A sink's limits of events and requests a minute."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connectors.delivery.rate_limits import SHARE, RateLimitedHttp, RateLimiter, TokenBucket
from connectors.delivery.sub_batches import BatchDelivery
from connectors.sdk.contract import Item, Payload, Rates, RecordOrigin
from connectors.sdk.http import Response

arrivals = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), min_size=1, max_size=150)
"""Seconds since the request before, and how many tokens the request wants."""


@given(st.integers(1, 5000), arrivals)
def test_no_minute_has_more_than_its_limit_and_turns_keep_their_order(
    limit: int, arrivals: list[tuple[float, int]]
) -> None:
    bucket, now = TokenBucket(limit, 0.0), 0.0
    granted: list[tuple[float, int]] = []
    for pause, want in arrivals:
        now += pause
        tokens = min(want, int(bucket.burst))
        granted.append((now + bucket.take(tokens, now), tokens))
    times = [at for at, _ in granted]
    assert all(b >= a - 1e-6 for a, b in pairwise(times))
    for i, (start, _) in enumerate(granted):
        assert sum(n for at, n in granted[i:] if at <= start + 60 - 1e-6) <= limit


@given(st.integers(10, 5000), st.integers(1, 5))
def test_a_busy_sink_gets_nearly_all_of_its_limit(limit: int, minutes: int) -> None:
    bucket, at, sent = TokenBucket(limit, 0.0), 0.0, 0
    while True:
        at += bucket.take(1, at)
        if at > 60 * minutes:
            break
        sent += 1
    assert sent >= (1 - SHARE) * limit * minutes - 1


def test_what_is_more_than_a_bucket_holds_waits_for_all_of_it() -> None:
    bucket = TokenBucket(60, 0.0)
    assert bucket.burst == 6.0
    assert bucket.take(15, 0.0) == (15 - 6) / 0.9
    assert bucket.take(1, 0.0) == (16 - 6) / 0.9
    assert bucket.take(1, 1000.0) == 0.0


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = TokenBucket(60, 100.0)
    assert bucket.take(6, 100.0) == 0.0
    assert bucket.take(1, 50.0) > 1
    assert bucket.take(1, 100.0) > 2


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Echo:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def request(
        self, method: str, url: str, body: bytes, headers: Any, *, seconds: float = 30.0
    ) -> Response:
        self.seconds.append(seconds)
        return Response(200)


def test_every_request_of_a_sink_waits_for_its_turn() -> None:
    clock, echo = Clock(), Echo()
    http = RateLimitedHttp(echo, RateLimiter(Rates(requests_per_minute=30), clock.sleep, clock))

    async def run() -> None:
        for _ in range(5):
            await http.request("POST", "http://h", b"", {}, seconds=7.0)

    asyncio.run(run())
    assert echo.seconds == [7.0] * 5
    assert [round(s, 3) for s in clock.slept] == [round(60 / 27, 3)] * 2  # three at once, then 27 a minute


def test_without_limits_nothing_waits_and_with_them_a_tenth_goes_out_at_once() -> None:
    clock = Clock()
    pace = RateLimiter(Rates(), clock.sleep, clock)
    assert pace.most_events is None
    asyncio.run(pace.events(10**9))
    pace = RateLimiter(Rates(events_per_minute=1000), clock.sleep, clock)
    assert pace.most_events == 100
    asyncio.run(pace.events(100))
    assert clock.slept == []
    asyncio.run(pace.events(30))
    assert clock.slept == [2.0]
    assert pace.waiting == 0


def test_a_sub_batch_counts_its_events_without_a_limit_too() -> None:
    items = tuple(Item(Payload(b"", 1, n), RecordOrigin("t", 0, n, 0)) for n in (1, 2, 3))
    piece = BatchDelivery(items).next(None)
    assert (piece.indices, piece.events, piece.first) == ([0, 1, 2], 6, 1)
