"""Enriched records without the processor.

Events and contexts are built here and written in transactions, as the processor writes them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from confluent_kafka import Producer

from tailrace import codec, ids
from tailrace.records import Kind, NodeExecution, ParentKind, TraceContext, TraceEvent
from tailrace.topics import HEADER

START = 1_767_225_600_000_000


def make_event(i: int, **changes: Any) -> TraceEvent:
    """Node execution `i`; ten events make a run."""
    run = f"run-{i // 10}"
    fields: dict[str, Any] = {
        "event_id": f"event-{i}",
        "kind": Kind.NODE_EXECUTION,
        "trace_id": run,
        "source_id": f"node-{i}",
        "tenant_id": "tenant",
        "app_id": "app",
        "workflow_run_id": run,
        "host_name": "host",
        "name": f"node {i}",
        "started_at": START + i,
        "ended_at": START + i + 1000,
        "published_at": START + i + 2000,
        "status": "succeeded",
        "node_type": "code",
        "node_execution": NodeExecution(node_id="n"),
        "inputs": '{"text": "content"}',
    }
    return TraceEvent(**{**fields, **changes})


def make_context(event: TraceEvent, sequence: int = 0, **changes: Any) -> TraceContext:
    run = event.workflow_run_id or event.trace_id or event.source_id or "none"
    fields: dict[str, Any] = {
        "generation": 0,
        "sequence": sequence,
        "source_offset": sequence,
        "appended_at": 0,
        "span_id": ids.otel_span_id(event.source_id or "none"),
        "parent_span_id": ids.otel_span_id(run),
        "parent_source_id": run,
        "parent_kind": ParentKind.RUN,
        "marks": (),
        "run_trace_id": ids.otel_trace_id(run),
        "message_trace_id": ids.otel_trace_id(run),
        "root_trace_id": event.trace_id,
        "trace_started_at": START,
    }
    return TraceContext(**{**fields, **changes})


class Raw(msgspec.Struct, frozen=True):
    """A record as it is in the topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Enricher:
    """Writes to trace.enriched with dense sequence numbers, a few records a transaction.

    Some transactions are aborted, so that the offsets have gaps.
    """

    def __init__(
        self, bootstrap: str, topic: str, partitions: int, *, seed: int = 1, per_transaction: int = 40
    ) -> None:
        self.sequences: dict[int, int] = defaultdict(int)
        self.written: list[TraceEvent] = []
        self._topic, self._partitions, self._per_transaction = topic, partitions, per_transaction
        self._random = random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": f"enricher-{topic}-{seed}",
                "linger.ms": 5,
            }
        )
        self._producer.init_transactions(30)

    def write(self, events: Sequence[TraceEvent], partition: int | None = None) -> list[TraceEvent]:
        """Event i of the call goes to partition i modulo their number, or all go to one partition."""
        n = self._per_transaction
        for at in range(0, len(events), n):
            part = events[at : at + n]
            if self._random.random() < 0.3:
                self._transaction(part, partition, at, commit=False)
            self._transaction(part, partition, at, commit=True)
        self.written += events
        return list(events)

    def write_raw(self, partition: int, records: Sequence[Raw]) -> None:
        self._producer.begin_transaction()
        for r in records:
            self._producer.produce(self._topic, r.value, r.key, partition, headers=r.headers)
        self._producer.commit_transaction(30)

    def raw(self, event: TraceEvent, sequence: int, **context: Any) -> Raw:
        headers = [(HEADER, codec.encode(make_context(event, sequence, **context)))]
        return Raw((event.trace_id or "").encode(), codec.encode(event), headers)

    def _transaction(
        self, events: Sequence[TraceEvent], partition: int | None, at: int, *, commit: bool
    ) -> None:
        before = dict(self.sequences)
        self._producer.begin_transaction()
        for i, event in enumerate(events, at):
            p = i % self._partitions if partition is None else partition
            r = self.raw(event, self.sequences[p])
            self.sequences[p] += 1
            self._producer.produce(self._topic, r.value, r.key, p, headers=r.headers)
        if commit:
            self._producer.commit_transaction(30)
        else:
            self._producer.flush(30)
            self._producer.abort_transaction(30)
            self.sequences = defaultdict(int, before)
