"""Whole forests of traces, in any order over any partitions, equal an offline fold of them.

Trees, ids, totals and metrics are compared. The pipeline here is the event processor, its partitions and a
log for each. What a unit writes goes where its transaction would put it. Two schedulers publish: one holds
an event back until its root can be known (links before the events that need them), one holds nothing back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.limits import MetricLimits, StateLimits
from streams.processing.state import State
from tailrace import codec
from tailrace.identity import complete
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.partitioner import partition_of
from tailrace.records import DeadLetter, Kind, NodeExecution, TraceContext, TraceEvent
from tests.harness import foreign, kept
from tests.harness.forests import (
    Expected,
    Fold,
    Forest,
    Op,
    Planned,
    Run,
    Tape,
    Tree,
    Truth,
    forests,
    key_of,
    names_root,
    planned,
    resolvable,
    shown,
    tapes,
)
from tests.harness.recount import Counted, Recount, recount
from tests.harness.recount_events import Logged, as_read
from tests.streams.events import NOW, Source, uuid
from tests.streams.processing.test_recount import estimate, normalise

HOURS = 48
LIMITS = StateLimits(
    idle_ms=900_000_000,
    max_traces=100_000,
    dedupe_ms=3_600_000,
    metrics=MetricLimits(horizon_ms=HOURS * 3_600_000, max_groups=10_000, max_rows=1_000_000),
)
"""Large enough that nothing is evicted or forgotten."""
MOST_UNITS = 10_000


class Partition:
    """A log, its owner, and what the transactions of the owner have written."""

    def __init__(self, number: int, partitions: int) -> None:
        self.number, self.partitions = number, partitions
        self.log: list[Source] = []
        self.fold = Fold()
        self.arrived: list[Logged] = []
        """The log without misrouted records."""
        self.expected: dict[int, Expected] = {}
        self.apart: set[int] = set()
        """Offsets of events that came before their link."""
        self.out: dict[int, tuple[TraceEvent, TraceContext]] = {}
        self.dead_letters: list[DeadLetter] = []
        self.topics: dict[str, list[kept.Record]] = {"rows": [], "totals": [], "summaries": [], "state": []}
        self.committed: dict[bytes, bytes | None] = {}
        self.begin()

    def begin(self) -> None:
        """Takes over, from the start or from what was committed."""
        self.processor = EventProcessor("trace.events", self.number, 1 << 22, 1 << 20, self.partitions)
        self.state = State(LIMITS, self.number)
        self.state.next_offset = 0
        if self.committed:
            self.state.restore(self.committed.items())

    @property
    def unread(self) -> int:
        return len(self.log) - self.state.next_offset

    def unit(self, size: int, *, flush: bool, committed: bool = True) -> list[tuple[bytes, bytes]]:
        """One unit of work. Returns the links that it writes.

        committed: False if its owner dies before the commit.
        """
        unit, at = TransactionBatch(), self.state.next_offset
        self.processor.apply(self.state, self.log[at : at + size], unit)
        closed = self.state.close(flush)
        if not committed:
            self.begin()
            return []
        for value, _, header in unit.outputs:
            context = codec.decode(header, TraceContext)
            assert context.source_offset not in self.out
            self.out[context.source_offset] = as_read(codec.decode(value, TraceEvent)), context
        self.dead_letters += [codec.decode(value, DeadLetter) for _, value in unit.dead_letters]
        for topic, found in self.topics.items():
            found += [kept.Record(self.number, k, v) for k, v in getattr(closed, topic)]
        for key, written in closed.state:
            self.committed.pop(key, None)
            self.committed[key] = written
        return unit.links


class Pipeline:
    def __init__(self, partitions: int, tape: bytes, empties: bool = False) -> None:
        self.partitions = [Partition(n, partitions) for n in range(partitions)]
        self.empties = empties
        """Whether its producers write an empty text for some of the fields that they do not have."""
        self.tape = Tape(tape)
        self.clock = NOW // 1000
        self.units = 0
        self.made: list[TraceEvent] = []
        """Links that owners wrote."""

    def home(self, event: TraceEvent) -> Partition:
        return self.partitions[partition_of(key_of(event), len(self.partitions))]

    def append(self, event: TraceEvent, truth: Truth | None) -> None:
        p = self.home(event)
        self.clock += 1
        offset = len(p.log)
        written = foreign.emptied(event, lambda: self.tape.below(2) == 1) if self.empties else event
        p.log.append(Source(offset, self.clock, key_of(event), foreign.encode(written)))
        p.arrived.append(Logged(p.number, offset, self.clock, event))
        if truth is None and event.kind != Kind.LINK:
            return  # the fold expects nothing of it
        if truth is not None and not p.fold.knows_root(event):
            p.apart.add(offset)
        expected = p.fold.take(event, truth, self.clock)
        if expected is not None:
            p.expected[offset] = expected

    def stray(self, event: TraceEvent, partition: int, key: bytes | None) -> None:
        """A record in a partition where its key does not belong, from another producer."""
        self.clock += 1
        log = self.partitions[partition].log
        log.append(Source(len(log), self.clock, key, codec.encode(event)))

    def work(self) -> None:
        """A unit of any size, of some partition with unread records.

        Its owner may die before or after the commit.
        """
        tape = self.tape
        waiting = [p for p in self.partitions if p.unread]
        if not waiting:
            return
        self.units += 1
        assert self.units < MOST_UNITS, "the links never end"
        p = waiting[tape.below(len(waiting))]
        size, flush, died = 1 + tape.below(p.unread), tape.chance(3), tape.below(8)
        if died == 7:
            p.unit(size, flush=flush, committed=False)
        for run, value in p.unit(size, flush=flush):
            link = codec.decode(value, TraceEvent)
            assert (link.kind, link.source_id) == (Kind.LINK, run.decode())
            self.made.append(link)
            self.append(link, None)
        if died == 6:
            p.begin()

    def finish(self) -> None:
        while any(p.unread for p in self.partitions):
            self.work()

    def close(self) -> kept.Kept:
        """What the topics hold in the end."""
        self.finish()
        topics: dict[str, list[kept.Record]] = defaultdict(list)
        for p in self.partitions:
            p.unit(0, flush=True)
            for topic, found in p.topics.items():
                topics[topic] += found
        return kept.kept_of(topics["rows"], topics["totals"], topics["summaries"], topics["state"])


# -- the two schedulers
def run_held(events: Sequence[Planned], partitions: int, choices: bytes, empties: bool = False) -> Pipeline:
    """Publishes each event after those that tell its root.

    In the end come the events whose root nothing ever tells.
    """
    pipeline = Pipeline(partitions, choices, empties)
    tape = pipeline.tape
    pending = list(enumerate(events))
    while pending:
        ready = [
            j
            for j, (_, (event, truth)) in enumerate(pending)
            if truth is None or pipeline.home(event).fold.knows_root(event)
        ]
        if ready:
            pipeline.append(*pending.pop(ready[tape.below(len(ready))])[1])
        elif not any(p.unread for p in pipeline.partitions):
            break
        if not ready or tape.chance(3):
            pipeline.work()
    pipeline.finish()
    can = resolvable(events, partitions)
    assert [i for i, _ in pending] == [i for i, possible in enumerate(can) if not possible], (
        "a link is missing"
    )
    for _, p in pending:
        pipeline.append(*p)
    return pipeline


def run_free(
    events: Sequence[Planned], partitions: int, choices: bytes, strays: int = 0, empties: bool = False
) -> Pipeline:
    """Publishes in any order.

    strays: how many records are also appended to a partition where they do not belong.
    """
    pipeline = Pipeline(partitions, choices, empties)
    tape = pipeline.tape
    pending = list(events)
    while pending:
        event, truth = pending.pop(tape.below(len(pending)))
        pipeline.append(event, truth)
        if strays and tape.chance(2):
            strays -= 1
            home = pipeline.home(event).number
            wrong = tape.below(partitions)
            pipeline.stray(event, wrong, key_of(event) if wrong != home else None)
        while tape.chance(3):
            pipeline.work()
            if not any(p.unread for p in pipeline.partitions):
                break
    return pipeline


# -- the properties
def contexts(pipeline: Pipeline) -> dict[tuple[int, int], Expected]:
    return {(p.number, offset): shown(*found) for p in pipeline.partitions for offset, found in p.out.items()}


def differences(
    expected: dict[tuple[int, int], Expected], found: dict[tuple[int, int], Expected]
) -> list[str]:
    """The differences of contexts from the expected ones, as readable lines."""
    lines = []
    for key in sorted(expected.keys() | found.keys()):
        a, b = expected.get(key), found.get(key)
        if a is None or b is None:
            lines.append(f"{key}: {b}, must be {a}")
        else:
            lines += [
                f"{key} {a.source_id}: {n} {y!r}, must be {x!r}"
                for n, x, y in zip(a._fields, a, b, strict=True)
                if x != y
            ]
    return lines


def require(problems: list[str]) -> None:
    if problems:
        raise AssertionError("\n".join(problems))


def expectations(pipeline: Pipeline) -> dict[tuple[int, int], Expected]:
    return {(p.number, offset): found for p in pipeline.partitions for offset, found in p.expected.items()}


def folded(pipeline: Pipeline, truths: dict[tuple[str | None, str | None], Truth]) -> Recount:
    """The recount of what arrived, with the true roots.

    An event that came before its link counts at its caller.
    """
    log: list[Logged] = []
    for p in pipeline.partitions:
        for logged in p.arrived:
            event = logged.event
            if (
                event.kind != Kind.LINK
                and event.parent_run_id
                and not names_root(event)
                and logged.offset not in p.apart
            ):
                event = msgspec.structs.replace(
                    event, root_app_id=truths[event.trace_id, event.source_id].app
                )
            log.append(logged._replace(event=event))

    def root_of(logged: Logged) -> str | None:
        event = logged.event
        if logged.offset in pipeline.partitions[logged.partition].apart:
            return event.parent_run_id
        return truths[event.trace_id, event.source_id].trace

    def run_trace_id(trace: str, part: Sequence[Logged]) -> bytes:
        return pipeline.partitions[part[0].partition].fold.run_trace_id(trace)

    return recount(
        log,
        root_of=root_of,
        estimate=estimate,
        normalise=normalise,
        horizon_hours=HOURS,
        run_trace_id=run_trace_id,
    )


def check(pipeline: Pipeline, events: Sequence[Planned]) -> tuple[Recount, kept.Kept]:
    """Holds in every run: contexts, summaries, rows, totals and counts are those of the fold.

    Links name the true root.
    """
    truths = {(p.event.trace_id, p.event.source_id): p.truth for p in events if p.truth is not None}
    found = pipeline.close()
    require(differences(expectations(pipeline), contexts(pipeline)))
    expected = folded(pipeline, truths)
    read = {p.number for p in pipeline.partitions if p.arrived}
    require(
        kept.compare(expected, found._replace(counts={n: c for n, c in found.counts.items() if n in read}))
    )
    roots = {p.event.workflow_run_id: p.truth for p in events if p.truth is not None}
    for link in pipeline.made:
        truth = roots[link.source_id]
        assert (link.root_trace_id, link.root_run_id, link.root_app_id) == (truth.trace, truth.run, truth.app)
    for p in pipeline.partitions:
        s = p.state
        assert s.events_in == s.enriched + s.links + s.duplicates + s.dead_lettered == len(p.log)
        assert sorted(c.sequence for _, c in p.out.values()) == list(range(s.enriched))
    return expected, found


def check_chains(pipeline: Pipeline, events: Sequence[Planned]) -> None:
    """The parents of an event lead up to the root, by ids and by spans, in one trace.

    That holds for every event whose ancestors are all published.
    """
    truths = {(p.event.trace_id, p.event.source_id): p.truth for p in events if p.truth is not None}
    found: dict[tuple[str, str], TraceContext] = {}
    for p in pipeline.partitions:
        for event, context in p.out.values():
            if "root_inferred" not in context.marks:
                found[context.root_trace_id or "", event.source_id or ""] = context
    for p in pipeline.partitions:
        for event, context in p.out.values():
            truth = truths[event.trace_id, event.source_id]
            if not truth.whole or "root_inferred" in context.marks:
                continue
            chain, at = [], context
            while at.parent_source_id is not None:
                above = found.get((truth.trace, at.parent_source_id))
                if above is None:  # it came before its link
                    break
                assert at.parent_span_id == above.span_id == otel_span_id(at.parent_source_id)
                assert above.message_trace_id == context.message_trace_id
                chain.append(at.parent_source_id)
                at = above
            else:
                assert tuple(chain) == truth.path


def summed(counted: dict[Any, Counted]) -> dict[Any, Counted]:
    """Rows or totals of all partitions together."""
    found: dict[Any, Counted] = {}
    for key, c in counted.items():
        both, a = c, found.get(key[1:])
        if a is not None:
            low, high = (
                None if x is None or y is None else f(x, y)
                for f, x, y in ((min, a.minimum, c.minimum), (max, a.maximum, c.maximum))
            )
            buckets = tuple(x + y for x, y in zip(a.buckets, c.buckets, strict=True))
            both = Counted(a.count + c.count, a.sum + c.sum, low, high, c.bounds, buckets, c.unit)
        found[key[1:]] = both
    return found


def check_truth(pipeline: Pipeline, events: Sequence[Planned]) -> None:
    """In any order, an event has its true place unless it came before its link. Only those are marked.

    An event that names only its message has the trace id of the message until the run is known.
    """
    truths = {(p.event.trace_id, p.event.source_id): p.truth for p in events if p.truth is not None}
    for p in pipeline.partitions:
        for offset, (event, context) in p.out.items():
            truth = truths[event.trace_id, event.source_id]
            caller = event.parent_run_id or ""
            apart = offset in p.apart
            assert ("root_inferred" in context.marks) == apart
            if apart:
                assert (context.root_trace_id, context.run_trace_id) == (caller, otel_trace_id(caller))
                assert context.linked_span_id == otel_span_id(caller)
                continue
            assert (context.root_trace_id, context.linked_span_id) == (truth.trace, None)
            assert context.message_trace_id == otel_trace_id(truth.trace)
            run_ids = {otel_trace_id(truth.run or truth.trace)}
            if event.workflow_run_id is None and not names_root(event):
                run_ids.add(otel_trace_id(truth.trace))
            assert context.run_trace_id in run_ids
            assert (context.parent_source_id or None, context.app_id) == (
                next(iter(truth.path), None),
                truth.app,
            )


def times(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


counts = st.integers(1, 5)
DEEP = Forest((Tree("chatflow", (Run(nodes=(Op("llm", usage=1),)),) * 7),))
"""Six runs inside a chatflow's run, each in the one before it. No header names the root."""
PLAIN = bytes(64)
"""All zeros: in the order of publishing, one record a unit."""


