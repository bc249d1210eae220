"""trace.metrics, trace.totals and trace.summaries in the recount's shapes, and a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import asdict

from tailrace.codec import decode, decode_versioned
from tailrace.errors import DecodeError
from tailrace.metrics.row_period import ROW_PERIOD_US
from tailrace.records import MetricRow, MetricTotal, PartitionPosition, TraceEvent, TraceSummary
from tailrace.topics import TopicNames
from tests.harness.enriched import read
from tests.harness.recount import Counted, Counts, Part, Recount, Row, Series
from tests.harness.recount_events import Logged
from tests.harness.recount_summaries import UNKNOWN_ID, same_cost

MOST: Final = 20
"""Differences that are listed of each kind."""

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R", MetricRow, MetricTotal, TraceSummary)


class Kept(NamedTuple):
    """The last record of every key."""

    rows: dict[Row, Counted]
    totals: dict[Series, Counted]
    summaries: dict[Part, TraceSummary]
    counts: dict[int, Counts]
    """From the positions in trace.state. Empty: they were not read."""
    problems: list[str]
    """Keys that contradict their record, and different keys of the same thing."""


# -- reading
class Record(NamedTuple):
    """A committed record, as far as it is needed here."""

    partition: int
    key: bytes
    value: bytes | None


def read_records(bootstrap: str, topic: str, *, timeout: float = 60.0) -> list[Record]:
    """A topic up to its end, read committed.

    Raises KafkaException, and AssertionError after `timeout` seconds.
    """
    messages, _ = read(bootstrap, topic, committed=True, timeout=timeout)
    return [Record(m.partition(), m.key() or b"", m.value()) for m in messages]


def last(records: list[Record]) -> dict[tuple[int, bytes], bytes]:
    """The last value of each key of a partition. A tombstone removes the key."""
    found: dict[tuple[int, bytes], bytes] = {}
    for r in records:
        if r.value is None:
            found.pop((r.partition, r.key), None)
        else:
            found[r.partition, r.key] = r.value
    return found


def row_of(r: MetricRow) -> tuple[Row, Counted]:
    counted = Counted(r.count, r.sum, r.minimum, r.maximum, tuple(r.bounds), tuple(r.buckets), r.unit)
    return (r.partition, r.metric, frozenset(r.labels.items()), r.minute // ROW_PERIOD_US), counted


def total_of(r: MetricTotal) -> tuple[Series, Counted]:
    counted = Counted(r.count, r.sum, None, None, tuple(r.bounds), tuple(r.buckets), r.unit)
    return (r.partition, r.metric, frozenset(r.labels.items())), counted


def part_of(r: TraceSummary) -> tuple[Part, TraceSummary]:
    return (r.trace_id, r.partition, r.part), r


def row_key(r: MetricRow) -> tuple[str, str]:
    """The start and the end of a row's key, around the hash of its labels."""
    return f"{r.partition}/{r.metric}/", f"/{r.minute // ROW_PERIOD_US}"


def total_key(r: MetricTotal) -> tuple[str, str]:
    return f"{r.partition}/{r.metric}/", ""


def summary_key(r: TraceSummary) -> tuple[str, str]:
    return f"{r.trace_id}/{r.partition}/{r.part}", ""


def collect(
    records: list[Record],
    cls: type[R],
    shape: Callable[[R], tuple[K, V]],
    ends: Callable[[R], tuple[str, str]],
    problems: list[str],
) -> dict[K, V]:
    """The last value of each thing in a topic.

    Wrong keys are added to `problems`.
    """
    found: dict[K, V] = {}
    for (partition, key), value in last(records).items():
        record = decode(value, cls)
        this, counted = shape(record)
        begin, end = ends(record)
        text = key.decode(errors="replace")
        if record.partition != partition:
            problems.append(
                f"{cls.__name__} {text} of partition {record.partition} is in partition {partition}"
            )
        if not (text.startswith(begin) and text.endswith(end) and len(text) >= len(begin) + len(end)):
            problems.append(f"{cls.__name__} {text} should be {begin}…{end}")
        if this in found:
            problems.append(f"{cls.__name__} {text}: another key holds the same: {this}")
        if isinstance(record, MetricRow) and record.minute % ROW_PERIOD_US:
            problems.append(f"{cls.__name__} {text}: {record.minute} begins no minute")
        found[this] = counted
    return found


def kept_of(
    metrics: list[Record], totals: list[Record], summaries: list[Record], state: list[Record] | None = None
) -> Kept:
    """What is kept, from the records of the topics."""
    problems: list[str] = []
    return Kept(
        rows=collect(metrics, MetricRow, row_of, row_key, problems),
        totals=collect(totals, MetricTotal, total_of, total_key, problems),
        summaries=collect(summaries, TraceSummary, part_of, summary_key, problems),
        counts=counts_of(state or []),
        problems=problems,
    )


