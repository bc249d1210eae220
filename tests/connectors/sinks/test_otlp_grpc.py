"""OTLP over gRPC against a real server, in plain text and with TLS; and what a status means."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from connectors.otlp.grpc_client import METHOD
from connectors.otlp.grpc_status import TABLE, decide, retry_delay
from connectors.sdk.contract import Batch, Enriched, Health, Item, Payload, RecordOrigin
from connectors.sdk.http import Http
from connectors.sdk.outcomes import Delivered, Outcome, Paused, Rejected, Retry, Split
from connectors.sdk.policy import MAX_AFTER
from connectors.sinks.otlp.sink import Otlp
from connectors.testing.doubles import otlp_request
from tailrace.errors import ConfigError, MissingPackage
from tests.connectors.certificates import Certificates, certificates  # noqa: F401 - a fixture
from tests.connectors.enriching import make_context, make_event

grpc = pytest.importorskip("grpc")
Handler = Callable[[bytes, Any], Any]
NO_HTTP: Any = None


@asynccontextmanager
async def serving(handler: Handler, credentials: Any = None, most: int = 200_000) -> AsyncIterator[int]:
    """A server whose Export calls `handler` with the request's bytes and the context; gives its port.

    It refuses messages of more than `most` bytes.
    """
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", most)])
    service, _, name = METHOD[1:].rpartition("/")
    methods = {name: grpc.unary_unary_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    at = "127.0.0.1:0"
    port = server.add_insecure_port(at) if credentials is None else server.add_secure_port(at, credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def batch(sink: Otlp, count: int = 3, **event: Any) -> Batch:
    items = []
    for i in range(count):
        made = make_event(i, **event)
        payload = sink.map(Enriched(made, make_context(made, i), "t", 0, i, 0))
        assert isinstance(payload, Payload)
        items.append(Item(payload, RecordOrigin("t", 0, i, 0)))
    return Batch(tuple(items))


def sent(
    handler: Handler, *, count: int = 3, credentials: Any = None, check: bool = False, **settings: Any
) -> Any:
    """What a sink at a server with this handler says of a batch."""

    async def run() -> Any:
        async with serving(handler, credentials) as port:
            scheme = "http" if credentials is None else "https"
            given = {
                "endpoint": f"{scheme}://localhost:{port}",
                "protocol": "grpc",
                "timeout": 10.0,
                **settings,
            }
            sink = Otlp(Otlp.Settings(**given))
            http: Http = NO_HTTP
            try:
                return await sink.check(http) if check else await sink.send(batch(sink, count), http)
            finally:
                await sink.close()

    return asyncio.run(run())


async def fine(body: bytes, context: Any) -> bytes:
    return b""


def aborting(code: str, detail: str = "", details: bytes = b"") -> Handler:
    async def handler(body: bytes, context: Any) -> bytes:
        if details:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        await context.abort(getattr(grpc.StatusCode, code), detail)
        raise AssertionError

    return handler


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_spans_arrive_with_metadata_and_a_deadline(compression: str) -> None:
    found: list[tuple[bytes, dict[str, Any], float]] = []

    async def handler(body: bytes, context: Any) -> bytes:
        found.append((body, dict(context.invocation_metadata()), context.time_remaining()))
        return b""

    headers = {"X-Scope-OrgID": "tenant1", "trace-bin": "raw"}
    outcome = sent(handler, compression=compression, api_key="key-1", headers=headers, service_name="shop")
    assert outcome == Delivered()
    [(body, metadata, left)] = found
    request = ExportTraceServiceRequest.FromString(body)
    spans = request.resource_spans[0].scope_spans[0].spans
    assert [s.span_id for s in spans] == [make_context(make_event(i)).span_id for i in range(3)]
    assert request.resource_spans[0].resource.attributes[0].value.string_value == "shop"
    assert (metadata["x-scope-orgid"], metadata["authorization"]) == ("tenant1", "Bearer key-1")
    assert metadata["trace-bin"] == b"raw"
    assert metadata["user-agent"].startswith("tailrace/")
    assert 0 < left <= 10


def test_over_tls_with_a_client_certificate(certificates: Certificates) -> None:  # noqa: F811
    credentials = grpc.ssl_server_credentials(
        [(certificates.key.read_bytes(), certificates.chain.read_bytes())], certificates.ca.read_bytes(), True
    )
    files: dict[str, Any] = {
        "ca_file": str(certificates.ca),
        "cert_file": str(certificates.client_chain),
        "key_file": str(certificates.client_key),
    }
    assert sent(fine, credentials=credentials, **files) == Delivered()
    stranger = sent(fine, credentials=credentials, cert_file=files["cert_file"], key_file=files["key_file"])
    assert isinstance(stranger, Retry)  # a server that is not trusted is not there
    nameless = sent(fine, credentials=credentials, ca_file=files["ca_file"])
    assert isinstance(nameless, Retry)


def test_a_partial_success_counts_without_saying_which() -> None:
    async def handler(body: bytes, context: Any) -> bytes:
        return otlp_request.success(2, "too old, key-1")

    assert sent(handler, api_key="key-1") == Delivered(2, "too old, ***")


def retry_info(seconds: int, nanos: int = 0) -> bytes:
    """google.rpc.Status with a RetryInfo, field by field."""

    def message(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    def number(n: int, value: int) -> bytes:
        out = bytearray([n << 3])
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
        return bytes(out)

    delay = message(1, number(1, seconds) + (number(2, nanos) if nanos else b""))
    info = message(1, b"type.googleapis.com/google.rpc.RetryInfo") + message(2, delay)
    other = message(1, b"type.googleapis.com/google.rpc.DebugInfo") + message(2, b"")
    return number(1, 8) + message(2, b"slow down") + message(3, other) + message(3, info)


@pytest.mark.parametrize(
    ("code", "details", "count", "outcome"),
    [
        ("UNAVAILABLE", b"", 3, Retry(None, "UNAVAILABLE: why ***")),
        ("UNAVAILABLE", retry_info(3, 500_000_000), 3, Retry(3.5, "UNAVAILABLE: why ***")),
        ("RESOURCE_EXHAUSTED", retry_info(7), 3, Retry(7.0, "RESOURCE_EXHAUSTED: why ***")),
        ("RESOURCE_EXHAUSTED", b"", 3, Split()),
        ("RESOURCE_EXHAUSTED", b"", 1, Paused("RESOURCE_EXHAUSTED: why ***", "endpoint, api_key, headers")),
        ("UNAUTHENTICATED", b"", 3, Paused("UNAUTHENTICATED: why ***", "endpoint, api_key, headers")),
        ("PERMISSION_DENIED", b"", 3, Paused("PERMISSION_DENIED: why ***", "endpoint, api_key, headers")),
        ("UNIMPLEMENTED", b"", 3, Paused("UNIMPLEMENTED: why ***", "endpoint, api_key, headers")),
    ],
)
def test_a_status_over_the_wire(code: str, details: bytes, count: int, outcome: Outcome) -> None:
    assert sent(aborting(code, "why key-1", details), count=count, api_key="key-1") == outcome


def test_a_rejection_says_what_was_sent() -> None:
    outcome = sent(aborting("INVALID_ARGUMENT", "bad id"))
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, outcome.detail, outcome.response) == ("rejected", "INVALID_ARGUMENT", "bad id")
    assert outcome.request is not None
    assert METHOD in outcome.request


def test_what_is_larger_than_the_server_takes_is_split() -> None:
    settings: dict[str, Any] = {"content_on_spans": True, "compression": "none"}

    async def run(count: int, content: str) -> Any:
        async with serving(fine) as port:
            sink = Otlp(Otlp.Settings(endpoint=f"http://localhost:{port}", protocol="grpc", **settings))
            try:
                return await sink.send(batch(sink, count, inputs=f'"{content}"'), NO_HTTP)
            finally:
                await sink.close()

    assert asyncio.run(run(2, "x" * 50_000)) == Delivered()
    assert asyncio.run(run(2, "x" * 150_000)) == Split()
    assert asyncio.run(run(1, "x" * 300_000)) == Split()  # which the runner dead-letters as too_large


def test_nobody_there_and_no_answer_in_time_are_retried() -> None:
    async def slow(body: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    assert isinstance(outcome := sent(slow, timeout=0.2), Retry)
    assert outcome.reason.startswith("DEADLINE_EXCEEDED")

    async def nobody() -> Any:
        async with serving(fine) as port:
            pass
        sink = Otlp(Otlp.Settings(endpoint=f"http://localhost:{port}", protocol="grpc"))
        try:
            return await sink.send(batch(sink), NO_HTTP)
        finally:
            await sink.close()

    assert isinstance(outcome := asyncio.run(nobody()), Retry)
    assert outcome.reason.startswith("UNAVAILABLE")


def test_the_check() -> None:
    async def empty(body: bytes, context: Any) -> bytes:
        assert ExportTraceServiceRequest.FromString(body) == ExportTraceServiceRequest()
        return bytes(ExportTraceServiceResponse().SerializeToString())

    assert sent(empty, check=True) == Health(True)
    refused = sent(aborting("UNAUTHENTICATED", "no key-1"), check=True, api_key="key-1")
    assert not refused.ok
    assert "UNAUTHENTICATED: no ***; see endpoint, api_key, headers" in refused.detail


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"endpoint": "http://h:4317/v1/traces"},
            "endpoint: must be scheme, host and port only with protocol grpc; for example http://h:4317",
        ),
        ({"endpoint": "h:4317"}, "endpoint: must start with"),
        ({"endpoint": "http://h", "traces_endpoint": "http://h"}, "traces_endpoint: "),
        ({"endpoint": "http://h", "headers": {"a": "é"}}, "a: must be printable ASCII with protocol grpc"),
        ({"endpoint": "https://h", "ca_file": "/nowhere/ca.pem"}, "ca_file: /nowhere/ca.pem cannot be read"),
        (
            {"endpoint": "https://h", "cert_file": "/c.pem"},
            "key_file: is missing; set both cert_file and key_file",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as e:
        Otlp(Otlp.Settings(**{"protocol": "grpc", **settings}))
    assert str(e.value).startswith(says)


def test_without_grpcio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingPackage, match=r"tailrace\[grpc\]"):
        Otlp(Otlp.Settings(endpoint="http://h", protocol="grpc"))
    Otlp(Otlp.Settings(endpoint="http://h"))


# -- the rules alone
def test_every_code_has_a_row() -> None:
    assert set(TABLE) == {code.name for code in grpc.StatusCode}


def test_retryable_codes_are_the_specification_s() -> None:
    retried = {code for code in TABLE if isinstance(decide(code, "", b"", 3), Retry)}
    assert retried == {
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNKNOWN",
        "INTERNAL",
    }
    assert isinstance(decide("a code to come", "", b"", 3), Retry)


def test_long_delays_are_cut() -> None:
    assert retry_delay(retry_info(100_000)) == MAX_AFTER


@given(st.binary(max_size=60) | st.binary(max_size=4).map(lambda b: retry_info(3) + b))
def test_any_details_are_read_without_an_exception(data: bytes) -> None:
    found = retry_delay(data)
    assert found is None or 0 <= found <= MAX_AFTER


@given(st.data())
def test_damaged_details_are_read_without_an_exception(data: st.DataObject) -> None:
    whole = bytearray(retry_info(3))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    found = retry_delay(bytes(whole))
    assert found is None or 0 <= found <= MAX_AFTER


def test_the_files_are_only_those_named(tmp_path: Path) -> None:
    """Plain text reads none of them."""
    Otlp(Otlp.Settings(endpoint="http://h", protocol="grpc", ca_file=str(tmp_path / "none.pem")))
