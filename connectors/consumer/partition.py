"""One partition of one sink: records in, batches out, results back, an offset to commit. No Kafka, no HTTP.

Only the consumer's thread uses it. At most one batch is in flight, so records reach the sink in the
partition's order, also when they are retried or halved.

Three kinds of records hold up those that follow: one whose schema is not known, until a time limit; one
whose content is stored elsewhere, until it is here or a time limit; and one that cannot be mapped while the
dead-letter limits forbid dead-lettering it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Final, NamedTuple

from connectors.consumer.dead_letters import DeadLetterRequest
from connectors.consumer.offset_tracker import (
    DEAD_LETTERED,
    DELIVERED,
    FILTERED,
    OffsetTracker,
    SubmittedRecord,
)
from connectors.consumer.reader import Headers, Reader, Unreadable, source
from connectors.consumer.status import SinkCounts
from connectors.content.fitting import fitted
from connectors.content.sink_content import Rehydration, SinkContent
from connectors.delivery.batching import BatchLimits, Buffer
from connectors.delivery.sub_batches import RecordResult
from connectors.filters.record_filter import Admit, current
from connectors.sdk import redact
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin, Sink, Skip
from connectors.sdk.outcomes import Delivered, Filtered, Rejected
from tailrace.codec import schemas
from tailrace.ledger.sink_ledger import SinkLedger, Tally
from tailrace.records import Stage
from tailrace.schema_registry.schema_wait import SchemaWaitPolicy, name_of

log: Final = logging.getLogger("tailrace.connect")

WINDOW: Final = 10_000
"""Most records of a partition that are read and not acknowledged, with filtered ones behind a slow batch."""


LOOK_AGAIN: Final = 0.25
"""Seconds between two attempts to take a record that holds up its partition."""


AHEAD: Final = 32
"""Most held records behind the first one whose content is fetched already."""
AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of their content and that of the first one. A first one with more has none fetched behind it."""


class _UndispatchedRecord(NamedTuple):
    """A record that was read and cannot be taken yet."""

    offset: int
    appended_at: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def _always(rejected: Rejected) -> bool:
    return True