def counts_of(state: list[Record]) -> dict[int, Counts]:
    """What each partition left out of its rows, by its position."""
    positions = {
        partition: decode_versioned(value, PartitionPosition)
        for (partition, key), value in last(state).items()
        if key == b"p"
    }
    return {n: Counts(p.corrections, p.skewed, p.late) for n, p in positions.items()}


def read_kept(bootstrap: str, names: TopicNames, *, timeout: float = 60.0) -> Kept:
    """The three topics and the positions, up to their ends.

    The processor must have caught up and written. Wait longer than streams.metrics_interval_ms first.
    """
    return kept_of(
        *(
            read_records(bootstrap, topic, timeout=timeout)
            for topic in (names.metrics, names.totals, names.summaries, names.state)
        )
    )


def read_log(bootstrap: str, topic: str, *, timeout: float = 60.0) -> list[Logged]:
    """trace.events, read committed, in the recount's form. What cannot be decoded is left out."""
    messages, _ = read(bootstrap, topic, committed=True, timeout=timeout)
    found = []
    for m in messages:
        try:
            event = decode(m.value() or b"", TraceEvent)
        except DecodeError:
            continue
        found.append(Logged(m.partition(), m.offset(), m.timestamp()[1], event))
    return found


# -- comparing
def compare(expected: Recount, found: Kept) -> list[str]:
    """The differences as readable lines. Empty: there are none.

    Of each kind at most `MOST` are listed, and a line says how many more there are. A summary without its
    root may be missing: it is written when its trace is evicted. run_trace_id is compared if the recount
    could work it out, counts are compared if positions were read.
    """
    return [
        *_short(found.problems),
        *_short(_differences("row", expected.rows, found.rows, _series, _counted)),
        *_short(_differences("total", expected.totals, found.totals, _series, _counted)),
        *_short(_summaries(expected.summaries, found.summaries)),
        *_short(
            _differences("counts of", expected.counts, found.counts, str, _counted) if found.counts else []
        ),
    ]


def _short(lines: list[str]) -> list[str]:
    more = len(lines) - MOST
    return lines if more <= 0 else [*lines[:MOST], f"… and {more} more like these"]


def _series(key: Any) -> str:
    """Partition, metric and labels, and the minute of a row."""
    partition, metric, labels, *minute = key
    text = ", ".join(f"{name}={value!r}" for name, value in sorted(labels))
    return f"{partition} {metric}{{{text}}}" + "".join(f" minute {m}" for m in minute)


def _fields(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {found[name]!r}, must be {value!r}"
        for name, value in expected.items()
        if found[name] != value
    )


def _counted(expected: Any, found: Any) -> str:
    return _fields(asdict(expected), asdict(found))


def _differences(
    what: str,
    expected: Mapping[K, V],
    found: Mapping[K, V],
    name: Callable[[K], str],
    differ: Callable[[V, V], str],
) -> list[str]:
    """Wrong ones first, then missing, then superfluous ones."""
    both = [(key, differ(expected[key], found[key])) for key in expected.keys() & found.keys()]
    return [
        *sorted(f"{what} {name(key)}: {text}" for key, text in both if text),
        *sorted(
            f"{what} {name(key)}: missing, must be {expected[key]}" for key in expected.keys() - found.keys()
        ),
        *sorted(
            f"{what} {name(key)}: is there and should not be: {found[key]}"
            for key in found.keys() - expected.keys()
        ),
    ]


def _summaries(expected: Mapping[Part, TraceSummary], found: Mapping[Part, TraceSummary]) -> list[str]:
    owed = {key: s for key, s in expected.items() if s.complete or key in found}
    return _differences("summary", owed, found, lambda key: "/".join(map(str, key)), _summary)


def _summary(expected: TraceSummary, found: TraceSummary) -> str:
    left_out = {"cost"} if same_cost(expected, found) else set()
    if expected.run_trace_id == UNKNOWN_ID:
        left_out.add("run_trace_id")
    names = [name for name in TraceSummary.__struct_fields__ if name not in left_out]
    return _fields(_plain(expected, names), _plain(found, names))


def _plain(s: TraceSummary, names: list[str]) -> dict[str, Any]:
    return {name: _listed(getattr(s, name)) for name in names}


def _listed(value: Any) -> Any:
    """Sequences as lists: a decoder makes lists, a default is a tuple."""
    return list(value) if isinstance(value, tuple) else value
