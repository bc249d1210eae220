"""OTLP over HTTP against a real server: JSON, URLs, TLS and client certificates."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from typing import Any

import pytest
from aiohttp import web

from connectors.config.instances import instance
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.otlp.rendering import as_document
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin
from connectors.sdk.http import NoAnswer
from connectors.sdk.outcomes import Delivered, Outcomes
from connectors.sinks.otlp.sink import Otlp
from tailrace.errors import ConfigError
from tailrace.settings import Settings
from tests.connectors.certificates import Certificates, certificates  # noqa: F401 - a fixture
from tests.connectors.enriching import make_context, make_event

Got = list[tuple[str, dict[str, str], bytes]]


def payload(sink: Any, i: int = 1, **event: Any) -> Payload:
    made = make_event(i, **event)
    found = sink.map(Enriched(made, make_context(made, i), "t", 0, i, 0))
    assert isinstance(found, Payload)
    return found


def exchange(
    settings: dict[str, Any], answer: web.Response, tls: ssl.SSLContext | None = None
) -> tuple[Outcomes, Got]:
    """What a sink with these settings, {port} in them, makes of the answer, and what it sent."""
    got: Got = []

    async def handler(request: web.Request) -> web.Response:
        got.append(
            (request.path_qs, {k.lower(): v for k, v in request.headers.items()}, await request.read())
        )
        return answer

    async def run() -> Outcomes:
        app = web.Application()
        app.add_routes([web.post("/{tail:.*}", handler)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, "localhost", 0, ssl_context=tls).start()
        port = str(runner.addresses[0][1])
        given = {k: v.replace("{port}", port) if isinstance(v, str) else v for k, v in settings.items()}
        found = instance(Settings(sinks={"otlp": given}), "otlp", {})
        http = AiohttpTransport(found.ca_file, found.cert_file, found.key_file)
        try:
            items = tuple(
                Item(payload(found.sink, i, host_name=f"host {i // 2}"), RecordOrigin("t", 0, i, 0))
                for i in range(4)
            )
            return await found.sink.send(Batch(items), http)
        finally:
            await http.close()
            await runner.cleanup()

    return asyncio.run(run()), got


def test_json_says_what_protobuf_says() -> None:
    """Also what the specification's own words are: ids hexadecimal, 64-bit numbers as text, enums as
    numbers."""
    outcome, got = exchange(
        {"endpoint": "http://localhost:{port}", "protocol": "http/json", "compression": "gzip"},
        web.json_response({}),
    )
    assert outcome == Delivered()
    [(path, headers, body)] = got
    assert (path, headers["content-type"], headers["content-encoding"]) == (
        "/v1/traces",
        "application/json",
        "gzip",
    )
    document = json.loads(gzip.decompress(body))
    sink = Otlp(Otlp.Settings(endpoint="http://h"))
    bodies = [payload(sink, i, host_name=f"host {i // 2}").body for i in range(4)]
    assert document == as_document(sink.request(bodies))
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert span["traceId"] == make_context(make_event(0)).run_trace_id.hex()
    assert isinstance(span["startTimeUnixNano"], str)
    assert (span["kind"], span["status"]) == (1, {"code": 1})


def test_a_partial_success_in_json() -> None:
    answer = web.json_response({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "old"}})
    outcome, _ = exchange({"endpoint": "http://localhost:{port}", "protocol": "http/json"}, answer)
    assert outcome == Delivered(2, "old")


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"endpoint": "http://localhost:{port}/base"}, "/base/v1/traces"),
        ({"traces_endpoint": "http://localhost:{port}/my/own?key=a"}, "/my/own?key=a"),
        ({"traces_endpoint": "http://localhost:{port}"}, "/"),
        ({"endpoint": "http://elsewhere.invalid", "traces_endpoint": "http://localhost:{port}/t"}, "/t"),
    ],
)
def test_the_traces_own_url_is_used_as_it_is(settings: dict[str, Any], path: str) -> None:
    assert exchange(settings, web.Response())[1][0][0] == path


def server_context(found: Certificates, *, asks: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(found.chain, found.key)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(found.ca)
    return context


def test_tls_with_a_client_certificate(certificates: Certificates) -> None:  # noqa: F811
    files = {
        "ca_file": str(certificates.ca),
        "cert_file": str(certificates.client_chain),
        "key_file": str(certificates.client_key),
    }
    endpoint = {"endpoint": "https://localhost:{port}"}
    asking = server_context(certificates, asks=True)
    assert exchange({**endpoint, **files}, web.Response(), asking)[0] == Delivered()
    with pytest.raises(NoAnswer):
        exchange({**endpoint, "ca_file": files["ca_file"]}, web.Response(), asking)


def test_a_server_that_is_not_trusted_is_named_with_the_setting(certificates: Certificates) -> None:  # noqa: F811
    with pytest.raises(NoAnswer, match="ca_file") as e:
        exchange(
            {"endpoint": "https://localhost:{port}"}, web.Response(), server_context(certificates, asks=False)
        )
    assert e.value.reason == "certificate"


@pytest.mark.parametrize("broken", ["cert_file", "key_file"])
def test_a_certificate_that_cannot_be_used_is_named(certificates: Certificates, broken: str) -> None:  # noqa: F811
    async def make() -> None:
        files = {"cert_file": str(certificates.client_chain), "key_file": str(certificates.client_key)}
        await AiohttpTransport(
            str(certificates.ca), **{**files, broken: str(certificates.ca) + ".none"}
        ).close()

    with pytest.raises(ConfigError, match="cert_file"):
        asyncio.run(make())


def test_rendering_is_the_same_for_every_protocol() -> None:
    sinks = [Otlp(Otlp.Settings(endpoint="http://h", protocol=p)) for p in ("http/protobuf", "http/json")]
    first, second = (sink.render(payload(sink, host_name="é")) for sink in sinks)
    assert first == second
    assert first["resource"]["attributes"][1] == {"key": "host.name", "value": {"stringValue": "é"}}
