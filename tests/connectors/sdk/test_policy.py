"""From an HTTP status to an outcome, and how long to wait."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.sdk.http import Response, place
from connectors.sdk.outcomes import Delivered, Outcome, Paused, Rejected, Retry, Split
from connectors.sdk.policy import (
    DEFAULT,
    MAX_AFTER,
    Action,
    Backoff,
    action,
    decide,
    reset_after,
    retry_after,
    table,
)

NOW = 1_700_000_000.0
unit = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((200, 201, 202, 204, 207), Delivered),
        ((408, 425, 429, 500, 502, 503, 504, 507, 599), Retry),
        ((413,), Split),
        ((400, 409, 422), Rejected),
        ((401, 402, 403, 404, 405, 407, 415, 418, 301, 307, 501, 505), Paused),
        ((0, 100, 199, 600, 999), Retry),
    ],
)
def test_the_default_table(statuses: tuple[int, ...], kind: type[Outcome]) -> None:
    for status in statuses:
        assert isinstance(decide(DEFAULT, Response(status), NOW), kind), status


@given(st.integers(-1000, 10_000))
def test_every_status_has_an_action(status: int) -> None:
    assert action(DEFAULT, status) in Action


def test_a_row_of_a_vendor_comes_before_the_class() -> None:
    own = table({402: Action.RETRY, "5xx": Action.PAUSE})
    assert {s: action(own, s) for s in range(100, 700) if action(own, s) != action(DEFAULT, s)} == {
        402: Action.RETRY,
        **{s: Action.PAUSE for s in range(500, 600) if s not in (501, 505)},
    }


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("86400", MAX_AFTER),
        ("1e400", MAX_AFTER),
        (formatdate(NOW + 7, usegmt=True), 7.0),
        (formatdate(NOW - 7, usegmt=True), 0.0),
        (formatdate(NOW + 10**8, usegmt=True), MAX_AFTER),
        ("-3", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Fri, 31 Dec 9999 23:59:59 -0000", MAX_AFTER),
        ("Fri, 99 Foo 2026", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(
    st.text()
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,9} [A-Z][a-z]{2} \d{1,9} [\d:]{1,9} (GMT|[+-]\d+)", fullmatch=True)
)
def test_retry_after_never_raises_and_is_bounded(header: str) -> None:
    seconds = retry_after(header, NOW)
    assert seconds is None or 0 <= seconds <= MAX_AFTER


@given(st.integers(-5, 10**9), unit, st.floats(0.01, 10), st.floats(0.01, 100))
def test_backoff_is_full_jitter_under_a_ceiling(attempt: int, random: float, base: float, cap: float) -> None:
    backoff = Backoff(base, cap)
    assert 0 <= backoff.delay(attempt, None, lambda: random) <= backoff.ceiling(attempt) <= cap
    assert backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1)


@given(st.integers(1, 100), st.floats(0, MAX_AFTER), unit)
def test_what_the_sink_asked_for_is_the_least(attempt: int, after: float, random: float) -> None:
    backoff = Backoff()
    delay = backoff.delay(attempt, after, lambda: random)
    assert after <= delay <= after + max(after, backoff.base)


def test_ceilings_double() -> None:
    assert [Backoff(0.5, 3.0).ceiling(n) for n in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_reasons_and_details_reach_the_outcome() -> None:
    paused = decide(DEFAULT, Response(401), NOW, detail="no key", fix="api_key")
    assert paused == Paused("unauthorized (status 401): no key", "api_key")
    assert decide(DEFAULT, Response(503, {"retry-after": "2"}), NOW) == Retry(2.0, "status 503")
    assert decide(DEFAULT, Response(400), NOW, detail="bad id") == Rejected(
        "rejected", "status 400", status=400, response="bad id"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@host:4318/adapt_secret/v1?key=secret", "https://host:4318"),
        ("http://[::1]:99999/", "an invalid URL"),
        ("http://u:key@[2001:db8::1]:4318/key", "http://[2001:db8::1]:4318"),
        ("https://[::1]/key", "https://[::1]"),
        ("secret", "://?"),
    ],
)
def test_the_place_of_an_error_has_no_secret(url: str, shown: str) -> None:
    assert place(url) == shown


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        ("0", 0.0),
        ("99999", MAX_AFTER),
        (str(NOW + 12), 12.0),
        (str(NOW - 12), 0.0),
        ("1e400", MAX_AFTER),
    ]
    + [(h, None) for h in ("-1", "nan", "soon", "", None, "Wed Nov 18 2026 10:00:00 GMT+0000")],
)
def test_ratelimit_reset(header: str | None, seconds: float | None) -> None:
    assert reset_after(header, NOW) == seconds


def test_the_longer_of_two_headers_counts_where_a_vendor_has_both() -> None:
    answer = Response(429, {"retry-after": "2", "ratelimit-reset": "9"})
    assert decide(DEFAULT, answer, NOW) == Retry(2.0, "status 429", busy=True)
    assert decide(DEFAULT, answer, NOW, reset_header="RateLimit-Reset") == Retry(9.0, "status 429", busy=True)
    assert decide(DEFAULT, Response(429), NOW, reset_header="RateLimit-Reset") == Retry(
        None, "status 429", busy=True
    )
    assert decide(DEFAULT, Response(503, {"ratelimit-reset": "9"}), NOW) == Retry(None, "status 503")
