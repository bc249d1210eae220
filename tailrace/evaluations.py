"""Evaluations: what one is about, its own id, and what a publisher checks. Pure functions.

docs/publishing.md says how to publish one, docs/ids.md has the rules for its ids.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import isfinite
from numbers import Real
from typing import Any, Final

import msgspec

from tailrace import ids
from tailrace.codec.encoder import wrong
from tailrace.errors import InvalidEvent
from tailrace.records import Evaluation, EvaluationTarget, Kind, TraceEvent

_TARGETS: Final = frozenset(EvaluationTarget) - {EvaluationTarget.UNKNOWN}
_TRACES: Final = ("trace_id", "message_id", "workflow_run_id", "root_trace_id", "root_run_id")
"""Fields that name the trace of an evaluation, the first that it has."""
_SESSIONS: Final = ("conversation_id", "session_id")
"""Fields that name the session of an evaluation, the first that it has.

The conversation comes first, because sinks make sessions of conversations where there are both.
"""
_EXACT: Final = (Decimal, Fraction)
"""Numbers that are written as text where any value is taken."""
_RESULT: Final = "set evaluation.number, evaluation.label, both, or evaluation.flag"


def of_session(event: TraceEvent) -> bool:
    """Whether an event is the evaluation of a session, which belongs to no trace."""
    return event.kind == Kind.EVALUATION and event.evaluation_target == EvaluationTarget.SESSION


def session_of(event: TraceEvent) -> str | None:
    """The session that an evaluation of a session is about."""
    return _first(event, _SESSIONS)


def trace_of(event: TraceEvent) -> str | None:
    """The trace that an evaluation of a trace or an operation names; None if it names none."""
    found = _first(event, _TRACES)
    native = event.otel_trace_id
    return found or (native.hex() if isinstance(native, bytes) and any(native) else None)


def target_of(event: TraceEvent) -> EvaluationTarget | None:
    """What an evaluation is about: as it says, else what its ids show; None if they show nothing.

    An operation if it names one, else a trace, else a session.
    """
    said = event.evaluation_target
    if said is not None and said != EvaluationTarget.UNKNOWN:
        return EvaluationTarget(said)
    if _operation_of(event):
        return EvaluationTarget.OPERATION
    if trace_of(event):
        return EvaluationTarget.TRACE
    return EvaluationTarget.SESSION if session_of(event) else None


def prepared(event: TraceEvent) -> TraceEvent:
    """An evaluation with its target and its own id; an integer as its number is a float.

    Only its name, its result and its target are reasons to refuse it.

    Raises:
        InvalidEvent: names the field that is missing, wrong, or contradicts another one.
    """
    body = _with_result(event)
    if _is_blank(event.name):
        raise InvalidEvent("name", "is missing: an evaluation needs a name, e.g. correctness")
    for field in (*_TRACES, *_SESSIONS, "parent_id", "tenant_id", "app_id"):
        _check_id(field, getattr(event, field))
    said = event.evaluation_target
    if said is not None:
        if not issubclass(type(said), str) or str.__str__(said) not in _TARGETS:
            raise wrong("evaluation_target", said, "one of " + ", ".join(sorted(_TARGETS)))
        event = msgspec.structs.replace(event, evaluation_target=EvaluationTarget(str.__str__(said)))
    target = target_of(event)
    if target is None:
        raise InvalidEvent(
            "evaluation_target",
            "is missing, and no id shows what was evaluated; set parent_id and trace_id for an operation, "
            "trace_id, message_id or workflow_run_id for a trace, conversation_id or session_id for a "
            "session",
        )
    about = _about(event, target)
    return msgspec.structs.replace(
        event,
        evaluation=body,
        evaluation_target=target,
        source_id=event.source_id or _own_id(event, body, target, about),
    )


def _with_result(event: TraceEvent) -> Evaluation:
    """The body of an evaluation, which has a result."""
    body = event.evaluation
    if body is None:
        raise InvalidEvent("evaluation", f"is missing: an evaluation needs a result; {_RESULT}")
    if not issubclass(type(body), Evaluation):
        raise wrong("evaluation", body, "an Evaluation")
    number: Any = body.number
    if body.flag is not None:
        if type(body.flag) is not bool:
            raise wrong("evaluation.flag", body.flag, "True, False or None")
        for other in ("number", "label"):
            if not _is_absent(getattr(body, other)):
                raise InvalidEvent(
                    f"evaluation.{other}", f"is set beside a flag, which is a result of its own; {_RESULT}"
                )
        return body
    if not _is_absent(body.label) and not issubclass(type(body.label), str):
        raise wrong("evaluation.label", body.label, "a string or None")
    if number is None:
        if _is_absent(body.label):
            raise InvalidEvent("evaluation", f"has no result; {_RESULT}")
        return body
    if type(number) is bool or not issubclass(type(number), (Real, Decimal)):
        raise wrong("evaluation.number", number, "a number; a yes or no is evaluation.flag")
    try:
        value = float(number)
    except (OverflowError, ValueError):  # ValueError: a signalling NaN
        value = float("inf")
    if not isfinite(value):
        raise wrong("evaluation.number", number, "finite; leave out an evaluation that has no result")
    exact = type(number) is int or issubclass(type(number), _EXACT)
    return msgspec.structs.replace(body, number=value) if exact else body


def _about(event: TraceEvent, target: EvaluationTarget) -> tuple[str, ...]:
    """The ids of what is evaluated."""
    operation, trace, session = _operation_of(event), trace_of(event), session_of(event)
    if operation and target != EvaluationTarget.OPERATION:
        raise InvalidEvent(
            "parent_id" if event.parent_id else "otel_parent_span_id",
            f"names an operation, but evaluation_target is {target}; set evaluation_target to operation, "
            "or leave the operation out",
        )
    if target == EvaluationTarget.SESSION:
        if not session:
            raise InvalidEvent(
                "session_id", "is missing: evaluation_target is session; set conversation_id or session_id"
            )
        return event.app_id or "", session
    if not trace:
        raise InvalidEvent(
            "trace_id",
            f"is missing: an evaluation of {'an operation' if operation else 'a trace'} needs its trace; set "
            "trace_id, message_id or workflow_run_id",
        )
    if target == EvaluationTarget.TRACE:
        return (trace,)
    if not operation:
        raise InvalidEvent(
            "parent_id",
            "is missing: evaluation_target is operation; set it to the source_id of what was evaluated",
        )
    return trace, operation


def _own_id(event: TraceEvent, body: Evaluation, target: EvaluationTarget, about: tuple[str, ...]) -> str:
    """The id of an evaluation that has none: the same for the same evaluator's result about the same."""
    by = (event.name, body.source, body.evaluator, body.evaluator_version)
    return ids.uuid_of("evaluation", event.tenant_id or "", target, *about, *map(_written, by))


def _written(value: object) -> str:
    """A text of the own id. Values of other types, which are converted later, are not told apart."""
    return str.__str__(value).encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _operation_of(event: TraceEvent) -> str | None:
    """The operation that an evaluation names."""
    native = event.otel_parent_span_id
    return event.parent_id or (native.hex() if isinstance(native, bytes) and any(native) else None)


def _first(event: TraceEvent, fields: tuple[str, ...]) -> str | None:
    return next((value for field in fields if (value := getattr(event, field))), None)


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and not str.__len__(value))


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not str.strip(value))


def _check_id(field: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise wrong(field, value, "a string or None")
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise wrong(field, value, f"valid Unicode ({e.reason})") from None
