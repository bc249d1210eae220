"""`tailrace publish`: which lines are published, which are refused, and that no other is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailrace import Publisher, codec, identity, topics
from tailrace.cli import cli
from tailrace.commands import publish as command
from tailrace.delivery_reports import FlushReport, OnDelivery
from tailrace.errors import InvalidEvent, QueueFull, TopicMismatch
from tailrace.event_lines import parse
from tailrace.records import Kind, TraceEvent
from tailrace.settings import Settings
from tests.tailrace import topic
from tests.tailrace.ports import closed_port

NOW = 1_764_000_000_000_000
GOOD = {"kind": "tool", "source_id": "s1", "started_at": NOW, "ended_at": NOW + 1}


def line(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


# -- one line


@pytest.mark.parametrize(
    ("member", "path", "text", "count"),
    [
        (r'"inputs": "a\ud83d"', "inputs", '"a\ufffd"', 1),
        (
            '"inputs": {"a": NaN, "b": [-Infinity, 1e400, 1.50]}',
            "inputs",
            '{"a":null,"b":[null,1e400,1.50]}',
            2,
        ),
        (r'"inputs": {"\ud800k": "\ud83d\ude00", "n": 12345678901234567890123}', "inputs", None, 1),
        (r'"tool": {"tool_outputs": ["\ud83d", NaN]}', "tool.tool_outputs", '["\ufffd",null]', 2),
        (r'"attributes": {"a": "\udc00"}', "attributes", {"a": "\ufffd"}, 1),
        (r'"tags": ["\udc00", "b"]', "tags", ["\ufffd", "b"], 1),
    ],
)
def test_what_only_python_takes_for_json_is_converted_as_in_publish(
    member: str, path: str, text: Any, count: int
) -> None:
    event = identity.complete(parse(line()[:-1] + f", {member}}}".encode()), NOW)
    read: Any = codec.decode(codec.encode(event), TraceEvent)
    assert [(c.field, c.change, c.count) for c in read.content_changes] == [(path, "converted", count)]
    for part in path.split("."):
        read = getattr(read, part)
    expected = '{"\ufffdk":"😀","n":12345678901234567890123}' if text is None else text
    assert read == expected


@pytest.mark.parametrize(
    ("member", "field"),
    [
        (r'"trace_id": "\ud83d"', "trace_id"),
        ('"total_price": NaN', "total_price"),
        ('"input_tokens": Infinity', "input_tokens"),
        (r'"dataset_ids": ["\ud83d"]', "dataset_ids"),
        (r'"inputs": "\ud83d', "line"),
        ('"inputs": NAN', "line"),
        ('"inputs": ' + "[" * 100_000 + "NaN", "line"),
        ('"inputs": "\x01\\ud83d"', "line"),
    ],
)
def test_what_is_no_json_or_in_the_header_is_refused_with_its_field_named(member: str, field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse(line()[:-1] + f", {member}}}".encode())
    assert caught.value.field == field


def test_a_line_has_the_events_field_names() -> None:
    event = parse(
        line(
            name="search",
            tags=["a"],
            attributes={"k": "v"},
            revision=1,
            span_kind=None,
            tool={"call_id": "c", "time_cost": 5},
            otel_trace_id="000102030405060708090a0b0c0d0e0f",
            otel_span_id="0001020304050607",
            otel_parent_span_id=None,
        )
    )
    assert event.kind is Kind.TOOL
    assert (event.name, event.tags, event.attributes, event.revision) == ("search", ["a"], {"k": "v"}, 1)
    assert (event.otel_trace_id, event.otel_span_id, event.otel_parent_span_id) == (
        bytes(range(16)),
        bytes(range(8)),
        None,
    )
    assert event.tool is not None
    assert (event.tool.call_id, event.tool.time_cost) == ("c", 5)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-01T12:00:00.000001Z", 1_793_534_400_000_001),
        ("2026-11-01T14:00:00.5+02:00", 1_793_534_400_500_000),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("2026-11-01 12:00:00+00:00", 1_793_534_400_000_000),
    ],
)
def test_times_are_rfc_3339_too(text: str, microseconds: int) -> None:
    assert parse(line(started_at=text)).started_at == microseconds
    assert parse(line(root_started_at=text)).root_started_at == microseconds


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "12:00"])
def test_the_example_for_a_wrong_time_is_itself_accepted(text: str) -> None:
    with pytest.raises(InvalidEvent, match=r"RFC 3339 text, for example \S+Z$") as refused:
        parse(line(started_at=text))
    parse(line(started_at=refused.value.problem.rpartition(" ")[2]))


@pytest.mark.parametrize(
    ("without", "microseconds"),
    [
        ("2026-03-01", 1_772_323_200_000_000),
        ("20260301", 1_772_323_200_000_000),
        ("2026-03-01T12", 1_772_366_400_000_000),
        ("2026-03-01 12:00:00.5", 1_772_366_400_500_000),
    ],
)
def test_the_example_for_a_time_without_a_zone_is_taken(without: str, microseconds: int) -> None:
    with pytest.raises(InvalidEvent, match="has no time zone") as caught:
        parse(line(started_at=without))
    [example] = re.findall(r"for example (\S+)$", str(caught.value))
    assert parse(line(started_at=example)).started_at == microseconds


@pytest.mark.parametrize(
    "raw",
    [
        '{"q": 1.10, "n": 123456789012345678901234567890}',
        '"text"',
        "[1,  2]",
        "0.30000000000000004",
        "true",
        '"\\u00e9"',
        "1e999",
    ],
)
def test_content_is_any_json_and_kept_as_it_is_written(raw: str) -> None:
    text = json.dumps({**GOOD, "inputs": "RAW", "tool": {"tool_inputs": "RAW", "description": "d"}}).replace(
        '"RAW"', f" {raw} "
    )
    done = identity.complete(parse(text.encode()), 3)
    assert done.inputs == raw
    assert done.tool is not None
    assert (done.tool.tool_inputs, done.tool.description) == (raw, "d")
    codec.encode(done)


def test_null_content_is_none() -> None:
    event = parse(line(inputs=None, tool={"tool_inputs": None}, origin=None))
    assert (event.inputs, event.origin) == (None, None)
    assert event.tool is not None
    assert event.tool.tool_inputs is None


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "line"),
        (b"not json", "line"),
        (b"[1]", "line"),
        (b'"x"', "line"),
        (b'{"kind": "tool"', "line"),
        (b"\xff\xfe", "line"),
        (b'{"kind": "tool", "started_at": 1}', "ended_at"),
        (b"{}", "kind"),
        (line(kind="dance"), "kind"),
        (line(kind=5), "kind"),
        (line(nonsense=1), "nonsense"),
        (line(tool={"nonsense": 1}), "tool.nonsense"),
        (line(tool=[]), "tool"),
        (line(tool="x"), "tool"),
        (line(started_at="yesterday"), "started_at"),
        (line(ended_at="2026-11-01T12:00:00"), "ended_at"),
        (line(started_at=1.5), "started_at"),
        (line(started_at=None), "started_at"),
        (line(otel_trace_id="00"), "otel_trace_id"),
        (line(otel_span_id="zz" * 8), "otel_span_id"),
        (line(otel_span_id=5), "otel_span_id"),
        (line(revision=True), "revision"),
        (
            b'{"inputs": "\xff", "kind": "tool", "started_at": 1, "ended_at": 2}',
            "inputs",
        ),
    ],
)
def test_a_line_that_is_not_an_event_is_refused_with_the_field_named(raw: bytes, field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        codec.encode(identity.complete(parse(raw), 3))
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


@given(
    st.one_of(
        st.binary(max_size=80),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda x: (
                st.lists(x, max_size=3)
                | st.dictionaries(st.sampled_from([*TraceEvent.__struct_fields__, "x"]), x, max_size=6)
            ),
        ).map(lambda v: json.dumps(v).encode()),
    )
)
@example(b'{"kind": "tool", "host_name": false, "content_changes": false, "started_at": 1, "ended_at": 2}')
@settings(max_examples=300, deadline=None)
def test_any_line_is_an_event_or_refused(raw: bytes) -> None:
    try:
        codec.encode(identity.complete(parse(raw), 3))
        said = ""
    except InvalidEvent as e:
        said = str(e)
    assert "\n" not in said


# -- the command


def publish(*arguments: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(cli, ["publish", *arguments], input=stdin)


def options(made: Settings) -> list[str]:
    return ["-b", made.kafka.bootstrap_servers, "--set", f"topics.prefix={made.topics.prefix}"]


@pytest.mark.kafka
def test_events_of_files_and_stdin_are_published(
    topics_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    made = topics_settings()
    file = tmp_path / "a.jsonl"
    file.write_bytes(
        line(source_id="a") + b"\n\n  \r\n" + line(source_id="b")
    )  # the last line without its end
    ran = publish(*options(made), str(file), "-", stdin=line(source_id="c") + b"\r\n")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "3 events: 3 delivered\n", "")
    ran = publish(*options(made), "--json", stdin=line(source_id="d"))
    assert json.loads(ran.stdout) == {
        "lines": 1,
        "delivered": 1,
        "refused": 0,
        "not_delivered": 0,
        "stopped_at": None,
        "interrupted": None,
    }
    assert sorted(e.source_id or "" for e in topic.published(made)) == ["a", "b", "c", "d"]


@pytest.mark.kafka
def test_a_bad_line_is_named_and_nothing_else_is_lost(
    topics_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    made = topics_settings(max_event_bytes=200_000)
    file = tmp_path / "a.jsonl"
    lines = [line(source_id=f"s{n}") for n in range(6)]
    lines[2:2] = [b"{", line(tenant_id=5), line(message={}), line(inputs="x" * 200_000), line(kind="unknown")]
    file.write_bytes(b"\n".join(lines))
    ran = publish(*options(made), "--set", "topics.max_event_bytes=200000", str(file))
    assert ran.exit_code == 1
    assert ran.stdout == "11 events: 6 delivered, 5 refused\n"
    said = ran.stderr.splitlines()
    assert [text[len(str(file)) :].split(": ")[:2] for text in said] == [
        [":3", "line"],
        [":4", "tenant_id"],
        [":5", "message"],
        [":6", "inputs"],
        [":7", "kind"],
    ]
    assert sorted(e.source_id or "" for e in topic.published(made)) == [f"s{n}" for n in range(6)]


@pytest.mark.kafka
def test_strict_stops_at_the_first_bad_line(topics_settings: Callable[..., Settings]) -> None:
    made = topics_settings()
    ran = publish(
        *options(made), "--strict", stdin=b"\n".join([line(source_id="a"), b"{", line(source_id="b")])
    )
    assert ran.exit_code == 1
    assert ran.stdout == "2 events: 1 delivered, 1 refused, stopped at stdin:2\n"
    assert [e.source_id for e in topic.published(made)] == ["a"]


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_reading_and_what_was_read_is_delivered(
    topics_settings: Callable[..., Settings], number: signal.Signals
) -> None:
    made = topics_settings()
    for extra in ([], ["--json"]):
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tailrace",
                "publish",
                *options(made),
                "--set",
                "publisher.linger_ms=60000",
                *extra,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(line(source_id="a") + b"\n" + line(source_id="b") + b"\n{\n")
        child.stdin.flush()
        assert child.stderr.readline().startswith(
            b"stdin:3: "
        )  # all three lines are read, and it waits for more
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
        assert child.returncode == 128 + number, err
        assert b"Traceback" not in err
        if extra:
            assert json.loads(out) == {
                "lines": 3,
                "delivered": 2,
                "refused": 1,
                "not_delivered": 0,
                "stopped_at": None,
                "interrupted": number.name,
            }
        else:
            assert (
                out.decode() == f"3 events: 2 delivered, 1 refused, {number.name} after 3 lines were read\n"
            )
    assert sorted(e.source_id or "" for e in topic.published(made)) == ["a", "a", "b", "b"]


def test_a_signal_ends_the_wait_for_room_and_a_second_one_the_wait_for_deliveries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted(Publisher):
        """Sends SIGTERM when its queue is full, and once more when deliveries are waited for."""

        flushed = False

        def publish(self, event: TraceEvent, on_delivery: OnDelivery | None = None) -> str:
            try:
                return super().publish(event, on_delivery)
            except QueueFull:
                os.kill(os.getpid(), signal.SIGTERM)
                raise

        def flush(self, timeout: float) -> FlushReport:
            if not self.flushed:
                self.flushed = True
                os.kill(os.getpid(), signal.SIGTERM)
            return super().flush(timeout)

    monkeypatch.setattr(command, "_require_topic", lambda *_: None)
    monkeypatch.setattr(command, "Publisher", Interrupted)
    began = time.monotonic()
    with closed_port() as address:
        ran = publish(
            "-b",
            address,
            "--timeout",
            "600",
            "--set",
            "publisher.queue_max_events=2",
            "--json",
            stdin=b"\n".join(line(source_id=str(n)) for n in range(9)),
        )
    assert ran.exit_code == 143
    assert time.monotonic() - began < 300
    counts = json.loads(ran.stdout)
    assert (counts["lines"], counts["not_delivered"], counts["stopped_at"]) == (3, 2, "stdin:3")
    assert counts["interrupted"] == "SIGTERM"


def test_without_a_broker_nothing_is_read_and_the_status_is_1() -> None:
    with closed_port() as address:
        ran = publish("-b", address, "--timeout", "0.5", stdin=line())
    assert ran.exit_code == 1
    assert "nothing is published: no Kafka broker answers" in ran.stderr


@pytest.mark.kafka
def test_a_missing_topic_is_an_error_before_anything_is_read(
    topics_settings: Callable[..., Settings],
) -> None:
    made = topics_settings(create=False)
    ran = publish(*options(made), "--timeout", "0.2", stdin=line())
    assert isinstance(ran.exception, TopicMismatch)
    missing = f"{made.topics.prefix}events is missing: run `tailrace topics create`"
    assert str(ran.exception) == missing
    assert f"{missing}; waiting for it" in ran.stderr


@pytest.mark.kafka
def test_a_missing_topic_is_waited_for(
    topics_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = topics_settings(create=False)
    admin = AdminClient({"bootstrap.servers": made.kafka.bootstrap_servers})

    def sleep(seconds: float) -> None:
        topics.create(admin, made.topics)  # while it waits

    monkeypatch.setattr(command, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
    ran = publish(*options(made), stdin=line(source_id="a"))
    assert ran.exit_code == 0, ran.output
    assert [e.source_id for e in topic.published(made)] == ["a"]


def test_what_is_not_delivered_in_time_is_named_and_the_status_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_require_topic", lambda *_: None)  # the broker fails after this check
    with closed_port() as address:
        ran = publish(
            "-b",
            address,
            "--timeout",
            "0.2",
            "--json",
            stdin=line(source_id="a") + b"\n" + line(source_id="b"),
        )
        assert ran.exit_code == 1
        counts = json.loads(ran.stdout)
        assert (counts["lines"], counts["delivered"], counts["not_delivered"]) == (2, 0, 2)
        assert ran.stderr.count("not delivered: event ") == 2
        ran = publish("-b", address, "--timeout", "0.2", stdin=line(source_id="a"))
        assert ran.exit_code == 1
        assert ran.stdout == "1 events: 0 delivered, 1 not delivered, 1 of them timed out\n"


def test_a_queue_that_stays_full_ends_the_run_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_require_topic", lambda *_: None)
    with closed_port() as address:
        lines = b"\n".join(line(source_id=str(n)) for n in range(9))
        ran = publish(
            "-b", address, "--timeout", "0.2", "--set", "publisher.queue_max_events=5", "--json", stdin=lines
        )
    assert ran.exit_code == 1
    assert "stdin:6: stopped; this line and the following ones are not published" in ran.stderr
    counts = json.loads(ran.stdout)
    assert (counts["lines"], counts["delivered"], counts["not_delivered"], counts["stopped_at"]) == (
        6,
        0,
        5,
        "stdin:6",
    )


@pytest.mark.parametrize("while_reading", [True, False])
def test_a_signal_ends_the_reading_of_lines_but_never_the_publishing_of_one(while_reading: bool) -> None:
    """It is the next read that ends, or the one that waits for a line."""
    given = iter([b"1\n", b"2\n"])

    class File:
        name = "f"

        def readline(self, size: int) -> bytes:
            raw = next(given)
            if while_reading and raw == b"2\n":
                os.kill(os.getpid(), signal.SIGINT)
            return raw

    file: Any = File()
    with command._Signals() as signals:
        lines = command._lines((file,), signals)
        where, first = next(lines)
        assert (where, first.raw) == ("f:1", b"1\n")
        if not while_reading:
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(command._Stopped):
            next(lines)
        assert signals.number == signal.SIGINT


def test_progress_is_printed_when_it_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 5.5, 5.5, 6.0, 11.0, 11.0])
    run = command._Run(lambda: next(times))
    for delivered in (10, 2000, 2001, 4000):
        run.lines = delivered + 5
        run.progress(delivered)
    assert capsys.readouterr().err.splitlines() == [
        "2,005 lines read, 2,000 events delivered",
        "4,005 lines read, 4,000 events delivered",
    ]


def test_a_file_that_is_not_there_is_a_wrong_option() -> None:
    ran = publish("/nowhere/at/all.jsonl")
    assert ran.exit_code == 2
    assert "No such file" in ran.stderr