@given(forests, counts, tapes)
@example(DEEP, 3, PLAIN)
@example(
    Forest((Tree(runs=(Run(header=True), Run(), Run())),)), 3, PLAIN
)  # the root names itself as the root
@example(Forest((Tree("draft", names_run=True),)), 1, PLAIN)  # of a run
@example(
    Forest((Tree(runs=(Run(silent=True), Run(linked=True), Run())),)), 3, PLAIN
)  # only a link knows the root
@times(60)
def test_links_before_what_they_resolve_give_the_forest_itself(
    forest: Forest, partitions: int, tape: bytes
) -> None:
    events = planned(forest, NOW)
    pipeline = run_held(events, partitions, tape)
    check(pipeline, events)
    check_chains(pipeline, events)
    check_truth(pipeline, events)


@given(forests, counts, tapes)
@example(DEEP, 3, PLAIN)
@example(DEEP, 5, bytes([255]) * 64)
@times(60)
def test_in_any_order_only_events_before_their_link_are_elsewhere_and_marked(
    forest: Forest, partitions: int, tape: bytes
) -> None:
    events = planned(forest, NOW)
    pipeline = run_free(events, partitions, tape)
    check(pipeline, events)
    check_chains(pipeline, events)
    check_truth(pipeline, events)


def check_history_with_empty_ids(forest: Forest, partitions: int, tape: bytes, held: bool) -> None:
    """Owners die before and after their commits; the result is that of the fold, which knows only nulls."""
    events = planned(forest, NOW)
    if held:
        pipeline = run_held(events, partitions, tape, empties=True)
    else:
        pipeline = run_free(events, partitions, tape, empties=True)
    check(pipeline, events)
    check_chains(pipeline, events)
    check_truth(pipeline, events)
    assert not any(p.dead_letters for p in pipeline.partitions)


