"""The content of one sink's records: what is fetched for them, what is missing, and what is said about it.

Only the consumer's thread uses it.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
from collections.abc import Callable, Collection
from typing import Final

from connectors.content import refs
from connectors.content.fetcher import ContentFetcher, Fetch
from connectors.content.refs import NOT_CONFIGURED, Failure
from connectors.sdk.contract import Enriched
from tailrace.records import ContentRef, TraceEvent

log: Final = logging.getLogger("tailrace.connect.content")

SAY_EVERY: Final = 60.0
"""Seconds between two log lines about content that did not come back."""
HELD_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of content that are held for the first records of a sink's partitions, which are mapped when it
is here; and as many for those behind them. One first record may have more, alone.
"""
ASKS_AGAIN: Final = 5.0
"""Seconds after which a partition that has found no room and has not asked again has no place any more."""
REPORT_SECONDS: Final = 10.0
"""Longest wait for Kafka to take a `rehydration_failed` event. The record goes on without it then."""

_BUCKETS: Final = 600.0
"""Seconds by which the processor may forget an id early: it remembers ids in buckets of append time."""

Report = Callable[[TraceEvent, Callable[[], None]], None]
"""report(event, done): publishes the event; `done` is called once Kafka has it, or never. Does not block."""
Counted = Callable[[str | None], None]
"""counted(reason): a record got its content (None), or goes on without some of it."""


def report_seconds(dedupe_minutes: int) -> float:
    """How old a record may be that is reported: any two reports of it are then duplicates for the processor.

    A replay of older records, and a sink that is further behind, report nothing.

    Args:
        dedupe_minutes: The setting streams.dedupe_minutes.
    """
    seconds = dedupe_minutes * 60.0
    return max(seconds - _BUCKETS, seconds / 3)


class Rehydration:
    """One record on the way to its content."""

    __slots__ = (
        "__weakref__",
        "_content",
        "_failures",
        "_fetches",
        "_is_reported",
        "_reported_until",
        "_until",
        "ahead",
        "record",
        "size",
    )

    def __init__(
        self,
        content: SinkContent,
        record: Enriched,
        fetches: list[tuple[ContentRef, Fetch]],
        failures: list[Failure],
        until: float,
        ahead: bool = False,
    ) -> None:
        self.ahead = ahead
        """Whether it was started before its turn."""
        self.record = record
        """The record; once `done`, with the content that came."""
        self.size = sum(ref.bytes for ref, _ in fetches)
        """Bytes of content that it waits for."""
        self._content, self._until = content, until
        self._fetches: list[tuple[ContentRef, Fetch]] | None = fetches
        self._failures = failures
        self._reported_until, self._is_reported = 0.0, False

    def done(self, now: float) -> bool:
        """Whether the record can go on: its content is here, or it does not come and that is reported."""
        fetches = self._fetches
        if fetches is not None:
            waiting = [fetch for _, fetch in fetches if not fetch.final]
            if waiting and now < self._until:
                for fetch in waiting:
                    self._content.again(fetch, now)
                return False
            self._fetches = None
            self.record, self._reported_until = self._content.finish(
                self.record, fetches, self._failures, self._reported, now
            )
        return self._is_reported or now >= self._reported_until

    def _reported(self) -> None:
        self._is_reported = True


