"""Metrics and spans of a worker."""

from __future__ import annotations

import gzip
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from streams.observe.observed import COUNTS, Ends, Observed
from streams.observe.telemetry import SERVICE, Telemetry
from tailrace.broker import Broker
from tailrace.observe import telemetry
from tailrace.observe.telemetry import exported, resource
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until
from tests.streams.observe.observing import partition, worker
from tests.streams.observe.test_health import get
from tests.streams.runtime.publishing import publish

Samples = dict[tuple[str, str | None], float]
"""Name and partition -> value."""


def samples(text: str) -> Samples:
    return {
        (s.name.removeprefix("tailrace_streams_"), s.labels.get("partition")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if "le" not in s.labels
    }


@pytest.fixture
def measured() -> Iterator[tuple[Observed, Telemetry]]:
    seen, _ = worker(partition(0, 30, events_in=30, enriched=29, duplicates=1), partition(1))
    measuring = Telemetry(seen, "host-0", {})
    yield seen, measuring
    measuring.close()


def scrape(measuring: Telemetry) -> Samples:
    return samples(measuring.metrics()[1].decode())


def commit(seen: Observed, p: Any, *times: float) -> None:
    """A transaction of the partition has been committed."""
    done = SimpleNamespace(cancelled=lambda: False, exception=lambda: None, result=lambda: times)
    seen.closing(p, SimpleNamespace(records=20))(done)


def test_counts_are_those_of_committed_transactions(measured: tuple[Observed, Telemetry]) -> None:
    """What is not committed is applied again after a crash.

    A counter that included it would go back.
    """
    seen, measuring = measured
    p = partition(0, 30, events_in=30)
    assert scrape(measuring)["events_in_total", "0"] == 30
    p.state.events_in, p.state.next_offset = 50, 55
    assert scrape(measuring)["events_in_total", "0"] == 30
    commit(seen, p, 0.25, 0.5)
    found = scrape(measuring)
    assert (found["events_in_total", "0"], found["next_offset", "0"]) == (50, 55)
    assert (found["commit_produce_seconds_sum", None], found["commit_commit_seconds_sum", None]) == (
        0.25,
        0.5,
    )
    assert (found["commit_records_sum", None], found["commit_records_count", None]) == (20, 1)


def test_a_failed_commit_counts_nothing(measured: tuple[Observed, Telemetry]) -> None:
    seen, measuring = measured
    p = partition(0, 99, events_in=99)
    failed = SimpleNamespace(cancelled=lambda: False, exception=RuntimeError)
    seen.closing(p, SimpleNamespace(records=1))(failed)
    assert scrape(measuring)["events_in_total", "0"] == 30


def test_gauges(measured: tuple[Observed, Telemetry]) -> None:
    seen, measuring = measured
    seen.ends, seen.lags = {0: Ends(35, 44)}, {0: 5}
    found = scrape(measuring)
    assert (found["end_offset", "0"], found["lag", "0"], found["unstable", "0"]) == (44, 5, 9)
    assert ("lag", "1") not in found, "its end is not known"
    assert (found["owned_partitions", None], found["ready", None]) == (2, 1)
    assert (found["open_traces", "1"], found["remembered_events", "1"], found["remembered_links", "1"]) == (
        0,
        0,
        0,
    )
    assert found["process_start_time_seconds", None] > 0


def test_the_series_of_a_partition_end_when_it_moves(measured: tuple[Observed, Telemetry]) -> None:
    seen, measuring = measured
    assert ("enriched_total", "1") in scrape(measuring)
    del seen._owner.partitions[1]
    assert "1" not in {partition for _, partition in scrape(measuring)}


def test_simultaneous_scrapes_are_each_complete(measured: tuple[Observed, Telemetry]) -> None:
    _, measuring = measured
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(measuring.metrics()[1].decode())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text.count("# TYPE tailrace_streams_next_offset gauge") for text in texts] == [1] * 8


