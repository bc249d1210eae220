"""The processor without Kafka: enriches events as the owner of a single partition would."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

import msgspec

from streams.processing.apply import EventProcessor, TransactionBatch, learn
from streams.processing.correlate import link_of
from streams.processing.header import read
from streams.processing.limits import StateLimits
from streams.processing.state import State
from tailrace import codec
from tailrace.records import DeadLetter, TraceEvent

_HOUR: Final = 3_600_000
_LIMITS: Final = StateLimits(
    idle_ms=sys.maxsize, max_traces=sys.maxsize, dedupe_ms=_HOUR, link_bytes=sys.maxsize
)


class _Record(msgspec.Struct):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def enrich(events: Iterable[TraceEvent]) -> list[tuple[bytes, bytes] | DeadLetter | None]:
    """Enriches completed events, in order.

    Yields one result per event: value and context of its enriched record, the dead letter that it
    becomes, or None for a duplicate or a link. The append time of an event is its publication time.
    A link that the processor would write to the log counts from the next event on.
    """
    processor, state = EventProcessor("trace.events", 0, 1 << 30, 1 << 20), State(_LIMITS)
    found: list[tuple[bytes, bytes] | DeadLetter | None] = []
    for offset, event in enumerate(events):
        unit = TransactionBatch()
        processor.apply(
            state, [_Record(offset, (event.published_at or 0) // 1000, None, codec.encode(event))], unit
        )
        for _, value in unit.links:
            link = read(value)
            learn(state, link.source_id, link_of(link), offset)
        if unit.dead_letters:
            found.append(codec.decode(unit.dead_letters[0][1], DeadLetter))
        elif unit.outputs:
            value, _, context = unit.outputs[0]
            found.append((value, context))
        else:
            found.append(None)
    return found
