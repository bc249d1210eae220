"""Checks at the start, before anything is fenced, that stored positions belong to this processor."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka.admin import AdminClient

from tailrace.errors import ConfigError
from tailrace.ledger import pipeline_identity
from tailrace.ledger.pipeline_identity import PipelineIdentity
from tailrace.ledger.positions import identity, last_positions
from tailrace.records import PartitionPosition
from tailrace.settings import Settings
from tailrace.topics import verify


class Checked(NamedTuple):
    """What a worker needs to know about its pipeline."""

    identity: PipelineIdentity
    generation: int
    """Of the partition count."""
    established: bool
    """Whether there are positions, of this streams.app_id."""


class Repartitioned(Exception):
    """The partition count of trace.events has changed. The message says what to do."""


def check(admin: AdminClient, settings: Settings, new_generation: bool) -> Checked:
    """Checks the topics and all stored positions.

    Owners check their own positions again when they have fenced the former owner: that is what counts.
    This check comes first so that a processor with wrong settings does not disturb the right one.

    Args:
        admin: the cluster.
        settings: of the pipeline.
        new_generation: whether the partition count may have changed.

    Raises:
        ConfigError: a processor with another streams.app_id works on these topics.
        Repartitioned: the partition count has changed.
        TopicMismatch: a topic is missing or wrong.
        KafkaException: the cluster does not answer or refuses.
    """
    now, positions = check_positions(admin, settings, new_generation)
    verify(admin, settings.topics)
    now = now or identity(admin, settings)
    assert now is not None
    return Checked(now, pipeline_identity.generation(positions, now), bool(positions))


def check_positions(
    admin: AdminClient, settings: Settings, new_generation: bool
) -> tuple[PipelineIdentity | None, dict[int, PartitionPosition]]:
    """As `check`, without the topics. Returns no identity if trace.events does not exist."""
    now = identity(admin, settings)
    positions = last_positions(admin, settings) if now is not None else {}
    if now is not None and positions:
        # The first one decides: of two that start together, each may get some of the partitions
        if problem := pipeline_identity.other_app(positions[min(positions)], now):
            raise ConfigError(problem)
        for p in positions.values():
            if p.topic_id != now.topic_id:
                continue  # the owner of the partition decides by --accept-loss
            if (problem := pipeline_identity.other_count(p, now)) and not new_generation:
                raise Repartitioned(problem)
    return now, positions
