"""The processor's state: memory per open trace, and the time to take over a million state records.

    python benchmarks/state.py [--traces N] [--records N] [--dedupe-minutes 60] [--rounds 3] [--json]

Memory is measured in separate processes, which apply runs of twelve nodes and the run itself with
random ids. tracemalloc gives the size of each part, by releasing one after the other; the resident size
is that of a process without tracemalloc. The state that is taken over comes from events that were
really applied, written to a real broker: the records of a few thousand traces, each several times with
other ids, so that it does not take an hour to create; then metric minutes, links and pieces of event
ids in the proportions of an hour of traffic. Each round is a new process, and includes reading,
decompressing and restoring.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any
from uuid import UUID

import msgspec
from confluent_kafka import Producer

from benchmarks.stream_load import text
from streams.processing.apply import EventProcessor, TransactionBatch
from streams.processing.correlate import Link
from streams.processing.dedupe import PIECE, Dedupe
from streams.processing.dedupe import key as piece_key
from streams.processing.limits import MetricLimits, StateLimits
from streams.processing.links import PREFIX as LINK
from streams.processing.links import Links, pack
from streams.processing.metrics.aggregator import GROUP, MINUTES, MetricAggregator
from streams.processing.starts import COST as START
from streams.processing.starts import ENTRY, Starts
from streams.processing.starts import PIECE as STARTS
from streams.processing.starts import name as starts_key
from streams.processing.state import POSITION, State
from streams.runtime.restore import read_state, uncollected
from tailrace import Kind, NodeExecution, TraceEvent, WorkflowRun, codec, kafka, topics
from tailrace.broker import Broker
from tailrace.codec import wire
from tailrace.codec.varint import varint, zigzag
from tailrace.identity import complete
from tailrace.metrics.row_period import ROW_PERIOD_US
from tailrace.records import DedupeBucket, TraceStarts
from tailrace.settings import Settings, load

NODES = 12
EVENTS = NODES + 1
NOW = 1_763_700_000_000_000
"""Microseconds UTC of the first event."""
LIMITS = StateLimits(
    idle_ms=900_000,
    max_traces=200_000,
    dedupe_ms=3_600_000,
    metrics=MetricLimits(horizon_ms=192 * 3_600_000, max_groups=10_000, max_rows=500_000),
)
LONG_NODES = 60
"""Nodes of every twentieth trace in the state that is taken over, so that some have full chunks."""
TRACED = 500
"""Traces applied under tracemalloc, which takes milliseconds per event."""
TEMPLATES = 2000
"""Traces that are really applied for it."""

Pair = tuple[bytes, bytes | None]


class Record(msgspec.Struct):
    """A record as the consumer passes it on."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def run(random: Random, number: int, nodes: int, at: int) -> Iterator[TraceEvent]:
    """The events of one run: its nodes, then the run. `at`: its start, microseconds UTC."""
    run_id = uuid(random)
    about: dict[str, Any] = {
        "workflow_run_id": run_id,
        "root_run_id": run_id,
        "root_trace_id": run_id,
        "root_started_at": at,
        "tenant_id": f"tenant-{number % 20}",
        "app_id": f"app-{number % 50}",
        "app_name": f"App {number % 50}",
        "user_id": f"user-{number % 1000}",
        "status": "succeeded",
    }
    for node in range(nodes):
        start = at + node * 100_000
        yield TraceEvent(
            kind=Kind.NODE_EXECUTION,
            source_id=uuid(random),
            name=f"Node {node}",
            node_type="llm",
            model_provider="openai",
            model_name="gpt-4o",
            input_tokens=100 + node,
            output_tokens=20 + node,
            total_tokens=120 + 2 * node,
            total_price="0.00123",
            currency="USD",
            started_at=start,
            ended_at=start + random.randrange(90_000),
            node_execution=NodeExecution(node_id=f"n{node}", index=node + 1),
            inputs={"query": text(number, 8)},
            **about,
        )
    yield msgspec.convert(
        {
            "kind": "workflow_run",
            "started_at": at,
            "ended_at": at + nodes * 100_000,
            "workflow_run": WorkflowRun(workflow_id=f"w-{number % 50}", steps=nodes),
            **about,
        },
        TraceEvent,
    )


