"""What the processor counted of the demo's events, from trace.metrics: `tailrace metrics` in small."""

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
    """Operations counted: one for each run and node."""
    return sum(row.count for row in rows if row.metric == "dify.requests.total")


def wait_for(settings: Settings, expected: int) -> list[MetricRow]:
    """The rows, once they count all events; after 15 s as they are."""
    pause, deadline = threading.Event(), time.monotonic() + PATIENCE
    while True:
        rows = fold(read(settings, Reading()))
        if requests(rows) >= expected or time.monotonic() > deadline:
            return rows
        pause.wait(0.3)


def lines(rows: list[MetricRow]) -> list[str]:
    """Durations of nodes by type, the five that took longest in all."""
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
    """Tokens of all workflow runs; the nodes' are in them."""
    return sum(
        row.sum
        for row in rows
        if row.metric == "dify.tokens.total" and row.labels["operation_type"] == "workflow"
    )
