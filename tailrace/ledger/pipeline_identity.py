"""Which pipeline a processor belongs to, and whether stored positions belong to the same one.

A topic's name is unique in a cluster and stays when the topic is created again, so the names that fence
and group the processors derive from it. A topic's id does not stay: it guards the stored positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from tailrace.settings import Settings
from tailrace.topics import TopicNames

DOCUMENTED: Final = 'see "More partitions" in docs/production.md'


class Stored(Protocol):
    """The fields of a stored position that say whose it is."""

    @property
    def topic_id(self) -> str: ...
    @property
    def partitions(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def app_id(self) -> str: ...


class PipelineIdentity(msgspec.Struct, frozen=True):
    """What stored positions are compared with."""

    events: str
    """Name of trace.events."""
    state: str
    """Name of trace.state."""
    topic_id: str
    """Current id of trace.events."""
    partitions: int
    """Current partition count of trace.events."""
    app_id: str
    """streams.app_id."""


def consumer_group(settings: Settings) -> str:
    """The processor's consumer group. Pipelines with the same streams.app_id have different ones."""
    return f"{settings.streams.app_id}-{TopicNames.of(settings.topics).events}"


def transactional_id(settings: Settings, partition: int) -> str:
    """The transactional id of a partition's owner.

    It does not contain streams.app_id: of two processors on the same topics one must fence the other,
    whatever they are called.
    """
    return f"{TopicNames.of(settings.topics).events}-{partition}"


def other_topic(p: Stored, now: PipelineIdentity) -> str | None:
    """What is wrong if a position belongs to another trace.events; None if it does not."""
    if p.topic_id == now.topic_id:
        return None
    return (
        f"the stored position belongs to another {now.events} (topic id {p.topic_id}, now {now.topic_id}): "
        "the topic was deleted and created again"
    )


def other_app(p: Stored, now: PipelineIdentity) -> str | None:
    """What is wrong if a processor with another streams.app_id wrote a position; None if none did."""
    if p.app_id == now.app_id:
        return None
    return (
        f"{now.state} was written by a processor with streams.app_id = {p.app_id!r}, here it is "
        f"{now.app_id!r}. Two processors with different ids would apply every event of {now.events} twice: "
        f"set streams.app_id to {p.app_id!r}, or give this pipeline topics of its own (topics.prefix)"
    )


def other_count(p: Stored, now: PipelineIdentity) -> str | None:
    """What is wrong if a position was written under another partition count; None if it was not."""
    return None if p.partitions == now.partitions else repartitioned(p.partitions, now)


def repartitioned(before: int, now: PipelineIdentity) -> str:
    """The message for a partition count that has changed: what happened, and what to do."""
    return (
        f"{now.events} has {now.partitions} partitions, its events were processed with {before}: keys have "
        "moved to other partitions. Nothing is lost. Stop the publishers, give all topics of the pipeline "
        f"{now.partitions} partitions, set topics.partitions = {now.partitions}, and start "
        f"`tailrace process --new-generation` once; {DOCUMENTED}"
    )


def generation(positions: Mapping[int, Stored], now: PipelineIdentity) -> int:
    """The generation for the current partition count.

    It is the same before, while and after partitions change to it one by one.
    """
    return max((p.generation + (p.partitions != now.partitions) for p in positions.values()), default=0)


def problems(positions: Mapping[int, Stored], now: PipelineIdentity) -> list[str]:
    """What is wrong with the stored positions: each problem once, with the first partition that has it."""
    found: dict[str, str] = {}
    for n, p in sorted(positions.items()):
        for problem in (other_topic(p, now), other_app(p, now), other_count(p, now)):
            if problem is not None:
                found.setdefault(problem, f"{now.state} partition {n}: {problem}")
    return list(found.values())
