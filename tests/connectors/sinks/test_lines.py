"""Console and file: what they write, and what they do when they cannot."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from connectors.config.instances import instance
from connectors.sdk.contract import Batch, Enriched, Item, Payload, RecordOrigin, SinkStopped
from connectors.sdk.outcomes import Delivered, Paused
from connectors.sinks.console import Console
from connectors.sinks.file import File
from connectors.sinks.lines import as_json, as_text
from tailrace import codec
from tailrace.errors import ConfigError
from tailrace.records import Evaluation, Kind, TraceContext, TraceEvent
from tailrace.settings import Settings
from tests.connectors.delivery.test_batch_sender import NoHttp
from tests.connectors.enriching import make_context, make_event
from tests.connectors.generated import contexts, events

slow = settings(
    max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)


def enriched(event: TraceEvent, **context: Any) -> Enriched:
    return Enriched(event, make_context(event, 7, **context), "trace.enriched", 2, 40, 0)


def batch(*bodies: Any) -> Batch:
    return Batch(tuple(Item(Payload(b, len(b)), RecordOrigin("t", 0, i, 0)) for i, b in enumerate(bodies)))


@slow
@given(events, contexts)
def test_json_reads_back_to_the_same_event_and_is_one_line(event: TraceEvent, context: TraceContext) -> None:
    line = as_json(Enriched(event, context, "t", 1, 2, 3))
    assert b"\n" not in line
    document = json.loads(line)
    for name in ("otel_trace_id", "otel_span_id", "otel_parent_span_id"):
        if name in document["event"]:
            document["event"][name] = bytes.fromhex(document["event"][name])
    back = msgspec.convert(document["event"], TraceEvent)
    assert codec.encode(back) == codec.encode(event)


@slow
@given(events, contexts)
def test_text_is_one_printable_line(event: TraceEvent, context: TraceContext) -> None:
    assert as_text(Enriched(event, context, "t", 1, 2, 3)).isprintable()


def test_text_says_what_happened() -> None:
    event = make_event(
        1,
        name="Ask\x1b[2J",
        status="failed",
        error="no\nmodel",
        input_tokens=3,
        output_tokens=4,
        started_at=0,
        ended_at=2_500_000,
    )
    line = as_text(enriched(event))
    assert line.split()[:5] == ["00:00:02.500", "node_execution", "Ask", "[2J", "failed"]
    for part in ("2.50 s", "7 tok", "no model", make_context(event).run_trace_id.hex()):
        assert part in line
    assert "\x1b[31m" in as_text(enriched(event), colour=True)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (Evaluation(number=0.25, label="so\nso"), " 0.25 so so "),
        (Evaluation(label="l" * 40), " " + "l" * 31 + "… "),
        (Evaluation(flag=False), " false "),
        (Evaluation(number=-1e300), " -1e+300 "),
    ],
)
def test_a_line_of_an_evaluation_has_its_result(body: Evaluation, shown: str) -> None:
    event = make_event(1, kind=Kind.EVALUATION, name="tone", evaluation=body, total_tokens=9)
    assert shown in as_text(enriched(event))


def test_console_writes_whole_lines_and_colours_only_a_terminal() -> None:
    stream = io.StringIO()
    sink = Console(Console.Settings(), stream)
    payload = sink.map(enriched(make_event(1)))
    assert asyncio.run(sink.send(batch(payload.body, payload.body), NoHttp())) == Delivered()
    assert stream.getvalue() == f"{payload.body}\n" * 2
    assert "\x1b" not in payload.body
    assert "\x1b" in Console(Console.Settings(colour="always"), stream).map(enriched(make_event(1))).body
    as_lines = Console(Console.Settings(format="json"), stream).map(enriched(make_event(1))).body
    assert json.loads(as_lines)["event"]["event_id"] == "event-1"
    stream.close()
    with pytest.raises(SinkStopped):
        asyncio.run(sink.send(batch("x"), NoHttp()))


def test_file_appends_and_takes_back_what_a_full_disk_cuts_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"before\n")
    sink = File(File.Settings(path=str(path)))
    mapped = sink.map(enriched(make_event(1)))
    assert isinstance(mapped, Payload)
    assert asyncio.run(sink.send(batch(mapped.body, b"two\n"), NoHttp())) == Delivered()
    whole = path.read_bytes()
    assert whole == b"before\n" + mapped.body + b"two\n"

    write, calls = os.write, 0

    def full(fd: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        return write(fd, data[:2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        asyncio.run(sink.send(batch(b"three\n"), NoHttp()))
    assert path.read_bytes() == whole


def test_file_says_that_another_process_holds_its_lock_and_goes_on_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that was stopped (SIGSTOP) while it wrote: its lock stays."""
    monkeypatch.setattr("connectors.sinks.file.LOCK_SECONDS", 0.05, raising=False)
    path = tmp_path / "events.jsonl"
    sink = File(File.Settings(path=str(path)))
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        end = threading.Timer(10, fcntl.flock, (other, fcntl.LOCK_UN))  # for a sink that waits without end
        end.start()
        answer = asyncio.run(sink.send(batch(b"one\n"), NoHttp()))
        end.cancel()
    assert isinstance(answer, Paused)
    assert f"another process has held the lock of {path}" in answer.reason
    assert path.read_bytes() == b""
    assert asyncio.run(sink.send(batch(b"one\n"), NoHttp())) == Delivered()
    assert path.read_bytes() == b"one\n"


def test_file_does_not_pause_while_another_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is taken again and again is hard to get, and its owner is not stopped."""
    monkeypatch.setattr("connectors.sinks.file.LOCK_SECONDS", 0.0)
    path = tmp_path / "events.jsonl"
    flock, tries = fcntl.flock, 0

    def busy(fd: int, operation: int) -> None:
        nonlocal tries
        tries += 1
        if tries <= 5:
            with path.open("ab") as other:
                other.write(b"theirs\n")
            raise BlockingIOError
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", busy)
    sink = File(File.Settings(path=str(path)))
    assert asyncio.run(sink.send(batch(b"ours\n"), NoHttp())) == Delivered()
    assert path.read_bytes() == b"theirs\n" * 5 + b"ours\n"


def test_file_names_a_path_that_cannot_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "x"):
        with pytest.raises(ConfigError, match=r"sinks\.file\.path: "):
            instance(Settings(sinks={"file": {"path": str(path)}}), "file", {})
    (tmp_path / "ro").touch(mode=0o400)
    health = asyncio.run(File(File.Settings(path=str(tmp_path / "ro"))).check(NoHttp()))
    assert health.ok == (os.geteuid() == 0)
