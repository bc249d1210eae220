"""Examples in the help of the commands.

Each can be typed as it is. Those that need no Kafka, registry or vendor exit with 0.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tailrace import codec
from tailrace.cli import cli
from tailrace.codec import schemas
from tailrace.records import Kind, TraceEvent
from tests.docs.markdown import parsed
from tests.ingress.dify.samples import message, plain_chat, raw

ONLINE = (
    "check",
    "connect",
    "content",
    "ledger",
    "metrics",
    "process",
    "publish",
    "schemas register",
    "topics",
)
"""Commands that need Kafka, a registry or a vendor."""
EVENT = {
    "kind": "tool",
    "source_id": "s",
    "name": "search",
    "tenant_id": "t",
    "app_id": "a",
    "started_at": "2026-11-01T12:00:00Z",
    "ended_at": "2026-11-01T12:00:01.5Z",
}


def walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    """The path and the help of every command."""
    context = click.Context(command, info_name=name, parent=parent)
    yield context.command_path, command.help or ""
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None, f"{context.command_path} {inner} is listed, and is not there"
            yield from walk(found, inner, context)


def lines() -> Iterator[tuple[str, str]]:
    """The path of every command with examples, and each line of them without its comment."""
    for path, text in walk(cli, "tailrace", None):
        for block in re.findall(r"^ *Examples?:\n((?: {2,}\S.*\n?)+)", text, re.MULTILINE):
            for line in block.splitlines():
                yield path, re.split(r" {4,}", line.strip())[0]


def arguments(line: str) -> list[str]:
    """What follows `tailrace` on a shell line, up to a pipe or a redirection."""
    [words] = [w for part in re.split(r" [|<>] ", line) if "tailrace" in (w := shlex.split(part))]
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    assert words[0] == "tailrace", f"{line!r} does not start with the command"
    return words[1:]


LINES = sorted(set(lines()))


def test_every_command_with_something_to_show_has_examples() -> None:
    paths = {path for path, _ in LINES}
    assert paths > {f"tailrace {name}" for name in ("schemas identify", "schemas check", "metrics", "render")}
    assert {path.split()[1] for path, _ in LINES} >= {name.split()[0] for name in ONLINE}


@pytest.mark.parametrize(("path", "line"), LINES)
def test_an_example_is_one_valid_command_line(path: str, line: str) -> None:
    command, _ = parsed(arguments(line))
    assert f"tailrace {command}".startswith(path)


OFFLINE = [
    line
    for _, line in LINES
    if "registry.url" not in line and not any(f"tailrace {name}" in line for name in ONLINE)
]


@pytest.mark.parametrize("line", OFFLINE)
def test_an_example_that_needs_no_network_succeeds(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    event = TraceEvent(source_id="s", kind=Kind.TOOL, started_at=1, ended_at=2, event_id="e", published_at=3)
    Path("value.bin").write_bytes(codec.encode(event))
    Path("events.jsonl").write_text(json.dumps(EVENT) + "\n")
    Path("dify.jsonl").write_bytes(raw(plain_chat()[0]) + b"\n" + raw(message(3, 0, 4)) + b"\n")
    Path("theirs.avsc").write_text(json.dumps(schemas.current("TraceEvent")))
    ran = CliRunner().invoke(cli, arguments(line), input=json.dumps(EVENT) + "\n")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout


def test_the_examples_that_were_run_are_those_of_schemas_sinks_and_render() -> None:
    assert {parsed(arguments(line))[0] for line in OFFLINE} == {
        "render",
        "schemas check",
        "schemas identify",
        "schemas ls",
        "schemas show",
        "sinks ls",
        "sinks new",
    }
