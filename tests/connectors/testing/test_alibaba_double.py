"""The Alibaba Cloud double refuses what is documented, stores what it accepts, and fails as scripted."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from connectors import Batch, Delivered, Paused, Payload, Retry
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.sdk.contract import Item, RecordOrigin
from connectors.sinks.alibaba import Alibaba
from connectors.sinks.alibaba.mapping import FIELDS
from connectors.testing.doubles.alibaba import CMS, AlibabaDouble, AlibabaFaults
from tests.golden.events import golden

KEY = "license-key-test"
IN_PATH = f"/adapt_{KEY}/api/otlp/traces"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
THREE = {"x-arms-license-key": KEY, "x-arms-project": "p", "x-cms-workspace": "w"}
RESOURCE = {"service.name": "shop", "acs.arms.service.feature": "genai_app"}


def pair(key: str, value: str | int) -> KeyValue:
    return KeyValue(
        key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    )


def span(n: int = 1, attributes: dict[str, str | int] | None = None, **changes: Any) -> Span:
    given = {"gen_ai.span.kind": "LLM"} if attributes is None else attributes
    fields: dict[str, Any] = {
        "trace_id": bytes(range(16)),
        "span_id": n.to_bytes(8, "big"),
        "name": "a",
        "kind": Span.SPAN_KIND_INTERNAL,
        "start_time_unix_nano": 10,
        "end_time_unix_nano": 20,
    }
    return Span(**{**fields, **changes}, attributes=[pair(k, v) for k, v in given.items()])


def body(*spans: Span, resource: dict[str, str] | None = None) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    given = RESOURCE if resource is None else resource
    group.resource.attributes.extend(pair(k, v) for k, v in given.items())
    group.scope_spans.add().spans.extend(spans)
    return bytes(request.SerializeToString())


Call = Callable[..., Awaitable[tuple[int, bytes]]]


def with_double(test: Callable[[AlibabaDouble, Call], Awaitable[None]], **values: Any) -> None:
    async def run() -> None:
        async with AlibabaDouble(**values) as double, aiohttp.ClientSession() as session:

            async def call(
                path: str, data: bytes = b"", headers: dict[str, str] | None = None, method: str = "POST"
            ) -> tuple[int, bytes]:
                sent = PROTOBUF if headers is None else headers
                async with session.request(method, double.endpoint + path, data=data, headers=sent) as answer:
                    return answer.status, await answer.read()

            await test(double, call)

    asyncio.run(run())


@pytest.mark.parametrize("path", [IN_PATH, f"/adapt_{KEY}/api/v1/traces"])
def test_the_key_may_be_in_the_path(path: str) -> None:
    async def test(double: AlibabaDouble, call: Call) -> None:
        assert (await call(path, body(span())))[0] == 200
        assert [s.name for s in double.spans] == ["a"]
        assert double.problems == []
        status, said = await call(path.replace(KEY, "another"), body(span()))
        assert (status, json.loads(said)["errorCode"]) == (401, "Unauthorized")
        assert (await call(path, method="HEAD"))[0] == 405
        assert len(double.spans) == 1
        assert all(KEY not in e.path for e in double.exchanges)
        assert double.exchanges[0].path == path.replace(KEY, "***")

    with_double(test)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"x-arms-license-key": "another"}, 401),
        ({"x-arms-license-key": None}, 401),
        ({"x-arms-project": None}, 403),
        ({"x-arms-project": "another"}, 403),
        ({"x-cms-workspace": None}, 403),
        ({"x-cms-workspace": "another"}, 403),
    ],
)
def test_cms_wants_its_three_headers(changes: dict[str, str | None], status: int) -> None:
    headers = {k: v for k, v in {**PROTOBUF, **THREE, **changes}.items() if v is not None}

    async def test(double: AlibabaDouble, call: Call) -> None:
        assert (await call(CMS, body(span()), headers))[0] == status
        assert len(double.spans) == (status == 200)
        assert "x-arms-license-key" not in double.exchanges[0].headers

    with_double(test, workspace="w", project="p")


def test_an_empty_request_is_accepted() -> None:
    async def test(double: AlibabaDouble, call: Call) -> None:
        assert (await call(CMS, headers=THREE))[0] == 200
        assert double.spans == []

    with_double(test)


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"\xff", PROTOBUF, 400),
        (body(span(trace_id=b"short")), PROTOBUF, 400),
        (body(span(span_id=bytes(8))), PROTOBUF, 400),
        (body(span(links=[Span.Link(trace_id=bytes(range(16)), span_id=bytes(8))])), PROTOBUF, 400),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (body(span()), {**PROTOBUF, "Content-Encoding": "snappy"}, 415),
        (body(span()), {**PROTOBUF, "Content-Encoding": "gzip"}, 400),
        (gzip.compress(body(span(name="x" * 2_000_000))), {**PROTOBUF, "Content-Encoding": "gzip"}, 413),
        (body(span(name="x" * 2_000_000)), PROTOBUF, 413),
        (gzip.compress(body(span(name="x" * 1_900_000))), {**PROTOBUF, "Content-Encoding": "gzip"}, 200),
    ],
)
def test_what_is_refused(data: bytes, headers: dict[str, str], status: int) -> None:
    async def test(double: AlibabaDouble, call: Call) -> None:
        assert (await call(IN_PATH, data, headers))[0] == status
        assert len(double.spans) == (status == 200)

    with_double(test)


@pytest.mark.parametrize("code", ["WriteQuotaExceed", "ShardWriteQuotaExceed"])
def test_a_quota_is_a_403_with_its_code(code: Any) -> None:
    async def test(double: AlibabaDouble, call: Call) -> None:
        status, said = await call(IN_PATH, body(span()))
        assert (status, json.loads(said)["errorCode"]) == (403, code)
        assert double.spans == []
        assert (await call(IN_PATH, body(span())))[0] == 200

    with_double(test, faults=AlibabaFaults(status=403, quota=code))


def test_a_partial_success_stores_the_others() -> None:
    async def test(double: AlibabaDouble, call: Call) -> None:
        _, said = await call(IN_PATH, body(span(1), span(2), span(3)))
        assert ExportTraceServiceResponse.FromString(said).partial_success.rejected_spans == 2
        assert [s.span_id for s in double.spans] == ["0000000000000001"]

    with_double(test, faults=AlibabaFaults(partial_rejected=2))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (body(span(), resource={"acs.arms.service.feature": "genai_app"}), "no service.name"),
        (body(span(), resource={"service.name": "s"}), "acs.arms.service.feature is not genai_app"),
        (body(span(attributes={})), "gen_ai.span.kind is None"),
        (body(span(attributes={"gen_ai.span.kind": "llm"})), "gen_ai.span.kind is 'llm'"),
        (
            body(span(attributes={"gen_ai.span.kind": "LLM", "gen_ai.usage.input_tokens": "5"})),
            "gen_ai.usage.input_tokens is str, must be an integer",
        ),
        (body(span(end_time_unix_nano=5)), "ends before it starts"),
    ],
)
def test_what_the_console_would_not_show_is_noted(data: bytes, says: str) -> None:
    async def test(double: AlibabaDouble, call: Call) -> None:
        assert (await call(IN_PATH, data))[0] == 200
        [problem] = double.problems
        assert says in problem

    with_double(test)


def test_the_state_is_read_back_and_a_span_that_comes_twice_is_there_twice() -> None:
    tokens: dict[str, str | int] = {"gen_ai.span.kind": "LLM", "gen_ai.usage.total_tokens": 7}
    agent = {**tokens, "gen_ai.span.kind": "AGENT"}
    data = body(span(1, agent, kind=Span.SPAN_KIND_SERVER), span(2, tokens), span(3, tokens))

    async def test(double: AlibabaDouble, call: Call) -> None:
        for _ in range(2):
            assert (await call(IN_PATH, data))[0] == 200
        state = json.loads((await call("/_state", method="GET"))[1])
        assert (state["received"], len(state["spans"]), state["requests"]) == (6, 3, 2)
        assert state["tokens"] == {bytes(range(16)).hex(): 14}
        assert state["entries"] == ["0000000000000001"]
        assert state["problems"] == []

    with_double(test)


def test_keys_and_faults_change_while_it_runs() -> None:
    async def test(double: AlibabaDouble, call: Call) -> None:
        change = {"license_key": "new", "faults": {"status": 503}}
        assert (await call("/_control", json.dumps(change).encode(), {}))[0] == 200
        assert (await call(IN_PATH.replace(KEY, "new"), body(span())))[0] == 503
        assert (await call(IN_PATH.replace(KEY, "new"), body(span())))[0] == 200
        assert (await call(IN_PATH, body(span())))[0] == 401
        assert (await call("/_control", b'{"license": 1}', {}))[0] == 400

    with_double(test)


@pytest.mark.parametrize(
    "settings",
    [{}, {"family": "sls"}, {"workspace": "w", "project": "p"}, {"kinds": "seed"}, {"compression": "none"}],
)
def test_the_sink_writes_what_the_double_takes(settings: dict[str, Any]) -> None:
    """All golden events, over both families: with the same tree as in the context."""

    async def run() -> None:
        async with AlibabaDouble(workspace="w", project="p") as double:
            given = {"endpoint": double.endpoint, "license_key": double.license_key, **settings}
            sink, http = Alibaba(Alibaba.Settings(**given)), AiohttpTransport()
            records = [(r, p) for r in golden(FIELDS).values() if isinstance(p := sink.map(r), Payload)]
            batch = Batch(tuple(Item(p, RecordOrigin("t", 0, 0, 0)) for _, p in records))
            wrong = Alibaba(Alibaba.Settings(**{**given, "license_key": "another"}))
            try:
                assert isinstance(await wrong.send(batch, http), Paused)
                double.faults = AlibabaFaults(status=403, quota="ShardWriteQuotaExceed")
                assert isinstance(await sink.send(batch, http), Retry)
                assert double.spans == []
                assert (await sink.check(http)).ok
                assert await sink.send(batch, http) == Delivered()
            finally:
                await http.close()
            assert double.problems == []
            want = {
                (c.message_trace_id.hex(), c.span_id.hex()): c.parent_span_id and c.parent_span_id.hex()
                for c in (r.context for r, _ in records)
            }
            assert {(s.trace_id, s.span_id): s.parent_span_id for s in double.spans} == want
            assert all((s.kind == "server") == (s.parent_span_id is None) for s in double.spans)

    asyncio.run(run())


def test_the_command_says_where_it_listens_and_ends_at_sigterm() -> None:
    command = [sys.executable, "-m", "connectors.testing.alibaba_double", "--json", "--license-key", "k"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            assert ready["license_key"] == "k"
            with urllib.request.urlopen(f"{ready['endpoint']}/_state", timeout=10) as answer:
                assert json.load(answer)["spans"] == []
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
