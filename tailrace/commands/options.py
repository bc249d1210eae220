"""Options that all commands share: where the settings come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from tailrace.errors import ConfigError
from tailrace.settings import Settings, load, merge, table_from_text

F = TypeVar("F", bound=Callable[..., Any])


_PATH: Final = re.compile(r"[\w-]+\.[\w-]+(?:\.[^.\s:]+)*", re.ASCII)
_DEEPEST: Final = 20
"""Most names in the path of a setting."""


def _shown(path: str) -> str:
    """The setting that a text begins with. What follows may be a secret."""
    section, _, field = path.partition(".")
    name = re.match(r"\w*", field, re.ASCII)
    known = section in Settings.__struct_fields__
    return f"{section}.{name[0][:40]}" if known and name and name[0] else section if known else "…"


def common(function: F) -> F:
    """Adds --config, --bootstrap-servers and --set."""
    for option in (
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="SECTION.FIELD=VALUE",
            help="Set one setting; may be repeated.",
        ),
        click.option(
            "-b",
            "--bootstrap-servers",
            metavar="HOST:PORT,…",
            help="Where Kafka is. Default: kafka.bootstrap_servers, 127.0.0.1:9092.",
        ),
        click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False),
            help="Settings file. Default: $TAILRACE_CONFIG, ./tailrace.toml.",
        ),
    ):
        function = option(function)
    return function


def settings_from(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Settings:
    """The settings of a command line.

    Args:
        config: the settings file.
        bootstrap_servers: overrides kafka.bootstrap_servers.
        assignments: `section.field=value` texts; they override the file and the variables.
        env: the environment; default: the process's.
        say: as for `load`.

    Raises:
        ConfigError: names the setting or option.
    """
    flags: dict[str, Any] = {}
    for text in assignments:
        path, sep, value = text.partition("=")
        path = path.strip()
        keys = path.split(".")
        if not (sep and _PATH.fullmatch(path) and len(keys) <= _DEEPEST):
            raise ConfigError(
                f"--set {_shown(path)}: is not section.field=value; "
                "for example kafka.bootstrap_servers=localhost:9092"
            )
        try:
            table = table_from_text(path, value)
        except ValueError as e:
            raise ConfigError(f"--set {path}: {e}") from None
        nested: dict[str, Any] = {keys[-1]: value if table is None else table}
        for key in reversed(keys[:-1]):
            nested = {key: nested}
        flags = merge(flags, nested)
    if bootstrap_servers:
        flags = merge(flags, {"kafka": {"bootstrap_servers": bootstrap_servers}})
    return load(flags, path=config, env=env, say=say)
