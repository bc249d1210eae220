"""The OTLP receiver stores before it accepts, refuses what the protocol forbids, and fails as scripted."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from connectors.testing.doubles.otlp import OtlpFaults, OtlpReceiver
from connectors.testing.doubles.received import ReceivedSpan, latest, read_spans, tree

TRACE, PARENT = bytes(range(16)), bytes(range(1, 9))
HEADERS = {"Content-Type": "application/x-protobuf"}
VALUES: dict[str, tuple[AnyValue, Any]] = {
    "text": (AnyValue(string_value='Zoë "says"\n😀'), 'Zoë "says"\n😀'),
    "empty": (AnyValue(string_value=""), ""),
    "yes": (AnyValue(bool_value=True), True),
    "no": (AnyValue(bool_value=False), False),
    "large": (AnyValue(int_value=-(2**63)), -(2**63)),
    "whole": (AnyValue(double_value=3.0), 3.0),
    "nan": (AnyValue(double_value=float("nan")), {"double": "NaN"}),
    "below": (AnyValue(double_value=float("-inf")), {"double": "-Infinity"}),
    "raw": (AnyValue(bytes_value=b"\x00\xff"), {"bytes": "AP8="}),
    "list": (
        AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue(string_value="1")])),
        [1, "1"],
    ),
    "map": (
        AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="a", value=AnyValue(int_value=1))])),
        {"a": 1},
    ),
    "unset": (AnyValue(), None),
}


def span(n: int, **changes: Any) -> Span:
    fields: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": n.to_bytes(8, "big"),
        "name": f"span {n}",
        "start_time_unix_nano": 1_700_000_000_000_000_001,
        "end_time_unix_nano": 1_700_000_000_000_000_999,
    }
    return Span(**{**fields, **changes})


def body(*spans: Span) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name", value=AnyValue(string_value="dify"))
    scoped = group.scope_spans.add()
    scoped.scope.name, scoped.scope.version = "tailrace", "0.1.0"
    scoped.spans.extend(spans)
    return bytes(request.SerializeToString())


def run(test: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
    async def with_session() -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=20)
        ) as session:
            await test(session)

    asyncio.run(with_session())


async def post(
    session: aiohttp.ClientSession, endpoint: str, data: bytes, **headers: str
) -> tuple[int, bytes]:
    async with session.post(endpoint + "/v1/traces", data=data, headers={**HEADERS, **headers}) as r:
        assert r.content_type == "application/x-protobuf"
        return r.status, await r.read()


def test_keeps_every_field_of_a_span_with_its_type(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    sent = span(
        7,
        parent_span_id=PARENT,
        kind=Span.SPAN_KIND_CLIENT,
        attributes=[KeyValue(key=k, value=v) for k, (v, _) in VALUES.items()],
        status=Status(code=Status.STATUS_CODE_ERROR, message="it broke"),
        trace_state="a=b",
        events=[Span.Event(name="first token", time_unix_nano=5)],
        links=[Span.Link(trace_id=TRACE, span_id=PARENT)],
    )

    async def test(session: aiohttp.ClientSession) -> None:
        async with OtlpReceiver(file, clock=lambda: 42) as receiver:
            status, answer = await post(session, receiver.endpoint, body(sent, span(8)))
            assert status == 200
            assert not ExportTraceServiceResponse.FromString(answer).HasField("partial_success")
            kept = receiver.spans
            assert read_spans(file) == kept
        got = kept[0]
        assert (got.request, got.received_at, got.trace_id, got.span_id) == (
            1,
            42,
            TRACE.hex(),
            "0000000000000007",
        )
        assert (got.parent_span_id, got.name, got.kind) == (PARENT.hex(), "span 7", "client")
        assert (got.start_ns, got.end_ns) == (1_700_000_000_000_000_001, 1_700_000_000_000_000_999)
        assert got.attributes == {k: v for k, (_, v) in VALUES.items()}
        assert [type(v) for v in read_spans(file)[0].attributes.values()] == [
            type(v) for _, v in VALUES.values()
        ]
        assert (got.status, got.status_message, got.trace_state) == ("error", "it broke", "a=b")
        assert (got.events[0].name, got.events[0].time_ns, got.links[0].span_id) == (
            "first token",
            5,
            PARENT.hex(),
        )
        assert (got.scope, got.scope_version, got.resource) == ("tailrace", "0.1.0", {"service.name": "dify"})
        assert (kept[1].parent_span_id, kept[1].kind, kept[1].status) == (None, "unspecified", "unset")

    run(test)


def test_gzip_is_read_in_one_or_several_members() -> None:
    data = body(span(1))

    async def test(session: aiohttp.ClientSession) -> None:
        async with OtlpReceiver() as receiver:
            for packed in (gzip.compress(data, mtime=0), gzip.compress(data[:9]) + gzip.compress(data[9:])):
                assert (await post(session, receiver.endpoint, packed, **{"Content-Encoding": "gzip"}))[
                    0
                ] == 200
            assert len(receiver.spans) == 2
            assert receiver.exchanges[0].body == gzip.compress(data, mtime=0)
            assert receiver.exchanges[0].headers["content-encoding"] == "gzip"

    run(test)


@pytest.mark.parametrize(
    ("data", "headers", "status", "says"),
    [
        (b"\xff\xff\xff", {}, 400, "not a valid ExportTraceServiceRequest"),
        (body(span(1))[:-3], {}, 400, "not a valid ExportTraceServiceRequest"),
        (body(span(1)), {"Content-Encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(body(span(1)))[:-4], {"Content-Encoding": "gzip"}, 400, "cut off"),
        (gzip.compress(body(span(1))) + b"more", {"Content-Encoding": "gzip"}, 400, "not gzip"),
        (body(span(1)), {"Content-Encoding": "zstd"}, 415, "zstd"),
        (body(span(1)), {"Content-Type": "application/json"}, 415, "application/json"),
        (body(span(1), span(2, trace_id=bytes(16))), {}, 400, "span 1 ('span 2'): trace_id is all zero"),
        (body(span(0)), {}, 400, "span_id is all zero"),
        (body(span(1, trace_id=TRACE[:15])), {}, 400, "trace_id has 15 bytes"),
        (body(span(1, span_id=b"")), {}, 400, "span_id has 0 bytes"),
        (body(span(1, parent_span_id=TRACE)), {}, 400, "parent_span_id has 16 bytes"),
        (body(span(1, parent_span_id=bytes(8))), {}, 400, "parent_span_id is all zero"),
        (body(span(1, links=[Span.Link(trace_id=TRACE, span_id=b"1")])), {}, 400, "span_id of a link"),
        (bytes(5000), {}, 413, "4000"),
        (gzip.compress(body(*(span(n) for n in range(1, 99)))), {"Content-Encoding": "gzip"}, 413, "4000"),
    ],
)
def test_refuses_the_whole_request_and_says_why(
    data: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    async def test(session: aiohttp.ClientSession) -> None:
        async with OtlpReceiver(max_bytes=4000) as receiver:
            got, answer = await post(session, receiver.endpoint, data, **headers)
            assert (got, receiver.spans) == (status, [])
            assert answer[0] == 0x08, "a google.rpc.Status starts with its code"
            assert says in answer.decode(errors="replace")

    run(test)


def test_a_body_without_length_is_limited_too() -> None:
    async def chunks(data: bytes) -> Any:
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    async def test(session: aiohttp.ClientSession) -> None:
        async with OtlpReceiver(max_bytes=4000) as receiver:
            url = receiver.endpoint + "/v1/traces"
            async with session.post(url, data=chunks(bytes(4001)), headers=HEADERS) as r:
                assert r.status == 413
            async with session.post(url, data=chunks(body(span(1))), headers=HEADERS) as r:
                assert r.status == 200

    run(test)


def test_scripted_statuses_come_first_then_resets_then_partial_success() -> None:
    faults = OtlpFaults(
        status=503,
        status_first=2,
        headers={"Retry-After": "7"},
        reset="request",
        reset_first=1,
        partial_rejected=1,
        partial_first=1,
    )

    async def test(session: aiohttp.ClientSession) -> None:
        async with OtlpReceiver(faults=faults) as receiver:
            for _ in range(2):
                async with session.post(
                    receiver.endpoint + "/v1/traces", data=body(span(1)), headers=HEADERS
                ) as r:
                    assert (r.status, r.headers["Retry-After"]) == (503, "7")
            with pytest.raises(aiohttp.ClientError):
                await post(session, receiver.endpoint, body(span(1, name="x" * 3_000_000)))
            assert receiver.spans == []
            _, answer = await post(session, receiver.endpoint, body(span(1), span(2)))
            partial = ExportTraceServiceResponse.FromString(answer).partial_success
            assert (partial.rejected_spans, partial.error_message) == (1, "rejected as scripted")
            assert [s.name for s in receiver.spans] == ["span 1"]
            assert (await post(session, receiver.endpoint, body(span(3))))[1] == b""
            assert [e.status for e in receiver.exchanges] == [503, 503, 0, 200, 200]

    run(test)


def test_a_count_of_zero_is_without_end() -> None:
    assert [OtlpFaults(status=500, status_first=0).at(n) for n in (1, 1000)] == ["status", "status"]
    assert [OtlpFaults().at(n) for n in (1, 1000)] == [None, None]


def test_an_answer_broken_in_its_body_was_kept() -> None:
    async def test(session: aiohttp.ClientSession) -> None:
        async with OtlpReceiver(faults=OtlpFaults(reset="response")) as receiver:
            with pytest.raises(aiohttp.ClientError):
                await post(session, receiver.endpoint, body(span(1)))
            assert len(receiver.spans) == 1
            assert (await post(session, receiver.endpoint, body(span(1))))[0] == 200
            assert receiver.stats == {"requests": 2, "spans": 2, "distinct_spans": 1}

    run(test)


def test_spans_are_in_the_file_while_the_answer_is_delayed(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"

    async def test(session: aiohttp.ClientSession) -> None:
        receiver = OtlpReceiver(file, faults=OtlpFaults(delay=3600))
        await receiver.start()
        sending = asyncio.create_task(post(session, receiver.endpoint, body(span(1))))
        async with asyncio.timeout(20):
            while not receiver.spans:
                await asyncio.wait([sending], timeout=0.01)
        assert not sending.done()
        assert read_spans(file) == receiver.spans
        await receiver.stop()
        assert (await sending)[0] == 200, "stopping answers what is in flight"

    run(test)


# -- as a process
@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for p in started:
        p.kill()
        p.wait(60)


def start(
    processes: list[subprocess.Popen[bytes]], file: Path, *args: str
) -> tuple[subprocess.Popen[bytes], str]:
    command = [sys.executable, "-m", "connectors.testing.doubles.otlp", "--file", str(file), "--json", *args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    processes.append(process)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert (ready["file"], ready["pid"]) == (str(file), process.pid)
    return process, ready["endpoint"]


def test_a_killed_receiver_goes_on_where_it_was(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    file = tmp_path / "spans.jsonl"

    async def test(session: aiohttp.ClientSession) -> None:
        first, endpoint = start(processes, file)
        assert (await post(session, endpoint, body(span(1), span(2))))[0] == 200
        first.kill()
        first.wait(60)
        with file.open("ab") as f:
            f.write(b'{"request":2,"received_at":17,"trace_id":"00')  # torn by the kill
        second, again = start(processes, file, "--port", endpoint.rpartition(":")[2])
        assert again == endpoint
        assert (await post(session, endpoint, body(span(2), span(3))))[0] == 200
        async with session.get(endpoint + "/stats") as r:
            assert await r.json() == {"requests": 1, "spans": 4, "distinct_spans": 3}
        async with session.get(endpoint + "/healthz") as r:
            assert r.status == 200
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0
        assert [(s.request, s.name) for s in read_spans(file)] == [
            (1, "span 1"),
            (1, "span 2"),
            (2, "span 2"),
            (2, "span 3"),
        ]

    run(test)


def test_stops_cleanly_on_interrupt_and_says_what_it_got(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "connectors.testing.doubles.otlp", "--file", str(tmp_path / "s.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"OTLP traces at http://127.0.0.1:" in process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout.read() == b"stopped: 0 requests, 0 spans in the file, 0 distinct\n"
    assert process.returncode == 0


def test_says_why_it_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("not a span\nnor this\n")
    command = [sys.executable, "-m", "connectors.testing.doubles.otlp", "--file", str(tmp_path / "notes")]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (failed.returncode, "line 1" in failed.stderr, "Traceback" in failed.stderr) == (1, True, False)


# -- the file and its views
def kept(n: int, **changes: Any) -> ReceivedSpan:
    fields: dict[str, Any] = {
        "request": 1,
        "received_at": n,
        "trace_id": "t",
        "span_id": str(n),
        "name": "n",
        "kind": "internal",
        "start_ns": 1,
        "end_ns": 2,
        "attributes": {},
    }
    return ReceivedSpan(**{**fields, **changes})


def test_a_torn_last_line_is_left_out_and_any_other_bad_line_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    assert read_spans(file) == []
    good = b'{"request":1,"received_at":1,"trace_id":"a","span_id":"b","name":"\xc3\xab","kind":"internal",'
    good += b'"start_ns":1,"end_ns":2,"attributes":{}}\n'
    for cut in range(1, len(good) - 1):
        file.write_bytes(good + good[:cut])
        assert len(read_spans(file)) == 1
    file.write_bytes(good + good[:20] + b"\n" + good)
    with pytest.raises(ValueError, match="line 2"):
        read_spans(file)


def test_views_replace_by_key() -> None:
    spans = [kept(1), kept(2, parent_span_id="1"), kept(1, name="later"), kept(1, trace_id="u")]
    assert [s.name for s in latest(spans).values()] == ["later", "n", "n"]
    assert tree(spans) == {"t": {"1": None, "2": "1"}, "u": {"1": None}}
