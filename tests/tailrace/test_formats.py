"""Formats of input are found by entry points, as commands and sinks are."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from tailrace import formats
from tailrace.cli import cli
from tailrace.commands.formats import Notes
from tailrace.errors import ConfigError, MissingPackage
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
