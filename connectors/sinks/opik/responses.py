"""What Opik's answers mean beyond their status: the wait of its rate limit, the reasons behind a refusal."""

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
"""Opik differs in no status: one bad item refuses its whole request (400), 402 is the plan's quota, and 409
an id that another project has."""

_FIXES: Final[Mapping[int, str]] = {402: "workspace", 404: "url", 405: "url", 415: "url"}
TOO_OLD: Final = "too_old"
_REASONS: Final = (TOO_OLD, "too_far_future")
"""Opik's words for an id whose time is beyond its window."""


def outcome(answer: Response, now: float, detail: str) -> Outcome:
    """The outcome of one request. now: Unix time. detail: `message(answer)`, redacted."""
    status = answer.status
    fix = "url" if status // 100 == 3 else _FIXES.get(status, "api_key, workspace")
    found = policy.decide(STATUSES, answer, now, detail=detail, fix=fix, reset_header="ratelimit-reset")
    if isinstance(found, Rejected):
        reason = next((r for r in _REASONS if r in detail.lower().replace(" ", "_")), None)
        if status == 409:
            reason = "id_in_other_project"
        return msgspec.structs.replace(found, reason=reason or found.reason, detail=detail or found.detail)
    return found


def of_ratings(answer: Response, found: Outcome) -> Outcome:
    """The outcome of a request with ratings: its 404 is about an id, if it is Opik's own and no proxy's."""
    if answer.status == 404 and isinstance(found, Paused) and message(answer):
        return Rejected(
            "unknown_id", "Opik does not know what is rated", status=404, response=message(answer)
        )
    return found


def message(answer: Response) -> str:
    """What the body of an error says: Opik's `errors` or `message`; empty for anything that isn't its
    JSON."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    errors = document.get("errors")
    if isinstance(errors, list) and errors:
        return "; ".join(e for e in errors[:5] if isinstance(e, str))
    said = [document.get("message"), document.get("details")]
    return ": ".join(s for s in said if isinstance(s, str) and s)
