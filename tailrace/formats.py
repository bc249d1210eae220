"""Formats of input: what turns lines of a file into trace events. They are found by entry points.

The group `tailrace.formats` maps a name to a factory `(Options) -> Adapter`. `jsonl` is the format of
`tailrace.event_lines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Final, NamedTuple, Protocol

from tailrace.errors import ConfigError, InvalidEvent, MissingPackage
from tailrace.records import TraceEvent

GROUP: Final = "tailrace.formats"
DEFAULT: Final = "jsonl"


class Options(NamedTuple):
    """What the command line says to a format. A format refuses what it does not use."""

    timezone: tuple[str, ...] = ()
    """Values of --timezone, in order."""


class Note(NamedTuple):
    """What a format did to a line besides reading it, or could not do."""

    what: str
    """filled, missing, unplaced, unread, changed or read."""
    field: str
    """Field of the event or of the line."""
    why: str
    """From where, or why not. A small number of different texts: a summary counts by it."""


class Converted(NamedTuple):
    """One event made from lines, or one refused line."""

    where: str
    """The line that it was made from, as it was given to `Adapter.line`."""
    event: TraceEvent | None
    """The event; it is not completed yet. None: the line is refused."""
    problem: InvalidEvent | None = None
    """Why the line is refused."""
    notes: tuple[Note, ...] = ()


class Adapter(Protocol):
    """Turns lines into events.

    It may keep lines back until others tell what they lack, and make several events of one. What it keeps
    is bounded in bytes. No method raises because of what a line says.
    """

    def line(self, where: str, raw: bytes) -> Iterable[Converted]:
        """Takes a line; returns what can be said now, of this line and of earlier ones.

        Args:
            where: names the line in messages, e.g. `runs.jsonl:12`.
            raw: the line, with or without its end.
        """
        ...

    def end(self) -> Iterable[Converted]:
        """Says that no line follows; returns what was kept back."""
        ...


Factory = Callable[[Options], Adapter]


def installed() -> dict[str, EntryPoint]:
    """Name -> entry point of each format, by name."""
    return {e.name: e for e in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def adapter(name: str, options: Options) -> Adapter:
    """A new adapter of a format.

    Args:
        name: the format's name.
        options: what the command line says.

    Raises:
        ConfigError: there is no such format (the message names those there are), it cannot be loaded, or it
            does not take an option.
        MissingPackage: a package that it needs is not installed.
    """
    found = installed()
    if name not in found:
        raise ConfigError(f"--format {name}: is not a format; there are: {', '.join(found) or 'none'}")
    try:
        factory: Factory = found[name].load()
    except ModuleNotFoundError as e:
        raise MissingPackage(f"--format {name} needs the package {e.name}, which is not installed") from None
    except (ImportError, AttributeError) as e:
        raise ConfigError(f"--format {name}: {found[name].value} cannot be loaded: {e}") from None
    return factory(options)
