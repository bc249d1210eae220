"""The life of a publisher: fatal errors, listeners that raise, flush, close, forks, and being dropped."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, Producer

from tailrace import DeliveryReport, Kind, Publisher, QueueFull, TraceEvent
from tailrace.settings import Settings, convert
from tests.harness.processes import wait_until
from tests.tailrace import topic
from tests.tailrace.ports import closed_port
from tests.tailrace.scripts import environment, run_script

MakeSettings = Callable[..., Settings]


def event(n: int = 0, **fields: Any) -> TraceEvent:
    return TraceEvent(
        **{"kind": Kind.TOOL, "source_id": f"s{n}", "started_at": 10**15, "ended_at": 10**15, **fields}
    )


@pytest.fixture
def dead() -> Iterator[str]:
    with closed_port() as address:
        yield address


def nowhere(address: str, **publisher: Any) -> Settings:
    return convert({"kafka": {"bootstrap_servers": address}, "publisher": publisher}, Settings, "")


# -- fatal errors of the producer


def producers() -> list[Producer]:
    return [o for o in gc.get_objects() if type(o) is Producer]


def newest(before: list[Producer]) -> Producer:
    (new,) = [p for p in producers() if not any(p is b for b in before)]
    return new


def fail(producer: Producer) -> None:
    """Raises a fatal error in a producer, as librdkafka does when the idempotence is broken."""
    folder = Path(confluent_kafka.__file__).parent
    (library,) = [*folder.parent.glob("confluent_kafka.libs/librdkafka*"), *folder.glob("librdkafka*.so*")]
    handle = ctypes.c_void_p.from_address(id(producer) + object.__basicsize__)
    failed = ctypes.CDLL(str(library)).rd_kafka_test_fatal_error(
        handle, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, b"of the test"
    )
    assert failed == 0


@pytest.mark.kafka
def test_a_new_producer_takes_over_after_a_fatal_error(
    topics_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = topics_settings(publisher={"linger_ms": 500})
    reports: list[DeliveryReport] = []
    for _ in range(2):
        before = producers()
        with Publisher(settings=settings, on_delivery=reports.append) as publisher:
            sent = [publisher.publish(event(n)) for n in range(50)]
            fail(newest(before))
            sent += [publisher.publish(event(n)) for n in range(50, 100)]
            assert publisher.flush(120)
            sent += [publisher.publish(event(n)) for n in range(100, 150)]
        assert publisher.counts.delivered == 150
        assert Counter(r.event_id for r in reports if r.ok) == Counter(sent)
        reports.clear()
    assert {str(e.event_id) for e in topic.published(settings)} >= set(sent)
    assert "a new one takes over" in caplog.text
    assert "test_fatal_error: of the test" in caplog.text


def test_events_that_were_taken_over_are_given_up_in_time_without_kafka(dead: str) -> None:
    reports: list[DeliveryReport] = []
    before = producers()
    publisher = Publisher(
        settings=nowhere(dead, delivery_timeout_seconds=1.0, queue_max_events=10, when_full="raise"),
        on_delivery=reports.append,
    )
    sent = [publisher.publish(event(n)) for n in range(10)]
    fail(newest(before))
    assert publisher.flush(120)
    assert Counter(r.event_id for r in reports) == Counter(sent)
    assert {r.error for r in reports} == {"Local: Message timed out"}
    sent = [publisher.publish(event(n)) for n in range(10)]  # there is room again, and no more
    with pytest.raises(QueueFull):
        publisher.publish(event(10))
    assert publisher.counts.in_flight == 10
    publisher.close(0)
    assert len(reports) == 20


def test_one_fatal_error_after_the_other_does_not_open_one_producer_after_the_other(
    dead: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is published meanwhile waits, within the same bounds."""
    others = producers()
    publisher = Publisher(settings=nowhere(dead, queue_max_events=10, when_full="raise"))
    publisher.publish(event())

    def failures() -> int:
        return caplog.text.count("a new one takes over")

    for _ in range(2):
        current = publisher._deliveries[os.getpid()]._producers.current
        assert current is not None
        before = failures()
        fail(current)
        while failures() == before:
            publisher.flush(0.01)

    def publish_much() -> None:
        for n in range(1, 100):
            publisher.publish(event(n))

    with pytest.raises(QueueFull):
        publish_much()
    # a queue of records that wait, and a producer's
    assert 10 <= publisher.counts.in_flight <= 20
    assert len([p for p in producers() if not any(p is o for o in others)]) <= 2
    left = publisher.counts.in_flight
    assert len(publisher.close(0).undelivered) == left == publisher.counts.failed


