"""What Opik's answers mean: a table from status to action, the wait of its rate limit, and the reasons behind
a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from connectors.sdk import policy
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Outcome, Paused, Rejected
from connectors.sdk.policy import Action, Table

OPIK: Final[Table] = MappingProxyType(
    {
        "2xx": Action.DELIVERED,
        "3xx": Action.PAUSE,  # redirects are not followed: the address is wrong
        400: Action.REJECT,  # one bad item refuses its whole request
        402: Action.PAUSE,  # the plan's quota is used up
        408: Action.RETRY,
        409: Action.REJECT,  # an id that another project has
        413: Action.SPLIT,
        422: Action.REJECT,
        425: Action.RETRY,
        429: Action.RETRY,  # for RateLimit-Reset seconds
        "4xx": Action.PAUSE,  # 401, 403, 404: credentials, workspace, address
        501: Action.PAUSE,
        505: Action.PAUSE,
        "5xx": Action.RETRY,
    }
)

_FIXES: Final[Mapping[int, str]] = {402: "workspace", 404: "url", 405: "url", 415: "url"}
TOO_OLD: Final = "too_old"
_REASONS: Final = (TOO_OLD, "too_far_future")
"""Opik's words for an id whose time is beyond its window."""


def outcome(answer: Response, now: float, detail: str) -> Outcome:
    """The outcome of one request. now: Unix time. detail: `message(answer)`, redacted."""
    status = answer.status
    fix = "url" if status // 100 == 3 else _FIXES.get(status, "api_key, workspace")
    found = policy.decide(OPIK, answer, now, detail=detail, fix=fix, reset_header="ratelimit-reset")
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
