"""Maps ratings and evaluations to Opik's feedback scores. Pure."""

from __future__ import annotations

from typing import Final

import orjson

from connectors.mapping.evaluations import OPERATION, SESSION, result_of, target_of
from connectors.mapping.ratings import DISLIKE, LIKE, unknown_rating
from connectors.sdk.contract import Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.opik import ids
from tailrace.records import TraceContext, TraceEvent

TRACES, SPANS, THREADS = "traces", "spans", "traces/threads"
"""What can have scores; the names are those in the paths of Opik's API."""
LIMIT: Final = 1_000_000_000
"""Values of scores are below this, either way."""
FIELDS: Final[frozenset[str]] = frozenset(
    {
        "conversation_id",
        "evaluation",
        "evaluation_target",
        "feedback",
        "name",
        "origin",
        "rating",
        "root_started_at",
        "session_id",
        "source_id",
    }
)
"""Fields of `TraceEvent` that are read here, besides those that are decoded for every sink."""
TRUTHS: Final = {
    **dict.fromkeys(("pass", "passed", "correct", "relevant", "true", "yes"), 1),
    **dict.fromkeys(("fail", "failed", "incorrect", "irrelevant", "not_relevant", "false", "no"), 0),
}
"""Label, in lower case -> its value. Opik has no scores without a value."""
_RATINGS: Final[dict[str | None, int]] = {LIKE: 1, DISLIKE: 0}

Score = tuple[str, str, str, bytes | None]
"""A feedback score: what has it (`TRACES`, `SPANS`, `THREADS`), its id, the score's name, its JSON.

The JSON is None if the score is withdrawn.
"""
Parts = tuple[bytes | None, bytes | None, Score | None, int]
"""The objects of one record: JSON of a trace, JSON of a span, a score, and the time of its ids in ms."""


def of_feedback(
    event: TraceEvent, context: TraceContext, project: str, trace: str, ms: int
) -> Parts | Skip | Rejected:
    """The score that a rating becomes: of the trace if it rates its root, else of a span."""
    if (problem := unknown_rating(event)) is not None:
        return problem
    scope, rated = ids.trace_scope(ms, project, trace)
    parent, entity = context.parent_span_id, TRACES
    if parent is not None and context.parent_source_id != trace:
        entity, rated = SPANS, ids.parent_id(ms, scope, parent)
    origin = event.origin
    name = "admin_feedback" if origin is not None and origin.from_source == "admin" else "user_feedback"
    if not event.rating:
        return None, None, (entity, rated, name, None), ms
    score: dict[str, str | int] = {
        "id": rated,
        "project_name": project,
        "name": name,
        "category_name": event.rating,
        "value": _RATINGS[event.rating],
        "source": "sdk",
    }
    if event.feedback is not None and event.feedback.content:
        score["reason"] = event.feedback.content
    return None, None, (entity, rated, name, orjson.dumps(score)), ms


def of_evaluation(
    event: TraceEvent, context: TraceContext, project: str, trace: str, ms: int
) -> Parts | Skip | Rejected:
    """The score that an evaluation of a trace or an operation becomes."""
    if target_of(event, context) == OPERATION and context.parent_span_id is not None:
        scope, _ = ids.trace_scope(ms, project, trace)
        return _evaluated(event, SPANS, ids.parent_id(ms, scope, context.parent_span_id), project, ms)
    return _evaluated(event, TRACES, ids.trace_scope(ms, project, trace)[1], project, ms)


def of_session(event: TraceEvent, context: TraceContext, project: str) -> Parts | Skip | Rejected | None:
    """The score of a thread that the evaluation of a session becomes; None for other evaluations.

    Returns:
        `Skip` for a session that is no conversation, because only conversations are threads in Opik.
        `Rejected` for an evaluation that does not name what it is about.
    """
    target = target_of(event, context)
    if target != SESSION:
        return target if isinstance(target, Rejected) else None
    if not event.conversation_id:
        return Skip("no_thread")
    return _evaluated(event, THREADS, event.conversation_id, project, 0)


def _evaluated(
    event: TraceEvent, entity: str, evaluated: str, project: str, ms: int
) -> Parts | Skip | Rejected:
    result, body = result_of(event), event.evaluation
    if isinstance(result, Rejected) or body is None:
        return result if isinstance(result, Rejected) else Rejected("no_result")
    value = TRUTHS.get(result.strip().lower()) if isinstance(result, str) else result
    if value is None:
        return Skip("label_without_number")
    value = int(value) if isinstance(value, bool) else value
    if abs(value) >= LIMIT:
        return Rejected("value_out_of_range", f"evaluation.number is {value}; Opik takes less than {LIMIT:g}")
    name = (event.name or "").strip() or "evaluation"
    score: dict[str, str | int | float] = {
        "thread_id" if entity == THREADS else "id": evaluated,
        "project_name": project,
        "name": name,
        "value": value,
        "source": "sdk",
    }
    if body.label:
        score["category_name"] = body.label
    if body.explanation:
        score["reason"] = body.explanation
    return None, None, (entity, evaluated, name, orjson.dumps(score)), ms
