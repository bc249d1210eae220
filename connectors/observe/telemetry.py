"""OpenTelemetry metrics of a process's sinks, and a span per batch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry.trace import Status, StatusCode, Tracer
from opentelemetry.util.types import Attributes

from connectors.delivery.observer import Delivery
from connectors.observe.instruments import Observable, instruments
from tailrace.observe import telemetry

SERVICE: Final = "tailrace-connect"
SCOPE: Final = "tailrace.connect"
EVERY: Final = 10
"""Of batches delivered at the first try, one in this many has a span; other batches always have one."""


class Telemetry(telemetry.Telemetry):
    """The telemetry of all sinks of a process, from its creation until `close`.

    Args:
        env: the environment, with OpenTelemetry's variables.
    """

    def __init__(self, runners: Sequence[Observable], instance_id: str, env: Mapping[str, str]) -> None:
        super().__init__(SERVICE, SCOPE, instance_id, env)
        every = 1 if env.get("OTEL_TRACES_SAMPLER") else EVERY
        for name, (on_request, on_delivery) in instruments(self.meter, runners).items():
            observer = next(r.observer for r in runners if r.name == name)
            observer.on_request = on_request
            observer.on_delivery = (
                on_delivery if self.tracer is None else spans(self.tracer, name, every, on_delivery)
            )


def spans(
    tracer: Tracer, sink: str, every: int, also: Callable[[Delivery], None]
) -> Callable[[Delivery], None]:
    """A listener that writes spans and calls `also`.

    Args:
        every: the number of uneventful batches per span.
    """
    turn = itertools.cycle([True] + [False] * (every - 1))

    def listener(d: Delivery) -> None:
        also(d)
        if d.attempts > 1 or d.rejected or next(turn):
            batch_span(tracer, sink, d)

    return listener


def batch_span(tracer: Tracer, sink: str, d: Delivery) -> None:
    """Writes the span of a batch whose records all have an outcome."""
    ended = time.time_ns()
    attributes: Attributes = {
        "tailrace.sink": sink,
        "tailrace.partition": d.partition,
        "tailrace.offset": d.offset,
        "tailrace.records": d.records,
        "tailrace.bytes": d.bytes,
        "tailrace.attempts": d.attempts,
        "tailrace.rejected": d.rejected,
        "tailrace.outcome": "rejected" if d.rejected else "delivered",
    }
    span = tracer.start_span("deliver", start_time=ended - int(d.seconds * 1e9), attributes=attributes)
    if d.rejected:
        span.set_status(Status(StatusCode.ERROR, f"{d.rejected} records rejected"))
    span.end(ended)
