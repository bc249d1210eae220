"""A publisher with a content store: nothing is raised, lost, cut or reordered that need not be."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tailrace import (
    ConfigError,
    DeliveryReport,
    EventTooLarge,
    Kind,
    Publisher,
    QueueFull,
    TraceEvent,
    codec,
)
from tailrace.content_store.naming import content_hash
from tailrace.content_store.store import ContentStore, open_store
from tailrace.errors import MissingPackage
from tailrace.settings import Content, Settings, convert
from tailrace.spool.folder import Folder
from tailrace.spool.spooler import Spooler
from tests.harness.processes import wait_until
from tests.tailrace import topic
from tests.tailrace.ports import closed_port
from tests.tailrace.scripts import environment

MakeSettings = Callable[..., Settings]
MB = 1_000_000
DOCUMENT = {"document": "the order 4711 of the day " * (20 * MB // 26), "page": 5}


def event(n: int = 0, **fields: Any) -> TraceEvent:
    return TraceEvent(
        **{
            "kind": Kind.TOOL,
            "source_id": f"s{n}",
            "trace_id": "t",
            "tenant_id": "acme",
            "started_at": 10**15,
            "ended_at": 10**15,
            **fields,
        }
    )


@pytest.fixture
def dead() -> Iterator[str]:
    with closed_port() as address:
        yield address


def nowhere(
    address: str, store: Path | str, content: dict[str, Any] | None = None, **publisher: Any
) -> Settings:
    return convert(
        {
            "kafka": {"bootstrap_servers": address},
            "publisher": {"delivery_timeout_seconds": 1.0, **publisher},
            "content": {"store": str(store), **(content or {})},
        },
        Settings,
        "",
    )


def with_store(settings: Settings, content: dict[str, Any]) -> Settings:
    return msgspec.structs.replace(settings, content=convert(content, Content, "content."))


def files(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file()]


def held(root: Path, event: TraceEvent) -> dict[str, bytes]:
    """Field -> what the store has for it."""
    found = open_store(Content(store=str(root)))
    return {ref.field: found.get(ref.tenant_id, ref.hash) for ref in event.content_refs}


class Gate:
    """Holds every put of a process until the test opens it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.came, self.open = threading.Event(), threading.Event()
        put = ContentStore.put

        def wait(store: ContentStore, tenant: str | None, data: bytes) -> str:
            self.came.set()
            self.open.wait(120)
            return put(store, tenant, data)

        monkeypatch.setattr(ContentStore, "put", wait)


# -- with Kafka


