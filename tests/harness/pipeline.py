"""An isolated pipeline on the shared broker: its own topics, groups, transactional ids and processes."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AdminClient

from tailrace import topics
from tailrace.ledger.report import LedgerReport, read_report
from tailrace.settings import Connect, Kafka, Settings, Streams, Topics
from tests.harness.processes import Child, wait_until

_number: Final = itertools.count(1)


class Pipeline:
    """Settings, environment and child processes of one test's pipeline. folder: for logs and files."""

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        *,
        partitions: int = 4,
        session_timeout_ms: int = 6000,
        create: bool = True,
    ) -> None:
        name = f"t{next(_number)}"
        self.folder = folder
        self.bootstrap = bootstrap
        self.settings = Settings(
            kafka=Kafka(bootstrap_servers=bootstrap),
            topics=Topics(prefix=f"{name}.", partitions=partitions),
            streams=Streams(app_id=f"{name}-streams", session_timeout_ms=session_timeout_ms),
            connect=Connect(group_prefix=f"{name}-sink-", session_timeout_ms=session_timeout_ms),
        )
        self.names = topics.TopicNames.of(self.settings.topics)
        self.env = {
            "TAILRACE_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "TAILRACE_TOPICS_PREFIX": self.settings.topics.prefix,
            "TAILRACE_TOPICS_PARTITIONS": str(partitions),
            "TAILRACE_STREAMS_APP_ID": self.settings.streams.app_id,
            "TAILRACE_STREAMS_SESSION_TIMEOUT_MS": str(session_timeout_ms),
            "TAILRACE_CONNECT_GROUP_PREFIX": self.settings.connect.group_prefix,
            "TAILRACE_CONNECT_SESSION_TIMEOUT_MS": str(session_timeout_ms),
        }
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        if create:
            topics.create(self.admin, self.settings.topics)

    def tailrace(
        self, *arguments: str, name: str, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> Child:
        """`tailrace …` as a child process, not started yet."""
        command = [sys.executable, "-m", "tailrace", *arguments]
        return Child(command, {**self.env, **(env or {})}, self.folder / f"{name}.log", cwd=cwd)

    def process(self, *arguments: str, name: str = "process", cwd: Path | None = None) -> Child:
        return self.tailrace("process", "--instance-id", name, *arguments, name=name, cwd=cwd)

    def ledger_report(self) -> LedgerReport:
        return read_report(self.admin, self.settings)

    def wait_for_enriched(
        self, count: int, deadline: float = 60.0, *, alive: tuple[Child, ...] = ()
    ) -> LedgerReport:
        """Waits until the processor has enriched `count` records in all."""

        def enough() -> LedgerReport | None:
            report = self.ledger_report()
            return report if sum(a.enriched for a in report.streams) >= count else None

        found = wait_until(enough, deadline, f"{count} records are enriched", alive=alive)
        assert found is not None
        return found