def units(traces: int, nodes: Callable[[int], int]) -> Iterator[list[Record]]:
    """Whole traces, a hundred per unit, ten milliseconds per trace."""
    random = Random(1)
    offset = 0
    for first in range(0, traces, 100):
        records = []
        for number in range(first, min(first + 100, traces)):
            at = NOW + number * 10_000
            for event in run(random, number, nodes(number), at):
                done = complete(event, at)
                records.append(Record(offset, at // 1000, (done.trace_id or "").encode(), codec.encode(done)))
                offset += 1
        yield records


def apply(
    state: State,
    processor: EventProcessor,
    source: Iterable[list[Record]],
    each: Callable[[list[Pair]], None] = lambda _: None,
) -> None:
    """Applies units; every fifth, and the last, with everything that is due.

    Args:
        each: gets the state records of each unit.
    """
    state.next_offset = 0
    for number, records in enumerate(source, 1):
        unit = TransactionBatch()
        processor.apply(state, records, unit)
        assert not unit.dead_letters
        each(state.close(flush=number % 5 == 0).state)
    each(state.close(flush=True).state)


def fresh() -> tuple[State, EventProcessor]:
    return State(LIMITS), EventProcessor("trace.events", 0, 2_000_000, 1_000_000)


def resident() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- memory, each in its own process
def warm() -> None:
    """Compiles and imports what is compiled and imported once."""
    state, processor = fresh()
    apply(state, processor, units(10, lambda _: NODES))


def traced(traces: int) -> dict[str, float]:
    """Bytes by tracemalloc: of each part of the applied state, and of restored traces."""
    warm()
    log: dict[bytes, bytes] = {}
    sizes: dict[str, int] = {}
    source = list(units(traces, lambda _: NODES))
    tracemalloc.start()
    state, processor = fresh()
    apply(state, processor, source)
    groups, rows = state.aggregator.groups, state.aggregator.rows
    assert len(state.traces) == traces

    def let_go(name: str, release: Callable[[], object]) -> None:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        release()
        gc.collect()
        sizes[name] = before - tracemalloc.get_traced_memory()[0]

    let_go("traces", state.traces.clear)
    del processor
    let_go("memo", state.aggregator._memo.clear)
    let_go("aggregator", lambda: setattr(state, "measures", MetricAggregator(0, LIMITS.metrics)))
    found = {
        "trace": sizes["traces"] / traces,
        "groups_and_rows": float(sizes["aggregator"]),
        "groups": float(groups),
        "rows": float(rows),
    }
    random, ids = Random(2), 500_000
    before = tracemalloc.get_traced_memory()[0]
    dedupe = Dedupe(LIMITS.dedupe_ms)
    for n in range(ids):
        dedupe.add(random.getrandbits(64), NOW // 1000 + n * 7)
    found["dedupe"] = (tracemalloc.get_traced_memory()[0] - before) / ids
    links = Links(LIMITS.idle_ms, LIMITS.link_bytes)
    before = tracemalloc.get_traced_memory()[0]
    for n in range(20_000):
        root = uuid(random).encode()
        links.add(
            uuid(random).encode(),
            Link(root, bytes(bytearray(root)), NOW + n, b"app-%d" % n),
            NOW // 1000 + n,
            n,
        )
    list(links.changes())
    found["link"] = (tracemalloc.get_traced_memory()[0] - before) / 20_000
    links.advance(NOW)
    found["old_link"] = (tracemalloc.get_traced_memory()[0] - before) / 20_000
    before = tracemalloc.get_traced_memory()[0]
    starts = Starts(LIMITS.start_bytes)
    for n in range(LIMITS.start_bytes // START):
        starts.add(b"%d" % n, NOW + n, b"tenant-%d" % (n % 20), True, False, NOW // 1000 + n)
        if n % 100 == 0:
            list(starts.changes())
    list(starts.changes())
    found["start"] = (tracemalloc.get_traced_memory()[0] - before) / len(starts)
    tracemalloc.stop()

    state, processor = fresh()
    apply(state, processor, source, lambda records: keep(log, records))
    kept = {k: v for k, v in log.items() if k.startswith((b"t/", b"o/", POSITION))}
    del state, processor
    tracemalloc.start()
    state = State(LIMITS)
    state.restore((bytes(bytearray(k)), bytes(bytearray(v))) for k, v in kept.items())
    gc.collect()
    found["restored_trace"] = tracemalloc.get_traced_memory()[0] / traces
    for key in list(state.traces):
        state.trace(key)
    gc.collect()
    found["opened_trace"] = tracemalloc.get_traced_memory()[0] / traces
    tracemalloc.stop()
    return found | record_sizes(log)


def keep(log: dict[bytes, bytes], records: list[Pair]) -> None:
    """What compaction leaves."""
    for key, value in records:
        if value is None:
            log.pop(key, None)
        else:
            log[key] = value


def record_sizes(log: dict[bytes, bytes]) -> dict[str, float]:
    """Mean bytes of key and value, by kind of record; for dedupe pieces, per id."""
    found: dict[str, float] = {}
    for start in (b"t/", GROUP, MINUTES, b"d/", POSITION):
        sizes = [len(k) + len(v) for k, v in log.items() if k.startswith(start)]
        if start == b"d/":
            ids = sum(
                len(wire.decode_versioned(v, DedupeBucket).hashes) // 8
                for k, v in log.items()
                if k.startswith(start)
            )
            found["record d/, an id"] = sum(sizes) / ids
        else:
            found[f"record {start.decode()}"] = sum(sizes) / len(sizes)
    return found


def resident_of(traces: int, only: bool) -> dict[str, float]:
    """Resident bytes per open trace. `only`: without the ids of its events."""
    warm()
    state, processor = fresh()
    gc.collect()
    before = resident()

    def forget(_: list[Pair]) -> None:
        if only:
            state.dedupe = Dedupe(LIMITS.dedupe_ms)

    apply(state, processor, units(traces, lambda _: NODES), forget)
    gc.collect()
    return {"trace" if only else "trace_and_dedupe": (resident() - before) / traces}


# -- taking over
def templates() -> tuple[list[tuple[bytes, list[Pair]]], dict[bytes, bytes]]:
    """Traces as they are in trace.state, each with its chunks, and all records of their partition."""
    log: dict[bytes, bytes] = {}
    state, processor = fresh()
    state.topic_id, state.partitions = "benchmark", 4
    apply(
        state,
        processor,
        units(TEMPLATES, lambda n: NODES if n % 20 else LONG_NODES),
        lambda records: keep(log, records),
    )
    found: dict[bytes, list[Pair]] = {}
    for key, value in log.items():
        if key.startswith((b"t/", b"o/")):
            found.setdefault(key.split(b"/")[1], []).append((key, value))
    return list(found.items()), log


def moved(value: bytes, touched: int) -> bytes:
    """A trace's record with another source offset."""
    _, p = varint(value, 1)
    _, q = varint(value, p)
    return value[:p] + zigzag(touched) + value[q:]


def a_partition(
    random: Random, count: int, made: list[tuple[bytes, list[Pair]]], log: dict[bytes, bytes], minutes: int
) -> Iterator[Pair]:
    """About `count` records of one partition, with the position last.

    For an hour of traffic: what is open after 15 minutes of it (45% of the records are traces), the
    event ids of `minutes`, links of a twentieth of its traces, and the starts of as many traces as are
    remembered by default; the rest are minutes of its metric groups.
    """
    traces = count * 45 // 100
    out: list[Pair] = []
    for n in range(traces):
        run_id, records = made[n % len(made)]
        new = uuid(random).encode()
        for key, value in records:
            assert value is not None
            changed = value.replace(run_id, new)
            out.append(
                (key.replace(run_id, new), moved(changed, n * EVENTS) if key.startswith(b"t/") else changed)
            )
    bucket = NOW // 1000 // 300_000
    pieces = traces * minutes * EVENTS // 15 // PIECE
    out += [
        (
            piece_key(bucket - n % 12, n // 12),
            wire.encode_versioned(DedupeBucket(hashes=random.randbytes(8 * PIECE))),
        )
        for n in range(pieces)
    ]
    links = traces * 4 // 20
    for n in range(links):
        root, at = uuid(random).encode(), NOW // 1000 - (links - n) * 3_600_000 // links
        link = Link(root, root, NOW, b"app-%d" % (n % 50), b"tenant-%d" % (n % 20))
        out.append((LINK + uuid(random).encode(), pack(link, at, n)))
    out += [
        (
            starts_key(n),
            wire.encode_versioned(
                TraceStarts(left_at=NOW // 1000 - 3_600_000 + n, entries=random.randbytes(ENTRY * STARTS))
            ),
        )
        for n in range(LIMITS.start_bytes // START // STARTS)
    ]
    out += [(k, v) for k, v in log.items() if k.startswith(GROUP)]
    rows = [(k.split(b"/")[1], v) for k, v in log.items() if k.startswith(MINUTES)]
    newest = NOW // ROW_PERIOD_US
    for n in range(max(0, count - len(out) - 1)):
        group, value = rows[n % len(rows)]
        out.append((b"%b%b/%d" % (MINUTES, group, newest - n // len(rows)), value))
    random.shuffle(out)
    yield from out
    yield POSITION, log[POSITION]


def fill(settings: Settings, topic: str, records: int, minutes: int) -> dict[str, int]:
    """Writes the state of all partitions; returns how many records of each kind."""
    producer = Producer(
        kafka.client(
            settings.kafka,
            linger_ms=20,
            compression_type="lz4",
            batch_size=1 << 20,
            delivery_report_only_error=True,
        )
    )
    made, log = templates()
    counts: dict[str, int] = {}
    for partition in range(settings.topics.partitions):
        for key, value in a_partition(
            Random(partition), records // settings.topics.partitions, made, log, minutes
        ):
            counts[key[:2].decode()] = counts.get(key[:2].decode(), 0) + 1
            while True:
                try:
                    producer.produce(topic, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.05)
    producer.flush()
    return counts


def taking_over(bootstrap: str, prefix: str) -> dict[str, float]:
    """Reads and restores all partitions, as a worker does that owns them all."""
    settings = load({"kafka": {"bootstrap_servers": bootstrap}, "topics": {"prefix": prefix}}, env={})
    before, began, cpu = resident(), time.perf_counter(), time.process_time()
    with uncollected():
        found = read_state(
            settings.kafka,
            topics.TopicNames.of(settings.topics).state,
            list(range(settings.topics.partitions)),
        )
        read, read_cpu = time.perf_counter(), time.process_time() - cpu
        states = []
        for n in sorted(found):
            state = State(LIMITS, n)
            state.restore(found.pop(n))
            states.append(state)
    ended = time.perf_counter()
    used = time.process_time() - cpu
    with open("/proc/self/status") as f:
        peak = int(next(line for line in f if line.startswith("VmHWM")).split()[1]) * 1024
    return {
        "seconds": ended - began,
        "read_seconds": read - began,
        "cpu_seconds": used,
        "read_cpu_seconds": read_cpu,
        "peak_bytes": peak,
        "kept_bytes": resident() - before,
        "traces": sum(len(s.traces) for s in states),
        "ids": sum(len(s.dedupe) for s in states),
        "links": sum(len(s.known_links) for s in states),
        "starts": sum(len(s.starts) for s in states),
        "rows": sum(s.aggregator.rows for s in states),
    }


# -- the command
def part(name: str, *arguments: object) -> dict[str, float]:
    """The result of a part of this benchmark, run in its own process."""
    run = [sys.executable, __file__, "--part", name, *map(str, arguments)]
    done = subprocess.run(run, check=True, stdout=subprocess.PIPE)
    return msgspec.json.decode(done.stdout, type=dict[str, float])


def run_part(name: str, arguments: list[str]) -> dict[str, float]:
    if name == "traced":
        return traced(int(arguments[0]))
    if name == "resident":
        return resident_of(int(arguments[0]), arguments[1] == "only")
    return taking_over(*arguments)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Memory of the processor's state, and the time to take it over."
    )
    parser.add_argument("--traces", type=int, default=10_000, help="open traces that memory is measured with")
    parser.add_argument(
        "--records", type=int, default=1_000_000, help="state records that are taken over; 0: none"
    )
    parser.add_argument(
        "--dedupe-minutes", type=int, default=60, help="minutes of event ids that are taken over"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of taking over; the median counts")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(run_part(args.part[0], args.part[1:])))
        return
    out: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
    }
    if args.traces:
        out["bytes"] = part("traced", min(args.traces, TRACED))
        out["resident"] = part("resident", args.traces, "only") | part("resident", args.traces, "all")
    if args.records:
        with Broker() as broker:
            settings = load({"kafka": {"bootstrap_servers": broker.bootstrap_servers}}, env={})
            admin, _ = kafka.wait_for_broker(settings.kafka, 30)
            topics.create(admin, settings.topics)
            out["records"] = fill(
                settings, topics.TopicNames.of(settings.topics).state, args.records, args.dedupe_minutes
            )
            total = sum(out["records"].values())
            rounds = [
                part("restore", broker.bootstrap_servers, settings.topics.prefix) for _ in range(args.rounds)
            ]
            out["rounds"] = rounds
            out["median"] = sorted(rounds, key=lambda r: r["seconds"])[(args.rounds - 1) // 2]
            out["per_second"] = total / out["median"]["seconds"]
    if args.json:
        print(json.dumps(out))
    else:
        say(out)


def say(out: dict[str, Any]) -> None:
    print(out["machine"])
    if "bytes" in out:
        b, r = out["bytes"], out["resident"]
        print(
            f"a trace of {NODES} nodes and the run, bytes: {b['trace']:.0f} applied, "
            f"{b['restored_trace']:.0f} taken over, "
            f"{b['opened_trace']:.0f} taken over and opened; resident {r['trace']:.0f}, with its event ids "
            f"{r['trace_and_dedupe']:.0f}"
        )
        print(
            f"an event id {b['dedupe']:.0f}, a link {b['link']:.0f}, {b['old_link']:.0f} when it is old, "
            f"the start of a trace that left {b['start']:.1f}, {b['groups']:.0f} metric groups with "
            f"{b['rows']:.0f} rows "
            f"{b['groups_and_rows']:.0f}"
        )
        print(
            "in trace.state, mean bytes: "
            + ", ".join(f"{k[7:]} {v:.0f}" for k, v in b.items() if k.startswith("record"))
        )
    if "median" in out:
        m, counts = out["median"], out["records"]
        print(", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
        for row in out["rounds"]:
            print(
                f"taken over in {row['seconds']:.1f} s, {row['read_seconds']:.1f} of them reading; CPU "
                f"{row['cpu_seconds']:.1f} s, "
                f"peak {row['peak_bytes'] / 2**20:.0f} MiB, kept {row['kept_bytes'] / 2**20:.0f} MiB"
            )
        print(
            f"median {m['seconds']:.1f} s, {out['per_second']:.0f} records/s; {m['traces']:.0f} traces, "
            f"{m['ids']:.0f} event ids, "
            f"{m['links']:.0f} links, {m['starts']:.0f} starts, {m['rows']:.0f} rows"
        )


if __name__ == "__main__":
    main()
