"""Reads Weave's and W&B's responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from connectors.sdk import policy
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Delivered, Outcome, Paused
from connectors.sdk.policy import Table

STATUSES: Final[Table] = policy.table()
"""Weave needs no differences from the default table.

413: the body is too large. 422: one call that is not valid makes it refuse the whole request. 404: the
project does not exist.
"""
_ADDRESS: Final = "host, trace_url"
_FIXES: Final[Mapping[int, str]] = {404: "entity, project", 405: _ADDRESS, 415: _ADDRESS}
_KEYS: Final = "api_key, entity, project"


def outcome(answer: Response, now: float, detail: str) -> Outcome:
    """The outcome of one request.

    Args:
        answer: The response.
        now: Unix time.
        detail: `message(answer)`, redacted.
    """
    fix = _ADDRESS if answer.status // 100 == 3 else _FIXES.get(answer.status, _KEYS)
    return policy.decide(STATUSES, answer, now, detail=detail, fix=fix)


def taken(answer: Response) -> Outcome:
    """The outcome of a 2xx. Weave answers with a JSON object, of which the client may read only the start.

    The page of a proxy or of a login would otherwise count as a delivery, and its records would be lost.
    """
    return Delivered() if answer.body.lstrip()[:1] in (b"", b"{") else not_weave(answer)


def not_weave(answer: Response) -> Paused:
    """The outcome of a 2xx that is not Weave's."""
    return Paused(f"not_weave (status {answer.status}): the answer is not that of Weave's API", _ADDRESS)


def is_page(answer: Response) -> bool:
    """Whether a response is a web page, such as that of a login."""
    return "html" in answer.headers.get("content-type", "") or answer.body.lstrip()[:1] == b"<"


def message(answer: Response) -> str:
    """The reason in an error of Weave's; empty for a body that is not Weave's."""
    document = _document(answer)
    if not isinstance(document, dict):
        return ""
    for name in ("reason", "detail", "message", "error"):
        found = document.get(name)
        if isinstance(found, str) and found:
            return found
        if isinstance(found, list):  # of a request that is not valid: where, and what is wrong there
            return "; ".join(_problem(each) for each in found[:5] if isinstance(each, dict))
    return ""


def _problem(found: dict[str, Any]) -> str:
    place = found.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where} {found.get('msg', '')}".strip()


def entity(answer: Response) -> str | None:
    """The entity of the key's own user; None if the response does not say it, or it cannot be one."""
    document = _document(answer)
    data = document.get("data") if isinstance(document, dict) else None
    viewer = data.get("viewer") if isinstance(data, dict) else None
    if not isinstance(viewer, dict):
        return None
    for name in ("entity", "username"):
        found = viewer.get(name)
        if isinstance(found, str) and found:
            return found if found.isprintable() and "/" not in found else None
    return None


def is_count(answer: Response) -> bool:
    """Whether a response is Weave's count of calls, and not e.g. the start page of a web application."""
    document = _document(answer)
    return isinstance(document, dict) and "count" in document


def _document(answer: Response) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
