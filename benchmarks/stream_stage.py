"""The stream stage: tailrace's worker compared with stream processors that only forward.

    python benchmarks/stream_stage.py [--events 200000] [--peers faust,quix,bytewax] [--peer-events
    40000] [--json]

All run on one real broker and read the same load from 4 partitions: about 1 KB events. tailrace
correlates, enriches, keeps state and commits transactions. Each peer only forwards the bytes, in one
process, as its own guide writes it (benchmarks/peers.py). CPU is that of the worker process, all
threads, between the first and the last output seen; loads are in the topic before a worker starts, so
neither the loader nor the start counts. Rounds alternate, and the median of each counts. Compare only
within a run: other load on the machine affects all results. A peer that cannot be installed or started
is reported and left out.
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
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from benchmarks.peers import PEERS, NotRun, last_line, python_of, started
from benchmarks.stream_load import fill
from tailrace import kafka, topics
from tailrace.broker import Broker
from tailrace.settings import Settings, load

MOST_SECONDS: Final = 600
Row = dict[str, float | str]


def committed(settings: Settings, topic: str, partitions: int) -> Callable[[], int]:
    """Counts the records of a topic by its end offsets; control records of transactions count too."""
    properties = kafka.client(settings.kafka, group_id="benchmark", enable_auto_commit=False)
    consumer = Consumer({**properties, "log_level": 0})

    def ends() -> int:
        try:
            return sum(
                consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1]
                for n in range(partitions)
            )
        except KafkaException as e:
            if e.args[0].code() in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART):
                return 0  # the topic is new
            raise

    return ends


def cpu_seconds(pid: int) -> float:
    """CPU that a process has used, all threads. On Linux this reads the clock of another process."""
    return time.clock_gettime((~pid << 3) | 2)


def measure(name: str, pid: Callable[[], int | None], count: Callable[[], int], total: int) -> Row:
    """CPU and rate between the first and (nearly) the last of `total` output records. Raises `NotRun`."""
    pause, began = threading.Event(), time.monotonic()
    first: tuple[float, float, int] | None = None
    while time.monotonic() - began < MOST_SECONDS:
        seen, process = count(), pid()
        if process and seen:
            now = (time.perf_counter(), cpu_seconds(process), min(seen, total))
            first = first or now
            if seen >= total:
                n = now[2] - first[2]
                if n < total // 2:
                    raise NotRun(
                        f"the first output seen was {first[2]} of {total} records: too few events to measure"
                    )
                return {
                    "stage": name,
                    "events": n,
                    "us_cpu": (now[1] - first[1]) / n * 1e6,
                    "per_second": n / (now[0] - first[0]),
                }
        pause.wait(0.02)
    raise NotRun(f"{count()} of {total} records after {MOST_SECONDS} s")


@contextlib.contextmanager
def tailrace_worker(bootstrap: str, log: Path) -> Iterator[Callable[[], int | None]]:
    """Runs `tailrace process`; gives the worker's pid (the supervisor's child)."""
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


def filled(broker: Broker, prefix: str, count: int) -> tuple[Settings, int]:
    """Creates topics with `count` events; returns them and the events' mean size."""
    settings = load(
        {"kafka": {"bootstrap_servers": broker.bootstrap_servers}, "topics": {"prefix": prefix}}, env={}
    )
    admin, _ = kafka.wait_for_broker(settings.kafka, 30)
    topics.create(admin, settings.topics)
    return settings, fill(settings, topics.TopicNames.of(settings.topics).events, count)


def tailrace_round(broker: Broker, n: int, count: int, folder: Path) -> tuple[Row, int]:
    settings, size = filled(broker, f"round{n}.", count)
    enriched = committed(settings, topics.TopicNames.of(settings.topics).enriched, settings.topics.partitions)
    os.environ["TAILRACE_TOPICS_PREFIX"] = settings.topics.prefix
    os.environ["TAILRACE_STREAMS_APP_ID"] = f"benchmark-{n}"
    with tailrace_worker(broker.bootstrap_servers, folder / "worker.log") as pid:
        try:
            return measure("tailrace", pid, enriched, count), size
        except NotRun as e:
            raise SystemExit(f"tailrace: {e}") from None


def peer_round(broker: Broker, name: str, n: int, count: int, python: str, folder: Path) -> Row:
    """Raises `NotRun`."""
    peer, group = PEERS[name], f"{name}-{n}"
    settings, _ = filled(broker, f"{group}.", count)
    names = topics.TopicNames.of(settings.topics)
    seen = committed(settings, names.enriched, settings.topics.partitions)
    with started(
        peer, python, group, broker.bootstrap_servers, names.events, names.enriched, folder
    ) as process:

        def pid() -> int:
            if process.poll() is not None:
                log = (folder / f"{group}.log").read_text(errors="replace")
                raise NotRun(f"it ended with {process.returncode}: {last_line(log)}")
            return process.pid

        return measure(f"{peer.title}, bare forward", pid, seen, count)


def median(rows: list[Row]) -> Row:
    return sorted(rows, key=lambda r: float(r["us_cpu"]))[(len(rows) - 1) // 2]


def peers_asked(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(PEERS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description="µs of CPU per event, tailrace's stream stage compared with its peers."
    )
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument(
        "--peer-events",
        type=int,
        default=40_000,
        help="events for the peers, a smaller part of the same load: peers are slower",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each; the median counts")
    parser.add_argument("--peers", type=peers_asked, default=list(PEERS), help=f"default: {','.join(PEERS)}")
    parser.add_argument("--no-peers", action="store_const", const=[], dest="peers")
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        help="interpreter that creates the peers' environments (default: this one)",
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    pythons: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in args.peers:
        try:
            pythons[name] = python_of(name, PEERS[name], args.peer_python)
        except NotRun as e:
            missing[name] = str(e)
    rows: list[Row] = []
    found: dict[str, list[Row]] = {name: [] for name in pythons}
    with tempfile.TemporaryDirectory() as temporary, Broker() as broker:
        folder = Path(temporary)
        for n in range(args.rounds):
            row, size = tailrace_round(broker, n, args.events, folder)
            rows.append(row)
            for name, python in pythons.items():
                if name in missing:
                    continue
                try:
                    found[name].append(peer_round(broker, name, n, args.peer_events, python, folder))
                except NotRun as e:
                    missing[name] = str(e)
    ours = median(rows)
    peers = {name: median(of) for name, of in found.items() if of}
    ratios = {name: float(row["us_cpu"]) / float(ours["us_cpu"]) for name, row in peers.items()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    rows += [row for of in found.values() for row in of]
    if args.json:
        print(
            json.dumps(
                {
                    "machine": machine,
                    "event_bytes": size,
                    "rows": rows,
                    "median": ours,
                    "peers_over_tailrace": ratios,
                    "not_run": missing,
                }
            )
        )
        return
    print(f"{machine}; events of {size} B, 4 partitions, Apache Kafka 4.1 on the same machine")
    print(f"{'':<28}{'events':>10}{'µs CPU an event':>18}{'events/s':>12}")
    for row in rows:
        print(f"{row['stage']:<28}{row['events']:>10}{row['us_cpu']:>18.1f}{row['per_second']:>12.0f}")
    print(f"median of tailrace: {ours['us_cpu']:.1f} µs")
    for name, ratio in ratios.items():
        print(f"median of {PEERS[name].title}: {peers[name]['us_cpu']:.1f} µs, {ratio:.1f} times tailrace's")
    for name, reason in missing.items():
        print(f"{PEERS[name].title}: not run: {reason}")


if __name__ == "__main__":
    main()
