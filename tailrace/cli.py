"""The `tailrace` command.

Sub-commands come from the entry-point groups `tailrace.commands` and `tailrace.operations`; none of them is
imported here.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

from tailrace import __version__
from tailrace.errors import TailraceError

GROUP: Final = "tailrace.commands"
OPERATIONS: Final = "tailrace.operations"
"""Commands that do something with events or records that are there, e.g. `render`."""


class Commands(click.Group):
    """Imports a sub-command only when it is used.

    A sub-command whose extra is not installed prints which extra to install.
    """

    def _found(self) -> dict[str, EntryPoint]:
        return {e.name: e for group in (OPERATIONS, GROUP) for e in entry_points(group=group)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._found())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._found().get(cmd_name)
        if found is None:
            return None
        try:
            command: click.Command = found.load()
        except ModuleNotFoundError as e:
            packages = found.value.split(".")
            extra = packages[1] if packages[0] == "tailrace" else packages[0]
            text = f"`tailrace {cmd_name}` needs {e.name}: pip install 'tailrace[{extra}]'"
            if str(e.name).split(".")[0] == packages[0]:
                text = f"`tailrace {cmd_name}` is not in this installation: {e}"

            @click.command(
                name=cmd_name,
                help=text,
                context_settings={"ignore_unknown_options": True},
                add_help_option=False,
            )
            @click.argument("args", nargs=-1)
            def unavailable(args: tuple[str, ...]) -> None:
                click.echo(text, err=True)
                raise SystemExit(2)

            return unavailable
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tailrace")
def cli() -> None:
    """The durable trace pipeline for LLM applications.

    \b
    Try it on one machine:
      tailrace broker --data ./kafka --port 9092     run a local Kafka
      tailrace process --create-topics               correlate and enrich events
      tailrace connect console                       forward them, here to the terminal
      tailrace publish events.jsonl                  publish events

    Settings come from tailrace.toml, TAILRACE_… variables and flags; later ones override earlier ones.
    """


def main() -> None:
    """Entry point of the console script."""
    try:
        cli()
    except TailraceError as e:
        click.echo(f"tailrace: {e}", err=True)
        sys.exit(2)