# -- listeners


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit, RuntimeError])
def test_whatever_a_listener_raises_the_next_reports_come(
    raised: type[BaseException], dead: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def listener(report: DeliveryReport) -> None:
        heard.append(report.event_id)
        raise raised("listener's fault")

    publisher = Publisher(settings=nowhere(dead, delivery_timeout_seconds=0.3), on_delivery=listener)
    sent = [publisher.publish(event(n), listener) for n in range(3)]
    assert publisher.flush(60)
    sent += [publisher.publish(event(n), listener) for n in range(3, 6)]
    assert publisher.close(60)
    assert Counter(heard) == Counter([*sent, *sent])
    assert publisher.counts.failed == 6
    assert "on_delivery raised" in caplog.text


def test_a_listener_that_flushes_closes_or_publishes_does_not_stop_the_thread(dead: str) -> None:
    settings = nowhere(dead, delivery_timeout_seconds=0.3, queue_max_events=3, block_seconds=3600)
    full: list[QueueFull] = []

    def listener(report: DeliveryReport) -> None:
        assert not publisher.flush(3600)
        if len(full) < 3:
            try:
                for n in range(4):
                    publisher.publish(event(100 + n))
            except QueueFull as e:
                full.append(e)
        else:
            publisher.close(3600)

    publisher = Publisher(settings=settings, on_delivery=listener)
    publisher.publish(event())
    wait_until(lambda: publisher._closed, 60, "it is closed")
    wait_until(lambda: not publisher.counts.in_flight, 60, "nothing is in flight")
    assert len(full) == 3


# -- flush and close


def test_flush_waits_only_for_what_was_published_before_it(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead, delivery_timeout_seconds=0.5))
    stop = threading.Event()

    def publish() -> None:
        n = 0
        while not stop.wait(0.001):
            publisher.publish(event(n := n + 1))

    thread = threading.Thread(target=publish)
    thread.start()
    wait_until(lambda: publisher.counts.in_flight, 60, "events are in flight")
    report = publisher.flush(30)
    stop.set()
    thread.join()
    assert report
    assert publisher.counts.in_flight > 0
    assert publisher.flush(60)
    assert publisher.close()


def test_flush_names_only_what_was_published_before_it(dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(settings=nowhere(dead))
    sent = tuple(publisher.publish(event(n)) for n in range(3))
    before_flush, later = threading.Event(), threading.Event()

    def publish_one_more() -> None:
        before_flush.wait()
        publisher.publish(event(9))
        later.set()

    thread = threading.Thread(target=publish_one_more)
    thread.start()
    delivery = publisher._deliveries[os.getpid()]
    settled = delivery.in_flight.settled

    def asked(last: int) -> bool:
        before_flush.set()
        later.wait()
        return settled(last)

    monkeypatch.setattr(delivery.in_flight, "settled", asked)
    assert publisher.flush(0.01).undelivered == sent
    thread.join()
    assert publisher.counts.in_flight == 4
    publisher.close(0)


def test_a_second_close_returns_what_the_first_one_did(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead))
    sent = tuple(publisher.publish(event(n)) for n in range(3))
    first = publisher.close(0.1)
    assert first.undelivered == sent
    assert publisher.close() == first
    assert publisher.close(0) == first


def test_a_close_beside_another_one_waits_for_it(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead, delivery_timeout_seconds=1.0))
    sent = tuple(publisher.publish(event(n)) for n in range(3))
    reports: list[Any] = []
    thread = threading.Thread(target=lambda: reports.append(publisher.close()))
    thread.start()
    wait_until(lambda: publisher._closed, 60, "the first one has begun")
    assert publisher.close(0).undelivered == sent  # it does not say that all is well
    assert publisher.close()
    thread.join()
    assert reports == [publisher.close()]


# -- a publisher that nobody has any more; in a process whose threads and files are all of its making

DROPPED = """
import gc, logging, os, sys, time
from tailrace import Kind, Publisher, TraceEvent

def now():
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

class Owner:
    def __init__(self):
        self.publisher = Publisher(on_delivery=self.reported)  # a cycle

    def reported(self, report):
        delivered.append(report.ok)

def ends():
    until = time.monotonic() + 60
    while any(a > b for a, b in zip(now(), before)):
        gc.collect()
        if time.monotonic() > until:
            sys.exit(f"threads, descriptors: {now()}; before: {before}")
        time.sleep(0.02)

delivered = []
logging.basicConfig(format="%(message)s")
Publisher().close()
before = now()
made = [Owner() if sys.argv[1] == "owner" else Publisher() for _ in range(10)]
for one in made:
    publisher = getattr(one, "publisher", one)
    publisher.publish(TraceEvent(kind=Kind.TOOL, source_id="s", started_at=10**15, ended_at=10**15))
    if sys.argv[2] == "flushed":
        assert publisher.flush(60)
    del publisher, one
assert now()[0] >= before[0] + 10
made.clear()
ends()
print(delivered)
"""


@pytest.mark.slow
@pytest.mark.parametrize("queue", ["flushed", "waiting"])
@pytest.mark.parametrize("owner", ["nobody", "owner"])
def test_a_dropped_publisher_frees_its_threads_and_descriptors(owner: str, queue: str, dead: str) -> None:
    ran = run_script(DROPPED, nowhere(dead, delivery_timeout_seconds=0.3), owner, queue)
    assert ran.returncode == 0, ran.stderr
    if (owner, queue) == ("nobody", "waiting"):
        assert ran.stderr.count("was not delivered to trace.events") == 10


