"""What the publisher makes of evaluations: target, result, ids, Kafka key; and what it refuses."""

from __future__ import annotations

import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import Evaluation, EvaluationSource, EvaluationTarget, InvalidEvent, Kind, TraceEvent, codec
from tailrace.content import Limits
from tailrace.evaluations import prepared, session_of, target_of, trace_of
from tailrace.event_lines import parse
from tailrace.identity import complete, kafka_key
from tailrace.prepare import prepared as as_produced

NOW = 1_767_225_600_000_000
FLAG = Evaluation(flag=True)
P, M, R, T, C, S = "parent", "message", "run", "trace", "conversation", "session"


def event(body: Evaluation | None = FLAG, **fields: Any) -> TraceEvent:
    values: dict[str, Any] = {
        "started_at": NOW,
        "ended_at": NOW + 1,
        "name": "correctness",
        "evaluation": body,
    }
    return TraceEvent(**{"kind": Kind.EVALUATION, **values, **fields})


def of_any(**values: Any) -> Evaluation:
    """A body with values of any type."""
    return Evaluation(**values)


def completed(body: Evaluation | None = FLAG, **fields: Any) -> TraceEvent:
    return complete(event(body, **fields), NOW, lambda: "minted")


def refused(body: Evaluation | None = FLAG, **fields: Any) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as e:
        completed(body, **fields)
    return e.value


@pytest.mark.parametrize(
    ("fields", "target", "trace", "key"),
    [
        ({"parent_id": P, "trace_id": T}, "operation", T, T),
        ({"parent_id": P, "message_id": M, "workflow_run_id": R}, "operation", M, M),
        ({"parent_id": P, "workflow_run_id": R, "parent_run_id": "outer"}, "operation", R, "outer"),
        ({"parent_id": P, "root_run_id": "rr"}, "operation", "rr", "rr"),
        ({"trace_id": T, "message_id": M}, "trace", T, T),
        ({"message_id": M, "conversation_id": C}, "trace", M, M),
        ({"workflow_run_id": R}, "trace", R, R),
        ({"root_trace_id": "rt", "workflow_run_id": R}, "trace", R, "rt"),
        ({"root_trace_id": "rt"}, "trace", "rt", "rt"),
        ({"conversation_id": C, "session_id": S}, "session", None, C),
        ({"session_id": S, "app_id": "a"}, "session", None, S),
        # what it says wins; a session has no trace, whatever else it names
        ({"evaluation_target": "session", "conversation_id": C, "message_id": M}, "session", None, C),
        ({"evaluation_target": "session", "session_id": S, "trace_id": T}, "session", None, S),
        ({"evaluation_target": "trace", "trace_id": T, "session_id": S}, "trace", T, T),
    ],
)
def test_target_trace_and_key(fields: dict[str, Any], target: str, trace: str | None, key: str) -> None:
    done = completed(**fields)
    assert (done.evaluation_target, done.trace_id, kafka_key(done)) == (target, trace, key)


def test_native_ids_name_an_operation_and_its_trace() -> None:
    done = completed(otel_trace_id=b"T" * 16, otel_parent_span_id=b"P" * 8)
    assert done.evaluation_target == "operation"
    assert done.trace_id == (b"T" * 16).hex() == kafka_key(done)


# -- the own id
def test_the_same_evaluators_result_about_the_same_is_the_same_evaluation() -> None:
    body = Evaluation(number=0.5, source=EvaluationSource.MODEL, evaluator="judge", evaluator_version="1")
    first = completed(body, parent_id=P, trace_id=T, tenant_id="t")
    again = completed(
        msgspec.structs.replace(body, number=0.9, explanation="else"),
        parent_id=P,
        trace_id=T,
        tenant_id="t",
        started_at=NOW + 1,
        user_id="u",
        app_id="a",
    )
    assert again.source_id == first.source_id != "minted"
    assert again.event_id == first.event_id, "a duplicate, unless it has a higher revision"
    corrected = completed(body, parent_id=P, trace_id=T, tenant_id="t", revision=1)
    assert (corrected.source_id, corrected.event_id == first.event_id) == (first.source_id, False)


