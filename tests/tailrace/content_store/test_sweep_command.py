"""`tailrace content` on a real broker and a folder: what it lists, spares and deletes, and how it fails."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import KafkaError, KafkaException, Producer

from tailrace import codec
from tailrace.broker import Broker
from tailrace.cli import cli
from tailrace.content_store import dead_letters
from tailrace.content_store import sweep as rules
from tailrace.content_store.folder import Folder
from tailrace.content_store.naming import path_of
from tailrace.content_store.store import ContentStore
from tailrace.dead_letters import dead_letter
from tailrace.errors import KafkaUnavailable
from tailrace.identity import complete
from tailrace.records import ContentRef, Stage
from tests.connectors.enriching import make_event
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until

pytestmark = pytest.mark.kafka

DAY = 86_400.0
LIFETIME = 2 * (7 + 7) + 7 + 1
"""Days: retention and segment of both topics, age of a spool, margin."""


class Bench(Pipeline):
    def __init__(self, bootstrap: str, folder: Path) -> None:
        super().__init__(bootstrap, folder)
        self.root = folder / "store"
        self.root.mkdir()
        self.store = ContentStore(Folder(self.root))

    def put(self, data: bytes, days: float, tenant_id: str | None = "t") -> str:
        name = self.store.put(tenant_id, data)
        at = time.time() - days * DAY
        os.utime(self.root / path_of(tenant_id, name), (at, at))
        return name

    def left(self) -> set[str]:
        return {one.hash for one in self.store.names()}

    def run(self, *arguments: str) -> Result:
        options = [f"--set=topics.prefix={self.settings.topics.prefix}", f"--set=content.store={self.root}"]
        return CliRunner().invoke(cli, ["content", *arguments, "-b", self.bootstrap, *options])

    def dead_letter(self, value: bytes | None, offset: int) -> None:
        """Writes the dead letter of an event that could not be read, to any partition."""
        letter = dead_letter(
            Stage.DECODE,
            "unknown_schema",
            "",
            topic=self.names.events,
            partition=0,
            offset=offset,
            appended_at=0,
            failed_at=0,
            key=None,
            value=value,
            keep=1_000_000,
        )
        producer = Producer({"bootstrap.servers": self.bootstrap})
        producer.produce(self.names.dead_letters, codec.encode(letter), partition=offset % 4)
        assert producer.flush(30) == 0


@pytest.fixture
def bench(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    return Bench(broker.bootstrap_servers, tmp_path)


def referring(*names: str) -> bytes:
    """An event in bytes whose schema nobody knows."""
    refs = tuple(ContentRef(field="inputs", tenant_id="t", hash=name, bytes=1) for name in names)
    value = codec.encode(complete(make_event(1, content_refs=refs, inputs=None), 1_800_000_000_000_000))
    return value[:2] + b"strange!" + value[10:]


def test_it_deletes_what_is_old_and_spares_what_is_young_or_named(bench: Bench) -> None:
    old = bench.put(b"old", LIFETIME + 1)
    young = bench.put(b"young", LIFETIME - 1)
    named = [bench.put(b"named %d" % n, LIFETIME + 30) for n in range(3)]
    bench.dead_letter(None, 0)
    for n, name in enumerate(named):
        bench.dead_letter(referring(name), n + 1)

    dry = bench.run("sweep", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert old in dry.stdout
    assert "would delete 1 contents, 3 bytes" in dry.stderr
    assert bench.left() == {old, young, *named}

    ran = bench.run("sweep", "--json")
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found | {"older_than_hours": 0} == {
        "dry_run": False,
        "older_than_hours": 0,
        "sources": ["dead-letters"],
        "young": 1,
        "named": 3,
        "more": 0,
        "planned": {"contents": 1, "bytes": 3},
        "deleted": 1,
        "bytes": 3,
        "renewed": 0,
        "unfinished": 0,
    }
    assert found["older_than_hours"] == LIFETIME * 24
    assert bench.left() == {young, *named}


def test_the_retention_of_the_cluster_counts_and_a_shorter_lifetime_is_refused(bench: Bench) -> None:
    old = bench.put(b"old", LIFETIME + 1)
    ran = bench.run("sweep", "--older-than", "35d")
    assert ran.exit_code == 2
    assert f"use at least {LIFETIME * 24}h" in ran.output
    assert bench.run("sweep", "--older-than", "soon").exit_code == 2
    assert bench.run("sweep", "--older-than", "40d").exit_code == 0
    assert bench.left() == {old}
    assert bench.run("sweep", "--older-than", f"{LIFETIME}d").exit_code == 0
    assert bench.left() == set()


def _no_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> tuple[int, int]:
        raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))

    monkeypatch.setattr(dead_letters, "ends", fails)


def _source_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def archive(settings: object) -> Iterator[str]:
        yield "sha256:" + "0" * 64
        raise KafkaUnavailable("the archive cannot be read")

    monkeypatch.setattr(rules, "sources", lambda: {"archive": archive})


@pytest.mark.parametrize("fault", [_no_partition, _source_fails])
def test_names_that_cannot_be_read_completely_delete_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None]
) -> None:
    old = bench.put(b"old", LIFETIME + 1)
    bench.dead_letter(referring(old), 1)
    fault(monkeypatch)
    ran = bench.run("sweep")
    assert (ran.exit_code, bench.left()) == (1, {old}), ran.output
    assert "tailrace content sweep: " in ran.stderr


def test_a_topic_that_is_missing_deletes_nothing(bench: Bench) -> None:
    old = bench.put(b"old", LIFETIME + 1)
    for future in bench.admin.delete_topics([bench.names.dead_letters], operation_timeout=30).values():
        future.result()
    gone = bench.names.dead_letters
    wait_until(lambda: gone not in bench.admin.list_topics(timeout=10).topics, 60, "the deletion")
    ran = bench.run("sweep")
    assert (ran.exit_code, bench.left()) == (1, {old}), ran.output
    assert bench.names.dead_letters in ran.stderr


def test_a_store_that_cannot_be_read_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Iterator[tuple[str, float, int]]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "files", fails)
    for command in ("sweep", "ls"):
        ran = bench.run(command)
        assert ran.exit_code == 1
        assert "content.store cannot be listed" in ran.stderr


def test_ls_lists_the_content_of_one_tenant_or_all(bench: Bench) -> None:
    mine, none = bench.put(b"mine", 1), bench.put(b"none's", 1, None)
    ran = bench.run("ls", "--json")
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {(row["folder"], row["hash"], row["bytes"]) for row in rows} == {
        ("t-t", mine, 4),
        ("none", none, 6),
    }
    assert "2 contents, 10 bytes" in ran.stderr
    assert [line.split()[-1] for line in bench.run("ls", "--tenant", "t").stdout.splitlines()] == [mine]
    assert [line.split()[-1] for line in bench.run("ls", "--tenant", "").stdout.splitlines()] == [none]


def test_without_a_store_it_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(cli, ["content", "ls"])
    assert "content.store" in str(ran.exception)
