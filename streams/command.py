"""`tailrace process`: the stream processor on the command line."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

import click

from streams.exit_codes import CONFIG, REPARTITIONED
from streams.runtime import guard
from tailrace import clients, kafka, topics
from tailrace.commands.options import common, settings_from
from tailrace.errors import ConfigError, KafkaUnavailable, TopicMismatch
from tailrace.processes import set_up_logging
from tailrace.schema_registry import attach
from tailrace.settings import Settings

log: Final = logging.getLogger("streams")


def check_clients(settings: Settings) -> None:
    """Checks kafka.client for all clients of the processor, so that no worker is restarted because of it.

    Raises:
        ConfigError: names the properties that cannot be used, without their values.
    """
    from streams.runtime.credentials import credentials

    credentials(settings.kafka.client)
    clients.check_processor(settings)


def wait_until_ready(settings: Settings, create_topics: bool, new_generation: bool = False) -> int:
    """Waits until Kafka answers and the topics exist; returns the partition count. Logs what it waits for.

    Args:
        settings: of the pipeline.
        create_topics: create missing topics first.
        new_generation: continue although the partition count has changed.

    Raises:
        Repartitioned: the partition count of trace.events has changed.
        ConfigError: another processor works on these topics.
        TopicMismatch: the topics exist but are wrong.
        KafkaUnavailable: retrying cannot help, or `stop()` is true.
    """
    admin, _ = kafka.wait_for_broker(settings.kafka)
    if create_topics:
        for name in topics.create(admin, settings.topics):
            log.info("created %s", name)
    said = 0.0
    while True:
        found = topics.describe(admin, [t.name for t in topics.wanted(settings.topics)])
        guard.check_positions(admin, settings, new_generation)  # it names the way to another partition count
        if wrong := list(topics.wrong_counts(settings.topics, found)):
            raise TopicMismatch("\n".join(wrong))
        missing = [t.name for t in topics.wanted(settings.topics) if t.name not in found]
        if not missing:
            return guard.check(admin, settings, new_generation).identity.partitions
        if time.monotonic() - said > 10:
            log.warning(
                "waiting for %s: run `tailrace topics create` (or start with --create-topics)",
                ", ".join(missing),
            )
            said = time.monotonic()
        time.sleep(1.0)


@click.command()
@common
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Worker processes; about one per core. Default: streams.workers, 1.",
)
@click.option(
    "--create-topics", is_flag=True, help="Create missing topics first, as `tailrace topics create` does."
)
@click.option(
    "--instance-id",
    help=(
        "Name of this host's workers in the consumer group; must be unique and survive a restart. "
        "Default: the host name and a free number."
    ),
)
@click.option(
    "--accept-loss",
    is_flag=True,
    help=(
        "Continue although events between the stored position and the log are lost. Start with it once, then "
        "without: it holds for every restarted worker."
    ),
)
@click.option(
    "--new-generation",
    is_flag=True,
    help="Continue although the partition count has changed: start with it once after adding partitions.",
)
@click.option(
    "--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), default="INFO", show_default=True
)
def process(
    config: str | None,
    bootstrap_servers: str | None,
    assignments: tuple[str, ...],
    workers: int | None,
    create_topics: bool,
    instance_id: str | None,
    accept_loss: bool,
    new_generation: bool,
    log_level: str,
) -> None:
    """Correlate and enrich: read trace.events, write trace.enriched, exactly once.

    Runs worker processes under a supervisor, which restarts a worker that ends. SIGTERM and Ctrl-C stop it
    after the work in flight is committed. Any number of hosts may run it: the partitions are distributed
    over all workers.

    Exit status: 0 stopped; 2 a setting or topic is wrong; 6 events are lost (see --accept-loss); 7 a record
    of trace.state cannot be read; 8 the partition count has changed (see --new-generation).

    \b
    Examples:
      tailrace process --create-topics
      tailrace process --bootstrap-servers kafka-1:9092,kafka-2:9092 --workers 4
      TAILRACE_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 tailrace process --set streams.commit_interval_ms=50
    """
    set_up_logging(log_level)
    try:
        settings = settings_from(config, bootstrap_servers, assignments)
        if not _extra_is_there():
            raise ConfigError("the processor needs Faust and OpenTelemetry: pip install 'tailrace[streams]'")
        check_clients(settings)
        attach(settings)
        count = wait_until_ready(settings, create_topics, new_generation)
    except guard.Repartitioned as e:
        raise SystemExit(_say(str(e), REPARTITIONED)) from None
    except (ConfigError, TopicMismatch, KafkaUnavailable) as e:
        raise SystemExit(_say(str(e))) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    from streams.runtime.host_slot import HostSlot
    from streams.runtime.supervisor import supervise
    from streams.runtime.worker import Job

    n = workers or settings.streams.workers
    if n > count:
        log.warning("%d workers for %d partitions: %d will be idle", n, count, n - count)
    slot = None if instance_id else HostSlot(settings.streams.app_id)
    name = instance_id or (slot.instance_id if slot else "")
    jobs = [Job(settings, f"{name}-{i}", accept_loss, log_level, i, new_generation) for i in range(n)]
    sys.exit(supervise(jobs))


def _extra_is_there() -> bool:
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("faust", "prometheus_client"))


def _say(text: str, code: int = CONFIG) -> int:
    click.echo(f"tailrace process: {text}", err=True)
    return code
