"""What the processor counted of the demo's events, read from trace.metrics as `tailrace metrics` does."""

from __future__ import annotations

import threading
import time
from typing import Final

from tailrace.commands.metrics.formatting import duration, table
from tailrace.metrics.rows import Reading, read
from tailrace.metrics.windows import Cell, fold
from tailrace.records import MetricRow
from tailrace.settings import Settings

PATIENCE: Final = 15.0


def requests(rows: list[MetricRow]) -> int:
    """Counted operations: one for each run and node."""
    return sum(row.count for row in rows if row.metric == "dify.requests.total")


def wait_for(settings: Settings, expected: int) -> list[MetricRow]:
    """Waits until the rows count all events, at most 15 s; returns them."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE
    while True:
        rows = fold(read(settings, Reading()))
        if requests(rows) >= expected or time.monotonic() > deadline:
            return rows
        pause.wait(0.3)


def lines(rows: list[MetricRow]) -> list[str]:
    """Durations of nodes by type: the five types with the largest total."""
    cells: dict[str, Cell] = {}
    for row in rows:
        if row.metric == "dify.node.duration":
            kind = row.labels["node_type"]
            cells[kind] = cells[kind].merged(Cell.of(row)) if kind in cells else Cell.of(row)
    found = sorted(cells.items(), key=lambda item: -item[1].sum)[:5]
    return table(
        ("dify.node.duration", "count", "sum", "p50", "p95"),
        [
            (kind, f"{c.count:,}", duration(c.sum), *(duration(c.quantile(q) or 0) for q in (0.5, 0.95)))
            for kind, c in found
        ],
        left=(0,),
    )


def tokens(rows: list[MetricRow]) -> int:
    """Tokens of all workflow runs, which include those of their nodes."""
    return sum(
        row.sum
        for row in rows
        if row.metric == "dify.tokens.total" and row.labels["operation_type"] == "workflow"
    )
