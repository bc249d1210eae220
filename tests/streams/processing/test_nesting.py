"""Nested workflows at any depth: roots by header, by links in the log, or inferred (seed 003, scenario B)."""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.processing import links
from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.correlate import Link
from streams.processing.state import State, UnreadableRecord
from tailrace import codec
from tailrace.codec import wire
from tailrace.identity import complete, kafka_key
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.partitioner import partition_of
from tailrace.records import Kind, Message, NodeExecution, RunLink, TraceContext, TraceEvent, WorkflowRun
from tests.streams.events import LIMITS, NOW, Source, uuid

PARTITIONS = 3


def in_partition(n: int, start: int) -> int:
    """The first number from `start` on whose id, as a key, belongs to partition n."""
    return next(i for i in range(start, start + 1000) if partition_of(uuid(i).encode(), PARTITIONS) == n)


M, OUTER, MIDDLE, INNER = (
    in_partition(0, 1000),
    in_partition(1, 2000),
    in_partition(2, 3000),
    in_partition(0, 4000),
)
"""A message and three runs. Unless they name their root, the events of each run are in another partition."""


class Pipeline:
    """Three partitions with a log each. Links go back into the log, as a transaction writes them."""

    def __init__(self) -> None:
        self.logs: list[list[Source]] = [[] for _ in range(PARTITIONS)]
        self.states = [State(LIMITS) for _ in range(PARTITIONS)]
        for state in self.states:
            state.next_offset = 0
        self.processors = [
            EventProcessor("trace.events", n, 2_000_000, 1_000_000, PARTITIONS) for n in range(PARTITIONS)
        ]
        self.out: dict[str, TraceContext] = {}
        self.links = 0
        self.dead_letters: list[bytes] = []
        self.clock = NOW // 1000

    def put(self, key: bytes, value: bytes) -> None:
        log = self.logs[partition_of(key, PARTITIONS)]
        log.append(Source(len(log), self.clock, key, value))

    def publish(self, event: TraceEvent) -> None:
        done = complete(event, NOW)
        self.put((kafka_key(done) or "").encode(), codec.encode(done))

    def work(self, only: int | None = None) -> None:
        """Every partition (or one) reads to its end, until no link is in flight."""
        while any(
            s.next_offset < len(log)
            for n, (s, log) in enumerate(zip(self.states, self.logs, strict=True))
            if only in (None, n)
        ):
            for n in range(PARTITIONS) if only is None else (only,):
                unit = TransactionBatch()
                self.processors[n].apply(self.states[n], self.logs[n][self.states[n].next_offset :], unit)
                for value, _, header in unit.outputs:
                    event = codec.decode(value, TraceEvent)
                    assert event.source_id
                    self.out[event.source_id] = codec.decode(header, TraceContext)
                self.dead_letters += [v for _, v in unit.dead_letters]
                for run, link in unit.links:
                    self.links += 1
                    self.put(run, link)


def node(run: int, n: int, **fields: Any) -> TraceEvent:
    return TraceEvent(
        kind=Kind.NODE_EXECUTION,
        source_id=f"{uuid(run)}/{n}",
        workflow_run_id=uuid(run),
        started_at=NOW + n,
        ended_at=NOW + n + 10,
        app_id=f"app-{run}",
        node_execution=NodeExecution(node_id=f"n{n}"),
        **fields,
    )


def workflow(run: int, **fields: Any) -> TraceEvent:
    return TraceEvent(
        kind=Kind.WORKFLOW_RUN,
        workflow_run_id=uuid(run),
        started_at=NOW,
        ended_at=NOW + 99,
        app_id=f"app-{run}",
        workflow_run=WorkflowRun(),
        **fields,
    )


def chatflow(roots: bool) -> list[TraceEvent]:
    """A message whose workflow calls a workflow, which calls a workflow.

    The events are in the order in which the engine ends things.
    """
    m = uuid(M)
    known: dict[str, Any] = (
        {
            "root_trace_id": m,
            "root_run_id": uuid(OUTER),
            "root_started_at": NOW,
            "root_app_id": f"app-{OUTER}",
        }
        if roots
        else {}
    )
    of1: dict[str, Any] = {"message_id": m, **known}
    of2: dict[str, Any] = {
        "parent_run_id": uuid(OUTER),
        "parent_node_execution_id": f"{uuid(OUTER)}/2",
        **known,
    }
    of3: dict[str, Any] = {
        "parent_run_id": uuid(MIDDLE),
        "parent_node_execution_id": f"{uuid(MIDDLE)}/2",
        **known,
    }
    return [
        node(OUTER, 1, **of1),
        node(MIDDLE, 1, **of2),
        node(INNER, 1, **of3),
        node(INNER, 2, **of3),
        workflow(INNER, **of3),
        node(MIDDLE, 2, **of2),
        workflow(MIDDLE, **of2),
        node(OUTER, 2, **of1),
        workflow(OUTER, **of1),
        TraceEvent(
            kind=Kind.MESSAGE,
            message_id=m,
            started_at=NOW,
            ended_at=NOW + 100,
            app_id=f"app-{OUTER}",
            message=Message(),
            **known,
        ),
    ]


