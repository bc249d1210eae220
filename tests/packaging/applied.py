"""The digest of a load that is processed with a take-over in the middle, for `test_forms` to compare.

python -m tests.packaging.applied 1 3000
"""

from __future__ import annotations

import hashlib
import sys

import msgspec

import streams.processing.apply
from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.limits import StateLimits
from streams.processing.state import State
from tailrace.identity import kafka_key
from tailrace.records import TraceEvent
from tests.harness import foreign
from tests.harness.mixed import mixed

NOW = 1_767_225_600_000_000
LIMITS = StateLimits(idle_ms=900_000, max_traces=200, dedupe_ms=3_600_000)


class Record(msgspec.Struct):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def odd(event: TraceEvent, number: int) -> TraceEvent:
    """The event as other producers write it: with empty texts, without ids, with odd times and prices."""
    if number % 3 == 0:
        event = foreign.emptied(event)
    if number % 11 == 0:
        event = msgspec.structs.replace(event, source_id="", event_id="", trace_id="")
    if number % 37 == 0:
        event = msgspec.structs.replace(event, started_at=event.started_at // 1000)
    if number % 13 == 0:
        event = msgspec.structs.replace(
            event, total_price=("0.0", "$1", ".5", "-1")[number % 4], currency="usd"
        )
    return event


def digest(seed: int, events: int) -> str:
    """SHA-256 of all outputs, dead letters, links, state records, rows, totals and summaries.

    The state moves to another owner half-way.
    """
    sha, state, processor = (
        hashlib.sha256(),
        State(LIMITS),
        EventProcessor("trace.events", 0, 1 << 20, 1 << 20),
    )
    log = [
        Record(i, NOW // 1000 + i, (k.encode() if (k := kafka_key(e)) else None), foreign.encode(odd(e, i)))
        for i, e in enumerate(mixed(seed, events, NOW))
    ]
    log[7::50] = [
        msgspec.structs.replace(r, value=(r.value or b"")[: 40 + r.offset % 90]) for r in log[7::50]
    ]
    kept: dict[bytes, bytes] = {}
    for at in range(0, len(log), 100):
        unit = TransactionBatch()
        processor.apply(state, log[at : at + 100], unit)
        closed = state.close(at % 300 == 0)
        parts = [
            unit.outputs,
            unit.dead_letters,
            unit.links,
            sorted(closed.state, key=repr),
            closed.summaries,
        ]
        sha.update(repr([*parts, sorted(closed.rows), sorted(closed.totals, key=repr)]).encode())
        for key, value in closed.state:
            if value is None:
                kept.pop(key, None)
                continue
            kept[key] = value
        if at == len(log) // 200 * 100:
            state = State(LIMITS)
            state.restore(dict(kept))
    return sha.hexdigest()


if __name__ == "__main__":
    print(streams.processing.apply.__file__, digest(int(sys.argv[1]), int(sys.argv[2])))
