"""Options that all commands share: where the settings come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from tailrace.errors import ConfigError
from tailrace.settings import Settings, load, merge, table_from_text

F = TypeVar("F", bound=Callable[..., Any])


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
        keys = path.strip().split(".")
        if not sep or len(keys) < 2:
            raise ConfigError(
                f"--set {path.strip()}: is not section.field=value; "
                "for example kafka.bootstrap_servers=localhost:9092"
            )
        try:
            table = table_from_text(path.strip(), value)
        except ValueError as e:
            raise ConfigError(f"--set {path.strip()}: {e}") from None
        nested: dict[str, Any] = {keys[-1]: value if table is None else table}
        for key in reversed(keys[:-1]):
            nested = {key: nested}
        flags = merge(flags, nested)
    if bootstrap_servers:
        flags = merge(flags, {"kafka": {"bootstrap_servers": bootstrap_servers}})
    return load(flags, path=config, env=env, say=say)
