"""Records with stored content, on a real broker: what arrives, what waits, what is reported."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.consumer.partition import AHEAD
from connectors.consumer.reader import Reader
from connectors.content import refs
from connectors.content.fetcher import ContentFetcher
from connectors.preview.offline import processor
from tailrace import codec
from tailrace.records import Kind, TraceEvent
from tailrace.settings import Settings
from tests.connectors.conftest import PARTITIONS, Bench, Running
from tests.connectors.content.stores import FakeStore, ref_to
from tests.connectors.enriching import make_event
from tests.harness.enriched import read

pytestmark = pytest.mark.kafka

PREVIEW = '"preview"'


@pytest.fixture
def store() -> Iterator[FakeStore]:
    made = FakeStore()
    yield made
    made.release.set()


def fetcher(store: FakeStore, seconds: float) -> ContentFetcher:
    return ContentFetcher(store, seconds=seconds, cache_bytes=0, most=100_000_000)


def content(n: int) -> bytes:
    return json.dumps(f"content of {n}").encode()


def stored(n: int, tenant_id: str = "tenant", **changes: Any) -> TraceEvent:
    """An event whose inputs are in the store."""
    ref = ref_to(content(n), tenant_id=tenant_id)
    return make_event(n, **{"tenant_id": tenant_id, "inputs": PREVIEW, "content_refs": (ref,), **changes})


def inputs(path: Path) -> dict[str, str]:
    """Event id -> inputs, of a file sink's file."""
    if not path.exists():
        return {}
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert len({e["event_id"] for e in events}) == len(events)
    return {e["event_id"]: e["inputs"] for e in events}


def delivered(n: int) -> Callable[[Any], bool]:
    return lambda status: bool(status.counts.delivered >= n)


def reports(bench: Bench) -> list[tuple[int, bytes | None, TraceEvent]]:
    """Partition, key and event of everything in trace.events."""
    messages, _ = read(bench.bootstrap, bench.names.events, committed=True)
    reader = Reader(None)
    return [(m.partition(), m.key(), reader.event(m.value())) for m in messages]


def to_file(bench: Bench, name: str, **sink: Any) -> tuple[Settings, Path]:
    path = bench.folder / f"{name}.jsonl"
    return bench.with_sink(name, type="file", path=str(path), **sink), path


def test_content_comes_back_in_order_and_is_committed(bench: Bench, store: FakeStore) -> None:
    written = [stored(n) if n % 3 else make_event(n) for n in range(600)]
    for n in range(600):
        store.put("tenant", content(n))
    bench.enricher.write(written)
    settings, path = to_file(bench, "file")
    with Running(settings, "file", fetcher=fetcher(store, 30.0), until_caught_up=True) as sink:
        sink.join(120)
    assert sink.error is None
    assert inputs(path) == {
        f"event-{n}": content(n).decode() if n % 3 else '{"text": "content"}' for n in range(600)
    }
    order = [int(i.removeprefix("event-")) for i in inputs(path)]
    for p in range(3):
        assert (mine := [n for n in order if n % 3 == p]) == sorted(mine)
    bench.assert_settled("file", delivered=600, dead_lettered=0, retried=0)
    assert sink.sink.status().counts.rehydrated == 400
    assert reports(bench) == []


@pytest.mark.slow
def test_a_store_that_hangs_holds_one_partition_for_a_bounded_time(bench: Bench, store: FakeStore) -> None:
    """Other partitions go on meanwhile, also with content; the member stays in its group."""
    store.hangs = lambda tenant_id: tenant_id == "slow"
    for n in range(90):
        store.put("tenant", content(n))
    bench.enricher.write([stored(0, "slow"), make_event(3)], partition=0)
    bench.enricher.write([stored(n) for n in range(30, 60)], partition=1)
    bench.enricher.write([make_event(n) for n in range(60, 90)], partition=2)
    settings, path = to_file(bench, "file")
    began = time.monotonic()
    with Running(settings, "file", fetcher=fetcher(store, 8.0)) as sink:
        sink.until(delivered(60), "the other partitions")
        held = sink.sink.status()
        assert "event-0" not in inputs(path), "it waits still"
        assert held.in_flight == 2
        sink.until(delivered(62), "the record goes on without its content")
        assert time.monotonic() - began >= 8.0
        assert sink.sink.status().partitions == 3
    assert inputs(path)["event-0"] == PREVIEW
    assert inputs(path)["event-30"] == content(30).decode()
    bench.assert_settled("file", delivered=62)
    assert sink.sink.status().counts.incomplete_by == {refs.LATE: 1}


@pytest.mark.slow
def test_an_outage_does_not_cost_each_record_its_wait(bench: Bench, store: FakeStore) -> None:
    store.failing = True
    bench.enricher.write([stored(n) for n in range(600)])
    settings, path = to_file(bench, "file")
    with Running(settings, "file", fetcher=fetcher(store, 2.0)) as sink:
        sink.until(delivered(600), "all of them")
        store.failing = False
        store.put("tenant", content(600))
        more = [stored(600, started_at=make_event(600).started_at)]
        bench.enricher.write(more)
        sink.until(delivered(601), "one more")
    assert set(inputs(path)) == {f"event-{n}" for n in range(601)}
    assert inputs(path)["event-600"] == content(600).decode(), "the store is asked again"
    assert sink.sink.status().counts.incomplete == 600
    waited = PARTITIONS * AHEAD  # those that were looked for when the outage began
    assert len(store.asked) < 2 * waited, "later ones do not wait, and are not asked for"
    bench.assert_settled("file", delivered=601)


