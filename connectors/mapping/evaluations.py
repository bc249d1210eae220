"""What an evaluation is about and what it says, for sinks that send scores. Pure.

A publisher checks both. Records of other producers may lack them: they are rejected here.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from connectors.sdk.outcomes import Rejected
from tailrace.evaluations import session_of
from tailrace.records import EvaluationTarget, TraceContext, TraceEvent

TRACE, OPERATION, SESSION = (
    str(target) for target in (EvaluationTarget.TRACE, EvaluationTarget.OPERATION, EvaluationTarget.SESSION)
)
_KNOWN: Final = (TRACE, OPERATION, SESSION)


def target_of(event: TraceEvent, context: TraceContext) -> str | Rejected:
    """What an evaluation is about: `TRACE`, `OPERATION` or `SESSION`; `Rejected` if it does not name that.

    An evaluation that does not say it is about its operation if it names one, else its trace, else its
    session.
    """
    said: str | None = event.evaluation_target
    parent = context.parent_span_id
    traced = context.root_trace_id not in (None, event.source_id)  # no evaluation is a trace of its own
    has = {
        OPERATION: parent is not None and any(parent) and traced,
        TRACE: traced,
        SESSION: bool(session_of(event)),
    }
    target = said if said in _KNOWN else next((t for t in (OPERATION, TRACE, SESSION) if has[t]), None)
    if target is None or not has[target]:
        return Rejected("no_target", f"the evaluation is about {target or 'something'} that it does not name")
    return target


def result_of(event: TraceEvent) -> float | str | bool | Rejected:
    """An evaluation's number, else its label, else its flag; `Rejected` if it has none."""
    body = event.evaluation
    if body is not None:
        if body.number is not None:
            finite = isfinite(body.number)
            return body.number if finite else Rejected("not_finite", f"evaluation.number is {body.number}")
        if body.label:
            return body.label
        if body.flag is not None:
            return body.flag
    return Rejected("no_result", "the evaluation has no number, no label and no flag")