class SinkContent:
    """Rehydrates the records of one sink."""

    def __init__(
        self,
        name: str,
        fetcher: ContentFetcher | None,
        paths: Collection[str],
        counted: Counted,
        report: Report | None = None,
        *,
        report_for: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            name: The sink's name, for messages.
            fetcher: Fetches the content; None: content.store is not set, and no content comes back.
            paths: The fields whose content the sink uses; as `refs.fetched_paths`.
            counted: Takes the outcome of each record that has references.
            report: Publishes the event `rehydration_failed`; None: failures are only counted, as in a replay.
            report_for: Seconds since a record was appended after which it is not reported any more.
            clock: Monotonic seconds.
            now: Unix seconds.
        """
        self._report_for = report_for
        self._name, self._fetcher, self._paths, self._counted = name, fetcher, paths, counted
        self._report, self._clock, self._now = report, clock, now
        self._held: weakref.WeakSet[Rehydration] = weakref.WeakSet()
        self._queue: dict[int, float] = {}
        """Partitions whose first record has found no room, in their order -> when they asked last."""
        self._unsaid = 0
        self._said_at: float | None = None

    def start(self, record: Enriched, now: float, room: int | None = None) -> Rehydration | None:
        """Starts to fetch what a record refers to. Never raises, and does not block.

        Args:
            record: A record whose event has `content_refs`, and which no filter leaves out.
            now: Monotonic seconds.
            room: Bytes of content that it may have, because it is not its turn; None: it is, so nothing else
                of its partition goes on before it.

        Returns:
            None if memory has no room for its content now. What it holds is freed with the last reference to
            it.
        """
        fetcher = self._fetcher
        most = sys.maxsize if fetcher is None else fetcher.most
        wanted, failures = refs.chosen(record.event, self._paths, most)
        if fetcher is None:
            failures += [Failure(ref, NOT_CONFIGURED) for ref in wanted]
            return Rehydration(self, record, [], failures, now)
        if not wanted:
            return Rehydration(self, record, [], failures, now)
        size = sum(ref.bytes for ref in wanted)
        if room is None:
            if not self._may_start(record.partition, size, now):
                return None
        elif size > room or self._held_bytes(ahead=True) + size > HELD_BYTES:
            return None
        until = fetcher.until(now)
        tenant_id = record.event.tenant_id
        fetches = [(ref, fetcher.fetch((tenant_id, ref.hash, ref.bytes), now, until)) for ref in wanted]
        started = Rehydration(self, record, fetches, failures, until, room is not None)
        self._held.add(started)
        return started

    def set_aside(self, started: Rehydration) -> None:
        """Does not count a record any more that waits for something else than its content."""
        self._held.discard(started)

    def _held_bytes(self, *, ahead: bool) -> int:
        return sum(found.size for found in self._held if found.ahead is ahead)

    def _may_start(self, partition: int, size: int, now: float) -> bool:
        """Whether the first record of a partition has room. Those that found none before come first."""
        for other, asked in tuple(self._queue.items()):
            if now - asked > ASKS_AGAIN:
                del self._queue[other]
        held = self._held_bytes(ahead=False)
        if next(iter(self._queue), partition) == partition and (not held or held + size <= HELD_BYTES):
            self._queue.pop(partition, None)
            return True
        self._queue[partition] = now
        return False

    def complete(self, record: Enriched, wait: Callable[[float], object] = time.sleep) -> Enriched:
        """The record with its content. Blocks until it is here or late; for `tailrace render`."""
        found = self.start(record, self._clock())
        assert found is not None, "nothing else is held"
        while not found.done(self._clock()):
            wait(0.005)
        return found.record

    def again(self, fetch: Fetch, now: float) -> None:
        """Repeats a request that had no answer, if it is time for that."""
        if self._fetcher is not None:
            self._fetcher.again(fetch, now)

    def finish(
        self,
        record: Enriched,
        fetches: list[tuple[ContentRef, Fetch]],
        failures: list[Failure],
        reported: Callable[[], None],
        now: float,
    ) -> tuple[Enriched, float]:
        """The record as it goes on, and until when it waits for its report. Counts and logs.

        Args:
            record: The record with references.
            fetches: What was fetched for it.
            failures: References that were not followed.
            reported: Called once the report is in Kafka.
            now: Monotonic seconds.
        """
        found: list[tuple[ContentRef, bytes]] = []
        for ref, fetch in fetches:
            data = fetch.data
            if data is not None:
                found.append((ref, data))
            elif self._fetcher is not None:
                reason = fetch.reason if fetch.final else None
                failures.append(Failure(ref, reason or self._fetcher.late(fetch)))
        if not found and not failures:  # the sink uses none of it
            return record, float("-inf")
        full, failed = refs.filled(record, found, failures)
        if not failed:
            self._counted(None)
            return full, float("-inf")
        self._counted(failed[0].reason)
        self._say(record, failed[0])
        at = self._now()
        if self._report is None or at - record.appended_at / 1000 > self._report_for:
            return full, float("-inf")
        self._report(refs.report(record.event, record.context, failed, int(at * 1_000_000)), reported)
        return full, now + REPORT_SECONDS

    def _say(self, record: Enriched, failure: Failure) -> None:
        """Logs the first failure, and then at most one a minute."""
        self._unsaid += 1
        now = self._clock()
        if self._said_at is not None and now - self._said_at < SAY_EVERY:
            return
        log.warning(
            "%s: %d records go on without content that they refer to, last %s[%d]@%d (event %s), %s: %s",
            self._name,
            self._unsaid,
            record.topic,
            record.partition,
            record.offset,
            record.event.event_id,
            failure.ref.field[:100],
            refs.REASONS[failure.reason],
        )
        self._said_at, self._unsaid = now, 0
