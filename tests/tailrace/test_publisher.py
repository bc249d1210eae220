"""The publisher on a real broker that is up, down, killed and restarted; and in forked processes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from tailrace import (
    ConfigError,
    DeliveryReport,
    EventTooLarge,
    InvalidEvent,
    Kind,
    Publisher,
    PublisherClosed,
    QueueFull,
    TraceEvent,
    topics,
)
from tailrace.broker import Broker
from tailrace.broker.folder import free_port
from tailrace.partitioner import partition_of
from tailrace.records import ChangeKind, ContentChange
from tailrace.settings import Settings, convert
from tailrace.topics import TopicNames
from tests.tailrace import topic
from tests.tailrace.ports import closed_port

MakeSettings = Callable[..., Settings]
NOW = 1_764_000_000_000_000


def event(n: int = 0, **fields: Any) -> TraceEvent:
    return TraceEvent(
        **{"kind": Kind.TOOL, "source_id": f"s{n}", "started_at": NOW, "ended_at": NOW, **fields}
    )


def nowhere(address: str, client: dict[str, str] | None = None, **publisher: Any) -> Settings:
    """Settings of a publisher without a broker."""
    return convert(
        {"kafka": {"bootstrap_servers": address, "client": client or {}}, "publisher": publisher},
        Settings,
        "",
    )


@pytest.fixture
def reports() -> list[DeliveryReport]:
    return []


@pytest.fixture
def dead() -> Iterator[str]:
    """An address on which nothing listens."""
    with closed_port() as address:
        yield address


# -- delivered


@pytest.mark.kafka
def test_a_report_says_where_the_event_is(
    topics_settings: MakeSettings, reports: list[DeliveryReport]
) -> None:
    settings = topics_settings(partitions=3)
    own: list[DeliveryReport] = []
    with Publisher(settings=settings, on_delivery=reports.append, clock=lambda: 77) as publisher:
        event_id = publisher.publish(event(trace_id="t1", inputs={"q": 1}), own.append)
    (report,) = reports
    assert own == reports
    assert report.ok
    assert (report.event_id, report.partition, report.offset) == (event_id, partition_of(b"t1", 3), 0)
    (record,) = topic.records(settings.kafka.bootstrap_servers, TopicNames.of(settings.topics).events)
    assert (record.key(), record.partition(), record.offset()) == (b"t1", report.partition, report.offset)
    assert record.timestamp()[1] == report.appended_at > 1_700_000_000_000
    (read,) = topic.published(settings)
    assert (read.event_id, read.inputs, read.published_at) == (event_id, '{"q":1}', 77)
    assert read.host_name


@pytest.mark.kafka
def test_leaving_the_context_sends_what_is_queued(topics_settings: MakeSettings) -> None:
    settings = topics_settings(publisher={"linger_ms": 2000})
    with Publisher(settings=settings) as publisher:
        sent = [publisher.publish(event(n)) for n in range(50)]
    assert publisher.counts.delivered == 50
    assert sorted(e.event_id or "" for e in topic.published(settings)) == sorted(sent)


@pytest.mark.kafka
def test_bootstrap_servers_alone_are_enough(
    broker: Broker, topics_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = topics_settings()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAILRACE_TOPICS_PREFIX", settings.topics.prefix)
    with Publisher(broker.bootstrap_servers) as publisher:
        publisher.publish(event())
    assert len(topic.published(settings)) == 1


@pytest.mark.kafka
def test_threads_share_a_publisher_and_each_event_arrives_once_in_the_order_of_its_thread(
    topics_settings: MakeSettings, reports: list[DeliveryReport]
) -> None:
    settings = topics_settings(partitions=2, publisher={"queue_max_events": 50})
    with Publisher(settings=settings, on_delivery=reports.append) as publisher:
        threads = [
            threading.Thread(
                target=lambda t=t: [publisher.publish(event(n, trace_id=f"t{t}")) for n in range(300)]
            )
            for t in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    counts = publisher.counts
    assert (counts.accepted, counts.delivered, counts.failed, counts.dropped, counts.in_flight) == (
        1200,
        1200,
        0,
        0,
        0,
    )
    assert len({r.event_id for r in reports if r.ok}) == 1200
    order: dict[str, list[str]] = {}
    for e in topic.published(settings):
        order.setdefault(str(e.trace_id), []).append(str(e.source_id))
    assert order == {f"t{t}": [f"s{n}" for n in range(300)] for t in range(4)}


# -- refused in the caller's process


def test_an_invalid_event_is_refused_with_its_field_and_nothing_is_queued(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead))
    wrong: Any = 1.5
    for bad, field in (
        (event(tenant_id=wrong), "tenant_id"),
        (event(dataset_ids=["x", wrong]), "dataset_ids[]"),
        (event(input_tokens=wrong), "input_tokens"),
        (wrong, "event"),
    ):
        with pytest.raises(InvalidEvent) as caught:
            publisher.publish(bad)
        assert caught.value.field == field
        with pytest.raises(InvalidEvent):
            asyncio.run(publisher.publish_async(bad))
    assert publisher.counts.accepted == 0
    assert publisher.close(0)


def test_a_closed_publisher_takes_nothing(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead))
    assert publisher.close()
    assert publisher.close()
    with pytest.raises(PublisherClosed):
        publisher.publish(event())
    with pytest.raises(PublisherClosed):
        asyncio.run(publisher.publish_async(event()))


@pytest.mark.parametrize(
    "client",
    [
        {"no.such.property": "marker-9"},
        {"security.protocol": "x", "sasl.password": "marker-9"},
        {"linger.ms": "200000"},
    ],
)
def test_properties_that_librdkafka_refuses_are_a_config_error(dead: str, client: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"kafka\.client") as caught:
        Publisher(settings=nowhere(dead, client))
    assert "marker-9" not in str(caught.value)


def test_redact_comes_first_and_publishes_nothing_when_it_raises(dead: str) -> None:
    def redact(e: TraceEvent) -> TraceEvent:
        if e.name == "secret":
            raise RuntimeError("cannot redact")
        return msgspec.structs.replace(e, user_id=None)

    publisher = Publisher(settings=nowhere(dead), redact=redact)
    with pytest.raises(RuntimeError, match="cannot redact"):
        publisher.publish(event(name="secret"))
    with pytest.raises(RuntimeError, match="cannot redact"):
        asyncio.run(publisher.publish_async(event(name="secret")))
    assert publisher.counts.accepted == 0
    nothing: Any = lambda e: None  # noqa: E731
    publisher._redact = nothing
    with pytest.raises(InvalidEvent) as caught:
        publisher.publish(event())
    assert caught.value.field == "event"
    publisher.close(0)


@pytest.mark.kafka
def test_what_redact_returns_is_published(topics_settings: MakeSettings) -> None:
    settings = topics_settings()
    with Publisher(
        settings=settings, redact=lambda e: msgspec.structs.replace(e, inputs="***", user_id=None)
    ) as publisher:
        publisher.publish(event(inputs={"card": "4111"}, user_id="u"))
    (read,) = topic.published(settings)
    assert (read.inputs, read.user_id) == ('"***"', None)


# -- too large


@pytest.mark.kafka
def test_an_event_over_the_limit_is_refused_naming_its_largest_field(topics_settings: MakeSettings) -> None:
    settings = topics_settings(max_event_bytes=200_000)
    with Publisher(settings=settings) as publisher:
        for fields, field in (
            ({"inputs": "x" * 150_000, "outputs": "y" * 5}, "inputs"),
            ({"error": "e" * 150_000, "outputs": "y" * 5_000}, "error"),
            ({"attributes": {"k": "v" * 140_000}}, "attributes"),
            ({"trace_id": "t" * 120_000}, "trace_id"),  # fits alone, but not with the key that it is too
        ):
            with pytest.raises(EventTooLarge, match=r"publisher\.oversize") as caught:
                publisher.publish(event(**fields))
            assert caught.value.field == field
        publisher.publish(event(inputs="x" * 130_000))
        publisher.publish(event(trace_id="t" * 8_000))
    assert publisher.counts.delivered == 2
    assert len(topic.published(settings)) == 2


@pytest.mark.kafka
def test_an_event_over_the_limit_is_cut_with_a_marker_and_delivered(topics_settings: MakeSettings) -> None:
    settings = topics_settings(max_event_bytes=200_000, publisher={"oversize": "truncate"})
    with Publisher(settings=settings) as publisher:
        publisher.publish(event(inputs={"text": "é" * 90_000}, outputs="small"))
        publisher.publish(event(error="e" * 200_000))
        with pytest.raises(EventTooLarge) as caught:
            publisher.publish(event(user_id="u" * 200_000))  # an id is not cut
        assert caught.value.field == "user_id"
        assert (publisher.counts.cut, publisher.counts.converted) == (2, 0)
    first, second = topic.published(settings)
    text = json.loads(first.inputs)["text"]
    assert text.startswith("é" * 66_000)
    assert text.endswith("é… [cut]")
    assert first.outputs == '"small"'
    assert first.content_changes == [ContentChange(field="inputs", change=ChangeKind.CUT, bytes=180_011)]
    assert str(second.error).startswith("e" * 130_000)


@pytest.mark.kafka
def test_any_object_is_published_and_said_to_be_converted(topics_settings: MakeSettings) -> None:
    settings = topics_settings()

    class Client:
        def __repr__(self) -> str:
            return "sk-secret"

    with Publisher(settings=settings) as publisher:
        publisher.publish(event(inputs={"client": Client(), "path": Path("/x")}, error=ValueError("boom")))
        publisher.publish(event(inputs={"plain": True}))
        assert (publisher.counts.converted, publisher.counts.cut) == (1, 0)
    first, second = topic.published(settings)
    name = f"{__name__}.test_any_object_is_published_and_said_to_be_converted.<locals>.Client"
    assert json.loads(first.inputs) == {"client": name, "path": "/x"}
    assert first.error == "ValueError: boom"
    assert first.content_changes == [
        ContentChange(field="inputs", change=ChangeKind.CONVERTED, count=2),
        ContentChange(field="error", change=ChangeKind.CONVERTED, count=1),
    ]
    assert second.content_changes == []


# -- Kafka is down


def test_flush_and_close_name_what_is_not_delivered(
    dead: str, reports: list[DeliveryReport], caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher(settings=nowhere(dead), on_delivery=reports.append)
    sent = tuple(publisher.publish(event(n)) for n in range(20))
    report = publisher.flush(0.2)
    assert not report
    assert report.undelivered == sent
    assert publisher.counts.in_flight == 20
    with caplog.at_level(logging.WARNING):
        assert publisher.close(0.2).undelivered == sent
    assert "closed with 20 events not delivered" in caplog.text
    counts = publisher.counts
    assert (counts.accepted, counts.failed, counts.delivered, counts.in_flight) == (20, 20, 0, 0)
    assert sorted(r.event_id for r in reports) == sorted(sent)
    assert not any(r.ok for r in reports)


def test_events_are_given_up_after_the_delivery_time_out(dead: str, reports: list[DeliveryReport]) -> None:
    publisher = Publisher(settings=nowhere(dead, delivery_timeout_seconds=0.3), on_delivery=reports.append)
    sent = publisher.publish(event())
    assert publisher.flush(60)
    (report,) = reports
    assert (report.event_id, report.ok, report.partition) == (sent, False, -1)
    assert "timed out" in str(report.error)
    assert publisher.counts.failed == 1
    assert publisher.close()


def test_without_a_listener_failures_are_logged(dead: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tailrace.publisher"):
        publisher = Publisher(settings=nowhere(dead, delivery_timeout_seconds=0.3))
        sent = publisher.publish(event())
        assert publisher.close()
    assert f"event {sent} was not delivered to trace.events" in caplog.text
    assert f"no Kafka broker answers at {dead}" in caplog.text


def fill(publisher: Publisher) -> int:
    """Publishes until the queue of 10 is full."""
    for n in range(10):
        publisher.publish(event(n))
    return 10


def test_a_full_queue_raises_at_once_if_so_set(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead, queue_max_events=10, when_full="raise"))
    fill(publisher)
    for publish in (publisher.publish, lambda e: asyncio.run(publisher.publish_async(e))):
        with pytest.raises(QueueFull, match=r"10 events wait .*publisher\.queue_max_events 10"):
            publish(event(11))
    counts = publisher.counts
    assert (counts.accepted, counts.dropped) == (10, 0)
    publisher.close(0)


def test_a_full_queue_drops_and_counts_if_so_set(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead, queue_max_events=10, when_full="drop"))
    fill(publisher)
    assert publisher.publish(event(11))
    report = asyncio.run(publisher.publish_async(event(12)))
    assert (report.ok, report.error) == (False, "dropped: the queue is full")
    counts = publisher.counts
    assert (counts.accepted, counts.dropped, counts.in_flight) == (10, 2, 10)
    publisher.close(0)


def test_a_full_queue_blocks_up_to_its_deadline_then_raises(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead, queue_max_events=10, when_full="block", block_seconds=0.3))
    fill(publisher)
    with pytest.raises(QueueFull):
        publisher.publish(event(11))
    with pytest.raises(QueueFull):
        asyncio.run(publisher.publish_async(event(11)))
    assert publisher.counts.accepted == 10
    publisher.close(0)


def test_a_full_queue_takes_more_when_there_is_room_again(dead: str) -> None:
    publisher = Publisher(
        settings=nowhere(dead, queue_max_events=10, block_seconds=60, delivery_timeout_seconds=0.5)
    )
    for n in range(25):
        publisher.publish(event(n))
    assert publisher.close()
    assert publisher.counts.failed == 25


def test_the_size_of_the_queue_is_bounded_too(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead, queue_max_bytes=500_000, when_full="raise"))

    def publish_much() -> None:
        for n in range(10):
            publisher.publish(event(n, inputs="x" * 100_000))

    with pytest.raises(QueueFull):
        publish_much()
    assert 3 <= publisher.counts.accepted <= 6
    publisher.close(0)


def test_a_publisher_that_waits_for_room_ends_its_wait_when_it_is_closed(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead, queue_max_events=10, block_seconds=300))
    fill(publisher)
    raised: list[BaseException] = []
    waiting = threading.Event()

    def publish() -> None:
        waiting.set()
        try:
            publisher.publish(event(11))
        except PublisherClosed as e:
            raised.append(e)

    thread = threading.Thread(target=publish)
    thread.start()
    waiting.wait()
    undelivered = publisher.close(0.2).undelivered
    thread.join()
    assert (len(undelivered), len(raised)) == (10, 1)
    counts = publisher.counts
    assert (counts.accepted, counts.failed, counts.in_flight) == (10, 10, 0)


@pytest.mark.parametrize("full", [False, True])
def test_the_event_loop_runs_on_while_kafka_is_down(dead: str, full: bool) -> None:
    settings = nowhere(
        dead, queue_max_events=10, block_seconds=1.0, delivery_timeout_seconds=1.0 if not full else 300
    )
    publisher = Publisher(settings=settings)
    if full:
        fill(publisher)

    async def main() -> tuple[int, list[Any]]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticker = asyncio.create_task(tick())
        results = await asyncio.gather(
            *(publisher.publish_async(event(n)) for n in range(5)), return_exceptions=True
        )
        ticker.cancel()
        return ticks, list(results)

    ticks, results = asyncio.run(main())
    assert ticks > 20  # of about 100 in that second
    if full:
        assert all(isinstance(r, QueueFull) for r in results)
    else:
        assert all("timed out" in str(r.error) for r in results)
    publisher.close(0)


def test_closing_ends_what_awaits_a_report(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead))

    async def main() -> DeliveryReport:
        waiting = asyncio.create_task(publisher.publish_async(event()))
        await asyncio.sleep(0)  # runs the task until it waits
        assert publisher.counts.in_flight == 1
        await asyncio.get_running_loop().run_in_executor(None, publisher.close, 0)
        return await waiting

    report = asyncio.run(main())
    assert not report.ok
    assert "Purged" in str(report.error)


def test_a_report_after_the_loop_has_ended_does_no_harm(dead: str) -> None:
    publisher = Publisher(settings=nowhere(dead, delivery_timeout_seconds=1.0))

    async def main() -> None:
        task = asyncio.create_task(publisher.publish_async(event()))
        await asyncio.sleep(0)
        assert publisher.counts.in_flight == 1
        task.cancel()

    asyncio.run(main())
    assert publisher.close(60)
    assert publisher.counts.failed == 1


@pytest.mark.kafka
def test_asyncio_gets_its_reports(topics_settings: MakeSettings) -> None:
    settings = topics_settings()

    async def main(publisher: Publisher) -> list[DeliveryReport]:
        return list(await asyncio.gather(*(publisher.publish_async(event(n)) for n in range(20))))

    with Publisher(settings=settings) as publisher:
        reports = asyncio.run(main(publisher))
    assert all(r.ok and r.offset >= 0 for r in reports)
    assert {r.event_id for r in reports} == {e.event_id for e in topic.published(settings)}


@pytest.mark.kafka
def test_a_listener_that_raises_changes_nothing(
    topics_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def own(report: DeliveryReport) -> None:
        raise RuntimeError("listener's fault")

    def general(report: DeliveryReport) -> None:
        heard.append(report.event_id)
        raise RuntimeError("listener's fault")

    with Publisher(settings=topics_settings(), on_delivery=general) as publisher:
        sent = [publisher.publish(event(n), own) for n in range(3)]
        assert publisher.flush(60)
        sent += [publisher.publish(event(n), own) for n in range(3, 6)]
    assert sorted(heard) == sorted(sent)
    assert publisher.counts.delivered == 6
    assert "on_delivery raised" in caplog.text


@pytest.mark.kafka
def test_an_unknown_topic_is_reported_with_the_hint_and_never_raised(
    topics_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = topics_settings(create=False, client={"topic.metadata.propagation.max.ms": "100"})
    with caplog.at_level(logging.ERROR, "tailrace.publisher"):
        publisher = Publisher(settings=settings)
        publisher.publish(event(1))
        assert publisher.flush(60)
        publisher.publish(event(2))  # known by now: refused at once, reported all the same
        report = asyncio.run(publisher.publish_async(event(3)))
        assert publisher.close(60)
    assert not report.ok
    assert "nknown topic" in str(report.error)
    counts = publisher.counts
    assert (counts.accepted, counts.failed, counts.in_flight) == (3, 3, 0)
    assert f"was not delivered to {settings.topics.prefix}events" in caplog.text
    assert "run `tailrace topics create`" in caplog.text


# -- the broker comes, goes and comes back


@pytest.mark.slow
@pytest.mark.kafka
def test_a_broker_that_starts_later_or_is_killed_costs_no_acknowledged_event(
    reports: list[DeliveryReport], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    node = Broker(port=port)
    settings = convert(
        {
            "kafka": {"bootstrap_servers": f"127.0.0.1:{port}"},
            "topics": {"partitions": 2},
            "publisher": {"queue_max_events": 1000, "block_seconds": 120},
        },
        Settings,
        "",
    )
    sent: list[str] = []
    caplog.set_level(logging.WARNING, "tailrace.publisher")
    publisher = Publisher(settings=settings, on_delivery=reports.append)
    sent += [publisher.publish(event(n, trace_id=f"t{n % 7}")) for n in range(100)]  # no broker yet
    with node:
        topics.create(AdminClient({"bootstrap.servers": node.bootstrap_servers}), settings.topics)
        assert publisher.flush(120)
        assert publisher.counts.delivered == 100
        stop = threading.Event()

        def publish() -> None:
            while not stop.is_set():
                sent.append(publisher.publish(event(len(sent), trace_id=f"t{len(sent) % 7}")))

        thread = threading.Thread(target=publish)
        thread.start()
        for _ in range(2):
            before = publisher.counts.delivered
            while publisher.counts.delivered < before + 500:
                stop.wait(0.01)
            node.kill()
            stop.wait(0.3)
            node.restart()
        stop.set()
        thread.join()
        assert publisher.close(120)
        found = Counter(e.event_id for e in topic.published(settings))
    counts = publisher.counts
    assert counts.accepted == len(sent) == counts.delivered + counts.failed
    assert Counter(r.event_id for r in reports) == Counter(sent)
    acknowledged = {r.event_id for r in reports if r.ok}
    assert acknowledged <= set(found)
    assert max(found.values()) == 1  # idempotent: retried, written once
    # Logged for each outage, not for each connection attempt. A late report may log it once more.
    assert 2 <= caplog.text.count("no Kafka broker answers") <= 9
    assert "Connection refused" in caplog.text


# -- fork

FORK = """
import json, os, sys, threading
from tailrace import Kind, Publisher, TraceEvent

