"""A sink's counts of one partition, as text for the metadata of its committed offsets. Pure.

The counts cover exactly the records up to that offset and are committed with it atomically. So
`tailrace ledger` can check at any moment that nothing is missing: last - base = delivered + filtered +
dead-lettered - unnumbered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from tailrace.errors import DecodeError

VERSION: Final = 1
LIMIT: Final = 10**15
"""Numbers in the text are below this. At 100,000 records/s a partition reaches it after 300 years."""

NEW: Final = -1
"""Generation of a ledger that has not seen a numbered record yet."""


class Tally(msgspec.Struct, frozen=True):
    """The outcomes of some records.

    Each record is counted in exactly one of delivered, filtered and dead_lettered.
    """

    delivered: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    rejected_unidentified: int = 0
    """Part of delivered: records the sink did not store, without naming them (OTLP's partial success)."""
    retried: int = 0
    """Sends of records after their first one."""

    @property
    def total(self) -> int:
        return self.delivered + self.filtered + self.dead_lettered

    @staticmethod
    def sum(tallies: Iterable[Tally]) -> Tally:
        delivered = filtered = dead_lettered = rejected = retried = 0
        for t in tallies:
            delivered += t.delivered
            filtered += t.filtered
            dead_lettered += t.dead_lettered
            rejected += t.rejected_unidentified
            retried += t.retried
        return Tally(delivered, filtered, dead_lettered, rejected, retried)


class SinkLedger(msgspec.Struct, frozen=True):
    """Counts of one sink and partition within one generation, up to sequence number `last`, inclusive."""

    generation: int = NEW
    base: int = -1
    """Where counting began, exclusive: the first counted number is base + 1; -1 from the start."""
    last: int = -1
    """Last counted number, inclusive; equal to base if nothing is counted."""
    delivered: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    rejected_unidentified: int = 0
    """Part of delivered."""
    retried: int = 0
    gaps: int = 0
    """Numbers that never arrived: records lost before this sink. balanced() is False from then on."""
    repeated: int = 0
    """Records whose number was counted before: they were sent, and are not counted again."""
    unnumbered: int = 0
    """Part of delivered, filtered and dead_lettered: records without a readable sequence number."""

    def settle(self, tally: Tally, sequence: int | None = None, generation: int | None = None) -> SinkLedger:
        """The ledger after `tally.total` further records have their outcome.

        The records' numbers must be consecutive; the caller settles run by run. If the distance to
        `last` exceeds their count, there is a gap before them. A new generation starts a new ledger,
        whose first number should be 0.

        Args:
            tally: the outcomes.
            sequence: number of the last record. None: records without a readable number; they are
                counted, and `last` stays.
            generation: the generation of the numbers.
        """
        n = tally.total
        old = self
        if sequence is None:
            missing, sequence, unnumbered = 0, old.last, old.unnumbered + n
        else:
            if generation is not None and generation != old.generation:
                if old.generation == NEW:  # counting starts at the first number
                    start = sequence - n
                    old = msgspec.structs.replace(old, generation=generation, base=start, last=start)
                else:
                    old = SinkLedger(generation=generation)
            missing, unnumbered = sequence - old.last - n, old.unnumbered
        if missing < 0:
            return msgspec.structs.replace(old, repeated=old.repeated + n)
        return SinkLedger(
            old.generation,
            old.base,
            sequence,
            old.delivered + tally.delivered,
            old.filtered + tally.filtered,
            old.dead_lettered + tally.dead_lettered,
            old.rejected_unidentified + tally.rejected_unidentified,
            old.retried + tally.retried,
            old.gaps + missing,
            old.repeated,
            unnumbered,
        )

    def balanced(self) -> bool:
        """Whether every number from base to last is accounted for."""
        return self.last - self.base == self.delivered + self.filtered + self.dead_lettered - self.unnumbered

    def encode(self) -> str:
        """The metadata text, at most 201 characters.

        Example: ``tr1;g=0;b=-1;l=41;d=40;f=2;x=1;u=0;r=3;m=0;p=0;n=1``.
        """
        values = msgspec.structs.astuple(self)
        return f"tr{VERSION};" + ";".join(f"{k}={v}" for k, v in zip(_KEYS, values, strict=True))

    @classmethod
    def decode(cls, text: str | None) -> SinkLedger:
        """Parses what `encode` wrote.

        Raises:
            DecodeError: ``empty``, ``unknown_version`` (a newer writer) or ``malformed``.
        """
        if not text:
            raise DecodeError("empty", "the commit has no metadata")
        head = _HEAD.match(text)
        if head is None:
            raise DecodeError("malformed", "not a sink's ledger")
        if head[1] != str(VERSION):
            raise DecodeError("unknown_version", f"ledger version {head[1][:20]}, known is {VERSION}")
        found = _LAYOUT.fullmatch(text)
        if found is None:
            raise DecodeError("malformed", "not the layout of a sink's ledger")
        ledger = cls(*(int(v) for v in found.groups()))
        counts = msgspec.structs.astuple(ledger)[3:]
        if (
            min(counts) < 0
            or ledger.last < ledger.base
            or ledger.rejected_unidentified > ledger.delivered
            or ledger.unnumbered > ledger.delivered + ledger.filtered + ledger.dead_lettered
        ):
            raise DecodeError("malformed", "the counts cannot be true")
        return ledger


_KEYS: Final = ("g", "b", "l", "d", "f", "x", "u", "r", "m", "p", "n")
_HEAD: Final = re.compile(r"tr([0-9]+);", re.ASCII)
_LAYOUT: Final = re.compile("tr[0-9]+;" + ";".join(rf"{k}=(-?[0-9]{{1,15}})" for k in _KEYS), re.ASCII)
