"""One batch until every record's fate is known, against a sink that does anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import Batch, Enriched, Health, Item, Payload, SinkStopped, Skip, Source
from connectors.delivery import Courier, Settled
from connectors.http import Http, NoAnswer, Response
from connectors.outcomes import Delivered, Filtered, Outcomes, Paused, Rejected, Retry, Split
from connectors.policy import Backoff

Behave = Callable[[list[int]], Outcomes]


class NoHttp:
    async def request(self, method: str, url: str, body: bytes, headers: Any, *, seconds: float = 30.0) -> Response:
        raise AssertionError("not to be called")


class Fake:
    """A sink whose records are numbers."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.sent: list[list[int]] = []

    def map(self, event: Enriched) -> Payload | Skip:
        raise AssertionError("not to be called")

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        self.sent.append(batch.bodies)
        await asyncio.sleep(0)
        return self.behave(batch.bodies)

    async def check(self, http: Http) -> Health:
        return Health(True)


class Bench:
    def __init__(self, behave: Behave, max_attempts: int = 0) -> None:
        self.sink = Fake(behave)
        self.slept: list[float] = []
        self.courier = Courier(
            "fake", self.sink, NoHttp(), sleep=self._sleep, random=lambda: 0.5, max_attempts=max_attempts,
            backoff=Backoff(1.0, 8.0), probes=Backoff(100.0, 400.0),
        )  # fmt: skip

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def deliver(self, n: int) -> list[Settled]:
        return asyncio.run(self.courier.deliver(batch(n)))


def batch(n: int, start: int = 0) -> Batch:
    return Batch(tuple(Item(Payload(i, 1), Source("t", 0, i, 0)) for i in range(start, start + n)))


def verdicts(settled: list[Settled]) -> list[str]:
    return [type(s.verdict).__name__ for s in settled]


@given(st.integers(1, 300), st.sets(st.integers(0, 299)), st.integers(1, 300))
def test_bisecting_and_splitting_find_exactly_the_bad_ones_in_order(n: int, bad: set[int], limit: int) -> None:
    accepted: list[int] = []

    def behave(records: list[int]) -> Outcomes:
        if len(records) > limit:
            return Split()
        if bad.intersection(records):
            return Rejected("rejected", status=400)
        accepted.extend(records)
        return Delivered()

    settled = Bench(behave).deliver(n)
    assert accepted == [i for i in range(n) if i not in bad]
    assert verdicts(settled) == ["Rejected" if i in bad else "Delivered" for i in range(n)]


