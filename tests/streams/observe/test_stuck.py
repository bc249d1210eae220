"""When a worker counts as hung."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.observe.ends import Tails
from streams.observe.stuck import TAKE_OVER, Stuck

LIMIT = 60.0


def test_lag_without_progress_is_a_verdict_after_the_limit_and_not_before() -> None:
    stuck = Stuck(LIMIT)
    assert stuck.observe(3, 100, 200, 0.0) is None
    assert stuck.observe(3, 100, 900, 59.9) is None
    verdict = stuck.observe(3, 100, 950, 60.0)
    assert str(verdict) == "partition 3 makes no progress: position 100, end 950 for 60 s"


def test_progress_of_any_size_and_having_read_all_reset_the_clock() -> None:
    stuck = Stuck(LIMIT)
    assert stuck.observe(0, 100, 200, 0.0) is None
    assert stuck.observe(0, 101, 200, 59.0) is None
    assert stuck.observe(0, 101, 200, 118.0) is None
    assert stuck.observe(0, 101, 101, 118.5) is None
    assert stuck.observe(0, 101, 102, 200.0) is None
    assert stuck.observe(0, 101, 102, 259.0) is None
    assert stuck.observe(0, 101, 102, 260.0) is not None


@given(
    st.lists(
        st.tuples(st.floats(0.1, 40), st.one_of(st.none(), st.tuples(st.integers(0, 2), st.integers(0, 3)))),
        max_size=40,
    )
)
def test_a_verdict_means_the_same_position_with_records_behind_it_all_the_time(
    looks: list[tuple[float, tuple[int, int] | None]],
) -> None:
    """Compared with a model that keeps the whole history."""
    stuck, now, run = Stuck(LIMIT), 0.0, list[tuple[float, int]]()
    for passed, look in looks:
        now += passed
        if look is None:
            stuck.unknown(0, now)
            run = []
            continue
        position, end = look
        verdict = stuck.observe(0, position, end, now)
        if end <= position or (run and run[-1][1] != position):
            run = []
        if end > position:
            run.append((now, position))
        assert (verdict is not None) == bool(run and now - run[0][0] >= LIMIT)


@given(st.floats(0, 1e6), st.floats(0, 2 * TAKE_OVER * LIMIT))
def test_a_take_over_and_the_loop_meanwhile_may_last_ten_times_as_long(began: float, passed: float) -> None:
    stuck, now = Stuck(LIMIT), began + passed
    waited = now - began
    assert (stuck.taking_over(1, began, now) is not None) == (waited >= LIMIT * TAKE_OVER)
    assert (stuck.loop(began, True, now) is not None) == (waited >= LIMIT * TAKE_OVER)
    assert (stuck.loop(began, False, now) is not None) == (waited >= LIMIT)


def test_an_unknown_end_restarts_the_clock_of_that_partition_only() -> None:
    stuck = Stuck(LIMIT)
    for n in (0, 1):
        assert stuck.observe(n, 5, 9, 0.0) is None
    stuck.unknown(0, 50.0)
    assert stuck.observe(0, 5, 9, 61.0) is None
    assert stuck.observe(1, 5, 9, 61.0) is not None
    stuck.unknown(2, 100.0)
    assert stuck.taking_over(2, 0.0, 650.0) is None
    assert stuck.taking_over(2, 0.0, 700.0) is not None
    assert stuck.loop(0.0, False, 100.0) is not None, "the loop's clock has nothing to do with Kafka"


def test_a_pause_of_the_whole_process_restarts_all_clocks() -> None:
    stuck = Stuck(LIMIT)
    assert stuck.observe(0, 5, 9, 0.0) is None
    stuck.paused(1000.0)
    assert stuck.loop(1.0, False, 1000.0) is None
    assert stuck.taking_over(1, 2.0, 1001.0) is None
    assert stuck.observe(0, 5, 9, 1001.0) is None
    assert stuck.loop(1.0, False, 1060.0) is not None


def test_partitions_that_are_given_up_are_forgotten() -> None:
    stuck = Stuck(LIMIT)
    assert stuck.observe(0, 5, 9, 0.0) is None
    stuck.keep({1})
    assert stuck.observe(0, 5, 9, 100.0) is None


class Log:
    """A log with records at some offsets. The other offsets are end markers."""

    def __init__(self, *offsets: int) -> None:
        self.offsets, self.asked = offsets, 0

    def has_record(self, partition: int, position: int) -> bool:
        self.asked += 1
        return any(offset >= position for offset in self.offsets)


def test_end_markers_are_not_unread_records_and_are_checked_once() -> None:
    log = Log(4)
    tails = Tails(log.has_record)
    assert tails.end(0, 5, 7) == 7, "the position has just come here, so the log is not asked yet"
    assert [tails.end(0, 5, 7) for _ in range(5)] == [5] * 5
    assert log.asked == 1
    assert tails.end(0, 5, 8) == 5, "one more marker"
    log.offsets = (4, 8)
    assert [tails.end(0, 5, 9) for _ in range(5)] == [9] * 5
    assert log.asked == 3
    assert tails.end(0, 9, 9) == 9
    assert log.asked == 3


def test_a_failed_query_raises_every_time() -> None:
    def fails(partition: int, position: int) -> bool:
        raise TimeoutError

    tails = Tails(fails)
    assert tails.end(0, 5, 7) == 7
    for _ in range(2):
        with pytest.raises(TimeoutError):
            tails.end(0, 5, 7)
