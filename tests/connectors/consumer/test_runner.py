"""The runner on a real broker, with scripted answers: what arrives and what is committed."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.consumer.assignment import OffsetLost
from connectors.consumer.runner import FETCH
from tailrace.codec import schemas, wire
from tailrace.records import Kind, TraceEvent
from tailrace.settings import Settings
from tailrace.topics import HEADER
from tests.connectors.conftest import Bench, Running
from tests.connectors.enriching import Raw, make_event
from tests.connectors.scripted import OK, Answer, ScriptedReceiver
from tests.harness.processes import wait_until

pytestmark = pytest.mark.kafka


def events(n: int, start: int = 0) -> list[TraceEvent]:
    return [make_event(i) for i in range(start, start + n)]


def ids(found: list[TraceEvent]) -> set[str]:
    return {str(e.event_id) for e in found}


def delivered(n: int) -> Callable[[Any], bool]:
    return lambda status: bool(status.counts.delivered >= n)


def in_order(order: list[str]) -> bool:
    """Whether each partition's events arrived in order. Event i of one write is in partition i modulo 3."""
    numbers = [int(i.removeprefix("event-")) for i in order]
    partitions = [[n for n in numbers if n % 3 == p] for p in range(3)]
    return all(partition == sorted(partition) for partition in partitions)


def test_everything_arrives_once_in_order_and_the_commit_is_the_end(bench: Bench) -> None:
    written = bench.enricher.write(events(3000))
    with ScriptedReceiver() as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint)
        with Running(settings, "otlp", until_caught_up=True) as sink:
            sink.join()
        assert sink.error is None
        assert receiver.stored == dict.fromkeys(ids(written), 1)
        assert in_order(receiver.order)
        assert max(map(len, receiver.requests)) <= 500
        bench.assert_settled("otlp", delivered=3000, filtered=0, dead_lettered=0, retried=0)
        assert sink.sink.status().lag == 0

        more = bench.enricher.write(events(300, 3000))
        with Running(settings, "otlp") as sink:
            sink.until(delivered(300), "the second run goes on from the first")
        assert receiver.stored == dict.fromkeys(ids(written + more), 1)
        bench.assert_settled("otlp", delivered=3300)


def test_refused_hung_and_reset_requests_are_sent_again_in_order(bench: Bench) -> None:
    faults = {
        2: Answer(503, {"Retry-After": "1"}),
        4: Answer(what="reset"),
        5: Answer(what="hang"),
        7: Answer(429),
        9: Answer(500),
    }
    written = bench.enricher.write(events(1200))
    with ScriptedReceiver(lambda n, _: faults.get(n, OK)) as receiver:
        # Only the request that hangs may time out: an answer that comes too late would be stored twice.
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint, max_records=50, timeout=5.0)
        with Running(settings, "otlp") as sink:
            sink.until(delivered(1200), "all delivered")
        assert receiver.stored == dict.fromkeys(ids(written), 1)
        assert in_order(receiver.order)
        bench.assert_settled("otlp", delivered=1200, dead_lettered=0, retried=50 * len(faults))


def test_413_is_halved_and_a_record_too_large_alone_is_dead_lettered(bench: Bench) -> None:
    big = "event-7"

    def plan(n: int, found: list[str]) -> Answer:
        return Answer(413) if len(found) > 30 or big in found else OK

    written = bench.enricher.write(events(300))
    with ScriptedReceiver(plan) as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint)
        with Running(settings, "otlp") as sink:
            sink.until(lambda s: s.counts.delivered == 299 and s.counts.dead_lettered == 1, "one dead letter")
        assert receiver.stored == dict.fromkeys(ids(written) - {big}, 1)
        assert in_order(receiver.order)
    bench.assert_settled("otlp", delivered=299, dead_lettered=1)
    [(key, dead_letter)] = bench.dead_letters()
    assert (dead_letter.event_id, dead_letter.stage, dead_letter.reason, dead_letter.sink) == (
        big,
        "send",
        "too_large",
        "otlp",
    )
    assert (key, dead_letter.response_status, dead_letter.raw) == (b"run-0", 413, None)


