"""kill -9 under load, and an exact count.

Nothing is lost. There are no duplicates inside, and outside only those of killed connectors.
"""

from __future__ import annotations

import functools
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.testing.doubles.received import read_spans
from tailrace import Publisher
from tailrace.broker import Broker
from tests.crash.kills import (
    TRICKLE,
    ConnectorKill,
    grown,
    kill_between_accepted_and_committed,
    kill_in_transaction,
    stored,
)
from tests.harness import enriched
from tests.harness.ledger import Ledger, Obligations, judge
from tests.harness.load import Load, Published, probe, publish
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(400)]

BATCH = 500
"""Most spans in a request of the otlp sink.

A partition may have two such batches uncommitted: one being sent, one being committed.
"""


@contextmanager
def receiver(folder: Path, delay: float) -> Iterator[tuple[Child, str]]:
    """An OTLP receiver that stores at once and answers after `delay` seconds."""
    arguments = ["--port", "0", "--file", str(folder / "spans.jsonl"), "--delay", str(delay), "--json"]
    with Child(
        [sys.executable, "-P", "-m", "connectors.testing.doubles.otlp", *arguments],
        {},
        folder / "receiver.log",
    ) as child:
        yield child, child.json_line()["endpoint"]


def connector(pipeline: Pipeline, endpoint: str) -> Child:
    return pipeline.tailrace(
        "connect", "otlp", name="connect", env={"TAILRACE_SINKS_OTLP_ENDPOINT": endpoint}
    )


class Loader:
    """Publishes a load in a thread, with its ledger.

    What `allow` lets through is published at the pace of the load, the rest at a trickle. So the pipeline
    is never idle before the last share is allowed, however long a kill takes.
    """

    def __init__(self, pipeline: Pipeline, load: Load, *, allowed: float = 1.0) -> None:
        self.path = pipeline.folder / "ledger.jsonl"
        self._pipeline, self._load = pipeline, load
        self._allowed = allowed * load.events
        self._result: Published | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def allow(self, share: float) -> None:
        """Lets a share of the load through, in addition to what was allowed before."""
        self._allowed += share * self._load.events

    def _hold(self, i: int) -> float:
        return 0.0 if i < self._allowed else 1 / TRICKLE

    def _run(self) -> None:
        try:
            with Publisher(settings=self._pipeline.settings) as publisher, Ledger(self.path) as ledger:
                self._result = publish(self._load, publisher, ledger, hold=self._hold)
                probe(publisher, ledger, self._load.seed)  # must still get through when the faults are over
        except BaseException as e:
            self._error = e

    def wait(self) -> Published:
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


def settle(pipeline: Pipeline, total: int, alive: tuple[Child, ...]) -> None:
    """Waits until every event of trace.events is enriched, and passed and committed by the connector."""

    def done() -> bool:
        report = pipeline.ledger_report()
        return (
            report.settled
            and sum(a.events_in for a in report.streams) == total
            and sum(a.passed for a in report.sinks) == total
        )

    wait_until(done, 120, f"all {total} events are through", alive=alive, every=0.2)


def test_three_worker_kills_and_two_connector_kills(broker: Broker, tmp_path: Path, seed: int) -> None:
    events, seconds = 10_000, 32.0
    rng = random.Random(seed)
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, session_timeout_ms=3000)
    worker_kills: list[tuple[int, int]] = []
    connector_kills: list[ConnectorKill] = []
    with (
        receiver(tmp_path, 0.05) as (_, endpoint),
        pipeline.process() as process,
        connector(pipeline, endpoint) as connect,
    ):
        kinds = ["worker", "worker", "worker", "connector", "connector"]
        rng.shuffle(kinds)
        share = 1 / (len(kinds) + 1)
        loader = Loader(pipeline, Load(seed=seed, events=events, seconds=seconds), allowed=0)
        for kind in kinds:
            loader.allow(share)
            threading.Event().wait(rng.uniform(0.5, 1) * share * seconds)
            if kind == "worker":
                worker_kills.append(kill_in_transaction(pipeline, process))
            else:
                connector_kills.append(kill_between_accepted_and_committed(pipeline, connect, endpoint))
                connect.start()
        loader.allow(share)
        load = loader.wait()
        obligations = Obligations.read(loader.path)
        settle(pipeline, len(obligations.acked), (process, connect))
        assert connect.sigterm(60) == 0, connect.tail()
        assert process.sigterm(60) == 0, process.tail()
    inside = enriched.check(
        pipeline.bootstrap,
        obligations,
        events=pipeline.names.events,
        enriched=pipeline.names.enriched,
        scenario="enriched",
    )
    outside = judge(obligations, read_spans(tmp_path / "spans.jsonl"), scenario="receiver")
    exposed = sum(k.exposed for k in connector_kills)
    print(
        f"\n{events} events in {load.seconds:.1f} s (latest {load.latest:.1f} s behind); kills "
        f"{' '.join(kinds)}"
    )
    print(
        "worker kills, records in the open transaction / events waiting:",
        *(f"{held}/{lag}" for held, lag in worker_kills),
    )
    print(
        "connector kills, accepted and not committed / waiting:",
        *(f"{k.exposed}/{k.lag}" for k in connector_kills),
    )
    print(inside.line())
    print(outside.line())
    print(*(f"{a}" for a in pipeline.ledger_report().streams), sep="\n")
    inside.require(acked=events, aborted=1)
    outside.require(acked=events, redelivered=1, max_duplicates=exposed)
    assert outside.excused == outside.unacked_arrived == 0
    assert load.seconds >= 30
    assert pipeline.ledger_report().balanced
    in_flight = pipeline.settings.topics.partitions * BATCH * 2
    assert all(k.exposed <= in_flight for k in connector_kills), (
        f"more than {in_flight} records were in flight"
    )


def test_sigterm_of_everything_under_load_loses_and_duplicates_nothing(
    broker: Broker, tmp_path: Path, seed: int
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path, session_timeout_ms=3000)
    rng = random.Random(seed)
    with (
        receiver(tmp_path, 0.02) as (_, endpoint),
        pipeline.process() as process,
        connector(pipeline, endpoint) as connect,
    ):
        loader = Loader(pipeline, Load(seed=seed, events=6000, seconds=45))
        for child in (process, connect, process, connect):
            wait_until(
                functools.partial(grown, endpoint, stored(endpoint)),
                60,
                "spans arrive",
                alive=(process, connect),
            )
            threading.Event().wait(rng.uniform(0, 1))
            assert child.sigterm(60) == 0, child.tail()
            child.start()
        loader.wait()
        obligations = Obligations.read(loader.path)
        settle(pipeline, len(obligations.acked), (process, connect))
    inside = enriched.check(
        pipeline.bootstrap,
        obligations,
        events=pipeline.names.events,
        enriched=pipeline.names.enriched,
        scenario="enriched",
    )
    outside = judge(obligations, read_spans(tmp_path / "spans.jsonl"), scenario="receiver")
    print(f"\n{inside.line()}\n{outside.line()}")
    inside.require(acked=6000)
    outside.require(acked=6000, max_duplicates=0)
    assert pipeline.ledger_report().balanced