@pytest.mark.kafka
def test_what_a_dropped_publisher_has_queued_is_delivered(topics_settings: MakeSettings) -> None:
    settings = topics_settings(publisher={"linger_ms": 100})
    ran = run_script(DROPPED, settings, "owner", "waiting")
    assert ran.stdout == f"{[True] * 10}\n", ran.stderr
    assert len(topic.published(settings)) == 10


# -- ends of processes

CHILDREN = """
import multiprocessing, sys, threading
from concurrent.futures import ProcessPoolExecutor
from tailrace import Kind, Publisher, TraceEvent

def event(name):
    return TraceEvent(kind=Kind.TOOL, source_id=name, started_at=10**15, ended_at=10**15)

publisher = Publisher()  # also in a child that imports this again

def inherited(name):
    for n in range(30):
        publisher.publish(event(f"{name}-{n}"))

def own(name):
    mine = Publisher()
    for n in range(30):
        mine.publish(event(f"{name}-own-{n}"))

if __name__ == "__main__":
    how = multiprocessing.get_context(sys.argv[1])
    publisher.publish(event("parent"))
    children = [how.Process(target=inherited, args=("a",)), how.Process(target=own, args=("b",))]
    for child in children:
        child.start()
    for child in children:
        child.join()
    with ProcessPoolExecutor(1, mp_context=how) as pool:
        pool.submit(inherited, "pool").result()
    publisher.close()
    sys.exit(max(child.exitcode for child in children))
"""


def run_children(folder: Path, how: str, settings: Settings) -> subprocess.CompletedProcess[str]:
    program = folder / "children.py"
    program.write_text(CHILDREN, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(program), how],
        env={**os.environ, **environment(settings)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.kafka
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_that_ends_has_sent_everything(
    how: str, topics_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = topics_settings(publisher={"exit_seconds": 120})
    ran = run_children(tmp_path, how, settings)
    assert (ran.returncode, ran.stderr) == (0, "")
    expected = [f"{name}-{n}" for name in ("a", "b-own", "pool") for n in range(30)]
    assert Counter(e.source_id for e in topic.published(settings)) == Counter([*expected, "parent"])


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_says_what_it_has_not_sent(how: str, dead: str, tmp_path: Path) -> None:
    ran = run_children(tmp_path, how, nowhere(dead, exit_seconds=0.2, delivery_timeout_seconds=0.4))
    assert ran.returncode == 0
    assert ran.stderr.count("30 events not delivered: close() the publisher") == 3


FORK_IN_C = """
import ctypes, json, os, sys
from tailrace import Kind, Publisher, TraceEvent

def event(name):
    return TraceEvent(kind=Kind.TOOL, source_id=name, started_at=10**15, ended_at=10**15)

publisher = Publisher()
publisher.publish(event("parent"))
fork = ctypes.PyDLL(None).fork  # as a server in C forks: Python's hooks do not run
pid = fork()
if pid == 0:
    assert publisher.counts.accepted == 0
    assert publisher.flush(0)
    for n in range(30):
        publisher.publish(event(f"child-{n}"))
    print(json.dumps({"all": bool(publisher.close()), "delivered": publisher.counts.delivered}), flush=True)
    sys.exit(7)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
publisher.close()
sys.exit(status)
"""


@pytest.mark.kafka
def test_a_fork_of_which_python_does_not_know_leaves_the_child_a_publisher(
    topics_settings: MakeSettings,
) -> None:
    settings = topics_settings()
    ran = run_script(FORK_IN_C, settings)
    assert (ran.returncode, ran.stderr) == (7, "")
    assert ran.stdout == '{"all": true, "delivered": 30}\n'
    expected = ["parent", *(f"child-{n}" for n in range(30))]
    assert Counter(e.source_id for e in topic.published(settings)) == Counter(expected)


IDLE_CHILD = """
import os, sys
from tailrace import Kind, Publisher, TraceEvent
publisher = Publisher()
publisher.publish(TraceEvent(kind=Kind.TOOL, source_id="parent", started_at=10**15, ended_at=10**15))
pid = os.fork()
if pid == 0:
    print(len(os.listdir("/proc/self/task")), bool(publisher.close()), flush=True)
    sys.exit(0)
os.waitpid(pid, 0)
publisher.close(0)
"""


FIRST_EVENT = """
import os
from tailrace import Kind, Publisher, TraceEvent

def threads():
    return len(os.listdir("/proc/self/task"))

found = [threads()]
publisher = Publisher()
found.append(threads())
publisher.publish(TraceEvent(kind=Kind.TOOL, source_id="s", started_at=10**15, ended_at=10**15))
found.append(threads())
publisher.close(0)
print(found[0] == found[1] < found[2])
"""


def test_a_publisher_connects_with_its_first_event(dead: str) -> None:
    """What has no threads can be forked safely: a server that loads the application first."""
    assert run_script(FIRST_EVENT, nowhere(dead)).stdout == "True\n"


def test_a_child_that_publishes_nothing_starts_no_threads(dead: str) -> None:
    ran = run_script(IDLE_CHILD, nowhere(dead))
    assert ran.stdout == "1 True\n"