def test_400_is_bisected_down_to_the_poison_records(bench: Bench) -> None:
    poison = {"event-3", "event-4", "event-250"}
    secret = "s3cr3t-key"

    def plan(n: int, found: list[str]) -> Answer:
        bad = poison.intersection(found)
        return Answer(400, message=f"bad span, your key {secret}") if bad else OK

    written = bench.enricher.write(events(600))
    with ScriptedReceiver(plan) as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint, api_key=secret)
        with Running(settings, "otlp") as sink:
            sink.until(
                lambda s: s.counts.delivered == 597 and s.counts.dead_lettered == 3, "three dead letters"
            )
        assert receiver.stored == dict.fromkeys(ids(written) - poison, 1)
        assert receiver.headers[0]["authorization"] == f"Bearer {secret}"
        # halves of at most 200 records of a partition: far from one request a record
        assert len(receiver.requests) < 80
    bench.assert_settled("otlp", delivered=597, dead_lettered=3)
    dead_letters = bench.dead_letters()
    assert {dead_letter.event_id for _, dead_letter in dead_letters} == poison
    for _, dead_letter in dead_letters:
        assert (dead_letter.reason, dead_letter.response_status, dead_letter.response) == (
            "rejected",
            400,
            "bad span, your key ***",
        )
        assert dead_letter.request is not None
        assert dead_letter.request.startswith(f"POST {receiver.endpoint}/v1/traces, 1 spans, ")
        assert secret not in repr(dead_letter)
        assert "content" not in repr(dead_letter)
        assert (
            dead_letter.dead_letter_id
            == f"send:otlp:{dead_letter.topic}:{dead_letter.partition}:{dead_letter.offset}"
        )
        assert dead_letter.attempts > 1


def test_partial_success_counts_as_delivered_and_is_not_sent_again(bench: Bench) -> None:
    bench.enricher.write(events(90))
    with ScriptedReceiver(lambda n, _: Answer(rejected=4, message="too old") if n == 1 else OK) as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint)
        with Running(settings, "otlp", until_caught_up=True) as sink:
            sink.join()
        assert set(receiver.stored.values()) == {1}
    bench.assert_settled("otlp", delivered=90, rejected_unidentified=4, dead_lettered=0, retried=0)


def test_401_pauses_without_dead_letters_until_it_is_fixed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    written = bench.enricher.write(events(300))
    with ScriptedReceiver(lambda n, _: Answer(401)) as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint, max_records=20)
        with Running(settings, "otlp") as sink:
            sink.until(lambda s: "unauthorized" in s.paused and s.requests >= 6, "paused and probing")
            assert sink.sink.status().counts.delivered == 0
            assert all(offset == 0 for offset, _ in bench.committed("otlp").values())
            receiver.plan = lambda n, _: OK
            sink.until(delivered(300), "all delivered once it works")
            assert sink.sink.status().paused == ""
        assert receiver.stored == dict.fromkeys(ids(written), 1)
    bench.assert_settled("otlp", delivered=300, dead_lettered=0)
    assert bench.dead_letters() == []
    said = [r.getMessage() for r in caplog.records if "is paused" in r.getMessage()]
    assert len(said) == 1
    assert "see endpoint, api_key, headers in [sinks.otlp]" in said[0]


def test_what_cannot_be_read_or_mapped_is_dead_lettered_alone(bench: Bench) -> None:
    first = bench.enricher.write(events(30))
    e = bench.enricher
    good = e.raw(make_event(100), e.sequences[1])
    far = make_event(101, started_at=-5, ended_at=-5)
    e.write_raw(
        1,
        [
            Raw(b"k1", b"garbage", good.headers),  # takes the next number
            Raw(b"k2", good.value, [(HEADER, b"garbage")]),  # has no number
            Raw(None, None, []),
            e.raw(far, e.sequences[1] + 1),
            e.raw(make_event(102, kind=Kind.MESSAGE, node_execution=None), e.sequences[1] + 2),
            e.raw(make_event(103), e.sequences[1] + 3),
        ],
    )
    e.sequences[1] += 4
    with ScriptedReceiver() as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint)
        with Running(settings, "otlp", until_caught_up=True) as sink:
            sink.join()
        assert receiver.stored == dict.fromkeys(ids(first) | {"event-103"}, 1)
    bench.assert_settled("otlp", delivered=31, filtered=1, dead_lettered=4, unnumbered=2)
    dead_letters = sorted(bench.dead_letters(), key=lambda pair: pair[1].offset)
    assert [(x.stage, x.reason, x.event_id, x.sequence, x.raw, key) for key, x in dead_letters] == [
        ("decode", "bad_magic", None, 10, b"garbage", b"k1"),
        (
            "decode",
            "bad_magic",
            "event-100",
            None,
            None,
            b"run-10",
        ),  # only its context cannot be read: no content here
        ("decode", "empty", None, None, None, None),
        ("map", "time_out_of_range", "event-101", 11, None, b"run-10"),
    ]


