"""The sink stage: each built-in sink compared with the same work written in the obvious way.

    python benchmarks/sink_stage.py [--events 100000] [--rounds 3] [--sinks otlp,opik] [--json]

All run on one real broker. Every run reads the same enriched records (about 1.2 KB) from 4 partitions
in its own consumer group, decodes, maps, compresses, posts 500 per request to an HTTP server in another
process that discards them, and commits. `tailrace connect` is measured as users start it. CPU is that
of the sink process, all threads, between the first and the last commit seen, so neither the start nor
the load counts. Rounds alternate, and the median of each counts. Compare only within a run: other load
on the machine affects all results.
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from benchmarks import sink_load
from benchmarks.peers import NotRun, last_line
from benchmarks.stream_stage import Row, measure, median
from connectors.config.instances import installed
from tailrace import kafka, topics
from tailrace.broker import Broker
from tailrace.settings import Settings, load


class Candidate(NamedTuple):
    """One sink to measure."""

    type: str
    settings: dict[str, str]
    """The URL in braces is that of the discarding server."""
    naive: str
    """The same work in `benchmarks.naive_sink`."""


CANDIDATES: Final = {
    "otlp": Candidate("otlp", {"endpoint": "{url}", "content_on_spans": "true"}, "otlp"),
    "otlp-json": Candidate(
        "otlp", {"endpoint": "{url}", "content_on_spans": "true", "protocol": "http/json"}, "otlp"
    ),
    "langfuse": Candidate(
        "langfuse", {"host": "{url}", "public_key": "pk-lf-1", "secret_key": "sk-lf-1"}, "otlp"
    ),
    "opik": Candidate("opik", {"url": "{url}"}, "opik"),
    "weave": Candidate(
        "weave", {"host": "{url}", "api_key": "key", "entity": "acme", "project": "bench"}, "weave"
    ),
    "alibaba": Candidate("alibaba", {"endpoint": "{url}", "license_key": "key-1"}, "otlp"),
}


@contextlib.contextmanager
def discarding() -> Iterator[str]:
    """The URL of a server that discards requests."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.discard"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[Callable[[], int]]:
    """Starts a sink's process; gives its pid, or raises `NotRun` with its last output."""
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=out, stderr=out)

    def pid() -> int:
        if process.poll() is not None:
            raise NotRun(f"it ended with {process.returncode}: {last_line(log.read_text(errors='replace'))}")
        return process.pid

    try:
        yield pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def committed(settings: Settings, topic: str, group: str) -> Callable[[], int]:
    """Counts what a group has committed; the topic has no gaps."""
    consumer = Consumer({**kafka.client(settings.kafka, group_id=group), "log_level": 0})
    partitions = [TopicPartition(topic, n) for n in range(settings.topics.partitions)]

    def count() -> int:
        return sum(max(0, p.offset) for p in consumer.committed(partitions, timeout=10))

    return count


class Bench:
    """One broker with the load, and the discarding server."""

    def __init__(self, broker: Broker, url: str, events: int, folder: Path) -> None:
        self._url, self._folder, self._events = url, folder, events
        self._bootstrap = broker.bootstrap_servers
        self.settings = load({"kafka": {"bootstrap_servers": self._bootstrap}}, env={})
        admin, _ = kafka.wait_for_broker(self.settings.kafka, 30)
        topics.create(admin, self.settings.topics)
        self.size = sink_load.fill(self.settings, events)
        self._topic = topics.TopicNames.of(self.settings.topics).enriched

    def tailrace(self, name: str, n: int) -> Row:
        """Raises `NotRun`."""
        candidate, instance = CANDIDATES[name], f"{name}-{n}"
        given = {
            "type": candidate.type,
            **{k: v.replace("{url}", self._url) for k, v in candidate.settings.items()},
        }
        pairs = [part for k, v in given.items() for part in ("--set", f"sinks.{instance}.{k}={v}")]
        return self._measure(
            f"{name}, tailrace",
            ["tailrace", "connect", instance, "-b", self._bootstrap, *pairs],
            self.settings.connect.group_prefix + instance,
        )

    def naive(self, form: str, n: int) -> Row:
        """Raises `NotRun`."""
        group = f"naive-{form}-{n}"
        command = ["benchmarks.naive_sink", form, self._bootstrap, self._topic, group, self._url]
        return self._measure(f"{form}, naive", command, group)

    def _measure(self, name: str, command: list[str], group: str) -> Row:
        count = committed(self.settings, self._topic, group)
        with started(command, self._folder / f"{group}.log") as pid:
            return measure(name, pid, count, self._events)


def beside_otlp(medians: Mapping[str, Row]) -> dict[str, float]:
    """Sink -> its CPU an event over that of the OTLP sink; empty if that one was not measured."""
    otlp = medians.get("otlp")
    if otlp is None:
        return {}
    return {
        name: float(row["us_cpu"]) / float(otlp["us_cpu"])
        for name, row in medians.items()
        if name in CANDIDATES and name != "otlp"
    }


def sinks_asked(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in CANDIDATES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(CANDIDATES)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description="µs of CPU per event, each sink compared with the naive one."
    )
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each; the median counts")
    parser.add_argument(
        "--sinks", type=sinks_asked, default=list(CANDIDATES), help=f"default: {','.join(CANDIDATES)}"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    there = installed()
    names = [name for name in args.sinks if CANDIDATES[name].type in there]
    missing = {name: f"there is no sink {CANDIDATES[name].type}" for name in args.sinks if name not in names}
    forms = list(dict.fromkeys(CANDIDATES[name].naive for name in names))
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as temporary, Broker() as broker, discarding() as url:
        bench = Bench(broker, url, args.events, Path(temporary))
        for n in range(args.rounds):
            for label in (*(f"naive {form}" for form in forms), *names):
                if label in missing:
                    continue
                try:
                    row = (
                        bench.tailrace(label, n)
                        if label in names
                        else bench.naive(label.removeprefix("naive "), n)
                    )
                    found.setdefault(label, []).append(row)
                except NotRun as e:
                    missing[label] = str(e)
    medians = {label: median(rows) for label, rows in found.items()}
    ratios = {
        name: float(medians[f"naive {CANDIDATES[name].naive}"]["us_cpu"]) / float(medians[name]["us_cpu"])
        for name in names
        if name in medians and f"naive {CANDIDATES[name].naive}" in medians
    }
    over_otlp = beside_otlp(medians)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}, load "
        f"{os.getloadavg()[0]:.1f}"
    )
    rows = [row for of in found.values() for row in of]
    if args.json:
        print(
            json.dumps(
                {
                    "machine": machine,
                    "record_bytes": bench.size,
                    "rows": rows,
                    "median": medians,
                    "naive_over_tailrace": ratios,
                    "over_otlp": over_otlp,
                    "not_run": missing,
                }
            )
        )
        return
    print(f"{machine}; records of {bench.size} B, 4 partitions, Apache Kafka 4.1 on the same machine")
    print(f"{'':<28}{'events':>10}{'µs CPU an event':>18}{'events/s':>12}")
    for row in rows:
        print(f"{row['stage']:<28}{row['events']:>10}{row['us_cpu']:>18.1f}{row['per_second']:>12.0f}")
    for name, ratio in ratios.items():
        print(
            f"median of {name}: {medians[name]['us_cpu']:.1f} µs; the naive way takes {ratio:.1f} times that"
        )
    for name, ratio in over_otlp.items():
        print(f"{name} takes {ratio:.2f} times the CPU of otlp in the same run")
    for name, reason in missing.items():
        print(f"{name}: not run: {reason}")


if __name__ == "__main__":
    main()
