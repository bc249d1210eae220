"""Dify's times: naive ones of rows and timers, aware ones, those that occur twice or never."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.dify.joining import FAR
from ingress.dify.task import BACKWARDS
from ingress.dify.zones import ROWS, TIMERS, Zones
from tailrace.errors import ConfigError, InvalidEvent
from tailrace.formats import Converted
from tests.ingress.dify import samples
from tests.ingress.dify.converting import converted, events
from tests.ingress.dify.samples import us

HOUR = 3_600_000_000


def read(text: str, *zones: str, source: str = ROWS) -> tuple[int, str | None]:
    return Zones(zones).read("start_time", text, source)


def test_a_time_without_a_zone_is_utc() -> None:
    assert read("2026-03-01T12:00:00.5") == (us(0.5), "has no zone; read as UTC")


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T20:00:00+08:00",
        "2026-03-01 12:00:00+00:00",
        " 2026-03-01T12:00:00Z ",
    ],
)
def test_a_time_with_a_zone_is_that_whatever_is_set(text: str) -> None:
    assert read(text, "America/New_York") == (us(0), None)


def test_the_zone_is_that_of_all_naive_times() -> None:
    for source in (ROWS, TIMERS):
        at, said = read("2026-03-01T20:00:00", "Asia/Shanghai", source=source)
        assert (at, said) == (us(0), "has no zone; read as Asia/Shanghai")


def test_rows_and_timers_may_differ() -> None:
    assert read("2026-03-01T12:00:00", "timers=Asia/Shanghai", source=ROWS)[0] == us(0)
    assert read("2026-03-01T20:00:00", "timers=Asia/Shanghai", source=TIMERS)[0] == us(0)
    assert read("2026-03-01T07:00:00", "America/New_York", "timers=UTC", source=ROWS)[0] == us(0)
    assert read("2026-03-01T12:00:00", "America/New_York", "timers=UTC", source=TIMERS)[0] == us(0)


def test_a_time_that_occurs_twice_is_the_first_and_that_is_said() -> None:
    at, said = read("2026-10-25T02:30:00", "Europe/Berlin")
    assert at == int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()) * 1_000_000
    assert said == "occurs twice in Europe/Berlin, when clocks go back; read as the first"


def test_a_time_that_does_not_occur_is_said() -> None:
    at, said = read("2026-03-29T02:30:00", "Europe/Berlin")
    assert at == int(datetime(2026, 3, 29, 1, 30, tzinfo=UTC).timestamp()) * 1_000_000
    assert said is not None
    assert said.startswith("does not occur in Europe/Berlin")


def test_an_end_that_would_be_before_its_start_is_the_second() -> None:
    """01:50 summer time to 01:10 winter time is 20 minutes, not minus 40."""
    line = samples.moderation(3, 0, 1)
    line["trace_info"] |= {"start_time": "2026-10-25T02:50:00", "end_time": "2026-10-25T02:10:00"}
    [one] = converted([line], zones=Zones(("Europe/Berlin",)))
    assert one.event is not None
    assert one.event.ended_at - one.event.started_at == 20 * 60 * 1_000_000
    said = [note.why for note in one.notes if note.field == "ended_at"]
    assert said == [
        "occurs twice in Europe/Berlin, when clocks go back; read as the second, which is after its start"
    ]


@pytest.mark.parametrize(
    "name", ["Mars/Base", "", "../etc/passwd", "/etc/passwd", "Europe", "a\0b", "x" * 5000]
)
def test_an_unknown_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="--timezone"):
        Zones((name,))


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="rows or timers"):
        Zones(("clocks=UTC",))


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "12:00", "2026-03-01T25:00:00", "x" * 1000])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidEvent, match="start_time: is not a valid time"):
        read(text)


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00", "0001-01-01T00:00:00", "2000-12-31T23:59:59Z"])
def test_a_time_before_2001_is_refused(text: str) -> None:
    with pytest.raises(InvalidEvent, match="start_time"):
        read(text, "Asia/Shanghai")


@given(st.datetimes(), st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York"]))
def test_any_naive_time_is_the_instant_that_python_says_or_refused(moment: datetime, zone: str) -> None:
    zones = Zones((zone,))
    try:
        at, _ = zones.read("start_time", moment.isoformat(), ROWS)
    except InvalidEvent:
        assert not 2002 <= moment.year <= 9998
        return
    exact = moment.replace(tzinfo=ZoneInfo(zone)) - datetime(1970, 1, 1, tzinfo=UTC)
    assert at == exact.days * 86_400_000_000 + exact.seconds * 1_000_000 + exact.microseconds
    second = zones.later("end_time", moment.isoformat(), ROWS)
    assert second is None or second[0] > at


def test_naive_and_aware_times_of_a_turn_are_the_same_instants() -> None:
    aware = samples.plain_chat()
    for line in aware:
        for info in (line.get("trace_info", {}), line.get("payload", {})):
            for name in ("start_time", "end_time", "created_at"):
                if info.get(name):
                    moment = datetime.fromisoformat(info[name]).replace(tzinfo=UTC)
                    info[name] = moment.astimezone(ZoneInfo("Asia/Kathmandu")).isoformat()
    times = [
        [(e.kind, e.started_at, e.ended_at) for e in events(turn)] for turn in (samples.plain_chat(), aware)
    ]
    assert times[0] == times[1]


def far(found: list[Converted]) -> list[str]:
    return [one.where for one in found for note in one.notes if note.why == FAR]


@pytest.mark.parametrize("hours", [8, -5, 0])
def test_a_wrong_zone_of_timers_is_seen_and_said(hours: int) -> None:
    """Their times are local, those of the message are UTC."""
    off = hours * 3600
    lines = [
        samples.moderation(3, 1 + off, 2 + off),
        samples.tool(3, 2 + off, 3 + off),
        samples.retrieval(3, 2 + off, 3 + off),
        samples.message(3, 0, 4),
        samples.suggested(3, 5, 6),
        samples.suggested(3, 86_400, 86_401),  # asked for a day later
    ]
    assert sorted(far(converted(lines))) == (["1", "2", "3"] if hours else [])
    zone = {8: "Asia/Shanghai", -5: "America/New_York", 0: "UTC"}[hours]
    assert far(converted(lines[:4], zones=Zones((f"timers={zone}",)))) == []


def test_an_end_before_its_start_is_said() -> None:
    [one] = converted([samples.moderation(3, 2, 1)])
    assert BACKWARDS in [note.why for note in one.notes if note.field == "ended_at"]
    [one] = converted([samples.moderation(3, 1, 1)])
    assert BACKWARDS not in [note.why for note in one.notes]


def test_a_time_of_a_timer_that_does_not_occur_keeps_its_order() -> None:
    """The clock was set forward between start and end: both are after one another, an hour apart by name."""
    line = samples.moderation(3, 0, 1)
    line["trace_info"] |= {"start_time": "2026-03-29T01:59:59", "end_time": "2026-03-29T03:00:01"}
    [one] = converted([line], zones=Zones(("Europe/Berlin",)))
    assert one.event is not None
    assert one.event.ended_at - one.event.started_at == 2_000_000