def test_a_gap_in_the_numbers_is_a_loss_that_stays_visible(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.enricher.write(events(10), partition=0)
    bench.enricher.sequences[0] += 3
    bench.enricher.write(events(10, 10), partition=0)
    with ScriptedReceiver() as receiver:
        with Running(
            bench.with_sink("otlp", endpoint=receiver.endpoint), "otlp", until_caught_up=True
        ) as sink:
            sink.join()
        assert sink.sink.status().counts.gaps == 3
    ledger = bench.committed("otlp")[0][1]
    assert (ledger.last, ledger.delivered, ledger.gaps, ledger.balanced()) == (22, 20, 3, False)
    assert any("has sequence number 13, expected 10" in r.getMessage() for r in caplog.records)


def test_an_offset_out_of_range_stops_the_sink(bench: Bench) -> None:
    bench.enricher.write(events(30))
    with ScriptedReceiver() as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint)
        with Running(settings, "otlp", until_caught_up=True) as sink:
            sink.join()
        bench.enricher.write(events(60, 30))
        admin = AdminClient({"bootstrap.servers": bench.bootstrap})
        deleted = admin.delete_records([TopicPartition(bench.names.enriched, 1, bench.ends()[1])])
        for future in deleted.values():
            future.result(10)
        with Running(settings, "otlp") as sink:
            sink.join()
        assert isinstance(sink.error, OffsetLost)
        assert f"{bench.names.enriched}[1]" in str(sink.error)
        assert "--bootstrap-server <kafka.bootstrap_servers> --reset-offsets" in str(sink.error)
        assert sink.sink.status().state == "failed"


def test_a_slow_partition_holds_back_neither_the_others_nor_more_than_its_bound(bench: Bench) -> None:
    """Most in flight: one batch being sent, one complete batch, and what one fetch adds."""
    slow = {f"event-{i}" for i in range(0, 6000, 3)}  # all of partition 0
    bench.enricher.write(events(6000))
    with ScriptedReceiver(lambda n, found: Answer(what="hang") if slow & set(found) else OK) as receiver:
        settings = bench.with_sink(
            "otlp", {"drain_seconds": 0.5}, endpoint=receiver.endpoint, max_records=100
        )
        with Running(settings, "otlp") as sink:
            sink.until(delivered(4000), "the other partitions are done")
            status = sink.sink.status()
        assert status.in_flight <= 2 * 100 + FETCH
        assert not slow & set(receiver.stored)
    assert {p for p, (offset, _) in bench.committed("otlp").items() if offset == 0} == {0}


def test_a_hanging_sink_keeps_its_partitions_past_the_poll_interval(bench: Bench) -> None:
    bench.enricher.write(events(300))
    with ScriptedReceiver(lambda n, _: Answer(503)) as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint, max_records=20)
        client = {
            "max.poll.interval.ms": "7000",
            "session.timeout.ms": "6000",
            "heartbeat.interval.ms": "500",
        }
        settings = bench.with_client(settings, client)
        with Running(settings, "otlp") as sink:
            began = time.monotonic()
            sink.until(lambda s: time.monotonic() - began > 9, "longer than max.poll.interval.ms")
            assert sink.sink.status().partitions == 3
            receiver.plan = lambda n, _: OK
            sink.until(delivered(300), "all delivered")
        assert set(receiver.stored.values()) == {1}
    bench.assert_settled("otlp", delivered=300)


def test_a_restart_after_a_kill_goes_on_from_the_committed_ledger(bench: Bench) -> None:
    """What was sent and not committed is sent again, and counted once."""
    written = bench.enricher.write(events(600))
    with ScriptedReceiver(lambda n, _: Answer(what="store")) as receiver:
        endpoint = f"sinks.otlp.endpoint={receiver.endpoint}"
        with bench.tailrace("connect", "otlp", "--set", endpoint, name="killed") as child:
            wait_until(
                lambda: len(receiver.requests) == 3, 40, "a batch of each partition is stored", alive=(child,)
            )
            child.sigkill()
        assert [(offset, ledger.last) for offset, ledger in bench.committed("otlp").values()] == [(0, -1)] * 3
        again = set(receiver.stored)
        receiver.plan = lambda n, _: OK
        with Running(
            bench.with_sink("otlp", endpoint=receiver.endpoint), "otlp", until_caught_up=True
        ) as sink:
            sink.join()
        assert receiver.stored == {i: 2 if i in again else 1 for i in ids(written)}
    bench.assert_settled("otlp", delivered=600)


