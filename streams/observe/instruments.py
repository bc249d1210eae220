"""A worker's metrics as OpenTelemetry instruments; docs/telemetry.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from streams.observe.observed import COUNTS, SIZES, Commit, Observed, TakeOver

PREFIX: Final = "tailrace.streams."
SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
RECORDS: Final = (1.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 1e6)

_UNITS: Final = {
    "evicted": "{trace}",
    "units": "{unit}",
    "open_traces": "{trace}",
    "remembered_events": "{event}",
    "remembered_links": "{link}",
    "remembered_starts": "{trace}",
    "split_runs": "{run}",
    "forgotten_starts": "{trace}",
    "forgotten_links": "{link}",
    "restored_bytes": "By",
    "written_bytes": "By",
    "metric_groups": "{group}",
    "metric_rows": "{row}",
}
"""Units of counts and sizes; the default is records."""
_MEANINGS: Final = {
    "events_in": "Records of trace.events that were applied",
    "enriched": "Records written to trace.enriched",
    "links": "Link records applied",
    "duplicates": "Duplicate events, dropped",
    "dead_lettered": "Records that could not be read or applied",
    "evicted": "Traces that left the state",
    "units": "Units of work, one transaction each",
    "corrections": "Events with a revision above 0, which no metric counts",
    "skewed": "Events that start more than an hour after their append time, in no minute row",
    "late": "Events whose minute was closed, in no minute row",
    "overflowed": "Events counted as __overflow__, because of too many label values",
    "summaries": "Trace summaries written",
    "restored_records": "Live records of trace.state at the last take-over",
    "restored_bytes": "Bytes of their keys and values",
    "written_bytes": "Bytes of keys and values written to trace.state since the take-over",
    "metric_groups": "Combinations of label values that are counted separately",
    "metric_rows": "Open minutes of these combinations",
    "open_traces": "Traces in the state",
    "remembered_events": "Event ids kept to find duplicates",
    "remembered_links": "Runs whose root is known by a link",
    "remembered_starts": "Traces that have left the state and whose start is known",
    "split_runs": "Runs whose first events came before their link and named no caller",
    "forgotten_starts": "Traces whose start was dropped (streams.remembered_start_bytes)",
    "forgotten_links": "Links that were dropped (streams.remembered_link_bytes)",
}


def unit(name: str) -> str:
    """The unit of one of `COUNTS` or `SIZES`."""
    return _UNITS.get(name, "{record}")


Read = Callable[[Observed, int], float | None]


class Gauge(NamedTuple):
    """A gauge by partition.

    Args:
        name: without the prefix.
        read: the value for an owned partition, or None.
    """

    name: str
    unit: str
    description: str
    read: Read


GAUGES: Final = (
    Gauge("next_offset", "{offset}", "Committed position in trace.events", lambda o, n: o.position(n)),
    Gauge(
        "end_offset",
        "{offset}",
        "End of the log of trace.events",
        lambda o, n: None if (e := o.ends.get(n)) is None else e.high,
    ),
    Gauge(
        "lag",
        "{offset}",
        "Offsets from the committed position to the last stable offset; 0 if there is no record between them",
        lambda o, n: o.lags.get(n),
    ),
    Gauge(
        "unstable",
        "{offset}",
        "Offsets of open transactions, after the last stable offset; does not fall if a transaction hangs",
        lambda o, n: None if (e := o.ends.get(n)) is None else e.high - e.stable,
    ),
)
"""Gauges by partition, without those of the state's sizes."""
OF_WORKER: Final = (
    ("owned_partitions", "{partition}", "Partitions that the worker owns", lambda o: len(o.owned())),
    ("loop_silence", "s", "Seconds since the event loop last ran", Observed.loop_silent),
    ("ready", "1", "1 if /readyz answers 200, else 0", lambda o: int(_ready(o))),
)
HISTOGRAMS: Final = {
    "commit.produce": ("s", "Time until a unit's records were acknowledged", SECONDS),
    "commit.commit": ("s", "Time to commit its transaction", SECONDS),
    "commit.records": ("{record}", "Records of trace.events in a unit", RECORDS),
    "take_over.fence": ("s", "Time until the former owner was fenced", SECONDS),
    "take_over.restore": ("s", "Time to read and restore the state", SECONDS),
    "take_over.records": ("{record}", "Records of trace.state read for a take-over", RECORDS),
}


def _ready(seen: Observed) -> bool:
    from streams.observe.health import unready

    return not unready(seen)


def _by_partition(seen: Observed, read: Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterator[Observation]:
        for n in seen.owned():
            value = read(seen, n)
            if value is not None:
                yield Observation(value, {"partition": n})

    return observe


def _count(name: str) -> Read:
    return lambda seen, n: seen.count(n, name)


def _size(name: str) -> Read:
    return lambda seen, n: seen.size(n, name)


def _of_worker(
    seen: Observed, read: Callable[[Observed], float]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda options: [Observation(read(seen))]


def instruments(meter: Meter, seen: Observed) -> tuple[Callable[[Commit], None], Callable[[TakeOver], None]]:
    """Registers all instruments; returns the hooks for a committed unit and for a take-over.

    Counts come from the partition's state: they continue where a former owner stopped, and a
    partition's series belong to its owner.
    """
    for name in COUNTS:
        meter.create_observable_counter(
            PREFIX + name,
            [_by_partition(seen, _count(name))],
            unit(name),
            _MEANINGS.get(name, f"{name}, of the partition's position"),
        )
    for name in SIZES:
        meter.create_observable_gauge(
            PREFIX + name,
            [_by_partition(seen, _size(name))],
            unit(name),
            _MEANINGS.get(name, f"{name}, of the partition's state"),
        )
    for gauge in GAUGES:
        meter.create_observable_gauge(
            PREFIX + gauge.name, [_by_partition(seen, gauge.read)], gauge.unit, gauge.description
        )
    for name, of, description, one in OF_WORKER:
        meter.create_observable_gauge(PREFIX + name, [_of_worker(seen, one)], of, description)
    made = {
        name: meter.create_histogram(
            PREFIX + name, of, description, explicit_bucket_boundaries_advisory=bounds
        )
        for name, (of, description, bounds) in HISTOGRAMS.items()
    }

    def commit(c: Commit) -> None:
        made["commit.produce"].record(c.producing)
        made["commit.commit"].record(c.committing)
        made["commit.records"].record(c.records)

    def take_over(t: TakeOver) -> None:
        made["take_over.fence"].record(t.fenced - t.began)
        made["take_over.restore"].record(t.ended - t.fenced)
        made["take_over.records"].record(t.restored)

    return commit, take_over
