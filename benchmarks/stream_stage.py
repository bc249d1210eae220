"""The stream stage: tailrace's worker beside plain Faust that only forwards, on one real broker, in one run.

    python benchmarks/stream_stage.py [--events 200000] [--peer-events 20000] [--json]

Both read the same topic of about 1 KB events in 4 partitions. tailrace correlates, enriches, keeps state, and commits
transactions; the peer is an agent whose body is one `send` of the unchanged bytes, as Faust's guide writes it, at least once.
CPU is the worker process's own (all threads), between the first and the last output seen; loads are in the topic before
a worker starts, so neither the loader nor the start counts. Compare within a run: the machine's other load moves both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from tailrace import Kind, NodeExecution, TraceEvent, WorkflowRun, codec, kafka, topics
from tailrace.broker import Broker
from tailrace.identity import complete, kafka_key
from tailrace.partitioner import PARTITIONER
from tailrace.settings import Settings, load

NODES = 9
WORDS = (
    "transport", "correlate", "partition", "retention", "enrich", "replay", "deliver", "ledger", "connector", "latency", "token", "prompt",
    "completion", "retrieval", "embedding", "guardrail", "iteration", "workflow", "message", "conversation", "tenant", "workspace",
)  # fmt: skip

PEER = """
import sys, faust
source, target, broker, group = sys.argv.pop(), sys.argv.pop(), sys.argv.pop(), sys.argv.pop()
app = faust.App(group, broker="kafka://" + broker, store="memory://", web_enabled=False, topic_disable_leader=True,
                consumer_auto_offset_reset="earliest", stream_buffer_maxsize=16384, producer_linger=0.02, datadir=group)
incoming = app.topic(source, value_type=bytes, value_serializer="raw", key_serializer="raw")
outgoing = app.topic(target, value_type=bytes, value_serializer="raw", key_serializer="raw")
@app.agent(incoming)
async def forward(stream):
    async for event in stream.events():
        await outgoing.send(key=event.key, value=event.value)
