"""A paused sink whose settings change gets a new runner, and the other sinks do not notice."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from connectors.config.instances import instance
from connectors.consumer import sink_supervisor
from connectors.consumer.fleet import Fleet
from connectors.consumer.runner import Runner
from connectors.consumer.sink_supervisor import SinkSupervisor
from connectors.consumer.status import Status
from tailrace.settings import Settings
from tests.connectors.conftest import Bench, Running
from tests.connectors.enriching import make_event
from tests.connectors.scripted import OK, Answer, ScriptedReceiver
from tests.harness.processes import wait_until

pytestmark = pytest.mark.kafka
RIGHT = "r1ght-key"


class Changing:
    """Settings of one sink whose receiver takes only the right key."""

    def __init__(
        self, bench: Bench, receiver: ScriptedReceiver, connect: dict[str, Any] | None = None
    ) -> None:
        self.table: dict[str, Any] = {"endpoint": receiver.endpoint, "api_key": "wr0ng-1"}
        self._bench, self._receiver, self._connect = bench, receiver, connect
        receiver.plan = lambda n, found: OK if self.given(RIGHT) else Answer(401)

    def given(self, key: str) -> bool:
        """Whether the last request had this key."""
        return bool(self._receiver.headers) and self._receiver.headers[-1]["authorization"] == f"Bearer {key}"

    def read(self) -> Settings:
        return self._bench.with_sink("otlp", self._connect, **self.table)


def assert_never_backwards(statuses: Sequence[Status]) -> None:
    """Counters may only rise."""
    for before, after in itertools.pairwise(statuses):
        assert after.requests >= before.requests
        for name, value in msgspec.to_builtins(before.counts).items():
            if isinstance(value, int):
                assert getattr(after.counts, name) >= value, name


@contextmanager
def sampling(sink: SinkSupervisor) -> Iterator[list[Status]]:
    """Its statuses, one after the other, as fast as possible."""
    found: list[Status] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.001):
            found.append(sink.status())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join(10)
        found.append(sink.status())


def test_each_change_starts_a_new_runner_and_no_counter_goes_back(bench: Bench) -> None:
    written = bench.enricher.write([make_event(i) for i in range(300)])
    with ScriptedReceiver() as receiver:
        settings = Changing(bench, receiver)
        settings.table["max_records"] = 50
        running = Running(settings.read(), "otlp", settings.read)
        with sampling(running.sink) as statuses, running:
            observer = running.sink.observer
            for key in ("wr0ng-2", "wr0ng-3"):
                running.until(lambda s: "unauthorized" in s.paused, "paused")
                settings.table["api_key"] = key
                wait_until(partial(settings.given, key), 40, f"the vendor has seen {key}")
            running.until(lambda s: "unauthorized" in s.paused, "paused")
            settings.table |= {"api_key": RIGHT, "max_records": 7}
            running.until(lambda s: s.counts.delivered == 300, "all delivered")
            assert running.sink.observer is observer
        assert receiver.stored == dict.fromkeys((str(e.event_id) for e in written), 1)
        keys = [headers["authorization"] for headers in receiver.headers]
        sizes = [len(r) for r, key in zip(receiver.requests, keys, strict=True) if key == f"Bearer {RIGHT}"]
        assert max(sizes) <= 7  # the batch limits are the new ones
    assert_never_backwards(statuses)
    assert statuses[-1].requests == len(receiver.requests)
    states = [s.state for s in statuses]
    assert states[-1] == "stopped"
    assert set(states[: states.index("stopped")]) <= {"waiting", "running", "stopping"}
    assert set(states[states.index("stopped") :]) == {"stopped"}  # not between two runners
    bench.assert_settled("otlp", delivered=300, dead_lettered=0)
    assert bench.dead_letters() == []


def test_only_the_changed_sink_starts_again(bench: Bench, tmp_path: Path) -> None:
    bench.enricher.write([make_event(i) for i in range(300)])
    config = tmp_path / "tailrace.toml"

    def table(name: str, receiver: ScriptedReceiver, key: str) -> str:
        return f'[sinks.{name}]\ntype = "otlp"\nendpoint = "{receiver.endpoint}"\napi_key = "{key}"\n'

    with ScriptedReceiver() as changed, ScriptedReceiver() as other:
        changed.plan = lambda n, found: (
            OK if changed.headers[-1]["authorization"] == f"Bearer {RIGHT}" else Answer(401)
        )
        config.write_text(table("changed", changed, "wr0ng") + table("other", other, "k"))
        arguments = ("connect", "--json", "--config", str(config))
        with bench.tailrace(*arguments, name="two") as child:
            wait_until(
                lambda: "changed is paused" in child.output() and len(other.stored) == 300,
                60,
                "one is paused, the other has everything",
                alive=(child,),
            )
            config.write_text(table("changed", changed, RIGHT) + table("other", other, "k"))
            wait_until(lambda: len(changed.stored) == 300, 60, "it goes on", alive=(child,))
            bench.enricher.write([make_event(i) for i in range(300, 330)])
            wait_until(
                lambda: len(changed.stored) == len(other.stored) == 330, 60, "both go on", alive=(child,)
            )
            assert child.sigterm(30) == 0, child.tail()
        output = child.output()
    assert len(re.findall(r"changed: its settings have changed", output)) == 1
    assert len(re.findall(r"changed: has partitions \[0, 1, 2\]", output)) == 2
    assert len(re.findall(r"other: has partitions", output)) == 1
    assert "other: its settings" not in output
    assert set(changed.stored.values()) == set(other.stored.values()) == {1}
    final = [json.loads(x) for x in output.splitlines() if x.startswith("{") and '"final": true' in x]
    assert {x["sink"]: (x["state"], x["counts"]["delivered"]) for x in final} == {
        "changed": ("stopped", 330),
        "other": ("stopped", 330),
    }
    assert [x["requests"] for x in final] == [len(changed.requests), len(other.requests)]
    for name in ("changed", "other"):
        bench.assert_settled(name, delivered=330, dead_lettered=0)


def test_a_static_member_keeps_its_place(bench: Bench) -> None:
    """Another member of the group gets no partition of a sink that restarts."""
    bench.enricher.write([make_event(i) for i in range(90)])
    with ScriptedReceiver() as receiver:
        settings = Changing(bench, receiver, {"instance_id": "host-1", "session_timeout_ms": 45_000})
        with Running(settings.read(), "otlp", settings.read) as running:
            running.until(lambda s: "unauthorized" in s.paused and s.partitions == 3, "paused")
            admin = AdminClient({"bootstrap.servers": bench.bootstrap})
            group = running.sink._settings.connect.group_prefix + "otlp"

            def members() -> list[tuple[str | None, bool]]:
                found = admin.describe_consumer_groups([group])[group].result(10).members
                return [(m.group_instance_id, bool(m.assignment.topic_partitions)) for m in found]

            assert members() == [("host-1", True)]
            seen: list[list[tuple[str | None, bool]]] = []
            settings.table["api_key"] = RIGHT

            def done() -> bool:
                seen.append(members())
                return running.sink.status().counts.delivered == 90

            wait_until(done, 60, "all delivered", every=0.01)
            assert {tuple(m) for m in seen} == {(("host-1", True),)}  # it never left
    bench.assert_settled("otlp", delivered=90)


def fleet_of(*sinks: SinkSupervisor) -> tuple[Fleet, Callable[[], int]]:
    """Runs the sinks in a thread. The second value waits for the exit code."""
    fleet = Fleet(sinks, lambda statuses, final: None)
    code: list[int] = []
    thread = threading.Thread(target=lambda: code.append(fleet.run()), daemon=True)
    thread.start()

    def join() -> int:
        thread.join(60)
        assert not thread.is_alive()
        return code[0]

    return fleet, join


def test_a_new_runner_that_cannot_start_ends_its_sink_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the file of certificates is deleted after the settings were checked and before the start."""
    monkeypatch.setattr(sink_supervisor, "tls_context", lambda *files: None)
    bench.enricher.write([make_event(i) for i in range(30)])
    with ScriptedReceiver() as receiver, ScriptedReceiver() as healthy:
        settings = Changing(bench, receiver)
        changing = SinkSupervisor(settings.read(), instance(settings.read(), "otlp", {}, settings.read))
        given = bench.with_sink("other", type="otlp", endpoint=healthy.endpoint)
        other = SinkSupervisor(given, instance(given, "other"))
        fleet, join = fleet_of(changing, other)
        try:
            wait_until(lambda: "unauthorized" in changing.status().paused, 60, "paused")
            settings.table |= {"ca_file": str(tmp_path / "gone.pem")}
            wait_until(lambda: changing.status().state == "failed", 60, "it has ended")
            assert "ca_file" in changing.status().error
            bench.enricher.write([make_event(i) for i in range(30, 60)])
            wait_until(lambda: len(healthy.stored) == 60, 60, "the other one goes on")
        finally:
            fleet.stop()
        assert join() == 1
        assert other.status().state == "stopped"
    bench.assert_settled("other", delivered=60)
    assert all(offset == 0 for offset, _ in bench.committed("otlp").values())


