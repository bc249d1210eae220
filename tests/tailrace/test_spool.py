"""The disk spool against a real broker that is away, comes, and goes."""

from __future__ import annotations

import errno
import functools
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from tailrace import DeliveryReport, Kind, Publisher, TraceEvent, codec, topics
from tailrace.broker import Broker
from tailrace.broker.folder import free_port
from tailrace.errors import ConfigError
from tailrace.settings import Settings, convert
from tailrace.spool.folder import SUFFIX, Taken
from tailrace.spool.frames import Spooled
from tailrace.spool.spooler import OnLanded, Spooler
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until
from tests.tailrace import topic

NOW = 1_763_700_000_000_000


def settings_of(port: int, spool: Path, **publisher: Any) -> Settings:
    return convert(
        {
            "kafka": {"bootstrap_servers": f"127.0.0.1:{port}"},
            "topics": {"partitions": 2},
            "publisher": {"spool_dir": str(spool), **publisher},
        },
        Settings,
        "",
    )


def event(n: int) -> TraceEvent:
    return TraceEvent(kind=Kind.MESSAGE, message_id=f"m{n}", started_at=NOW, ended_at=NOW + n)


def files(spool: Path) -> list[Path]:
    return list(spool.glob(f"*{SUFFIX}"))


def create_topics(node: Broker, settings: Settings) -> None:
    topics.create(AdminClient({"bootstrap.servers": node.bootstrap_servers}), settings.topics)


@pytest.mark.kafka
def test_events_go_to_disk_without_a_broker_and_to_kafka_when_it_is_there(tmp_path: Path) -> None:
    port, reports = free_port(), list[DeliveryReport]()
    settings = settings_of(port, tmp_path)
    with Publisher(settings=settings, on_delivery=reports.append) as publisher:
        before = [publisher.publish(event(n)) for n in range(200)]
        assert publisher.flush(60), "they are on disk, long before the delivery timeout"
        assert {r.event_id for r in reports if r.spooled and r.ok and r.offset < 0} == set(before)
        while_down = [publisher.publish(event(n)) for n in range(200, 300)]
        assert publisher.flush(60)
        assert publisher.counts.spooled == 300
        assert publisher.counts.delivered == 0
        assert all(f.stat().st_mode & 0o777 == 0o600 for f in files(tmp_path))
        with Broker(port=port) as node:
            create_topics(node, settings)
            wait_until(lambda: not files(tmp_path), 120, "all files are sent")
            after = publisher.publish(event(300))
            assert publisher.flush(60)
            assert [r.spooled for r in reports if r.event_id == after] == [False]
            found = Counter(e.event_id for e in topic.published(settings))
    assert set(found) == {*before, *while_down, after}
    assert max(found.values()) == 1


@pytest.mark.kafka
def test_with_a_healthy_broker_no_file_is_made(tmp_path: Path) -> None:
    port = free_port()
    settings = settings_of(port, tmp_path)
    with Broker(port=port) as node:
        create_topics(node, settings)
        with Publisher(settings=settings) as publisher:
            for n in range(500):
                publisher.publish(event(n))
            assert publisher.flush(60)
            assert not list(tmp_path.iterdir())
            assert publisher.counts.delivered == 500


def test_what_is_left_at_the_end_is_on_disk_without_waiting_for_the_five_seconds(tmp_path: Path) -> None:
    publisher = Publisher(settings=settings_of(free_port(), tmp_path))
    ids = [publisher.publish(event(n)) for n in range(50)]
    assert publisher.close(0.1)
    assert publisher.counts.spooled == len(ids)
    assert len(files(tmp_path)) == 1


def test_a_process_that_ends_without_close_leaves_its_events_on_disk(tmp_path: Path) -> None:
    code = f"""
from tailrace import Kind, Publisher, TraceEvent
publisher = Publisher("127.0.0.1:{free_port()}")
for n in range(30):
    publisher.publish(TraceEvent(kind=Kind.MESSAGE, message_id=f"m{{n}}", started_at={NOW}, ended_at={NOW}))
"""
    where = {"TAILRACE_PUBLISHER_SPOOL_DIR": str(tmp_path), "TAILRACE_PUBLISHER_EXIT_SECONDS": "0.2"}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **where}, check=True, timeout=120)
    (file,) = files(tmp_path)
    assert file.stat().st_size > 30 * 50


def test_a_folder_that_cannot_be_made_is_an_error_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"publisher\.spool_dir"):
        Publisher(settings=settings_of(free_port(), tmp_path / "file" / "spool"))


@pytest.mark.parametrize("spool", ["full", "away", "never"])
def test_a_spool_that_takes_nothing_is_reported_and_raises_nothing(tmp_path: Path, spool: str) -> None:
    reports: list[DeliveryReport] = []
    settings = settings_of(free_port(), tmp_path / "spool", spool_max_bytes=2000)
    publisher = Publisher(settings=settings, on_delivery=reports.append)
    if spool == "never":  # between the start and the first event
        (tmp_path / "spool").rmdir()
        (tmp_path / "spool").touch()
    first = publisher.publish(event(0))
    assert publisher.flush(60)
    if spool == "away":
        for file in files(tmp_path / "spool"):
            file.unlink()
        (tmp_path / "spool").rmdir()
        (tmp_path / "spool").touch()
    ids = [publisher.publish(event(n)) for n in range(1, 100)]
    assert publisher.close(30)
    failed = {r.event_id: r.error for r in reports if not r.ok}
    lost = [first, *ids] if spool == "never" else ids
    assert set(failed) == set(lost)
    says = "spool_max_bytes" if spool == "full" else "not spooled"
    assert all(says in str(error) for error in failed.values())
    assert publisher.counts.failed == len(lost)
    assert [r.spooled for r in reports if r.event_id == first] == [spool != "never"]