def test_what_makes_another_evaluation() -> None:
    body = Evaluation(number=0.5)
    about: dict[str, Any] = {"parent_id": P, "trace_id": T}
    found = [
        completed(body, **about),
        completed(body, **about, name="tone"),
        completed(body, **about, tenant_id="t"),
        completed(body, trace_id=T),
        completed(body, parent_id=P, trace_id="T2"),
        completed(body, parent_id="P2", trace_id=T),
        completed(msgspec.structs.replace(body, evaluator="judge"), **about),
        completed(msgspec.structs.replace(body, evaluator_version="2"), **about),
        completed(msgspec.structs.replace(body, source=EvaluationSource.PERSON), **about),
        completed(body, session_id=T),
        completed(body, session_id=T, app_id="a"),
        completed(body, session_id=T, app_id="b"),
    ]
    assert len({e.source_id for e in found}) == len(found)


def test_the_own_id_of_other_languages() -> None:
    """The vector of schemas/README.md."""
    body = Evaluation(number=1.0, source=EvaluationSource.MODEL, evaluator="judge", evaluator_version="3")
    done = completed(body, tenant_id="acme", trace_id="m-1", parent_id="n-1")
    assert done.source_id == "880eebe1-cb09-8ee6-962a-88e9e1ae1d37"


def test_an_id_that_the_publisher_gives_stays() -> None:
    done = completed(trace_id=T, source_id="own", event_id="e")
    assert (done.source_id, done.event_id) == ("own", "e")
    assert completed(trace_id=T, source_id="").source_id == completed(trace_id=T).source_id


@given(st.sampled_from(["number", "label", "flag", "both"]), st.booleans())
def test_completing_again_changes_nothing(result: str, session: bool) -> None:
    bodies = {
        "number": Evaluation(number=1),
        "label": Evaluation(label="x"),
        "flag": Evaluation(flag=False),
        "both": Evaluation(number=2.5, label="x", explanation="e"),
    }
    about: dict[str, Any] = {"session_id": S} if session else {"parent_id": P, "message_id": M}
    once = completed(bodies[result], **about)
    assert complete(once, NOW + 9) == once
    assert codec.decode(codec.encode(once), TraceEvent).evaluation == once.evaluation


# -- results
@pytest.mark.parametrize("number", [1, 0, -3, 0.25, 2**53, True + 0, Decimal("0.1"), Fraction(1, 4)])
def test_a_number_is_a_double(number: Any) -> None:
    done = completed(Evaluation(number=number), trace_id=T)
    assert done.evaluation is not None
    assert type(done.evaluation.number) is float
    assert struct.pack("<d", number) in codec.encode(done)


def test_other_real_numbers_are_floats_too() -> None:
    class Scalar(float):
        pass

    found = as_produced(event(Evaluation(number=Scalar(0.5)), trace_id=T), NOW, Limits(100_000, True))
    assert codec.decode(found.value, TraceEvent).evaluation == Evaluation(number=0.5)


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        (None, "evaluation", "needs a result"),
        ({"number": 1.0}, "evaluation", "must be an Evaluation"),
        (Evaluation(), "evaluation", "has no result"),
        (Evaluation(label="", explanation="because"), "evaluation", "has no result"),
        (Evaluation(flag=True, number=1.0), "evaluation.number", "beside a flag"),
        (Evaluation(flag=False, label="x"), "evaluation.label", "beside a flag"),
        (Evaluation(number=float("nan")), "evaluation.number", "finite"),
        (Evaluation(number=float("-inf")), "evaluation.number", "finite"),
        (Evaluation(number=10**400), "evaluation.number", "finite"),
        (of_any(number=Decimal("sNaN")), "evaluation.number", "finite"),
        (of_any(number=Decimal("Infinity")), "evaluation.number", "finite"),
        (Evaluation(number=True), "evaluation.number", "evaluation.flag"),
        (of_any(number=1j), "evaluation.number", "a number"),
        (of_any(number="0.5"), "evaluation.number", "a number"),
        (of_any(flag=1), "evaluation.flag", "True, False or None"),
        (of_any(label=7), "evaluation.label", "a string"),
    ],
)
def test_results_that_are_none(body: Any, field: str, text: str) -> None:
    error = refused(body, trace_id=T)
    assert error.field == field
    assert text in str(error)


def test_half_a_surrogate_pair_in_a_text_is_no_reason_to_refuse() -> None:
    body = Evaluation(label="\ud800", evaluator="\udc00", explanation="\ud800")
    found = as_produced(event(body, trace_id=T, name="a\ud800"), NOW, Limits(100_000, True)).event
    assert found.evaluation is not None
    texts = (found.name, found.evaluation.label, found.evaluation.evaluator, found.evaluation.explanation)
    assert texts == ("a\ufffd", "\ufffd", "\ufffd", "\ufffd")
    again = as_produced(event(body, trace_id=T, name="a\ud800"), NOW, Limits(100_000, True)).event
    assert again.source_id == found.source_id


