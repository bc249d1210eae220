"""One event and more of every kind, written out in events.json, and what the processor makes of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path

from connectors.preview.offline import enriched
from connectors.sdk.contract import Enriched
from tailrace.event_lines import parse
from tailrace.identity import complete
from tailrace.records import TraceEvent

FILE = Path(__file__).with_name("events.json")


@functools.cache
def completed() -> dict[str, TraceEvent]:
    """Name -> event, as the publisher completes it."""
    found = {name: parse(json.dumps(event).encode()) for name, event in json.loads(FILE.read_text()).items()}
    return {name: complete(event, event.published_at or 0) for name, event in found.items()}


def golden(fields: Iterable[str] | None = None) -> dict[str, Enriched]:
    """Name -> record as a sink that reads `fields` is given it."""
    events = completed()
    found = enriched(events.values(), fields)
    records = dict(zip(events, found, strict=True))
    assert all(isinstance(r, Enriched) for r in records.values()), records
    return {name: r for name, r in records.items() if isinstance(r, Enriched)}
