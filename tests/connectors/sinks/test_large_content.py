"""A 20 MB input from a publisher through Kafka to every sink: no request exceeds the vendor's limit, and what
was cut is marked."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from connectors.content.fetcher import open_fetcher
from connectors.sdk.contract import spec_of
from tailrace import Publisher
from tailrace.broker import Broker
from tailrace.records import Kind, TraceEvent, WorkflowRun
from tailrace.settings import Content, Settings
from tests.connectors.conftest import Running
from tests.connectors.enriching import START
from tests.connectors.sinks.test_redelivery import Vendors
from tests.connectors.vendors import VENDORS
from tests.harness.pipeline import Pipeline
from tests.harness.redelivery import settled

pytestmark = pytest.mark.kafka

SIZE = 20_000_000
LINE = 'a "quoted" line\n'
INPUTS = {"query": "short", "document": LINE * (SIZE // (len(json.dumps(LINE)) - 2) + 1)}
BYTES = len(json.dumps(INPUTS, separators=(",", ":")))
RUN = TraceEvent(
    kind=Kind.WORKFLOW_RUN,
    source_id="5b0d2f0e-6c3a-4f55-9d43-8a53e7a3a4b1",
    workflow_run_id="5b0d2f0e-6c3a-4f55-9d43-8a53e7a3a4b1",
    tenant_id="tenant",
    app_id="app",
    name="large",
    started_at=START,
    ended_at=START + 1_000_000,
    status="succeeded",
    workflow_run=WorkflowRun(workflow_id="w"),
    inputs=INPUTS,
)


def with_sink(settings: Settings, name: str, **sink: str) -> Settings:
    return msgspec.structs.replace(settings, sinks={name: {"type": name, **sink}})


@pytest.mark.slow
def test_a_large_input_reaches_every_sink_within_its_limit(broker: Broker, tmp_path: Path) -> None:
    assert BYTES > SIZE
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    settings = msgspec.structs.replace(pipeline.settings, content=Content(store=str(tmp_path / "store")))
    (tmp_path / "store").mkdir()
    with Publisher(settings=settings) as publisher:
        publisher.publish(RUN)
    with pipeline.process() as process:
        pipeline.wait_for_enriched(1, alive=(process,))
        assert process.sigterm(60) == 0, process.tail()

    with Vendors() as vendors:
        for name, vendor in VENDORS.items():
            double, spec = vendors.doubles[name], spec_of(vendor.sink)
            if spec.cut:
                double.max_bytes = spec.max_bytes + 100_000
            of_sink = with_sink(settings, name, **vendor.stored.settings(double), **vendor.whole)
            fetcher = open_fetcher(settings.content)
            with Running(of_sink, name, fetcher=fetcher, until_caught_up=True) as sink:
                sink.join(120)
            assert sink.error is None, name
            held = repr(vendor.stored.state(double))
            assert f"cut from {BYTES} bytes" in held, name
            assert held.count("quoted") > 90_000, f"{name}: as much as fits is there"
            counts = sink.sink.status().counts
            assert (counts.rehydrated, counts.incomplete_by, counts.retried) == (1, {}, 0), name

    path = tmp_path / "events.jsonl"
    of_file = with_sink(settings, "file", path=str(path))
    with Running(of_file, "file", fetcher=open_fetcher(settings.content), until_caught_up=True) as sink:
        sink.join(120)
    event = json.loads(path.read_text())["event"]
    assert json.loads(event["inputs"]) == INPUTS, "a file has no limit"
    assert "content_changes" not in event
    assert set(settled(settings, pipeline).values()) == {(1, 1, 0, 0)}
