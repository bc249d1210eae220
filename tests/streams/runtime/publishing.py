"""Publishes runs for the tests that start workers."""

from __future__ import annotations

from tailrace import Publisher
from tailrace.records import Kind
from tests.harness.pipeline import Pipeline
from tests.streams.events import event


def publish(pipeline: Pipeline, runs: range, nodes: int = 5) -> int:
    """Publishes runs of `nodes` nodes, and waits for the acknowledgements. Returns the number of events."""
    with Publisher(settings=pipeline.settings) as publisher:
        for run in runs:
            for n in range(1, nodes + 1):
                publisher.publish(event(n=n, run=run))
            publisher.publish(event(Kind.WORKFLOW_RUN, run=run))
    assert publisher.counts.delivered == len(runs) * (nodes + 1)
    return publisher.counts.delivered
