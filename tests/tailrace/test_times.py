"""Times that publishers give: which are taken, and what is said about the others."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import times
from tailrace.errors import InvalidEvent
from tailrace.identity import complete
from tailrace.records import Kind, PromptGeneration, TraceEvent
from tailrace.times import EARLIEST, LATEST

NOW = 1_764_000_000_000_000
UTC = datetime.UTC


def event(kind: Kind = Kind.TOOL, **fields: Any) -> TraceEvent:
    return TraceEvent(**{"kind": kind, "source_id": "s", "started_at": NOW, "ended_at": NOW + 5, **fields})


@pytest.mark.parametrize("field", times.TIMES)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (NOW // 1_000_000, "looks like seconds; times are microseconds UTC: multiply by 1000000"),
        (NOW / 1_000_000 + 0.25, "looks like seconds; times are microseconds UTC: multiply by 1000000"),
        (NOW // 1000, "looks like milliseconds; times are microseconds UTC: multiply by 1000"),
        (NOW * 1000, "looks like nanoseconds; times are microseconds UTC: divide by 1000"),
        (0, "microseconds UTC of the years 2001 to 9999"),
        (-5, "microseconds UTC of the years 2001 to 9999"),
        (2**63 - 1, "looks like nanoseconds"),
        (10**200, "microseconds UTC as an integer"),
        (NOW + 0.5, "microseconds UTC as an integer"),
        (float("nan"), "microseconds UTC as an integer"),
        (True, "microseconds UTC as an integer"),
        (b"2026", "microseconds UTC as an integer"),
        ("yesterday", "for example 2026-11-01T12:00:00Z"),
        ("1970-01-01T00:00:00Z", "microseconds UTC of the years 2001 to 9999"),
        ("2026-11-01T12:00:00", "has no time zone"),
        (datetime.datetime(2026, 11, 1), "without a time zone"),
        (datetime.datetime(1999, 1, 1, tzinfo=UTC), "2001 to 9999"),
    ],
)
def test_a_time_in_another_unit_is_refused_with_the_field_and_the_unit_named(
    field: str, value: Any, said: str
) -> None:
    with pytest.raises(InvalidEvent) as caught:
        complete(event(**{field: value}), NOW)
    assert caught.value.field == field
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (NOW, NOW),
        (float(NOW), NOW),
        (Decimal(NOW), NOW),
        (EARLIEST, EARLIEST),
        (LATEST, LATEST),
        (datetime.datetime(2026, 11, 1, 12, tzinfo=UTC), 1_793_534_400_000_000),
        (
            datetime.datetime(2026, 11, 1, 14, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            1_793_534_400_000_000,
        ),
        ("2026-11-01T12:00:00.000001Z", 1_793_534_400_000_001),
    ],
)
def test_times_are_microseconds_datetimes_or_text(value: Any, at: int) -> None:
    for field in times.TIMES:
        assert getattr(complete(event(**{field: value}), NOW), field) == at


class Broken(datetime.tzinfo):
    def utcoffset(self, at: datetime.datetime | None) -> datetime.timedelta:
        raise RuntimeError("no")

    def dst(self, at: datetime.datetime | None) -> None:
        return None

    def tzname(self, at: datetime.datetime | None) -> None:
        return None


def test_a_number_of_any_length_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="ended_at"):
        complete(event(ended_at=10**5000), NOW)


def test_a_time_zone_that_raises_is_refused_with_the_field_named() -> None:
    with pytest.raises(InvalidEvent, match="started_at"):
        complete(event(started_at=datetime.datetime(2026, 1, 1, tzinfo=Broken())), NOW)


@pytest.mark.parametrize("empty", [None, ""])
def test_an_operation_without_its_times_is_refused(empty: Any) -> None:
    for field in ("started_at", "ended_at"):
        with pytest.raises(InvalidEvent, match="is missing") as caught:
            complete(event(**{field: empty}), NOW)
        assert caught.value.field == field
    done = complete(event(published_at=empty, root_started_at=empty), NOW)
    assert (done.published_at, done.root_started_at) == (NOW, None)


@pytest.mark.parametrize(
    ("given_", "latency", "expected"),
    [
        ({}, 250_000, (NOW - 250_000, NOW)),
        ({}, None, (NOW, NOW)),
        ({}, -5, (NOW, NOW)),
        ({}, 2.0, (NOW - 2, NOW)),
        ({"ended_at": NOW - 9}, 100, (NOW - 109, NOW - 9)),
        ({"started_at": NOW - 9}, 100, (NOW - 9, NOW + 91)),
        ({"published_at": NOW - 1}, 100, (NOW - 101, NOW - 1)),
    ],
)
def test_a_prompt_generation_without_times_ended_when_it_was_published_and_says_so(
    given_: dict[str, int], latency: Any, expected: tuple[int, int]
) -> None:
    fields: dict[str, Any] = {"started_at": None, "ended_at": None, "attributes": {"a": "b"}, **given_}
    body = PromptGeneration(latency=latency)
    done = complete(event(Kind.PROMPT_GENERATION, prompt_generation=body, **fields), NOW)
    assert (done.started_at, done.ended_at) == expected
    assert done.attributes == {"a": "b", "tailrace.times": "estimated"}


def test_a_prompt_generation_with_its_times_is_as_it_is() -> None:
    done = complete(event(Kind.PROMPT_GENERATION), NOW)
    assert (done.started_at, done.ended_at, done.attributes) == (NOW, NOW + 5, {})


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_is_plausible_or_its_problem_is_told(at: int) -> None:
    problem = times.problem_of(at)
    assert (problem is None) == (EARLIEST <= at <= LATEST)


@given(st.integers(EARLIEST, LATEST))
def test_no_plausible_time_is_plausible_in_another_unit(at: int) -> None:
    """So a unit that is named is the only one that it can be."""
    for wrong in (at // 1_000_000, at // 1000, at * 1000):
        assert times.problem_of(wrong) is not None
