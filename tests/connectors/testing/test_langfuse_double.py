"""The Langfuse double refuses what Langfuse refuses, stores what it stores, and fails as scripted."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from connectors.testing.doubles.langfuse import PROJECTS, SCORES, TRACES, LangfuseDouble, LangfuseFaults
from connectors.testing.doubles.langfuse_store import InvalidScore, score_of

AUTH = {"Authorization": "Basic " + base64.b64encode(b"pk-lf-test:sk-lf-test").decode()}
HEADERS = {**AUTH, "Content-Type": "application/x-protobuf", "x-langfuse-ingestion-version": "4"}
JSON = {**AUTH, "Content-Type": "application/json"}
SCORE = {
    "id": "s",
    "traceId": "t",
    "name": "n",
    "value": 1,
    "dataType": "NUMERIC",
    "timestamp": "2026-03-01T00:00:00.000Z",
}
START = 1_700_000_000_000_000_000


def span(attributes: dict[str, str] | None = None, **changes: Any) -> Span:
    fields: dict[str, Any] = {
        "trace_id": bytes(range(16)),
        "span_id": bytes(range(1, 9)),
        "name": "a",
        "start_time_unix_nano": START,
        "end_time_unix_nano": START + 5_000_000,
    }
    pairs = [KeyValue(key=k, value=AnyValue(string_value=v)) for k, v in (attributes or {}).items()]
    return Span(**{**fields, **changes}, attributes=pairs)


def body(*spans: Span) -> bytes:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(spans)
    return bytes(request.SerializeToString())


Call = Callable[..., Awaitable[tuple[int, Any, dict[str, str]]]]


def with_double(test: Callable[[LangfuseDouble, Call], Awaitable[None]], **values: Any) -> None:
    async def run() -> None:
        async with LangfuseDouble(**values) as double, aiohttp.ClientSession() as session:

            async def call(
                path: str, data: bytes | None = None, headers: dict[str, str] = HEADERS
            ) -> tuple[int, Any, dict[str, str]]:
                async with session.request(
                    "GET" if data is None else "POST", double.endpoint + path, data=data, headers=headers
                ) as answer:
                    return answer.status, json.loads(await answer.read() or b"null"), dict(answer.headers)

            await test(double, call)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "changes", "status", "says"),
    [
        (body(span()), {}, 200, ""),
        (b"", {}, 200, ""),
        (body(span()), {"Authorization": "Basic eDp5"}, 401, "Invalid credentials"),
        (body(span()), {"Authorization": ""}, 401, "Invalid credentials"),
        (body(span()), {"Content-Type": "text/plain"}, 400, "Invalid content type"),
        (body(span()), {"x-langfuse-ingestion-version": "5"}, 400, "Unsupported"),
        (body(span()), {"Content-Encoding": "deflate"}, 400, "rejected"),
        (body(span()), {"Content-Encoding": "gzip"}, 400, "rejected"),
        (gzip.compress(body(span()), mtime=0), {"Content-Encoding": "gzip"}, 200, ""),
        (b"\xff\xff", {}, 400, "rejected"),
        (body(span(), span(trace_id=bytes(16))), {}, 400, "entire export was rejected"),
        (body(span(), span(span_id=b"short")), {}, 400, "entire export was rejected"),
        (bytes(2001), {}, 413, "2000 bytes"),
        (gzip.compress(bytes(2001), mtime=0), {"Content-Encoding": "gzip"}, 413, "2000 bytes"),
    ],
)
def test_the_rules_of_the_traces_path(data: bytes, changes: dict[str, str], status: int, says: str) -> None:
    async def test(double: LangfuseDouble, call: Call) -> None:
        found, document, _ = await call(TRACES, data, {**HEADERS, **changes})
        assert found == status
        assert says in json.dumps(document)
        assert len(double.store.observations) == (1 if status == 200 and data else 0)

    with_double(test, max_bytes=2000)


def test_observations_are_replaced_as_a_whole_by_trace_id_and_start() -> None:
    async def test(double: LangfuseDouble, call: Call) -> None:
        await call(TRACES, body(span({"user.id": "u", "langfuse.observation.input": "1"})))
        await call(
            TRACES, body(span({"user.id": "v"}, start_time_unix_nano=START + 999_999))
        )  # the same millisecond
        [one] = double.store.observations.values()
        assert (one.user_id, one.input) == ("v", None)
        await call(TRACES, body(span(start_time_unix_nano=START + 1_000_000)))
        assert len(double.store.observations) == 2
        assert double.store.problems == []

    with_double(test)


@pytest.mark.parametrize(
    "attributes",
    [
        {"langfuse.observation.type": "llm"},
        {"langfuse.observation.level": "error"},
        {"langfuse.environment": "Prod"},
        {"langfuse.environment": "langfuse-x"},
        {"session.id": "s" * 201},
        {"langfuse.trace.tags": "a,b"},
        {"langfuse.observation.usage_details": '{"input": 1.5}'},
        {"langfuse.observation.usage_details": "x"},
        {"langfuse.observation.cost_details": '{"total": "0.1"}'},
        {"langfuse.observation.completion_start_time": "now"},
    ],
)
def test_what_the_worker_would_misread_is_noted(attributes: dict[str, str]) -> None:
    async def test(double: LangfuseDouble, call: Call) -> None:
        assert (await call(TRACES, body(span(attributes))))[0] == 200
        assert len(double.store.problems) == 1

    with_double(test)


def test_without_the_version_header_data_come_late() -> None:
    async def test(double: LangfuseDouble, call: Call) -> None:
        headers = {k: v for k, v in HEADERS.items() if not k.startswith("x-")}
        assert (await call(TRACES, body(span()), headers))[0] == 200
        assert "10 minutes" in double.store.problems[0]

    with_double(test)


@pytest.mark.parametrize(
    "changes",
    [
        {"value": "1"},
        {"dataType": "BOOLEAN", "value": 2},
        {"dataType": "bogus"},
        {"traceId": ""},
        {"sessionId": "s"},
        {"name": ""},
        {"id": ""},
        {"timestamp": "2026-03-01"},
        {"environment": "Prod"},
        {"unknown": 1},
        {"dataType": "CATEGORICAL"},
        {"value": None},
        {"traceId": "", "sessionId": "s", "observationId": "o"},
    ],
)
def test_scores_that_are_refused(changes: dict[str, Any]) -> None:
    changed = {**SCORE, **changes}
    if changes == {"timestamp": "2026-03-01"}:
        changed["timestamp"] = "yesterday"
    with pytest.raises(InvalidScore):
        score_of(changed)

    async def test(double: LangfuseDouble, call: Call) -> None:
        assert (await call(SCORES, json.dumps(changed).encode(), JSON))[0] == 400
        status, document, _ = await call(SCORES, json.dumps([SCORE, changed]).encode(), JSON)
        assert status == 207
        assert (document["accepted"], document["rejected"], len(document["errors"])) == (1, 1, 1)
        assert [s.id for s in double.store.scores.values()] == ["s"]

    with_double(test)


def test_scores_are_replaced_by_id_day_and_name() -> None:
    async def test(double: LangfuseDouble, call: Call) -> None:
        assert (await call(SCORES, json.dumps(SCORE).encode(), JSON))[:2] == (200, {"id": "s"})
        later = {**SCORE, "value": 2, "timestamp": "2026-03-01T23:59:59.999Z"}
        assert (await call(SCORES, json.dumps([later]).encode(), JSON))[:2] == (202, {"message": "Accepted"})
        assert [s.value for s in double.store.scores.values()] == [2]
        await call(SCORES, json.dumps({**SCORE, "timestamp": "2026-03-02T00:00:00.000Z"}).encode(), JSON)
        assert len(double.store.scores) == 2

    with_double(test)


def test_an_older_server_takes_no_lists() -> None:
    async def test(double: LangfuseDouble, call: Call) -> None:
        assert (await call(SCORES, json.dumps([SCORE]).encode(), JSON))[0] == 400

    with_double(test, list_scores=False)


def test_limits_a_minute_have_windows() -> None:
    now = [1000.0]

    async def test(double: LangfuseDouble, call: Call) -> None:
        statuses = []
        for _ in range(3):
            status, _, headers = await call(TRACES, body(span()))
            statuses.append(status)
        assert statuses == [200, 200, 429]
        assert headers["Retry-After"] == "61"
        assert headers["X-RateLimit-Remaining"] == "0"
        assert "GMT" in headers["X-RateLimit-Reset"]
        assert (await call(SCORES, json.dumps(SCORE).encode(), JSON))[0] == 200  # a bucket of its own
        now[0] += 60
        assert (await call(TRACES, body(span())))[0] == 200

    with_double(test, ingestion_per_minute=2, scores_per_minute=1, clock=lambda: now[0])


def test_keys_and_faults_change_while_it_runs() -> None:
    async def test(double: LangfuseDouble, call: Call) -> None:
        assert (await call(PROJECTS))[1]["data"][0]["name"] == "double"
        control = {"secret_key": "new", "faults": {"status": 503, "only": "traces"}}
        assert (await call("/_control", json.dumps(control).encode()))[0] == 200
        assert (await call(PROJECTS))[0] == 401
        assert (await call(TRACES, body(span())))[0] == 503  # before the keys are looked at
        assert (await call(TRACES, body(span())))[0] == 401
        assert (await call("/_control", b'{"faults": {"bogus": 1}}'))[0] == 400
        await call("/_control", b'{"secret_key": "sk-lf-test", "faults": {"suspended": true}}')
        status, document, _ = await call(TRACES, body(span()))
        assert (status, "Ingestion suspended" in document["message"]) == (403, True)
        assert (await call(PROJECTS))[0] == 200
        assert (await call("/_state"))[1] == {"observations": [], "scores": [], "problems": [], "requests": 6}

    with_double(test)


@pytest.mark.parametrize(("when", "kept"), [("request", 0), ("response", 1)])
def test_connections_are_reset_as_scripted(when: Any, kept: int) -> None:
    async def test(double: LangfuseDouble, call: Call) -> None:
        with pytest.raises(aiohttp.ClientError):
            await call(TRACES, body(span()))
        assert len(double.store.observations) == kept
        assert (await call(TRACES, body(span())))[0] == 200

    with_double(test, faults=LangfuseFaults(reset=when))


def test_faults_come_in_turn() -> None:
    faults = LangfuseFaults(status=500, status_first=2, reset="request", hang=True, hang_first=0)
    assert [faults.at(n) for n in range(1, 6)] == ["status", "status", "reset", "hang", "hang"]
    assert LangfuseFaults().at(1) is None


def test_it_runs_by_itself() -> None:
    command = [sys.executable, "-m", "connectors.testing.doubles.langfuse", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ))
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        request = urllib.request.Request(ready["endpoint"] + TRACES, body(span()), HEADERS)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(ready["endpoint"] + "/_state", timeout=30) as answer:
            assert len(json.load(answer)["observations"]) == 1
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        process.stdout.close()
