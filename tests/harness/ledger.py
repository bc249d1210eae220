"""The ledger file of what was promised, and the comparison of promises and arrivals."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from connectors.testing.doubles.received import ReceivedSpan
from tailrace.delivery_reports import DeliveryReport
from tailrace.ids import event_id, otel_span_id, otel_trace_id
from tailrace.records import Kind, TraceEvent

EVENT_ID: Final = "tailrace.event_id"
_RUN: Final = "dify.workflow.run_id"
_NODE: Final = "dify.node.execution_id"
NAMES: Final = {Kind.WORKFLOW_RUN: "dify.workflow.run", Kind.NODE_EXECUTION: "dify.node.execution"}
"""Span name by kind; names of other kinds are not compared."""
ATTRIBUTES: Final = {
    Kind.WORKFLOW_RUN: (EVENT_ID, _RUN, "dify.app_id", "dify.tenant_id", "dify.workflow.status"),
    Kind.NODE_EXECUTION: (
        EVENT_ID,
        _RUN,
        _NODE,
        "dify.app_id",
        "dify.tenant_id",
        "dify.node.id",
        "dify.node.index",
        "dify.node.status",
    ),
    Kind.SPAN: (EVENT_ID,),
}
"""Attributes that must arrive, by kind."""

_canonical_json: Final = msgspec.json.Encoder(order="deterministic").encode


class Canonical(msgspec.Struct, frozen=True, kw_only=True):
    """What must arrive of an event. A span may carry more."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]

    @property
    def sha256(self) -> str:
        return sha256(_canonical_json(self)).hexdigest()


def run_of(event: TraceEvent) -> str:
    """The workflow run that a generated event belongs to. It is its trace."""
    if not event.workflow_run_id:
        raise ValueError("the harness judges events of workflow runs only")
    return event.workflow_run_id


def source_of(event: TraceEvent) -> str:
    return event.source_id or run_of(event)


def event_id_of(event: TraceEvent) -> str:
    """The id that the publisher must give a generated event."""
    return event.event_id or event_id(
        event.kind, run_of(event), source_of(event), event.revision, event.tenant_id
    )


def must_arrive(event: TraceEvent) -> Canonical:
    """The canonical span of a generated event.

    Traces have one run. The parent is parent_id, or the run.
    """
    run, source = run_of(event), source_of(event)
    parent = event.parent_id or (None if event.kind == Kind.WORKFLOW_RUN else run)
    node = event.node_execution
    values: dict[str, Any] = {
        EVENT_ID: event_id_of(event),
        _RUN: run,
        _NODE: source,
        "dify.app_id": event.app_id,
        "dify.tenant_id": event.tenant_id,
        "dify.workflow.status": event.status,
        "dify.node.status": event.status,
        "dify.node.id": node and node.node_id,
        "dify.node.index": node and node.index,
    }
    return Canonical(
        trace_id=otel_trace_id(run).hex(),
        span_id=otel_span_id(source).hex(),
        parent_span_id=otel_span_id(parent).hex() if parent else None,
        name=NAMES.get(event.kind, ""),
        start_ns=event.started_at * 1000,
        end_ns=event.ended_at * 1000,
        attributes={name: values[name] for name in ATTRIBUTES[event.kind]},
    )


def arrived(span: ReceivedSpan, kind: Kind) -> Canonical:
    """The canonical span of what a receiver got, for an event of `kind`."""
    return Canonical(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=span.name if kind in NAMES else "",
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        attributes={name: span.attributes.get(name) for name in ATTRIBUTES[kind]},
    )


# -- the file
class Started(msgspec.Struct, frozen=True, kw_only=True, tag="load", tag_field="line"):
    """A load has begun."""

    name: str
    seed: int
    events: int


class Obligation(msgspec.Struct, frozen=True, kw_only=True, tag="acked", tag_field="line"):
    """An event with a successful delivery report: from here on it must arrive."""

    event_id: str
    source_id: str
    trace: str
    kind: Kind
    partition: int
    offset: int
    seed: int
    index: int
    """Of the event in its load."""
    sha256: str
    """Of `expected`."""
    expected: Canonical


class Unacked(msgspec.Struct, frozen=True, kw_only=True, tag="unacked", tag_field="line"):
    """An event that was given up, or without a report: it may arrive, but need not."""

    event_id: str
    error: str


Line = Started | Obligation | Unacked
_lines: Final[msgspec.json.Decoder[Line]] = msgspec.json.Decoder(Line)
_encode: Final = msgspec.json.Encoder().encode


