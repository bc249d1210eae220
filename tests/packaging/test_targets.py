"""The Makefile's targets for tests and benchmarks leave nothing out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def commands(target: str) -> list[str]:
    """What `make target` would run, without installing the environment."""
    made = ("-o", ".venv/.installed", "-o", ".venv/.compiled")
    done = subprocess.run(["make", "-n", *made, target], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def expression(target: str) -> str:
    """The marker expression of a target."""
    (command,) = (c for c in commands(target) if " pytest " in c)
    found = re.search(r'-m "([^"]*)"$', command)
    assert found, command
    return found[1]


def test_every_test_is_in_one_of_the_two_targets() -> None:
    assert expression("test") == f"not ({expression('test-slow')})"


def test_ci_runs_both() -> None:
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    assert {"make test", "make test-slow"} <= set(run)


def test_quick_tests_need_no_broker_and_are_not_slow() -> None:
    assert expression("test-quick") == f"not kafka and not ({expression('test-slow')})"


def test_the_crash_tests_are_among_the_slow_ones() -> None:
    assert "crash" in expression("test-slow").split(" or ")
    files = sorted((ROOT / "tests" / "crash").glob("test_*.py"))
    assert files
    assert all("pytest.mark.crash" in file.read_text() for file in files)


def test_all_benchmarks_are_run() -> None:
    """All programs except the one that compares two checkouts."""
    folder = ROOT / "benchmarks"
    programs = {f.name for f in folder.glob("*.py") if "argparse" in f.read_text()} - {"turns.py"}
    assert programs == {Path(c.split()[1]).name for c in commands("bench") if "benchmarks/" in c}
    listed = set(re.findall(r"^\| `(\w+\.py)` \|", (folder / "README.md").read_text(), re.MULTILINE))
    assert listed == programs | {"turns.py"}
