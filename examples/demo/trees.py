"""Compares what the receiver holds with the recording, and draws one trace. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from connectors.testing.doubles.received import ReceivedSpan
from examples.recorded_runs.tree import Expected
from tailrace.ids import otel_span_id, otel_trace_id

Runs = Mapping[str, Mapping[str, Expected]]


class Comparison(msgspec.Struct, frozen=True):
    runs: int
    spans: int
    different: tuple[str, ...]
    """One sentence per difference; empty if every run arrived as recorded."""
    tokens: int
    """Tokens of all runs, as recorded."""


def compare(expected: Runs, spans: list[ReceivedSpan]) -> Comparison:
    """Compares every run's operations: parent, name, status and tokens.

    Nothing else may have arrived, and nothing twice.
    """
    got: dict[tuple[str, str], list[ReceivedSpan]] = defaultdict(list)
    for span in spans:
        got[span.trace_id, span.span_id].append(span)
    different = []
    wanted = set()
    for run_id, operations in expected.items():
        trace = otel_trace_id(run_id).hex()
        for source_id, op in operations.items():
            key = (trace, otel_span_id(source_id).hex())
            wanted.add(key)
            found = got.get(key, [])
            if len(found) != 1:
                different.append(f"run {run_id}: {op.name} ({source_id}) arrived {len(found)} times")
                continue
            different.extend(
                f"run {run_id}: {op.name} ({source_id}): {text}"
                for text in _differences(source_id, op, found[0])
            )
    different.extend(
        f"span {s} of trace {t} was not in the recording" for t, s in got if (t, s) not in wanted
    )
    tokens = sum(
        op.total_tokens for operations in expected.values() for op in operations.values() if op.parent is None
    )
    return Comparison(len(expected), len(spans), tuple(different), tokens)


def _differences(source_id: str, op: Expected, span: ReceivedSpan) -> Iterator[str]:
    parent = None if op.parent is None else otel_span_id(op.parent).hex()
    if span.parent_span_id != parent:
        yield f"parent is {span.parent_span_id}, recorded {parent}"
    kind = "workflow" if op.parent is None else "node"
    name = span.attributes.get("dify.app.name" if kind == "workflow" else "dify.node.title")
    if name != op.name:
        yield f"name is {name!r}, recorded {op.name!r}"
    status = span.attributes.get(f"dify.{kind}.status")
    if status != op.status:
        yield f"status is {status}, recorded {op.status}"
    tokens = span.attributes.get("gen_ai.usage.total_tokens", 0)
    if tokens != op.total_tokens:
        yield f"tokens are {tokens}, recorded {op.total_tokens}"


def most_telling(spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
    """The trace with the most levels, then with failures or retries, then of about 18 operations.

    The same one in any order of the spans.
    """
    traces: dict[str, list[ReceivedSpan]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)

    def interest(trace: list[ReceivedSpan]) -> tuple[int, bool, int, str]:
        parents = {s.span_id: s.parent_span_id for s in trace}

        def depth(span_id: str | None) -> int:
            n = 0
            while span_id is not None:
                span_id, n = parents.get(span_id), n + 1
            return n

        odd = any(s.status == "error" or s.attributes.get("tailrace.node.retry_count") for s in trace)
        levels = max(depth(s.span_id) for s in trace)
        return (levels, odd, -abs(len(trace) - 18), trace[0].trace_id)

    return max(traces.values(), key=interest)


def draw(spans: list[ReceivedSpan]) -> Iterator[str]:
    """One trace as the receiver got it, as a tree: name, kind, status, duration, tokens."""
    children: dict[str | None, list[ReceivedSpan]] = defaultdict(list)
    known = {s.span_id for s in spans}
    for span in sorted(spans, key=lambda s: (s.start_ns, -s.end_ns)):
        children[span.parent_span_id if span.parent_span_id in known else None].append(span)

    def branch(parent: str | None, indent: str) -> Iterator[str]:
        row = children[parent]
        for i, span in enumerate(row):
            last = i == len(row) - 1
            head = "" if parent is None else ("└─ " if last else "├─ ")
            yield f"{indent}{head}{label(span)}"
            yield from branch(span.span_id, indent + ("" if parent is None else ("   " if last else "│  ")))

    yield from branch(None, "")


def label(span: ReceivedSpan) -> str:
    a = span.attributes
    title = a.get("dify.node.title") or a.get("dify.app.name") or span.name
    kind = a.get("dify.node.type") or span.name
    status = a.get("dify.node.status") or a.get("dify.workflow.status") or ""
    parts = [f"{title}  [{kind}]", f"{(span.end_ns - span.start_ns) / 1e6:.1f} ms"]
    if a.get("gen_ai.usage.total_tokens"):
        parts.append(f"{a['gen_ai.usage.total_tokens']} tokens")
    if status and status != "succeeded":
        parts.append(str(status))
    if a.get("tailrace.node.retry_count"):
        parts.append(f"{a['tailrace.node.retry_count']} retries")
    return "  ".join(parts)
