"""`tailrace sinks new`: creates a package for a new sink."""

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
    help="Folder in which the package's folder is created.",
)
def new_sink(name: str, parent: Path) -> None:
    """Create a package with a sink NAME: tailrace-sink-NAME.

    It can be installed and passes its tests as it is. Nothing is overwritten.

    Exit status: 0 created; 2 NAME is not valid or in use, or the folder exists already.

    \b
    Example:
      tailrace sinks new acme
    """
    try:
        if name in installed():
            raise ConfigError(f"the sink {name} exists already ({installed()[name].value})")
        target = write(name, parent)
    except (ConfigError, OSError) as e:
        click.echo(f"tailrace sinks new: {e}", err=True)
        sys.exit(2)
    click.echo(f"{target} is created. Next:")
    click.echo(f"  cd {target}")
    click.echo("  pip install -e '.[test]'")
    click.echo("  pytest                                 run the conformance kit")
    click.echo(f"  edit {name}_sink.py           change what is sent to {name}")
    click.echo(f"  tailrace render {name} events.jsonl --set sinks.{name}.endpoint=https://…")
    click.echo(f"  tailrace check {name} --set sinks.{name}.endpoint=https://…")


def write(name: str, parent: Path) -> Path:
    """Writes the package and returns its folder.

    Raises:
        ConfigError: the name is not valid, or the folder exists.
        OSError: the folder is not writable.
    """
    found = scaffold.files(name)
    target = parent / scaffold.folder(name)
    if target.exists():
        raise ConfigError(f"{target} exists already; nothing is overwritten")
    for path, text in found.items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    return target
