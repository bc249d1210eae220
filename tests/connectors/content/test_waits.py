"""How long records wait for a store: once in full, then for the rest of an outage, then one as a probe."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.content.waits import PROBE_SECONDS, StoreWaitPolicy

SECONDS = 10.0


def test_while_the_store_answers_each_record_waits_in_full() -> None:
    waits = StoreWaitPolicy(SECONDS)
    assert [waits.until(t) for t in (5.0, 6.0, 100.0)] == [15.0, 16.0, 110.0]
    assert not waits.answered(100.0)
    assert not waits.down


def test_in_an_outage_records_wait_for_the_rest_of_the_time_and_then_not_at_all() -> None:
    waits = StoreWaitPolicy(SECONDS)
    assert waits.failed(100.0)
    assert waits.down
    assert not waits.failed(103.0), "an outage begins once"
    assert waits.until(104.0) == 110.0
    assert waits.until(109.0) == 110.0
    assert waits.until(110.0) == 110.0 + PROBE_SECONDS, "the first one after that is a probe"
    assert waits.until(110.5) <= 110.5
    assert waits.until(119.9) <= 119.9
    assert waits.until(120.0) == 120.0 + PROBE_SECONDS


def test_an_answer_ends_the_outage() -> None:
    waits = StoreWaitPolicy(SECONDS)
    waits.failed(100.0)
    assert waits.answered(120.0)
    assert not waits.answered(121.0), "it ends once"
    assert waits.until(130.0) == 140.0
    assert waits.failed(135.0)
    assert waits.until(136.0) == 145.0


def test_a_request_that_fails_alone_is_no_outage() -> None:
    waits = StoreWaitPolicy(SECONDS)
    waits.answered(100.5)
    assert not waits.failed(100.0), "another one was answered since it began"
    assert waits.until(109.9) == 119.9, "the others wait in full"
    assert waits.failed(101.0)


@given(
    st.floats(0.1, 30),
    st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["ask", "fail", "answer"])), max_size=60),
)
def test_no_record_waits_longer_than_its_time_and_an_outage_costs_little(
    seconds: float, steps: list[tuple[float, str]]
) -> None:
    waits = StoreWaitPolicy(seconds)
    now, began, waited = 1000.0, 0.0, 0.0
    for after, step in steps:
        now += after
        if step == "fail":
            if waits.failed(now):
                began, waited = now, 0.0
        elif step == "answer":
            waits.answered(now)
        else:
            left = waits.until(now) - now
            assert left <= seconds + 1e-6
            if waits.down and now >= began + seconds and left > 0:
                assert left <= PROBE_SECONDS + 1e-6
                waited += left
                assert waited <= PROBE_SECONDS * ((now - began) / seconds + 1)