def test_files_that_cannot_be_read_are_logged_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error here would end each turn of the publisher's thread before it reports anything."""
    written = [Spooled(str(n), b"k", b"v") for n in range(3)]
    first = Spooler(settings_of(free_port(), tmp_path))
    assert first.write(written) is None
    first.close()
    at, sent = [100.0], list[Spooled]()
    spooler = Spooler(settings_of(free_port(), tmp_path), clock=lambda: at[0])

    def broken(taken: Taken) -> Iterator[Spooled]:
        yield written[0]
        raise OSError(errno.EIO, "Input/output error")

    def produce(event: Spooled, landed: OnLanded) -> None:
        sent.append(event)
        landed(None, None)

    with monkeypatch.context() as patch:
        patch.setattr(Taken, "events", broken)
        spooler.send(produce)
    assert sent == written[:1]
    assert "spooled events cannot be read" in caplog.text
    for _ in range(2):
        at[0] += 60
        spooler.send(produce)
    assert sent == [written[0], *written]
    assert not files(tmp_path)


def test_old_files_are_given_up_with_a_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Publisher(settings=settings_of(free_port(), tmp_path)) as publisher:
        publisher.publish(event(0))
        assert publisher.close(0.1)
    (file,) = files(tmp_path)
    os.utime(file, (1e9, 1e9))
    with Publisher(settings=settings_of(free_port(), tmp_path)) as publisher:
        publisher.publish(event(1))
        wait_until(lambda: not file.exists(), 120, "the old file is given up")
        publisher.close(0.1)
    assert any("gave up 1 spooled events" in r.message for r in caplog.records)


APPLICATION = """
import sys
from tailrace import Kind, Publisher, TraceEvent
said = open(sys.argv[1], "ab", buffering=0)
def report(r):
    if r.ok:
        said.write(f"{r.event_id} {'spooled' if r.spooled else 'delivered'}\\n".encode())
publisher = Publisher(on_delivery=report)
n = 0
while True:
    n += 1
    name = f"{sys.argv[2]}-{n}"
    publisher.publish(TraceEvent(kind=Kind.MESSAGE, message_id=name, started_at=NOW, ended_at=NOW))
    if n % 50 == 0:
        publisher.flush(0.05)
""".replace("NOW", str(NOW))


def reported(said: list[Path], outcome: str) -> bool:
    """Whether an application has reported an event with this outcome."""
    return any(outcome in path.read_text() for path in said if path.exists())


@pytest.mark.kafka
@pytest.mark.crash
def test_what_was_reported_before_a_kill_is_enriched_exactly_once(
    tmp_path: Path, full: bool, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Applications that share a folder are killed at random moments, while Kafka goes and comes back."""
    rng, port, spool = random.Random(seed), free_port(), tmp_path / "spool"
    node, kills, up = Broker(port=port), 0, True
    with node:
        pipeline = Pipeline(f"127.0.0.1:{port}", tmp_path, partitions=2)
        environment = {**os.environ, **pipeline.env, "TAILRACE_PUBLISHER_SPOOL_DIR": str(spool)}
        while kills < (20 if full else 8):
            said = [tmp_path / f"said-{kills}-{i}" for i in range(4)]
            apps = [
                subprocess.Popen([sys.executable, "-c", APPLICATION, str(s), s.name], env=environment)
                for s in said
            ]
            try:
                node.kill() if up else node.restart()
                up = not up
                wait_until(
                    functools.partial(reported, said, "delivered" if up else "spooled"),
                    120,
                    "an application reports an event",
                )
                for app in apps:
                    time.sleep(rng.uniform(0.1, 2.0))
                    app.kill()
                    kills += 1
            finally:
                for app in apps:
                    app.kill()
                    app.wait()
        if not up:
            node.restart()
        publisher = msgspec.structs.replace(pipeline.settings.publisher, spool_dir=str(spool))
        settings = msgspec.structs.replace(pipeline.settings, publisher=publisher)
        with Publisher(settings=settings) as last:
            last.publish(event(0))
            wait_until(lambda: not files(spool), 300, "all files are sent")
        arrived = Counter(e.event_id for e in topic.published(settings))
        with pipeline.process().start() as process:
            pipeline.wait_for_enriched(len(arrived), 120, alive=(process,))
        records = topic.records(node.bootstrap_servers, pipeline.names.enriched)
    enriched = Counter(codec.decode(r.value() or b"", TraceEvent).event_id for r in records)
    reports = [line.split() for path in tmp_path.glob("said-*") for line in path.read_text().splitlines()]
    kinds = Counter(kind for _, kind in reports)
    with capsys.disabled():
        twice = sum(arrived.values()) - len(arrived)
        print(f"seed {seed}: {kills} kills, reported {dict(kinds)}, {len(arrived)} arrived, {twice} twice")
    assert {name for name, _ in reports} <= set(enriched)
    assert set(enriched.values()) == {1}
    assert kinds["delivered"]
    assert kinds["spooled"]
