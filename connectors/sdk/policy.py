"""Pure rules: HTTP status -> outcome, and how long to wait before a retry.

A table maps a status (429) or a class of statuses ("4xx") to an `Action`; a status wins over its class.
`DEFAULT` is the only complete table. A vendor's table is `table({…})` with the rows that differ.
"""

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
    """What a status means for the batch that was sent."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """Send the same request again, later."""
    REJECT = "reject"
    """A record is at fault: halve the batch down to that record, which becomes a dead letter."""
    SPLIT = "split"
    """Too large: send it in halves."""
    PAUSE = "pause"
    """Credentials, quota or address: send only probes, and dead-letter nothing."""


Table = Mapping[int | str, Action]

DEFAULT: Final[Table] = MappingProxyType(
    {
        "2xx": Action.DELIVERED,
        "3xx": Action.PAUSE,  # redirects are not followed: the address is wrong
        400: Action.REJECT,  # OTLP forbids sending the same request again; halves are different requests
        408: Action.RETRY,
        409: Action.REJECT,
        413: Action.SPLIT,
        422: Action.REJECT,
        425: Action.RETRY,
        429: Action.RETRY,
        "4xx": Action.PAUSE,  # 401, 403, 404 and others that blame no record: wait rather than lose records
        501: Action.PAUSE,
        505: Action.PAUSE,
        # OTLP retries only 502, 503 and 504. Our ids are deterministic, so a retry after 500 is safe, too.
        "5xx": Action.RETRY,
    }
)
"""The rules of the OTLP specification; the base of every vendor's table."""
OTLP: Final = DEFAULT
"""Another name of `DEFAULT`, after the specification that it follows."""

_UNIX_TIME: Final = 1e9
"""A header value from this on is a Unix time; a smaller one is a duration in seconds."""

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
"""Seconds. A longer Retry-After is cut to this, so that a vendor's mistake does not stop a sink for days."""


def table(differences: Table = MappingProxyType({})) -> Table:
    """A vendor's table: `DEFAULT` with the rows that differ.

    Args:
        differences: Status (403) or class ("4xx") -> action.
    """
    return MappingProxyType({**DEFAULT, **differences})


def action(table: Table, status: int) -> Action:
    """The action for a status. One without row or class (1xx, 600) is a broken response, which is retried."""
    row = table.get(status)
    return table.get(f"{status // 100}xx", Action.RETRY) if row is None else row


def reset_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a RateLimit-Reset header.

    Args:
        value: The header: seconds from now, or a Unix time. Dates are not read: vendors format them
            differently.
        now: Unix time.

    Returns:
        At most `MAX_AFTER`; None if there is no header or its value is not valid.
    """
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    if seconds >= _UNIX_TIME:
        seconds = max(0.0, seconds - now)
    return min(seconds, MAX_AFTER) if seconds >= 0 else None


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header.

    Args:
        value: The header: seconds or an HTTP date (RFC 9110).
        now: Unix time.

    Returns:
        At most `MAX_AFTER`; 0 for a date in the past; None if there is no header, or its value is negative or
        not valid.
    """
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
    """Longest wait after the first failed attempt, in seconds. It doubles with each attempt."""
    cap: float = 30.0
    """Longest wait after any attempt, in seconds."""

    def ceiling(self, attempt: int) -> float:
        """Longest wait in seconds after failed attempt `attempt`, counted from 1."""
        return min(self.cap, self.base * 2.0 ** min(max(attempt, 1) - 1, 40))

    def delay(self, attempt: int, after: float | None, random: Callable[[], float]) -> float:
        """Seconds to wait after a failed attempt.

        Without `after` it is random, up to the ceiling. With `after` it is `after` plus jitter, so that
        partitions that got the same answer do not all return at once. The jitter is at most
        max(after, base), and at most the ceiling.

        Args:
            attempt: Number of the attempt that failed, from 1.
            after: The minimum wait that the vendor asked for, in seconds.
            random: Returns a number in [0, 1).
        """
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
    """The outcome of one request. A batch that is `Rejected` or `Split` is halved by the runner.

    Args:
        table: The vendor's table.
        response: The response to the request.
        now: Unix time, for Retry-After dates.
        detail: What the response's body says, redacted.
        fix: The settings to look at if the sink has to pause.
        reset_header: A header that says when the rate limit is over, e.g. ratelimit-reset. The longer wait of
            it and Retry-After counts.
    """
    status = response.status
    match action(table, status):
        case Action.DELIVERED:
            return Delivered()
        case Action.RETRY:
            waits = [retry_after(response.headers.get("retry-after"), now)]
            if reset_header is not None:
                waits.append(reset_after(response.headers.get(reset_header.lower()), now))
            return Retry(
                max((wait for wait in waits if wait is not None), default=None),
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
