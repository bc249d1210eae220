"""What sinks read of evaluations, also of those that no publisher of ours would have let through."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.mapping.evaluations import result_of, target_of
from connectors.sdk.outcomes import Rejected
from tailrace.records import Evaluation, Kind
from tests.connectors.enriching import make_context, make_event

IN_TRACE: dict[str, Any] = {"root_trace_id": "T", "parent_span_id": None}
ALONE: dict[str, Any] = {"root_trace_id": None, "parent_span_id": None}
UNDER: dict[str, Any] = {"root_trace_id": "T", "parent_span_id": b"12345678"}


@pytest.mark.parametrize(
    ("said", "fields", "context", "want"),
    [
        ("operation", {}, UNDER, "operation"),
        ("trace", {}, IN_TRACE, "trace"),
        ("session", {"session_id": "s"}, ALONE, "session"),
        # it does not say
        (None, {"session_id": "s"}, UNDER, "operation"),
        ("unknown", {"session_id": "s"}, IN_TRACE, "trace"),
        (None, {"conversation_id": "c"}, ALONE, "session"),
        # what it is about is missing
        ("operation", {}, IN_TRACE, None),
        ("operation", {}, {"root_trace_id": "T", "parent_span_id": bytes(8)}, None),
        ("operation", {}, {"root_trace_id": None, "parent_span_id": b"12345678"}, None),
        ("trace", {"session_id": "s"}, ALONE, None),
        ("session", {}, IN_TRACE, None),
        (None, {}, ALONE, None),
        (None, {"source_id": "own"}, {"root_trace_id": "own", "parent_span_id": None}, None),
    ],
)
def test_the_target(said: str | None, fields: dict[str, Any], context: dict[str, Any], want: str) -> None:
    event = make_event(1, kind=Kind.EVALUATION, evaluation_target=said, **fields)
    found = target_of(event, make_context(event, **context))
    if want is None:
        assert isinstance(found, Rejected)
        assert found.reason == "no_target"
    else:
        assert found == want


@pytest.mark.parametrize(
    ("body", "want"),
    [
        (Evaluation(number=0.0, label="x"), 0.0),
        (Evaluation(label="x"), "x"),
        (Evaluation(flag=False), False),
        (Evaluation(label="", flag=True), True),
        (Evaluation(number=float("inf")), "not_finite"),
        (Evaluation(number=float("nan"), label="x"), "not_finite"),
        (Evaluation(label=""), "no_result"),
        (None, "no_result"),
    ],
)
def test_the_result(body: Evaluation | None, want: Any) -> None:
    found = result_of(make_event(1, kind=Kind.EVALUATION, evaluation=body))
    assert (found.reason if isinstance(found, Rejected) else found) == want