def event(name):
    return TraceEvent(kind=Kind.TOOL, source_id=name, started_at=10**15, ended_at=10**15)

publisher = Publisher()
for n in range(20):
    publisher.publish(event(f"parent-before-{n}"))
children = []
for c in range(2):
    pid = os.fork()
    if pid == 0:
        assert publisher.counts.accepted == 0
        for n in range(10):
            publisher.publish(event(f"child-{c}-{n}"))
        if c == 0:
            report = publisher.close(60)
        else:
            report = publisher.flush(60)
        found = {"child": c, "all": bool(report), "delivered": publisher.counts.delivered}
        print(json.dumps(found), flush=True)
        sys.exit(7)  # as an application ends: with everything that runs at exit
    children.append(pid)
for n in range(20):
    publisher.publish(event(f"parent-after-{n}"))
statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
publisher.close(60)
print(json.dumps({"parent": True, "delivered": publisher.counts.delivered, "statuses": statuses}), flush=True)
"""


def run_script(script: str, settings: Settings) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "TAILRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "TAILRACE_TOPICS_PREFIX": settings.topics.prefix,
    }
    return subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.kafka
def test_forked_children_have_their_own_publisher_and_end_cleanly(topics_settings: MakeSettings) -> None:
    settings = topics_settings(partitions=2)
    ran = run_script(FORK, settings)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [x["delivered"] for x in lines if "child" in x] == [10, 10]
    assert all(x["all"] for x in lines if "child" in x)
    assert [x for x in lines if "parent" in x] == [{"parent": True, "delivered": 40, "statuses": [7, 7]}]
    expected = [f"parent-{when}-{n}" for when in ("before", "after") for n in range(20)]
    expected += [f"child-{c}-{n}" for c in range(2) for n in range(10)]
    assert Counter(e.source_id for e in topic.published(settings)) == Counter(expected)
    assert ran.stderr == ""


FORK_CLOSED = """
import os, sys
from tailrace import Kind, Publisher, PublisherClosed, TraceEvent
event = TraceEvent(kind=Kind.TOOL, source_id="s", started_at=10**15, ended_at=10**15)
closed = Publisher()
closed.close()
pid = os.fork()
if pid == 0:
    try:
        closed.publish(event)
    except PublisherClosed:
        sys.exit(0)
    sys.exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""

