"""The metrics of a process's sinks as OpenTelemetry instruments; docs/telemetry.md lists them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from connectors.consumer.status import Status, pause_class
from connectors.delivery.observer import Delivery, Observer, Request

PREFIX: Final = "tailrace.connect."
SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
RECORDS: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
BYTES: Final = (1e3, 1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7)


class Observable(Protocol):
    """What is read of a `SinkSupervisor`."""

    name: str
    observer: Observer

    def status(self) -> Status: ...
    def oldest(self) -> int | None: ...


Values = Iterable[tuple[float, Mapping[str, str]]]
"""Values and their labels, without `sink`."""


class Reading(NamedTuple):
    """One sink at the time of a scrape."""

    status: Status
    oldest: int | None
    """Append time of the first record without an outcome, milliseconds UTC."""
    batches: int
    now: float
    """Seconds since 1970."""


class Instrument(NamedTuple):
    """One instrument.

    Args:
        name: without the prefix.
        labels: without `sink`.
    """

    name: str
    unit: str
    description: str
    labels: tuple[str, ...]
    read: Callable[[Reading], Values]


def _one(value: float | None) -> Values:
    return () if value is None else ((value, {}),)


def _by_reason(values: Mapping[str, int]) -> Values:
    return [(n, {"reason": reason}) for reason, n in values.items()]


def _paused(reading: Reading) -> Values:
    paused = reading.status.paused
    return ((1, {"reason": pause_class(paused)}),) if paused else ((0, {}),)


def _age(reading: Reading) -> float:
    return 0.0 if reading.oldest is None else max(0.0, reading.now - reading.oldest / 1000)


COUNTERS: Final = (
    Instrument(
        "read", "{record}", "Records read from trace.enriched", (), lambda r: _one(r.status.counts.read)
    ),
    Instrument(
        "delivered",
        "{record}",
        "Records that the sink accepted",
        (),
        lambda r: _one(r.status.counts.delivered),
    ),
    Instrument(
        "filtered",
        "{record}",
        "Records left out by filters, by reason",
        ("reason",),
        lambda r: _by_reason(r.status.counts.filtered_by),
    ),
    Instrument(
        "dead_lettered",
        "{record}",
        "Records in trace.dead-letters, by reason",
        ("reason",),
        lambda r: _by_reason(r.status.counts.dead_lettered_by),
    ),
    Instrument(
        "rejected_unidentified",
        "{record}",
        "Delivered records that the sink reported as not stored, without naming them",
        (),
        lambda r: _one(r.status.counts.rejected_unidentified),
    ),
    Instrument(
        "retried",
        "{record}",
        "Repeated sends of records",
        (),
        lambda r: _one(r.status.counts.retried),
    ),
    Instrument(
        "lost",
        "{record}",
        "Sequence numbers that never arrived: lost records",
        (),
        lambda r: _one(r.status.counts.gaps),
    ),
    Instrument(
        "repeated",
        "{record}",
        "Records whose sequence number arrived before",
        (),
        lambda r: _one(r.status.counts.repeated),
    ),
    Instrument(
        "rehydrated",
        "{record}",
        "Records that got their content from the content store",
        (),
        lambda r: _one(r.status.counts.rehydrated),
    ),
    Instrument(
        "incomplete",
        "{record}",
        "Records sent on without content that they refer to, by reason",
        ("reason",),
        lambda r: _by_reason(r.status.counts.incomplete_by),
    ),
    Instrument("requests", "{request}", "Calls of send", (), lambda r: _one(r.status.requests)),
)
GAUGES: Final = (
    Instrument(
        "partitions",
        "{partition}",
        "Partitions that this process owns",
        (),
        lambda r: _one(r.status.partitions),
    ),
    Instrument(
        "in_flight",
        "{record}",
        "Records read, without an outcome yet",
        (),
        lambda r: _one(r.status.in_flight),
    ),
    Instrument("batches", "{batch}", "Batches in flight", (), lambda r: _one(r.batches)),
    Instrument(
        "retrying",
        "{batch}",
        "Batches in flight that wait for a retry",
        (),
        lambda r: _one(r.status.retrying),
    ),
    Instrument(
        "lag",
        "{offset}",
        "Offsets from the first record without an outcome to the end, over the partitions of this process",
        (),
        lambda r: _one(None if r.status.lag < 0 else r.status.lag),
    ),
    Instrument(
        "oldest_age",
        "s",
        "Age (by append time) of the oldest record that was read and has no outcome yet",
        (),
        lambda r: _one(_age(r)),
    ),
    Instrument(
        "paused", "1", "1 while the sink is paused, with the kind of reason, else 0", ("reason",), _paused
    ),
    Instrument(
        "up",
        "1",
        "1 while the sink runs, else 0: waiting, stopped, failed",
        (),
        lambda r: _one(int(r.status.state == "running")),
    ),
)
HISTOGRAMS: Final = {
    "request.duration": ("s", "Duration of a call of send, by its outcome", ("outcome",), SECONDS),
    "request.records": ("{record}", "Records in a request", (), RECORDS),
    "request.bytes": ("By", "Payload bytes in a request, before compression", (), BYTES),
    "batch.duration": (
        "s",
        "Time from a batch's first request until all its records have an outcome",
        (),
        SECONDS,
    ),
}


def instruments(
    meter: Meter, runners: Sequence[Observable], now: Callable[[], float] = time.time
) -> Mapping[str, tuple[Callable[[Request], None], Callable[[Delivery], None]]]:
    """Registers all instruments.

    Counts are those of this process since its start.

    Returns:
        Sink -> the hooks for a request and for a batch.
    """

    def observe(read: Callable[[Reading], Values]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(options: CallbackOptions) -> Iterator[Observation]:
            for runner in runners:
                reading = Reading(runner.status(), runner.oldest(), runner.observer.in_flight, now())
                for value, labels in read(reading):
                    yield Observation(value, {"sink": runner.name, **labels})

        return callback

    for i in COUNTERS:
        meter.create_observable_counter(PREFIX + i.name, [observe(i.read)], i.unit, i.description)
    for i in GAUGES:
        meter.create_observable_gauge(PREFIX + i.name, [observe(i.read)], i.unit, i.description)
    made = {
        name: meter.create_histogram(
            PREFIX + name, unit, description, explicit_bucket_boundaries_advisory=bounds
        )
        for name, (unit, description, _, bounds) in HISTOGRAMS.items()
    }

    def listeners(sink: str) -> tuple[Callable[[Request], None], Callable[[Delivery], None]]:
        own = {"sink": sink}

        def request(r: Request) -> None:
            made["request.duration"].record(r.seconds, {**own, "outcome": r.outcome})
            made["request.records"].record(r.records, own)
            made["request.bytes"].record(r.bytes, own)

        def delivery(d: Delivery) -> None:
            made["batch.duration"].record(d.seconds, own)

        return request, delivery

    return {runner.name: listeners(runner.name) for runner in runners}
