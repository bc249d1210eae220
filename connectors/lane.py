"""One partition of one sink, without Kafka and without HTTP: records in, batches out, verdicts back, a prefix to commit.

Used by the consumer's thread alone. At most one batch is under way, so records reach the sink in the partition's order,
retries and halves included.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

import msgspec

from connectors import redact
from connectors.admission import Admit, current
from connectors.batching import Buffer, Limits
from connectors.contract import Batch, Enriched, Item, Payload, Sink, Skip, Source
from connectors.delivery import Settled
from connectors.outcomes import Delivered, Filtered, Rejected
from connectors.progress import DEAD_LETTERED, DELIVERED, FILTERED, Progress, Ticket
from connectors.reading import Headers, Reader, Unreadable, source
from connectors.status import Counts
from tailrace.ledger import SinkLedger, Tally
from tailrace.records import Stage

log: Final = logging.getLogger("tailrace.connect")

WINDOW: Final = 10_000
"""Records of a partition that may be read and not settled; what is filtered behind a slow batch counts too."""


class Letter(msgspec.Struct, frozen=True):
    """A record to be dead-lettered."""

    stage: Stage
    source: Source
    rejected: Rejected
    attempts: int
    value: bytes | None
    """The record's bytes, where they could not be decoded."""
    settle: Callable[[], None]
    """To be called, in the consumer's thread, once the dead letter is durable."""


