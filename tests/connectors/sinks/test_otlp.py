"""The OTLP sink around its mapping: settings, request, answers."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from connectors.config.instances import instance
from connectors.otlp.answers import error_message, partial_success
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin
from connectors.sdk.http import NoAnswer, Response
from connectors.sdk.outcomes import Delivered, Outcomes, Paused, Rejected, Retry, Split
from connectors.sinks.otlp.sink import Otlp
from connectors.testing.doubles import otlp_request
from tailrace.errors import ConfigError
from tailrace.records import Kind
from tailrace.settings import Settings
from tests.connectors.enriching import make_context, make_event

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json; charset=utf-8"}


class Http:
    """Answers what it is told and keeps what it was sent."""

    def __init__(self, answer: Response | NoAnswer) -> None:
        self.answer = answer
        self.sent: list[tuple[str, bytes, Mapping[str, str], float]] = []

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        self.sent.append((url, body, headers, seconds))
        if isinstance(self.answer, NoAnswer):
            raise self.answer
        return self.answer


def make(**values: Any) -> Otlp:
    return Otlp(Otlp.Settings(**{"endpoint": "http://localhost:4318", **values}), now=lambda: 0.0)


def batch(sink: Otlp, *hosts: str | None) -> Batch:
    items = []
    for i, host in enumerate(hosts):
        event = make_event(i, host_name=host)
        payload = sink.map(Enriched(event, make_context(event, i), "t", 0, i, 0))
        assert isinstance(payload, Payload)
        items.append(Item(payload, RecordOrigin("t", 0, i, 0)))
    return Batch(tuple(items))


def send(sink: Otlp, answer: Response | NoAnswer) -> tuple[Outcomes, Http]:
    http = Http(answer)
    return asyncio.run(sink.send(batch(sink, "a", "b", "a", None), http)), http


def test_a_request_groups_spans_by_host_under_the_service() -> None:
    sink = make(service_name="shop", api_key="key", headers={"x-scope-orgid": "tenant1"}, timeout=3)
    outcome, http = send(sink, Response(200))
    assert outcome == Delivered()
    [(url, body, headers, seconds)] = http.sent
    assert (url, seconds) == ("http://localhost:4318/v1/traces", 3)
    assert headers == {
        "Content-Type": "application/x-protobuf",
        "x-scope-orgid": "tenant1",
        "Authorization": "Bearer key",
        "Content-Encoding": "gzip",
    }
    request = ExportTraceServiceRequest.FromString(zlib.decompress(body, 31))
    found = [
        (
            {a.key: a.value.string_value for a in group.resource.attributes},
            [span.span_id for scope in group.scope_spans for span in scope.spans],
        )
        for group in request.resource_spans
    ]
    ids = [make_context(make_event(i)).span_id for i in range(4)]
    assert found == [
        ({"service.name": "shop", "host.name": "a"}, [ids[0], ids[2]]),
        ({"service.name": "shop", "host.name": "b"}, [ids[1]]),
        ({"service.name": "shop"}, [ids[3]]),
    ]
    assert request.resource_spans[0].scope_spans[0].scope.name == "tailrace"


def test_the_same_batch_gives_the_same_bytes() -> None:
    sink = make(compression="none")
    first, second = (send(sink, Response(200))[1].sent[0] for _ in range(2))
    assert first[1] == second[1]
    assert "Content-Encoding" not in first[2]
    assert len(ExportTraceServiceRequest.FromString(first[1]).resource_spans) == 3


def test_payload_sizes_cover_the_request() -> None:
    sink = make(compression="none")
    found = batch(sink, *["h"] * 50)
    whole = len(sink.request(found.bodies))
    assert whole - 200 < sum(i.payload.size for i in found.items) <= whole + 50 * 8


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Response(200, PROTOBUF, otlp_request.success(3, "too old, key-1")), Delivered(3, "too old, ***")),
        (Response(200, PROTOBUF, otlp_request.success(99, "x")), Delivered(4, "x")),
        (Response(200, PROTOBUF, otlp_request.success(0, "careful")), Delivered(0, "careful")),
        (Response(200, PROTOBUF, b"\xff\xff"), Delivered()),
        (
            Response(200, JSON, b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "m"}}'),
            Delivered(2, "m"),
        ),
        (Response(200, JSON, b"[]"), Delivered()),
        (Response(204), Delivered()),
        (Response(503, {"retry-after": "4"}), Retry(4.0, "status 503")),
        (Response(413), Split(status=413)),
        (
            Response(401, PROTOBUF, otlp_request.failure(401, "bad key-1")),
            Paused("unauthorized (status 401): bad ***", "endpoint, api_key, headers"),
        ),
    ],
)
def test_answers(answer: Response, outcome: Outcomes) -> None:
    assert send(make(api_key="key-1"), answer)[0] == outcome


def test_a_rejection_says_what_was_sent_without_secrets() -> None:
    sink = make(endpoint="https://user:pass@host:1/path?key=k3y-long", headers={"x-key": "s3cret"})
    outcome, _ = send(sink, Response(400, {"content-type": "text/plain"}, b"no\nsuch\x1b[31m s3cret"))
    assert isinstance(outcome, Rejected)
    assert (outcome.status, outcome.response) == (400, "no such [31m ***")
    assert outcome.request is not None
    assert outcome.request.startswith("POST https://host:1/v1/traces, 4 spans, ")


def test_no_answer_is_for_the_runner_to_retry() -> None:
    with pytest.raises(NoAnswer):
        send(make(), NoAnswer("timeout"))


@given(st.binary(max_size=200), st.sampled_from((PROTOBUF, JSON, {"content-type": "text/html"}, {})))
def test_any_body_is_read_without_an_exception(body: bytes, headers: dict[str, str]) -> None:
    rejected, message = partial_success(Response(200, headers, body))
    assert rejected >= 0
    assert isinstance(message, str)
    assert isinstance(error_message(Response(400, headers, body)), str)


def test_messages_of_errors() -> None:
    assert error_message(Response(400, PROTOBUF, otlp_request.failure(400, "bad id é"))) == "bad id é"
    assert error_message(Response(400, JSON, b'{"code": 3, "message": "bad id"}')) == "bad id"
    assert error_message(Response(400, JSON, b"not json")) == "not json"
    assert error_message(Response(502, {"content-type": "text/html"}, b"<html>")) == ""


@pytest.mark.parametrize(
    ("answer", "ok", "says"),
    [
        (Response(200), True, ""),
        (Response(400), True, ""),
        (Response(401), False, "unauthorized (status 401); see endpoint, api_key, headers"),
        (Response(503), False, "status 503"),
        (NoAnswer("unreachable", "http://localhost:4318: refused"), False, "unreachable"),
    ],
)
def test_the_check(answer: Response | NoAnswer, ok: bool, says: str) -> None:
    http = Http(answer)
    health = asyncio.run(make().check(http))
    assert (health.ok, says in health.detail) == (ok, True)
    assert (
        ExportTraceServiceRequest.FromString(zlib.decompress(http.sent[0][1], 31))
        == ExportTraceServiceRequest()
    )


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp/", "https://h/otlp/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
        ("https://h/v1/traces?key=a", "https://h/v1/traces?key=a"),
    ],
)
def test_endpoints(endpoint: str, url: str) -> None:
    assert send(make(endpoint=endpoint), Response(200))[1].sent[0][0] == url


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "sinks.otlp.endpoint: is required"),
        ({"endpoint": "localhost:4318"}, "sinks.otlp.endpoint: must start with http:// or https://"),
        ({"endpoint": "http://h:99999"}, "sinks.otlp.endpoint: "),
        ({"endpoint": "http://h", "timeout": 0}, "sinks.otlp.timeout: "),
        ({"endpoint": "http://h", "compression": "zstd"}, "sinks.otlp.compression: "),
        ({"endpoint": "http://h", "headers": "a"}, "sinks.otlp.headers: "),
        (
            {"endpoint": "http://h", "headers": {"a b": "secret-1"}},
            "sinks.otlp.headers: entry 1 does not have a valid header name",
        ),
        ({"endpoint": "http://h", "headers": {"a": "secret-1\n"}}, "sinks.otlp.headers: the value of a "),
        ({"endpoint": "http://h", "max_records": 0}, "sinks.otlp.max_records: "),
        ({"endpoint": "http://h", "colour": 1}, "sinks.otlp: Object contains unknown field `colour`"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as e:
        instance(Settings(sinks={"otlp": settings}), "otlp", {})
    assert str(e.value).startswith(says)
    assert "secret" not in str(e.value)


def test_the_variables_of_the_seed_are_defaults() -> None:
    """Seed 003, section 2."""
    env = {
        "ENTERPRISE_OTLP_ENDPOINT": "http://collector:4318",
        "ENTERPRISE_OTLP_HEADERS": "x-scope-orgid=tenant1,b=c",
        "ENTERPRISE_OTLP_API_KEY": "key",
        "ENTERPRISE_SERVICE_NAME": "shop",
        "ENTERPRISE_INCLUDE_CONTENT": "false",
    }
    event = make_event(1, kind=Kind.SPAN, node_execution=None)
    for sinks, host in (({}, "collector"), ({"otlp": {"endpoint": "http://mine"}}, "mine")):
        sink = instance(Settings(sinks=sinks), "otlp", env).sink
        payload = sink.map(Enriched(event, make_context(event), "t", 0, 0, 0))
        assert isinstance(payload, Payload)
        http = Http(Response(200))
        asyncio.run(sink.send(Batch((Item(payload, RecordOrigin("t", 0, 0, 0)),)), http))
        [(url, body, headers, _)] = http.sent
        assert url.startswith(f"http://{host}")
        assert (headers["Authorization"], headers["x-scope-orgid"], headers["b"]) == (
            "Bearer key",
            "tenant1",
            "c",
        )
        text = zlib.decompress(body, 31)
        assert b"shop" in text
        assert b"input.value" not in text
    for protocol in ("http", "grpc"):
        assert instance(Settings(), "otlp", {**env, "ENTERPRISE_OTLP_PROTOCOL": protocol}).type == "otlp"
    with pytest.raises(ConfigError, match=r"sinks\.otlp\.protocol"):
        instance(Settings(), "otlp", {**env, "ENTERPRISE_OTLP_PROTOCOL": "kafka"})


def test_json_documents_in_answers_are_read_as_documented() -> None:
    body = json.dumps({"partialSuccess": {"rejectedSpans": 1}}).encode()
    assert partial_success(Response(200, JSON, body)) == (1, "")