def check_whole(out: dict[str, TraceContext]) -> None:
    """One trace, three levels deep, with every parent."""
    assert {c.run_trace_id for c in out.values()} == {otel_trace_id(uuid(OUTER))}
    assert {c.message_trace_id for c in out.values()} == {otel_trace_id(uuid(M))}
    assert {c.root_trace_id for c in out.values()} == {uuid(M)}
    assert {c.trace_started_at for c in out.values()} <= {NOW, NOW + 1}
    assert [list(c.marks) for c in out.values()] == [[]] * 10
    parents = {s: c.parent_source_id for s, c in out.items()}
    chain = [f"{uuid(INNER)}/1"]
    while parents[chain[-1]] is not None:
        chain.append(str(parents[chain[-1]]))
    assert chain == [
        f"{uuid(INNER)}/1",
        uuid(INNER),
        f"{uuid(MIDDLE)}/2",
        uuid(MIDDLE),
        f"{uuid(OUTER)}/2",
        uuid(OUTER),
        uuid(M),
    ]
    spans = {s: (c.span_id, c.parent_span_id) for s, c in out.items()}
    assert all(p is None or spans[s][1] == otel_span_id(p) == spans[p][0] for s, p in parents.items())


def test_a_chatflow_with_two_nested_workflows_is_one_trace_without_roots_in_the_headers() -> None:
    p = Pipeline()
    for event in chatflow(roots=False):
        p.publish(event)
        p.work()
    check_whole(p.out)
    assert p.links == 3
    assert [len(log) for log in p.logs] == [5, 4, 4]  # over all three: the events of a run, and a link to one
    assert {c.app_id for s, c in p.out.items() if s.startswith(uuid(INNER))} == {f"app-{OUTER}"}


@given(st.permutations(range(10)), st.randoms(use_true_random=False))
@example([2, 3, 4, 0, 1, 5, 6, 7, 8, 9], Random(1))  # the innermost first, otherwise as the engine ends them
@example([*reversed(range(10))], Random(1))
@settings(max_examples=100, deadline=None)
def test_with_roots_in_the_headers_any_order_gives_the_same_trace(order: list[int], random: Random) -> None:
    events = chatflow(roots=True)
    p = Pipeline()
    for i in order:
        p.publish(events[i])
        if random.random() < 0.3:
            p.work()
    p.work()
    check_whole(p.out)


def test_the_link_of_a_publisher_resolves_what_follows() -> None:
    p = Pipeline()
    p.publish(
        TraceEvent(
            kind=Kind.LINK,
            source_id=uuid(2),
            root_trace_id=uuid(99),
            root_run_id=uuid(1),
            started_at=NOW,
            ended_at=NOW,
        )
    )
    p.work()
    p.publish(node(3, 1, parent_run_id=uuid(2), parent_node_execution_id=f"{uuid(2)}/2"))
    p.work()
    assert p.out[f"{uuid(3)}/1"].run_trace_id == otel_trace_id(uuid(1))
    assert list(p.out[f"{uuid(3)}/1"].marks) == []


def test_what_comes_before_its_link_takes_the_caller_as_root_is_marked_and_never_changes() -> None:
    p = Pipeline()
    p.publish(node(3, 1, parent_run_id=uuid(2)))
    p.work()
    p.publish(
        TraceEvent(
            kind=Kind.LINK,
            source_id=uuid(2),
            root_trace_id=uuid(1),
            root_run_id=uuid(1),
            started_at=NOW,
            ended_at=NOW,
        )
    )
    p.work()
    p.publish(node(3, 2, parent_run_id=uuid(2)))
    p.work()
    first, second = p.out[f"{uuid(3)}/1"], p.out[f"{uuid(3)}/2"]
    assert (first.run_trace_id, list(first.marks)) == (otel_trace_id(uuid(2)), ["root_inferred"])
    assert (second.run_trace_id, list(second.marks)) == (otel_trace_id(uuid(1)), [])


