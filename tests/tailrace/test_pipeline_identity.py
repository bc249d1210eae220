"""Whose stored positions are: the rules, without a broker."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streams.processing.state import FRESH
from tailrace.ledger.pipeline_identity import (
    PipelineIdentity,
    consumer_group,
    generation,
    problems,
    transactional_id,
)
from tailrace.records import PartitionPosition
from tailrace.settings import Settings, Streams, Topics

NOW = PipelineIdentity("trace.events", "trace.state", "id-1", 4, "mine")


def stored(**fields: Any) -> PartitionPosition:
    mine = msgspec.structs.replace(FRESH, topic_id="id-1", partitions=4, app_id="mine")
    return msgspec.structs.replace(mine, **fields)


def settings(prefix: str, app_id: str) -> Settings:
    return Settings(topics=Topics(prefix=prefix), streams=Streams(app_id=app_id))


def test_pipelines_with_one_app_id_share_neither_a_group_nor_a_transactional_id() -> None:
    a, b = settings("a.", "same"), settings("b.", "same")
    assert consumer_group(a) != consumer_group(b)
    assert {transactional_id(a, n) for n in range(9)}.isdisjoint(transactional_id(b, n) for n in range(9))


def test_processors_with_two_app_ids_on_the_same_topics_fence_each_other() -> None:
    a, b = settings("a.", "one"), settings("a.", "two")
    assert transactional_id(a, 3) == transactional_id(b, 3)


def test_its_own_positions_have_no_problem() -> None:
    assert problems({n: stored(next_offset=n) for n in range(4)}, NOW) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"topic_id": "id-0"}, ("id-0", "id-1", "deleted and created again")),
        ({"app_id": "theirs"}, ("streams.app_id", "'theirs'", "'mine'", "topics.prefix")),
        ({"partitions": 3}, ("--new-generation", "3", "4", "docs/production.md")),
    ],
)
def test_each_problem_is_said_once_and_names_what_to_do(
    fields: dict[str, Any], words: tuple[str, ...]
) -> None:
    (found,) = problems({0: stored(), 1: stored(**fields), 2: stored(**fields)}, NOW)
    assert found.startswith("trace.state partition 1: ")
    assert all(word in found for word in words)


def test_the_generation_is_the_same_before_while_and_after_partitions_change() -> None:
    old, new = stored(partitions=2, generation=3), stored(partitions=4, generation=4)
    assert generation({}, NOW) == 0
    assert generation({0: old, 1: old}, NOW) == 4
    assert generation({0: new, 1: old}, NOW) == 4
    assert generation(dict.fromkeys(range(4), new), NOW) == 4
