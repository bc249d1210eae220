"""Reading the project's Markdown: code blocks, links, tables and command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from tailrace.cli import cli

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = tuple(
    sorted(
        path
        for pattern in ("*.md", "docs/**/*.md", "schemas/*.md", "examples/**/*.md", "benchmarks/*.md")
        for path in ROOT.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )
)
"""Every page of the project."""

_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"`[^`\n]*`")
_MODULE: Final = re.compile(
    r"(?:\.venv/bin/)?python -m ((?:tailrace|streams|connectors|examples|benchmarks|tests|tools)\.[\w.]+)"
)
_ENDS: Final = ("|", "||", "&&", ";", ">", ">>", "<", "&")


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    return [code for name, code in _BLOCK.findall(text) if name == language]


def prose(text: str) -> str:
    return _BLOCK.sub("", text)


def links(text: str) -> list[str]:
    """Targets of links in the prose."""
    return _LINK.findall(_CODE.sub("", prose(text)))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in found}


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without headings and rules."""
    found = [
        [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in prose(text).splitlines()
        if line[:1] == "|"
    ]
    rules = {i for i, cells in enumerate(found) if all(set(c) <= set("-:") for c in cells) and any(cells)}
    return [cells for i, cells in enumerate(found) if i not in rules and i + 1 not in rules]


def commands(text: str) -> list[list[str]]:
    """The words of each command line that calls `tailrace`.

    They are in console blocks, or quoted in the prose with more than one word.
    """
    lines = [line for block in blocks(text, "console") for line in block.splitlines()]
    lines += [c.strip("`") for c in _CODE.findall(prose(text)) if re.match(r"`tailrace \w", c)]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if "tailrace" in words[:3]:
            words = words[words.index("tailrace") + 1 :]
            ends = [i for i, word in enumerate(words) if word in _ENDS]
            found.append(words[: ends[0]] if ends else words)
    return found


def modules(text: str) -> list[tuple[str, list[str]]]:
    """Each `python -m` of a module of this project with its long options, in console blocks and in prose."""
    lines = [line for block in blocks(text, "console") for line in block.splitlines()]
    lines += [c.strip("`") for c in _CODE.findall(prose(text))]
    found = []
    for line in lines:
        match = _MODULE.match(line)
        if match:
            options = [w.partition("=")[0] for w in line[match.end() :].split() if w.startswith("--")]
            found.append((match[1], options))
    return found


def parsed(words: list[str]) -> tuple[str, dict[str, object]]:
    """A command line as click parses it: the path of the sub-command and its raw options.

    Files are not opened and values are not converted. Raises click.UsageError for a command or option that
    does not exist.
    """
    command: click.Command = cli
    path: list[str] = []
    context = click.Context(cli, info_name="tailrace")
    while isinstance(command, click.Group):
        if not words:
            return " ".join(path), {}
        inner = command.get_command(context, words[0])
        if inner is None:
            raise click.UsageError(f"no command {' '.join([*path, words[0]])}")
        path.append(words[0])
        command, words = inner, words[1:]
        context = click.Context(command, info_name=path[-1], parent=context)
    options, rest, _ = command.make_parser(context).parse_args(list(words))
    if rest:
        raise click.UsageError(f"{' '.join(path)}: {rest} is too much")
    return " ".join(path), dict(options)


def named_tests(text: str) -> Iterator[tuple[str, str]]:
    """(file, function) for each test that a page names: `tests/x.py` (`test_a`, `test_b`)."""
    for path, names in re.findall(r"`(tests/[\w/]+\.py)`\s\(((?:`test_\w+`(?:,\s)?)+)\)", text):
        for name in re.findall(r"test_\w+", names):
            yield path, name
