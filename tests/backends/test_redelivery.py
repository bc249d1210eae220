"""A whole topic sent four times, in other batches: real servers hold what they held after once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from examples.recorded_runs.publish_runs import events
from tailrace.broker import Broker
from tests.backends.collector import Collector
from tests.backends.jaeger import Jaeger
from tests.backends.spans import Key, normal
from tests.backends.weave import WeaveServer
from tests.connectors.vendors import shipped
from tests.golden.events import completed
from tests.harness.pipeline import Pipeline
from tests.harness.redelivery import deliver, enrich

pytestmark = [pytest.mark.backends, pytest.mark.kafka]
BATCHES: Final = (500, 7, 50, 23)
"""Most records in a request, a round each: the same records are neighbours of others every time."""


class Backend(Protocol):
    """A server, and the sink that sends to it."""

    type: str
    """Of the sink."""

    def settings(self) -> Mapping[str, str]:
        """Of the sink."""

    def state(self, delivered: int) -> Mapping[Any, Any]:
        """What it holds, once all `delivered` records of all rounds have arrived."""


def different(copies: list[Any]) -> list[Any]:
    """The different ones of the copies of a span: one, if a resend is the same."""
    return [span for i, span in enumerate(copies) if span not in copies[:i]]


class OfCollector:
    """It keeps every copy of a span, so its state is the different copies of each."""

    type = "otlp"

    def __init__(self, server: Collector) -> None:
        self.server = server
        self.copies: dict[Key, int] = {}

    def settings(self) -> Mapping[str, str]:
        return {"endpoint": self.server.http}

    def state(self, delivered: int) -> Mapping[Key, list[Any]]:
        found = normal(self.server.documents(delivered))
        self.copies = {key: len(spans) for key, spans in found.items()}
        return {key: different(spans) for key, spans in found.items()}


class OfJaeger:
    """It stores every copy, and its user interface shows equal ones once."""

    type = "otlp"

    def __init__(self, server: Jaeger, traces: OfCollector) -> None:
        self.server, self.traces = server, traces

    def settings(self) -> Mapping[str, str]:
        return {"endpoint": self.server.http}

    def state(self, delivered: int) -> Mapping[str, Any]:
        found = {}
        for trace_id in sorted({trace for trace, _ in self.traces.copies}):
            document = self.server.trace(trace_id)
            assert document is not None, trace_id
            spans = {key: different(copies) for key, copies in normal([document]).items()}
            found[trace_id] = (spans, self.server.parents(trace_id))
        return found


class OfWeave:
    type = "weave"

    def __init__(self, server: WeaveServer) -> None:
        self.server = server

    def settings(self) -> Mapping[str, str]:
        return self.server.settings()

    def state(self, delivered: int) -> Mapping[str, Any]:
        return {"calls": self.server.calls(), "feedback": self.server.feedback()}


def test_a_topic_that_is_redelivered_three_times_leaves_what_it_left_once(
    broker: Broker, tmp_path: Path
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    enriched = enrich(pipeline, [*completed().values(), *events()])
    with ExitStack() as running:
        collector = OfCollector(running.enter_context(Collector(tmp_path)))
        backends: dict[str, Backend] = {
            "collector": collector,
            "jaeger": OfJaeger(running.enter_context(Jaeger(tmp_path)), collector),
        }
        if "weave" in shipped():
            backends["weave"] = OfWeave(running.enter_context(WeaveServer(tmp_path)))
        states: list[dict[str, Any]] = []
        delivered = dict.fromkeys(backends, 0)
        for number, most in enumerate(BATCHES):
            env = {
                f"TAILRACE_SINKS_{name.upper()}_{key.upper()}": value
                for name, backend in backends.items()
                for key, value in {
                    "type": backend.type,
                    **backend.settings(),
                    "max_records": str(most),
                }.items()
            }
            counts = deliver(pipeline, list(backends), env, number)
            assert set(counts) == set(backends)
            for name, (passed, sent, _, dead) in counts.items():
                assert (passed, dead) == (enriched, 0), (name, counts)
                delivered[name] += sent
            states.append({name: backend.state(delivered[name]) for name, backend in backends.items()})
            print(number, counts, {name: len(found) for name, found in states[-1].items()})
            assert set(collector.copies.values()) == {number + 1}  # each round was a whole one
    first = states[0]
    assert len(first["jaeger"]) > 445
    assert all(len(spans) == 1 for spans in first["collector"].values())
    assert all(len(spans) == 1 for found, _ in first["jaeger"].values() for spans in found.values())
    for number in range(1, len(BATCHES)):
        for name, state in first.items():
            assert states[number][name] == state, f"{name} after round {number}"
