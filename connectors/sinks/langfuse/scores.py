"""Maps feedback and evaluations to Langfuse scores. Pure."""

from __future__ import annotations

from typing import Any, Final

from connectors.mapping.evaluations import OPERATION, SESSION, result_of, target_of
from connectors.mapping.ratings import DISLIKE, LIKE, unknown_rating
from connectors.sdk.contract import Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.langfuse.values import MAX_ID, MAX_TIME, environment, iso
from tailrace import ids
from tailrace.evaluations import session_of
from tailrace.records import TraceContext, TraceEvent

SCORE: Final = "user-feedback"
"""Name of the score that a rating becomes."""
VALUES: Final[dict[str | None, int]] = {LIKE: 1, DISLIKE: -1}
FIELDS: Final[frozenset[str]] = frozenset(
    {
        "conversation_id",
        "environment",
        "evaluation",
        "evaluation_target",
        "feedback",
        "message_id",
        "name",
        "origin",
        "rating",
        "session_id",
        "source_id",
        "user_id",
        "workflow_run_id",
    }
)
"""Fields of `TraceEvent` that are read here, besides those that are decoded for every sink."""

Body = dict[str, Any]
"""The body of a score."""


def of_feedback(
    event: TraceEvent, context: TraceContext, own_environment: bool, fixed_environment: str
) -> Body | Skip | Rejected:
    """The body of a score for the message's trace; without a message, for the conversation.

    The score's id is a hash of the message and of who rated it, so a changed rating replaces the former
    one. The value is 1, -1, or 0 for a withdrawn rating.

    Args:
        event: The event, of kind feedback.
        context: The event's context.
        own_environment: Whether the event's own environment is sent.
        fixed_environment: The environment of all scores; empty: none.

    Returns:
        `Skip` if the event does not say what was rated. `Rejected` for a rating that is not known, and for a
        time that Langfuse cannot store.
    """
    if (problem := unknown_rating(event)) is not None or (problem := _time_problem(event)) is not None:
        return problem
    rating, origin = event.rating, event.origin
    rater = (
        (origin.from_end_user_id or origin.from_account_id if origin is not None else None)
        or event.user_id
        or event.source_id
        or ""
    )
    subject = event.message_id or event.workflow_run_id
    conversation = event.conversation_id or context.conversation_id
    score: Body = {}
    if subject:
        score["traceId"] = context.message_trace_id.hex()
    elif conversation:
        subject = conversation
        score["sessionId"] = conversation[:MAX_ID]
    else:
        return Skip("nothing_rated")
    score["id"] = ids.otel_trace_id(f"{subject}\0{rater}\0{SCORE}").hex()
    score["name"] = SCORE
    score["value"] = VALUES.get(rating, 0)
    score["dataType"] = "NUMERIC"
    about = {
        "rating": rating or "withdrawn",
        "tenant_id": event.tenant_id or context.tenant_id,
        "app_id": event.app_id or context.app_id,
        "message_id": event.message_id,
        "user_id": event.user_id,
        "from_source": origin.from_source if origin is not None else None,
        "from_end_user_id": origin.from_end_user_id if origin is not None else None,
        "from_account_id": origin.from_account_id if origin is not None else None,
        "feedback_id": event.feedback.feedback_id if event.feedback is not None else None,
        "event_id": event.event_id,
    }
    comment = event.feedback.content if event.feedback is not None else None
    return _completed(score, event, comment, about, own_environment, fixed_environment)


def of_evaluation(
    event: TraceEvent, context: TraceContext, own_environment: bool, fixed_environment: str
) -> Body | Skip | Rejected:
    """The body of a score for the trace, the observation or the session that was evaluated.

    A number makes it numeric (a label beside it is metadata), a label alone categorical, a flag boolean.
    The score's id is the evaluation's own, so a correction replaces it.

    Args:
        event: The event, of kind evaluation.
        context: The event's context.
        own_environment: Whether the event's own environment is sent.
        fixed_environment: The environment of all scores; empty: none.

    Returns:
        `Rejected` for an evaluation without a target or a result, and for ids and a time that Langfuse
        cannot store.
    """
    if (problem := _time_problem(event)) is not None:
        return problem
    target, result, body = target_of(event, context), result_of(event), event.evaluation
    if isinstance(target, Rejected):
        return target
    if isinstance(result, Rejected) or body is None:
        return result if isinstance(result, Rejected) else Rejected("no_result")
    score: Body = {}
    if target == SESSION:
        score["sessionId"] = (session_of(event) or "")[:MAX_ID]
    else:
        if not any(context.message_trace_id):
            return Rejected("invalid_id", "the context's trace id is all zero")
        score["traceId"] = context.message_trace_id.hex()
    if target == OPERATION and context.parent_span_id is not None:
        score["observationId"] = context.parent_span_id.hex()
    score["id"] = ids.otel_trace_id(event.source_id or "").hex()
    score["name"] = event.name or "evaluation"
    if isinstance(result, bool):
        score["value"], score["dataType"] = int(result), "BOOLEAN"
    else:
        score["value"] = result
        score["dataType"] = "CATEGORICAL" if isinstance(result, str) else "NUMERIC"
    about = {
        "label": None if isinstance(result, str) else body.label,
        "source": body.source,
        "evaluator": body.evaluator,
        "evaluator_version": body.evaluator_version,
        "tenant_id": event.tenant_id or context.tenant_id,
        "app_id": event.app_id or context.app_id,
        "event_id": event.event_id,
    }
    return _completed(score, event, body.explanation, about, own_environment, fixed_environment)


def _time_problem(event: TraceEvent) -> Rejected | None:
    if 0 <= event.started_at <= MAX_TIME:
        return None
    return Rejected("time_out_of_range", f"started_at is {event.started_at} µs; Langfuse stores 1970 to 2299")


def _completed(
    score: Body,
    event: TraceEvent,
    comment: str | None,
    about: dict[str, str | None],
    own_environment: bool,
    fixed_environment: str,
) -> Body:
    """Adds what every score has: its time, comment, environment and metadata."""
    score["timestamp"] = iso(event.started_at)
    if comment:
        score["comment"] = comment
    where = fixed_environment or (
        environment(event.environment) if own_environment and event.environment else ""
    )
    if where:
        score["environment"] = where
    score["metadata"] = {k: v for k, v in about.items() if v}
    return score