def test_nothing_is_committed_past_a_dead_letter_that_cannot_be_written(bench: Bench) -> None:
    admin = AdminClient({"bootstrap.servers": bench.bootstrap})
    with ScriptedReceiver(lambda n, found: Answer(400) if "event-10" in found else OK) as receiver:
        settings = bench.with_sink("otlp", {"drain_seconds": 1.0}, endpoint=receiver.endpoint)
        with Running(settings, "otlp") as sink:
            sink.until(lambda s: s.state == "running", "it has seen the topics")
            for future in admin.delete_topics([bench.names.dead_letters], operation_timeout=10).values():
                future.result(10)
            bench.enricher.write(events(60))
            sink.until(delivered(40), "the other partitions are done")
        ledgers = bench.committed("otlp")
        assert ledgers[1][1].last < 3
        assert ledgers[1][1].dead_lettered == 0
        assert ledgers[0][1].delivered == ledgers[2][1].delivered == 20


def config_of(bench: Bench, **sink: Any) -> Callable[[], Settings]:
    """Settings that are read again each time, as `tailrace connect` does."""
    waits = msgspec.structs.replace(bench.settings.schemas, wait_seconds=3.0)
    return lambda: msgspec.structs.replace(bench.with_sink("otlp", **sink), schemas=waits)


def reloading(read: Callable[[], Settings], **options: Any) -> Running:
    """A sink whose settings can change."""
    return Running(read(), "otlp", read, **options)