@pytest.mark.parametrize("pause", [0, 16 * 60_000, 7 * 24 * 3_600_000])
def test_nodes_that_came_before_their_runs_link_and_named_no_caller_are_counted_and_marked(
    pause: int,
) -> None:
    """They stay in a trace of their own. What comes after the link says so."""
    p = Pipeline()
    p.publish(node(2, 1))
    p.work()
    p.clock += pause
    link = {"root_trace_id": uuid(1), "root_run_id": uuid(1), "started_at": NOW, "ended_at": NOW}
    p.publish(TraceEvent(kind=Kind.LINK, source_id=uuid(2), **link))  # type: ignore[arg-type]
    p.work()
    home = p.states[partition_of(uuid(2).encode(), PARTITIONS)]
    assert (home.split_runs, sum(s.split_runs for s in p.states)) == (1, 1)
    again = State(LIMITS)
    again.restore(home.close(flush=True).state)
    p.states[partition_of(uuid(2).encode(), PARTITIONS)] = again
    p.publish(node(2, 2))
    p.publish(node(3, 1, parent_run_id=uuid(2)))
    p.work()
    first, second, inner = (p.out[f"{uuid(run)}/{n}"] for run, n in ((2, 1), (2, 2), (3, 1)))
    assert (first.root_trace_id, list(first.marks)) == (uuid(2), [])
    assert (second.root_trace_id, list(second.marks)) == (uuid(1), ["run_split"])
    assert (inner.root_trace_id, list(inner.marks)) == (uuid(1), ["run_split"])
    assert again.position().split_runs == 1


def test_nodes_that_name_their_caller_are_not_split_from_their_run() -> None:
    p = Pipeline()
    p.publish(node(2, 1, parent_run_id=uuid(1)))
    p.publish(node(3, 1, parent_run_id=uuid(2)))  # is in the trace of run 2, and marked
    p.work()
    link = {"root_trace_id": uuid(99), "root_run_id": uuid(1), "started_at": NOW, "ended_at": NOW}
    p.publish(TraceEvent(kind=Kind.LINK, source_id=uuid(2), **link))  # type: ignore[arg-type]
    p.work()
    p.publish(node(3, 2, parent_run_id=uuid(2)))
    p.work()
    assert list(p.out[f"{uuid(3)}/2"].marks) == []
    assert sum(s.split_runs for s in p.states) == 0


def test_a_caller_that_is_known_to_be_a_root_is_not_a_guess() -> None:
    p = Pipeline()
    p.publish(node(1, 1))
    p.publish(node(2, 1, parent_run_id=uuid(1)))
    p.work()
    assert p.out[f"{uuid(2)}/1"].run_trace_id == otel_trace_id(uuid(1))
    assert list(p.out[f"{uuid(2)}/1"].marks) == []


def test_links_in_a_circle_end_at_their_first_step() -> None:
    p = Pipeline()
    for a, b in ((1, 2), (2, 1)):
        p.publish(
            TraceEvent(kind=Kind.LINK, source_id=uuid(a), root_run_id=uuid(b), started_at=NOW, ended_at=NOW)
        )
    p.work()
    p.publish(node(3, 1, parent_run_id=uuid(1)))
    p.publish(node(4, 1, parent_run_id=uuid(2)))
    p.work()
    assert (p.out[f"{uuid(3)}/1"].root_run_id, p.out[f"{uuid(4)}/1"].root_run_id) == (uuid(2), uuid(1))


def test_a_run_with_a_root_takes_no_other() -> None:
    p = Pipeline()
    for root in (7, 8):
        p.publish(
            TraceEvent(
                kind=Kind.LINK,
                event_id=f"e{root}",
                source_id=uuid(1),
                root_run_id=uuid(root),
                started_at=NOW,
                ended_at=NOW,
            )
        )
    p.publish(node(2, 1, parent_run_id=uuid(1)))
    p.work()
    assert p.out[f"{uuid(2)}/1"].root_run_id == uuid(7)