# -- targets
@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({}, "evaluation_target", "set parent_id and trace_id for an operation"),
        ({"parent_id": P}, "trace_id", "set trace_id, message_id or workflow_run_id"),
        ({"evaluation_target": "operation", "trace_id": T}, "parent_id", "set it to the source_id"),
        ({"evaluation_target": "operation"}, "trace_id", "is missing"),
        ({"evaluation_target": "trace", "session_id": S}, "trace_id", "is missing"),
        ({"evaluation_target": "session", "trace_id": T}, "session_id", "set conversation_id or session_id"),
        ({"evaluation_target": "trace", "trace_id": T, "parent_id": P}, "parent_id", "is trace"),
        ({"evaluation_target": "session", "session_id": S, "parent_id": P}, "parent_id", "is session"),
        (
            {"evaluation_target": "trace", "trace_id": T, "otel_parent_span_id": b"P" * 8},
            "otel_parent_span_id",
            "is trace",
        ),
        ({"evaluation_target": "unknown", "trace_id": T}, "evaluation_target", "operation, session, trace"),
        ({"evaluation_target": "node", "trace_id": T}, "evaluation_target", "operation, session, trace"),
        ({"evaluation_target": 1, "trace_id": T}, "evaluation_target", "operation, session, trace"),
        ({"trace_id": T, "name": None}, "name", "e.g. correctness"),
        ({"trace_id": T, "name": " "}, "name", "e.g. correctness"),
        ({"session_id": "\ud800"}, "session_id", "valid Unicode"),
        ({"trace_id": T, "parent_id": 7}, "parent_id", "a string"),
    ],
)
def test_targets_that_are_none(fields: dict[str, Any], field: str, text: str) -> None:
    error = refused(**fields)
    assert error.field == field
    assert text in str(error)


def test_other_kinds_have_no_target() -> None:
    with pytest.raises(InvalidEvent, match="evaluation_target: is for evaluations"):
        complete(event(None, kind=Kind.TOOL, evaluation_target="trace"), NOW)


_texts = st.none() | st.sampled_from(["", "a", "b", "\ud800"])
_any: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ("name", "parent_id", "trace_id", "message_id", "workflow_run_id", "root_trace_id", "tenant_id"),
        _texts,
    ),
    "session_id": _texts,
    "conversation_id": _texts,
    "evaluation_target": st.none() | st.sampled_from([*EvaluationTarget, "x", 1]),
    "evaluation": st.none()
    | st.builds(
        Evaluation,
        number=st.none() | st.floats() | st.integers() | st.booleans() | st.text(max_size=2),
        label=_texts,
        flag=st.none() | st.booleans(),
        evaluator=_texts,
    ),
}


@given(st.fixed_dictionaries(_any))
def test_nothing_but_the_documented_refusal_is_raised(fields: dict[str, Any]) -> None:
    try:
        done = complete(TraceEvent(kind=Kind.EVALUATION, started_at=NOW, ended_at=NOW, **fields), NOW)
        value = codec.encode(done)
    except InvalidEvent:
        return
    assert done.evaluation is not None
    texts = {n: v or None for n, v in msgspec.structs.asdict(done.evaluation).items() if v == ""}
    assert codec.decode(value, TraceEvent).evaluation == msgspec.structs.replace(done.evaluation, **texts)
    assert (done.trace_id is None) == (done.evaluation_target == "session")
    assert kafka_key(done)
    assert prepared(done) == done


# -- lines
def test_a_line_of_json() -> None:
    line = (
        b'{"kind": "evaluation", "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01Z", '
    )
    rest = b'"name": "n", "trace_id": "T", "evaluation": {"number": 1, "source": "code"}}'
    done = complete(parse(line + rest), NOW)
    assert done.evaluation == Evaluation(number=1.0, source=EvaluationSource.CODE)
    assert done.evaluation_target == EvaluationTarget.TRACE


def test_what_readers_see_of_an_incomplete_one() -> None:
    assert target_of(event()) is None
    assert (trace_of(event()), session_of(event())) == (None, None)
    assert target_of(event(evaluation_target="unknown", trace_id=T)) == EvaluationTarget.TRACE