def test_until_caught_up_ends_after_a_restart_too(bench: Bench) -> None:
    bench.enricher.write([make_event(i) for i in range(90)])
    with ScriptedReceiver() as receiver:
        settings = Changing(bench, receiver)
        with Running(settings.read(), "otlp", settings.read, until_caught_up=True) as running:
            running.until(lambda s: "unauthorized" in s.paused, "paused")
            settings.table["api_key"] = RIGHT
            running.join()
        assert running.error is None
        assert running.sink.status().state == "stopped"
    bench.assert_settled("otlp", delivered=90)


def test_a_stop_during_a_restart_ends_the_sink(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop comes after the former runner has ended and before the next one exists."""
    made: list[Runner] = []
    make = SinkSupervisor._new_runner

    def new_runner(self: SinkSupervisor) -> Runner:
        made.append(make(self))
        if len(made) == 2:
            self.stop()
        return made[-1]

    monkeypatch.setattr(SinkSupervisor, "_new_runner", new_runner)
    bench.enricher.write([make_event(i) for i in range(30)])
    with ScriptedReceiver() as receiver:
        settings = Changing(bench, receiver)
        with Running(settings.read(), "otlp", settings.read) as running:
            running.until(lambda s: "unauthorized" in s.paused, "paused")
            settings.table["api_key"] = RIGHT
            running.join()
        assert running.error is None
        assert running.sink.status().state == "stopped"
        assert len(made) == 2
        assert receiver.stored == {}
    assert all(offset == 0 for offset, _ in bench.committed("otlp").values())


def test_a_restart_gives_no_further_dead_letters(bench: Bench) -> None:
    """The counts of the dead-letter limits survive a change of any setting."""
    bench.enricher.write([make_event(i, started_at=-5, ended_at=-5) for i in range(60)])
    with ScriptedReceiver() as receiver:
        settings = Changing(bench, receiver)
        settings.table |= {"dead_letter_consecutive": 7, "dead_letter_ratio": 0}
        with Running(settings.read(), "otlp", settings.read) as running:
            running.until(lambda s: "dead-letter limit" in s.paused, "paused")
            running.until(lambda s: s.counts.dead_lettered == 7, "as many as are allowed")
            former = running.sink._runner
            settings.table["api_key"] = "wr0ng-2"
            running.until(lambda s: running.sink._runner is not former, "another runner")
            running.until(lambda s: "dead-letter limit" in s.paused, "paused again")
            settings.table["dead_letter_consecutive"] = 9
            running.until(lambda s: s.counts.dead_lettered == 9, "two more")
            running.until(lambda s: "9 dead letters in a row" in s.paused, "paused")
    assert len(bench.dead_letters()) == 9