@pytest.mark.parametrize("key", [None, b"other"])
def test_a_misrouted_record_is_a_dead_letter_that_names_the_partitioner(
    key: bytes | None,
) -> None:
    p = Pipeline()
    wrong = next(n for n in range(PARTITIONS) if key is None or n != partition_of(key, PARTITIONS))
    p.logs[wrong].append(Source(0, NOW // 1000, key, codec.encode(complete(node(1, 1), NOW))))
    p.work()
    from tailrace.records import DeadLetter

    (dead_letter,) = [codec.decode(v, DeadLetter) for v in p.dead_letters]
    assert (dead_letter.reason, dead_letter.stage) == ("misrouted", "apply")
    assert "murmur2_random" in dead_letter.detail
    assert not p.out


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@given(
    texts,
    texts,
    st.none() | texts,
    st.none() | texts,
    st.none() | texts,
    st.none() | st.integers(0, 2**60),
    st.integers(0, 2**60),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_link_record_is_what_the_codec_would_write(
    run: str,
    trace: str,
    root: str | None,
    app: str | None,
    tenant: str | None,
    start: int | None,
    at: int,
    split: bool,
) -> None:
    root_, app_, tenant_ = (None if t is None else t.encode() for t in (root, app, tenant))
    link = Link(trace.encode(), root_, start, app_, tenant_)
    written = links.record(run.encode(), link, at)
    event = codec.decode(written, TraceEvent)
    assert codec.encode(event) == written
    assert (event.kind, event.source_id, event.root_trace_id, event.root_run_id, event.root_app_id) == (
        "link",
        run,
        trace,
        root,
        app,
    )
    assert (event.root_started_at, event.started_at, event.ended_at, event.published_at) == (
        start,
        at,
        at,
        at,
    )
    assert (event.event_id, event.tenant_id) == (f"link/{run}", tenant)
    packed = RunLink(
        appended_at=5,
        offset=7,
        root_trace_id=trace,
        root_run_id=root,
        root_app_id=app,
        root_started_at=start,
        tenant_id=tenant,
        split=split,
    )
    link.split = split
    assert links.pack(link, 5, 7) == wire.encode_versioned(packed)
    assert links.unpack(links.pack(link, 5, 7)) == (link, 5, 7)


def test_links_are_kept_until_they_take_too_much_memory_and_restored_in_order() -> None:
    def link(name: bytes) -> tuple[bytes, Link]:
        return name, Link(b"r", None, None, None)

    one = links.Links(1000, 1 << 20)
    one.add(*link(b"0"), 0, 0)
    kept = links.Links(1000, 3 * one.size + 10)
    log: dict[bytes, bytes | None] = {}
    for i in range(5):
        kept.advance(i * 400)
        kept.add(*link(b"%d" % i), i * 400, i)
        log.update(kept.changes())
    assert (list(kept), kept.forgotten) == ([b"2", b"3", b"4"], 2)
    assert [k for k, v in log.items() if v is None] == [b"l/0", b"l/1"]
    kept.advance(7 * 24 * 3_600_000)
    assert list(kept) == [b"2", b"3", b"4"]
    for clock in (1600, 7 * 24 * 3_600_000):
        other = links.Links(1000, 3 * one.size + 10)
        other.restore([(k[2:], v) for k, v in log.items() if v is not None], clock)
        assert (list(other), other.size) == (list(kept), kept.size)
        assert [other.get(run) for run in other] == [kept.get(run) for run in kept]
        assert not other.add(*link(b"3"), 9000, 9)
        other.add(*link(b"5"), 9000, 9)
        assert list(other) == [b"3", b"4", b"5"]
        assert dict(other.changes()) == {b"l/5": links.pack(link(b"5")[1], 9000, 9), b"l/2": None}
        assert other.get(b"2") is None


def test_a_link_that_cannot_be_read_names_its_key() -> None:
    value = links.pack(Link(b"root", None, None, None), 5, 7)
    for broken in (b"", b"\1", value[:2]):
        with pytest.raises(UnreadableRecord) as e:
            State(LIMITS).restore([(b"l/run", broken)])
        assert e.value.key == b"l/run"
    table = links.Links(1000, 1 << 20)
    table.restore([(b"run", value[:-3])], 7_000)
    with pytest.raises(UnreadableRecord) as late:
        table.find(b"run", None)
    assert late.value.key == b"l/run"


def test_links_are_few() -> None:
    """One for a chatflow's turn, none for a plain workflow."""
    p = Pipeline()
    for run in range(10, 20):
        for n in range(12):
            p.publish(node(run, n, message_id=uuid(run + 1000)))
        for n in range(12):
            p.publish(node(run + 100, n))
    p.work()
    counts: dict[str, int] = defaultdict(int)
    for c in p.out.values():
        counts[str(c.root_trace_id)] += 1
    assert (p.links, set(counts.values())) == (10, {12})
