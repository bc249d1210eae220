"""The load of the stream stage's benchmark: about 1 KB events with distinct texts.

They are in the topic before a worker starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
from confluent_kafka import Producer

from tailrace import Kind, NodeExecution, TraceEvent, WorkflowRun, codec, kafka
from tailrace.identity import complete, kafka_key
from tailrace.partitioner import PARTITIONER
from tailrace.settings import Settings

NODES = 9
WORDS = (
    "transport",
    "correlate",
    "partition",
    "retention",
    "enrich",
    "replay",
    "deliver",
    "ledger",
    "connector",
    "latency",
    "token",
    "prompt",
    "completion",
    "retrieval",
    "embedding",
    "guardrail",
    "iteration",
    "workflow",
    "message",
    "conversation",
    "tenant",
    "workspace",
)


def text(seed: int, words: int) -> str:
    out = []
    for _ in range(words):
        seed = (seed * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        out.append(WORDS[(seed >> 33) % len(WORDS)])
    return " ".join(out)


def events(count: int, now: int) -> Iterator[TraceEvent]:
    """Runs of nine nodes and the run itself, with distinct texts."""
    for i in range(count):
        run, node = divmod(i, NODES + 1)
        run_id = f"{run:08x}-0000-4000-8000-{run:012x}"
        at = now + i * 100
        about: dict[str, Any] = {
            "started_at": at,
            "ended_at": at + 1000 + i % 997,
            "workflow_run_id": run_id,
            "root_run_id": run_id,
            "root_trace_id": run_id,
            "root_started_at": now + run * 1000,
            "tenant_id": f"tenant-{run % 20}",
            "app_id": f"app-{run % 50}",
            "app_name": f"App {run % 50}",
            "user_id": f"user-{run % 1000}",
            "status": "succeeded",
            "inputs": {"query": text(i, 28)},
            "outputs": {"text": text(i + 1, 28)},
        }
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
                kind=Kind.NODE_EXECUTION,
                source_id=f"{run:08x}-{node + 1:04x}-4000-8000-{run:012x}",
                name=f"Node {node}",
                node_type="llm",
                model_provider="openai",
                model_name="gpt-4o",
                input_tokens=100 + i % 900,
                output_tokens=20 + i % 90,
                total_tokens=120 + i % 990,
                total_price="0.00123",
                currency="USD",
                node_execution=NodeExecution(node_id=f"n{node}", index=node + 1),
                **about,
            )


def fill(settings: Settings, topic: str, count: int) -> int:
    """Publishes `count` events; returns their mean size in bytes."""
    producer = Producer(
        kafka.client(settings.kafka, partitioner=PARTITIONER, linger_ms=20, compression_type="lz4")
    )
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
