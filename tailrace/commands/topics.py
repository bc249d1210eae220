"""`tailrace topics`: creates the topics, and checks those of a cluster."""

from __future__ import annotations

import json
import sys

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tailrace import kafka
from tailrace import topics as topic_specs
from tailrace.commands.options import common, settings_from
from tailrace.errors import KafkaUnavailable
from tailrace.settings import Settings


@click.group()
def topics() -> None:
    """Create and check the Kafka topics.

    \b
    Examples:
      tailrace topics create -b localhost:9092
      tailrace topics create --set topics.partitions=12 --set topics.replication_factor=3
      tailrace topics check --json
    """


def _admin(settings: Settings, seconds: float) -> AdminClient:
    return kafka.wait_for_broker(
        settings.kafka, deadline=seconds, say=lambda text: click.echo(text, err=True)
    )[0]


@topics.command()
@common
@click.option(
    "--wait", "seconds", type=float, default=30.0, show_default=True, help="Seconds to wait for a broker."
)
@click.option("--json", "as_json", is_flag=True, help='Print {"created": […], "there": […]}.')
def create(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    seconds: float,
    as_json: bool,
) -> None:
    """Create the missing topics; existing ones are not changed.

    The settings topics.partitions (4) and topics.replication_factor (1; 3 in production) apply. The partition
    count changes later only by the procedure "More partitions" in docs/production.md, because traces move.
    """
    settings = settings_from(config, bootstrap_servers, assignments)
    try:
        made = topic_specs.create(_admin(settings, seconds), settings.topics)
    except KafkaException as e:
        raise KafkaUnavailable(f"cannot create the topics: {e.args[0].str()}") from None
    there = [t.name for t in topic_specs.wanted(settings.topics) if t.name not in made]
    if as_json:
        click.echo(json.dumps({"created": made, "there": there}))
        return
    for name in made:
        click.echo(f"created {name}")
    for name in there:
        click.echo(f"{name} exists already")


@topics.command()
@common
@click.option(
    "--wait", "seconds", type=float, default=10.0, show_default=True, help="Seconds to wait for a broker."
)
@click.option(
    "--json", "as_json", is_flag=True, help='Print {"topics": …, "problems": […], "warnings": […]}.'
)
def check(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    seconds: float,
    as_json: bool,
) -> None:
    """Check the cluster's topics against what tailrace needs.

    Exit status: 0 no problems (there may be warnings); 1 there are problems; 2 options are wrong.
    """
    settings = settings_from(config, bootstrap_servers, assignments)
    found = topic_specs.describe(
        _admin(settings, seconds), [t.name for t in topic_specs.wanted(settings.topics)]
    )
    problems = list(topic_specs.mismatches(settings.topics, found))
    warnings = list(topic_specs.not_durable(settings.topics, found))
    if as_json:
        click.echo(
            json.dumps({"topics": topic_specs.as_json(found), "problems": problems, "warnings": warnings})
        )
    else:
        for name, topic in found.items():
            click.echo(
                f"{name:<22} {topic.partitions:>3} partitions, replication {topic.replication_factor}, "
                f"{topic.config.get('cleanup.policy')}"
            )
        for line in problems:
            click.echo(f"needs fixing: {line}", err=True)
        for line in warnings:
            click.echo(f"not durable: {line}", err=True)
    sys.exit(1 if problems else 0)
