"""The publisher in processes whose threads are greenlets: patched early, late, in part and not at all."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tailrace import greenlets
from tailrace.settings import Settings, convert
from tests.tailrace import topic
from tests.tailrace.ports import closed_port
from tests.tailrace.scripts import run_script

MakeSettings = Callable[..., Settings]

GEVENT = "from gevent import monkey; monkey.patch_all(); from gevent import sleep, spawn"
WAYS = {
    "gevent": GEVENT,
    "gevent after the import": f"import tailrace; {GEVENT}",
    "gevent without threads": GEVENT.replace("patch_all()", "patch_all(thread=False)"),
    "gevent without time": GEVENT.replace("patch_all()", "patch_all(time=False)"),
    "eventlet": "import eventlet; eventlet.monkey_patch(); from eventlet import sleep, spawn",
}

BEGIN = """
import json, os, sys, threading
from tailrace import Kind, Publisher, QueueFull, TraceEvent

def event(name):
    return TraceEvent(kind=Kind.TOOL, source_id=str(name), started_at=10**15, ended_at=10**15)

ticks = 0
def tick():
    global ticks
    while True:
        sleep(0.001)
        ticks += 1
spawn(tick)

lock = threading.Lock()
reports = []
def reported(report):
    with lock:
        sleep(0.001)  # as a listener that writes to a socket: the greenlets switch
        reports.append((report.event_id, report.ok))
"""

PUBLISH = (
    BEGIN
    + """
publisher = Publisher(on_delivery=reported)
sent = [publisher.publish(event(n)) for n in range(50)]
before = ticks
flushed = publisher.flush(120)
ticked = ticks - before
with lock:
    settled = len(reports)
sent += [publisher.publish(event(n)) for n in range(50, 60)]
before = ticks
closed = publisher.close()
print(json.dumps({
    "sent": sent, "reports": reports, "settled": settled, "flushed": bool(flushed), "closed": bool(closed),
    "ticked": ticked, "ticked while closing": ticks - before, "in flight": publisher.counts.in_flight,
}))
"""
)


@pytest.fixture
def dead() -> Iterator[str]:
    with closed_port() as address:
        yield address


def nowhere(address: str, **publisher: Any) -> Settings:
    return convert({"kafka": {"bootstrap_servers": address}, "publisher": publisher}, Settings, "")


def result(ran: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("way", WAYS)
def test_greenlets_run_on_while_a_publisher_waits_for_kafka(way: str, dead: str) -> None:
    found = result(run_script(WAYS[way] + PUBLISH, nowhere(dead, delivery_timeout_seconds=0.5)))
    assert sorted(found["reports"]) == sorted([e, False] for e in found["sent"])
    assert (found["flushed"], found["settled"], found["closed"], found["in flight"]) == (True, 50, True, 0)
    assert found["ticked"] > 20  # of some 500 in that time
    assert found["ticked while closing"] > 20


@pytest.mark.kafka
@pytest.mark.parametrize("way", WAYS)
def test_what_greenlets_publish_arrives_and_is_reported(way: str, topics_settings: MakeSettings) -> None:
    settings = topics_settings()
    found = result(run_script(WAYS[way] + PUBLISH, settings))
    assert sorted(found["reports"]) == sorted([e, True] for e in found["sent"])
    assert (found["flushed"], found["settled"], found["closed"], found["in flight"]) == (True, 50, True, 0)
    assert found["ticked"] > 0
    assert sorted(str(e.event_id) for e in topic.published(settings)) == sorted(found["sent"])


FULL = (
    BEGIN
    + """
publisher = Publisher()
for n in range(10):
    publisher.publish(event(n))
before = ticks
try:
    publisher.publish(event(11))
except QueueFull:
    print(json.dumps({"ticked": ticks - before}), flush=True)
publisher.close(0)
"""
)


@pytest.mark.parametrize("way", WAYS)
def test_greenlets_run_on_while_publish_waits_for_room(way: str, dead: str) -> None:
    found = result(run_script(WAYS[way] + FULL, nowhere(dead, queue_max_events=10, block_seconds=0.5)))
    assert found["ticked"] > 20  # of some 500


LINGER = (
    BEGIN
    + """
publisher = Publisher()
publisher.publish(event(1))
print(json.dumps({"flushed": bool(publisher.flush(20))}), flush=True)
"""
)


@pytest.mark.kafka
def test_a_flush_does_not_linger_in_a_greenlet_either(topics_settings: MakeSettings) -> None:
    settings = topics_settings(publisher={"linger_ms": 60_000})
    assert result(run_script(GEVENT + LINGER, settings)) == {"flushed": True}


FORK = (
    BEGIN
    + """
publisher = Publisher()
sent = [publisher.publish(event(f"parent-{n}")) for n in range(20)]
pid = os.fork()
if pid == 0:
    before = ticks
    for n in range(20):
        publisher.publish(event(f"child-{n}"))
    publisher.flush(120)
    sleep(0.01)
    print(json.dumps({"child": publisher.counts.delivered, "ticked": ticks > before}), flush=True)
    sys.exit(7)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
