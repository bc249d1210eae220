"""Two checkouts in turns, in one run: µs of CPU an event of the stream stage and of each sink, and the ratio
of the medians.

    python benchmarks/turns.py --old PATH --new PATH [--pairs 11] [--json] [stream] [sinks]

Each checkout is a folder with a `.venv` of its own, both compiled (`make setup`) or both plain. A pair runs
`benchmarks.stream_stage` without peers and `benchmarks.sink_stage`, one round each, in both checkouts, as
processes with the checkout's own Python: what is compared is the command, so module paths may differ. The
checkout that begins changes from pair to pair, so that a machine that gets slower slows both.

The sink stage runs its naive programs too. They hardly change between commits: a ratio that is not near 1
there says that the machine was not quiet, or that the benchmark itself has changed."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

STAGES: Final = ("stream", "sinks")
Rows = dict[str, list[float]]
"""By stage or sink, µs of CPU an event, a number a pair."""


class Checkout:
    """A folder with the code, and its own Python."""

    def __init__(self, name: str, folder: Path) -> None:
        """Raises `SystemExit`: it cannot be measured."""
        self.name, self.folder = name, folder.resolve()
        self.python = self.folder / ".venv" / "bin" / "python"
        if not self.python.exists():
            raise SystemExit(f"{name}: {self.python} is missing; run `make setup` in {self.folder}")
        libraries = [found for package in self.folder.glob("*/") for found in _libraries(package)]
        self.compiled = bool(libraries)
        stale = [source for library in libraries if _older(library, source := _source(library))]
        if stale:
            raise SystemExit(f"{name}: {stale[0]} is newer than its library; run `make compile` there")

    def run(self, stage: str, events: int) -> dict[str, float]:
        """µs of CPU an event, by what was measured. Raises `SystemExit` with what it said."""
        module = {"stream": "benchmarks.stream_stage", "sinks": "benchmarks.sink_stage"}[stage]
        options = ["--json", "--rounds", "1", "--events", str(events)]
        if stage == "stream":
            options.append("--no-peers")
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") and k != "PYTHONPATH"
        }
        done = subprocess.run(
            [self.python, "-m", module, *options],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {module} ended with {done.returncode}\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout)
        if found["not_run"]:
            raise SystemExit(f"{self.name}: {module}: not run: {found['not_run']}")
        medians = {"stream": found["median"]} if stage == "stream" else found["median"]
        return {what: row["us_cpu"] for what, row in medians.items()}


def _libraries(package: Path) -> Iterator[Path]:
    if (package / "__init__.py").exists():
        yield from package.rglob("*.so")


def _source(library: Path) -> Path:
    return library.with_name(library.name.partition(".")[0] + ".py")


def _older(library: Path, source: Path) -> bool:
    return source.exists() and library.stat().st_mtime < source.stat().st_mtime


def in_turns(old: Checkout, new: Checkout, pairs: int, sizes: dict[str, int]) -> tuple[Rows, Rows]:
    """What was measured of each. sizes: events, by stage."""
    found: dict[str, Rows] = {old.name: {}, new.name: {}}
    for n in range(pairs):
        for stage, events in sizes.items():
            for checkout in (old, new) if n % 2 == 0 else (new, old):
                for what, cost in checkout.run(stage, events).items():
                    found[checkout.name].setdefault(what, []).append(cost)
        print(f"pair {n + 1} of {pairs}", file=sys.stderr, flush=True)
    return found[old.name], found[new.name]


def compared(old: Rows, new: Rows) -> dict[str, dict[str, float]]:
    """Medians, least and most of what both have, and new over old."""
    out = {}
    for what in old:
        if what not in new:
            continue
        before, after = statistics.median(old[what]), statistics.median(new[what])
        out[what] = {
            "old": before,
            "old_least": min(old[what]),
            "old_most": max(old[what]),
            "new": after,
            "new_least": min(new[what]),
            "new_most": max(new[what]),
            "ratio": after / before,
        }
    return out


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}, load "
        f"{os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Two checkouts in turns: µs of CPU an event.")
    parser.add_argument("stages", nargs="*", metavar="stream|sinks", help="default: both")
    parser.add_argument("--old", type=Path, required=True, metavar="PATH")
    parser.add_argument("--new", type=Path, required=True, metavar="PATH")
    parser.add_argument("--pairs", type=int, default=11, help="runs of each")
    parser.add_argument("--stream-events", type=int, default=60_000, help="events of a run")
    parser.add_argument("--sink-events", type=int, default=20_000, help="events of a run, for each sink")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.stages) - set(STAGES):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(STAGES)}")
    if args.pairs < 1:
        parser.error(f"--pairs {args.pairs}: at least 1")
    old, new = Checkout("old", args.old), Checkout("new", args.new)
    if old.compiled != new.compiled:
        plain = new if old.compiled else old
        raise SystemExit(f"{plain.name}: not compiled, the other is; run `make compile` in {plain.folder}")
    sizes = {"stream": args.stream_events, "sinks": args.sink_events}
    rows = in_turns(old, new, args.pairs, {s: sizes[s] for s in args.stages or STAGES})
    found = compared(*rows)
    form = "compiled" if old.compiled else "plain Python"
    if args.json:
        print(
            json.dumps(
                {"machine": machine(), "form": form, "pairs": args.pairs, "old": rows[0], "new": rows[1]}
                | {"compared": found}
            )
        )
        return
    print(f"{machine()}; {form}; {args.pairs} pairs; µs CPU an event: median (least to most)")
    print(f"{'':<14}{'old':>24}{'new':>24}{'new/old':>10}")
    for what, row in found.items():
        cells = [f"{row[c]:.1f} ({row[f'{c}_least']:.1f} to {row[f'{c}_most']:.1f})" for c in ("old", "new")]
        print(f"{what:<14}{cells[0]:>24}{cells[1]:>24}{row['ratio']:>10.3f}")


if __name__ == "__main__":
    main()
