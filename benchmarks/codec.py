"""Encoder and decoder compared with fastavro, on the events of the recorded runs: µs of CPU per event.

    python benchmarks/codec.py [--rounds 5] [--json]

Three jobs of the pipeline: the publisher's (a record to bytes), the processor's (the header's fields
from the bytes, the rest is skipped) and a sink's (the whole record). fastavro, compiled C, does the
same from and to dicts; for the header it gets a reader schema with only those fields. The quickest of
several rounds counts. Both results are compared first.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import fastavro
import msgspec

from examples.recorded_runs.publish_runs import events
from streams.processing.header import NAMES, read
from tailrace import TraceEvent, codec
from tailrace.codec import schemas, table_decoder, wire
from tailrace.identity import complete

NOW = 1_763_700_000_000_000


def plain(value: Any) -> Any:
    """A record as the dict that fastavro writes."""
    if isinstance(value, msgspec.Struct):
        return {f: plain(getattr(value, f)) for f in value.__struct_fields__}
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, str) else value


def text(name: str, value: Any) -> Any:
    """A value of `Header` as fastavro reads it: texts decoded."""
    if isinstance(value, list):
        return [text(name, v) for v in value]
    return value.decode() if isinstance(value, bytes) and not name.startswith("otel_") else value


def header_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with only the fields that the processor reads.

    The remaining fields do not refer to types of removed fields.
    """
    return {**schema, "fields": [f for f in schema["fields"] if f["name"] in NAMES]}


def best(rounds: int, count: int, work: Callable[[], object]) -> float:
    """µs of CPU per event in the quickest round."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) / count * 1e6)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="µs of CPU per event: the codec compared with fastavro.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    records = [complete(e, NOW) for e in events(now=NOW, salt="benchmark")]
    values = [codec.encode(r) for r in records]
    bodies = [v[wire.BODY :] for v in values]
    dicts = [plain(r) for r in records]
    full: Any = fastavro.parse_schema(schemas.current("TraceEvent"))
    part: Any = fastavro.parse_schema(header_schema(schemas.current("TraceEvent")))

    def write(d: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, full, d)
        return out.getvalue()

    def whole(b: bytes) -> Any:
        return fastavro.schemaless_reader(io.BytesIO(b), full)

    def some(b: bytes) -> Any:
        return fastavro.schemaless_reader(io.BytesIO(b), full, part)

    assert [write(d) for d in dicts] == bodies
    assert [plain(codec.decode(v, TraceEvent)) for v in values] == [whole(b) for b in bodies]
    for value, body in zip(values, bodies, strict=True):
        header, theirs = read(value), some(body)
        assert {name: text(name, getattr(header, name)) for name in theirs} == theirs

    n = len(records)
    rows = {
        "encode, publisher": (
            best(args.rounds, n, lambda: [codec.encode(r) for r in records]),
            best(args.rounds, n, lambda: [write(d) for d in dicts]),
        ),
        f"header, processor ({len(NAMES)} fields)": (
            best(args.rounds, n, lambda: [read(v) for v in values]),
            best(args.rounds, n, lambda: [some(b) for b in bodies]),
        ),
        "whole record, sink": (
            best(args.rounds, n, lambda: [codec.decode(v, TraceEvent) for v in values]),
            best(args.rounds, n, lambda: [whole(b) for b in bodies]),
        ),
    }
    form = "plain Python" if table_decoder.__file__.endswith(".py") else "compiled"
    machine = (
        f"{form}, {os.cpu_count()} cores, Python {sys.version.split()[0]}, "
        f"fastavro {fastavro.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    size = sum(map(len, values)) // n
    if args.json:
        print(json.dumps({"machine": machine, "events": n, "mean_bytes": size, "us": rows}))
        return
    print(f"{machine}; {n} events of {size} B on average")
    print(f"{'µs CPU an event':<42}{'tailrace':>12}{'fastavro':>12}")
    for name, (ours, peer) in rows.items():
        print(f"{name:<42}{ours:>12.1f}{peer:>12.1f}")


if __name__ == "__main__":
    main()
