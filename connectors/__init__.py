"""Sinks: from trace.enriched to the observability backends. What a sink's author needs is here; the rest is the runner's."""

from connectors.contract import Batch, Enriched, Health, Payload, SinkStopped, Skip, sink
from connectors.http import Http, NoAnswer, Response
from connectors.outcomes import Delivered, Filtered, Outcome, Outcomes, Paused, Rejected, Retry, Split

__all__ = [
    "Batch", "Delivered", "Enriched", "Filtered", "Health", "Http", "NoAnswer", "Outcome", "Outcomes", "Paused", "Payload",
    "Rejected", "Response", "Retry", "SinkStopped", "Skip", "Split", "sink",
]  # fmt: skip
