"""The benchmark's naive path does the same work as the sink: the same spans from the same records."""

from __future__ import annotations

import itertools

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from connectors.consumer.reader import Reader
from connectors.preview.offline import processor
from connectors.sdk.contract import Enriched, Payload
from connectors.sinks.otlp.sink import Otlp
from tailrace.identity import complete
from tailrace.topics import HEADER
from tests.connectors.enriching import START
from tests.connectors.vendors import shipped

pytest.importorskip("fastavro")
from benchmarks import naive_sink, sink_stage
from benchmarks.stream_load import events


def plain(span: Span) -> tuple[object, ...]:
    values = {a.key: a.value.SerializeToString() for a in span.attributes}
    return (
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code,
        values,
    )


def test_both_send_the_same_spans() -> None:
    load = [complete(e, START) for e in itertools.islice(events(20, START), 20)]
    records = [r for r in processor()(load) if isinstance(r, tuple)]
    sink, reader = Otlp(Otlp.Settings(endpoint="http://h", content_on_spans=True)), Reader(None)
    bodies = []
    for value, context in records:
        read = reader.read("t", 0, 0, 0, value, [(HEADER, context)])
        assert isinstance(read, Enriched)
        mapped = sink.map(read)
        assert isinstance(mapped, Payload)
        bodies.append(mapped.body)
    ours = ExportTraceServiceRequest.FromString(sink.request(bodies))
    naive = ExportTraceServiceRequest.FromString(
        naive_sink.otlp([naive_sink.decode(v, c) for v, c in records])
    )
    found, wanted = ([plain(s) for s in r.resource_spans[0].scope_spans[0].spans] for r in (ours, naive))
    assert len(found) == 20
    assert found == wanted


def test_every_sink_of_a_vendor_is_measured() -> None:
    """Against the same work, which is a function of its own."""
    candidates = sink_stage.CANDIDATES.values()
    assert {c.type for c in candidates} == set(shipped())
    assert [c.naive for c in candidates if not callable(getattr(naive_sink, c.naive, None))] == []


def test_every_sink_is_compared_with_the_otlp_sink_of_the_same_run() -> None:
    costs = {"naive otlp": 60.0, "otlp": 20.0, "opik": 25.0, "weave": 22.0, "alibaba": 23.0}
    medians: dict[str, dict[str, float | str]] = {name: {"us_cpu": cost} for name, cost in costs.items()}
    assert sink_stage.beside_otlp(medians) == {"opik": 1.25, "weave": 1.1, "alibaba": 1.15}
    del medians["otlp"]
    assert sink_stage.beside_otlp(medians) == {}
