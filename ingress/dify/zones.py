"""Which instant a time of Dify is. Pure.

Dify writes times without a zone. Those of database rows (runs, nodes, messages) are UTC. Those that it
measures itself (moderation, retrieval, tools, suggestions, names) are its process's local time: the same, as
long as nobody sets TZ. So there are two zones here.
"""

from __future__ import annotations

import datetime
from typing import Final
from zoneinfo import ZoneInfo

from tailrace.errors import ConfigError, InvalidEvent
from tailrace.times import problem_of

ROWS: Final = "rows"
"""Times of database rows."""
TIMERS: Final = "timers"
"""Times that Dify's process measured."""
_SOURCES: Final = (ROWS, TIMERS)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_EXAMPLE: Final = "Dify writes ISO 8601, for example 2026-03-01T12:00:00.123000"

_Time = datetime.datetime
_Offset = datetime.timedelta | None

AMBIGUOUS: Final = "occurs twice in {zone}, when clocks go back; read as the first"
SECOND: Final = "occurs twice in {zone}, when clocks go back; read as the second, which is after its start"
ABSENT: Final = "does not occur in {zone}, where clocks go forward; read with the offset before that"
NAIVE: Final = "has no zone; read as {zone}"


class Zones:
    """The zone of times without one, for each source of times.

    Args:
        texts: `ZONE` for all times, `rows=ZONE` or `timers=ZONE` for those of one source; the last one of
            a source counts. Without any, all are UTC.

    Raises:
        ConfigError: a text names no source or zone that is known.
    """

    def __init__(self, texts: tuple[str, ...] = ()) -> None:
        self._zones: dict[str, datetime.tzinfo] = dict.fromkeys(_SOURCES, datetime.UTC)
        self._names = dict.fromkeys(_SOURCES, "UTC")
        for text in texts:
            source, sep, name = text.rpartition("=")
            if sep and source not in _SOURCES:
                raise ConfigError(
                    f"--timezone {text}: {source!r} is not rows or timers; for example timers=Asia/Shanghai"
                )
            zone = _zone(text, name)
            for one in (source,) if sep else _SOURCES:
                self._zones[one], self._names[one] = zone, name

    def read(self, field: str, text: str, source: str) -> tuple[int, str | None]:
        """The microseconds UTC of a time, and what is to be said about how it was read.

        Args:
            field: the field's name.
            text: ISO 8601, with or without a zone.
            source: `ROWS` or `TIMERS`.

        Raises:
            InvalidEvent: it is not a time, or not one of the years 2001 to 9999.
        """
        at = _parsed(field, text)
        if at.tzinfo is not None:
            return _microseconds(field, at, text), None
        first, _, before, after = self._twice(at, source)
        said = NAIVE
        if before is not None and after is not None and before != after:
            said = AMBIGUOUS if before > after else ABSENT
        return _microseconds(field, first, text), said.format(zone=self._names[source])

    def later(self, field: str, text: str, source: str) -> tuple[int, str] | None:
        """The second instant of a time that occurs twice; None if it does not."""
        at = _parsed(field, text)
        if at.tzinfo is not None:
            return None
        _, second, before, after = self._twice(at, source)
        if before is None or after is None or before <= after:
            return None
        return _microseconds(field, second, text), SECOND.format(zone=self._names[source])

    def _twice(self, at: datetime.datetime, source: str) -> tuple[_Time, _Time, _Offset, _Offset]:
        """A time as the first and as the second of that name, and the offsets of both."""
        zone = self._zones[source]
        first, second = at.replace(tzinfo=zone, fold=0), at.replace(tzinfo=zone, fold=1)
        try:
            return first, second, first.utcoffset(), second.utcoffset()
        except (OverflowError, ValueError):
            return first, second, None, None


def _zone(text: str, name: str) -> datetime.tzinfo:
    try:
        if name.upper() in ("UTC", "Z"):
            return datetime.UTC
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        raise ConfigError(
            f"--timezone {text}: {name!r} is not a time zone that this system knows; "
            "write an IANA name, for example Asia/Shanghai"
        ) from None


def _parsed(field: str, text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise InvalidEvent(field, f"is not a valid time: {text[:40]!r}; {_EXAMPLE}") from None


def _microseconds(field: str, at: datetime.datetime, text: str) -> int:
    try:
        found = (at - _EPOCH) // _MICROSECOND
    except (OverflowError, ValueError):
        raise InvalidEvent(field, f"is not a valid time: {text[:40]!r}; {_EXAMPLE}") from None
    problem = problem_of(found)
    if problem is not None:
        raise InvalidEvent(field, f"is {text[:40]!r}, which is not in the years 2001 to 9999")
    return found
