"""Times of events: microseconds since 1970 in UTC. Pure.

A number of seconds, milliseconds or nanoseconds of this century is outside the range of plausible
microseconds, so a wrong unit is found and named.
"""

from __future__ import annotations

import datetime
import math
from typing import Any, Final

from tailrace.codec.encoder import whole, wrong
from tailrace.errors import InvalidEvent
from tailrace.records import Kind, PromptGeneration, TraceEvent

EARLIEST: Final = 978_307_200_000_000
"""The beginning of 2001. Seconds and milliseconds, taken for microseconds, lie before it."""
LATEST: Final = 253_402_300_799_999_999
"""The end of 9999. Nanoseconds, taken for microseconds, lie after it."""
TIMES: Final = ("started_at", "ended_at", "published_at", "root_started_at")
"""Fields of `TraceEvent` that are times."""
ESTIMATED: Final = ("tailrace.times", "estimated")
"""Attribute of an event whose times its publisher did not have."""

_LONGEST_LATENCY: Final = 86_400_000_000
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_EXAMPLE: Final = "write microseconds UTC or RFC 3339 text, for example 2026-11-01T12:00:00Z"
_EXPECTED: Final = "microseconds UTC as an integer, or a datetime with a time zone"


def problem_of(at: int) -> str | None:
    """What is wrong with a number of microseconds: the unit that it looks like, and what to do.

    Returns:
        None if it is plausible, from `EARLIEST` to `LATEST`.
    """
    if EARLIEST <= at <= LATEST:
        return None
    if EARLIEST <= at * 1_000_000 <= LATEST:
        return f"is {at}, which looks like seconds; times are microseconds UTC: multiply by 1000000"
    if EARLIEST <= at * 1000 <= LATEST:
        return f"is {at}, which looks like milliseconds; times are microseconds UTC: multiply by 1000"
    if EARLIEST <= at // 1000 <= LATEST:
        return f"is {at}, which looks like nanoseconds; times are microseconds UTC: divide by 1000"
    return f"is {at} and must be from {EARLIEST} to {LATEST}: microseconds UTC of the years 2001 to 9999"


def from_text(field: str, text: str) -> int:
    """The microseconds of an RFC 3339 text with a time zone. Any year is accepted.

    Raises:
        InvalidEvent: it is not such a text.
    """
    try:
        at = datetime.datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return (at - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise InvalidEvent(field, f"is not a valid time: {text[:40]!r}; {_EXAMPLE}") from None
    example = at.replace(tzinfo=datetime.UTC).isoformat().replace("+00:00", "Z")
    raise InvalidEvent(field, f"has no time zone: {text[:40]!r}; for example {example}")


def microseconds(field: str, value: object) -> int:
    """A time that a publisher gave, as plausible microseconds UTC.

    Args:
        field: the field's name.
        value: microseconds, a datetime with a time zone, or RFC 3339 text with one.

    Raises:
        InvalidEvent: it is neither, or not plausible: names the unit that it looks like.
    """
    if isinstance(value, datetime.datetime):
        at = _of_datetime(field, value)
    elif isinstance(value, str):
        at = from_text(field, value)
    elif (number := whole(value)) is not None:
        at = number
    elif isinstance(value, float) and math.isfinite(value):
        raise InvalidEvent(field, problem_of(int(value)) or f"is {value!r} and must be {_EXPECTED}")
    else:
        raise wrong(field, value, _EXPECTED)
    problem = problem_of(at) if abs(at) < 1 << 64 else f"must be {_EXPECTED}"
    if problem is not None:
        raise InvalidEvent(field, problem)
    return at


def _of_datetime(field: str, value: datetime.datetime) -> int:
    try:
        if value.tzinfo is not None:
            return (value - _EPOCH) // _MICROSECOND
    except Exception as e:  # e.g. of a time zone of the application
        raise InvalidEvent(
            field, f"is a datetime that cannot be converted to UTC ({type(e).__name__})"
        ) from None
    raise InvalidEvent(
        field,
        "is a datetime without a time zone; for example datetime.now(UTC) has one, datetime.now() does not",
    )


def completed(event: TraceEvent, now: int) -> dict[str, Any]:
    """The fields of an event that must change so that its times are plausible microseconds.

    A prompt generation may have no times. It then ended when it was published, and took as long as its
    latency says; the attribute `ESTIMATED` says so.

    Args:
        event: the event.
        now: the current time, microseconds UTC.

    Raises:
        InvalidEvent: names the field whose time is missing or not plausible.
    """
    given = {name: getattr(event, name) for name in TIMES}
    found = {name: microseconds(name, value) for name, value in given.items() if not _missing(value)}
    found.setdefault("published_at", now)
    changes: dict[str, Any] = {}
    if event.kind == Kind.PROMPT_GENERATION and not ("started_at" in found and "ended_at" in found):
        took = _latency(event.prompt_generation)
        if "ended_at" not in found:
            found["ended_at"] = found.get("started_at", found["published_at"] - took) + took
        found.setdefault("started_at", found["ended_at"] - took)
        if event.attributes is None or isinstance(event.attributes, dict):
            name, text = ESTIMATED
            changes["attributes"] = {**(event.attributes or {}), name: text}
    for name in ("started_at", "ended_at"):
        if name not in found:
            raise InvalidEvent(name, f"is missing; it must be {_EXPECTED}")
    changes.update((name, at) for name, at in found.items() if at is not given[name])
    if "root_started_at" not in found and given["root_started_at"] is not None:
        changes["root_started_at"] = None
    return changes


def _missing(value: object) -> bool:
    return value is None or (issubclass(type(value), str) and not value)


def _latency(body: object) -> int:
    took = whole(body.latency) if isinstance(body, PromptGeneration) else None
    return took if took is not None and 0 <= took <= _LONGEST_LATENCY else 0