@given(forests, counts, tapes, st.booleans())
@example(DEEP, 3, bytes(range(64)), False)
@times(40)
def test_crash_histories_with_empty_ids_equal_the_fold(
    forest: Forest, partitions: int, tape: bytes, held: bool
) -> None:
    check_history_with_empty_ids(forest, partitions, tape, held)


@pytest.mark.slow
@given(forests, counts, tapes, st.booleans())
@times(500)
def test_500_crash_histories_with_empty_ids_equal_the_fold(
    forest: Forest, partitions: int, tape: bytes, held: bool
) -> None:
    check_history_with_empty_ids(forest, partitions, tape, held)


@given(forests, counts, counts, tapes, tapes)
@times(40)
def test_another_order_over_other_partitions_counts_the_same(
    forest: Forest, some: int, others: int, tape: bytes, another: bytes
) -> None:
    events = planned(forest, NOW)
    _, a = check(run_free(events, some, tape), events)
    _, b = check(run_held(events, others, another), events)
    assert summed(a.rows) == summed(b.rows)
    assert summed(a.totals) == summed(b.totals)


@given(forests, counts, st.integers(1, 10), tapes)
@times(40)
def test_a_misrouted_record_is_a_dead_letter_and_changes_nothing_else(
    forest: Forest, partitions: int, strays: int, tape: bytes
) -> None:
    events = planned(forest, NOW)
    pipeline = run_free(events, partitions, tape, strays)
    check(pipeline, events)
    found = [dead_letter for p in pipeline.partitions for dead_letter in p.dead_letters]
    assert len(found) == sum(len(p.log) - len(p.arrived) for p in pipeline.partitions)
    assert {dead_letter.reason for dead_letter in found} <= {"misrouted"}


