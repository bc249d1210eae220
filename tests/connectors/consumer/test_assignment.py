"""Where a sink's partitions start, and that a sink that is ending asks for none."""

from __future__ import annotations

from typing import Any, Final

import pytest
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from connectors.config.instances import instance
from connectors.consumer.assignment import Assignment
from connectors.consumer.runner import Runner
from connectors.consumer.shared_state import SharedState
from tailrace.settings import Settings

SETTINGS: Final = Settings(sinks={"console": {}})
GIVEN: Final = [TopicPartition("trace.enriched", 0), TopicPartition("trace.enriched", 3)]


class Unanswered:
    """A consumer whose cluster does not answer."""

    def __init__(self) -> None:
        self.assigned: list[tuple[int, int]] = []
        self.paused: list[int] = []
        self.asked = 0

    def committed(self, partitions: list[Any], timeout: float) -> list[Any]:
        self.asked += 1
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def incremental_assign(self, partitions: list[Any]) -> None:
        self.assigned += [(p.partition, p.offset) for p in partitions]

    def pause(self, partitions: list[Any]) -> None:
        self.paused += [p.partition for p in partitions]


@pytest.mark.parametrize("ending", ["stop", "drain"])
def test_a_sink_that_is_ending_waits_for_nobody_when_it_is_given_partitions(ending: str) -> None:
    """Another member that leaves at that moment hands its partitions over. Asking for their committed offsets
    could take longer than connect.drain_seconds."""
    made = instance(SETTINGS, "console")
    shared = SharedState(SETTINGS, made)
    runner = Runner(SETTINGS, made, shared=shared)
    consumer: Any = Unanswered()
    runner._consumer, runner._assignment = consumer, Assignment("console", consumer, "trace.enriched")
    if ending == "stop":
        shared.stop.set()
    else:
        runner._state = "stopping"
    runner._on_assign(consumer, GIVEN)
    assert consumer.asked == 0
    assert consumer.assigned == [(0, OFFSET_END), (3, OFFSET_END)]
    assert consumer.paused == [0, 3]
    assert runner.status().partitions == 0
