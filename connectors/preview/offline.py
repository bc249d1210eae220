"""Enriched records without Kafka, as a sink gets them: for `tailrace render` and golden tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Final

from connectors.consumer.reader import Reader, Unreadable
from connectors.sdk.contract import Enriched
from tailrace.errors import MissingPackage
from tailrace.records import DeadLetter, TraceEvent
from tailrace.topics import HEADER

GROUP: Final = "tailrace.processors"
Processed = Sequence[tuple[bytes, bytes] | DeadLetter | None]


def processor() -> Callable[[Iterable[TraceEvent]], Processed]:
    """The installed processor, as a function. Raises `MissingPackage`."""
    found = next(iter(entry_points(group=GROUP)), None)
    try:
        if found is None:
            raise ModuleNotFoundError(name="streams")
        process: Callable[[Iterable[TraceEvent]], Processed] = found.load()
    except ModuleNotFoundError as e:
        raise MissingPackage(
            f"enriching events needs the package {e.name}: pip install 'tailrace[streams]'"
        ) from None
    return process


def enriched(
    events: Iterable[TraceEvent], fields: Iterable[str] | None = None
) -> list[Enriched | DeadLetter | None]:
    """Enriches completed events, in order.

    Yields per event: the record that a sink with these `fields` would map (topic trace.enriched,
    partition 0), the dead letter that it becomes, or None for a duplicate or a link. Raises
    `MissingPackage`.
    """
    reader, offset = Reader(fields), 0
    out: list[Enriched | DeadLetter | None] = []
    for processed in processor()(events):
        if not isinstance(processed, tuple):
            out.append(processed)
            continue
        value, context = processed
        read = reader.read("trace.enriched", 0, offset, 0, value, [(HEADER, context)])
        assert not isinstance(read, Unreadable), read
        out.append(read)
        offset += 1
    return out
