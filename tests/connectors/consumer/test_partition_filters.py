"""One partition without Kafka: what is admitted, mapped, filtered or dead-lettered, and its counts."""

from __future__ import annotations

from typing import Any

from connectors.consumer.dead_letters import DeadLetterRequest
from connectors.consumer.partition import SinkPartition
from connectors.consumer.reader import Reader
from connectors.consumer.status import SinkCounts
from connectors.delivery.batching import BatchLimits
from connectors.filters.record_filter import RecordFilter
from connectors.filters.settings import FilterSettings
from connectors.sdk.contract import Enriched, Payload, Skip
from tailrace import codec
from tailrace.ledger.sink_ledger import SinkLedger
from tailrace.records import Stage
from tailrace.topics import HEADER
from tests.connectors.enriching import make_context, make_event


class Mapping:
    """A sink that keeps the events that it maps."""

    def __init__(self) -> None:
        self.given: list[Enriched] = []

    def map(self, event: Enriched) -> Payload | Skip:
        self.given.append(event)
        return Skip("boring") if event.event.name == "boring" else Payload(b"x", 1)


def partition(admit: Any) -> tuple[SinkPartition, Mapping, SinkCounts, list[DeadLetterRequest]]:
    sink, counts = Mapping(), SinkCounts()
    dead_letters: list[DeadLetterRequest] = []
    found: Any = sink
    made = SinkPartition(
        "acme",
        "t",
        0,
        found,
        Reader(None),
        BatchLimits(),
        SinkLedger(),
        0,
        counts,
        dead_letters.append,
        admit=admit,
    )
    return made, sink, counts, dead_letters


def accept(to: SinkPartition, n: int, **changes: Any) -> None:
    event = make_event(n, **changes)
    headers: list[tuple[str, bytes | None]] = [(HEADER, codec.encode(make_context(event, n)))]
    to.accept(n, 1000 + n, b"k", codec.encode(event), headers, 0.0)


def test_what_is_filtered_is_counted_by_its_reason_once_it_is_acknowledged() -> None:
    rules = RecordFilter(FilterSettings(tenants=("!other",), content="none"))
    to, sink, counts, dead_letters = partition(rules.admit)
    accept(to, 0)
    accept(to, 1, tenant_id="other")
    accept(to, 2, name="boring")
    to.advance()
    assert (counts.filtered, counts.filtered_by) == (0, {}), "the first record is not acknowledged yet"
    assert to.offsets.oldest == 1000
    # Record 0 was mapped and waits to be sent: it gets an outcome as the batch sender would give it one.
    to.offsets._open[0].tally = to.offsets._open[1].tally
    to.advance()
    assert counts.filtered_by == {"tenant": 1, "boring": 1}
    assert (counts.read, len(to.offsets), len(dead_letters)) == (3, 0, 0)
    assert [e.event.inputs for e in sink.given] == [None, None]


def test_rules_that_fail_dead_letter_only_that_record() -> None:
    def fails(found: Enriched) -> Enriched:
        if found.offset == 1:
            raise ValueError(found.event.inputs)
        return found

    to, sink, counts, dead_letters = partition(fails)
    for n in range(3):
        accept(to, n)
    (dead_letter,) = dead_letters
    assert (dead_letter.stage, dead_letter.rejected.reason, dead_letter.source.offset) == (
        Stage.MAP,
        "map_failed",
        1,
    )
    assert "content" not in dead_letter.rejected.detail
    assert [e.offset for e in sink.given] == [0, 2]
    dead_letter.settle()
    # The two others wait to be sent; any outcome lets the prefix go on.
    for record in (to.offsets._open[0], to.offsets._open[2]):
        record.tally = to.offsets._open[1].tally
    to.advance()
    assert counts.dead_lettered_by == {"map_failed": 1}
