"""Formats of input are found by entry points, as commands and sinks are."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from tailrace import formats
from tailrace.cli import cli
from tailrace.commands.formats import Notes, converted
from tailrace.commands.input_lines import Line, lines_of
from tailrace.errors import ConfigError, InvalidEvent, MissingPackage
from tailrace.event_lines import EventLines
from tailrace.formats import Converted, Note, Options, adapter, installed


def test_the_built_in_formats_are_installed() -> None:
    assert {"dify", "jsonl"} <= set(installed())
    assert isinstance(adapter("jsonl", Options()), EventLines)


@pytest.mark.parametrize("command", [["publish", "x.jsonl"], ["render", "console", "x.jsonl"]])
def test_an_unknown_format_names_those_there_are(command: list[str]) -> None:
    with CliRunner().isolated_filesystem():
        open("x.jsonl", "w").close()
        ran = CliRunner().invoke(cli, [*command, "--format", "smoke-signals"])
    assert ran.exit_code == 2
    assert "--format smoke-signals: is not a format; there are: dify, jsonl" in ran.output


def test_a_format_refuses_an_option_that_it_does_not_take() -> None:
    with pytest.raises(ConfigError, match="--timezone is not for --format jsonl"):
        adapter("jsonl", Options(timezone=("UTC",)))


def test_a_format_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shouts:
        def line(self, where: str, raw: bytes) -> Iterable[Converted]:
            return ()

        def end(self) -> Iterable[Converted]:
            return ()

    class Point:
        name = "shouts"

        def load(self) -> object:
            return lambda options: Shouts()

    monkeypatch.setattr(formats, "entry_points", lambda group: [Point()] if group == formats.GROUP else [])
    assert isinstance(adapter("shouts", Options()), Shouts)
    with pytest.raises(ConfigError, match="there are: shouts"):
        adapter("dify", Options())


def test_a_format_whose_package_is_missing_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="gone", value="no_such_package.x:adapter", group=formats.GROUP)
    monkeypatch.setattr(formats, "entry_points", lambda group: [point])
    with pytest.raises(MissingPackage, match="needs the package no_such_package"):
        adapter("gone", Options())


@pytest.mark.parametrize("value", ["tailrace.formats:no_such_name", "json.decoder:JSONDecoder.nothing"])
def test_a_format_that_cannot_be_loaded_says_where_it_should_be(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    point = EntryPoint(name="bad", value=value, group=formats.GROUP)
    monkeypatch.setattr(formats, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match=f"--format bad: {value} cannot be loaded"):
        adapter("bad", Options())


# -- notes


def taken(*notes: Note, explain: bool = False) -> tuple[Notes, list[str]]:
    said: list[str] = []
    made = Notes(explain, said.append)
    for number, note in enumerate(notes, 1):
        made.take(Converted(f"f:{number}", None, notes=(note,)))
    return made, said


def test_notes_are_counted_by_kind_and_said_line_by_line_if_asked() -> None:
    note, other = Note("filled", "tenant_id", "from its message"), Note("missing", "parent_id", "no line")
    made, said = taken(note, other, note)
    assert made.summary() == ["2 x filled tenant_id: from its message", "1 x missing parent_id: no line"]
    assert said == []
    _, said = taken(note, other, explain=True)
    assert said == ["f:1: filled tenant_id: from its message", "f:2: missing parent_id: no line"]


def test_the_summary_is_bounded_however_many_different_notes_there_are() -> None:
    made, _ = taken(*(Note("unplaced", f"trace_info.x{n}", "no field") for n in range(5000)))
    lines = made.summary()
    assert len(lines) == 41
    assert lines[-1] == "4,960 x other notes; --explain prints each"
    assert len(made.counts) == 1000
    assert made.table()[-1] == {"what": "other", "count": 4000}


@pytest.mark.parametrize("field", ["a\nb", "\x1b[31mred", "\ud800", "x" * 10_000])
def test_a_fields_name_from_the_input_can_always_be_printed(field: str) -> None:
    made, said = taken(Note("unplaced", field, "no field"), explain=True)
    for text in (*made.summary(), *said, made.table()[0]["field"]):
        assert text.isprintable()
        assert len(text) < 200
        text.encode()


def test_what_is_counted_is_bounded_in_bytes() -> None:
    """Each of very many lines may have a field with a name of a megabyte."""
    made, _ = taken(*(Note("unplaced", f"{n}" + "x" * 1_000_000, "no field") for n in range(20)))
    assert sum(len(note.field) for note in made.counts) < 20 * 200


# -- lines


def refused(*lines: bytes) -> str:
    """What `tailrace render` says about lines that it refuses."""
    ran = CliRunner().invoke(cli, ["render", "console", "-"], input=b"\n".join(lines))
    assert ran.exit_code == 1
    return ran.stderr


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind": "tool", "started_at": 1, "ended_at": 1, "' + b"x" * 1_000_000 + b'": 1}',
        b'{"kind": "' + b"x" * 1_000_000 + b'", "started_at": 1, "ended_at": 1}',
        b'{"kind": "tool", "started_at": 1, "ended_at": 1, "\\u001b[31mred\\n\\n": 1}',
    ],
)
def test_the_message_about_a_line_is_one_printable_line_of_bounded_size(line: bytes) -> None:
    message, _ = refused(line).splitlines()
    assert message.startswith("stdin:1: ")
    assert message.isprintable()
    assert len(message) < 700


def read(data: bytes, longest: int = 100) -> list[tuple[int, bytes, str]]:
    found = lines_of(io.BytesIO(data).readline, longest)
    return [(line.number, line.raw, "" if line.problem is None else str(line.problem)) for line in found]


def test_lines_are_numbered_and_blank_ones_left_out() -> None:
    assert read(b"a\r\n\n  \nb") == [(1, b"a\r\n", ""), (4, b"b", "")]
    assert read(b"") == read(b"\n\r\n") == []


def test_a_byte_order_mark_before_the_first_line_is_left_out() -> None:
    assert read(b"\xef\xbb\xbf{}\n\xef\xbb\xbf{}") == [(1, b"{}\n", ""), (2, b"\xef\xbb\xbf{}", "")]
    assert read(b"\xef\xbb\xbf\n") == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(b"{}\n{}\n", mtime=0), "zcat FILE"),
        ("{}\n{}\n".encode("utf-16"), "iconv -f UTF-16"),
        (b"PK\x03\x04\n\n", "unzip -p FILE"),
        (b"\x28\xb5\x2f\xfd\nx", "zstdcat FILE"),
    ],
)
def test_a_file_that_has_no_lines_of_json_is_refused_once_with_what_to_do(data: bytes, what: str) -> None:
    [(number, raw, problem)] = read(data)
    assert (number, raw) == (1, b"")
    assert problem.startswith("line: is not JSON: the file is ")
    assert what in problem


def test_a_line_that_is_too_long_is_skipped_and_the_following_ones_are_read() -> None:
    long = b"x" * 101
    said = "line: is longer than 100 bytes, the most"
    assert read(b"a\n" + long + b"\nb\n") == [(1, b"a\n", ""), (2, b"", said), (3, b"b\n", "")]
    assert read(long) == [(1, b"", said)]
    assert read(long[:100]) == [(1, long[:100], "")]
    assert read(long[:100] + b"\n" + b"b") == [(1, long[:100] + b"\n", ""), (2, b"b", "")]


def test_a_line_that_is_too_long_is_not_held_in_memory() -> None:
    """Only a part at a time, whatever its length."""

    class Endless:
        left = 300

        def readline(self, size: int) -> bytes:
            self.left -= 1
            assert size <= 1 << 20
            return b"x" * size if self.left > 0 else b"\n" if self.left == 0 else b""

    assert [line.number for line in lines_of(Endless().readline, 1000)] == [1]


def test_a_line_that_cannot_be_read_is_refused_and_the_format_does_not_see_it() -> None:
    problem = InvalidEvent("line", "is longer than …")
    assert list(converted(EventLines(), "f:1", Line(1, b"", problem))) == [Converted("f:1", None, problem)]


@pytest.mark.parametrize("name", ["jsonl", "dify"])
def test_a_file_with_a_byte_order_mark_is_read(name: str) -> None:
    event = (
        b'{"kind": "tool", "source_id": "s", "started_at": 1764000000000000, "ended_at": 1764000000000000}'
    )
    app = b'{"case": "app_created", "tenant_id": "t", "event_id": "e", "payload": {"app_id": "a"}}'
    line = event if name == "jsonl" else app
    ran = CliRunner().invoke(
        cli, ["render", "console", "--format", name, "-"], input=b"\xef\xbb\xbf" + line + b"\r\n"
    )
    assert ran.exit_code == 0, ran.output
