"""The ledger: its text in a commit's metadata, and its counts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import DecodeError
from tailrace.ledger.sink_ledger import LIMIT, NEW, SinkLedger, Tally

counts = st.integers(0, LIMIT - 1)
tallies = st.builds(Tally, st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)).filter(
    lambda t: t.total > 0
)


@st.composite
def ledgers(draw: st.DrawFn) -> SinkLedger:
    base = draw(st.integers(-1, LIMIT - 1))
    delivered = draw(counts)
    return SinkLedger(
        draw(st.integers(NEW, LIMIT - 1)),
        base,
        draw(st.integers(base, LIMIT - 1)),
        delivered,
        draw(counts),
        draw(counts),
        draw(st.integers(0, delivered)),
        draw(counts),
        draw(counts),
        draw(counts),
        draw(st.integers(0, delivered)),
    )


@given(ledgers())
def test_it_reads_back_and_is_short(ledger: SinkLedger) -> None:
    text = ledger.encode()
    assert SinkLedger.decode(text) == ledger
    assert len(text) <= 201
    assert text.isascii()


def test_the_layout_is_fixed() -> None:
    text = "tr1;g=2;b=-1;l=41;d=40;f=1;x=2;u=3;r=5;m=0;p=0;n=1"
    ledger = SinkLedger(2, -1, 41, 40, 1, 2, 3, 5, unnumbered=1)
    assert (ledger.encode(), SinkLedger.decode(text), ledger.balanced()) == (text, ledger, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "empty"),
        ("", "empty"),
        ("tr2;g=0;b=-1", "unknown_version"),
        ("tr" + "9" * 5000 + ";", "unknown_version"),
        ("hello", "malformed"),
        ("tr1;g=0;b=-1;l=41;d=40", "malformed"),
        ("tr1;g=0;b=-1;l=4;d=5;f=0;x=0;u=0;r=0;m=0;p=0", "malformed"),
        ("tr1;g=0;b=5;l=4;d=0;f=0;x=0;u=0;r=0;m=0;p=0;n=0", "malformed"),
        ("tr1;g=0;b=-1;l=4;d=5;f=0;x=0;u=6;r=0;m=0;p=0;n=0", "malformed"),
        ("tr1;g=0;b=-1;l=4;d=5;f=1;x=1;u=0;r=0;m=0;p=0;n=8", "malformed"),
        ("tr1;g=0;b=-1;l=4;d=-5;f=0;x=0;u=0;r=0;m=0;p=0;n=0", "malformed"),
        ("tr1;g=0;b=-1;l=4;d=٥;f=0;x=0;u=0;r=0;m=0;p=0;n=0", "malformed"),
        ("tr1;g=0;b=-1;l=4;d=5;f=0;x=0;u=0;r=0;m=0;p=0;n=0\n", "malformed"),
    ],
)
def test_what_it_cannot_read_says_why(text: str | None, reason: str) -> None:
    with pytest.raises(DecodeError) as e:
        SinkLedger.decode(text)
    assert e.value.reason == reason


@given(st.text() | st.from_regex(r"tr1;(g|b|l|d|f|x|u|r|m|p|n|=|;|-|\d)*", fullmatch=True))
def test_reading_garbage_raises_nothing_else(text: str) -> None:
    try:
        SinkLedger.decode(text)
    except DecodeError:
        pass


@given(st.integers(0, 10**6), st.lists(tallies, min_size=1))
def test_consecutive_records_balance_whatever_became_of_them(first: int, runs: list[Tally]) -> None:
    ledger, number = SinkLedger(), first - 1
    for tally in runs:
        number += tally.total
        ledger = ledger.settle(tally, number, 0)
    total = Tally.sum(runs)
    assert (ledger.base, ledger.last, ledger.balanced()) == (first - 1, number, True)
    assert (ledger.delivered, ledger.filtered, ledger.dead_lettered) == (
        total.delivered,
        total.filtered,
        total.dead_lettered,
    )
    assert (ledger.gaps, ledger.repeated) == (0, 0)


@given(st.lists(st.tuples(tallies, st.integers(0, 5)), min_size=1))
def test_every_missing_number_is_counted_and_unbalances(runs: list[tuple[Tally, int]]) -> None:
    ledger, number = SinkLedger(0), -1
    for tally, missing in runs:
        number += missing + tally.total
        ledger = ledger.settle(tally, number, 0)
    lost = sum(missing for _, missing in runs)
    assert (ledger.gaps, ledger.balanced()) == (lost, lost == 0)
    assert ledger.last - ledger.base == Tally.sum(t for t, _ in runs).total + lost


@given(st.integers(0, 100), st.integers(0, 5), st.integers(0, 5))
def test_records_without_a_number_are_counted_and_take_none(first: int, before: int, after: int) -> None:
    ledger = SinkLedger()
    for _ in range(before):
        ledger = ledger.settle(Tally(dead_lettered=1))
    ledger = ledger.settle(Tally(delivered=1), first, 3)
    for _ in range(after):
        ledger = ledger.settle(Tally(dead_lettered=1))
    assert (ledger.base, ledger.last, ledger.gaps) == (first - 1, first, 0)
    assert (ledger.dead_lettered, ledger.unnumbered) == (before + after, before + after)
    assert ledger.balanced()
    assert ledger.generation == 3


def test_records_without_a_number_hide_no_gap_and_make_nothing_a_repetition() -> None:
    ledger = SinkLedger(0, -1, 9, delivered=10).settle(Tally(dead_lettered=2))
    good = ledger.settle(Tally(delivered=2), 11, 0)
    assert (good.delivered, good.repeated, good.gaps, good.balanced()) == (12, 0, 0, True)
    lost = ledger.settle(Tally(delivered=1), 12, 0)
    assert (lost.delivered, lost.repeated, lost.gaps, lost.balanced()) == (11, 0, 2, False)


def test_a_number_that_came_before_is_not_counted_again() -> None:
    ledger = SinkLedger(0, -1, 9, delivered=10)
    again = ledger.settle(Tally(delivered=1), 4, 0)
    assert again == msgspec.structs.replace(ledger, repeated=1)
    assert again.balanced()


def test_a_new_generation_starts_a_new_ledger_at_0() -> None:
    old = SinkLedger(0, -1, 9, delivered=8, filtered=2, retried=4)
    assert old.settle(Tally(filtered=1), 0, 1) == SinkLedger(1, -1, 0, filtered=1)
    assert old.settle(Tally(filtered=1), 3, 1).gaps == 3
