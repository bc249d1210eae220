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
    classes_of,
    cut,
    duration,
    failed,
    parent_span_of,
    price_of,
    repeats,
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

    def root(self) -> Operation | None:
        for o in self.operations:
            if o.source_id == self.trace:
                return o
        spans = [o for o in self.operations if o.event.kind == Kind.SPAN and o.parent is None]
        return min(spans, key=lambda o: (o.event.started_at, o.source_id), default=None)

    def counting(self, has: Callable[[Operation], object]) -> list[Operation]:
        """The operations whose values add up: the root alone if it speaks for its trace and has one."""
        root = self.root()
        if root is not None and has(root) and speaks(root.event):
            return [root]
        return [o for o in self.operations if has(o) and not repeats(o.event)]

    def path(self) -> list[Operation]:
        found: list[Operation] = []
        at = self.root()
        while at is not None and at not in found:
            found.append(at)
            at = min(self.children(at), key=_slowest_first, default=None)
        return found


def speaks(root: TraceEvent) -> bool:
    """Whether what a root says of tokens and price is said of its trace."""
    return repeats(root) or (root.kind == Kind.MESSAGE and root.usage_repeats is None)


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

    counted = tree.counting(lambda o: o.tokens)
    parts = [o.tokens for o in counted if o.tokens]
    tokens = Tokens(*(sum(t[i] for t in parts) for i in range(3)))
    classes: Counter[str] = Counter()
    for o in counted:
        classes.update(classes_of(o.event) or {})

    prices = [o.price for o in tree.counting(lambda o: o.price) if o.price]
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
        cache_read_tokens=classes["cache_read"],
        cache_write_tokens=classes["cache_write"],
        reasoning_tokens=classes["reasoning"],
        input_audio_tokens=classes["input_audio"],
        input_image_tokens=classes["input_image"],
        output_audio_tokens=classes["output_audio"],
        output_image_tokens=classes["output_image"],
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
    event's root, or None for an event without a trace. The same trace id in two tenants is two traces;
    events without a tenant belong to the one that comes first in the log.
    """
    parts: dict[tuple[str, int, str | None], list[Logged]] = defaultdict(list)
    firsts: dict[tuple[str, int], str] = {}
    for logged in applied(log):
        trace, tenant = root_of(logged), logged.event.tenant_id
        if trace is None or logged.event.kind == Kind.EVALUATION:  # about the trace, no part of it
            continue
        if tenant is not None and firsts.setdefault((trace, logged.partition), tenant) == tenant:
            tenant = None
        parts[trace, logged.partition, tenant].append(logged)
    return {
        (trace, partition, part[0].offset): summary(
            trace, part, estimate, run_trace_id(trace, part) if run_trace_id else UNKNOWN_ID
        )
        for (trace, partition, _), part in parts.items()
    }


def same_cost(a: TraceSummary, b: TraceSummary) -> bool:
    """Whether two summaries have the same amounts in any spelling."""
    return {c: Decimal(v) for c, v in a.cost.items()} == {c: Decimal(v) for c, v in b.cost.items()}
