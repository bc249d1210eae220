"""`tailrace sinks new`: a package for a sink, to start from."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from connectors.commands import scaffold
from connectors.config.instances import installed
from tailrace.errors import ConfigError


@click.command("new")
@click.argument("name")
@click.option(
    "--dir",
    "parent",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Folder that the package's folder is made in.",
)
def new_sink(name: str, parent: Path) -> None:
    """Write a package with a sink NAME that can be installed and tested as it is: tailrace-sink-NAME.

    Exit status: 0 written; 2 NAME is no name or taken, or something is there already: nothing is overwritten.

    \b
    Example:
      tailrace sinks new acme
    """
    try:
        if name in installed():
            raise ConfigError(f"there is a sink {name} already ({installed()[name].value})")
        target = write(name, parent)
    except (ConfigError, OSError) as e:
        click.echo(f"tailrace sinks new: {e}", err=True)
        sys.exit(2)
    click.echo(f"{target} is written. Next:")
    click.echo(f"  cd {target}")
    click.echo("  pip install -e '.[test]'")
    click.echo("  pytest                                 the conformance kit: it passes")
    click.echo(f"  edit {name}_sink.py           what {name} wants to get")
    click.echo(f"  tailrace render {name} events.jsonl --set sinks.{name}.endpoint=https://…")
    click.echo(f"  tailrace check {name} --set sinks.{name}.endpoint=https://…")


def write(name: str, parent: Path) -> Path:
    """Writes the package and returns its folder. Raises `ConfigError`, also if the folder is there, and
    OSError."""
    found = scaffold.files(name)
    target = parent / scaffold.folder(name)
    if target.exists():
        raise ConfigError(f"{target} is there already; nothing is overwritten")
    for path, text in found.items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    return target