def test_an_error_in_telemetry_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen, _ = worker(partition(0))

    def fails(what: object) -> None:
        raise RuntimeError

    seen.on_commit = seen.on_take_over = fails
    commit(seen, partition(0), 0.1, 0.1)
    seen.took_over([partition(0)], 0.0, 0.0, 0)
    assert caplog.messages == ["telemetry of Commit", "telemetry of TakeOver"]


# -- OpenTelemetry's variables
@pytest.mark.parametrize(
    ("env", "metrics", "traces"),
    [
        ({}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_METRICS_EXPORTER": "none"}, False, True),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_TRACES_EXPORTER": "console,otlp"},
            True,
            True,
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_SDK_DISABLED": "true"}, False, False),
    ],
)
def test_what_is_exported(env: dict[str, str], metrics: bool, traces: bool) -> None:
    assert (exported("METRICS", env), exported("TRACES", env)) == (metrics, traces)


def test_the_service_has_a_name_unless_the_variables_give_another(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resource(SERVICE, "host-0", {}).attributes
    assert (found["service.name"], found["service.instance.id"]) == ("tailrace-streams", "host-0")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    found = resource(SERVICE, "host-0", {"OTEL_SERVICE_NAME": "ours"}).attributes
    assert (found["service.name"], found["service.instance.id"]) == ("ours", "host-0")


def test_a_missing_exporter_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(telemetry, "_otlp_is_there", lambda: False)
    measuring = Telemetry(Observed(), "host-0", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert "pip install 'tailrace[otlp]'" in caplog.text
    measuring.close()


class Collector(ThreadingHTTPServer):
    """Keeps what it receives over OTLP/HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.traces: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), _Take)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self.server.traces.append(ExportTraceServiceRequest.FromString(body))
        else:
            self.server.metrics.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running
        running.shutdown()


def test_metrics_and_spans_go_to_the_endpoint(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    seen, _ = worker(partition(0))
    measuring = Telemetry(seen, "host-0", env)
    seen.took_over([partition(0)], 0.0, 0.0, 12)
    commit(seen, partition(0, 5), 0.25, 0.5)
    measuring.close()
    spans = {
        s.name: s
        for r in collector.traces
        for rs in r.resource_spans
        for ss in rs.scope_spans
        for s in ss.spans
    }
    assert set(spans) == {"take over", "fence", "restore", "commit"}
    assert spans["fence"].parent_span_id == spans["restore"].parent_span_id == spans["take over"].span_id
    assert spans["commit"].end_time_unix_nano - spans["commit"].start_time_unix_nano == 750_000_000
    (request,) = collector.metrics
    (of,) = request.resource_metrics
    assert {a.key: a.value.string_value for a in of.resource.attributes}["service.name"] == "tailrace-streams"
    assert {"tailrace.streams.events_in", "tailrace.streams.commit.records"} <= {
        m.name for sm in of.scope_metrics for m in sm.metrics
    }


def test_a_collector_that_is_down_delays_a_stop_by_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(telemetry, "STOP_SECONDS", 0.5)
    seen, _ = worker(partition(0))
    measuring = Telemetry(seen, "host-0", env)
    commit(seen, partition(0), 0.1, 0.1)
    done = threading.Thread(target=measuring.close)
    done.start()
    done.join(10)
    assert not done.is_alive()


# -- a real worker
def url_of(child: Child, number: int = 0) -> str:
    """The URL of the worker's server, from its log."""
    said = f"worker {number}: http://"
    wait_until(lambda: said in child.output(), 60, "it says where", alive=(child,))
    return "http://" + child.output().rpartition(said)[2].partition("healthz")[0]


def ready(child: Child, url: str) -> None:
    wait_until(lambda: get(f"{url}readyz")[0] == 200, 60, "it is ready", alive=(child,))


@pytest.mark.kafka
def test_a_worker_exports_its_metrics(broker: Broker, tmp_path: Path) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    with pipeline.process() as process:
        url = url_of(process)
        ready(process, url)
        assert get(f"{url}healthz") == (200, '{"ok":true,"reasons":[],"partitions":[0,1,2,3]}\n')
        total = publish(pipeline, range(20))
        pipeline.wait_for_enriched(total, alive=(process,))

        def all_is_exported() -> Samples | None:
            with urllib.request.urlopen(f"{url}metrics", timeout=10) as response:
                assert "version=" in response.headers["Content-Type"]
                found = samples(response.read().decode())
            lags = [v for (name, _), v in found.items() if name == "lag"]
            return found if lags == [0] * 4 and _sum(found, "end_offset") == total else None

        found = wait_until(all_is_exported, 60, "no lag, and all ends", alive=(process,))
        assert found is not None
        assert _sum(found, "events_in_total") == _sum(found, "enriched_total") == total
        assert _sum(found, "next_offset") == total
        assert _sum(found, "unstable") == 0
        assert found["commit_records_sum", None] == total
        assert found["commit_records_count", None] == _sum(found, "units_total")
        assert found["take_over_restore_seconds_count", None] >= 1
        assert (found["owned_partitions", None], found["ready", None]) == (4, 1)
        assert process.sigterm(60) == 0, process.tail()


def _sum(found: Samples, name: str) -> float:
    return sum(v for (n, _), v in found.items() if n == name)


@pytest.mark.slow
@pytest.mark.kafka
def test_a_spare_worker_is_ready_and_takes_over(broker: Broker, tmp_path: Path) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, partitions=1)
    with pipeline.process(name="first") as first:
        ready(first, url_of(first))
        with pipeline.process(name="second") as second:
            urls = [url_of(first), url_of(second)]
            assert urls[0] != urls[1]
            ready(second, urls[1])
            ready(first, urls[0])
            owned = [json.loads(get(f"{url}readyz")[1])["partitions"] for url in urls]
            assert sorted(owned) == [[], [0]]
            leaving, staying = (first, urls[1]) if owned[0] else (second, urls[0])
            total = publish(pipeline, range(5))
            pipeline.wait_for_enriched(total, alive=(first, second))
            assert leaving.sigterm(60) == 0
            rest = second if leaving is first else first
            wait_until(
                lambda: samples(get(f"{staying}metrics")[1]).get(("enriched_total", "0")) == total,
                60,
                "the counts go on where the other left them",
                alive=(rest,),
            )


@pytest.mark.slow
@pytest.mark.kafka
def test_the_end_marker_of_a_transaction_is_not_lag_and_ends_no_worker(
    broker: Broker, tmp_path: Path
) -> None:
    """The position moves past an end marker, which the watchdog must not take for a record.

    Links leave such markers.
    """
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, partitions=1)
    topic = pipeline.names.events
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "transactional.id": f"{topic}-x"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"no event", b"k", 0)
    producer.commit_transaction(30)
    env = {"TAILRACE_STREAMS_WATCHDOG_SECONDS": "8"}
    with pipeline.tailrace("process", name="process", env=env) as process:
        url = url_of(process)
        ready(process, url)

        def at_rest() -> bool:
            found = samples(get(f"{url}metrics")[1])
            names = ("dead_lettered_total", "next_offset", "end_offset", "lag")
            return [found.get((name, "0")) for name in names] == [1, 2, 2, 0]

        wait_until(at_rest, 60, "a position past the marker, and no lag", alive=(process,))
        began = time.monotonic()
        wait_until(
            lambda: time.monotonic() - began > 12,
            60,
            "longer than the watchdog's limit",
            alive=(process,),
            every=0.5,
        )
        assert at_rest()
        assert "watchdog" not in process.output(), process.tail()


@pytest.mark.kafka
def test_switched_off_nothing_listens(broker: Broker, tmp_path: Path) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    off = {"TAILRACE_STREAMS_HTTP_PORT": "0", "TAILRACE_STREAMS_WATCHDOG_SECONDS": "0"}
    with pipeline.tailrace("process", name="process", env=off) as process:
        total = publish(pipeline, range(2))
        pipeline.wait_for_enriched(total, alive=(process,))
        assert "http://" not in process.output()


def test_every_count_of_the_position_is_known() -> None:
    from streams.processing.state import FRESH

    counts = {"events_in", "enriched", "links", "duplicates", "dead_lettered", "evicted", "units"}
    assert counts <= set(COUNTS)
    assert counts <= set(FRESH.__struct_fields__)
