"""The watchdog: its verdicts, and a worker that really hangs."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

from streams.exit_codes import FAILED
from streams.observe.ends import LogEnds
from streams.observe.observed import Ends, Observed
from streams.observe.stuck import Verdict
from streams.observe.watchdog import Watchdog
from tailrace.broker import Broker
from tailrace.errors import ConfigError
from tailrace.settings import Kafka, Streams, convert
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until
from tests.streams.observe.observing import Clock, Loop, partition, worker
from tests.streams.observe.test_health import get
from tests.streams.observe.test_telemetry import url_of
from tests.streams.runtime.publishing import publish
from tests.streams.runtime.test_worker import check


class Log(LogEnds):
    """Given ends. None: Kafka does not answer."""

    def __init__(self, ends: dict[int, Ends] | None) -> None:
        self.ends = ends

    def of(self, partitions: Iterable[int]) -> dict[int, Ends]:
        return {n: e for n, e in (self.ends or {}).items() if n in set(partitions)}

    def has_record(self, partition: int, position: int) -> bool:
        return True


class Over(Exception):
    pass


def over(code: int, reason: str) -> NoReturn:
    assert code == FAILED
    raise Over(reason)


def look(
    watchdog: Watchdog, seen: Observed, clock: Clock, seconds: float, *, ticks: bool = True
) -> Verdict | None:
    """Rounds every 5 s for so many seconds. Returns the first verdict."""
    for _ in range(round(seconds / 5)):
        clock.now += 5
        if ticks:
            seen.tick(Loop())
        verdict = watchdog.round()
        if verdict is not None:
            return verdict
    return None


def test_a_stalled_partition_is_a_verdict_and_lags_are_reported() -> None:
    seen, clock = worker(partition(0, 100), partition(1, 7))
    log = Log({0: Ends(150, 170), 1: Ends(7, 7)})
    watchdog = Watchdog(seen, log, 60.0, over)
    assert look(watchdog, seen, clock, 60) is None
    assert seen.lags == {0: 50, 1: 0}
    verdict = look(watchdog, seen, clock, 10)
    assert verdict is not None
    assert str(verdict) == "partition 0 makes no progress: position 100, end 150 for 60 s"


def test_a_partition_that_waits_for_a_schema_is_not_a_verdict() -> None:
    seen, clock = worker(partition(0, 100))
    watchdog = Watchdog(seen, Log({0: Ends(150, 150)}), 60.0, over)
    seen.waits(0, True)
    assert look(watchdog, seen, clock, 300) is None
    seen.waits(0, False)
    assert look(watchdog, seen, clock, 60) is None
    assert look(watchdog, seen, clock, 10) is not None


def test_an_outage_of_kafka_is_not_a_verdict_and_restarts_the_clock() -> None:
    seen, clock = worker(partition(0, 100))
    log = Log({0: Ends(150, 150)})
    watchdog = Watchdog(seen, log, 60.0, over)
    assert look(watchdog, seen, clock, 50) is None
    log.ends = None
    assert look(watchdog, seen, clock, 300) is None
    assert (seen.ends, seen.lags) == ({}, {})
    log.ends = {0: Ends(150, 150)}
    assert look(watchdog, seen, clock, 60) is None
    assert look(watchdog, seen, clock, 10) is not None


def test_a_stalled_loop_is_a_verdict_and_a_paused_process_is_not() -> None:
    seen, clock = worker()
    watchdog = Watchdog(seen, Log({}), 60.0, over)
    clock.now += 3600
    assert watchdog.round() is None, "the whole process stood still for an hour"
    assert look(watchdog, seen, clock, 55, ticks=False) is None
    verdict = look(watchdog, seen, clock, 5, ticks=False)
    assert verdict is not None
    assert "event loop" in str(verdict)


def test_a_take_over_may_last_ten_times_as_long() -> None:
    seen, clock = worker()
    seen.takes_over({2})
    watchdog = Watchdog(seen, Log({2: Ends(9, 9)}), 60.0, over)
    assert look(watchdog, seen, clock, 595) is None
    verdict = look(watchdog, seen, clock, 5)
    assert verdict is not None
    assert str(verdict) == "partition 2 is being taken over for 600 s"


def test_switched_off_it_only_asks() -> None:
    seen, clock = worker(partition(0, 100))
    watchdog = Watchdog(seen, Log({0: Ends(150, 150)}), 0.0, over)
    assert look(watchdog, seen, clock, 6000, ticks=False) is None
    assert seen.lags == {0: 50}


def test_a_verdict_writes_the_stacks_and_arms_the_last_resort(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    seen, _ = worker(partition(0))
    alarms: list[int] = []
    loop = asyncio.new_event_loop()

    async def waits() -> None:
        await asyncio.Event().wait()

    task = loop.create_task(waits(), name="the one that waits")
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    watchdog = Watchdog(seen, Log({}), 60.0, over, loop, alarms.append)
    with pytest.raises(Over, match=r"partition 0 .* ended by the watchdog"):
        watchdog.fire(Verdict("partition 0 makes no progress", 61.0))
    assert alarms == [10]
    assert seen.failed == "partition 0 makes no progress for 61 s"
    assert "most recent call first" in capfd.readouterr().err
    assert re.search(
        r"  the one that waits: test_watchdog.py:\d+ waits > locks.py:\d+ wait\n", caplog.text + "\n"
    )
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


def test_while_it_stops_nothing_is_ended() -> None:
    seen, _ = worker(partition(0))
    seen.stopping = True
    alarms: list[int] = []
    watchdog = Watchdog(seen, Log({}), 60.0, over, alarm=alarms.append)
    watchdog.fire(Verdict("x", 1.0))
    watchdog.start()
    wait_until(lambda: not seen.watching(), 60, "it has stopped by itself")
    assert alarms == []


def test_a_round_that_fails_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    seen, asked = worker(partition(0))[0], threading.Event()

    class Broken(Log):
        def of(self, partitions: Iterable[int]) -> dict[int, Ends]:
            if caplog.records:
                asked.set()
            raise RuntimeError

    watchdog = Watchdog(seen, Broken({}), 0.04, over)
    seen.tick(Loop())
    watchdog.start()
    assert asked.wait(60)
    assert seen.watching()
    watchdog.stop()
    assert not seen.watching()


@pytest.mark.kafka
def test_ends_and_records_of_a_real_log(broker: Broker, tmp_path: Path) -> None:
    """The end marker of a transaction is behind the last record.

    That of an open transaction is behind the last stable offset.
    """
    from confluent_kafka import Producer

    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    topic = pipeline.names.events
    log = LogEnds(Kafka(bootstrap_servers=broker.bootstrap_servers), topic)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": f"{topic}-x"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"x", b"k", 1)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, b"y", b"k", 1)
    assert producer.flush(30) == 0
    ends = {0: Ends(0, 0), 1: Ends(2, 3)}
    wait_until(lambda: log.of([0, 1]) == ends, 60, "the new topic's leaders answer, with these ends")
    assert [log.has_record(1, position) for position in (-1, 0, 1, 2)] == [True, True, False, False]
    assert not log.has_record(0, -1)
    producer.abort_transaction(30)


def test_a_limit_that_a_healthy_worker_may_pass_is_refused() -> None:
    assert convert({"watchdog_seconds": 0}, Streams, "streams").watchdog_seconds == 0
    with pytest.raises(ConfigError, match=r"streams\.watchdog_seconds"):
        convert({"watchdog_seconds": 4.9}, Streams, "streams")


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize(
    ("where", "limit", "verdict"),
    [("apply", 15, "the event loop is blocked for"), ("commit", 6, "makes no progress: position")],
)
def test_a_worker_that_hangs_is_ended_with_its_stacks_and_the_next_one_goes_on(
    broker: Broker, tmp_path: Path, where: str, limit: int, verdict: str
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    env = {**pipeline.env, "TAILRACE_STREAMS_WATCHDOG_SECONDS": str(limit)}
    command = [sys.executable, "-m", "tests.streams.observe.hanging", where, str(tmp_path)]
    with Child(command, env, tmp_path / "hanging.log") as supervisor:
        total = publish(pipeline, range(20))
        pipeline.wait_for_enriched(total, alive=(supervisor,))
        (tmp_path / "hang").touch()
        total += publish(pipeline, range(20, 40))
        if where == "apply":
            url = url_of(supervisor)
            wait_until(
                lambda: "the event loop has not run" in get(f"{url}healthz")[1], 30, "it says so meanwhile"
            )
        wait_until(
            lambda: "worker 0 ended (exit code 3)" in supervisor.output(),
            60,
            "it is ended",
            alive=(supervisor,),
        )
        pipeline.wait_for_enriched(total, alive=(supervisor,))
        log = supervisor.output()
        assert verdict in log
        assert "most recent call first" in log
        assert "in stuck" in log, "the stacks name the function that hangs"
        assert "tasks of the event loop:" in log
    assert len(check(pipeline).committed) == total
