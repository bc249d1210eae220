"""Telemetry of `tailrace connect`: requests, batches, metrics, health, spans, and a scraped process."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from connectors.consumer.sink_supervisor import SinkSupervisor
from connectors.consumer.status import REASONS, SinkCounts, Status, pause_class
from connectors.delivery.batch_sender import BatchSender
from connectors.delivery.observer import Delivery, Observer, Request, outcome_of
from connectors.delivery.sub_batches import RecordResult
from connectors.observe.health import observing, pages, unhealthy, unready
from connectors.observe.telemetry import Telemetry, spans
from connectors.sdk.contract import Batch, Item, Payload, RecordOrigin
from connectors.sdk.outcomes import Delivered, Filtered, Outcomes, Paused, Rejected, Retry, Split
from tailrace.errors import ConfigError
from tailrace.ledger.sink_ledger import Tally
from tailrace.records import Kind
from tailrace.settings import Connect
from tests.connectors.conftest import Bench
from tests.connectors.enriching import make_event
from tests.connectors.scripted import OK, Answer, ScriptedReceiver
from tests.harness.processes import Child, wait_until

Samples = dict[tuple[str, str | None, str | None], float]
"""Name, sink, and reason or outcome -> value."""


def samples(text: str) -> Samples:
    return {
        (
            s.name.removeprefix("tailrace_connect_"),
            s.labels.get("sink"),
            s.labels.get("reason") or s.labels.get("outcome"),
        ): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if "le" not in s.labels
    }


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def batch(n: int, size: int = 10) -> Batch:
    return Batch(
        tuple(Item(Payload(b"x", size), RecordOrigin("trace.enriched", 1, 7 + i, 0)) for i in range(n))
    )


class Ticking:
    """A clock that is one second later at each call."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Scripted:
    """A sink that gives these answers."""

    rates = "the sink's own"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def send(self, found: Batch, http: Any) -> Outcomes:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        outcomes: Outcomes = answer
        return outcomes


async def no_sleep(seconds: float) -> None:
    pass


def delivered(observer: Observer, sink: Any, found: Batch) -> list[RecordResult]:
    http: Any = None
    sender = BatchSender("acme", observer.timed(sink), http, sleep=no_sleep, random=lambda: 0.0)
    return asyncio.run(observer.delivering(found, sender.deliver))


def test_every_request_and_every_batch_is_reported_once() -> None:
    observer = Observer(Ticking())
    requests: list[Request] = []
    deliveries: list[Delivery] = []
    observer.on_request, observer.on_delivery = requests.append, deliveries.append
    sink = Scripted(Retry(), OSError(), Rejected("bad"), Delivered(), Rejected("bad"))
    delivered(observer, sink, batch(2))
    assert requests == [
        Request(2, 20, 1.0, "retry"),
        Request(2, 20, 1.0, "failed"),
        Request(2, 20, 1.0, "rejected"),
        Request(1, 10, 1.0, "delivered"),
        Request(1, 10, 1.0, "rejected"),
    ]
    assert deliveries == [Delivery(1, 7, 2, 20, 11.0, 4, 1)]
    assert observer.in_flight == 0


def test_a_listener_that_fails_ends_nothing_and_the_sink_is_still_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(what: object) -> None:
        raise RuntimeError

    observer = Observer()
    observer.on_request = observer.on_delivery = fails
    assert [s.verdict for s in delivered(observer, Scripted(Delivered()), batch(1))] == [Delivered()]
    assert caplog.messages == [
        "the telemetry listener failed for a Request",
        "the telemetry listener failed for a Delivery",
    ]
    wrapped: Any = observer.timed(Scripted())  # type: ignore[arg-type]
    assert wrapped.rates == "the sink's own"


@pytest.mark.parametrize(
    ("outcomes", "name"),
    [
        (Delivered(), "delivered"),
        (Filtered("x"), "filtered"),
        (Retry(), "retry"),
        (Split(), "split"),
        (Paused("x"), "paused"),
        ([Delivered(), Delivered()], "delivered"),
        ([Delivered(), Retry()], "mixed"),
        (None, "failed"),
    ],
)
def test_outcomes_have_few_names(outcomes: Any, name: str) -> None:
    assert outcome_of(outcomes) == name