class Lane:
    """State of one partition that this process owns. bury: takes the letters of records that are given up. admit: what the sink
    gets of a record."""

    def __init__(
        self, name: str, topic: str, partition: int, sink: Sink, reader: Reader, limits: Limits, ledger: SinkLedger, start: int,
        counts: Counts, bury: Callable[[Letter], None], admit: Admit = current,
    ) -> None:  # fmt: skip
        self.name, self.topic, self.partition = name, topic, partition
        self.progress = Progress(ledger, start)
        self.committed: tuple[int, SinkLedger] | None = None
        """What the last commit said; None: nothing yet."""
        self.paused = False
        self.caught_up = False
        """Whether everything that was in the partition at some time since it was assigned has been read."""
        self._sink, self._reader, self._counts, self._bury, self._admit = sink, reader, counts, bury, admit
        self._buffer: Buffer[tuple[Item, Ticket]] = Buffer(limits)
        self._tickets: list[tuple[Item, Ticket]] = []
        self._sending: Future[list[Settled]] | None = None
        self._burying = 0
        self._limit = max(WINDOW, 2 * limits.max_records)

    # -- in
    def accept(
        self, offset: int, appended_at: int, key: bytes | None, value: bytes | None, headers: Headers, now: float
    ) -> None:
        """Decodes and maps one record. Never raises: what cannot be read or mapped is buried, alone."""
        self._counts.read += 1
        found = self._reader.read(self.topic, self.partition, offset, appended_at, value, headers)
        where = source(found.event, found.context, self.topic, self.partition, offset, appended_at, key)
        ticket = self.progress.read(offset, where.sequence, where.generation, appended_at)
        if isinstance(found, Unreadable):
            raw = value if found.event is None else None
            self._give_up(Stage.DECODE, where, Rejected(found.reason, found.detail), ticket, value=raw)
            return
        mapped = self._map(found)
        match mapped:
            case Payload():
                self._buffer.add((Item(mapped, where), ticket), mapped.size, now)
            case Skip():
                ticket.tally, ticket.reason = FILTERED, mapped.reason
            case Rejected():
                self._give_up(Stage.MAP, where, mapped, ticket)
            case _:
                self._give_up(
                    Stage.MAP, where, Rejected("map_failed", f"map returned {type(mapped).__name__}"), ticket
                )

    def _map(self, found: Enriched) -> Payload | Skip | Rejected:
        try:
            admitted = self._admit(found)
            return admitted if isinstance(admitted, Skip) else self._sink.map(admitted)
        except Exception as e:
            log.debug(
                "%s: map raised for %s[%d]@%d", self.name, self.topic, self.partition, found.offset, exc_info=True
            )
            return Rejected("map_failed", redact.where(e))

    def _give_up(
        self,
        stage: Stage,
        where: Source,
        rejected: Rejected,
        ticket: Ticket,
        *,
        attempts: int = 0,
        value: bytes | None = None,
    ) -> None:
        def settle() -> None:
            self._burying -= 1
            ticket.reason = rejected.reason
            ticket.tally = DEAD_LETTERED if attempts <= 1 else Tally(dead_lettered=1, retried=attempts - 1)

        self._burying += 1
        self._bury(Letter(stage, where, rejected, attempts, value, settle))

    # -- out
    def next_batch(self, now: float, *, drain: bool = False) -> Batch | None:
        """The batch to send now, if there is one; None while another is under way. drain: don't wait for age or size."""
        if self._sending is not None or not (self._buffer.due(now) or (drain and len(self._buffer))):
            return None
        self._tickets = self._buffer.take()
        return Batch(tuple(item for item, _ in self._tickets))

    def sent(self, future: Future[list[Settled]]) -> None:
        """`future` will know the fate of the batch that `next_batch` gave."""
        self._sending = future

    def collect(self) -> None:
        """Takes the fate of the batch under way, if it is known. Raises what ended the sending."""
        if self._sending is None or not self._sending.done():
            return
        future, self._sending = self._sending, None
        if future.cancelled():
            return
        settled: Sequence[Settled] = future.result()
        for (item, ticket), fate in zip(self._tickets, settled, strict=True):
            match fate.verdict:
                case Delivered():
                    ticket.tally = (
                        DELIVERED
                        if fate.attempts == 1 and not fate.unidentified
                        else Tally(
                            delivered=1, rejected_unidentified=int(fate.unidentified), retried=fate.attempts - 1
                        )
                    )
                case Filtered():
                    ticket.tally, ticket.reason = FILTERED, fate.verdict.reason
                case Rejected() as rejected:
                    self._give_up(Stage.SEND, item.source, rejected, ticket, attempts=fate.attempts)
        self._tickets = []

    def cancel(self) -> None:
        """Gives up the batch under way and what waits; nothing of it counts as settled."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        self._buffer.clear()

    # -- state
    def advance(self) -> None:
        """Moves the settled prefix; counts it, and reports gaps."""
        settled, gaps = self.progress.advance()
        self._counts.add(settled, self.progress.reasons)
        for gap in gaps:
            self._counts.gaps += gap.missing
            self._counts.repeated += gap.repeated
            what = (
                f"{gap.missing} records are lost"
                if gap.missing
                else f"{gap.repeated} records came before: sent, not counted again"
            )
            log.error(
                "%s: %s[%d]@%d has sequence number %s, expected %d (generation %d): %s", self.name, self.topic,
                self.partition, gap.offset, gap.got, gap.expected, gap.generation, what,
            )  # fmt: skip

    @property
    def full(self) -> bool:
        """Whether no more should be read for now: a batch is under way and another is complete, or too much is open."""
        return (self._sending is not None and self._buffer.full) or len(self.progress) >= self._limit

    @property
    def sending(self) -> bool:
        return self._sending is not None

    @property
    def answered(self) -> bool:
        """Whether `collect` has something to take."""
        return self._sending is not None and self._sending.done()

    @property
    def unsettled(self) -> bool:
        """Whether a batch is under way, or dead letters are."""
        return self._sending is not None or self._burying > 0

    @property
    def waiting(self) -> int:
        """Records that are mapped and not under way."""
        return len(self._buffer)

    @property
    def idle(self) -> bool:
        """Whether everything read is settled."""
        return len(self.progress) == 0

    def to_commit(self, position: int) -> tuple[int, SinkLedger] | None:
        """Offset and ledger to commit, if they differ from the last ones. position: the consumer's, or negative."""
        self.progress.pass_to(position)
        now = (self.progress.next_offset, self.progress.ledger)
        return now if now != self.committed else None
