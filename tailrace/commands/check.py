"""`tailrace check`: finds problems before anything runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Final, NoReturn

import click
from confluent_kafka import KafkaException

from tailrace import clients, kafka, kafka_security, topics
from tailrace.checks import Finding
from tailrace.commands.options import common, settings_from
from tailrace.content_store import check as content_check
from tailrace.errors import ConfigError, KafkaUnavailable, MissingPackage
from tailrace.ledger import pipeline_identity
from tailrace.ledger.positions import identity, last_positions
from tailrace.schema_registry import reports
from tailrace.settings import Settings
from tailrace.spool import folder as spool

GROUP: Final = "tailrace.checks"


def _ask_others(settings: Settings, sinks: Sequence[str] = ()) -> tuple[list[Finding], list[str]]:
    """Findings of the packages above this one, and the checks skipped because an extra is missing.

    With `sinks` their vendors are contacted; without, only the settings are checked.
    """
    findings: list[Finding] = []
    skipped: list[str] = []
    for found in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            ask: Callable[[Settings, Sequence[str]], Iterable[Finding]] = found.load()
            findings.extend(ask(settings, sinks))
        except MissingPackage as e:
            skipped.append(str(e))
        except ModuleNotFoundError as e:
            extra = found.value.split(".")[0]
            skipped.append(f"{found.name}: needs the package {e.name}: pip install 'tailrace[{extra}]'")
    return findings, skipped


def _ask_sinks(settings: Settings, sinks: Sequence[str], passed: list[str], problems: list[str]) -> None:
    """Checks these sinks at their vendors.

    A skipped check is a problem here, since the user named the sink.
    """
    findings, skipped = _ask_others(settings, sinks)
    passed.extend(f.text for f in findings if f.ok)
    problems.extend(f.text for f in findings if not f.ok)
    problems.extend(skipped)
    if not findings and not skipped:
        problems.append(f"cannot check {', '.join(sinks)}: pip install 'tailrace[connectors]'")


@click.command()
@click.argument("sinks", nargs=-1, metavar="[SINK]…")
@common
@click.option(
    "--wait",
    "seconds",
    type=float,
    default=5.0,
    show_default=True,
    help="Seconds to wait for a broker or store.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='Print {"passed": […], "problems": […], "warnings": […], "skipped": […]}.',
)
def check(
    sinks: tuple[str, ...],
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    seconds: float,
    as_json: bool,
) -> None:
    """Check settings, sinks, content store, broker and topics; each problem is printed with its fix.

    With names of sinks, only those are checked, at the vendor: does it answer, is the key valid. Kafka is not
    needed.

    Exit status: 0 no problems (there may be warnings); 1 there are problems; 2 options are wrong.

    \b
    Examples:
      tailrace check
      tailrace check --config production.toml --json
      tailrace check otlp --set sinks.otlp.endpoint=http://localhost:4318
    """
    passed: list[str] = []
    problems: list[str] = []
    warnings: list[str] = []
    notes: list[str] = []
    skipped: list[str] = []
    try:
        settings = settings_from(config, bootstrap_servers, assignments, say=notes.append)
        passed.append("settings are valid")
        if sinks:
            _ask_sinks(settings, sinks, passed, problems)
            _conclude(passed, problems, warnings, notes, skipped, as_json)
        if settings.sinks:
            findings, skipped = _ask_others(settings)
            problems.extend(f"settings: {f.text}" for f in findings if not f.ok)
            if not problems and not skipped:
                passed.append(f"{len(settings.sinks)} sinks are configured")
        if settings.registry.url or settings.schemas.files:
            about = reports.check(settings)
            passed.extend(about.passed)
            problems.extend(about.problems)
            notes.extend(about.warnings)
        if settings.content.store:
            stored = content_check.finding(settings.content, seconds)
            (passed if stored.ok else problems).append(stored.text)
        wrong = [*kafka_security.problems(settings.kafka.client), *clients.problems(settings)]
        spool_dir = settings.publisher.spool_dir
        if spool_dir and (unusable := spool.problem(spool_dir, make=False)) is not None:
            wrong.append(unusable)
        if wrong:
            problems.extend(f"settings: {text}" for text in wrong)
            _conclude(passed, problems, warnings, notes, skipped, as_json)
        admin, cluster = kafka.wait_for_broker(settings.kafka, deadline=seconds, say=lambda text: None)
        passed.append(f"Kafka answers at {settings.kafka.bootstrap_servers}, {len(cluster.brokers)} brokers")
        found = topics.describe(admin, [t.name for t in topics.wanted(settings.topics)])
        mismatches = list(topics.mismatches(settings.topics, found))
        problems.extend(mismatches)
        warnings.extend(topics.not_durable(settings.topics, found))
        try:
            now = identity(admin, settings)
            if now is not None:
                problems.extend(pipeline_identity.problems(last_positions(admin, settings), now))
        except KafkaException as e:
            notes.append(f"the processor's positions cannot be read: {e.args[0].str()}")
        if not mismatches:
            passed.append(f"{len(found)} topics have the right settings")
    except ConfigError as e:
        problems.append(f"settings: {e}")
    except KafkaUnavailable as e:
        problems.append(f"{e}; start it, or set kafka.bootstrap_servers (-b), for example -b localhost:9092")
    except KafkaException as e:
        problems.append(
            f"the topics cannot be read: {e.args[0].str()}; "
            "the client needs the permissions Describe and DescribeConfigs on them"
        )
    _conclude(passed, problems, warnings, notes, skipped, as_json)


def _conclude(
    passed: list[str],
    problems: list[str],
    warnings: list[str],
    notes: list[str],
    skipped: list[str],
    as_json: bool,
) -> NoReturn:
    """Prints the result and exits."""
    if as_json:
        found_all = {
            "passed": passed,
            "problems": problems,
            "warnings": [*warnings, *notes],
            "skipped": skipped,
        }
        click.echo(json.dumps(found_all))
    else:
        for line in passed:
            click.echo(f"ok: {line}")
        for line in problems:
            click.echo(f"needs fixing: {line}", err=True)
        for line in warnings:
            click.echo(f"not durable: {line}", err=True)
        for line in notes:
            click.echo(f"warning: {line}", err=True)
        for line in skipped:
            click.echo(f"not checked: {line}", err=True)
    sys.exit(1 if problems else 0)
