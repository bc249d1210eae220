"""Outcomes of OTLP requests as the log and dead letters may show them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.sdk import redact
from connectors.sdk.outcomes import Delivered, Outcome, Paused, Rejected, Retry


def described(call: str, records: int, size: int) -> str:
    """A request in words, for a rejection.

    Args:
        call: Method and address, without secrets.
        records: Spans in it.
        size: Bytes of its body before compression.
    """
    return f"{call}, {records} spans, {size} bytes before compression"


def redacted(outcome: Outcome, request: str, secrets: Sequence[str]) -> Outcome:
    """The outcome with secrets masked; a rejection also gets the description of the request."""
    match outcome:
        case Rejected():
            return msgspec.structs.replace(
                outcome,
                request=request,
                response=redact.safe(outcome.response, secrets) if outcome.response else None,
            )
        case Retry() | Paused():
            return msgspec.structs.replace(outcome, reason=redact.safe(outcome.reason, secrets, 600))
        case Delivered(detail=detail) if detail:
            return msgspec.structs.replace(outcome, detail=redact.safe(detail, secrets))
        case _:
            return outcome