# -- what the properties are of
@pytest.mark.parametrize("partitions", [1, 2, 3, 5])
def test_six_nested_runs_are_one_trace_without_any_header(partitions: int) -> None:
    events = planned(DEEP, NOW)
    assert max(len(p.truth.path) for p in events if p.truth) == 14
    pipeline = run_held(events, partitions, PLAIN)
    check(pipeline, events)
    check_chains(pipeline, events)
    found = [c for p in pipeline.partitions for _, c in p.out.values()]
    assert len(found) == len(events) == 21
    assert {c.run_trace_id for c in found} == {otel_trace_id(planned(DEEP, NOW)[0].truth.run)}  # type: ignore[union-attr, arg-type]
    assert not any("root_inferred" in c.marks for c in found)
    assert {link.source_id for link in pipeline.made} == {p.event.workflow_run_id for p in events} - {None}


def test_published_innermost_first_all_runs_are_elsewhere_and_marked() -> None:
    events = list(reversed(planned(DEEP, NOW)))
    pipeline = run_free(sorted(events, key=lambda p: -len(p.truth.path) if p.truth else 0), 5, PLAIN)
    check(pipeline, events)
    check_truth(pipeline, events)
    apart = [e.workflow_run_id for p in pipeline.partitions for o, (e, _) in p.out.items() if o in p.apart]
    assert len(apart) == sum(p.event.parent_run_id is not None for p in events)


