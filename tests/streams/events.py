"""Events and source records for the processor's tests, and hypothesis strategies over them."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.limits import StateLimits
from streams.processing.state import State
from tailrace import codec
from tailrace.identity import complete, kafka_key
from tailrace.records import DeadLetter, Kind, NodeExecution, TraceContext, TraceEvent, WorkflowRun

NOW = 1_763_700_000_000_000
"""Microseconds UTC of the first event."""
LIMITS = StateLimits(idle_ms=900_000, max_traces=1000, dedupe_ms=3_600_000)


class Source(NamedTuple):
    """A record as the consumer passes it on."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def uuid(n: int) -> str:
    return f"{n:08x}-0000-4000-8000-{n:012x}"


def event(kind: Kind = Kind.NODE_EXECUTION, n: int = 1, run: int = 1, **fields: Any) -> TraceEvent:
    """A completed event: node `n` of run `run`, or the run itself."""
    if kind == Kind.WORKFLOW_RUN:
        fields = {"workflow_run": WorkflowRun(workflow_id="w")} | fields
    elif kind == Kind.NODE_EXECUTION:
        fields = {"source_id": f"{uuid(run)}/{n}", "node_execution": NodeExecution(node_id=f"n{n}")} | fields
    base = {
        "started_at": NOW + n,
        "ended_at": NOW + n + 1000,
        "workflow_run_id": uuid(run),
        "tenant_id": "t",
        "app_id": "a",
    }
    return complete(msgspec.convert({"kind": kind, **base, **fields}, TraceEvent), NOW)


def record(e: TraceEvent, offset: int, timestamp: int = NOW // 1000) -> Source:
    return Source(offset, timestamp, (kafka_key(e) or "").encode(), codec.encode(e))


def records(events: list[TraceEvent], start: int = 0, step_ms: int = 0) -> list[Source]:
    return [record(e, start + i, NOW // 1000 + i * step_ms) for i, e in enumerate(events)]


def fresh(limits: StateLimits = LIMITS) -> State:
    state = State(limits)
    state.next_offset = 0
    return state


def processor(max_value: int = 2_000_000, keep: int = 1_000_000) -> EventProcessor:
    return EventProcessor("trace.events", 3, max_value, keep)


def apply(state: State, source: list[Source]) -> TransactionBatch:
    unit = TransactionBatch()
    processor().apply(state, source, unit)
    return unit


def contexts(unit: TransactionBatch) -> list[TraceContext]:
    return [codec.decode(context, TraceContext) for _, _, context in unit.outputs]


def dead_letters(unit: TransactionBatch) -> list[DeadLetter]:
    return [codec.decode(value, DeadLetter) for _, value in unit.dead_letters]


ids = st.integers(1, 5)
texts = st.none() | st.sampled_from(["", "u1", "ünï", "日本", "x" * 70])

some_events = st.lists(
    st.builds(
        event,
        kind=st.sampled_from([Kind.NODE_EXECUTION, Kind.WORKFLOW_RUN]),
        n=st.integers(1, 8),
        run=ids,
        user_id=texts,
        app_name=texts,
        parent_id=st.none() | st.sampled_from([f"{uuid(1)}/2", f"{uuid(2)}/1"]),
        root_run_id=st.none() | ids.map(uuid),
        parent_run_id=st.none() | ids.map(uuid),
        revision=st.integers(0, 2),
        error=texts,
        otel_trace_id=st.none() | st.sampled_from([b"T" * 16, b"U" * 16]),
        otel_parent_span_id=st.none() | st.just(b"P" * 8),
    ),
    max_size=30,
)
garbage = st.binary(max_size=40) | st.just(b"\xc3\x01" + bytes(8)) | st.none()
