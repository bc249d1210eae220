"""`tailrace check`: what would go wrong, before anything runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Final

import click
from confluent_kafka import KafkaException

from tailrace import kafka, topics
from tailrace.commands.options import common, settings_from
from tailrace.errors import ConfigError, KafkaUnavailable, MissingPackage
from tailrace.settings import Settings

GROUP: Final = "tailrace.checks"


def _ask_others(settings: Settings) -> tuple[list[str], list[str]]:
    """What the packages above this one find wrong, and what could not be asked because an extra is missing."""
    problems: list[str] = []
    skipped: list[str] = []
    for found in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            ask: Callable[[Settings], Iterable[str]] = found.load()
            problems.extend(f"settings: {text}" for text in ask(settings))
        except MissingPackage as e:
            skipped.append(str(e))
        except ModuleNotFoundError as e:
            extra = found.value.split(".")[0]
            skipped.append(f"{found.name}: needs the package {e.name}: pip install 'tailrace[{extra}]'")
    return problems, skipped


@click.command()
@common
@click.option("--wait", "seconds", type=float, default=5.0, show_default=True, help="Seconds to wait for a broker.")
@click.option(
    "--json", "as_json", is_flag=True, help='Print {"passed": […], "problems": […], "warnings": […], "skipped": […]}.'
)
def check(
    config: str | None, bootstrap_servers: str | None, assignments: tuple[str, ...], seconds: float, as_json: bool
) -> None:
    """Check settings, sinks, broker and topics; each problem comes with its fix.

    Exit status: 0 all is well (there may be warnings); 1 there are problems; 2 options are wrong.

    \b
    Examples:
      tailrace check
      tailrace check --config production.toml --json
    """
    passed: list[str] = []
    problems: list[str] = []
    warnings: list[str] = []
    skipped: list[str] = []
    try:
        settings = settings_from(config, bootstrap_servers, assignments)
        passed.append("settings are valid")
        if settings.sinks:
            wrong, skipped = _ask_others(settings)
            problems.extend(wrong)
            if not wrong and not skipped:
                passed.append(f"{len(settings.sinks)} sinks are configured")
        admin, cluster = kafka.wait_for_broker(settings.kafka, deadline=seconds, say=lambda text: None)
        passed.append(f"Kafka answers at {settings.kafka.bootstrap_servers}, {len(cluster.brokers)} brokers")
        found = topics.describe(admin, [t.name for t in topics.wanted(settings.topics)])
        mismatches = list(topics.mismatches(settings.topics, found))
        problems.extend(mismatches)
        warnings.extend(topics.not_durable(settings.topics, found))
        if not mismatches:
            passed.append(f"{len(found)} topics are as they must be")
    except ConfigError as e:
        problems.append(f"settings: {e}")
    except KafkaUnavailable as e:
        problems.append(f"{e}; start it, or set kafka.bootstrap_servers (-b) to where it is")
    except KafkaException as e:
        problems.append(
            f"the topics cannot be read: {e.args[0].str()}; the client needs Describe on topics and their configs"
        )
    if as_json:
        click.echo(json.dumps({"passed": passed, "problems": problems, "warnings": warnings, "skipped": skipped}))
    else:
        for line in passed:
            click.echo(f"ok: {line}")
        for line in problems:
            click.echo(f"must be mended: {line}", err=True)
        for line in warnings:
            click.echo(f"not durable: {line}", err=True)
        for line in skipped:
            click.echo(f"not checked: {line}", err=True)
    sys.exit(1 if problems else 0)