# -- kept regressions, and what no forest has
def passed(*events: TraceEvent, partitions: int = 3) -> dict[str, TraceContext]:
    """Publishes events one by one, each applied before the next.

    Returns contexts by source_id, with the trace's id if that is taken.
    """
    pipeline = Pipeline(partitions, PLAIN)
    for event in events:
        pipeline.append(complete(event, NOW), None)
        pipeline.finish()
    assert not any(p.dead_letters for p in pipeline.partitions)
    found: dict[str, TraceContext] = {}
    for p in pipeline.partitions:
        for event, context in p.out.values():
            source = event.source_id or ""
            found[f"{event.trace_id} {source}" if source in found else source] = context
    return found


def node(run: int, n: int = 1, **fields: Any) -> TraceEvent:
    times: dict[str, Any] = {"started_at": NOW, "ended_at": NOW + 10}
    body = NodeExecution(node_id=f"n{n}")
    return TraceEvent(
        kind=Kind.NODE_EXECUTION,
        source_id=f"{uuid(run)}/{n}",
        workflow_run_id=uuid(run),
        node_execution=body,
        **times,
        **fields,
    )


def test_a_root_that_names_itself_in_its_header_is_known_as_the_root_of_what_it_calls() -> None:
    root: dict[str, Any] = {"root_trace_id": uuid(1), "root_run_id": uuid(1)}
    out = passed(node(1, **root), node(2, parent_run_id=uuid(1)), node(3, parent_run_id=uuid(2)))
    assert [list(c.marks) for c in out.values()] == [[], [], []]
    assert {c.run_trace_id for c in out.values()} == {otel_trace_id(uuid(1))}


def test_a_draft_is_a_trace_of_its_own_whatever_run_it_names() -> None:
    draft = msgspec.structs.replace(node(1), kind=Kind.DRAFT_NODE_EXECUTION)
    out = passed(draft, node(2, parent_run_id=uuid(1)))
    context = out[f"{uuid(1)}/1"]
    assert (context.run_trace_id, context.root_run_id) == (otel_trace_id(f"{uuid(1)}/1"), None)
    assert out[f"{uuid(2)}/1"].root_trace_id == uuid(1)