def test_a_wrong_key_stops_the_sink_until_its_file_is_fixed(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, right = "wr0ng-key", "r1ght-key"
    path = tmp_path / "key"
    path.write_text(wrong)
    written = bench.enricher.write(events(300))

    def plan(n: int, found: list[str]) -> Answer:
        given = receiver.headers[-1]["authorization"]
        return OK if given == f"Bearer {right}" else Answer(401, message=f"unknown key {given}")

    with ScriptedReceiver(plan) as receiver:
        authorities = ssl.get_default_verify_paths().cafile  # so that the reload reads a CA file too
        read = config_of(bench, endpoint=receiver.endpoint, api_key_file=str(path), ca_file=authorities)
        with reloading(read) as sink:
            sink.until(lambda s: "unauthorized" in s.paused and s.requests >= 4, "paused and probing")
            said = sink.sink.status().paused
            assert said.endswith("unknown key Bearer ***; see endpoint, api_key, headers in [sinks.otlp]")
            path.unlink()
            sink.until(lambda s: "are not valid" in caplog.text, "it says that the settings are wrong")
            path.write_text(right + "\n")
            sink.until(delivered(300), "all delivered with the new key")
            assert sink.sink.status().paused == ""
        assert receiver.stored == dict.fromkeys(ids(written), 1)
    bench.assert_settled("otlp", delivered=300, dead_lettered=0)
    assert bench.dead_letters() == []
    assert "sinks.otlp.api_key_file: No such file" in caplog.text
    assert wrong not in caplog.text
    assert right not in caplog.text


def test_400_to_everything_stops_at_the_limit_and_loses_nothing_more(bench: Bench) -> None:
    written = bench.enricher.write(events(900))
    with ScriptedReceiver(lambda n, _: Answer(400, message="the project is gone")) as receiver:
        settings = bench.with_sink("otlp", endpoint=receiver.endpoint, dead_letter_consecutive=20)
        with Running(settings, "otlp") as sink:
            sink.until(lambda s: "dead-letter limit" in s.paused and s.requests >= 60, "paused and probing")
            said = sink.sink.status().paused
            assert "20 dead letters in a row (dead_letter_consecutive)" in said
            assert "the project is gone" in said
            receiver.plan = lambda n, _: OK
            sink.until(delivered(880), "the others are delivered once it is fixed")
        dead_lettered = {str(dead_letter.event_id) for _, dead_letter in bench.dead_letters()}
        assert len(dead_lettered) == 20
        assert receiver.stored == dict.fromkeys(ids(written) - dead_lettered, 1)
        assert in_order(receiver.order)
    bench.assert_settled("otlp", delivered=880, dead_lettered=20)


def test_a_mapping_that_fails_for_all_stops_the_sink_too(bench: Bench) -> None:
    far = [make_event(i, started_at=-5, ended_at=-5) for i in range(60)]  # before 1970: OTLP has no such time
    bench.enricher.write(far)
    limit: dict[str, Any] = {"dead_letter_consecutive": 7}

    def read() -> Settings:
        return config_of(bench, endpoint=receiver.endpoint, **limit)()

    with ScriptedReceiver() as receiver, reloading(read) as sink:
        sink.until(lambda s: "dead-letter limit" in s.paused, "paused")
        sink.until(lambda s: s.counts.dead_lettered == 7, "as many as are allowed")
        assert "time_out_of_range" in sink.sink.status().paused
        limit["dead_letter_consecutive"] = 0  # as if someone had looked at them: all are bad
        limit["dead_letter_ratio"] = 0
        sink.until(lambda s: s.counts.dead_lettered == 60, "all of them")
    bench.assert_settled("otlp", delivered=0, dead_lettered=60)


def test_a_stop_does_not_wait_for_a_sink_that_is_paused(bench: Bench) -> None:
    bench.enricher.write(events(300))
    with ScriptedReceiver(lambda n, _: Answer(401)) as receiver:
        settings = bench.with_sink("otlp", {"drain_seconds": 3000.0}, endpoint=receiver.endpoint)
        with Running(settings, "otlp") as sink:
            sink.until(lambda s: "unauthorized" in s.paused, "paused")
    assert all(offset == 0 for offset, _ in bench.committed("otlp").values())


def test_a_stop_ends_every_other_wait_at_its_deadline(bench: Bench) -> None:
    """The sink waits for a rate of one batch in ten minutes, and for a Retry-After of five."""
    bench.enricher.write(events(300))
    with ScriptedReceiver(lambda n, _: Answer(429, {"Retry-After": "300"})) as receiver:
        rates = {"events_per_minute": 10, "requests_per_minute": 1}
        settings = bench.with_sink("otlp", {"drain_seconds": 0.5}, endpoint=receiver.endpoint, **rates)
        with Running(settings, "otlp") as sink:
            sink.until(lambda s: s.requests >= 1 and s.in_flight == 300, "it waits")
        assert len(receiver.requests) <= 3
    assert all(offset == 0 for offset, _ in bench.committed("otlp").values())


def test_an_unknown_schema_holds_its_partition_until_it_is_known_and_else_for_its_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "known", schemas.Resolver())
    e = bench.enricher
    first = e.write(events(30))

    def strange(i: int, partition: int, fingerprint: bytes) -> Raw:
        raw = e.raw(make_event(i), e.sequences[partition])
        e.sequences[partition] += 1
        assert raw.value is not None
        return Raw(raw.key, wire.MARKER + fingerprint + raw.value[wire.BODY :], raw.headers)

    e.write_raw(1, [strange(100, 1, b"comes in")])
    e.write_raw(2, [strange(101, 2, b"not ever"), strange(102, 2, b"not ever")])
    later = e.write(events(30, 200))
    with ScriptedReceiver() as receiver:
        with reloading(config_of(bench, endpoint=receiver.endpoint)) as sink:
            sink.until(delivered(40), "partition 0 is done, and what came before in the others")
            sink.until(lambda s: s.in_flight == 23, "two partitions wait")
            schemas.known.add(
                wire.MARKER + b"comes in", schemas.Known("TraceEvent", schemas.current("TraceEvent"))
            )
            sink.until(lambda s: s.counts.delivered == 61 and s.counts.dead_lettered == 2, "all is settled")
        assert receiver.stored == dict.fromkeys(ids(first + later) | {"event-100"}, 1)
    bench.assert_settled("otlp", delivered=61, dead_lettered=2)
    dead_letters = bench.dead_letters()
    assert [(x.stage, x.reason, x.partition) for _, x in dead_letters] == [
        ("decode", "unknown_schema", 2)
    ] * 2
    assert all(x.raw and b"not ever" in x.raw for _, x in dead_letters)


def test_a_static_member_comes_back_to_its_partitions(bench: Bench) -> None:
    written = bench.enricher.write(events(90))
    with ScriptedReceiver() as receiver:
        settings = bench.with_sink("otlp", {"instance_id": "host-1"}, endpoint=receiver.endpoint)
        for n in (90, 30):
            with Running(settings, "otlp") as sink:
                sink.until(delivered(n), "delivered")
                if n == 90:
                    group = settings.connect.group_prefix + "otlp"
                    admin = AdminClient({"bootstrap.servers": bench.bootstrap})
                    [member] = admin.describe_consumer_groups([group])[group].result(10).members
                    assert member.group_instance_id == "host-1"
            if n == 90:
                written += bench.enricher.write(events(30, 90))
        assert receiver.stored == dict.fromkeys(ids(written), 1)
    bench.assert_settled("otlp", delivered=120)