@pytest.mark.parametrize(
    ("paused", "name"),
    [
        ("unauthorized (status 401): key sk-1", "unauthorized"),
        ("quota", "quota"),
        ("Free text", "other"),
        ("x" * 60, "other"),
    ],
)
def test_what_a_vendor_says_is_not_a_label(paused: str, name: str) -> None:
    assert pause_class(paused) == name


def test_reasons_are_bounded() -> None:
    counts = SinkCounts()
    for i in range(REASONS + 20):
        counts.add(Tally(filtered=2), {("filtered", f"r{i}"): 2})
    assert len(counts.filtered_by) == REASONS + 1
    assert counts.filtered_by["other"] == 40
    assert sum(counts.filtered_by.values()) == counts.filtered
    copy = counts.copy()
    counts.add(Tally(filtered=1), {("filtered", "r0"): 1})
    assert copy.filtered_by["r0"] == 2


# -- metrics and health, from fake sinks
class FakeSink:
    def __init__(self, name: str = "acme", **changes: Any) -> None:
        self.name, self.observer, self.joined = name, Observer(), True
        self.changes: dict[str, Any] = changes
        self.old: int | None = None
        self.still = 0.0

    def status(self) -> Status:
        fields: dict[str, Any] = {
            "sink": self.name,
            "state": "running",
            "partitions": 3,
            "lag": 5,
            "in_flight": 4,
            "counts": SinkCounts(),
            "requests": 6,
            "retrying": 1,
            "paused": "",
            "error": "",
        }
        return Status(**(fields | self.changes))

    def oldest(self) -> int | None:
        return self.old

    def silent(self) -> float:
        return self.still


def as_sinks(*fakes: FakeSink) -> list[SinkSupervisor]:
    found: list[Any] = list(fakes)
    return found


@pytest.fixture
def fake() -> FakeSink:
    return FakeSink()


@pytest.fixture
def telemetry(fake: FakeSink) -> Iterator[Telemetry]:
    measuring = Telemetry([fake, FakeSink("other", lag=-1)], "host-1", {})
    yield measuring
    measuring.close()


def scrape(telemetry: Telemetry) -> Samples:
    return samples(telemetry.metrics()[1].decode())


def test_metrics_are_those_of_the_status(telemetry: Telemetry, fake: FakeSink) -> None:
    counts = SinkCounts(read=20, delivered=7, filtered=5, dead_lettered=2, retried=3, gaps=1, repeated=4)
    counts.filtered_by, counts.dead_lettered_by = {"tenant": 2, "sampled_out": 3}, {"too_large": 2}
    fake.changes, fake.observer.in_flight = {"counts": counts, "paused": "quota: pay!"}, 2
    found = scrape(telemetry)
    of = {(name, reason): v for (name, sink, reason), v in found.items() if sink == "acme"}
    assert (of["read_total", None], of["delivered_total", None], of["retried_total", None]) == (20, 7, 3)
    assert (of["filtered_total", "tenant"], of["filtered_total", "sampled_out"]) == (2, 3)
    assert of["dead_lettered_total", "too_large"] == 2
    assert (of["lost_total", None], of["repeated_total", None], of["requests_total", None]) == (1, 4, 6)
    assert (of["partitions", None], of["in_flight", None], of["batches", None], of["retrying", None]) == (
        3,
        4,
        2,
        1,
    )
    assert (of["lag", None], of["oldest_age_seconds", None], of["up", None], of["paused", "quota"]) == (
        5,
        0,
        1,
        1,
    )
    assert ("lag", "other", None) not in found, "a lag of -1 is not known"
    assert found["paused", "other", None] == 0
    fake.old = 1000
    assert scrape(telemetry)["oldest_age_seconds", "acme", None] > 1e9


