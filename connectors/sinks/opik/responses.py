"""Reads Opik's responses: the wait of its rate limit, and the reason of a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import msgspec

from connectors.sdk import policy
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Outcome, Paused, Rejected
from connectors.sdk.policy import Table

STATUSES: Final[Table] = policy.table()
"""Opik needs no differences from the default table.

400: one invalid item makes it refuse the whole request. 402: the plan's quota is used up. 409: another
project has the same id.
"""

_FIXES: Final[Mapping[int, str]] = {402: "workspace", 404: "url", 405: "url", 415: "url"}
TOO_OLD: Final = "too_old"
_REASONS: Final = (TOO_OLD, "too_far_future")
"""Opik's reasons for refusing an id whose time is outside its window."""


def outcome(answer: Response, now: float, detail: str) -> Outcome:
    """The outcome of one request.

    Args:
        answer: The response.
        now: Unix time.
        detail: `message(answer)`, redacted.
    """
    status = answer.status
    fix = "url" if status // 100 == 3 else _FIXES.get(status, "api_key, workspace")
    decided = policy.decide(STATUSES, answer, now, detail=detail, fix=fix, reset_header="ratelimit-reset")
    if isinstance(decided, Rejected):
        reason = next((r for r in _REASONS if r in detail.lower().replace(" ", "_")), None)
        if status == 409:
            reason = "id_in_other_project"
        return msgspec.structs.replace(
            decided, reason=reason or decided.reason, detail=detail or decided.detail
        )
    return decided


def of_scores(answer: Response, decided: Outcome, threads: bool) -> Outcome:
    """The outcome of a request with scores: a 404 with Opik's own message is about an unknown id.

    Args:
        answer: The response.
        decided: The outcome by status. A 404 that may come from a proxy keeps it.
        threads: Whether the scores are those of threads.
    """
    if threads and answer.status == 409 and isinstance(decided, Rejected):
        return msgspec.structs.replace(
            decided,
            reason="thread_open",
            detail="this version of Opik scores a thread only when it is closed",
        )
    if answer.status == 404 and isinstance(decided, Paused) and message(answer):
        return Rejected(
            "unknown_id",
            "Opik does not have the trace or span that the score is about",
            status=404,
            response=message(answer),
        )
    return decided


def message(answer: Response) -> str:
    """The error message in Opik's JSON; empty for a body that is not Opik's."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    errors = document.get("errors")
    if isinstance(errors, list) and errors:
        return "; ".join(e for e in errors[:5] if isinstance(e, str))
    texts = [document.get("message"), document.get("details")]
    return ": ".join(text for text in texts if isinstance(text, str) and text)
