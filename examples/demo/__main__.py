"""Runs the demo: `python -m examples.demo [--keep] [--folder DIR]`.

Exit code 0 only if all counts balance, every trace tree is right, and all backends have the same.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from connectors.testing.doubles.received import ReceivedSpan, read_spans
from examples.demo import counted
from examples.demo.backends import BACKENDS, read
from examples.demo.checks import BALANCED, arrived, passed, problems, summary
from examples.demo.held import Traces, rows
from examples.demo.stack import Stack
from examples.demo.trees import compare, draw, most_telling
from examples.recorded_runs.publish_runs import events
from examples.recorded_runs.recording import RECORDING
from examples.recorded_runs.salted import renaming
from examples.recorded_runs.tree import expected
from tailrace import Counts, Publisher
from tailrace.commands.ledger import lines, total
from tailrace.errors import TailraceError
from tailrace.ledger.report import LedgerReport, read_report

PATIENCE = 120.0
"""Seconds without progress after which the demo fails."""


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


def publish(stack: Stack) -> Counts:
    with Publisher(settings=stack.settings) as publisher:
        for event in events(now=time.time_ns() // 1000, salt=SALT):
            publisher.publish(event)
        left = publisher.flush(60)
    if not left:
        raise RuntimeError(f"{len(left.undelivered)} events were not delivered to Kafka")
    return publisher.counts


def wait_until_delivered(stack: Stack, published: int, progress: Callable[[int, int], None]) -> LedgerReport:
    """Waits until every sink has passed every event. Raises RuntimeError if there is no progress."""
    pause, moved, last = threading.Event(), time.monotonic(), -1
    while True:
        stack.check()
        report = read_report(stack.admin, stack.settings)
        progress(total(report.streams, "events_in"), min(passed(report, name) for name in BACKENDS))
        if arrived(report, published, BACKENDS):
            return report
        done = total(report.sinks, "passed")
        if done != last:
            last, moved = done, time.monotonic()
        elif time.monotonic() - moved > PATIENCE:
            raise RuntimeError(f"no progress, see {stack.folder}/logs:\n" + "\n".join(lines(report, True)))
        pause.wait(0.2)


SALT = "demo"


def show(console: Console, spans: list[ReceivedSpan], has: Mapping[str, Traces]) -> None:
    """Prints the most telling trace: as a tree, and what each backend has of it."""
    best = most_telling(spans)
    trace_id = best[0].trace_id
    count = len({span.trace_id for span in spans})
    heading = f"One of {count} traces, as the OTLP receiver got it (trace id {trace_id}):"
    console.print(f"\n{heading}\n", soft_wrap=True)
    for line in draw(best):
        console.print("  " + line, markup=False, soft_wrap=True)
    console.print("\nWhat each backend has of it:\n")
    for line in rows(trace_id, has, {name: (b.title, b.unit) for name, b in BACKENDS.items()}):
        console.print("  " + line, markup=False, highlight=False, soft_wrap=True)


def run(stack: Stack, console: Console) -> int:
    console.print(f"publishing 445 recorded workflow runs, for {len(BACKENDS)} backends")
    began = time.monotonic()
    counts = publish(stack)
    with console.status("") as status:

        def progress(processed: int, passed_by_all: int) -> None:
            status.update(f"{processed} of {counts.delivered} processed, {passed_by_all} passed by all sinks")

        report = wait_until_delivered(stack, counts.delivered, progress)
    seconds = time.monotonic() - began
    spans = read_spans(stack.spans)
    has = {name: read(name, stack.ready[name]) for name in BACKENDS}
    comparison = compare(expected(RECORDING, renaming(SALT)), spans)
    show(console, spans, has)
    counted_rows = counted.wait_for(stack.settings, counts.delivered)
    operations, workflow_tokens = counted.requests(counted_rows), counted.tokens(counted_rows)
    wrong = [*problems(counts.delivered, report, has), *comparison.different]
    if operations != counts.delivered:
        wrong.append(f"trace.metrics counts {operations} operations, of {counts.delivered}")
    if workflow_tokens != comparison.tokens:
        wrong.append(
            f"trace.metrics counts {workflow_tokens} tokens of runs, of {comparison.tokens} recorded"
        )
    console.print()
    for line in summary(counts.delivered, report, has, comparison):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"counted {operations} operations and {workflow_tokens} tokens of workflow runs:")
    for line in counted.lines(counted_rows):
        console.print("  " + line, markup=False, highlight=False, soft_wrap=True)
    for text in wrong[:10]:
        console.print(f"  wrong: {text}", markup=False, style="red", soft_wrap=True)
    console.print("[red]the counts do not balance" if wrong else BALANCED)
    console.print(
        f"{counts.delivered} events end to end in {seconds:.1f} s "
        f"({counts.delivered / seconds:.0f}/s, mostly waiting for the last batch)"
    )
    console.print(f"\nKafka      {stack.bootstrap_servers}")
    for name, backend in BACKENDS.items():
        console.print(f"{name:<10} {backend.state(stack.ready[name])}", soft_wrap=True)
    console.print(
        f"logs       {stack.folder / 'logs'}, Kafka's data: {stack.folder / 'kafka'}", soft_wrap=True
    )
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run the whole pipeline on this machine, with recorded workflow runs."
    )
    parser.add_argument("--keep", action="store_true", help="keep everything running until Ctrl-C")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(".demo"),
        help="folder for data and logs; emptied first (default: %(default)s)",
    )
    args = parser.parse_args()
    console = Console(highlight=False)

    def stop(number: int, frame: object) -> None:
        raise Stopped

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    code = 130
    try:
        with Stack(args.folder, console.print) as stack:
            try:
                code = run(stack, console)
                if args.keep:
                    console.print(
                        f"\nstill running; try `.venv/bin/tailrace ledger -b {stack.bootstrap_servers}` "
                        "(or `metrics`). Ctrl-C stops everything"
                    )
                    while True:
                        stack.check()
                        signal.sigtimedwait([], 1)
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                console.print("stopping")
    except Stopped:
        pass
    except (RuntimeError, OSError, TailraceError) as e:
        console.print(str(e), style="red", markup=False)
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