def test_histograms_are_by_sink_and_outcome(telemetry: Telemetry, fake: FakeSink) -> None:
    fake.observer.on_request(Request(3, 300, 0.5, "retry"))
    fake.observer.on_request(Request(3, 300, 0.25, "delivered"))
    fake.observer.on_delivery(Delivery(0, 0, 3, 300, 2.0, 2, 0))
    found = scrape(telemetry)
    assert found["request_duration_seconds_sum", "acme", "retry"] == 0.5
    assert found["request_duration_seconds_count", "acme", "delivered"] == 1
    assert (found["request_records_sum", "acme", None], found["request_bytes_sum", "acme", None]) == (6, 600)
    assert found["batch_duration_seconds_sum", "acme", None] == 2.0
    assert ("batch_duration_seconds_sum", "other", None) not in found


def test_retried_and_rejected_batches_have_spans_and_some_of_the_others() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    also: list[Delivery] = []
    listener = spans(provider.get_tracer("t"), "acme", 10, also.append)
    for i in range(25):
        listener(Delivery(0, i, 5, 50, 0.5, 1, 0))
    listener(Delivery(0, 100, 5, 50, 0.5, 3, 0))
    listener(Delivery(0, 101, 5, 50, 0.5, 1, 2))
    found = [dict(s.attributes or {}) for s in kept.get_finished_spans()]
    assert [a["tailrace.offset"] for a in found] == [0, 10, 20, 100, 101]
    assert [a["tailrace.outcome"] for a in found] == ["delivered"] * 4 + ["rejected"]
    assert found[3]["tailrace.attempts"] == 3
    last = kept.get_finished_spans()[-1]
    assert (last.end_time or 0) - (last.start_time or 0) == 500_000_000
    assert not last.status.is_ok
    assert len(also) == 27


def test_health_is_of_the_process_and_readiness_of_every_sink(fake: FakeSink) -> None:
    runners = as_sinks(fake, FakeSink("other"))
    assert (unhealthy(runners, 20), unready(runners, 20)) == ([], [])
    fake.still = 130
    assert unhealthy(runners, 20) == []
    fake.still = 141
    assert unhealthy(runners, 20) == unready(runners, 20) == ["acme: its consumer loop has not run for 141 s"]
    fake.still = 0
    for state in ("waiting", "stopping", "failed"):
        fake.changes = {"state": state}
        assert unhealthy(runners, 20) == []
        assert len(unready(runners, 20)) == 1
    fake.changes = {"paused": "unauthorized (status 401): secret"}
    assert unready(runners, 20) == ["acme: paused (unauthorized)"]
    fake.joined = False
    assert unready(runners, 20) == ["acme: joining the group"]
    status, _, body = pages(runners, 20, None)["/readyz"]()
    assert (status, json.loads(body)["sinks"]) == (503, {"acme": "running", "other": "running"})
    assert "/metrics" not in pages(runners, 20, None)


