"""A trace that pauses for longer than the processor keeps it is one trace in Opik, with its ratings."""

from __future__ import annotations

import msgspec
import pytest

from connectors.sdk.outcomes import Rejected
from connectors.sinks.opik.mapping import to_parts
from connectors.sinks.opik.scores import Parts
from streams.processing.starts import COST
from tailrace.records import Kind, Moderation
from tests.streams.events import LIMITS, NOW, event, uuid
from tests.streams.pausing import MINUTE, WEEK, Log, M, message, of_turn, rating


def opik(log: Log) -> list[Parts]:
    """What Opik gets of the turn."""
    made = []
    for r in log.found:
        if (r.event.message_id or r.event.workflow_run_id) in (M, uuid(1)):
            parts = to_parts(r, "project")
            assert isinstance(parts, tuple), parts
            made.append(parts)
    return made


def one_trace(made: list[Parts]) -> None:
    """In Opik they are one trace, every parent is there, and every score is of the trace."""
    spans = [msgspec.json.decode(span) for _, span, _, _ in made if span is not None]
    traces = [msgspec.json.decode(trace) for trace, _, _, _ in made if trace is not None]
    (trace,) = {t["id"] for t in traces}
    assert {s["trace_id"] for s in spans} == {trace}
    ids = {s["id"] for s in spans}
    assert {s["parent_span_id"] for s in spans if "parent_span_id" in s} <= ids
    assert {score[:2] for _, _, score, _ in made if score is not None} <= {("traces", trace)}


@pytest.mark.parametrize("pause", [16 * MINUTE, WEEK])
def test_a_run_that_waits_for_a_person_is_one_trace_with_its_first_node_in_it(pause: int) -> None:
    log = Log()
    later = NOW + pause * 1000
    first = log.append(event(n=1, **of_turn()))
    log.append(event(n=2, started_at=later, ended_at=later, **of_turn()), after=pause)
    log.append(event(Kind.WORKFLOW_RUN, started_at=NOW, ended_at=later, **of_turn()))
    log.append(message(ended_at=later))
    log.append(rating(later + pause * 1000), after=pause)
    log.append(rating(later + 2 * pause * 1000), after=pause)
    assert {r.context.trace_started_at for r in log.found} == {first.trace_started_at} == {NOW + 1}
    assert [list(r.context.marks) for r in log.found] == [[]] * 6
    made = opik(log)
    one_trace(made)
    assert sum(score is not None for _, _, score, _ in made) == 2
    assert log.state.evicted >= 3


def test_a_rating_with_the_documented_start_scores_the_trace_that_an_earlier_event_began() -> None:
    log = Log()
    log.append(
        event(
            Kind.MODERATION,
            source_id="m",
            started_at=NOW - 5_000_000,
            ended_at=NOW - 4_000_000,
            moderation=Moderation(action="pass"),
            message_id=M,
            workflow_run_id=None,
        )
    )
    log.append(message())
    stated = {"root_trace_id": M, "root_started_at": NOW}
    log.append(rating(NOW + 20 * MINUTE * 1000, **stated), after=20 * MINUTE)
    assert {r.context.trace_started_at for r in log.found} == {NOW - 5_000_000}
    one_trace(opik(log))


def test_a_rating_of_a_trace_that_was_never_there_is_refused() -> None:
    log = Log()
    log.append(rating(NOW))
    log.append(rating(NOW + 1), after=WEEK)
    answers = [to_parts(r, "project") for r in log.found]
    assert [a.reason for a in answers if isinstance(a, Rejected)] == ["trace_start_unknown"] * 2
    assert isinstance(to_parts(log.found[0], "project", id_time_ms=NOW // 1000), tuple)


def test_a_rating_of_a_trace_whose_start_was_forgotten_is_refused_with_the_setting() -> None:
    log = Log(msgspec.structs.replace(LIMITS, start_bytes=2 * COST))
    log.append(event(n=1, **of_turn()))
    for _ in range(4):
        log.pass_time(20 * MINUTE)
    log.append(rating(log.clock * 1000))
    answer = to_parts(log.found[-1], "project")
    assert isinstance(answer, Rejected)
    assert answer.reason == "trace_start_unknown"
    assert "streams.remembered_start_bytes" in answer.detail
