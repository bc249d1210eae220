"""What the processor must have counted and summed up, worked out from the log alone in another way.

It is written from docs/metrics.md, docs/summaries.md and the schemas, without the processor's code. It is
slow and plain.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tailrace.records import TraceSummary
from tests.harness.recount_events import Estimate, Logged, Normalise, as_read
from tests.harness.recount_metrics import Counted, Counts, Row, Series, metrics
from tests.harness.recount_summaries import Part, RootOf, RunTraceId, summaries

__all__ = [
    "Counted",
    "Counts",
    "Logged",
    "Part",
    "Recount",
    "Row",
    "Series",
    "metrics",
    "recount",
    "summaries",
]


class Recount(NamedTuple):
    """What trace.metrics, trace.totals, trace.summaries and the partitions' positions must say."""

    rows: dict[Row, Counted]
    totals: dict[Series, Counted]
    counts: dict[int, Counts]
    summaries: dict[Part, TraceSummary]


def recount(
    log: Iterable[Logged],
    *,
    root_of: RootOf,
    estimate: Estimate,
    normalise: Normalise,
    horizon_hours: int = 192,
    run_trace_id: RunTraceId | None = None,
) -> Recount:
    """Recounts a log: all records of each partition in order, with duplicates and links."""
    records = [logged._replace(event=as_read(logged.event)) for logged in log]
    m = metrics(records, estimate=estimate, normalise=normalise, horizon_hours=horizon_hours)
    return Recount(
        m.rows,
        m.totals,
        m.counts,
        summaries(records, root_of=root_of, estimate=estimate, run_trace_id=run_trace_id),
    )
