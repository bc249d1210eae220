"""A batch under way: the pieces of it that are still to send, and what has become of its records. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import accumulate

import msgspec

from connectors.delivery.rate_limits import RateLimiter
from connectors.sdk.contract import Batch, Item
from connectors.sdk.outcomes import Verdict


class RecordResult(msgspec.Struct, frozen=True, gc=False):
    """A record's final outcome."""

    verdict: Verdict
    attempts: int
    """Sends it took part in."""
    unidentified: bool = False
    """Counted among those that the sink rejected without saying which. Which of a batch's records carry it
    means nothing."""


class SubBatch(msgspec.Struct, frozen=True):
    """Records of a batch that are sent together."""

    indices: list[int]
    tries: int
    """Sends of just these that ended with Retry."""
    events: int
    """Of all."""
    first: int
    """Of the first record."""

    def wait_for_rate(self, limiter: RateLimiter) -> Callable[[bool], Awaitable[None]]:
        return lambda single: limiter.events(self.first if single else self.events)


class BatchDelivery:
    """One batch under way: fates by index, and the pieces still to send, the next one last."""

    def __init__(self, items: tuple[Item, ...]) -> None:
        self.items = items
        self.results: list[RecordResult | None] = [None] * len(items)
        self._rounds = 0  # sends that all had a part in
        self._attempts = [0] * len(items)  # beyond these
        self.todo: list[tuple[list[int], int]] = [(list(range(len(items))), 0)]

    def next(self, most_events: int | None) -> SubBatch:
        """What to send now; cut, if it counts for more than `most_events`."""
        indices, tries = self.todo.pop()
        events = [self.items[i].payload.events for i in indices]
        fit = len(indices)
        if most_events is not None and sum(events) > most_events:
            fit = max(1, sum(1 for total in accumulate(events) if total <= most_events))
            self.again(indices[fit:])
        return SubBatch(indices[:fit], tries, sum(events[:fit]), events[0])

    def only_first(self, piece: SubBatch) -> SubBatch:
        """A piece of one record; the rest comes after it."""
        if len(piece.indices) > 1:
            self.todo.append((piece.indices[1:], piece.tries))
        return SubBatch(piece.indices[:1], piece.tries, piece.first, piece.first)

    def again(self, indices: list[int], tries: int = 0) -> None:
        """Not settled: the same records next."""
        if indices:
            self.todo.append((indices, tries))

    def batch(self, indices: list[int]) -> Batch:
        """What a sink gets of them."""
        return Batch(self.items if len(indices) == len(self.items) else tuple(self.items[i] for i in indices))

    def tried(self, indices: list[int]) -> None:
        """They are about to be sent."""
        if len(indices) == len(self.items):
            self._rounds += 1
            return
        for i in indices:
            self._attempts[i] += 1

    def settle(self, indices: list[int], verdict: Verdict, unidentified: int = 0) -> None:
        """unidentified: so many of them, the first ones, count as rejected without the sink saying which."""
        made: dict[tuple[int, bool], RecordResult] = {}
        for at, i in enumerate(indices):
            kind = (self._attempts[i], at < unidentified)
            result = made.get(kind)
            if result is None:
                result = made[kind] = RecordResult(verdict, self._rounds + kind[0], kind[1])
            self.results[i] = result

    def halve(self, indices: list[int]) -> None:
        middle = len(indices) // 2
        self.todo += [(indices[middle:], 0), (indices[:middle], 0)]

    def settled(self) -> list[RecordResult]:
        return [result for result in self.results if result is not None]