def test_each_failure_is_reported_once_by_all_sinks_together(bench: Bench, store: FakeStore) -> None:
    """Two sinks, and one of them a second time: the processor enriches one report for each record."""
    lost = [stored(n, workflow_run_id="run-7", trace_id="run-7") for n in range(6)]
    damaged = [stored(n) for n in (6, 7)]
    for n in (6, 7):
        store.damaged.add(store.put("tenant", content(n)))
    bench.enricher.write([*lost, *damaged])
    for name in ("one", "two", "again"):
        settings, path = to_file(bench, name)
        with Running(settings, name, fetcher=fetcher(store, 20.0), until_caught_up=True) as sink:
            sink.join(60)
        assert sink.error is None
        assert set(inputs(path).values()) == {PREVIEW}
        bench.assert_settled(name, delivered=8, dead_lettered=0)
    found = reports(bench)
    assert len(found) == 24
    assert len({(partition, key, event.event_id) for partition, key, event in found}) == 8, (
        "same ids, key and partition"
    )
    enriched = list(processor()([event for _, _, event in found]))
    assert [isinstance(out, tuple) for out in enriched].count(True) == 8
    assert enriched.count(None) == 16, "duplicates"
    event = found[0][2]
    assert event.rehydration_failed is not None
    assert (event.kind, event.tenant_id, event.rehydration_failed.payload_type) == (
        Kind.REHYDRATION_FAILED,
        "tenant",
        "node",
    )
    errors = {event.error for _, _, event in found}
    assert errors == {
        "inputs: the store does not have it",
        "inputs: what the store has is not what the event names",
    }


def test_the_report_is_shown_by_the_file_sink(bench: Bench, store: FakeStore) -> None:
    bench.enricher.write([stored(0)])
    settings, path = to_file(bench, "file")
    with Running(settings, "file", fetcher=fetcher(store, 20.0)) as sink:
        sink.until(delivered(1), "the record")
        [(_, _, event)] = reports(bench)
        bench.enricher.write([event])
        sink.until(delivered(2), "its report")
    shown = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert shown[1]["kind"] == "rehydration_failed"
    assert shown[1]["rehydration_failed"] == {"payload_type": "node", "correlation_id": "run-0"}
    assert [c["field"] for c in shown[0]["content_changes"]] == ["inputs"]


def test_a_replay_reports_nothing(bench: Bench, store: FakeStore) -> None:
    bench.enricher.write([stored(n) for n in range(3)])
    settings, path = to_file(bench, "file")
    with Running(
        settings, "file", fetcher=fetcher(store, 20.0), until_caught_up=True, report_failures=False
    ) as sink:
        sink.join(60)
    assert set(inputs(path).values()) == {PREVIEW}
    assert sink.sink.status().counts.incomplete == 3
    assert reports(bench) == []


@pytest.mark.slow
def test_a_report_that_cannot_be_written_stops_nothing(
    bench: Bench, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    for future in bench.admin.delete_topics([bench.names.events], operation_timeout=30).values():
        future.result()
    bench.enricher.write([stored(0), make_event(1)])
    settings, path = to_file(bench, "file")
    with Running(settings, "file", fetcher=fetcher(store, 20.0)) as sink:
        sink.until(delivered(2), "both")
    assert set(inputs(path)) == {"event-0", "event-1"}


def test_a_stop_while_content_is_awaited_commits_nothing_past_the_record(
    bench: Bench, store: FakeStore
) -> None:
    store.hangs = lambda tenant_id: True
    store.put("tenant", content(1))
    bench.enricher.write([make_event(0), stored(1), make_event(2)], partition=0)
    settings, path = to_file(bench, "file")
    with Running(settings, "file", fetcher=fetcher(store, 600.0)) as sink:
        sink.until(delivered(1), "the record before it")
    assert set(inputs(path)) == {"event-0"}
    store.hangs = lambda tenant_id: False
    store.release.set()
    with Running(settings, "file", fetcher=fetcher(store, 20.0), until_caught_up=True) as sink:
        sink.join(60)
    assert inputs(path) == {
        "event-0": '{"text": "content"}',
        "event-1": content(1).decode(),
        "event-2": '{"text": "content"}',
    }
    bench.assert_settled("file", delivered=3)


def test_what_was_cut_says_so(bench: Bench, store: FakeStore) -> None:
    """A record that was marked is encoded as any other."""
    bench.enricher.write([stored(0)])
    settings, path = to_file(bench, "file")
    with Running(settings, "file", fetcher=fetcher(store, 20.0), until_caught_up=True) as sink:
        sink.join(60)
    [line] = [json.loads(text) for text in path.read_text().splitlines()]
    assert line["event"]["content_changes"] == [
        {"field": "inputs", "change": "cut", "count": 0, "bytes": len(content(0))}
    ]
    assert refs.MARK in line["context"]["marks"]
    codec.encode(msgspec.structs.replace(stored(0), content_changes=()))
