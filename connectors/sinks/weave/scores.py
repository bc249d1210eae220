"""Maps ratings and evaluations to feedback on calls in Weave. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from connectors.mapping.evaluations import OPERATION, SESSION, result_of, target_of
from connectors.sdk.contract import Skip
from connectors.sdk.outcomes import Rejected
from connectors.sinks.weave.values import json_without_references
from tailrace import ids
from tailrace.cutting import MARK, cut_text
from tailrace.records import TraceContext, TraceEvent

REACTION: Final = "wandb.reaction.1"
NOTE: Final = "wandb.note.1"
EVALUATION: Final = "tailrace.evaluation."
"""Start of the feedback type of an evaluation; its name follows. Types that start with wandb are Weave's."""
EMOJI: Final[dict[str | None, str]] = {"like": "👍", "dislike": "👎"}
MAX_TEXT: Final = 150_000
"""Most bytes of a text: Weave takes payloads of 1 MiB, with escapes that are up to six times as long."""
MAX_SHORT: Final = 2000
"""Most bytes of every other text, so that all of a payload are within its limit."""
_LONG: Final = frozenset({"comment", "explanation", "note"})
MAX_NOTE: Final = 1024
"""Most characters of a note; of a longer text the reaction has the whole."""
_MARK: Final[str] = MARK.decode()
MAX_NAME: Final = 200
"""Most characters of an evaluation's name in a feedback type."""
FIELDS: Final[frozenset[str]] = frozenset(
    {
        "conversation_id",
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
_dumps: Final[Callable[[Any], bytes]] = orjson.dumps


class Feedback(NamedTuple):
    """One item of feedback."""

    call: str
    """The id of the call that it is about."""
    id: str
    body: bytes | None
    """Its members as the text of a JSON object without its opening brace, without project and reference.

    None: it is withdrawn.
    """


def of_feedback(event: TraceEvent, context: TraceContext) -> tuple[Feedback, ...] | Skip | Rejected:
    """The reaction that a rating becomes, and the note that its text becomes.

    The ids are made from what is rated and who rates it, so a changed rating replaces the former one, and a
    withdrawn one takes both away.

    Returns:
        `Skip` if the event does not say what was rated.
    """
    if event.rating is not None and event.rating not in EMOJI:
        return Rejected("unknown_rating", "a rating must be like, dislike, or null to withdraw it")
    call = _rated(event, context)
    if call is None:
        return Skip("nothing_rated")
    origin, body = event.origin, event.feedback
    rater = (
        (origin.from_end_user_id or origin.from_account_id if origin is not None else None)
        or event.user_id
        or event.source_id
        or ""
    )
    reaction, note = (_id(call, rater, what) for what in (REACTION, NOTE))
    if event.rating is None:
        return Feedback(call, reaction, None), Feedback(call, note, None)
    text = body.content if body is not None else None
    about = {
        "emoji": EMOJI[event.rating],
        "rating": event.rating,
        "from_source": origin.from_source if origin is not None else None,
        "message_id": event.message_id,
        "comment": cut_text(text, MAX_TEXT) if text and len(text) > MAX_NOTE else None,
        "tailrace.event_id": event.event_id,
    }
    found = [Feedback(call, reaction, _body(reaction, REACTION, about, rater))]
    if text:
        said = {"note": text if len(text) <= MAX_NOTE else text[: MAX_NOTE - len(_MARK)] + _MARK}
        found.append(Feedback(call, note, _body(note, NOTE, said, rater)))
    return tuple(found)


def of_evaluation(event: TraceEvent, context: TraceContext) -> tuple[Feedback, ...] | Skip | Rejected:
    """The feedback that an evaluation of an operation or of a trace becomes.

    Returns:
        `Skip` for the evaluation of a session, because feedback is about a call. `Rejected` for one without a
        target or a result.
    """
    target, result, body = target_of(event, context), result_of(event), event.evaluation
    if isinstance(target, Rejected):
        return target
    if isinstance(result, Rejected) or body is None:
        return result if isinstance(result, Rejected) else Rejected("no_result")
    if target == SESSION:
        return Skip("no_call")
    call = _rated(event, context, target == OPERATION)
    if call is None:
        return Skip("no_call")
    name = (event.name or "").strip() or "evaluation"
    about = {
        "name": name,
        "number": body.number,
        "label": body.label,
        "flag": body.flag,
        "explanation": None if body.explanation is None else cut_text(body.explanation, MAX_TEXT),
        "source": body.source,
        "evaluator": body.evaluator,
        "evaluator_version": body.evaluator_version,
        "tailrace.event_id": event.event_id,
    }
    own = _id(call, event.source_id or "", EVALUATION)
    kind = EVALUATION + name[:MAX_NAME]
    return (Feedback(call, own, _body(own, kind, about, body.evaluator)),)


def _rated(event: TraceEvent, context: TraceContext, operation: bool = True) -> str | None:
    """The id of the call that is rated: of the parent, else of the root of the trace."""
    parent = context.parent_span_id
    if operation and parent is not None and any(parent):
        return parent.hex()
    root = context.root_trace_id
    if root is None or root == event.source_id:
        root = event.message_id or event.workflow_run_id
    return None if root is None else ids.otel_span_id(root).hex()


def _id(*texts: str) -> str:
    """A UUID that is always the same for the same texts."""
    return str(uuid.UUID(bytes=ids.otel_trace_id("\0".join(texts))))


def _body(own: str, kind: str, payload: dict[str, Any], creator: str | None) -> bytes:
    known = {
        k: cut_text(v, MAX_SHORT) if isinstance(v, str) and k not in _LONG else v
        for k, v in payload.items()
        if v is not None and v != ""
    }
    body: dict[str, Any] = {"id": own, "feedback_type": kind, "payload": known}
    if creator:
        body["creator"] = cut_text(creator, MAX_SHORT)
    return json_without_references(_dumps(body)[1:])
