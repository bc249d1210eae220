"""`tailrace connect` as a process: signals, several members, several sinks, a cluster that starts later."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailrace.broker import Broker
from tests.connectors.conftest import Bench
from tests.connectors.enriching import make_event
from tests.connectors.scripted import Answer, ScriptedReceiver
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@contextmanager
def writing(bench: Bench, limit: int = 200_000) -> Iterator[Callable[[], None]]:
    """Writes to trace.enriched at a steady pace.

    It stops when the function that it yields is called, which waits for the last record.
    """
    stop = threading.Event()
    problems: list[BaseException] = []

    def write() -> None:
        try:
            for start in range(0, limit, 200):
                if stop.is_set():
                    break
                bench.enricher.write([make_event(i) for i in range(start, start + 200)])
                stop.wait(0.02)
        except BaseException as e:
            problems.append(e)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()

    def finish() -> None:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
        assert problems == []

    try:
        yield finish
    finally:
        finish()


def lines(path: Path) -> list[tuple[int, int, str]]:
    """Partition, offset and event id of each line."""
    if not path.exists():
        return []
    documents = [
        json.loads(line) for line in path.read_bytes().rpartition(b"\n")[0].splitlines()
    ]  # the last one may be half written
    return [(d["partition"], d["offset"], d["event"]["event_id"]) for d in documents]


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_until_grown(path: Path, by: int, *alive: Child) -> None:
    before = size(path)
    wait_until(lambda: size(path) > before + by, 60, f"{path} grows", alive=alive)


def wait_until_joined(child: Child) -> None:
    """Until it has been assigned a partition."""
    wait_until(lambda: re.search(r"has partitions \[\d", child.output()), 60, "it has joined", alive=(child,))


def pause_unlocked(child: Child, path: Path) -> None:
    """SIGSTOP while it does not hold the file's lock, for which the other process would wait."""

    def paused() -> bool:
        child.signal(signal.SIGSTOP)
        wait_until(lambda: stopped(child.pid), 60, f"{child} has stopped", every=0.001)
        if child.pid not in lock_holders(path):
            return True
        child.signal(signal.SIGCONT)
        return False

    wait_until(paused, 60, f"{child} is stopped without the lock", alive=(child,), every=0.01)


