"""What closes a sink's gate, what opens it, and who may send while it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from connectors.delivery.gate import Activity, CloseReason, Gate, Turn
from connectors.sdk.outcomes import Delivered, Filtered, Outcomes, Paused, Rejected, Retry, Split

USUAL, PROBE, SINGLE = Turn(False, False), Turn(True, False), Turn(True, True)


class Bench:
    def __init__(self, failures: int = 3) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.activity = Activity()
        self.gate = Gate(
            "sink",
            self.activity,
            sleep=self._sleep,
            random=lambda: 0.5,
            clock=lambda: self.now,
            failures=failures,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def closed(self, why: CloseReason) -> Gate:
        match why:
            case CloseReason.PAUSED:
                self.gate.on_outcomes(Paused("quota"), USUAL)
            case CloseReason.CIRCUIT:
                for _ in range(3):
                    self.gate.on_outcomes(Retry(), USUAL)
            case CloseReason.LIMIT:
                self.gate.dead_letter_limit_reached(
                    "2 in a row (dead_letter_consecutive)", Rejected("rejected"), probe=False
                )
        assert self.gate.closed_reason is why
        return self.gate

    def turn(self, pace: Callable[[bool], Awaitable[None]] | None = None) -> Turn:
        async def at_once(single: bool) -> None:
            pass

        async def run() -> Turn:
            async with self.gate.turn(pace or at_once) as turn:
                return turn

        return asyncio.run(run())


@pytest.mark.parametrize(
    ("why", "opens", "stays"),
    [
        (
            CloseReason.PAUSED,
            [(Delivered(), USUAL), (Rejected("r"), USUAL), (Split(), PROBE), ([Retry(), Delivered()], PROBE)],
            [(Retry(), PROBE), (Retry(busy=True), PROBE), (Paused("quota"), PROBE)],
        ),
        (
            CloseReason.CIRCUIT,
            [
                (Delivered(), USUAL),
                (Rejected("r"), PROBE),
                (Retry(busy=True), USUAL),
                ([Retry(), Filtered("x")], PROBE),
            ],
            [(Retry(), PROBE), ([Retry(), Retry(3.0)], PROBE)],
        ),
        (
            CloseReason.LIMIT,
            [(Delivered(), SINGLE), ([Filtered("x")], SINGLE)],
            [
                (Delivered(), USUAL),
                (Rejected("r"), SINGLE),
                (Split(), SINGLE),
                (Retry(), SINGLE),
                ([Retry()], SINGLE),
            ],
        ),
    ],
)
def test_which_outcomes_open_a_closed_gate(
    why: CloseReason, opens: list[tuple[Outcomes, Turn]], stays: list[tuple[Outcomes, Turn]]
) -> None:
    for outcomes, turn in opens:
        bench = Bench()
        bench.closed(why).on_outcomes(outcomes, turn)
        assert (bench.gate.closed_reason, bench.activity.paused) == (None, ""), outcomes
    for outcomes, turn in stays:
        bench = Bench()
        bench.closed(why).on_outcomes(outcomes, turn)
        assert bench.gate.closed_reason is why, outcomes
        assert bench.activity.paused


def test_only_failures_in_a_row_open_the_circuit() -> None:
    gate = Bench(failures=3).gate
    answers: list[Outcomes] = [
        Delivered(),
        Rejected("r"),
        Retry(busy=True),
        Split(),
        Filtered("x"),
        [Delivered(), Retry()],
    ]
    for answer in answers:
        gate.on_outcomes(Retry(), USUAL)
        gate.on_outcomes([Retry(), Retry()], USUAL)
        assert gate.closed_reason is None
        gate.on_outcomes(answer, USUAL)
    assert gate.closed_reason is None
    never = Bench(failures=0).gate
    for _ in range(100):
        never.on_outcomes(Retry(), USUAL)
    assert never.closed_reason is None


def test_a_turn_at_a_closed_gate_is_a_probe_and_over_the_limit_of_one_record() -> None:
    assert Bench().turn() == USUAL
    for why, turn in ((CloseReason.PAUSED, PROBE), (CloseReason.CIRCUIT, PROBE), (CloseReason.LIMIT, SINGLE)):
        bench = Bench()
        bench.closed(why)
        assert bench.turn() == turn
        assert bench.slept == [0.5]


def test_probes_lengthen_the_wait_and_what_was_in_flight_does_not() -> None:
    bench = Bench()
    gate = bench.closed(CloseReason.PAUSED)
    for _ in range(5):
        gate.on_outcomes(Paused("quota"), USUAL)
    bench.turn()
    for _ in range(9):
        gate.on_outcomes(Paused("quota"), PROBE)
        bench.turn()
    assert bench.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_a_busy_sink_is_left_alone_by_all_and_a_longer_time_counts() -> None:
    bench = Bench()
    bench.gate.on_outcomes(Retry(20.0, busy=True), USUAL)
    bench.gate.on_outcomes([Delivered(), Retry(50.0, busy=True), Retry(40.0, busy=True)], USUAL)
    bench.gate.on_outcomes(Retry(90.0), USUAL)  # a 503 holds back its own batch only
    assert bench.turn() == USUAL
    assert bench.slept == [50.5]
    bench.gate.on_outcomes(Retry(1e9, busy=True), USUAL)
    bench.turn()
    assert bench.slept[-1] == 300.5


def test_a_gate_that_closes_during_a_wait_for_the_rate_holds_that_turn_too() -> None:
    bench = Bench()
    paced: list[bool] = []

    async def pace(single: bool) -> None:
        paced.append(single)
        if len(paced) == 1:
            bench.gate.on_outcomes(Retry(20.0, busy=True), USUAL)
        elif len(paced) == 2:
            bench.closed(CloseReason.LIMIT)

    assert bench.turn(pace) == SINGLE
    assert paced == [False, False, True]
    assert bench.slept == [20.5, 0.5]


def test_the_reason_names_the_setting_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for _ in range(3):
        bench.gate.on_outcomes(Paused("unauthorized (status 401): no\nsuch key", "api_key"), PROBE)
    assert bench.activity.paused == "unauthorized (status 401): no such key; see api_key in [sinks.sink]"
    assert len([r for r in caplog.records if "is paused" in r.getMessage()]) == 1
