"""Lines through the format `dify`, as `tailrace publish` and `tailrace render` take them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingress.dify import DifyLines
from tailrace import codec
from tailrace.formats import Converted
from tailrace.identity import complete
from tailrace.records import TraceEvent
from tests.ingress.dify.samples import Line, raw

NOW = 1_772_370_000_000_000


def converted(lines: Iterable[Line | bytes], adapter: DifyLines | None = None, **how: Any) -> list[Converted]:
    """What the format says about these lines; `where` is the line's number."""
    made = adapter or DifyLines(clock=lambda: NOW, **how)
    found: list[Converted] = []
    for number, line in enumerate(lines, 1):
        found += made.line(str(number), line if isinstance(line, bytes) else raw(line))
    return [*found, *made.end()]


def published(found: Iterable[Converted]) -> list[TraceEvent]:
    """The events as they are published. Refused lines are a failure."""
    events = []
    for one in found:
        assert one.event is not None, (one.where, one.problem)
        event = complete(one.event, NOW)
        codec.encode(event)
        events.append(event)
    return events


def events(lines: Iterable[Line | bytes], adapter: DifyLines | None = None, **how: Any) -> list[TraceEvent]:
    """The events of these lines, as they are published."""
    return published(converted(lines, adapter, **how))


def by_id(found: Iterable[TraceEvent]) -> dict[str, TraceEvent]:
    """source_id -> event."""
    made = list(found)
    named = {event.source_id or "": event for event in made}
    assert len(named) == len(made)
    return named


def notes(found: Iterable[Converted], where: str) -> set[tuple[str, str]]:
    """what and field of the notes on a line."""
    return {(note.what, note.field) for one in found if one.where == where for note in one.notes}