class Ledger:
    """The append-only file of obligations.

    `report` is for delivery callbacks: when it returns, the operating system has the line. Threads may
    share a ledger. A file must have one ledger at a time.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = self.path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self.acked = self.unacked = 0

    def started(self, name: str, seed: int, events: int) -> None:
        self._append(Started(name=name, seed=seed, events=events))

    def report(self, event: TraceEvent, index: int, seed: int, report: DeliveryReport) -> None:
        """Notes an obligation if the report is a success, otherwise that the event may arrive."""
        if not report.ok:
            self.not_acked(report.event_id, str(report.error))
            return
        expected = must_arrive(event)
        line = Obligation(
            event_id=report.event_id,
            source_id=source_of(event),
            trace=run_of(event),
            kind=event.kind,
            partition=report.partition,
            offset=report.offset,
            seed=seed,
            index=index,
            sha256=expected.sha256,
            expected=expected,
        )
        self._append(line)
        with self._lock:
            self.acked += 1

    def not_acked(self, event_id: str, error: str) -> None:
        self._append(Unacked(event_id=event_id, error=error))
        with self._lock:
            self.unacked += 1

    def _append(self, line: Line) -> None:
        with self._lock:
            self._file.write(_encode(line) + b"\n")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Obligations(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger as read."""

    acked: Mapping[str, Obligation]
    """By event id."""
    unacked: frozenset[str] = frozenset()
    """Event ids that may arrive, but need not."""
    seeds: tuple[int, ...] = ()

    @classmethod
    def of(cls, lines: Iterable[Line]) -> Obligations:
        acked: dict[str, Obligation] = {}
        unacked: set[str] = set()
        seeds: dict[int, None] = {}
        for line in lines:
            if isinstance(line, Obligation):
                acked[line.event_id] = line
            elif isinstance(line, Unacked):
                unacked.add(line.event_id)
            else:
                seeds[line.seed] = None
        return cls(acked=acked, unacked=frozenset(unacked - acked.keys()), seeds=tuple(seeds))

    @classmethod
    def read(cls, path: str | Path) -> Obligations:
        """The ledger so far. A last line that is still being written is left out."""
        whole, _, _ = Path(path).read_bytes().rpartition(b"\n")
        return cls.of(_lines.decode(line) for line in whole.split(b"\n") if line)


# -- the comparison
class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Ids that must arrive and ids that arrived, as multisets."""

    lost: frozenset[str]
    """Promised, not arrived and not excused."""
    delivered: frozenset[str]
    """Promised and arrived."""
    duplicates: int
    """Arrivals of a known id beyond its first."""
    redelivered: int
    """Known ids that arrived more than once."""
    spurious: Mapping[str, int]
    """Arrivals of ids that nobody published."""


def account(
    owed: Collection[str],
    received: Iterable[str],
    *,
    allowed: Collection[str] = (),
    excused: Collection[str] = (),
) -> Account:
    """Compares promised ids with arrived ids.

    Args:
        owed: ids that must arrive.
        arrived: ids that arrived, in any order.
        allowed: ids that may arrive, but need not.
        excused: promised ids that went elsewhere (dead-lettered or filtered).
    """
    owed_ids, known = frozenset(owed), frozenset(owed) | frozenset(allowed)
    counts = Counter(received)
    repeated = [n for i, n in counts.items() if i in known and n > 1]
    return Account(
        lost=owed_ids - counts.keys() - frozenset(excused),
        delivered=owed_ids & counts.keys(),
        duplicates=sum(repeated) - len(repeated),
        redelivered=len(repeated),
        spurious={i: n for i, n in counts.items() if i not in known},
    )


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one scenario.

    lost, spurious and corrupt must be 0. duplicates are the price of at-least-once.
    """

    scenario: str
    seeds: tuple[int, ...]
    acked: int
    """Obligations."""
    delivered: int
    """Obligations that arrived."""
    lost: int
    duplicates: int
    """Arrivals beyond the first of an id."""
    redelivered: int
    """Ids that arrived more than once. They show that a kill hit something."""
    spurious: int
    """Arrivals that nobody published."""
    corrupt: int
    """Arrivals of an obligation with another canonical form."""
    excused: int
    """Obligations that did not arrive, but were dead-lettered or filtered."""
    unacked_arrived: int
    """Events without a successful report that arrived anyway."""
    distinct: int
    """Spans after replacement by trace and span id."""
    first_received_at: int | None
    last_received_at: int | None
    """Microseconds UTC."""
    examples: tuple[str, ...]
    """A few examples of each fault."""

    @property
    def ok(self) -> bool:
        return not (self.lost or self.spurious or self.corrupt)

    def line(self) -> str:
        """One line for the test's output."""
        rate = 100 * self.duplicates / self.acked if self.acked else 0.0
        span = (self.last_received_at or 0) - (self.first_received_at or 0)
        return (
            f"{self.scenario or 'ledger'} seed {','.join(map(str, self.seeds)) or '?'}: acked {self.acked}, "
            f"delivered {self.delivered}, "
            f"lost {self.lost}, duplicates {self.duplicates} ({rate:.2f} %), spurious {self.spurious}, "
            f"corrupt {self.corrupt}, "
            f"excused {self.excused}, unacked arrived {self.unacked_arrived}, distinct {self.distinct}, over "
            f"{span / 1e6:.1f} s: "
            f"{'ok' if self.ok else 'FAILED'}"
        )

    def require(self, *, acked: int = 1, redelivered: int = 0, max_duplicates: int | None = None) -> None:
        """Raises AssertionError if anything is lost, spurious or corrupt, or if the test showed nothing.

        Args:
            acked: at least so many events were promised.
            redelivered: at least so many ids arrived again; otherwise the faults hit nothing.
            max_duplicates: at most so many duplicates arrived; None: any number.
        """
        problems = list(self.examples)
        if self.acked < acked:
            problems.append(f"only {self.acked} events were acknowledged, the scenario needs {acked}")
        if self.redelivered < redelivered:
            problems.append(f"only {self.redelivered} ids were redelivered, the scenario needs {redelivered}")
        if max_duplicates is not None and self.duplicates > max_duplicates:
            problems.append(f"{self.duplicates} duplicates, allowed are {max_duplicates}")
        if problems or not self.ok:
            raise AssertionError("\n  ".join([self.line(), *problems]))


