"""--format, --timezone and --explain, for commands that read events from lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import click

from tailrace.commands.input_lines import Line
from tailrace.formats import DEFAULT, Adapter, Converted, Note, Options, adapter

F = TypeVar("F", bound=Callable[..., Any])
_SHOWN: Final = 40
"""Kinds of notes that a summary lists; further ones are only counted."""
_REMEMBERED: Final = 1000
"""Kinds of notes that are counted one by one."""
_LONGEST: Final = 120
"""Characters of a field's name, which may come from the input, that are shown."""
_MESSAGE: Final = 600
"""Characters of a problem that are shown."""


def format_options(function: F) -> F:
    """Adds --format, --timezone and --explain."""
    for option in (
        click.option(
            "--explain",
            is_flag=True,
            help="Print to standard error, for each line, what the format filled and what it could not.",
        ),
        click.option(
            "--timezone",
            "timezones",
            multiple=True,
            metavar="ZONE",
            help="Of a format whose times may lack a zone: the zone, e.g. Asia/Shanghai. Default: UTC.",
        ),
        click.option(
            "--format",
            "format_name",
            default=DEFAULT,
            show_default=True,
            metavar="NAME",
            help="Format of the lines: jsonl, dify or that of another installed package.",
        ),
    ):
        function = option(function)
    return function


def adapter_from(format_name: str, timezones: Iterable[str]) -> Adapter:
    """The adapter of a command line. Raises `ConfigError`."""
    return adapter(format_name, Options(timezone=tuple(timezones)))


def converted(adapter: Adapter, where: str, line: Line) -> Iterable[Converted]:
    """What a format makes of a line, or that it cannot be read."""
    if line.problem is not None:
        return (Converted(where, None, line.problem),)
    return adapter.line(where, line.raw)


def shown(problem: object) -> str:
    """A problem with a line as it can be printed: what is wrong may be quoted in it, whatever its size."""
    return _printable(str(problem), _MESSAGE)


class Notes:
    """What a format noted, counted for the summary and printed line by line if that is asked for.

    Args:
        explain: whether to print each note.
        say: prints a line.
    """

    def __init__(self, explain: bool, say: Callable[[str], object]) -> None:
        self._explain, self._say = explain, say
        self.counts: Counter[Note] = Counter()
        self.others = 0
        """Notes that are not in `counts`, because there are too many different ones."""

    def take(self, found: Converted) -> None:
        """Counts the notes of one event."""
        for what, field, why in found.notes:
            note = Note(what, _printable(field, _LONGEST), _printable(why, _MESSAGE))
            if note in self.counts or len(self.counts) < _REMEMBERED:
                self.counts[note] += 1
            else:
                self.others += 1
            if self._explain:
                self._say(f"{found.where}: {_text(note)}")

    def summary(self) -> list[str]:
        """One line for each kind of note, the most frequent first."""
        found = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        lines = [f"{n:,} x {_text(note)}" for note, n in found[:_SHOWN]]
        rest = sum(n for _, n in found[_SHOWN:]) + self.others
        if rest:
            lines.append(f"{rest:,} x other notes; --explain prints each")
        return lines

    def table(self) -> list[dict[str, Any]]:
        """The same for --json, all of them."""
        found = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        rows: list[dict[str, Any]] = [
            {"what": note.what, "field": note.field, "why": note.why, "count": n} for note, n in found
        ]
        return [*rows, {"what": "other", "count": self.others}] if self.others else rows


def _text(note: Note) -> str:
    return f"{note.what} {note.field}: {note.why}"


def _printable(text: str, longest: int) -> str:
    """A text, which may come from the input, as it can be printed."""
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return text if text.isprintable() else ascii(text)[1:-1][:longest]
