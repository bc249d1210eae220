"""The harness itself: planted faults are counted exactly, and the load is a function of its seed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.testing.doubles.received import ReceivedSpan, tree
from tailrace import codec
from tailrace.delivery_reports import DeliveryReport
from tailrace.identity import complete
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.records import Kind, ParentKind, TraceContext, TraceEvent
from tests.harness import enriched
from tests.harness.enriched import Enriched, Source, Topic
from tests.harness.ledger import (
    Ledger,
    Obligations,
    account,
    arrived,
    event_id_of,
    expected_tree,
    judge,
    must_arrive,
    source_of,
)
from tests.harness.load import PER_RUN, Load, event_at, events
from tests.harness.processes import Child, Lag, wait_until

LOAD = Load(seed=7, events=240)
EVENTS = list(events(LOAD))
Change = Callable[[ReceivedSpan], ReceivedSpan]


def span_of(event: TraceEvent, **changes: Any) -> ReceivedSpan:
    """What a correct sink sends."""
    e = must_arrive(event)
    span = ReceivedSpan(
        request=1,
        received_at=1,
        trace_id=e.trace_id,
        span_id=e.span_id,
        parent_span_id=e.parent_span_id,
        name=e.name or "other",
        kind="internal",
        start_ns=e.start_ns,
        end_ns=e.end_ns,
        attributes={**e.attributes, "more": 1},
    )
    return msgspec.structs.replace(span, **changes)


def obligations_of(
    tmp_path: Path, acked: list[TraceEvent], failed: tuple[TraceEvent, ...] = ()
) -> Obligations:
    path = tmp_path / f"ledger-{len(list(tmp_path.iterdir()))}.jsonl"
    with Ledger(path) as ledger:
        ledger.started(LOAD.name, LOAD.seed, LOAD.events)
        for i, event in enumerate(acked):
            ledger.report(
                event,
                i,
                LOAD.seed,
                DeliveryReport(event_id=event_id_of(event), partition=i % 4, offset=i // 4),
            )
        for event in failed:
            ledger.report(event, 0, LOAD.seed, DeliveryReport(event_id=event_id_of(event), error="timed out"))
    return Obligations.read(path)


@pytest.fixture(scope="module")
def obligations(tmp_path_factory: pytest.TempPathFactory) -> Obligations:
    return obligations_of(tmp_path_factory.mktemp("ledger"), EVENTS)


# -- the load
def test_the_load_is_a_function_of_its_seed() -> None:
    assert list(events(LOAD)) == EVENTS
    assert event_at(LOAD, 100) == EVENTS[100]
    other = list(events(msgspec.structs.replace(LOAD, seed=8)))
    probe = list(events(msgspec.structs.replace(LOAD, name="probe-0")))
    ids = {event_id_of(e) for e in [*EVENTS, *other, *probe]}
    assert len(ids) == 3 * LOAD.events, "no id twice, nor in another seed or load"


def test_ids_are_those_of_the_publisher() -> None:
    for event in EVENTS:
        done = complete(event, 1)
        assert (done.event_id, done.source_id, done.trace_id) == (
            event_id_of(event),
            source_of(event),
            event.workflow_run_id,
        )


def test_events_have_about_a_kilobyte_of_varied_text() -> None:
    sizes = [
        len(codec.encode(msgspec.structs.replace(complete(e, LOAD.started_at), host_name="host-1")))
        for e in EVENTS
    ]
    assert 950 <= sum(sizes) / len(sizes) <= 1050
    assert min(sizes) >= 750
    assert max(sizes) <= 1250
    assert len({str(e.outputs) for e in EVENTS}) == len(EVENTS)


@pytest.mark.parametrize("count", [1, PER_RUN, 100, 240])
def test_runs_are_whole_children_first_and_interleaved(count: int) -> None:
    seen: dict[str, list[TraceEvent]] = {}
    for event in events(msgspec.structs.replace(LOAD, events=count)):
        seen.setdefault(str(event.workflow_run_id), []).append(event)
    incomplete = [run for run in seen.values() if len(run) < PER_RUN]
    assert len(incomplete) == (1 if count % PER_RUN else 0)
    for run in seen.values():
        ids = [source_of(e) for e in run]
        parents = [e.parent_id or e.workflow_run_id for e in run]
        if len(run) == PER_RUN:
            assert [e.kind for e in run].count(Kind.NODE_EXECUTION) == 10
            assert run[-1].kind == Kind.WORKFLOW_RUN
            assert all(parent in ids[i + 1 :] for i, parent in enumerate(parents[:-1])), (
                "children come before parents"
            )


def test_the_tree_has_a_node_inside_a_node_and_a_span_inside_a_node() -> None:
    run = [e for e in EVENTS if e.workflow_run_id == EVENTS[0].workflow_run_id]
    by_id = {source_of(e): e for e in run}
    kinds = Counter((e.kind, by_id[e.parent_id].node_type) for e in run if e.parent_id)
    assert kinds == {(Kind.NODE_EXECUTION, "iteration"): 2, (Kind.SPAN, "llm"): 1}


# -- the canonical form
def test_what_must_arrive_follows_the_documented_mapping() -> None:
    node = next(e for e in EVENTS if e.kind == Kind.NODE_EXECUTION and e.parent_id is None)
    got = must_arrive(node)
    assert (
        got.trace_id
        == otel_trace_id(str(node.workflow_run_id)).hex()
        == str(node.workflow_run_id).replace("-", "")
    )
    assert got.span_id == otel_span_id(str(node.source_id)).hex()
    assert got.parent_span_id == otel_span_id(str(node.workflow_run_id)).hex()
    assert (got.name, got.start_ns, got.end_ns) == (
        "dify.node.execution",
        node.started_at * 1000,
        node.ended_at * 1000,
    )
    assert got.attributes["dify.node.execution_id"] == node.source_id
    run = next(e for e in EVENTS if e.kind == Kind.WORKFLOW_RUN)
    assert (must_arrive(run).name, must_arrive(run).parent_span_id) == ("dify.workflow.run", None)
    inside = next(e for e in EVENTS if e.kind == Kind.SPAN)
    assert must_arrive(inside).parent_span_id == otel_span_id(str(inside.parent_id)).hex()


@pytest.mark.parametrize("event", EVENTS[:PER_RUN])
def test_a_correct_span_has_the_canonical_form_of_its_event(event: TraceEvent) -> None:
    assert arrived(span_of(event), event.kind).sha256 == must_arrive(event).sha256


CORRUPTIONS: list[Change] = [
    lambda s: msgspec.structs.replace(s, trace_id="f" * 32),
    lambda s: msgspec.structs.replace(s, span_id="f" * 16),
    lambda s: msgspec.structs.replace(s, parent_span_id="f" * 16),
    lambda s: msgspec.structs.replace(s, start_ns=s.start_ns + 1),
    lambda s: msgspec.structs.replace(s, end_ns=s.end_ns - 1000),
    lambda s: msgspec.structs.replace(s, name="dify.node.execution.draft"),
    lambda s: msgspec.structs.replace(s, attributes={**s.attributes, "dify.workflow.run_id": "another"}),
    lambda s: msgspec.structs.replace(
        s, attributes={k: v for k, v in s.attributes.items() if k != "dify.app_id"}
    ),
]


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_any_change_of_what_must_arrive_is_corrupt(obligations: Obligations, corrupt: Change) -> None:
    spans = [span_of(e) for e in EVENTS]
    at = next(i for i, e in enumerate(EVENTS) if e.kind == Kind.NODE_EXECUTION)
    spans[at] = corrupt(spans[at])
    verdict = judge(obligations, spans)
    assert (verdict.corrupt, verdict.lost, verdict.spurious, verdict.ok) == (1, 0, 0, False)
    assert "must be" in verdict.examples[0]


# -- the judge
def test_all_delivered_is_ok_in_one_line(obligations: Obligations) -> None:
    verdict = judge(obligations, [span_of(e) for e in EVENTS], scenario="calm")
    verdict.require(acked=240, max_duplicates=0)
    assert verdict.line() == (
        "calm seed 7: acked 240, delivered 240, lost 0, duplicates 0 (0.00 %), spurious 0, corrupt 0, "
        "excused 0, "
        "unacked arrived 0, distinct 240, over 0.0 s: ok"
    )
    assert tree([span_of(e) for e in EVENTS]) == expected_tree(obligations)


@given(data=st.data())
def test_random_edits_are_counted_exactly(obligations: Obligations, data: st.DataObject) -> None:
    index = st.integers(0, len(EVENTS) - 1)
    lost = data.draw(st.sets(index, max_size=20), "lost")
    remain = sorted(set(range(len(EVENTS))) - lost)
    again = data.draw(st.lists(st.sampled_from(remain), max_size=30), "duplicated")
    corrupt = data.draw(
        st.dictionaries(st.sampled_from(remain), st.sampled_from(CORRUPTIONS[:5]), max_size=10), "corrupt"
    )
    strangers = data.draw(st.lists(st.text(max_size=5), max_size=10), "spurious")
    excused = data.draw(st.sets(st.sampled_from(sorted(lost)) if lost else st.nothing()), "excused")

    spans = [corrupt[i](span_of(EVENTS[i])) if i in corrupt else span_of(EVENTS[i]) for i in remain]
    spans += [span_of(EVENTS[i]) for i in again]
    spans += [span_of(EVENTS[0], attributes={"tailrace.event_id": i}) for i in strangers]
    verdict = judge(
        obligations,
        data.draw(st.permutations(spans)),
        dead_lettered={event_id_of(EVENTS[i]) for i in excused},
    )

    assert verdict.lost == len(lost - excused)
    assert verdict.excused == len(excused)
    assert verdict.delivered == len(remain)
    assert verdict.duplicates == len(again)
    assert verdict.redelivered == len(set(again))
    assert verdict.spurious == len(strangers)
    assert verdict.corrupt == len(corrupt)
    assert verdict.ok == (lost == excused and not strangers and not corrupt)


@given(
    st.lists(st.sampled_from("abcdef")),
    st.lists(st.sampled_from("abcdefgh")),
    st.sets(st.sampled_from("efgh")),
)
def test_accounts_balance(owed: list[str], received: list[str], allowed: set[str]) -> None:
    a = account(owed, received, allowed=allowed)
    assert a.lost | a.delivered == set(owed)
    assert not a.lost & a.delivered
    known = {i for i in received if i in set(owed) | allowed}
    assert len(received) == len(known) + a.duplicates + sum(a.spurious.values())


def test_a_span_without_the_event_id_is_lost_and_spurious(obligations: Obligations) -> None:
    spans = [span_of(e) for e in EVENTS[1:]] + [span_of(EVENTS[0], attributes={})]
    verdict = judge(obligations, spans)
    assert (verdict.lost, verdict.spurious) == (1, 1)
    with pytest.raises(AssertionError, match=f"lost: {event_id_of(EVENTS[0])}"):
        verdict.require()


def test_an_event_without_a_successful_report_may_arrive_but_need_not(tmp_path: Path) -> None:
    owed = obligations_of(tmp_path, EVENTS[:10], failed=(EVENTS[10], EVENTS[11]))
    assert (len(owed.acked), len(owed.unacked), owed.seeds) == (10, 2, (7,))
    verdict = judge(owed, [span_of(e) for e in EVENTS[:11]])
    assert (verdict.ok, verdict.unacked_arrived, verdict.acked) == (True, 1, 10)


def test_nothing_promised_or_nothing_hit_is_not_a_success(obligations: Obligations) -> None:
    with pytest.raises(AssertionError, match="the scenario needs 1000"):
        judge(obligations, [span_of(e) for e in EVENTS]).require(acked=1000)
    with pytest.raises(AssertionError, match="0 ids were redelivered"):
        judge(obligations, [span_of(e) for e in EVENTS]).require(redelivered=1)
    with pytest.raises(AssertionError, match="2 duplicates, allowed are 1"):
        judge(obligations, [span_of(e) for e in [*EVENTS, *EVENTS[:2]]]).require(max_duplicates=1)
    with pytest.raises(AssertionError, match="0 events were acknowledged"):
        judge(Obligations(acked={}), []).require()


def test_a_ledger_is_appended_to_and_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    report = DeliveryReport(event_id=event_id_of(EVENTS[0]), partition=0, offset=0)
    for seed in (1, 2):
        with Ledger(path) as ledger:
            ledger.started("load", seed, 1)
            ledger.report(EVENTS[0], 0, seed, report)
    with path.open("ab") as f:
        f.write(b'{"line":"acked","event_')
    assert (Obligations.read(path).seeds, len(Obligations.read(path).acked)) == ((1, 2), 1)


# -- trace.enriched
def enriched_topic(owed: Obligations) -> tuple[list[Source], list[Enriched]]:
    """The topics as a correct processor leaves them.

    The offsets of trace.enriched have a gap after every second record.
    """
    source, records = [], []
    for o in owed.acked.values():
        key, value = o.trace.encode(), o.event_id.encode()
        source.append(
            Source(
                partition=o.partition,
                offset=o.offset,
                key=key,
                digest=enriched.digest(value),
                event_id=o.event_id,
            )
        )
        context = TraceContext(
            generation=0,
            sequence=o.offset,
            source_offset=o.offset,
            appended_at=1,
            span_id=bytes.fromhex(o.expected.span_id),
            parent_span_id=bytes.fromhex(o.expected.parent_span_id) if o.expected.parent_span_id else None,
            parent_kind=ParentKind.RUN,
            marks=(),
            run_trace_id=bytes.fromhex(o.expected.trace_id),
            message_trace_id=bytes(16),
            trace_started_at=1,
        )
        offset = o.offset + o.offset // 2
        records.append(
            Enriched(
                partition=o.partition, offset=offset, key=key, digest=enriched.digest(value), context=context
            )
        )
    return source, records


def topic_of(records: list[Enriched], aborted: int = 0, undecided: int = 0) -> Topic:
    places = [(r.partition, r.offset) for r in records]
    places += [(0, 10_000 + i) for i in range(aborted)] + [(1, 20_000 + i) for i in range(undecided)]
    return Topic(committed=records, uncommitted=places, stable={0: 20_000, 1: 20_000, 2: 20_000, 3: 20_000})


def test_an_exact_enriched_topic_is_ok(obligations: Obligations) -> None:
    source, records = enriched_topic(obligations)
    verdict = enriched.judge(
        obligations, source, topic_of(records, aborted=17, undecided=3), scenario="kills"
    )
    verdict.require(acked=240, aborted=17)
    assert verdict.line() == (
        "kills seed 7: acked 240, enriched 240, lost 0, duplicates 0, spurious 0, altered 0, wrong context "
        "0, gaps 0, "
        "missing in source 0, aborted 17, undecided 3: ok"
    )
    with pytest.raises(AssertionError, match="17 records were aborted, the scenario needs 18"):
        verdict.require(aborted=18)


def counts(verdict: enriched.EnrichedVerdict) -> dict[str, int]:
    return {
        k: v
        for k, v in msgspec.structs.asdict(verdict).items()
        if isinstance(v, int) and k not in ("acked", "enriched") and v
    }


def test_planted_faults_in_trace_enriched_are_found(obligations: Obligations) -> None:
    source, records = enriched_topic(obligations)
    change = msgspec.structs.replace

    def found(records: list[Enriched], source: list[Source] = source) -> dict[str, int]:
        verdict = enriched.judge(obligations, source, topic_of(records))
        assert not verdict.ok
        assert verdict.examples
        return counts(verdict)

    last = max((r for r in records if r.partition == 0), key=lambda r: r.offset)
    context = last.context
    assert context is not None
    again = change(last, offset=last.offset + 1, context=change(context, sequence=context.sequence + 1))
    lost_last = [r for r in records if r is not last]
    assert found(lost_last) == {"lost": 1}
    assert found([r for r in records if r is not records[0]]) == {"lost": 1, "gaps": 1}
    assert found([*records, again]) == {"duplicates": 1}
    assert found([*records, change(again, context=context)]) == {"duplicates": 1, "gaps": 1}
    assert found([*lost_last, change(last, digest=b"other")]) == {"altered": 1}
    assert found([*lost_last, change(last, key=b"other")]) == {"altered": 1}
    assert found([*lost_last, change(last, context=change(context, span_id=bytes(8)))]) == {
        "wrong_context": 1
    }
    assert found([*lost_last, change(last, context=change(context, parent_span_id=None))]) == {
        "wrong_context": 1
    }
    assert found([*lost_last, change(last, context=None)]) == {"wrong_context": 1, "lost": 1}
    stranger = change(again, context=change(context, source_offset=9999, sequence=context.sequence + 1))
    assert found([*records, stranger]) == {"spurious": 1}
    moved = [change(s, event_id="other") if s is source[0] else s for s in source]
    assert found(records, moved) == {"lost": 1, "missing_in_source": 1}


def test_a_new_generation_starts_again_from_zero(obligations: Obligations) -> None:
    _, records = enriched_topic(obligations)
    context = records[0].context
    assert context is not None
    second = [
        msgspec.structs.replace(
            records[0], offset=1000 + n, context=msgspec.structs.replace(context, generation=1, sequence=n)
        )
        for n in (0, 1, 3)
    ]
    assert enriched.sequence_gaps(records) == []
    assert enriched.sequence_gaps([*records, *second]) == [
        "partition 0, generation 1: 3 at offset 1003, must be 2"
    ]


# -- processes
SLEEPER = "import signal, sys, threading; print('{\"n\": 1}', flush=True); threading.Event().wait()"
POLITE = (
    "import signal, sys, threading; signal.signal(15, lambda *_: sys.exit(3)); print('{\"n\": 2}', "
    "flush=True); threading.Event().wait()"
)


def test_a_child_is_killed_restarted_and_terminated(tmp_path: Path) -> None:
    with Child([sys.executable, "-c", SLEEPER], {}, tmp_path / "log") as child:
        assert child.json_line() == {"n": 1}
        before = child.pid
        child.sigkill()
        assert not child.running
        assert child.process.returncode == -signal.SIGKILL
        assert child.start().json_line() == {"n": 1}
        assert (child.pid != before, child.starts) == (True, 2)
        assert child.restart().json_line() == {"n": 1}
        assert child.sigterm(60) == -signal.SIGTERM
    polite = Child([sys.executable, "-c", POLITE], {"A": "b"}, tmp_path / "log")
    with polite:
        polite.json_line()
        assert polite.sigterm(60) == 3


def test_killing_a_child_ends_its_children(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]).wait()"
    with Child([sys.executable, "-c", code], {}, tmp_path / "log") as child:
        child.json_line()
        group = child.pid
        child.sigkill()
        wait_until(lambda: not group_exists(group), 60, "the grandchild is gone")


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_that_ended_by_itself_cannot_be_killed(tmp_path: Path) -> None:
    child = Child(
        [sys.executable, "-c", "print('last words'); raise SystemExit(9)"], {}, tmp_path / "log"
    ).start()
    assert child.wait(60) == 9
    with pytest.raises(AssertionError, match=r"had ended with 9 before it was killed\n(.|\n)*last words"):
        child.sigkill()
    with pytest.raises(AssertionError, match=r"it says so .*ended with 9(.|\n)*last words"):
        wait_until(lambda: False, 60, "it says so", alive=(child,))


def test_waiting_returns_the_result_or_says_what_did_not_happen(tmp_path: Path) -> None:
    asked = iter([0, 0, 5])
    assert wait_until(lambda: next(asked), 60, "five", every=0.001) == 5
    (tmp_path / "log").write_text("".join(f"line {i}\n" for i in range(100)))
    with pytest.raises(
        AssertionError, match=r"not so: it rains .waited 0.01 s; last: None.(.|\n)*line 99"
    ) as e:
        wait_until(lambda: None, 0.01, "it rains", logs=[tmp_path / "log"])
    assert "line 59\n" not in str(e.value)


def test_lag_counts_from_the_start_of_the_log_where_nothing_was_committed() -> None:
    assert Lag(committed=None, begin=5, end=9).records == 4
    assert Lag(committed=3, begin=5, end=9).records == 4
    assert Lag(committed=7, begin=5, end=9).records == 2
    assert Lag(committed=9, begin=5, end=9).records == 0


def test_ledger_lines_of_several_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:

        def report(part: int) -> None:
            for i, event in enumerate(EVENTS[part::4]):
                ledger.report(
                    event, i, 7, DeliveryReport(event_id=event_id_of(event), partition=part, offset=i)
                )

        threads = [threading.Thread(target=report, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert ledger.acked == len(EVENTS)
    assert len(Obligations.read(path).acked) == len(EVENTS)