@pytest.mark.kafka
def test_an_input_of_20_mb_is_published_and_whole_in_the_store(
    topics_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = with_store(topics_settings(), {"store": str(tmp_path)})
    reports: list[DeliveryReport] = []
    with Publisher(settings=settings, on_delivery=reports.append) as publisher:
        sent = [publisher.publish(event(0, inputs=DOCUMENT, outputs="small"))]
        sent += [publisher.publish(event(n)) for n in range(1, 50)]
        sent += [publisher.publish(event(50, inputs=DOCUMENT))]
        sent += [publisher.publish(event(n)) for n in range(51, 60)]
        assert publisher.flush(120)
        assert publisher.counts.stored == 2
        assert publisher.counts.delivered == 60
    assert [r.event_id for r in reports if r.ok] == sent
    published = topic.published(settings)
    assert [e.event_id for e in published] == sent  # of one trace: in their order
    text = json.dumps(DOCUMENT, separators=(",", ":")).encode()
    assert held(tmp_path, published[0]) == {"inputs": text}
    assert len(text) > 19 * MB
    assert [f.stat().st_size for f in files(tmp_path)] == [len(text)]  # the same document: stored once
    assert published[0].outputs == '"small"'
    assert published[0].content_refs == published[50].content_refs
    assert json.loads(str(published[0].inputs))["preview"]["document"].startswith("the order 4711")


@pytest.mark.kafka
def test_nothing_is_produced_before_its_content_is_stored(
    topics_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    settings = with_store(topics_settings(), {"store": str(tmp_path), "timeout_seconds": 120})
    with Publisher(settings=settings) as publisher:
        publisher.publish(event(0, inputs=DOCUMENT))
        publisher.publish(event(1))
        publisher.publish(event(2, trace_id="other"))
        assert gate.came.wait(60)
        wait_until(lambda: publisher.counts.delivered == 1, 60, "the event of another trace is delivered")
        report = publisher.flush(0.05)
        assert len(report.undelivered) == 2
        assert [e.source_id for e in topic.published(settings)] == ["s2"]
        gate.open.set()
    assert [e.source_id for e in topic.published(settings) if e.trace_id == "t"] == ["s0", "s1"]


@pytest.mark.kafka
def test_a_store_that_is_away_costs_content_and_no_event(
    topics_settings: MakeSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = tmp_path / "away"
    away.write_text("not a folder")
    settings = with_store(topics_settings(), {"store": str(away), "timeout_seconds": 0.2})
    with Publisher(settings=settings) as publisher:
        for n in range(5):
            publisher.publish(event(n, inputs=DOCUMENT))
        assert publisher.flush(120)
        counts = publisher.counts
    assert (counts.delivered, counts.not_stored, counts.cut, counts.stored) == (5, 5, 5, 0)
    for published in topic.published(settings):
        assert not published.content_refs
        assert [(c.field, c.change) for c in published.content_changes] == [("inputs", "cut")]
        assert len(str(published.inputs)) > 900_000
    assert caplog.text.count("content cut") == 1


@pytest.mark.kafka
def test_asyncio_waits_for_the_store_without_blocking_the_loop(
    topics_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    settings = with_store(topics_settings(), {"store": str(tmp_path), "timeout_seconds": 120})
    publisher = Publisher(settings=settings)

    async def publish() -> DeliveryReport:
        task = asyncio.create_task(publisher.publish_async(event(inputs=DOCUMENT)))
        assert await asyncio.to_thread(gate.came.wait, 60)
        assert not task.done()
        gate.open.set()
        return await task

    report = asyncio.run(publish())
    assert report.ok
    assert report.offset == 0
    publisher.close()


@pytest.mark.kafka
def test_what_a_dropped_publisher_was_storing_is_delivered(
    topics_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = with_store(topics_settings(), {"store": str(tmp_path)})
    reports: list[DeliveryReport] = []
    Publisher(settings=settings).publish(event(inputs=DOCUMENT), reports.append)
    wait_until(lambda: len(reports) == 1, 120, "the event is reported")
    assert reports[0].ok
    [published] = topic.published(settings)
    assert len(held(tmp_path, published)["inputs"]) > 19 * MB


@pytest.mark.kafka
def test_media_are_stored_as_bytes_though_the_event_fits(
    topics_settings: MakeSettings, tmp_path: Path
) -> None:
    image = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(50_000)
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    settings = with_store(topics_settings(), {"store": str(tmp_path)})
    with Publisher(settings=settings) as publisher:
        publisher.publish(event(inputs={"image_url": {"url": url}}))
    [published] = topic.published(settings)
    assert held(tmp_path, published) == {"inputs#media": image}
    name = f"[image/png, {len(image)} bytes, {content_hash(image)}]"
    assert json.loads(str(published.inputs)) == {"image_url": {"url": name}}


SCRIPT = """
import json, os, sys
from tailrace import Kind, Publisher, TraceEvent

def event(name, size=3_000_000):
    return TraceEvent(kind=Kind.TOOL, source_id=name, trace_id=name, started_at=10**15, ended_at=10**15,
                      inputs=f"{name} " * (size // len(name)))
"""
UNCLOSED = SCRIPT + "Publisher().publish(event('unclosed'))\n"
FORK = (
    SCRIPT
    + """
publisher = Publisher()
publisher.publish(event("parent"))
pid = os.fork()
if pid == 0:
    assert publisher.counts.accepted == 0
    publisher.publish(event("child"))
    publisher.close(60)
    sys.exit(0)
publisher.publish(event("later"))
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
publisher.close(60)
sys.exit(status)
"""
)
GEVENT = (
    "from gevent import monkey; monkey.patch_all(); from gevent import sleep, spawn\n"
    + SCRIPT
    + """
ticks = 0
def tick():
    global ticks
    while True:
        sleep(0.001)
        ticks += 1
spawn(tick)
publisher = Publisher()
for n in range(5):
    publisher.publish(event(f"green{n}"))
before = ticks
assert publisher.flush(60)
assert ticks > before
publisher.close()
assert publisher.counts.stored == 5, publisher.counts
"""
)


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("script", "names"),
    [
        (UNCLOSED, {"unclosed"}),
        (FORK, {"parent", "child", "later"}),
        (GEVENT, {f"green{n}" for n in range(5)}),
    ],
    ids=["without close", "fork", "gevent"],
)
def test_every_kind_of_process_stores_and_delivers_everything(
    script: str, names: set[str], topics_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = with_store(topics_settings(publisher={"exit_seconds": 60}), {"store": str(tmp_path)})
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment(settings), "TAILRACE_CONTENT_STORE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    published = topic.published(settings)
    assert Counter(e.source_id for e in published) == Counter(names)
    for found in published:
        assert json.loads(held(tmp_path, found)["inputs"]).startswith(f"{found.source_id} {found.source_id}")


# -- kills

KILLED = (
    SCRIPT
    + """
import signal
from tailrace.content_store import folder, store
from tailrace import delivery_thread

def die():
    os.kill(os.getpid(), signal.SIGKILL)

moment, count = sys.argv[1], int(sys.argv[2])
publisher = Publisher(on_delivery=lambda r: print(r.event_id, r.ok, flush=True))
put, write, submit = store.ContentStore.put, folder.Folder.write, delivery_thread.DeliveryThread._submit
times = 0

def now():
    global times
    times += 1
    return times == count

def dying_put(self, tenant, data):
    if moment == "before the store" and now():
        die()
    hash = put(self, tenant, data)
    if moment == "between store and Kafka" and now():
        die()
    return hash

def dying_submit(self, record):
    if moment == "before it is produced" and now():
        die()
    submit(self, record)
    if moment == "after it is produced" and now():
        self._producers.current.flush(10)
        die()

fsync = os.fsync
def dying_fsync(descriptor):
    if moment == "before it is on the disk" and now():
        die()
    fsync(descriptor)

rename = folder.Path.rename
def dying_rename(self, target):
    if moment == "before it has its name" and now():
        die()
    return rename(self, target)

store.ContentStore.put, delivery_thread.DeliveryThread._submit = dying_put, dying_submit
os.fsync, folder.Path.rename = dying_fsync, dying_rename
n = 0
while True:
    n += 1
    publisher.publish(event(f"{moment} {count} {n}", 1_500_000))
    publisher.publish(event(f"{moment} {count} small {n}", 100))
    if n % 2 == 0:
        publisher.flush(60)
"""
)
MOMENTS = [
    "before the store",
    "before it is on the disk",
    "before it has its name",
    "between store and Kafka",
    "before it is produced",
    "after it is produced",
]


def no_record_without_content(settings: Settings, root: Path) -> tuple[int, int]:
    """How many records there are, and how many of them name content; all of it is there."""
    published = topic.published(settings)
    large = 0
    for found in published:
        name = str(found.source_id)
        if "small" in name:
            assert not found.content_refs
            continue
        large += 1
        assert json.loads(held(root, found)["inputs"]) == f"{name} " * (1_500_000 // len(name))
    return len(published), large


@pytest.mark.kafka
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_between_store_and_kafka_leaves_no_record_without_content(
    moment: str, topics_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = topics_settings()
    said: list[str] = []
    for count in (1, 2, 7):
        ran = subprocess.run(
            [sys.executable, "-c", KILLED, moment, str(count)],
            env={**os.environ, **environment(settings), "TAILRACE_CONTENT_STORE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        said += [line.split()[0] for line in ran.stdout.splitlines() if line.endswith("True")]
    _, large = no_record_without_content(settings, tmp_path)
    assert large > 0
    assert set(said) <= {e.event_id for e in topic.published(settings)}
    orphans = len(files(tmp_path)) - large
    assert orphans >= 0


@pytest.mark.kafka
@pytest.mark.crash
def test_kills_at_random_moments_leave_no_record_without_content(
    topics_settings: MakeSettings, tmp_path: Path, full: bool, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, settings, kills = random.Random(seed), topics_settings(), 40 if full else 12
    for n in range(kills):
        app = subprocess.Popen(
            [sys.executable, "-c", KILLED, f"never {n}", "0"],
            env={**os.environ, **environment(settings), "TAILRACE_CONTENT_STORE": str(tmp_path)},
            stdout=subprocess.PIPE,
        )
        assert app.stdout is not None
        assert app.stdout.readline()  # the first report
        time.sleep(rng.uniform(0, 0.7))
        app.kill()
        app.communicate()
    records, large = no_record_without_content(settings, tmp_path)
    with capsys.disabled():
        found = len(files(tmp_path))
        print(f"seed {seed}: {kills} kills, {records} records, {large} with content, {found} files")
    assert large > 0


# -- without Kafka


def test_publish_does_not_wait_for_the_store(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    publisher = Publisher(settings=nowhere(dead, tmp_path, {"timeout_seconds": 120}))
    publisher.publish(event(inputs=DOCUMENT))
    assert gate.came.wait(60)
    assert publisher.counts.in_flight == 1
    gate.open.set()
    publisher.close(0)


@pytest.mark.parametrize(
    ("content", "publisher"), [({"queue_bytes": 3_000_000}, {}), ({}, {"queue_max_events": 1})]
)
def test_a_queue_that_is_full_of_events_for_the_store_says_so(
    dead: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: dict[str, Any],
    publisher: dict[str, Any],
) -> None:
    gate = Gate(monkeypatch)
    settings = nowhere(dead, tmp_path, {"timeout_seconds": 120, **content}, when_full="raise", **publisher)
    made = Publisher(settings=settings)
    made.publish(event(0, inputs="words " * 400_000))
    with pytest.raises(QueueFull, match="full: 1 events wait for the content store") as refused:
        made.publish(event(1, inputs="words " * 400_000))
    assert "content.queue_bytes " in str(refused.value)
    gate.open.set()
    made.close(0)


def test_close_does_not_wait_for_a_store_that_never_answers(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    reports: list[DeliveryReport] = []
    publisher = Publisher(
        settings=nowhere(dead, tmp_path, {"timeout_seconds": 10_000}), on_delivery=reports.append
    )
    sent = [publisher.publish(event(inputs=DOCUMENT)), publisher.publish(event(1))]
    assert gate.came.wait(60)
    publisher.close(0.1)
    assert [r.event_id for r in reports] == sent
    assert publisher.counts.in_flight == 0
    assert publisher.counts.not_stored == 1
    gate.open.set()


def test_what_is_refused_is_refused_in_the_callers_thread(dead: str, tmp_path: Path) -> None:
    publisher = Publisher(settings=nowhere(dead, tmp_path, {"max_bytes": 2 * MB}))
    with pytest.raises(EventTooLarge, match=r"content\.max_bytes") as refused:
        publisher.publish(event(inputs=DOCUMENT))
    assert refused.value.field == "inputs"
    with pytest.raises(EventTooLarge) as refused:
        publisher.publish(event(inputs="x y" * 500_000, attributes={"a": "b" * MB}))
    assert "content.store" not in str(refused.value), "it is set"
    assert publisher.counts.accepted == 0
    publisher.close(0)


def test_redact_comes_before_the_store(dead: str, tmp_path: Path) -> None:
    publisher = Publisher(
        settings=nowhere(dead, tmp_path),
        redact=lambda e: event(inputs=str(e.inputs).replace("4711", "****")),
    )
    publisher.publish(event(inputs="order 4711 " * 200_000))
    wait_until(lambda: publisher.counts.stored == 1, 60, "the content is stored")
    publisher.close(0)
    [file] = files(tmp_path)
    assert b"****" in file.read_bytes()
    assert b"4711" not in file.read_bytes()


def test_events_for_the_spool_have_their_content_in_the_store(dead: str, tmp_path: Path) -> None:
    spool, root = tmp_path / "spool", tmp_path / "store"
    root.mkdir()
    reports: list[DeliveryReport] = []
    publisher = Publisher(
        settings=nowhere(dead, root, spool_dir=str(spool), delivery_timeout_seconds=60.0),
        on_delivery=reports.append,
    )
    publisher.publish(event(inputs=DOCUMENT))
    wait_until(lambda: publisher.counts.stored == 1, 60, "the content is stored")
    publisher.close(0)
    assert [r.spooled for r in reports] == [True]
    [taken] = Folder(spool, 10**9, 10**8).take(time.time())
    [spooled] = taken.events()
    found = codec.decode(spooled.value, TraceEvent)
    assert len(held(root, found)["inputs"]) > 19 * MB


def test_at_the_end_an_event_whose_content_is_not_stored_yet_is_spooled_cut(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    spool = tmp_path / "spool"
    reports: list[DeliveryReport] = []
    settings = nowhere(dead, tmp_path / "store", {"timeout_seconds": 1000}, spool_dir=str(spool))
    publisher = Publisher(settings=settings, on_delivery=reports.append)
    publisher.publish(event(inputs=DOCUMENT))
    assert gate.came.wait(60)
    publisher.close(0.1)
    gate.open.set()
    assert [r.spooled for r in reports] == [True]
    [taken] = Folder(spool, 10**9, 10**8).take(time.time())
    [spooled] = taken.events()
    found = codec.decode(spooled.value, TraceEvent)
    assert not found.content_refs
    assert [c.field for c in found.content_changes] == ["inputs"]


def test_waiting_for_the_store_is_not_taken_for_an_outage_of_kafka(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    looks: list[bool] = []
    look = Spooler.look

    def watched(spooler: Spooler, waiting: bool) -> bool:
        looks.append(waiting)
        return look(spooler, waiting)

    monkeypatch.setattr(Spooler, "look", watched)
    (tmp_path / "store").mkdir()
    settings = nowhere(dead, tmp_path / "store", {"timeout_seconds": 1000}, spool_dir=str(tmp_path / "spool"))
    publisher = Publisher(settings=settings)
    publisher.publish(event(inputs=DOCUMENT))
    assert gate.came.wait(60)
    looks.clear()
    wait_until(lambda: len(looks) >= 5, 60, "the thread looks for Kafka")
    assert not any(looks)
    gate.open.set()
    wait_until(lambda: looks[-1], 60, "the thread looks for an acknowledgement")
    publisher.close(0)


def test_a_full_disk_costs_content_and_raises_nothing(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    publisher = Publisher(settings=nowhere(dead, tmp_path, {"timeout_seconds": 1000}))
    for n in range(3):
        publisher.publish(event(n, inputs=DOCUMENT))
    stage = publisher._deliveries[os.getpid()]._stage
    assert stage is not None
    wait_until(lambda: stage._problem, 60, "the store refuses")
    publisher.close(0)
    assert publisher.counts.not_stored == 3
    wait_until(lambda: not files(tmp_path), 60, "nothing is left of what was not written")
    assert caplog.text.count("content cut") == 1
    assert "No space left on device" in caplog.text


def test_a_store_at_a_url_needs_its_package_when_the_publisher_is_made(
    dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingPackage, match=r"tailrace\[content\]"):
        Publisher(settings=nowhere(dead, "s3://bucket/folder"))
    with pytest.raises(ConfigError, match="not an absolute path"):
        nowhere(dead, "folder")


def test_without_a_store_nothing_of_it_runs(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(settings=convert({"kafka": {"bootstrap_servers": dead}}, Settings, ""))
    publisher.publish(event(inputs="x y" * 100_000))
    delivery = publisher._deliveries[os.getpid()]
    assert delivery._stage is None
    with pytest.raises(EventTooLarge, match=r"max\.message\.bytes, or set content\.store, or set publisher"):
        publisher.publish(event(inputs=DOCUMENT))
    publisher.close(0)


def test_small_events_of_a_publisher_with_a_store_go_past_it(dead: str, tmp_path: Path) -> None:
    publisher = Publisher(settings=nowhere(dead, tmp_path))
    for n in range(10):
        publisher.publish(event(n, inputs="words " * 2_000))
    delivery = publisher._deliveries[os.getpid()]
    assert delivery._stage is not None
    assert not delivery._stage.busy
    assert delivery._stage._store is None
    publisher.close(0)
    assert files(tmp_path) == []
