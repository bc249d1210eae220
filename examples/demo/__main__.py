"""Runs the demo: `python -m examples.demo [--keep] [--folder DIR]`.

Exit code 0 only if all counts balance and every trace tree is right.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from connectors.testing.doubles.received import ReceivedSpan, read_spans
from examples.demo import counted
from examples.demo.stack import Stack
from examples.demo.trees import compare, draw
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
    """Waits until the connector has passed every event. Raises RuntimeError if there is no progress."""
    pause, moved, last = threading.Event(), time.monotonic(), -1
    while True:
        stack.check()
        report = read_report(stack.admin, stack.settings)
        passed = total(report.sinks, "passed")
        progress(total(report.streams, "events_in"), passed)
        if (
            report.settled
            and total(report.streams, "events_in") == published
            and passed == total(report.streams, "enriched")
        ):
            return report
        if passed != last:
            last, moved = passed, time.monotonic()
        elif time.monotonic() - moved > PATIENCE:
            raise RuntimeError(f"no progress, see {stack.folder}/logs:\n" + "\n".join(lines(report, True)))
        pause.wait(0.2)


SALT = "demo"


def show(console: Console, spans: list[ReceivedSpan]) -> None:
    """Prints the most interesting trace.

    That is the one with the most levels, then with failures or retries, then the largest.
    """
    traces: dict[str, list[ReceivedSpan]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)

    def interest(trace: list[ReceivedSpan]) -> tuple[int, bool, int]:
        parents = {s.span_id: s.parent_span_id for s in trace}

        def depth(span_id: str | None) -> int:
            n = 0
            while span_id is not None:
                span_id, n = parents.get(span_id), n + 1
            return n

        odd = any(s.status == "error" or s.attributes.get("tailrace.node.retry_count") for s in trace)
        return (max(depth(s.span_id) for s in trace), odd, -abs(len(trace) - 18))

    best = max(traces.values(), key=interest)
    console.print(f"\nOne of {len(traces)} traces, as the receiver got it (trace id {best[0].trace_id}):\n")
    for line in draw(best):
        console.print("  " + line, markup=False, soft_wrap=True)


def run(stack: Stack, console: Console) -> int:
    console.print("publishing 445 recorded workflow runs")
    began = time.monotonic()
    counts = publish(stack)
    with console.status("") as status:

        def progress(processed: int, passed: int) -> None:
            status.update(f"{processed} of {counts.delivered} processed, {passed} passed by the connector")

        report = wait_until_delivered(stack, counts.delivered, progress)
    seconds = time.monotonic() - began
    spans = read_spans(stack.spans)
    comparison = compare(expected(RECORDING, renaming(SALT)), spans)
    show(console, spans)
    rows = counted.wait_for(stack.settings, counts.delivered)
    operations, workflow_tokens = counted.requests(rows), counted.tokens(rows)
    received = len({(s.trace_id, s.span_id) for s in spans})
    enriched, delivered = total(report.streams, "enriched"), total(report.sinks, "delivered")
    dead_letters = total(report.streams, "dead_lettered") + total(report.sinks, "dead_lettered")
    balanced = (
        report.balanced
        and counts.delivered == enriched
        and delivered == received == enriched
        and not dead_letters
        and not comparison.different
        and operations == counts.delivered
        and workflow_tokens == comparison.tokens
    )
    console.print(
        f"\npublished {counts.delivered}, enriched {enriched}, delivered {delivered}, "
        f"dead-lettered {dead_letters}; the receiver holds {received} spans"
    )
    for line in lines(report, False):
        console.print("  " + line, markup=False, highlight=False, soft_wrap=True)
    for text in comparison.different[:10]:
        console.print(f"  different: {text}", markup=False, style="red")
    right = "as recorded" if not comparison.different else f"{len(comparison.different)} differences"
    console.print(f"trees of {comparison.runs} runs: {right}")
    console.print(
        f"counted {operations} operations and {workflow_tokens} tokens of workflow runs "
        f"(recorded: {comparison.tokens}):"
    )
    for line in counted.lines(rows):
        console.print("  " + line, markup=False, highlight=False, soft_wrap=True)
    console.print("the counts balance" if balanced else "[red]the counts do not balance")
    console.print(
        f"{counts.delivered} events end to end in {seconds:.1f} s "
        f"({counts.delivered / seconds:.0f}/s, mostly waiting for the last batch)"
    )
    console.print(f"\nKafka      {stack.bootstrap_servers}")
    console.print(f"receiver   {stack.endpoint}, received spans: {stack.spans}", soft_wrap=True)
    console.print(
        f"logs       {stack.folder / 'logs'}, Kafka's data: {stack.folder / 'kafka'}", soft_wrap=True
    )
    return 0 if balanced else 1


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
    except (RuntimeError, TailraceError) as e:
        console.print(str(e), style="red", markup=False)
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