publisher.close()
print(json.dumps({"status": status, "delivered": publisher.counts.delivered}), flush=True)
"""
)


@pytest.mark.kafka
def test_a_greenlets_publisher_survives_a_fork(topics_settings: MakeSettings) -> None:
    settings = topics_settings()
    ran = run_script(GEVENT + FORK, settings)
    assert result(ran) == {"status": 7, "delivered": 20}
    assert json.loads(ran.stdout.splitlines()[0]) == {"child": 20, "ticked": True}
    expected = sorted([f"parent-{n}" for n in range(20)] + [f"child-{n}" for n in range(20)])
    assert sorted(str(e.source_id) for e in topic.published(settings)) == expected


UNCLOSED = (
    BEGIN
    + """
publisher = Publisher()
for n in range(30):
    publisher.publish(event(n))
"""
)


@pytest.mark.kafka
def test_a_greenlets_publisher_that_was_not_closed_is_flushed_at_exit(topics_settings: MakeSettings) -> None:
    settings = topics_settings(publisher={"exit_seconds": 120})
    ran = run_script(GEVENT + UNCLOSED, settings)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(topic.published(settings)) == 30


def test_a_process_with_greenlets_ends_and_says_what_is_lost(dead: str) -> None:
    ran = run_script(GEVENT + UNCLOSED, nowhere(dead, exit_seconds=0.5))
    assert ran.returncode == 0, ran.stderr
    assert "30 events not delivered: close() the publisher" in ran.stderr


BURST = (
    BEGIN
    + """
publisher = Publisher(on_delivery=lambda report: None)
for n in range(20_000):
    publisher.publish(event(n))
most = 0
settled = lambda: publisher.counts.failed
while settled() < 20_000:
    before = settled()
    sleep(0.0001)
    most = max(most, settled() - before)
print(json.dumps({"most": most}), flush=True)
publisher.close()
"""
)


def test_a_burst_of_reports_leaves_room_for_other_greenlets(dead: str) -> None:
    """20,000 events time out at once."""
    found = result(run_script(GEVENT + BURST, nowhere(dead, delivery_timeout_seconds=2.0)))
    assert 0 < found["most"] < 10_000


INTERRUPTED = (
    BEGIN
    + """
import signal
first = True
def interrupted(report):
    global first
    if first:
        first = False
        signal.raise_signal(signal.SIGINT)
publisher = Publisher(on_delivery=interrupted)
try:
    for n in range(20):
        publisher.publish(event(n))
    publisher.flush(120)
    sleep(120)
except KeyboardInterrupt:
    print(json.dumps({"flushed": bool(publisher.flush(120)), "failed": publisher.counts.failed}), flush=True)
publisher.close()
"""
)


def test_ctrl_c_during_a_greenlets_report_reaches_the_main_greenlet_and_costs_no_report(dead: str) -> None:
    ran = run_script(GEVENT + INTERRUPTED, nowhere(dead, delivery_timeout_seconds=0.5))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"flushed": True, "failed": 20}


KILLED = (
    BEGIN
    + """
import gc, gevent, greenlet
publisher = Publisher(on_delivery=reported)
publisher.publish(event(1))
sleep(0.05)
mine = greenlet.getcurrent()
gevent.killall([g for g in gc.get_objects() if isinstance(g, gevent.Greenlet) and g is not mine])
publisher.publish(event(2))
print(json.dumps({"flushed": bool(publisher.flush(120)), "reports": len(reports)}), flush=True)
publisher.close()
"""
)


def test_a_publisher_outlives_its_killed_greenlet(dead: str) -> None:
    ran = run_script(GEVENT + KILLED, nowhere(dead, delivery_timeout_seconds=0.5))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"flushed": True, "reports": 2}


INSTALLED = """
import gevent.monkey, json
from tailrace import greenlets
print(json.dumps([greenlets.threads_are_greenlets(), greenlets.cooperative_sleep() is None]))
"""


def test_gevent_that_is_only_imported_changes_nothing(dead: str) -> None:
    assert json.loads(run_script(INSTALLED, nowhere(dead)).stdout) == [False, True]
    unpatched = (
        INSTALLED
        + BEGIN.replace("import json", "from time import sleep\nimport json").replace(
            "spawn(tick)", "threading.Thread(target=tick, daemon=True).start()"
        )
        + PUBLISH.removeprefix(BEGIN)
    )
    found = result(run_script(unpatched, nowhere(dead, delivery_timeout_seconds=0.5)))
    assert len(found["reports"]) == 60


def test_nothing_is_imported_to_look_for_greenlets(dead: str) -> None:
    script = "import sys, tailrace; print({'gevent', 'eventlet', 'multiprocessing'} & set(sys.modules))"
    assert run_script(script, nowhere(dead)).stdout == "set()\n"
    assert not greenlets.threads_are_greenlets()
    assert greenlets.cooperative_sleep() is None


def test_work_in_a_real_thread_runs_in_one() -> None:
    done = threading.Event()
    where: list[int] = []

    def work() -> None:
        where.append(threading.get_native_id())
        done.set()

    greenlets.in_real_thread(work)
    done.wait()
    assert where != [threading.get_native_id()]
