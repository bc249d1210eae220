"""A worker's OpenTelemetry metrics and traces.

/metrics is always served; OTLP/HTTP is used if OpenTelemetry's standard variables name an endpoint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Tracer
from opentelemetry.util.types import Attributes

from streams.observe.instruments import instruments
from streams.observe.observed import Commit, Observed, TakeOver
from tailrace.observe import telemetry

SERVICE: Final = "tailrace-streams"
SCOPE: Final = "tailrace.streams"


class Telemetry(telemetry.Telemetry):
    """The telemetry of one worker, from its creation until `close`.

    Args:
        env: the environment, with OpenTelemetry's variables.
    """

    def __init__(self, seen: Observed, instance_id: str, env: Mapping[str, str]) -> None:
        super().__init__(SERVICE, SCOPE, instance_id, env)
        commit, take_over = instruments(self.meter, seen)

        def on_commit(c: Commit) -> None:
            commit(c)
            if self.tracer is not None:
                commit_span(self.tracer, c)

        def on_take_over(t: TakeOver) -> None:
            take_over(t)
            if self.tracer is not None:
                take_over_span(self.tracer, t)

        seen.on_commit, seen.on_take_over = on_commit, on_take_over


def commit_span(tracer: Tracer, c: Commit) -> None:
    """Writes the span of a unit of work that has just been committed."""
    ended = time.time_ns()
    started = ended - int((c.producing + c.committing) * 1e9)
    attributes: Attributes = {
        "tailrace.partition": c.partition,
        "tailrace.records": c.records,
        "tailrace.produce_seconds": c.producing,
    }
    tracer.start_span("commit", start_time=started, attributes=attributes).end(ended)


def take_over_span(tracer: Tracer, t: TakeOver) -> None:
    """Writes the spans of a take-over that has just ended, and of its two parts."""
    ended = time.time_ns()
    began, fenced = (ended - int((t.ended - at) * 1e9) for at in (t.began, t.fenced))
    attributes: Attributes = {"tailrace.partitions": t.partitions, "tailrace.restored_records": t.restored}
    whole = tracer.start_span("take over", start_time=began, attributes=attributes)
    inside = trace.set_span_in_context(whole)
    tracer.start_span("fence", inside, start_time=began).end(fenced)
    tracer.start_span("restore", inside, start_time=fenced).end(ended)
    whole.end(ended)
