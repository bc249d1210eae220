"""Limits of dead letters, compared with a plain count."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.delivery.dead_letter_limits import SAMPLE, WINDOW, DeadLetterLimiter, DeadLetterLimits

answers = st.lists(st.one_of(st.just(0), st.integers(1, 700)), max_size=400)
"""0: a rejection. Another number: so many deliveries."""
limits = st.builds(
    DeadLetterLimits, st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5, 1.0]), st.sampled_from([0, 1, 3, 50, 1000])
)


def may(settled: list[bool], limits: DeadLetterLimits) -> bool:
    """Whether one more rejection is allowed after these, as the documentation says it.

    Args:
        settled: True for each record that was rejected, oldest first.
        limits: the limits.
    """
    row = next((n for n, rejected in enumerate(reversed(settled)) if not rejected), len(settled))
    last = [*settled, True][-WINDOW:]
    return not (
        (limits.consecutive and row >= limits.consecutive)
        or (limits.ratio and len(last) >= SAMPLE and sum(last) / len(last) > limits.ratio)
    )


@given(answers, limits)
def test_limits_count_as_a_plain_list_does(answers: list[int], limits: DeadLetterLimits) -> None:
    allowance, settled = DeadLetterLimiter(limits), list[bool]()
    for n in answers:
        if n:
            allowance.delivered(n)
            settled += [False] * n
        else:
            allowed = may(settled, limits)
            assert (allowance.reject() == "") == allowed
            settled += [True] * allowed


@given(answers, st.integers(0, 600), limits)
def test_rejections_that_are_taken_back_do_not_count(
    answers: list[int], back: int, limits: DeadLetterLimits
) -> None:
    limiter, settled = DeadLetterLimiter(DeadLetterLimits(0, 0)), list[bool]()
    for n in answers:
        limiter.delivered(n)
        settled += [False] * n
        if not n:
            limiter.reject()
            settled.append(True)
    row = next((n for n, rejected in enumerate(reversed(settled)) if not rejected), len(settled))
    window = settled[-WINDOW:]
    limiter.take_back(back)
    for _ in range(min(back, sum(window))):
        del window[len(window) - 1 - window[::-1].index(True)]
    limiter.limits = limits
    last = [*window, True][-WINDOW:]
    expected = not (
        (limits.consecutive and max(0, row - back) >= limits.consecutive)
        or (limits.ratio and len(last) >= SAMPLE and sum(last) / len(last) > limits.ratio)
    )
    assert (limiter.reject() == "") == expected


@given(st.integers(1, 2000), limits)
def test_a_stream_of_poison_alone_is_stopped_soon(records: int, limits: DeadLetterLimits) -> None:
    allowance = DeadLetterLimiter(limits)
    dead_lettered = sum(allowance.reject() == "" for _ in range(records))
    bounds = [records]
    if limits.consecutive:
        bounds.append(limits.consecutive)
    if limits.ratio and limits.ratio < 1:
        bounds.append(SAMPLE - 1)
    assert dead_lettered == min(bounds)


@pytest.mark.parametrize("seed", range(5))
def test_one_in_a_hundred_flows(seed: int) -> None:
    rng, allowance = random.Random(seed), DeadLetterLimiter(DeadLetterLimits())
    for _ in range(20_000):
        if rng.random() < 0.01:
            assert allowance.reject() == ""
        else:
            allowance.delivered()


@given(st.integers(0, 3))
def test_a_delivery_ends_a_row_and_the_text_names_the_setting(more: int) -> None:
    allowance = DeadLetterLimiter(DeadLetterLimits(ratio=0, consecutive=4))
    for _ in range(2):
        assert [allowance.reject() for _ in range(4)] == [""] * 4
        assert [allowance.reject() for _ in range(more)] == [
            "4 dead letters in a row (dead_letter_consecutive)"
        ] * more
        allowance.delivered()


def test_the_share_names_its_setting_and_falls_as_others_are_delivered() -> None:
    allowance = DeadLetterLimiter(DeadLetterLimits(ratio=0.1, consecutive=0))
    allowance.delivered(450)
    for _ in range(50):
        assert allowance.reject() == ""
    assert allowance.reject() == "50 dead letters of the last 500 records (dead_letter_ratio)"
    allowance.delivered(449)
    assert allowance.reject()
    allowance.delivered(1)  # now the next one pushes an old dead letter out of the window
    assert allowance.reject() == ""


def test_new_limits_keep_the_counts() -> None:
    allowance = DeadLetterLimiter(DeadLetterLimits(ratio=0, consecutive=2))
    assert [allowance.reject() for _ in range(2)] == ["", ""]
    assert allowance.reject()
    allowance.limits = DeadLetterLimits(ratio=0, consecutive=3)
    assert allowance.reject() == ""
    assert allowance.reject()
    allowance.limits = DeadLetterLimits(ratio=0, consecutive=0)
    assert allowance.reject() == ""