class SinkPartition:
    """State of one partition that this process owns."""

    def __init__(
        self,
        name: str,
        topic: str,
        number: int,
        sink: Sink,
        reader: Reader,
        limits: BatchLimits,
        ledger: SinkLedger,
        start: int,
        counts: SinkCounts,
        dead_letter: Callable[[DeadLetterRequest], None],
        may_dead_letter: Callable[[Rejected], bool] = _always,
        waits: SchemaWaitPolicy | None = None,
        secrets: Sequence[str] = (),
        admit: Admit = current,
        content: SinkContent | None = None,
        cut_to: int = 0,
    ) -> None:
        """
        Args:
            name: The sink's name, for messages.
            topic: The topic.
            number: The partition.
            sink: Maps the records.
            reader: Decodes the records.
            limits: The bounds of a batch.
            ledger: The ledger at the committed offset.
            start: The committed offset.
            counts: The counts of all partitions of the sink.
            dead_letter: Takes the records that are given up.
            may_dead_letter: Whether a record that cannot be mapped may be dead-lettered now. If not, it is
                called again later.
            waits: Decides how long a record with an unknown schema waits; shared by the sink's partitions.
                None: nothing waits.
            secrets: Masked in what is logged or dead-lettered.
            admit: Filters the record and applies the content policy before it is mapped.
            content: Fetches content that is stored outside a record. None: records keep their references.
            cut_to: Bytes to which the payload of such a record is cut; 0: it is not cut.
        """
        self.name, self.topic, self.number = name, topic, number
        self.offsets = OffsetTracker(ledger, start)
        self.committed: tuple[int, SinkLedger] | None = None
        """Offset and ledger of the last commit; None: nothing was committed yet."""
        self.paused = False
        """Whether the consumer has paused the partition."""
        self.caught_up = False
        """Whether the partition's end was reached at some time since it was assigned."""
        self._sink, self._reader, self._counts = sink, reader, counts
        self._dead_letter, self._admit = dead_letter, admit
        self._may_dead_letter = may_dead_letter
        self._waits = waits or SchemaWaitPolicy(None, schemas.known.knows, 0.0)
        self._secrets = secrets
        self._held: deque[_UndispatchedRecord] = deque()
        self._look = 0.0  # when to try the first held record again
        self._content, self._cut_to = content, cut_to
        self._contents: dict[int, Rehydration] = {}  # by offset
        self._missing: Rehydration | None = None  # what the first held record waits for
        self._for_buffer = False  # whether its content is not fetched yet because the buffer is full
        self._ahead = -1  # last offset whose content was looked for
        self._look_ahead = 0.0  # when to look behind it again
        self._buffer: Buffer[tuple[Item, SubmittedRecord]] = Buffer(limits)
        self._records: list[tuple[Item, SubmittedRecord]] = []
        self._sending: Future[list[RecordResult]] | None = None
        self._dead_lettering = 0
        self._limit = max(WINDOW, 2 * limits.max_records)

    # -- in
    def accept(
        self,
        offset: int,
        appended_at: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        now: float,
    ) -> None:
        """Decodes and maps one record. Never raises: a record that cannot be read or mapped is dead-lettered.

        Args:
            offset: The record's offset.
            appended_at: Its append time, milliseconds UTC.
            key: Its key.
            value: Its value.
            headers: Its headers.
            now: Monotonic seconds.
        """
        self._counts.read += 1
        if self._held or not self._take(offset, appended_at, key, value, headers, now):
            self._held.append(_UndispatchedRecord(offset, appended_at, key, value, headers))

    def _take(
        self,
        offset: int,
        appended_at: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        now: float,
    ) -> bool:
        """Takes one record. False: it has to wait, and nothing was changed."""
        decoded = self._reader.read(self.topic, self.number, offset, appended_at, value, headers)
        mapped: Payload | Skip | Rejected | None = None
        if isinstance(decoded, Unreadable):
            if decoded.frame and self._wait(decoded.frame, offset, now):
                return False
        else:
            if decoded.event.content_refs and self._content is not None:
                filled = self._filled(decoded, offset, now)
                if filled is None:
                    return False
                mapped = self._map(filled, self._cut_to)
            else:
                mapped = self._map(decoded)
            if isinstance(mapped, Rejected) and not self._may_dead_letter(mapped):
                if self._content is not None and offset in self._contents:
                    self._content.set_aside(self._contents[offset])
                return False
        where = source(decoded.event, decoded.context, self.topic, self.number, offset, appended_at, key)
        if self._contents:
            self._contents.pop(offset, None)
        record = self.offsets.read(offset, where.sequence, where.generation, appended_at)
        if isinstance(decoded, Unreadable):
            raw = value if decoded.event is None else None
            self._give_up(Stage.DECODE, where, Rejected(decoded.reason, decoded.detail), record, value=raw)
            return True
        match mapped:
            case Payload():
                self._buffer.add((Item(mapped, where), record), mapped.size, now)
            case Skip():
                record.tally, record.reason = FILTERED, mapped.reason
            case Rejected():
                self._give_up(Stage.MAP, where, mapped, record)
        return True

    def _filled(self, decoded: Enriched, offset: int, now: float) -> Enriched | None:
        """The record with its content. None: it has to wait for that, or for room in memory or the buffer."""
        found = self._contents.get(offset)
        if found is None:
            if self._left_out(decoded):
                return decoded
            # nothing is fetched for a sink that takes nothing, so what is fetched is soon mapped
            self._for_buffer = self._buffer.full
            found = None if self._for_buffer else self._fetch(decoded, offset, now)
            if found is None:
                return None
        if not found.done(now) or self._buffer.full:
            self._missing = found
            return None
        return found.record

    def _left_out(self, decoded: Enriched) -> bool:
        """Whether a filter leaves the record out, so that nothing is fetched for it."""
        try:
            return isinstance(self._admit(decoded), Skip)
        except Exception:  # as `_map` will say
            return True

    def _fetch(
        self, decoded: Enriched, offset: int, now: float, room: int | None = None
    ) -> Rehydration | None:
        """Starts to fetch a record's content. None: memory has no room for it now."""
        assert self._content is not None
        found = self._content.start(decoded, now, room)
        if found is not None:
            self._contents[offset] = found
            self._ahead = max(self._ahead, offset)
        return found

    def _fetch_ahead(self, now: float) -> None:
        """Starts to fetch the content of the records behind the first held one, and to report failures."""
        size = 0
        for found in self._contents.values():
            size += found.size
            found.done(now)
        if now < self._look_ahead:
            return
        for held in islice(self._held, AHEAD):
            if size >= AHEAD_BYTES:
                return
            if held.offset <= self._ahead:
                continue
            decoded = self._reader.read(
                self.topic, self.number, held.offset, held.appended_at, held.value, held.headers
            )
            if isinstance(decoded, Unreadable) or not decoded.event.content_refs or self._left_out(decoded):
                self._ahead = held.offset
                continue
            started = self._fetch(decoded, held.offset, now, AHEAD_BYTES - size)
            if started is None:
                self._look_ahead = now + LOOK_AGAIN
                return
            size += started.size

    def _map(self, decoded: Enriched, cut_to: int = 0) -> Payload | Skip | Rejected:
        """Maps a record. Cuts its content until its payload has at most `cut_to` bytes; 0: cuts nothing."""
        try:
            admitted = self._admit(decoded)
            if isinstance(admitted, Skip):
                mapped: Payload | Skip | Rejected = admitted
            elif cut_to:  # after the masks, which may not know a secret of which a part is left
                mapped = fitted(admitted, self._sink.map, cut_to)[1]
            else:
                mapped = self._sink.map(admitted)
        except Exception as e:
            log.debug(
                "%s: map raised for %s[%d]@%d\n%s",
                self.name,
                self.topic,
                self.number,
                decoded.offset,
                redact.stack(e, self._secrets),
            )
            return Rejected("map_failed", redact.where(e))
        if isinstance(mapped, Payload):
            return mapped
        if isinstance(mapped, Skip | Rejected):
            return redact.hidden(mapped, self._secrets)
        return Rejected("map_failed", f"map returned {type(mapped).__name__}")

    def _wait(self, frame: bytes, offset: int, now: float) -> bool:
        """Whether a record waits for the schema that its frame names. Logs the first wait for a schema."""
        remembered = self._waits.remembers(frame)
        waits = self._waits.waits(frame, now)
        if waits and not remembered:
            log.warning(
                "%s: %s[%d]@%d has the unknown schema %s; its partition waits for it",
                self.name,
                self.topic,
                self.number,
                offset,
                name_of(frame),
            )
        return waits

    def look_again(self, now: float) -> None:
        """Takes the held records, as far as possible.

        At most once in `LOOK_AGAIN` seconds, unless the first one waits for its content or for room in the
        buffer: it is taken as soon as that is here, and fetched as soon as there is room.
        """
        if not self._held:
            return
        if self._missing is not None:
            self._fetch_ahead(now)
            if not self._missing.done(now) or self._buffer.full:
                return
            self._missing = None
        elif now < self._look and (self._buffer.full or not self._for_buffer):
            return
        self._for_buffer = False
        self._look = now + LOOK_AGAIN
        while self._held and self._take(*self._held[0], now):
            self._held.popleft()

    def _give_up(
        self,
        stage: Stage,
        where: RecordOrigin,
        rejected: Rejected,
        record: SubmittedRecord,
        *,
        attempts: int = 0,
        value: bytes | None = None,
    ) -> None:
        def settle() -> None:
            self._dead_lettering -= 1
            record.reason = rejected.reason
            record.tally = DEAD_LETTERED if attempts <= 1 else Tally(dead_lettered=1, retried=attempts - 1)

        self._dead_lettering += 1
        self._dead_letter(DeadLetterRequest(stage, where, rejected, attempts, value, settle))

    # -- out
    def next_batch(self, now: float, *, drain: bool = False) -> Batch | None:
        """The batch to send now; None if there is none, or while another is in flight.

        Args:
            now: Monotonic seconds.
            drain: Whether to send a batch that is neither full nor old enough.
        """
        if self._sending is not None or not (self._buffer.due(now) or (drain and len(self._buffer))):
            return None
        self._records = self._buffer.take()
        return Batch(tuple(item for item, _ in self._records))

    def sent(self, future: Future[list[RecordResult]]) -> None:
        """Records that the batch of `next_batch` is being sent; `future` will hold its results."""
        self._sending = future

    def collect(self) -> None:
        """Takes the results of the batch in flight, if it has ended. Raises the exception that ended it."""
        if self._sending is None or not self._sending.done():
            return
        future, self._sending = self._sending, None
        if future.cancelled():
            return
        results: Sequence[RecordResult] = future.result()
        for (item, record), result in zip(self._records, results, strict=True):
            match result.verdict:
                case Delivered():
                    record.tally = (
                        DELIVERED
                        if result.attempts == 1 and not result.unidentified
                        else Tally(
                            delivered=1,
                            rejected_unidentified=int(result.unidentified),
                            retried=result.attempts - 1,
                        )
                    )
                case Filtered():
                    record.tally, record.reason = FILTERED, result.verdict.reason
                case Rejected() as rejected:
                    self._give_up(Stage.SEND, item.source, rejected, record, attempts=result.attempts)
        self._records = []

    def cancel(self) -> None:
        """Cancels the batch in flight and drops waiting records. None of them counts as acknowledged."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        self._buffer.clear()  # held records stay: nothing may be committed past them

    # -- state
    def advance(self) -> None:
        """Moves the acknowledged prefix forward, counts it, and logs breaks in the sequence numbers."""
        tally, gaps = self.offsets.advance()
        self._counts.add(tally, self.offsets.reasons)
        for gap in gaps:
            self._counts.gaps += gap.missing
            self._counts.repeated += gap.repeated
            consequence = (
                f"{gap.missing} records are lost"
                if gap.missing
                else f"{gap.repeated} records came before: they are sent, but not counted again"
            )
            log.error(
                "%s: %s[%d]@%d has sequence number %s, expected %d (generation %d): %s",
                self.name,
                self.topic,
                self.number,
                gap.offset,
                gap.got,
                gap.expected,
                gap.generation,
                consequence,
            )

    @property
    def full(self) -> bool:
        """Whether reading should pause.

        It should if a record is held, if a full batch waits behind the one in flight, or if too many records
        are not acknowledged.
        """
        return (
            bool(self._held)
            or (self._sending is not None and self._buffer.full)
            or len(self.offsets) >= self._limit
        )

    @property
    def answered(self) -> bool:
        """Whether `collect` has results to take."""
        return self._sending is not None and self._sending.done()

    @property
    def in_flight(self) -> bool:
        """Whether a batch or a dead letter is in flight."""
        return self._sending is not None or self._dead_lettering > 0

    @property
    def dead_lettering(self) -> bool:
        """Whether dead letters are in flight."""
        return self._dead_lettering > 0

    @property
    def held(self) -> int:
        """Records that were read and cannot be taken yet. Nothing is committed past them."""
        return len(self._held)

    @property
    def fetching(self) -> bool:
        """Whether the first held record waits for its content."""
        return self._missing is not None

    @property
    def idle(self) -> bool:
        """Whether everything that was read is acknowledged."""
        return len(self.offsets) == 0 and not self._held

    def to_commit(self, position: int) -> tuple[int, SinkLedger] | None:
        """Offset and ledger to commit; None if they are those of the last commit.

        Args:
            position: The consumer's position in the partition; negative if it is not known.
        """
        if not self._held:
            self.offsets.pass_to(position)
        now = (self.offsets.next_offset, self.offsets.ledger)
        return now if now != self.committed else None