def judge(
    obligations: Obligations,
    received: Iterable[ReceivedSpan],
    *,
    scenario: str = "",
    dead_lettered: Collection[str] = (),
    filtered: Collection[str] = (),
) -> Verdict:
    """What became of the obligations, by the spans that a receiver stored.

    A span without `tailrace.event_id` is spurious.

    Args:
        obligations: what was promised.
        spans: what arrived.
        scenario: a name for the report.
        dead_lettered: event ids that were dead-lettered.
        filtered: event ids that were filtered.
    """
    spans = list(received)
    ids = [str(s.attributes.get(EVENT_ID, f"no {EVENT_ID}: span {s.trace_id}/{s.span_id}")) for s in spans]
    owed = obligations.acked
    excused = frozenset(dead_lettered) | frozenset(filtered)
    a = account(owed, ids, allowed=obligations.unacked, excused=excused)
    corrupt = [
        f"corrupt: {i} in request {s.request}: {_difference(o.expected, got)}"
        for i, s in zip(ids, spans, strict=True)
        if (o := owed.get(i)) is not None and (got := arrived(s, o.kind)).sha256 != o.sha256
    ]
    lost = [
        f"lost: {i} ({owed[i].kind} of {owed[i].trace}, partition {owed[i].partition}, offset "
        f"{owed[i].offset})"
        for i in sorted(a.lost)
    ]
    spurious = [f"spurious: {i}, {n} times" for i, n in a.spurious.items()]
    times = [s.received_at for s in spans]
    return Verdict(
        scenario=scenario,
        seeds=obligations.seeds,
        acked=len(owed),
        delivered=len(a.delivered),
        lost=len(a.lost),
        duplicates=a.duplicates,
        redelivered=a.redelivered,
        spurious=sum(a.spurious.values()),
        corrupt=len(corrupt),
        excused=len((owed.keys() & excused) - a.delivered),
        unacked_arrived=len(obligations.unacked & set(ids)),
        distinct=len({(s.trace_id, s.span_id) for s in spans}),
        first_received_at=min(times, default=None),
        last_received_at=max(times, default=None),
        examples=(*lost[:3], *spurious[:3], *corrupt[:3]),
    )


def _difference(expected: Canonical, got: Canonical) -> str:
    want, have = msgspec.to_builtins(expected), msgspec.to_builtins(got)
    flat = [(k, want[k], have[k]) for k in want if k != "attributes"]
    flat += [(k, v, got.attributes.get(k)) for k, v in expected.attributes.items()]
    return ", ".join(f"{k} is {h!r}, must be {w!r}" for k, w, h in flat if w != h or type(w) is not type(h))


def expected_tree(obligations: Obligations) -> dict[str, dict[str, str | None]]:
    """Trace id -> span id -> parent span id, as a store must hold them in the end.

    See `connectors.testing.doubles.received.tree`.
    """
    found: dict[str, dict[str, str | None]] = {}
    for o in obligations.acked.values():
        found.setdefault(o.expected.trace_id, {})[o.expected.span_id] = o.expected.parent_span_id
    return found
