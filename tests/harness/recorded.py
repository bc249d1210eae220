"""The 445 recorded runs, as sinks get them, without Kafka."""

from __future__ import annotations

import functools

from connectors.preview.offline import enriched
from connectors.sdk.contract import Enriched
from examples.recorded_runs.publish_runs import events
from tailrace.identity import complete

RECORDS = 4878
"""Events of the recorded runs: 442 runs that ended, and their node executions."""


@functools.cache
def recorded(fields: frozenset[str] | None) -> list[Enriched]:
    """The events of the recorded runs, as a sink that reads these fields is given them."""
    completed = [complete(event, event.ended_at or 0) for event in events()]
    found = [record for record in enriched(completed, fields) if isinstance(record, Enriched)]
    assert len(found) == len(completed) == RECORDS
    return found
