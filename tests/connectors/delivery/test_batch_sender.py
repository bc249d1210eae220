"""The batch sender: one batch until every record has its outcome, whatever the sink answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.delivery.batch_sender import BatchSender
from connectors.delivery.dead_letter_limits import DeadLetterLimiter, DeadLetterLimits
from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import (
    Batch,
    Enriched,
    Health,
    Item,
    Payload,
    Rates,
    RecordOrigin,
    SinkStopped,
    Skip,
)
from connectors.sdk.http import Http, NoAnswer, Response
from connectors.sdk.outcomes import Delivered, Filtered, Outcomes, Paused, Rejected, Retry, Split
from connectors.sdk.policy import Backoff

Behave = Callable[[list[int]], Outcomes]


class NoHttp:
    async def request(
        self, method: str, url: str, body: bytes, headers: Any, *, seconds: float = 30.0
    ) -> Response:
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


NO_LIMITS = DeadLetterLimits(ratio=0, consecutive=0)


class Bench:
    """A batch sender on a clock that moves only when everyone sleeps: to the end of the shortest sleep."""

    def __init__(
        self,
        behave: Behave,
        max_attempts: int = 0,
        limits: DeadLetterLimits = NO_LIMITS,
        **options: Any,
    ) -> None:
        self.sink = Fake(behave)
        self.slept: list[float] = []
        self.now = 0.0
        self._sleeping: list[float] = []
        self.sender = BatchSender(
            "fake",
            self.sink,
            NoHttp(),
            sleep=self._sleep,
            random=lambda: 0.5,
            clock=lambda: self.now,
            max_attempts=max_attempts,
            backoff=Backoff(1.0, 8.0),
            probes=Backoff(100.0, 400.0),
            circuit=Backoff(10.0, 40.0),
            dead_letter_limiter=DeadLetterLimiter(limits),
            **options,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self.now + seconds
        self._sleeping.append(until)
        try:
            while self.now < until:
                for _ in range(10):  # every task that can run does
                    await asyncio.sleep(0)
                if until == min(self._sleeping):
                    self.now = max(self.now, until)
        finally:
            self._sleeping.remove(until)

    def deliver(self, n: int) -> list[RecordResult]:
        return asyncio.run(self.sender.deliver(batch(n)))

    def deliver_all(self, *batches: Batch) -> list[list[RecordResult]]:
        """Delivers the batches of as many partitions at the same time."""

        async def run() -> list[list[RecordResult]]:
            return await asyncio.gather(*(self.sender.deliver(b) for b in batches))

        return asyncio.run(run())


async def until(done: Callable[[], bool]) -> None:
    """Lets the other tasks run until `done()`, and then a little longer."""
    for _ in range(1000):
        if done():
            break
        await asyncio.sleep(0)
    assert done()
    for _ in range(5):
        await asyncio.sleep(0)


def batch(n: int, start: int = 0, events: int = 1) -> Batch:
    return Batch(
        tuple(Item(Payload(i, 1, events), RecordOrigin("t", 0, i, 0)) for i in range(start, start + n))
    )


def verdicts(settled: list[RecordResult]) -> list[str]:
    return [type(s.verdict).__name__ for s in settled]


@given(st.integers(1, 300), st.sets(st.integers(0, 299)), st.integers(1, 300))
def test_bisecting_and_splitting_find_exactly_the_bad_ones_in_order(
    n: int, bad: set[int], limit: int
) -> None:
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
        Retry(5.0),
        Retry(),
        Retry(),
        NoAnswer("timeout"),
        TimeoutError(),
        OSError(28, "disk full"),
    ]

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
    assert (
        bench.sender.activity.requests,
        bench.sender.activity.retries,
        bench.sender.activity.retrying,
    ) == (
        7,
        6,
        0,
    )


def test_a_limit_of_attempts_ends_in_a_dead_letter() -> None:
    settled = Bench(lambda _: Retry(reason="status 503"), max_attempts=3).deliver(2)
    assert [s.verdict for s in settled] == [Rejected("gave_up", "3 attempts, the last: status 503")] * 2
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


def test_a_single_record_that_must_be_split_is_too_large() -> None:
    [one] = Bench(lambda _: [Split()]).deliver(1)
    assert isinstance(one.verdict, Rejected)
    assert one.verdict.reason == "too_large"


def test_partial_success_marks_as_many_as_it_says() -> None:
    settled = Bench(lambda _: Delivered(2, "old")).deliver(5)
    assert (verdicts(settled), sum(s.unidentified for s in settled)) == (["Delivered"] * 5, 2)


def test_an_exception_in_send_dead_letters_its_record_without_its_text() -> None:
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

    async def run() -> list[list[RecordResult]]:
        return await asyncio.gather(*(bench.sender.deliver(batch(2, 10 * p)) for p in range(4)))

    settled = asyncio.run(run())
    assert {v for s in settled for v in verdicts(s)} == {"Delivered"}
    # all four were in flight when the first was refused; from then on one at a time, with doubling waits
    assert probes == 6 + 4
    assert bench.slept == [50.0, 100.0, 200.0]
    assert bench.sender.activity.paused == ""


def test_a_cancelled_probe_leaves_the_probing_to_the_next() -> None:
    refuse = True
    bench = Bench(lambda _: Paused("unauthorized") if refuse else Delivered())

    async def run() -> list[RecordResult]:
        nonlocal refuse
        first = asyncio.create_task(bench.sender.deliver(batch(1)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(bench.sink.sent) > 1
        second = asyncio.create_task(bench.sender.deliver(batch(1, 1)))
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


@pytest.mark.parametrize("answer", [[Delivered()], [], None, "ok"])
def test_an_answer_that_is_not_an_outcome_is_an_error(answer: Any) -> None:
    with pytest.raises(TypeError, match="sink fake: send returned"):
        Bench(lambda _: answer).deliver(3)


def test_a_sink_can_stop_itself() -> None:
    def behave(records: list[int]) -> Outcomes:
        raise SinkStopped("gone")

    with pytest.raises(SinkStopped):
        Bench(behave).deliver(3)


# -- limits of dead letters
def test_a_sink_that_refuses_everything_stops_at_the_limit_and_goes_on_when_it_is_fixed() -> None:
    bad = Rejected("rejected", "status 400", response="the key of the project is gone")
    broken = True

    def behave(records: list[int]) -> Outcomes:
        nonlocal broken
        if broken and len(bench.slept) >= 4:
            broken = False
        return bad if broken else Delivered()

    bench = Bench(behave, limits=DeadLetterLimits(ratio=0.2, consecutive=7))
    settled = bench.deliver(100)
    assert verdicts(settled) == ["Rejected"] * 7 + ["Delivered"] * 93
    probes = [s for s in bench.sink.sent if s == [7]]
    assert len(probes) == 5  # the one that was refused, three probes, and the one that went through
    assert bench.slept == [50.0, 100.0, 200.0, 200.0]
    order = [i for s in bench.sink.sent[-4:] for i in s]
    assert order == sorted(order)
    assert bench.sender.activity.paused == ""


def test_rejections_of_a_cancelled_batch_do_not_count() -> None:
    """None of its records becomes a dead letter: they are sent again, by whoever has the partition next."""
    limits = DeadLetterLimits(ratio=0.5, consecutive=7)
    bench = Bench(lambda _: Rejected("rejected"), limits=limits)

    async def run() -> None:
        task = asyncio.ensure_future(bench.sender.deliver(batch(100)))
        await until(lambda: "7 dead letters in a row" in bench.sender.activity.paused)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    limiter = bench.sender.dead_letter_limiter
    assert [limiter.reject() == "" for _ in range(8)] == [True] * 7 + [False]


def test_the_pause_names_the_limit_the_last_words_and_the_setting() -> None:
    said: list[str] = []

    def behave(records: list[int]) -> Outcomes:
        if len(bench.slept) == 1 and not said:
            said.append(bench.sender.activity.paused)
        if said:
            return Delivered()
        return Rejected("rejected", "status 400", response="no such project")

    bench = Bench(behave, limits=DeadLetterLimits(ratio=0, consecutive=2))
    bench.deliver(4)
    [text] = said
    assert text == (
        "dead-letter limit: 2 dead letters in a row (dead_letter_consecutive), the last: rejected status 400 "
        "no such project; "
        "see dead_letter_consecutive in [sinks.fake]"
    )


@given(st.integers(1, 60), st.sets(st.integers(0, 239)), st.integers(1, 4))
def test_the_limit_of_a_row_is_never_exceeded_and_healthy_records_pass(
    consecutive: int, bad: set[int], partitions: int
) -> None:
    """Wherever the bad records are, there are never more dead letters in a row than the limit allows.

    Order is kept and nothing is lost. A record that is refused permanently waits until its limit is lifted.
    """
    refused: list[bool] = []
    lifted = False

    def behave(records: list[int]) -> Outcomes:
        nonlocal lifted
        if len(bench.slept) > 100 and not lifted:
            lifted = True
            bench.sender.dead_letter_limiter.limits = DeadLetterLimits(ratio=0, consecutive=0)
        if bad.intersection(records):
            if len(records) == 1 and not lifted:
                refused.append(True)
            return Rejected("rejected")
        if not lifted:
            refused.append(False)
        return Delivered()

    bench = Bench(behave, limits=DeadLetterLimits(ratio=0, consecutive=consecutive))
    each = 240 // partitions
    batches = [batch(each, each * p) for p in range(partitions)]
    settled = bench.deliver_all(*batches)
    for p, found in enumerate(settled):
        assert verdicts(found) == [
            "Rejected" if i in bad else "Delivered" for i in range(each * p, each * (p + 1))
        ]
    row = longest = 0
    for rejected in refused:
        row = row + 1 if rejected else 0
        longest = max(longest, row)
    if bench.slept:
        assert longest >= consecutive
    else:
        assert longest <= consecutive


def test_an_in_flight_success_does_not_open_what_the_limits_have_closed() -> None:
    """Otherwise one bad partition would be sent again and again without a pause while the others succeed."""

    def behave(records: list[int]) -> Outcomes:
        return Rejected("rejected") if records[0] < 10 and bench.now < 1000 else Delivered()

    bench = Bench(behave, limits=DeadLetterLimits(ratio=0, consecutive=1))
    bench.deliver_all(*(batch(2, p) for p in (0, 10, 20, 30, 40, 50)))
    assert len(bench.sink.sent) < 40


# -- circuit breaker
def test_a_sink_that_does_not_answer_is_probed_by_one_task_and_nothing_is_given_up() -> None:
    down = True

    def behave(records: list[int]) -> Outcomes:
        nonlocal down
        seen.append((bench.now, bench.sender.activity.paused))
        if bench.now > 300:
            down = False
        if down:
            raise NoAnswer("unreachable", "http://h: Connection refused")
        return Delivered()

    seen: list[tuple[float, str]] = []
    bench = Bench(behave, failures=6)
    settled = bench.deliver_all(*(batch(3, 10 * p) for p in range(4)))
    assert {v for s in settled for v in verdicts(s)} == {"Delivered"}
    before = [at for at, paused in seen if not paused]
    probes = [
        at for at, paused in seen if paused == "circuit open: unreachable: http://h: Connection refused"
    ]
    assert len(before) + len(probes) == len(seen)
    assert 6 <= len(before) - 3 <= 9  # six failures; in the end the other three partitions
    close = sum(b - a < 4 for a, b in pairwise(probes))
    assert close <= 3  # what was in flight when it opened
    assert len(probes) <= 300 / 20 + 6
    assert bench.sender.activity.paused == ""


def test_a_busy_sink_is_not_a_failure_and_one_answer_closes_the_circuit() -> None:
    bench = Bench(lambda _: Retry(busy=True) if len(bench.sink.sent) <= 30 else Delivered(), failures=2)
    bench.deliver(1)
    assert not any(s == 5.0 for s in bench.slept)  # the first wait of an open circuit
    assert len(bench.slept) == 30

    answers: list[Outcomes] = [Retry(), Retry(), Retry(busy=True), Retry(), Delivered()]
    again = Bench(lambda _: answers.pop(0), failures=2)
    again.deliver(1)
    assert again.slept == [0.5, 5.0, 2.0, 4.0]  # backoff, circuit, backoff, backoff


def test_an_open_circuit_honours_retry_after() -> None:
    answers: list[Outcomes] = [Retry(), Retry(70.0), Delivered()]
    bench = Bench(lambda _: answers.pop(0), failures=2)
    bench.deliver(1)
    assert bench.slept == [0.5, 70.0 + 5.0]


def test_the_circuit_can_be_switched_off() -> None:
    bench = Bench(lambda _: Retry() if len(bench.sink.sent) < 50 else Delivered(), failures=0)
    bench.deliver(1)
    assert set(bench.slept[4:]) == {4.0}


# -- rate limits of vendors
def test_a_429_with_retry_after_holds_back_every_partition() -> None:
    sent: list[float] = []

    def behave(records: list[int]) -> Outcomes:
        sent.append(bench.now)
        return Retry(60.0, busy=True) if len(sent) == 1 else Delivered()

    bench = Bench(behave)
    bench.deliver_all(batch(2), *(batch(2, 10 * p) for p in range(1, 4)))
    later = [at for at in sent if at > 0]
    assert len(later) >= 1
    assert min(later) >= 60
    # what was in flight when the 429 came may have been delivered; nothing else was sent
    assert all(at == 0 or at >= 60 for at in sent)

    bench.sink.behave = lambda _: Delivered()
    assert verdicts(bench.deliver(1)) == ["Delivered"]


def test_a_new_batch_waits_for_the_retry_after_of_another() -> None:
    times: dict[int, list[float]] = {}

    def behave(records: list[int]) -> Outcomes:
        times.setdefault(records[0], []).append(bench.now)
        return Retry(60.0, busy=True) if records == [0] and len(times[0]) == 1 else Delivered()

    bench = Bench(behave)

    async def run() -> None:
        first = asyncio.create_task(bench.sender.deliver(batch(1)))
        await until(lambda: bool(bench.sink.sent))
        await asyncio.gather(first, bench.sender.deliver(batch(1, 5)))

    asyncio.run(run())
    assert times[5][0] >= 60
    assert times[0][1] >= 60


# -- rates
def test_requests_are_cut_to_what_the_rate_allows_at_once() -> None:
    sent: list[tuple[float, int]] = []

    def behave(records: list[int]) -> Outcomes:
        sent.append((bench.now, len(records)))
        return Delivered()

    bench = Bench(behave, rates=Rates(events_per_minute=200))
    bench.deliver_all(batch(50, 0, events=2), batch(50, 100, events=2))
    assert sum(n for _, n in sent) == 100
    assert max(n for _, n in sent) == 10  # 20 events
    for start, _ in sent:
        assert sum(2 * n for at, n in sent if start <= at < start + 60) <= 200
    assert 50 < sent[-1][0] < 70  # 200 events, of which 20 go at once


def test_a_record_of_more_events_than_the_rate_allows_at_once_goes_alone() -> None:
    bench = Bench(lambda _: Delivered(), rates=Rates(events_per_minute=10))
    assert verdicts(bench.deliver_all(batch(2, 0, events=5))[0]) == ["Delivered"] * 2
    assert bench.sink.sent == [[0], [1]]


# -- secrets, and settings that change
def test_secrets_are_masked_wherever_the_sink_names_them() -> None:
    key = "s3cr3t-key"
    answers: list[Outcomes | Exception] = [
        Paused(f"unauthorized: {key}", "api_key"),
        Retry(None, f"overloaded {key}"),
        NoAnswer("broken", key),
        [Rejected(key, f"d {key}", 400, f"POST /{key}", f"{{{key}}}"), Delivered(1, key), Filtered(key)],
    ]
    seen: list[str] = []

    def behave(records: list[int]) -> Outcomes:
        seen.append(bench.sender.activity.paused)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    bench = Bench(behave, secrets=(key,))
    settled = bench.deliver(3)
    assert [s.verdict for s in settled] == [
        Rejected("***", "d ***", 400, "POST /***", "{***}"),
        Delivered(1, "***"),
        Filtered("***"),
    ]
    assert "unauthorized: ***; see api_key in [sinks.fake]" in seen
    assert not any(key in text for text in seen)

    def stop(records: list[int]) -> Outcomes:
        raise SinkStopped(f"gone with {key}")

    bench.sink.behave = stop
    with pytest.raises(SinkStopped, match=r"gone with \*\*\*"):
        bench.deliver(1)