app.main()
"""


def text(seed: int, words: int) -> str:
    out = []
    for _ in range(words):
        seed = (seed * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        out.append(WORDS[(seed >> 33) % len(WORDS)])
    return " ".join(out)


def events(count: int, now: int) -> Iterator[TraceEvent]:
    """Runs of nine nodes and the run itself, distinct texts."""
    for i in range(count):
        run, node = divmod(i, NODES + 1)
        run_id = f"{run:08x}-0000-4000-8000-{run:012x}"
        at = now + i * 100
        about: dict[str, Any] = {"started_at": at, "ended_at": at + 1000 + i % 997, "workflow_run_id": run_id, "root_run_id": run_id, "root_trace_id": run_id,
                 "root_started_at": now + run * 1000, "tenant_id": f"tenant-{run % 20}", "app_id": f"app-{run % 50}", "app_name": f"App {run % 50}",
                 "user_id": f"user-{run % 1000}", "status": "succeeded", "inputs": {"query": text(i, 28)}, "outputs": {"text": text(i + 1, 28)}}  # fmt: skip
        if node == NODES:
            yield msgspec.convert(
                {
                    "kind": "workflow_run",
                    **about,
                    "workflow_run": WorkflowRun(workflow_id=f"w-{run % 50}", steps=NODES),
                },
                TraceEvent,
            )
        else:
            yield TraceEvent(
                kind=Kind.NODE_EXECUTION, source_id=f"{run:08x}-{node:04x}-4000-8000-{run:012x}", name=f"Node {node}", node_type="llm",
                model_provider="openai", model_name="gpt-4o", input_tokens=100 + i % 900, output_tokens=20 + i % 90, total_tokens=120 + i % 990,
                total_price="0.00123", currency="USD", node_execution=NodeExecution(node_id=f"n{node}", index=node + 1), **about,
            )  # fmt: skip


def fill(settings: Settings, topic: str, count: int) -> int:
    """Publishes `count` events; returns their mean size in bytes."""
    producer = Producer(kafka.client(settings.kafka, partitioner=PARTITIONER, linger_ms=20, compression_type="lz4"))
    now, total = time.time_ns() // 1000, 0
    for event in events(count, now):
        done = complete(event, now)
        value = codec.encode(done)
        total += len(value)
        while True:
            try:
                producer.produce(topic, value, (kafka_key(done) or "").encode())
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return total // count


def committed(settings: Settings, topic: str, partitions: int) -> Callable[[], int]:
    """Counts the records of a topic by its end offsets (control records of transactions count too)."""
    properties = kafka.client(settings.kafka, group_id="benchmark", enable_auto_commit=False)
    consumer = Consumer({**properties, "log_level": 0})

    def ends() -> int:
        return sum(consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in range(partitions))

    return ends


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, pid: Callable[[], int | None], count: Callable[[], int], total: int) -> dict[str, float | str]:
    """CPU and rate between the first and (nearly) the last of `total` records at the output."""
    pause, began = threading.Event(), time.monotonic()
    first: tuple[float, float, int] | None = None
    while time.monotonic() - began < 600:
        seen, process = count(), pid()
        if process and seen:
            now = (time.perf_counter(), cpu_seconds(process), min(seen, total))
            first = first or now
            if seen >= total:
                n = now[2] - first[2]
                return {
                    "stage": name,
                    "events": n,
                    "us_cpu": (now[1] - first[1]) / n * 1e6,
                    "per_second": n / (now[0] - first[0]),
                }
        pause.wait(0.02)
    raise SystemExit(f"{name}: {count()} of {total} after 10 minutes")


@contextlib.contextmanager
def tailrace_worker(bootstrap: str, log: Path) -> Iterator[Callable[[], int | None]]:
    """`tailrace process`; gives the worker's pid (the supervisor's child)."""
    with log.open("wb") as out:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "tailrace", "process", "-b", bootstrap], stdout=out, stderr=out
        )

        def pid() -> int | None:
            children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
            return int(children[0]) if children else None

        try:
            yield pid
        finally:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.wait(60)


@contextlib.contextmanager
def faust_worker(bootstrap: str, source: str, target: str, folder: Path) -> Iterator[Callable[[], int | None]]:
    script = folder / "peer.py"
    script.write_text(PEER)
    with (folder / "peer.log").open("wb") as out:
        peer = subprocess.Popen(
            [sys.executable, str(script), "worker", "-l", "warn", "peer", bootstrap, target, source],
            stdout=out,
            stderr=out,
            cwd=folder,
        )
        try:
            yield lambda: peer.pid
        finally:
            peer.send_signal(signal.SIGTERM)
            peer.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description="µs of CPU an event, tailrace's stream stage beside plain Faust.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument(
        "--peer-events", type=int, default=20_000, help="plain Faust is slow: a smaller part of the same load"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of tailrace; the median counts")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows: list[dict[str, float | str]] = []
    size = 0
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        for n in range(args.rounds):
            settings = load(
                {"kafka": {"bootstrap_servers": broker.bootstrap_servers}, "topics": {"prefix": f"round{n}."}}, env={}
            )
            admin, _ = kafka.wait_for_broker(settings.kafka, 30)
            topics.create(admin, settings.topics)
            names = topics.Names.of(settings.topics)
            size = fill(settings, names.events, args.events)
            os.environ["TAILRACE_TOPICS_PREFIX"] = settings.topics.prefix
            os.environ["TAILRACE_STREAMS_APP_ID"] = f"benchmark-{n}"
            with tailrace_worker(broker.bootstrap_servers, folder / "worker.log") as pid:
                rows.append(
                    measure(
                        "tailrace", pid, committed(settings, names.enriched, settings.topics.partitions), args.events
                    )
                )
        settings = load(
            {"kafka": {"bootstrap_servers": broker.bootstrap_servers}, "topics": {"prefix": "peer."}}, env={}
        )
        topics.create(admin, settings.topics)
        names = topics.Names.of(settings.topics)
        fill(settings, names.events, args.peer_events)
        with faust_worker(broker.bootstrap_servers, names.events, names.enriched, folder) as pid:
            seen = committed(settings, names.enriched, settings.topics.partitions)
            rows.append(measure("plain Faust, bare forward", pid, seen, args.peer_events))
    ours = sorted(rows[:-1], key=lambda r: float(r["us_cpu"]))[(args.rounds - 1) // 2]
    peer = rows[-1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
    )
    ratio = float(peer["us_cpu"]) / float(ours["us_cpu"])
    if args.json:
        print(
            json.dumps(
                {"machine": machine, "event_bytes": size, "rows": rows, "median": ours, "peer_over_tailrace": ratio}
            )
        )
        return
    print(f"{machine}; events of {size} B, 4 partitions, Apache Kafka 4.1 on the same machine")
    print(f"{'':<28}{'events':>10}{'µs CPU an event':>18}{'events/s':>12}")
    for row in rows:
        print(f"{row['stage']:<28}{row['events']:>10}{row['us_cpu']:>18.1f}{row['per_second']:>12.0f}")
    print(f"median of tailrace {ours['us_cpu']:.1f} µs; plain Faust takes {ratio:.0f} times as much")


if __name__ == "__main__":
    main()
