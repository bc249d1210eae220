"""From an HTTP status to an outcome, and how long to wait: data and pure rules. No clock, no randomness, no
network here.

A table is status -> `Action`, with a class ("2xx") for what is not listed. `DEFAULT` is the only one that is
written out; a vendor's is `table({…})` with the rows that differ there."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

import msgspec

from connectors.sdk.http import Response
from connectors.sdk.outcomes import Delivered, Outcome, Paused, Rejected, Retry, Split


class Action(enum.StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    """The same request again, later."""
    REJECT = "reject"
    """Something in the batch is at fault: halve it down to the record, which goes to the dead letters."""
    SPLIT = "split"
    """Too large: halve it."""
    PAUSE = "pause"
    """Credentials, quota or address: nothing is sent but a probe now and then, nothing is dead-lettered."""


Table = Mapping[int | str, Action]

DEFAULT: Final[Table] = MappingProxyType(
    {
        "2xx": Action.DELIVERED,
        "3xx": Action.PAUSE,  # redirects are not followed: the address is wrong
        400: Action.REJECT,  # OTLP forbids the same request again; halves are other requests
        408: Action.RETRY,
        409: Action.REJECT,
        413: Action.SPLIT,
        422: Action.REJECT,
        425: Action.RETRY,
        429: Action.RETRY,
        "4xx": Action.PAUSE,  # 401, 403, 404 and what says nothing about a record: rather wait than lose
        501: Action.PAUSE,
        505: Action.PAUSE,
        # OTLP names 502, 503, 504 only; ids are the same every time, so 500 is safe too
        "5xx": Action.RETRY,
    }
)
"""What a status means at every vendor that states no difference: the OTLP specification, where ids are
deterministic and so a retry is harmless."""
OTLP: Final = DEFAULT
"""The same table, by the name of the specification that it follows."""

_UNIX_TIME: Final = 1e9
"""Seconds from which on a number is a point in time, no duration."""

_REASONS: Final = {
    401: "unauthorized",
    402: "quota",
    403: "forbidden",
    404: "not_found",
    405: "wrong_method",
    407: "proxy_credentials",
    415: "wrong_media_type",
    431: "headers_too_large",
}

MAX_AFTER: Final = 300.0
"""Seconds; a longer Retry-After is cut to this, so that a sink's mistake does not stop it for days."""


def table(differences: Table = MappingProxyType({})) -> Table:
    """A vendor's table: `DEFAULT` with the rows that differ.

    Args:
        differences: status (403) or class ("4xx") -> action.
    """
    return MappingProxyType({**DEFAULT, **differences})


def action(table: Table, status: int) -> Action:
    """What the table says. A status without row or class (1xx, 600) is a broken answer: retried."""
    found = table.get(status)
    return table.get(f"{status // 100}xx", Action.RETRY) if found is None else found


def reset_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a RateLimit-Reset header: seconds from now, or a Unix time, as some send it; None if
    it says nothing useful. A date is not understood: that of one vendor is in its browser's own form."""
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    if seconds >= _UNIX_TIME:
        seconds = max(0.0, seconds - now)
    return min(seconds, MAX_AFTER) if seconds >= 0 else None


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110: seconds or an HTTP date); None if it says nothing
    useful.

    now: Unix time. At most MAX_AFTER; negative numbers and garbage count as no header, a date that has passed
    as 0."""
    if not value:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = max(0.0, parsedate_to_datetime(text).timestamp() - now)
        except (TypeError, ValueError, OverflowError, IndexError, OSError):
            return None
    if math.isnan(seconds) or seconds < 0:
        return None
    return min(seconds, MAX_AFTER)


class Backoff(msgspec.Struct, frozen=True):
    """Exponential backoff with full jitter."""

    base: float = 0.5
    """Ceiling of the first wait, seconds; it doubles."""
    cap: float = 30.0
    """Highest ceiling."""

    def ceiling(self, attempt: int) -> float:
        """Longest wait after failed attempt `attempt`, from 1."""
        return min(self.cap, self.base * 2.0 ** min(max(attempt, 1) - 1, 40))

    def delay(self, attempt: int, after: float | None, random: Callable[[], float]) -> float:
        """Seconds to wait after failed attempt `attempt`. random: in [0, 1).

        Without `after`: anything up to the ceiling. With it: `after`, and up to as much again (but not above
        the ceiling) as jitter, so that partitions that were told the same do not come back together."""
        ceiling = self.ceiling(attempt)
        if after is None:
            return random() * ceiling
        return after + random() * min(ceiling, max(after, self.base))


def decide(
    table: Table,
    response: Response,
    now: float,
    *,
    detail: str = "",
    fix: str = "",
    reset_header: str | None = None,
) -> Outcome:
    """The outcome of one request. now: Unix time, for Retry-After dates. detail: what the body says,
    redacted.

    fix: the settings to look at if the sink has to pause. reset_header: a header that says when a rate limit
    is over, in seconds, e.g. ratelimit-reset; the longer of it and Retry-After counts. A whole batch's
    `Rejected` and `Split` are for the runner to halve."""
    status = response.status
    match action(table, status):
        case Action.DELIVERED:
            return Delivered()
        case Action.RETRY:
            asked = [retry_after(response.headers.get("retry-after"), now)]
            if reset_header is not None:
                asked.append(reset_after(response.headers.get(reset_header.lower()), now))
            return Retry(
                max((a for a in asked if a is not None), default=None),
                f"status {status}: {detail}" if detail else f"status {status}",
                busy=400 <= status < 500,
            )
        case Action.SPLIT:
            return Split(status=status)
        case Action.REJECT:
            return Rejected("rejected", f"status {status}", status=status, response=detail or None)
        case Action.PAUSE:
            reason = _REASONS.get(status, "redirected" if status // 100 == 3 else "refused")
            return Paused(f"{reason} (status {status})" + (f": {detail}" if detail else ""), fix)
