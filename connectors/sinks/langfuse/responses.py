"""What Langfuse's answers mean, beyond their status: what is only said in a body."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from connectors.sdk import policy, redact
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Delivered, Outcome, Rejected
from connectors.sdk.policy import Table

STATUSES: Final[Table] = policy.table()
"""Langfuse differs in no status: one span at fault refuses the whole request (400), and a server before 3.22
has no OTLP path (404)."""


def fix(status: int) -> str:
    """Settings to look at when Langfuse refuses everything."""
    return "public_key, secret_key" if status in (401, 403) else "host"


def suspended(answer: Response) -> bool:
    """Whether the organisation has used up its plan: a 403 that no setting mends."""
    return answer.status == 403 and b"suspended" in answer.body[:4000].lower()


def said(answer: Response) -> str:
    """What an error's body says: the message in Langfuse's JSON and what is invalid, else its text, if it is
    text."""
    kind = answer.headers.get("content-type", "")
    if "json" not in kind:
        return answer.body[:4000].decode("utf-8", "replace") if kind.startswith("text/plain") else ""
    document = _document(answer)
    if not isinstance(document, dict):
        return answer.body[:4000].decode("utf-8", "replace")
    return _words(document)


def partly(answer: Response, scores: Sequence[bytes], request: str, secrets: Iterable[str]) -> list[Outcome]:
    """Outcomes of a 207, in the order of `scores`: what was rejected is never sent again.

    Langfuse counts the rejected and says why; where it doesn't say which, the count is kept as unidentified.
    A body that cannot be read rejected nothing."""
    document = _document(answer)
    found: Any = document.get("errors") if isinstance(document, dict) else None
    errors = [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []
    count = document.get("rejected") if isinstance(document, dict) else None
    rejected = min(count if type(count) is int and count >= 0 else len(errors), len(scores))
    words = [redact.safe(_words(e), secrets) for e in errors]
    outcomes: list[Outcome] = [Delivered()] * len(scores)
    if rejected == len(scores):
        return [
            Rejected(
                "rejected",
                "status 207",
                207,
                request,
                words[i] if i < len(words) and len(words) == rejected else "; ".join(words),
            )
            for i in range(rejected)
        ]
    for error, text in zip(errors, words, strict=True):
        i = _which(error, scores)
        if i is not None and rejected > 0 and isinstance(outcomes[i], Delivered):
            outcomes[i] = Rejected("rejected", "status 207", 207, request, text)
            rejected -= 1
    for i, outcome in enumerate(outcomes):
        if rejected > 0 and isinstance(outcome, Delivered):
            outcomes[i] = Delivered(1, "; ".join(words))
            rejected -= 1
    return outcomes


def _document(answer: Response) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _words(document: dict[str, Any]) -> str:
    """message; then error, if it says more than the name of a class: a text, or a list of what is invalid
    where."""
    error = document.get("error")
    texts = [document.get("message")]
    if isinstance(error, str) and (" " in error or not texts[0]):
        texts.append(error)
    for issue in error if isinstance(error, list) else ():
        if isinstance(issue, dict) and isinstance(issue.get("message"), str):
            place = issue.get("path")
            where = ".".join(map(str, place)) + " " if isinstance(place, list) and place else ""
            texts.append(where + issue["message"])
    return ": ".join(t for t in texts if isinstance(t, str))


def _which(error: dict[str, Any], scores: Sequence[bytes]) -> int | None:
    """Position of the score that an error names by index or id."""
    index, name = error.get("index"), error.get("id")
    if type(index) is int and 0 <= index < len(scores):
        return index
    if isinstance(name, str) and name:
        quoted = msgspec.json.encode({"id": name})[1:-1]
        return next((i for i, data in enumerate(scores) if quoted in data), None)
    return None
