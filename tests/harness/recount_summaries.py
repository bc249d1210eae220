"""Summaries from docs/summaries.md: all events of a trace at once, walking its tree for each value."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeVar

from tailrace.records import Kind, SlowOperation, TraceEvent, TraceSummary
from tests.harness.recount_events import (
    Estimate,
    Logged,
    Price,
    applied,
    cut,
    duration,
    failed,
    parent_span_of,
    price_of,
    span_of,
)

Part = tuple[str, int, int]
"""Trace, partition, offset of the first event."""
RootOf = Callable[[Logged], str | None]
RunTraceId = Callable[[str, Sequence[Logged]], bytes]
T = TypeVar("T")
UNKNOWN_ID = bytes(16)
"""run_trace_id if `root_of` is not given."""


class Tokens(NamedTuple):
    input: int
    output: int
    total: int


class Operation(NamedTuple):
    """What counts of an operation: its highest revision."""

    event: TraceEvent
    span: bytes
    parent: bytes | None
    price: Price | None
    """Above 0, or None."""

    @property
    def source_id(self) -> str:
        return self.event.source_id or ""

    @property
    def slow(self) -> SlowOperation:
        return SlowOperation(source_id=self.source_id, name=self.event.name, duration=duration(self.event))

    @property
    def tokens(self) -> Tokens | None:
        """None if it has none."""
        e = self.event
        given, made, total = (max(n or 0, 0) for n in (e.input_tokens, e.output_tokens, e.total_tokens))
        found = Tokens(given, made, total or given + made)
        return found if any(found) else None


def _operation(versions: Sequence[TraceEvent], estimate: Estimate) -> Operation:
    event = max(versions, key=lambda e: e.revision)  # of equal revisions the first one
    price = price_of(event, estimate)
    return Operation(
        event, span_of(event), parent_span_of(event), price if price and price.amount > 0 else None
    )


class Tree:
    """The operations of a part of a trace."""

    def __init__(self, trace: str, operations: Sequence[Operation]) -> None:
        self.trace = trace
        self.operations = operations
        self._children: dict[bytes, list[Operation]] = defaultdict(list)
        for o in operations:
            if o.parent is not None and o.parent != o.span:
                self._children[o.parent].append(o)

    def children(self, of: Operation) -> list[Operation]:
        return self._children.get(of.span, [])

    def below(self, of: Operation) -> list[Operation]:
        """Children, their children, and so on. Each once, never the operation itself."""
        found: dict[bytes, Operation] = {}
        waiting = list(self.children(of))
        while waiting:
            o = waiting.pop()
            if o.span != of.span and o.span not in found:
                found[o.span] = o
                waiting += self.children(o)
        return list(found.values())

    def root(self) -> Operation | None:
        for o in self.operations:
            if o.source_id == self.trace:
                return o
        spans = [o for o in self.operations if o.event.kind == Kind.SPAN and o.parent is None]
        return min(spans, key=lambda o: (o.event.started_at, o.source_id), default=None)

    def counting(self, has: Callable[[Operation], object]) -> list[Operation]:
        """Operations that have a value while nothing below them has one."""
        return [o for o in self.operations if has(o) and not any(has(b) for b in self.below(o))]

    def path(self) -> list[Operation]:
        found: list[Operation] = []
        at = self.root()
        while at is not None and at not in found:
            found.append(at)
            at = min(self.children(at), key=_slowest_first, default=None)
        return found


def _slowest_first(o: Operation) -> tuple[int, str]:
    return -duration(o.event), o.source_id


def decimal_text(amount: int) -> str:
    """An amount in 1e-12 as decimal text."""
    whole, rest = divmod(amount, 10**12)
    return f"{whole}.{rest:012}".rstrip("0").rstrip(".")


def _first(values: Iterable[T | None]) -> T | None:
    return next((v for v in values if v is not None), None)


def _app_id(event: TraceEvent) -> str | None:
    if event.root_app_id is not None:
        return event.root_app_id
    return event.app_id if event.parent_run_id is None else None


def summary(
    trace: str, logged: Sequence[Logged], estimate: Estimate, run_trace_id: bytes = UNKNOWN_ID
) -> TraceSummary:
    """The summary of one part, from its applied events in the log's order. There is at least one."""
    events = [entry.event for entry in logged]
    versions: dict[bytes, list[TraceEvent]] = defaultdict(list)
    for e in events:
        versions[span_of(e)].append(e)
    operations = [_operation(v, estimate) for v in versions.values()]
    tree = Tree(trace, operations)
    root = tree.root()

    if root is not None and root.tokens is not None:
        tokens = root.tokens
    else:
        parts = [o.tokens for o in tree.counting(lambda o: o.tokens) if o.tokens]
        tokens = Tokens(*(sum(t[i] for t in parts) for i in range(3)))

    priced = [root] if root is not None and root.price else tree.counting(lambda o: o.price)
    prices = [o.price for o in priced if o.price]
    cost: Counter[str] = Counter()
    for price in prices:
        cost[price.currency] += price.amount

    errors = [o for o in operations if failed(o.event)]
    first_error = min(errors, key=lambda o: (o.event.ended_at, o.source_id), default=None)

    started_at = min(o.event.started_at for o in operations)
    ended_at = max(started_at, *(o.event.ended_at for o in operations))
    leaves = [o for o in operations if o is not root and not tree.children(o)]
    app_name = _first(e.app_name for e in events if e.parent_run_id is None)
    return TraceSummary(
        trace_id=trace,
        partition=logged[0].partition,
        part=logged[0].offset,
        revision=len(events),
        complete=root is not None,
        truncated=False,
        run_trace_id=run_trace_id,
        tenant_id=_first(e.tenant_id for e in events),
        app_id=_first(_app_id(e) for e in events),
        user_id=_first(e.user_id for e in events),
        session_id=_first(e.session_id for e in events),
        conversation_id=_first(e.conversation_id for e in events),
        name=app_name if root is None or not root.event.name else root.event.name,
        status=root.event.status if root else None,
        started_at=started_at,
        ended_at=ended_at,
        duration=duration(root.event) if root else ended_at - started_at,
        counts=dict(Counter(str(o.event.kind) for o in operations)),
        errors=len(errors),
        first_error=cut(first_error.event.error, 300) if first_error and first_error.event.error else None,
        first_error_source_id=first_error.source_id if first_error else None,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        total_tokens=tokens.total,
        cost={currency: decimal_text(amount) for currency, amount in cost.items()},
        cost_estimated=any(price.estimated for price in prices),
        slowest=[o.slow for o in sorted(leaves, key=_slowest_first)[:5]],
        slowest_path=[o.slow for o in tree.path()],
    )


def summaries(
    log: Iterable[Logged], *, root_of: RootOf, estimate: Estimate, run_trace_id: RunTraceId | None = None
) -> dict[Part, TraceSummary]:
    """What trace.summaries must say of a log.

    Nothing is evicted, and no trace has more than 10,000 operations. root_of: the trace id of an applied
    event's root, or None for an event without a trace.
    """
    parts: dict[tuple[str, int], list[Logged]] = defaultdict(list)
    for logged in applied(log):
        trace = root_of(logged)
        if trace is not None and logged.event.kind != Kind.EVALUATION:  # about the trace, no part of it
            parts[trace, logged.partition].append(logged)
    return {
        (trace, partition, part[0].offset): summary(
            trace, part, estimate, run_trace_id(trace, part) if run_trace_id else UNKNOWN_ID
        )
        for (trace, partition), part in parts.items()
    }


def same_cost(a: TraceSummary, b: TraceSummary) -> bool:
    """Whether two summaries have the same amounts in any spelling."""
    return {c: Decimal(v) for c, v in a.cost.items()} == {c: Decimal(v) for c, v in b.cost.items()}
