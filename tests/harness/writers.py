"""Old and new writers of trace.events at once, in both frames, with a registry that fails meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Producer

from tailrace import Publisher, codec
from tailrace.codec import schemas, wire
from tailrace.identity import kafka_key
from tailrace.partitioner import PARTITIONER, partition_of
from tailrace.records import TraceEvent
from tailrace.settings import Registry, Settings
from tests.harness.enriched import read
from tests.harness.pipeline import Pipeline
from tests.harness.processes import Child, wait_until
from tests.streams.events import event

OURS: Final = schemas.current("TraceEvent")
NEWER: Final = {
    **OURS,
    "fields": [*OURS["fields"], {"name": "weather", "type": ["null", "string"], "default": None}],
}
"""A plausible next version, with one more nullable field."""
_PARTITIONS: Final = 4


def newer(e: TraceEvent, frame: bytes) -> bytes:
    """An event as a writer of the next schema version writes it."""
    return frame + codec.encode(e)[wire.BODY :] + b"\2\x0arainy"


class Writers:
    """Four writers: this version and the next one, each with the registry's ids and with fingerprints.

    Args:
        settings: of the publishers.
        newer_id: id of the next version's schema in the registry.
    """

    def __init__(self, settings: Settings, newer_id: int) -> None:
        old = msgspec.structs.replace(settings.registry, write="single-object")
        self._ids = Publisher(settings=settings)
        self._fingerprints = Publisher(settings=msgspec.structs.replace(settings, registry=old))
        self._raw = Producer(
            {
                "bootstrap.servers": settings.kafka.bootstrap_servers,
                "partitioner": PARTITIONER,
                "enable.idempotence": True,
            }
        )
        self._topic = f"{settings.topics.prefix}events"
        self._frames = (schemas.id_frame(newer_id), wire.MARKER + schemas.fingerprint(NEWER))
        self._runs: Iterator[int] = iter(range(1, 1 << 30))
        self.written: list[str] = []

    def write(self, events: int, *, with_newer: bool, partitions: set[int]) -> None:
        """Writes events to these partitions, a run each, by the writers in turn.

        Writers of the next version write to partition 0 only.
        """
        ways = 4 if with_newer else 2
        for i in range(events):
            self._one(i % ways, partitions if i % ways < 2 else {0})
        assert self._ids.flush(60)
        assert self._fingerprints.flush(60)
        assert self._raw.flush(60) == 0

    def _one(self, way: int, partitions: set[int]) -> None:
        while True:
            e = event(run=next(self._runs))
            key = (kafka_key(e) or "").encode()
            if partition_of(key, _PARTITIONS) in partitions:
                break
        self.written.append(str(e.event_id))
        if way == 0:
            self._ids.publish(e)
        elif way == 1:
            self._fingerprints.publish(e)
        else:
            self._raw.produce(self._topic, newer(e, self._frames[way - 2]), key)

    def close(self) -> None:
        for publisher in (self._ids, self._fingerprints):
            assert publisher.close()


def run(
    pipeline: Pipeline,
    registry: Registry,
    add: Callable[[str, Any], int],
    away: Callable[[], None],
    back: Callable[[], None],
) -> None:
    """The whole scenario, with its assertions.

    Args:
        pipeline: the pipeline.
        registry: settings of the registry.
        add: makes a schema the next version of a subject and returns its id.
        away: makes the registry fail.
        back: makes it recover.
    """
    settings = msgspec.structs.replace(pipeline.settings, registry=registry)
    env = {f"TAILRACE_REGISTRY_{k.upper()}": str(v) for k, v in msgspec.to_builtins(registry).items() if v}
    env["TAILRACE_SCHEMAS_WAIT_SECONDS"] = "600"
    subject = f"{pipeline.names.events}-value"
    process = pipeline.tailrace("process", "--instance-id", "p", name="process", env=env)
    with process:
        writers = Writers(settings, 0)  # registers this version
        writers._frames = (schemas.id_frame(add(subject, NEWER)), writers._frames[1])
        writers.write(200, with_newer=False, partitions={0, 1, 2, 3})
        pipeline.wait_for_enriched(200, alive=(process,))

        away()
        writers.write(40, with_newer=True, partitions={0, 1, 2, 3})
        waits = "partition 0 waits for the schemas"
        wait_until(lambda: waits in process.output(), 60, "partition 0 waits", alive=(process,))
        writers.write(100, with_newer=False, partitions={1, 2, 3})
        wanted = sum(a.enriched + a.pending for a in pipeline.ledger_report().streams if a.partition)
        wait_until(
            lambda: sum(a.enriched for a in pipeline.ledger_report().streams if a.partition) >= wanted,
            60,
            "the other partitions go on meanwhile",
            alive=(process,),
        )
        assert "partition 0 continues" not in process.output()

        assert process.sigterm(60) == 0, (
            process.tail()
        )  # with records that wait, and started without a registry
        process.start()
        wait_until(lambda: waits in process.output(), 60, "partition 0 waits again", alive=(process,))

        back()
        writers.write(80, with_newer=True, partitions={0, 1, 2, 3})
        report = pipeline.wait_for_enriched(len(writers.written), 90, alive=(process,))
        assert report.balanced
        assert sum(a.dead_lettered for a in report.streams) == 0
        assert process.sigterm(60) == 0, process.tail()
    writers.close()
    _check_values(pipeline, writers)

    away()
    path = pipeline.folder / "out.jsonl"
    with _connect(pipeline, path, env) as connect:
        assert connect.wait(120) == 0, connect.tail()
    back()
    report = pipeline.ledger_report()
    assert report.balanced
    (last,) = [
        json.loads(line)
        for line in connect.output().splitlines()
        if line.startswith("{") and '"final":true' in line.replace(" ", "")
    ]
    assert last["counts"]["dead_lettered"] == 0
    assert Counter(
        json.loads(line)["event"]["event_id"] for line in path.read_bytes().splitlines()
    ) == Counter(writers.written)


def _check_values(pipeline: Pipeline, writers: Writers) -> None:
    """All four frames were written, and the values of trace.enriched are those of trace.events."""
    written, enriched = (
        Counter(m.value() for m in read(pipeline.bootstrap, name, committed=True)[0])
        for name in (pipeline.names.events, pipeline.names.enriched)
    )
    assert written == enriched
    frames = {v[:5] if v[:1] == b"\0" else v[:10] for v in written}
    assert {*writers._frames, wire.frame_of("TraceEvent")} < frames
    assert len(frames) == 4


def _connect(pipeline: Pipeline, path: Path, env: dict[str, str]) -> Child:
    """A sink reads everything while the registry fails: what the processor learned is on disk."""
    return pipeline.tailrace(
        "connect",
        "file",
        "--set",
        f"sinks.file.path={path}",
        "--until-caught-up",
        "--json",
        name="connect",
        env=env,
    )
