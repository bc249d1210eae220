"""Reads the bodies of Langfuse's responses: error messages and partial success."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from connectors.sdk import policy, redact
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Delivered, Outcome, Rejected
from connectors.sdk.policy import Table

STATUSES: Final[Table] = policy.table()
"""Langfuse needs no differences from the default table.

One invalid span makes it refuse the whole request (400). A server before 3.22 has no OTLP path (404).
"""


def fix(status: int) -> str:
    """Names of the settings to look at when Langfuse refuses everything with `status`."""
    return "public_key, secret_key" if status in (401, 403) else "host"


def suspended(answer: Response) -> bool:
    """Whether Langfuse has suspended the organisation because its plan is used up. No setting fixes that."""
    return answer.status == 403 and b"suspended" in answer.body[:4000].lower()


def error_text(answer: Response) -> str:
    """The error message in a response: from Langfuse's JSON, or a body of plain text; may be empty."""
    kind = answer.headers.get("content-type", "")
    if "json" not in kind:
        return answer.body[:4000].decode("utf-8", "replace") if kind.startswith("text/plain") else ""
    document = _document(answer)
    if not isinstance(document, dict):
        return answer.body[:4000].decode("utf-8", "replace")
    return _message(document)


def partly(answer: Response, scores: Sequence[bytes], request: str, secrets: Iterable[str]) -> list[Outcome]:
    """Outcomes of a response with status 207. Rejected scores are not sent again.

    Langfuse says how many scores it rejected and why. If it does not say which, some are counted as
    unidentified. A body that cannot be read counts as success.

    Args:
        answer: The response.
        scores: The scores of the request, encoded.
        request: Description of the request, for rejections.
        secrets: Masked in all texts.

    Returns:
        One outcome per score, in order.
    """
    document = _document(answer)
    listed: Any = document.get("errors") if isinstance(document, dict) else None
    errors = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    count = document.get("rejected") if isinstance(document, dict) else None
    rejected = min(count if type(count) is int and count >= 0 else len(errors), len(scores))
    messages = [redact.safe(_message(e), secrets) for e in errors]
    outcomes: list[Outcome] = [Delivered()] * len(scores)
    if rejected == len(scores):
        return [
            Rejected(
                "rejected",
                "status 207",
                207,
                request,
                messages[i] if i < len(messages) and len(messages) == rejected else "; ".join(messages),
            )
            for i in range(rejected)
        ]
    for error, text in zip(errors, messages, strict=True):
        i = _which(error, scores)
        if i is not None and rejected > 0 and isinstance(outcomes[i], Delivered):
            outcomes[i] = Rejected("rejected", "status 207", 207, request, text)
            rejected -= 1
    for i, outcome in enumerate(outcomes):
        if rejected > 0 and isinstance(outcome, Delivered):
            outcomes[i] = Delivered(1, "; ".join(messages))
            rejected -= 1
    return outcomes


def _document(answer: Response) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _message(document: dict[str, Any]) -> str:
    """The members `message` and `error` of an error as one text.

    `error` is a text or a list of issues. One that is only the name of a class is left out.
    """
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
    """Position of the score that an error names by index or id; None if it names none."""
    index, name = error.get("index"), error.get("id")
    if type(index) is int and 0 <= index < len(scores):
        return index
    if isinstance(name, str) and name:
        quoted = msgspec.json.encode({"id": name})[1:-1]
        return next((i for i, data in enumerate(scores) if quoted in data), None)
    return None
