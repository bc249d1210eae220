"""What the OTLP sink sends, read back from the OpenTelemetry Collector and from Jaeger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from connectors.sdk.contract import Payload, spec_of
from connectors.sinks.otlp import Otlp
from examples.demo.trees import compare
from examples.recorded_runs.recording import RECORDING
from examples.recorded_runs.tree import expected
from tailrace.ids import otel_trace_id
from tests.backends.collector import Collector
from tests.backends.jaeger import Jaeger
from tests.backends.sending import records_for, send
from tests.backends.spans import Key, normal, received
from tests.harness.recorded import RECORDS, recorded

pytestmark = pytest.mark.backends
PROTOCOLS: Final = ("http/protobuf", "http/json", "grpc")
MOST: Final = 200
"""Spans in a request."""


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with Collector(tmp_path) as running:
        yield running


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[Jaeger]:
    with Jaeger(tmp_path) as running:
        yield running


def sink(endpoint: str, protocol: str) -> Otlp:
    settings = {"endpoint": endpoint, "protocol": protocol, "content_on_spans": True}
    return Otlp(msgspec.convert(settings, Otlp.Settings))


def sent(by: Otlp, payloads: list[Payload]) -> dict[Key, list[dict[str, Any]]]:
    """The spans of payloads, by the sink's own rendering as OTLP/JSON, which has no scope."""
    spans = [by.render(payload) for payload in payloads]
    return normal(
        {"resourceSpans": [{"resource": span["resource"], "scopeSpans": [{"spans": [span]}]}]}
        for span in spans
    )


def without_scope(spans: dict[Key, list[dict[str, Any]]]) -> dict[Key, list[dict[str, Any]]]:
    return {key: [{**span, "scope": ("", "")} for span in found] for key, found in spans.items()}


def test_the_collector_has_every_field_of_every_span(collector: Collector, protocol: str) -> None:
    by = sink(collector.endpoint(protocol), protocol)
    payloads = send(by, records_for(by), MOST)
    want = sent(by, payloads)
    assert len(payloads) > RECORDS
    have = normal(collector.documents(len(payloads)))
    assert {span["scope"][0] for found in have.values() for span in found} == {"tailrace"}
    assert without_scope(have) == want


def test_jaeger_has_every_field_of_every_span(jaeger: Jaeger, protocol: str) -> None:
    by = sink(jaeger.endpoint(protocol), protocol)
    want = sent(by, send(by, records_for(by), MOST))
    have: dict[Key, list[dict[str, Any]]] = {}
    for trace_id in sorted({trace for trace, _ in want}):
        found = jaeger.trace(trace_id)
        assert found is not None, trace_id
        have |= normal([found])
        assert jaeger.parents(trace_id) == {
            span: want[trace, span][0]["parentSpanId"] for trace, span in want if trace == trace_id
        }
    assert without_scope(have) == want


@pytest.mark.parametrize("of", ["collector", "jaeger"])
def test_the_trees_of_all_recorded_runs_are_as_recorded(of: str, request: pytest.FixtureRequest) -> None:
    """Compared with a second reading of the recording, which shares no code with the pipeline."""
    server = request.getfixturevalue(of)
    by = sink(server.endpoint("http/protobuf"), "http/protobuf")
    payloads = send(by, recorded(spec_of(Otlp).fields), MOST)
    runs = expected(RECORDING)
    if of == "collector":
        documents = server.documents(len(payloads))
    else:
        found = [server.trace(otel_trace_id(run).hex()) for run in runs]
        documents = [document for document in found if document is not None]
    have = normal(documents)
    compared = compare(runs, list(received(span for spans in have.values() for span in spans)))
    assert (compared.runs, compared.spans, compared.different) == (445, RECORDS, ())


def test_a_request_that_is_not_otlp_is_refused(collector: Collector, jaeger: Jaeger) -> None:
    """The servers judge: they don't take whatever comes."""

    class Broken(Otlp):
        def request(self, bodies: Any) -> bytes:
            return super().request(bodies)[:-2]

    for server in (collector, jaeger):
        by = Broken(msgspec.convert({"endpoint": server.http}, Otlp.Settings))
        with pytest.raises(AssertionError, match="400"):
            send(by, records_for(by)[:5], MOST)


def test_a_changed_field_is_seen(collector: Collector) -> None:
    """The comparison can fail: each field of a span, changed."""
    by = sink(collector.http, "http/protobuf")
    payloads = send(by, records_for(by)[:50], MOST)
    want = sent(by, payloads)
    have = without_scope(normal(collector.documents(len(payloads))))
    assert have == want
    key = next(k for k, spans in have.items() if spans[0]["parentSpanId"])
    for name in have[key][0]:
        changed = {**have, key: [{**have[key][0], name: "changed"}]}
        assert changed != want, name
    attributes = have[key][0]["attributes"]
    for name, (kind, value) in attributes.items():
        other = {**attributes, name: ("stringValue" if kind == "intValue" else "intValue", value)}
        assert {**have, key: [{**have[key][0], "attributes": other}]} != want, name
