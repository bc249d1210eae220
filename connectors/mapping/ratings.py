"""Reads the rating of user feedback. Pure."""

from __future__ import annotations

from typing import Final

from connectors.sdk.outcomes import Rejected
from tailrace.records import TraceEvent

LIKE: Final = "like"
DISLIKE: Final = "dislike"


def unknown_rating(event: TraceEvent) -> Rejected | None:
    """Why a rating cannot become a score: it is not like, dislike or null, which withdraws it. Else None.

    An unknown one must not pass for a withdrawal.
    """
    rating = event.rating
    if not rating or rating in (LIKE, DISLIKE):
        return None
    return Rejected("unknown_rating", "a rating must be like, dislike, or null to withdraw it")
