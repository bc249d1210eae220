"""One worker process: `python -m streams.runtime.worker PARENT`.

The supervisor starts it and passes its settings on standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
import threading
from typing import Any, Final, NoReturn

import faust
import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.exit_codes import CONFIG, FAILED, LOST_DATA, REPARTITIONED
from streams.observe.ends import LogEnds
from streams.observe.health import pages, serve
from streams.observe.observed import Observed
from streams.observe.telemetry import Telemetry
from streams.observe.watchdog import Watchdog
from streams.runtime import guard
from streams.runtime.app import make_app
from streams.runtime.owner import Owner
from streams.runtime.schema_buffer import SchemaWait
from tailrace import kafka
from tailrace.codec import schemas
from tailrace.errors import ConfigError, KafkaUnavailable, TopicMismatch
from tailrace.ledger.pipeline_identity import repartitioned
from tailrace.ledger.positions import identity
from tailrace.processes import collect_seldom, die_with_parent, raise_descriptor_limit, set_up_logging
from tailrace.schema_registry import attach
from tailrace.settings import Settings

log: Final = logging.getLogger("streams.runtime.worker")

REPORT_SECONDS: Final = 10.0


class Job(msgspec.Struct, frozen=True):
    """What the supervisor passes to a worker."""

    settings: Settings
    instance_id: str
    accept_loss: bool = False
    log_level: str = "INFO"
    number: int = 0
    """Number of the worker among those of its supervisor: 0, 1, …"""
    new_generation: bool = False


def end(code: int, reason: str) -> NoReturn:
    """Ends the process at once, so that none of its state is written any more.

    The supervisor starts another one.
    """
    log.critical("%s", reason)
    logging.shutdown()
    os._exit(code)


def prepare(job: Job) -> Owner:
    """Learns schemas, checks the topics and creates the owner.

    Raises:
        ConfigError: a setting is wrong.
        Repartitioned: the partition count of trace.events has changed.
        KafkaUnavailable: no broker answers.
        TopicMismatch: a topic is missing or wrong.
        KafkaException: the cluster refuses.
    """
    source = attach(job.settings)
    waiting = (
        None if source is None else SchemaWait(source, schemas.known.knows, job.settings.schemas.wait_seconds)
    )
    admin, _ = kafka.wait_for_broker(job.settings.kafka, deadline=None, say=log.warning)
    found = guard.check(admin, job.settings, job.new_generation)
    owner = Owner(
        job.settings,
        found.identity.topic_id,
        found.identity.partitions,
        job.accept_loss,
        end,
        waiting,
        found.generation,
        job.new_generation,
        found.established,
    )
    asking = kafka.open_client(
        AdminClient,
        {**kafka.client(job.settings.kafka), "logger": logging.getLogger("streams.runtime.worker.client")},
    )
    owner.recheck = lambda: same(asking, job.settings, owner)
    return owner


ASK_SECONDS: Final = 5.0


def same(admin: AdminClient, settings: Settings, owner: Owner) -> None:
    """Ends the process if trace.events is not the topic it started with, or has other partitions. Blocks.

    Raises:
        KafkaException: the cluster does not answer or refuses.
    """
    admin.poll(0)  # takes the errors that the client has queued
    before, now = owner.identity, identity(admin, settings, ASK_SECONDS)
    if now is None or now.topic_id != before.topic_id:
        end(
            LOST_DATA,
            f"{owner.topic} was deleted and created again while this worker ran "
            f"(topic id {before.topic_id}, now {now.topic_id if now else 'none'})",
        )
    if now.partitions != before.partitions:
        end(REPARTITIONED, repartitioned(before.partitions, now))


async def watch(owner: Owner) -> None:
    """Checks every 10 s whether the topic is still the same, and has the same partitions."""
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        with contextlib.suppress(KafkaException, TimeoutError):  # the clients log that themselves
            await asyncio.get_running_loop().run_in_executor(None, owner.recheck)


async def report(owner: Owner, say: Any = log.info) -> None:
    """Logs a progress line every 10 s, if there is progress."""
    before = 0
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        now = owner.applied
        if now != before:
            states = [p.state for p in owner.partitions.values()]
            say(
                "%d records (%.0f/s), %d partitions, %d open traces, %d duplicates, %d dead letters",
                now,
                (now - before) / REPORT_SECONDS,
                len(states),
                sum(len(s.traces) for s in states),
                sum(s.duplicates for s in states),
                sum(s.dead_lettered for s in states),
            )
        before = now


STOP_SECONDS: Final = 15.0
"""If stopping takes longer (no broker answers), the process ends; uncommitted records are applied again."""


class Worker(faust.Worker):
    """A faust.Worker that stops within `STOP_SECONDS`.

    It does not wait for tasks that end with the process anyway.
    """

    observed: Observed

    def _schedule_shutdown(self, number: Any) -> None:
        deadline = threading.Timer(
            STOP_SECONDS, end, (FAILED, f"not stopped within {STOP_SECONDS:.0f} s: ending now")
        )
        deadline.daemon = True
        deadline.start()
        self.observed.stopping = True
        super()._schedule_shutdown(number)

    def _shutdown_loop(self) -> None:
        self.log.debug("stopped")


def observe(job: Job, observed: Observed) -> Telemetry:
    """Starts metrics and probes; they also answer while the worker waits for Kafka. Raises `ConfigError`."""
    s = job.settings.streams
    telemetry = Telemetry(observed, job.instance_id, os.environ)
    if s.http_port:
        serve(s.http_host, s.http_port, job.number, pages(observed, telemetry.metrics))
    return telemetry


def run(job: Job) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    observed = Observed()
    try:
        telemetry = observe(job, observed)
        owner = prepare(job)
        observed.of(owner)
        with contextlib.closing(telemetry), tempfile.TemporaryDirectory(prefix="tailrace-") as datadir:
            app = make_app(job.settings, owner, job.instance_id, datadir)
            app.task(lambda: report(owner))
            app.task(lambda: watch(owner))
            worker = Worker(
                app,
                quiet=True,
                override_logging=False,
                redirect_stdouts=False,
                loglevel=job.log_level,
                console_port=0,
                blocking_timeout=0,
            )
            worker.spinner = None  # it writes to the terminal even if quiet
            worker.observed = observed
            worker.loop.call_soon(observed.tick, worker.loop)
            ends = LogEnds(job.settings.kafka, owner.topic)
            Watchdog(observed, ends, job.settings.streams.watchdog_seconds, end, worker.loop).start()
            with contextlib.suppress(SystemExit):
                worker.execute_from_commandline()
            return FAILED if worker.crash_reason or app.crash_reason else 0
    except (ConfigError, TopicMismatch) as e:
        log.critical("%s", e)
        return CONFIG
    except guard.Repartitioned as e:
        log.critical("%s", e)
        return REPARTITIONED
    except (KafkaUnavailable, KafkaException) as e:
        log.critical("%s", e)
        return FAILED


def main() -> NoReturn:
    die_with_parent(int(sys.argv[1]))
    collect_seldom()
    job = msgspec.convert(json.loads(sys.stdin.readline()), Job)
    set_up_logging(job.log_level)
    before, now = raise_descriptor_limit()  # a producer of a partition needs about eight
    log.debug("limit of open files: %d, was %d", now, before)
    code = run(job)
    logging.shutdown()
    os._exit(code)  # do not wait for the producers' threads


if __name__ == "__main__":
    main()