@pytest.mark.parametrize(
    "event",
    [
        node(1, parent_id=f"{uuid(1)}/1"),
        TraceEvent(
            kind=Kind.WORKFLOW_RUN,
            workflow_run_id=uuid(1),
            parent_run_id=uuid(1),
            started_at=NOW,
            ended_at=NOW,
        ),
        TraceEvent(
            kind=Kind.WORKFLOW_RUN,
            workflow_run_id=uuid(1),
            parent_node_execution_id=uuid(1),
            started_at=NOW,
            ended_at=NOW,
        ),
        TraceEvent(kind=Kind.MODERATION, source_id=uuid(1), message_id=uuid(1), started_at=NOW, ended_at=NOW),
        TraceEvent(
            kind=Kind.SPAN,
            source_id="s",
            otel_span_id=b"A" * 8,
            otel_parent_span_id=b"A" * 8,
            started_at=NOW,
            ended_at=NOW,
        ),
    ],
    ids=["operation", "calling-run", "calling-node", "message", "native-span"],
)
def test_a_parent_that_is_the_event_itself_is_cut_and_marked(event: TraceEvent) -> None:
    (context,) = passed(event).values()
    assert (context.parent_span_id, context.parent_source_id, str(context.parent_kind)) == (
        None,
        None,
        "none",
    )
    assert list(context.marks) == ["self_parent"]


def link(run: int, root: int) -> TraceEvent:
    times: dict[str, Any] = {"started_at": NOW, "ended_at": NOW}
    return TraceEvent(
        kind=Kind.LINK, source_id=uuid(run), root_trace_id=uuid(root), root_run_id=uuid(root), **times
    )


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=12), counts, tapes)
@example([(1, 2), (2, 3), (3, 1)], 3, PLAIN)
@times(60)
def test_links_and_callers_in_circles_end(pairs: list[tuple[int, int]], partitions: int, tape: bytes) -> None:
    """Links of publishers in any circle over any partitions, and runs that call each other.

    A run is linked at most once for a partition and trace, an event has one root, and the pass ends.
    """
    pipeline = Pipeline(partitions, tape)
    events = [complete(link(*pair), NOW) for pair in pairs]
    events += [complete(node(a, 10 + i, parent_run_id=uuid(b)), NOW) for i, (a, b) in enumerate(pairs)]
    while events:
        pipeline.append(events.pop(pipeline.tape.below(len(events))), None)
        pipeline.work()
    pipeline.finish()
    out = {e.source_id: c for p in pipeline.partitions for e, c in p.out.values()}
    assert len(out) == len(pairs)
    said = Counter((made.source_id, made.root_trace_id) for made in pipeline.made)
    assert max(said.values(), default=0) <= partitions
    assert not any(p.dead_letters for p in pipeline.partitions)
    links = {uuid(a): {uuid(b) for c, b in pairs if a == c} for a, _ in pairs}
    for i, (a, b) in enumerate(pairs):
        context = out[f"{uuid(a)}/{10 + i}"]
        assert context.root_trace_id in {uuid(a), uuid(b), *(r for of in links.values() for r in of)}
        assert ("root_inferred" in context.marks) == (context.linked_span_id is not None)


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_same_id_in_two_traces_is_two_operations_apart(partitions: int) -> None:
    twins = [msgspec.structs.replace(node(run), source_id="node") for run in (1, 2)]
    out = passed(*twins, twins[0], partitions=partitions)
    assert len(out) == 2
    assert {c.run_trace_id for c in out.values()} == {otel_trace_id(uuid(1)), otel_trace_id(uuid(2))}
    assert {c.span_id for c in out.values()} == {otel_span_id("node")}
    assert {c.parent_source_id for c in out.values()} == {uuid(1), uuid(2)}


def test_forests_with_the_same_ids_stay_apart() -> None:
    tree = Tree(runs=(Run(nodes=(Op("iteration"), Op("llm", inside=1, usage=2))), Run(nodes=(Op(),))))
    events = planned(Forest((tree, tree, Tree("chatflow", tree.runs)), alike=True), NOW)
    pipeline = run_held(events, 2, PLAIN)
    check(pipeline, events)
    check_chains(pipeline, events)
    roots: dict[str, set[str | None]] = defaultdict(set)
    for p in pipeline.partitions:
        for event, context in p.out.values():
            roots[event.source_id or ""].add(context.root_trace_id)
    assert {len(found) for source, found in roots.items() if source.startswith("node-")} == {3}