def test_a_taken_port_is_replaced_by_the_next_free_one(
    fake: FakeSink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = Connect()
    with observing(settings, as_sinks(fake), {}), observing(settings, as_sinks(FakeSink("b")), {}):
        urls = [m.partition("healthz")[0] for m in caplog.messages if "healthz, readyz, metrics" in m]
        assert len(set(urls)) == 2
        for url, name in zip(urls, ("acme", "b"), strict=True):
            assert json.loads(get(f"{url}healthz")[1])["sinks"] == {name: "running"}
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(urls[0], timeout=5)


def test_switched_off_nothing_listens_and_a_foreign_host_is_a_wrong_setting(
    fake: FakeSink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with observing(Connect(http_port=0), as_sinks(fake), {}):
        assert caplog.messages == []
    with (
        pytest.raises(ConfigError, match=r"connect\.http_host"),
        observing(Connect(http_host="192.0.2.1"), as_sinks(fake), {}),
    ):
        pass


def test_without_the_sdk_the_probes_still_answer(
    fake: FakeSink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "connectors.observe.telemetry", None)
    caplog.set_level("INFO")
    with observing(Connect(), as_sinks(fake), {}):
        assert "pip install 'tailrace[connectors]'" in caplog.text
        url = next(m for m in caplog.messages if m.startswith("http://")).partition("healthz")[0]
        assert (get(f"{url}readyz")[0], get(f"{url}metrics")[0]) == (200, 404)


# -- a real process
def url_of(child: Child) -> str:
    said = "healthz, readyz, metrics"
    wait_until(lambda: said in child.output(), 60, "it says where", alive=(child,))
    return "http://" + child.output().partition(said)[0].rpartition("http://")[2]


@pytest.mark.kafka
def test_a_running_connector_is_scraped_and_its_numbers_are_the_ledgers(bench: Bench) -> None:
    e = bench.enricher
    e.write([make_event(i) for i in range(300)])
    e.write([make_event(i, tenant_id="other") for i in range(300, 330)])
    e.write([make_event(i, kind=Kind.MESSAGE, node_execution=None) for i in range(330, 345)])
    e.write([make_event(345, started_at=-5, ended_at=-5)])
    tried: list[int] = []

    def plan(n: int, found: list[str]) -> Answer:
        tried.append(n)
        return Answer(503) if n == 1 else OK

    with ScriptedReceiver(plan) as receiver:
        table = {"endpoint": receiver.endpoint, "tenants": "!other", "max_records": "50", "content": "none"}
        flags = [word for k, v in table.items() for word in ("--set", f"sinks.otlp.{k}={v}")]
        with bench.tailrace("connect", "otlp", *flags, name="connect") as child:
            url = url_of(child)

            def all_settled() -> Samples | None:
                found = samples(get(f"{url}metrics")[1])
                done = (
                    found.get(("delivered_total", "otlp", None)) == 300
                    and found.get(("lag", "otlp", None)) == 0
                )
                return (
                    found
                    if done and found.get(("dead_lettered_total", "otlp", "time_out_of_range")) == 1
                    else None
                )

            found = wait_until(all_settled, 60, "all is settled", alive=(child,))
            assert found is not None
            assert get(f"{url}healthz") == (200, '{"ok":true,"reasons":[],"sinks":{"otlp":"running"}}\n')
            assert get(f"{url}readyz")[0] == 200
            assert child.sigterm(60) == 0, child.tail()
    of = {(name, reason): v for (name, sink, reason), v in found.items() if sink == "otlp"}
    assert (of["read_total", None], of["up", None], of["paused", None]) == (346, 1, 0)
    assert (of["filtered_total", "tenant"], of["filtered_total", "log_only"]) == (30, 15)
    assert (of["in_flight", None], of["batches", None], of["oldest_age_seconds", None]) == (0, 0, 0)
    assert of["requests_total", None] == len(tried)
    assert of["request_duration_seconds_count", "retry"] == 1
    assert of["request_duration_seconds_count", "delivered"] == len(tried) - 1
    ledgers = [ledger for _, ledger in bench.committed("otlp").values()]
    for name in ("delivered", "filtered", "dead_lettered", "retried"):
        exported = sum(v for (n, _), v in of.items() if n == f"{name}_total")
        assert exported == sum(getattr(x, name) for x in ledgers), name
    assert of["retried_total", None] > 0
    bench.assert_settled("otlp", delivered=300, filtered=45, dead_lettered=1)


@pytest.mark.kafka
def test_a_paused_sink_is_not_ready_and_says_why_in_a_word(bench: Bench) -> None:
    bench.enricher.write([make_event(i) for i in range(30)])
    with ScriptedReceiver(lambda n, _: Answer(401, message="key sk-123456 is wrong")) as receiver:
        endpoint = f"sinks.otlp.endpoint={receiver.endpoint}"
        with bench.tailrace("connect", "otlp", "--set", endpoint, name="connect") as child:
            url = url_of(child)
            wait_until(lambda: "paused" in get(f"{url}readyz")[1], 60, "it is paused", alive=(child,))
            status, body = get(f"{url}readyz")
            assert (status, json.loads(body)["reasons"]) == (503, ["otlp: paused (unauthorized)"])
            assert get(f"{url}healthz")[0] == 200
            text = get(f"{url}metrics")[1]
            found = samples(text)
            assert found["paused", "otlp", "unauthorized"] == 1
            assert found["oldest_age_seconds", "otlp", None] > 0
            assert found["in_flight", "otlp", None] == 30
            assert "sk-123456" not in text + body
            receiver.plan = lambda n, _: OK
            wait_until(lambda: get(f"{url}readyz")[0] == 200, 60, "it works again", alive=(child,))
            assert child.sigterm(60) == 0, child.tail()
