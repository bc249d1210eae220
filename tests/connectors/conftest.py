"""What the runner's tests share: topics and groups for one test, and a sink that runs in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from connectors.config.instances import instance
from connectors.consumer.sink_supervisor import SinkSupervisor
from tailrace import codec
from tailrace.broker import Broker
from tailrace.ledger.sink_ledger import SinkLedger
from tailrace.records import DeadLetter
from tailrace.settings import Settings
from tests.connectors.enriching import Enricher
from tests.harness.enriched import read
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until

PARTITIONS = 3


class Running:
    """A sink in a thread. It is drained at the end unless it has ended."""

    def __init__(
        self, settings: Settings, sink: str, read: Callable[[], Settings] | None = None, **options: Any
    ) -> None:
        """A sink that is not started yet.

        Args:
            settings: what it starts with.
            sink: the instance's name.
            read: reads the settings again, for a sink whose settings change.
            options: for SinkSupervisor.
        """
        made = instance(settings, sink, {} if read else None, read)
        self.sink = SinkSupervisor(settings, made, random=lambda: 0.1, **options)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.sink.run()
        except BaseException as e:
            self.error = e

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, seconds: float = 40.0) -> None:
        self.sink.stop()
        self.join(seconds)

    def join(self, seconds: float = 40.0) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"still running: {self.sink.status()}"

    def until(self, done: Callable[[Any], bool], what: str, seconds: float = 40.0) -> None:
        """Waits until `done(status)`. Fails with the last status."""

        def ask() -> bool:
            if self.error is not None:
                raise AssertionError(f"{what}: the sink has ended") from self.error
            return done(self.sink.status())

        try:
            wait_until(ask, seconds, what)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.sink.status()}") from self.error


class Bench(Pipeline):
    """One test's topics, and records written to trace.enriched without the processor."""

    def __init__(self, bootstrap: str, folder: Path, partitions: int = PARTITIONS) -> None:
        super().__init__(bootstrap, folder, partitions=partitions)
        self.enricher = Enricher(bootstrap, self.names.enriched, partitions)

    def with_sink(self, name: str, connect: dict[str, Any] | None = None, **sink: Any) -> Settings:
        changed = msgspec.structs.replace(self.settings.connect, **{"drain_seconds": 10.0, **(connect or {})})
        return msgspec.structs.replace(self.settings, sinks={name: sink}, connect=changed)

    def with_client(self, settings: Settings, client: dict[str, str]) -> Settings:
        """`settings` with properties of the Kafka client."""
        return msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, client=client))

    def committed(self, sink: str) -> dict[int, tuple[int, SinkLedger]]:
        """Partition -> committed offset and ledger, for partitions with a commit."""
        found = {}
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": self.settings.connect.group_prefix + sink}
        )
        try:
            partitions = [
                TopicPartition(self.names.enriched, p) for p in range(self.settings.topics.partitions)
            ]
            for tp in consumer.committed(partitions, timeout=10):
                if tp.offset >= 0:
                    found[tp.partition] = (tp.offset, SinkLedger.decode(tp.metadata))
        finally:
            consumer.close()
        return found

    def ends(self) -> dict[int, int]:
        return read(self.bootstrap, self.names.enriched, committed=True)[1]

    def dead_letters(self) -> list[tuple[bytes | None, DeadLetter]]:
        messages, _ = read(self.bootstrap, self.names.dead_letters, committed=True)
        return [(m.key(), codec.decode(m.value(), DeadLetter)) for m in messages]

    def assert_settled(self, sink: str, **expected: int) -> None:
        """Everything is committed up to the end: the ledgers balance and their sums are `expected`."""
        committed = self.committed(sink)
        assert {p: offset for p, (offset, _) in committed.items()} == self.ends()
        ledgers = [ledger for _, ledger in committed.values()]
        assert all(x.balanced() and not x.gaps for x in ledgers), ledgers
        for p, (_, ledger) in committed.items():
            assert ledger.last == self.enricher.sequences[p] - 1
        total = {name: sum(getattr(x, name) for x in ledgers) for name in expected}
        assert total == expected


@pytest.fixture
def bench(broker: Broker, tmp_path: Path) -> Bench:
    return Bench(broker.bootstrap_servers, tmp_path)
