"""`tailrace connect` and `tailrace sinks ls`."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
import msgspec

from connectors.commands.new import new_sink
from connectors.config.instances import describe, installed, instances, sink_class
from connectors.consumer.fleet import Fleet
from connectors.consumer.sink_supervisor import SinkSupervisor
from connectors.consumer.status import Status
from connectors.content.fetcher import open_fetcher
from connectors.observe.health import observing
from connectors.sdk.contract import spec_of
from tailrace import clients
from tailrace.commands.options import common, settings_from
from tailrace.errors import ConfigError
from tailrace.processes import collect_seldom, set_up_logging
from tailrace.schema_registry import attach
from tailrace.settings import Settings

log: Final = logging.getLogger("tailrace.connect")


def _log(statuses: Sequence[Status], final: bool) -> None:
    for status in statuses:
        log.info("%s%s", "in the end " if final else "", status.line())


def _json(statuses: Sequence[Status], final: bool) -> None:
    for status in statuses:
        document = {**msgspec.to_builtins(status), "final": final}
        click.echo(json.dumps(document))


@click.command()
@click.argument("sinks", nargs=-1, metavar="[SINK]…")
@common
@click.option(
    "--until-caught-up",
    is_flag=True,
    help="Exit with status 0 once all records now in the topic are delivered, filtered or dead-lettered.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print counts as JSON lines on standard output, with a last line at the end.",
)
def connect(
    sinks: tuple[str, ...],
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    until_caught_up: bool,
    as_json: bool,
) -> None:
    """Forward enriched events to sinks, until stopped.

    SINK is an instance, configured in [sinks.SINK] of the settings. Without one, all of them run.

    Each sink has its own consumer group. A record is committed only after the sink accepted it, a filter
    left it out, or it is in the dead letters. SIGTERM and Ctrl-C finish the batches in flight; a second
    signal ends at once, and uncommitted records are sent again.

    Exit status: 0 stopped or caught up; 1 a sink failed; 2 settings or options are wrong.

    \b
    Examples:
      tailrace connect console
      tailrace connect otlp --set sinks.otlp.endpoint=http://localhost:4318
      tailrace connect otlp file --set sinks.file.path=./events.jsonl
      tailrace connect eu us --config tailrace.toml      [sinks.eu] type = "otlp" …
      tailrace connect file --until-caught-up --json     for scripts
    """
    collect_seldom()
    set_up_logging()
    env = dict(os.environ)

    def read() -> Settings:
        return settings_from(config, bootstrap_servers, assignments, env)

    try:
        settings = read()
        clients.check_sinks(settings)
        schemas = attach(settings)
        fetcher = open_fetcher(settings.content)
        chosen = instances(settings, sinks, env, read)
    except ConfigError as e:
        click.echo(f"tailrace connect: {e}", err=True)
        sys.exit(2)
    running = [
        SinkSupervisor(settings, instance, until_caught_up=until_caught_up, schemas=schemas, fetcher=fetcher)
        for instance in chosen
    ]
    try:
        with observing(settings.connect, running):
            code = Fleet(running, _json if as_json else _log).run()
    except ConfigError as e:
        click.echo(f"tailrace connect: {e}", err=True)
        code = 2
    sys.exit(code)


@click.group()
def sinks() -> None:
    """List the installed sinks, and create a new one."""


sinks.add_command(new_sink)


@sinks.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_sinks(as_json: bool) -> None:
    """List the installed sinks and their settings ([sinks.<name>], TAILRACE_SINKS_<NAME>_<SETTING>, --set).

    \b
    Example:
      tailrace sinks ls --json | jq '.[].name'
    """
    found: list[dict[str, Any]] = []
    for name in installed():
        try:
            spec = spec_of(sink_class(name, f"sinks.{name}"))
        except ConfigError as e:
            found.append({"name": name, "error": str(e)})
            continue
        limits = {"max_records": spec.max_records, "max_bytes": spec.max_bytes}
        found.append({"name": name, "doc": spec.doc.partition("\n")[0], **limits, "settings": describe(spec)})
    show: Callable[[str], None] = click.echo
    if as_json:
        show(json.dumps(found))
        return
    for row in found:
        show(f"{row['name']:<10} {row.get('doc') or row['error']}")
        for setting in row.get("settings", ()):
            default = json.dumps(setting["default"]) if "default" in setting else "required"
            show(f"             {setting['name']:<18} {setting['type']:<36} {default}")
