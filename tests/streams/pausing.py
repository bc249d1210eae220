"""A log whose traces pause for long, and whose owner dies after every record."""

from __future__ import annotations

from typing import Any

from connectors.sdk.contract import Enriched
from streams.processing.limits import StateLimits
from streams.processing.state import State
from tailrace import codec
from tailrace.records import Feedback, Kind, Message, TraceContext, TraceEvent
from tests.streams.events import LIMITS, NOW, Source, apply, event, record, uuid

MINUTE = 60_000
WEEK = 7 * 24 * 60 * MINUTE
M = uuid(9)


class Log:
    """One partition. Its owner dies after every record, and another one takes over."""

    def __init__(self, limits: StateLimits = LIMITS) -> None:
        self.limits = limits
        self.state = State(limits)
        self.state.next_offset = 0
        self.records: list[tuple[bytes, bytes | None]] = []
        self.clock = NOW // 1000
        self.offset = 0
        self.found: list[Enriched] = []

    def append(self, e: TraceEvent, after: int = 0) -> TraceContext:
        """The context of an event that is appended `after` milliseconds after the one before."""
        if after:
            self.pass_time(after)
        found = self.put(record(e, self.offset, self.clock))
        self.found.append(found)
        return found.context

    def put(self, source: Source) -> Enriched:
        unit = apply(self.state, [source])
        assert not unit.dead_letters
        ((value, _, header),) = unit.outputs
        self.offset += 1
        self.restart()
        of, context = codec.decode(value, TraceEvent), codec.decode(header, TraceContext)
        return Enriched(of, context, "trace.enriched", 0, source.offset, source.timestamp)

    def restart(self) -> None:
        self.records += self.state.close(flush=True).state
        self.state = State(self.limits)
        self.state.restore(self.records)

    def pass_time(self, ms: int) -> None:
        """Two events of another trace, so that the clock moves and idle traces leave."""
        self.clock += ms
        run = 1_000_000 + self.offset
        for n in (1, 2):
            self.put(record(event(n=n, run=run), self.offset, self.clock))


def of_turn(**fields: Any) -> dict[str, Any]:
    return {"message_id": M, "run": 1} | fields


def message(**fields: Any) -> TraceEvent:
    return event(
        Kind.MESSAGE,
        message_id=M,
        workflow_run_id=None,
        started_at=NOW,
        message=Message(query="hi"),
        **fields,
    )


def rating(at: int, **fields: Any) -> TraceEvent:
    """A rating of the message, as Dify sends it: it has only the message."""
    about: dict[str, Any] = {"started_at": at, "ended_at": at, "rating": "like", "workflow_run_id": None}
    return event(
        Kind.FEEDBACK,
        source_id=f"rating-{at}",
        message_id=M,
        feedback=Feedback(feedback_id="f"),
        **about | fields,
    )