def stopped(pid: int) -> bool:
    """Whether all its threads are stopped."""
    states = [p.read_text().rsplit(")", 1)[1].split()[0] for p in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


def lock_holders(path: Path) -> set[int]:
    """The processes that hold the lock of the file, or wait for it."""
    inode = str(path.stat().st_ino)
    found = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return {int(f[-4]) for f in found if f[-3].rpartition(":")[2] == inode}


def file_sink(bench: Bench, path: Path, name: str, *arguments: str) -> Child:
    return bench.tailrace(
        "connect",
        "file",
        "--set",
        f"sinks.file.path={path}",
        "--set",
        "sinks.file.max_records=50",
        *arguments,
        name=name,
    )


def assert_exact(bench: Bench, path: Path) -> None:
    found = lines(path)
    assert Counter(event for _, _, event in found) == Counter(str(e.event_id) for e in bench.enricher.written)
    for partition in range(3):
        offsets = [offset for p, offset, _ in found if p == partition]
        assert offsets == sorted(offsets)


def finish_reading(bench: Bench, path: Path) -> None:
    with file_sink(bench, path, "last", "--until-caught-up") as child:
        assert child.wait(60) == 0, child.tail()


def test_sigterm_under_load_loses_and_duplicates_nothing(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with writing(bench) as finish:
        for n in range(4):
            with file_sink(bench, path, f"run{n}") as child:
                wait_until_grown(path, 200_000, child)
                assert child.sigterm(60) == 0, child.tail()
        finish()
    finish_reading(bench, path)
    assert_exact(bench, path)
    bench.assert_settled("file", delivered=len(bench.enricher.written), retried=0)


def test_kill_under_load_loses_nothing_and_counts_everything_once(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with writing(bench) as finish:
        for n in range(2):
            with file_sink(bench, path, f"run{n}") as child:
                wait_until_grown(path, 200_000, child)
                child.sigkill()
        finish()
    finish_reading(bench, path)
    found = Counter(event for _, _, event in lines(path))
    assert found.keys() == {str(e.event_id) for e in bench.enricher.written}
    bench.assert_settled("file", delivered=len(bench.enricher.written))


def test_a_member_joins_and_leaves_and_nothing_is_lost(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with writing(bench) as finish, file_sink(bench, path, "first") as first:
        wait_until_grown(path, 100_000, first)
        for n in range(2):
            with file_sink(bench, path, f"second{n}") as second:
                wait_until_joined(second)
                wait_until_grown(path, 300_000, first, second)
                assert "gave up partitions" in first.output()
                assert second.sigterm(60) == 0
            wait_until_grown(path, 100_000, first)
        finish()
        assert first.sigterm(60) == 0
    finish_reading(bench, path)
    assert_exact(bench, path)
    bench.assert_settled("file", delivered=len(bench.enricher.written))


def test_a_member_that_is_paused_past_its_session_commits_nothing(bench: Bench, tmp_path: Path) -> None:
    """What it had in flight is sent again by the new owner.

    Nothing is lost, and every number is counted once.
    """
    path = tmp_path / "events.jsonl"
    with writing(bench) as finish, file_sink(bench, path, "paused") as paused:
        wait_until_grown(path, 100_000, paused)
        with file_sink(bench, path, "other") as other:
            wait_until_joined(other)
            pause_unlocked(paused, path)
            wait_until(lambda: "[0, 1, 2]" in other.output(), 60, "the other has taken over", alive=(other,))
            wait_until_grown(path, 100_000, other)
            paused.signal(signal.SIGCONT)
            wait_until(lambda: "lost partitions" in paused.output(), 60, "it knows", alive=(paused, other))
            wait_until_grown(path, 200_000, paused, other)
            assert other.sigterm(60) == 0
        finish()
        assert paused.sigterm(60) == 0
    finish_reading(bench, path)
    found = Counter(event for _, _, event in lines(path))
    assert found.keys() == {str(e.event_id) for e in bench.enricher.written}
    bench.assert_settled("file", delivered=len(bench.enricher.written))


def test_a_file_that_another_process_has_locked_is_named_and_delays_no_stop(
    bench: Bench, tmp_path: Path
) -> None:
    bench.enricher.write([make_event(i) for i in range(300)])
    path = tmp_path / "events.jsonl"
    said = f"another process has held the lock of {path}"
    # Held as by a process that was stopped (SIGSTOP) while it wrote.
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with file_sink(bench, path, "first") as first:
            wait_until(lambda: said in first.output(), 60, "it says what it waits for", alive=(first,))
            assert first.sigterm(60) == 0, first.tail()
        assert lines(path) == []
        with file_sink(bench, path, "second") as second:
            wait_until(lambda: said in second.output(), 60, "it says what it waits for", alive=(second,))
            fcntl.flock(other, fcntl.LOCK_UN)
            wait_until(lambda: len(lines(path)) == 300, 60, "it goes on by itself", alive=(second,))
            assert second.sigterm(60) == 0, second.tail()
    assert_exact(bench, path)
    bench.assert_settled("file", delivered=300)


def test_what_is_in_flight_at_a_rebalance_is_finished_and_committed(bench: Bench) -> None:
    """Partitions are revoked with batches in flight, and nothing is sent twice.

    Answers are slow until the second member has joined: however long that takes, there is still something
    to send.
    """
    bench.enricher.write([make_event(i) for i in range(3000)])
    joined = threading.Event()

    def all_committed() -> bool:
        return {p: offset for p, (offset, _) in bench.committed("otlp").items()} == bench.ends()

    def owns_all_again() -> bool:
        return "has partitions [0, 1, 2]" in first.output().rpartition("gave up partitions")[2]

    with ScriptedReceiver(lambda n, found: Answer(delay=0.3 if joined.is_set() else 1.0)) as receiver:
        settings = ("--set", f"sinks.otlp.endpoint={receiver.endpoint}", "--set", "sinks.otlp.max_records=50")
        with bench.tailrace("connect", "otlp", *settings, name="first") as first:
            wait_until(lambda: len(receiver.stored) >= 300, 40, "the first sends", alive=(first,))
            with bench.tailrace("connect", "otlp", *settings, name="second") as second:
                wait_until_joined(second)
                joined.set()
                assert len(receiver.stored) < 3000
                wait_until(lambda: len(receiver.stored) == 3000, 60, "all is there", alive=(first, second))
                wait_until(all_committed, 60, "all is committed", alive=(first, second), every=0.2)
                assert second.sigterm(60) == 0
            wait_until(owns_all_again, 60, "the first has all partitions again", alive=(first,))
            assert first.sigterm(60) == 0
        assert "gave up partitions" in first.output()
    assert set(receiver.stored.values()) == {1}
    bench.assert_settled("otlp", delivered=3000, retried=0)


def test_a_second_signal_ends_at_once(bench: Bench) -> None:
    bench.enricher.write([make_event(i) for i in range(30)])
    with ScriptedReceiver(lambda n, found: Answer(what="hang")) as receiver:
        settings = ("--set", f"sinks.otlp.endpoint={receiver.endpoint}", "--set", "connect.drain_seconds=600")
        with bench.tailrace("connect", "otlp", *settings, name="hanging") as child:
            wait_until(lambda: receiver.requests, 40, "it hangs", alive=(child,))
            child.signal(signal.SIGTERM)
            wait_until(lambda: "draining" in child.output(), 60, "it drains", alive=(child,))
            child.signal(signal.SIGTERM)
            assert child.wait(60) == 128 + signal.SIGTERM
    assert all(offset == 0 for offset, _ in bench.committed("otlp").values())


def test_a_stop_takes_no_longer_than_drain_seconds(bench: Bench) -> None:
    bench.enricher.write([make_event(i) for i in range(30)])
    with ScriptedReceiver(lambda n, found: Answer(503)) as receiver:
        settings = ("--set", f"sinks.otlp.endpoint={receiver.endpoint}", "--set", "connect.drain_seconds=1")
        with bench.tailrace("connect", "otlp", *settings, name="down") as child:
            wait_until(lambda: receiver.requests, 40, "it tries", alive=(child,))
            assert child.sigterm(18) == 0  # 20 would be the default
            assert "30 records that were read are not acknowledged" in child.output()


def test_a_slow_sink_slows_no_other_and_a_failed_one_stops_no_other(bench: Bench, tmp_path: Path) -> None:
    bench.enricher.write([make_event(i) for i in range(3000)])
    path = tmp_path / "events.jsonl"
    (tmp_path / "bad.pem").write_text("no certificate")
    (tmp_path / "tailrace.toml").write_text(
        f"""
        [connect]
        drain_seconds = 0.5
        [sinks.slow]
        type = "otlp"
        endpoint = "http://127.0.0.1:9"
        [sinks.broken]
        type = "otlp"
        endpoint = "https://127.0.0.1:9"
        ca_file = "{tmp_path}/bad.pem"
        [sinks.file]
        path = "{path}"
        """
    )
    config = str(tmp_path / "tailrace.toml")
    with bench.tailrace("connect", "--json", "--config", config, name="three") as child:
        wait_until(lambda: len(lines(path)) == 3000, 60, "the file is complete", alive=(child,))
        wait_until(
            lambda: "slow: " in child.output() and "again in" in child.output(),
            60,
            "slow retries",
            alive=(child,),
        )
        assert child.sigterm(60) == 1  # one of them failed
        final = [
            json.loads(x) for x in child.output().splitlines() if x.startswith("{") and '"final": true' in x
        ]
    states = {x["sink"]: (x["state"], x["counts"]["delivered"]) for x in final}
    assert states == {"slow": ("stopped", 0), "broken": ("failed", 0), "file": ("stopped", 3000)}
    assert "ca_file" in next(x["error"] for x in final if x["sink"] == "broken")


def test_it_waits_for_the_broker_and_then_for_the_topics(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    broker = Broker(port=port)
    pipeline = Pipeline(f"127.0.0.1:{port}", tmp_path, create=False)
    with pipeline.tailrace("connect", "console", name="early") as child:
        wait_until(
            lambda: "no Kafka broker answers" in child.output(), 20, "it waits for the broker", alive=(child,)
        )
        with broker:
            wait_until(
                lambda: "tailrace topics create" in child.output(),
                60,
                "it waits for the topics",
                alive=(child,),
            )
            with pipeline.tailrace("topics", "create", name="create") as created:
                assert created.wait(60) == 0
            wait_until(
                lambda: "has partitions [0, 1, 2, 3]" in child.output(), 30, "it goes on", alive=(child,)
            )
            assert child.sigterm(60) == 0


def test_the_console_ends_when_nobody_reads(bench: Bench) -> None:
    bench.enricher.write([make_event(i) for i in range(5000)])
    command = [sys.executable, "-m", "tailrace", "connect", "console"]
    environment = {**os.environ, **bench.env}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "node_execution" in process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 1
    assert "standard output is closed" in said
    assert "Traceback" not in said
