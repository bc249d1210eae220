"""A batch in flight: the sub-batches still to send, and the outcomes of its records. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import accumulate

import msgspec

from connectors.delivery.rate_limits import RateLimiter
from connectors.sdk.contract import Batch, Item
from connectors.sdk.outcomes import Rejected, Verdict


class RecordResult(msgspec.Struct, frozen=True, gc=False):
    """A record's final outcome."""

    verdict: Verdict
    attempts: int
    """Requests that it was part of."""
    unidentified: bool = False
    """Whether it counts as one of the records that the vendor did not store without saying which.

    Only the number of such records in a batch has a meaning, not which records they are.
    """


class SubBatch(msgspec.Struct, frozen=True):
    """Records of a batch that are sent in one request."""

    indices: list[int]
    """Positions in the batch."""
    tries: int
    """Attempts with exactly these records that ended with `Retry`."""
    events: int
    """Sum of `Payload.events` of all records."""
    first: int
    """`Payload.events` of the first record."""

    def wait_for_rate(self, limiter: RateLimiter) -> Callable[[bool], Awaitable[None]]:
        """A function for `Gate.turn` that waits for the event limit."""
        return lambda single: limiter.events(self.first if single else self.events)


class BatchDelivery:
    """The state of one batch in flight: the results by index, and the sub-batches still to send."""

    def __init__(self, items: tuple[Item, ...]) -> None:
        self.items = items
        self.results: list[RecordResult | None] = [None] * len(items)
        self._rounds = 0  # requests with all records
        self._attempts = [0] * len(items)  # other requests, by index
        self.todo: list[tuple[list[int], int]] = [(list(range(len(items))), 0)]
        """Indices and tries of the sub-batches to send. The last one is sent next."""

    def next(self, most_events: int | None) -> SubBatch:
        """Removes and returns the next sub-batch, cut to `most_events` events but not below one record."""
        indices, tries = self.todo.pop()
        events = [self.items[i].payload.events for i in indices]
        fit = len(indices)
        if most_events is not None and sum(events) > most_events:
            fit = max(1, sum(1 for total in accumulate(events) if total <= most_events))
            self.again(indices[fit:])
        return SubBatch(indices[:fit], tries, sum(events[:fit]), events[0])

    def only_first(self, piece: SubBatch) -> SubBatch:
        """The first record of a sub-batch; the rest is sent after it."""
        if len(piece.indices) > 1:
            self.todo.append((piece.indices[1:], piece.tries))
        return SubBatch(piece.indices[:1], piece.tries, piece.first, piece.first)

    def again(self, indices: list[int], tries: int = 0) -> None:
        """Sends the same records again, as the next sub-batch.

        Args:
            indices: The records; none: does nothing.
            tries: Attempts with exactly these records so far.
        """
        if indices:
            self.todo.append((indices, tries))

    def batch(self, indices: list[int]) -> Batch:
        """The records as a batch for the sink."""
        return Batch(self.items if len(indices) == len(self.items) else tuple(self.items[i] for i in indices))

    def tried(self, indices: list[int]) -> None:
        """Counts an attempt, before the records are sent."""
        if len(indices) == len(self.items):
            self._rounds += 1
            return
        for i in indices:
            self._attempts[i] += 1

    def settle(self, indices: list[int], verdict: Verdict, unidentified: int = 0) -> None:
        """Gives records their final outcome.

        Args:
            indices: The records.
            verdict: The outcome.
            unidentified: How many of them the vendor did not store without saying which. The first ones are
                marked.
        """
        shared: dict[tuple[int, bool], RecordResult] = {}
        for at, i in enumerate(indices):
            kind = (self._attempts[i], at < unidentified)
            result = shared.get(kind)
            if result is None:
                result = shared[kind] = RecordResult(verdict, self._rounds + kind[0], kind[1])
            self.results[i] = result

    @property
    def rejected(self) -> int:
        """How many records were rejected so far."""
        return sum(result is not None and isinstance(result.verdict, Rejected) for result in self.results)

    def halve(self, indices: list[int]) -> None:
        """Sends the records again in two halves, the first half next."""
        middle = len(indices) // 2
        self.todo += [(indices[middle:], 0), (indices[:middle], 0)]

    def settled(self) -> list[RecordResult]:
        """The results, in the batch's order. Complete once `todo` is empty."""
        return [result for result in self.results if result is not None]