def test_retry_goes_on_without_end_and_honours_what_the_sink_asks() -> None:
    answers: list[Retry | Exception] = [
        Retry(5.0), Retry(), Retry(), NoAnswer("timeout"), TimeoutError(), OSError(28, "disk full"),
    ]  # fmt: skip

    def behave(records: list[int]) -> Outcomes:
        if not answers:
            return Delivered()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    bench = Bench(behave)
    settled = bench.deliver(3)
    assert bench.slept == [5.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert bench.sink.sent == [[0, 1, 2]] * 7
    assert {(type(s.verdict), s.attempts) for s in settled} == {(Delivered, 7)}
    assert (bench.courier.activity.requests, bench.courier.activity.retries, bench.courier.activity.retrying) == (
        7,
        6,
        0,
    )


def test_a_limit_of_attempts_ends_in_a_dead_letter() -> None:
    settled = Bench(lambda _: Retry(reason="status 503"), max_attempts=3).deliver(2)
    assert [s.verdict for s in settled] == [Rejected("gave_up", "3 tries, the last: status 503")] * 2
    assert [s.attempts for s in settled] == [3, 3]


def test_one_outcome_a_record() -> None:
    seen: list[list[int]] = []

    def behave(records: list[int]) -> Outcomes:
        seen.append(records)
        if len(seen) == 1:
            return [
                Delivered(),
                Filtered("x"),
                Rejected("bad"),
                Retry(2.0),
                Split(),
                Retry(9.0),
                Split(),
                Delivered(),
            ]
        return [Delivered()] * len(records)

    bench = Bench(behave)
    settled = bench.deliver(8)
    assert verdicts(settled) == ["Delivered", "Filtered", "Rejected"] + ["Delivered"] * 5
    assert seen[1:] == [[3, 5], [4], [6]]
    assert bench.slept == [9.0 + 0.5]
    assert [s.attempts for s in settled] == [1, 1, 1, 2, 2, 2, 2, 1]


def test_a_single_record_that_is_to_be_split_is_too_large() -> None:
    [one] = Bench(lambda _: [Split()]).deliver(1)
    assert isinstance(one.verdict, Rejected)
    assert one.verdict.reason == "too_large"


def test_partial_success_marks_as_many_as_it_says() -> None:
    settled = Bench(lambda _: Delivered(2, "old")).deliver(5)
    assert (verdicts(settled), sum(s.unidentified for s in settled)) == (["Delivered"] * 5, 2)


def test_an_exception_of_send_is_pinned_down_to_its_record_without_its_text() -> None:
    def behave(records: list[int]) -> Outcomes:
        if 3 in records:
            raise ValueError("content of the event")
        return Delivered()

    settled = Bench(behave).deliver(8)
    assert verdicts(settled).count("Rejected") == 1
    fault = settled[3].verdict
    assert isinstance(fault, Rejected)
    assert fault.reason == "send_failed"
    assert fault.detail.startswith("ValueError in ")
    assert "content" not in fault.detail


def test_a_pause_stops_every_partition_and_one_probe_at_a_time_opens_it() -> None:
    probes = 0

    def behave(records: list[int]) -> Outcomes:
        nonlocal probes
        probes += 1
        return Paused("unauthorized", "api_key") if probes <= 6 else Delivered()

    bench = Bench(behave)

    async def run() -> list[list[Settled]]:
        return await asyncio.gather(*(bench.courier.deliver(batch(2, 10 * p)) for p in range(4)))

    settled = asyncio.run(run())
    assert {v for s in settled for v in verdicts(s)} == {"Delivered"}
    # all four were under way when the first was refused; from then on one at a time, with doubling waits
    assert probes == 6 + 4
    assert bench.slept == [50.0, 100.0, 200.0]
    assert bench.courier.activity.paused == ""


def test_a_cancelled_probe_leaves_the_probing_to_the_next() -> None:
    refuse = True
    bench = Bench(lambda _: Paused("unauthorized") if refuse else Delivered())

    async def run() -> list[Settled]:
        nonlocal refuse
        first = asyncio.create_task(bench.courier.deliver(batch(1)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(bench.sink.sent) > 1
        second = asyncio.create_task(bench.courier.deliver(batch(1, 1)))
        await asyncio.sleep(0)
        first.cancel()
        refuse = False
        return await second

    assert verdicts(asyncio.run(run())) == ["Delivered"]


def test_some_paused_records_wait_and_the_others_do_not_come_again() -> None:
    calls: list[list[int]] = []

    def behave(records: list[int]) -> Outcomes:
        calls.append(records)
        return [Delivered(), Paused("quota"), Delivered()] if len(calls) == 1 else Delivered()

    assert verdicts(Bench(behave).deliver(3)) == ["Delivered"] * 3
    assert calls == [[0, 1, 2], [1]]


@pytest.mark.parametrize("answer", [[Delivered()], None, "ok"])
def test_an_answer_that_is_none_is_an_error(answer: Any) -> None:
    with pytest.raises(TypeError, match="sink fake answered"):
        Bench(lambda _: answer).deliver(3)


def test_a_sink_can_stop_itself() -> None:
    def behave(records: list[int]) -> Outcomes:
        raise SinkStopped("gone")

    with pytest.raises(SinkStopped):
        Bench(behave).deliver(3)
