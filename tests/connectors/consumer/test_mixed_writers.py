"""Old and new writers, both frames, a registry that fails and recovers: nothing stops or is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tailrace import codec
from tailrace.broker import Broker
from tailrace.codec import schemas
from tailrace.partitioner import PARTITIONER
from tailrace.records import DeadLetter
from tailrace.settings import Registry
from tests.harness import writers
from tests.harness.enriched import read
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until
from tests.harness.schema_registry import SchemaRegistry
from tests.streams.events import event

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def test_mixed_writers_while_the_registry_goes_away_and_comes_back(broker: Broker, tmp_path: Path) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    with SchemaRegistry(first_id=500) as registry:

        def away() -> None:
            registry.state = "reset"

        def back() -> None:
            registry.state = "up"

        given = Registry(url=registry.url, cache_dir=str(tmp_path / "cache"))
        writers.run(pipeline, given, registry.add, away, back)


def test_a_schema_that_the_registry_lacks_is_a_dead_letter_that_can_be_published_again(
    broker: Broker, tmp_path: Path
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    with SchemaRegistry() as registry:
        env = {"TAILRACE_REGISTRY_URL": registry.url, "TAILRACE_REGISTRY_CACHE_DIR": str(tmp_path / "cache")}
        producer = Producer({"bootstrap.servers": pipeline.bootstrap, "partitioner": PARTITIONER})
        e, frame = event(), schemas.id_frame(9999)
        key = str(e.trace_id).encode()
        producer.produce(pipeline.names.events, writers.newer(e, frame), key)
        producer.produce(pipeline.names.events, codec.encode(event(n=2)), key)
        assert producer.flush(60) == 0
        with pipeline.tailrace("process", "--instance-id", "p", name="process", env=env) as process:
            pipeline.wait_for_enriched(1, alive=(process,))
            assert sum(a.dead_lettered for a in pipeline.ledger_report().streams) == 1
            (message,) = read(pipeline.bootstrap, pipeline.names.dead_letters, committed=True)[0]
            dead_letter = codec.decode(message.value(), DeadLetter)
            assert (dead_letter.reason, dead_letter.raw, dead_letter.key) == (
                "unknown_schema",
                writers.newer(e, frame),
                key,
            )
            assert "schema with the registry's id 9999" in dead_letter.detail
            registry.schemas[9999] = {"schema": json.dumps(writers.NEWER)}

            def published_again() -> bool:
                """Publishes it again. The registry is asked again only after some time."""
                producer.produce(pipeline.names.events, dead_letter.raw, dead_letter.key)
                assert producer.flush(60) == 0
                return sum(a.enriched for a in pipeline.ledger_report().streams) == 2

            wait_until(published_again, 90, "it is enriched", alive=(process,), every=1.0)
            assert pipeline.ledger_report().balanced
            assert process.sigterm(60) == 0
