"""What each backend has of a trace: how many operations, how many tokens, which cost. Pure functions.

Each reads what the backend stores, by the backend's own names, and adds it up as the backend does. A trace's
key is its OpenTelemetry trace id in hex, which the others' ids are made of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from connectors.testing.doubles.received import ReceivedSpan, latest
from tailrace.ids import otel_trace_id

_NONE: Final = Decimal(0)


class Held(msgspec.Struct):
    """What a backend has of one trace."""

    operations: int = 0
    tokens: int = 0
    cost: Decimal | None = None
    """US dollars. None: the backend's format has no place for it."""

    def add(self, tokens: Any, cost: Any = None) -> None:
        """Counts an operation, with the tokens and the cost that it has."""
        self.operations += 1
        self.tokens += tokens or 0
        if cost is not None:
            self.cost = (self.cost or _NONE) + Decimal(cost)


Traces = dict[str, Held]
"""Trace id -> what there is of it."""


def langfuse(state: Mapping[str, Any]) -> Traces:
    found: Traces = defaultdict(Held)
    for one in state["observations"]:
        found[one["trace_id"]].add(one["usage"].get("total"), one["cost"].get("total", _NONE))
    return dict(found)


def opik(state: Mapping[str, Any]) -> Traces:
    """Opik's ids are its own; the metadata have the trace's name, from which the others' ids are made.

    The traces of runs that never ended have spans only.
    """
    found: Traces = defaultdict(Held)
    for span in state["spans"]:
        trace = otel_trace_id(span["metadata"]["tailrace.trace_id"]).hex()
        found[trace].add(span.get("usage", {}).get("total_tokens"), span.get("total_estimated_cost", _NONE))
    return dict(found)


def weave(state: Mapping[str, Any]) -> Traces:
    """Weave adds up the usage in the summaries of calls. Their price is an attribute beside it."""
    found: Traces = defaultdict(Held)
    for call in state["calls"]:
        usage = call["summary"].get("usage", {})
        paid = _dollars(call["attributes"], "total_price", "currency") if usage else _NONE
        found[call["trace_id"].replace("-", "")].add(sum(u["total_tokens"] for u in usage.values()), paid)
    return dict(found)


def alibaba(state: Mapping[str, Any]) -> Traces:
    found: Traces = defaultdict(Held)
    for span in state["spans"]:
        has = span["attributes"]
        paid = _dollars(has, "dify.total_price", "dify.currency")
        found[span["trace_id"]].add(has.get("gen_ai.usage.total_tokens"), paid)
    return dict(found)


def otlp(spans: Iterable[ReceivedSpan]) -> Traces:
    """Here operations have the tokens of those in them, too; so those are added up that have none in them.

    OpenTelemetry's conventions have no attribute for a cost.
    """
    stored = latest(spans)
    around = {(trace, span.parent_span_id) for (trace, _), span in stored.items()}
    found: Traces = defaultdict(Held)
    for key, span in stored.items():
        used = None if key in around else span.attributes.get("gen_ai.usage.total_tokens")
        found[span.trace_id].add(used)
    return dict(found)


def _dollars(has: Mapping[str, Any], price: str, currency: str) -> Decimal:
    """A price that is in US dollars; else nothing, as for the backends that have no other currency."""
    return Decimal(has.get(price, 0)) if has.get(currency, "USD") == "USD" else _NONE


def different(held: Mapping[str, Traces]) -> Iterator[str]:
    """Where backends differ, in any trace, in operations, tokens or cost: a sentence a trace and backend.

    Args:
        held: Name of the backend -> what it has. Each is compared with the first, in cost if both have one.
    """
    (first, have), *others = held.items()
    for name, traces in others:
        for trace in sorted(have.keys() | traces.keys()):
            ours, theirs = have.get(trace, Held()), traces.get(trace, Held())
            costs = None not in (ours.cost, theirs.cost) and ours.cost != theirs.cost
            if (ours.operations, ours.tokens) != (theirs.operations, theirs.tokens) or costs:
                yield f"trace {trace}: {first} has {said(ours)}; {name} has {said(theirs)}"


def said(held: Held, unit: str = "operations") -> str:
    cost = "no cost" if held.cost is None else dollars(held.cost)
    return f"{held.operations} {unit}, {held.tokens} tokens, {cost}"


def dollars(cost: Decimal) -> str:
    """Exactly, without zeros at the end: $0.00149."""
    return f"${cost.normalize():f}"


def rows(trace: str, held: Mapping[str, Traces], names: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """A line a backend: what it has of one trace.

    Args:
        trace: Its id.
        held: Name of the backend -> what it has.
        names: Name of the backend -> its title, and what it calls an operation.
    """
    for name, traces in held.items():
        title, unit = names[name]
        has = traces.get(trace, Held())
        cost = "" if has.cost is None else dollars(has.cost)
        yield f"{title:<14}{has.operations:>4} {unit:<13}{has.tokens:>6} tokens  {cost}".rstrip()