UNCLOSED = """
from tailrace import Kind, Publisher, TraceEvent
publisher = Publisher()
publisher.publish(TraceEvent(kind=Kind.TOOL, source_id="s", started_at=10**15, ended_at=10**15))
"""


def test_a_closed_publisher_stays_closed_in_a_child(dead: str) -> None:
    ran = run_script(FORK_CLOSED, nowhere(dead))
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_process_that_forgets_to_close_still_ends(dead: str) -> None:
    ran = run_script(UNCLOSED, nowhere(dead))
    assert ran.returncode == 0, ran.stderr
    assert "Fatal" not in ran.stderr
    assert "1 events not delivered: close() the publisher or use it as a context manager" in ran.stderr


def test_undelivered_events_are_counted_at_exit_and_an_outage_is_logged_once(dead: str) -> None:
    script = UNCLOSED + "del publisher\nimport time\ntime.sleep(2)\n"
    ran = run_script(script, nowhere(dead))
    outage, lost = ran.stderr.splitlines()
    assert outage.startswith(f"no Kafka broker answers at {dead}")
    assert "Connection refused" in outage
    assert lost.startswith("1 events not delivered: close() the publisher")


@pytest.mark.kafka
def test_a_process_that_forgets_to_close_after_delivery_logs_nothing(
    topics_settings: MakeSettings,
) -> None:
    settings = topics_settings()
    delivered = "while publisher.counts.in_flight:\n    time.sleep(0.01)\n"
    ran = run_script("import time\n" + UNCLOSED + delivered, settings)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(topic.published(settings)) == 1


def test_an_interrupted_process_closes_its_publisher(dead: str) -> None:
    script = UNCLOSED + "import signal\nwith publisher:\n    print('ready', flush=True)\n    signal.pause()\n"
    script = script.replace("Publisher()", "Publisher(settings=settings)").replace(
        "publisher =",
        "from tailrace.settings import load\nsettings = load({'publisher': {'delivery_timeout_seconds': "
        "0.3}})\npublisher =",
    )
    env = {**os.environ, "TAILRACE_KAFKA_BOOTSTRAP_SERVERS": dead}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        try:
            _, err = child.communicate(timeout=120)
        finally:
            child.kill()
    assert "KeyboardInterrupt" in err
    assert "was not delivered" in err or "closed with 1 events" in err
