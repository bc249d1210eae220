"""Comparing two checkouts in turns: who runs when, what is compared, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import turns

STAGE = """
import json, sys
from pathlib import Path

Path({log!r}).open("a").write({name!r} + " " + " ".join(sys.argv[1:]) + "\\n")
costs = json.loads(Path({costs!r}).read_text())
print(json.dumps({{"median": costs, "not_run": {{}}}}))
"""


def checkout(folder: Path, name: str, log: Path, stream: float, sinks: dict[str, float]) -> Path:
    """A folder whose benchmarks write their arguments to `log` and print the given numbers."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").touch()
    answers = {
        "stream_stage": {"us_cpu": stream},
        "sink_stage": {sink: {"us_cpu": cost} for sink, cost in sinks.items()},
    }
    for stage, answer in answers.items():
        costs = folder / f"{stage}.json"
        costs.write_text(json.dumps(answer))
        code = STAGE.format(log=str(log), name=f"{name} {stage}", costs=str(costs))
        (folder / "benchmarks" / f"{stage}.py").write_text(code)
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.turns", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_both_run_in_turns_and_take_turns_to_begin(tmp_path: Path) -> None:
    log = tmp_path / "log"
    old = checkout(tmp_path / "a", "old", log, 40.0, {"otlp": 50.0, "naive otlp": 170.0, "gone": 1.0})
    new = checkout(tmp_path / "b", "new", log, 44.0, {"otlp": 25.0, "naive otlp": 170.0})
    done = run("--old", old, "--new", new, "--pairs", 2, "--json", "--sink-events", 7, "--stream-events", 9)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {k: v["ratio"] for k, v in found["compared"].items()} == {
        "stream": pytest.approx(1.1),
        "otlp": 0.5,
        "naive otlp": 1.0,
    }
    assert found["old"]["stream"] == [40.0, 40.0]
    one = "--json --rounds 1 --events"
    assert log.read_text().splitlines() == [
        f"old stream_stage {one} 9 --no-peers",
        f"new stream_stage {one} 9 --no-peers",
        f"old sink_stage {one} 7",
        f"new sink_stage {one} 7",
        f"new stream_stage {one} 9 --no-peers",
        f"old stream_stage {one} 9 --no-peers",
        f"new sink_stage {one} 7",
        f"old sink_stage {one} 7",
    ]


def test_one_stage_can_be_chosen(tmp_path: Path) -> None:
    log = tmp_path / "log"
    old, new = (checkout(tmp_path / n, n, log, 40.0, {"otlp": 50.0}) for n in ("a", "b"))
    done = run("--old", old, "--new", new, "--pairs", 1, "sinks")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["sink_stage", "sink_stage"]
    assert "1.000" in next(line for line in done.stdout.splitlines() if line.startswith("otlp"))
    assert run("--old", old, "--new", new, "sink").returncode == 2


def test_medians_are_compared_not_means() -> None:
    found = turns.compared({"otlp": [10.0, 11.0, 90.0]}, {"otlp": [22.0, 1.0, 23.0]})["otlp"]
    assert (found["old"], found["new"], found["ratio"]) == (11.0, 22.0, 2.0)
    assert (found["old_least"], found["old_most"]) == (10.0, 90.0)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    old, new = (checkout(tmp_path / n, n, log, 40.0, {"otlp": 50.0}) for n in ("a", "b"))
    assert "make setup" in run("--old", tmp_path / "c", "--new", new).stderr
    package = new / "tailrace"
    package.mkdir()
    for name in ("__init__.py", "codec.py", "codec.cpython-311-x86_64-linux-gnu.so"):
        (package / name).touch()
    os.utime(package / "codec.py", (1, 1))
    assert (
        f"old: not compiled, the other is; run `make compile` in {old}"
        in run("--old", old, "--new", new).stderr
    )
    os.utime(package / "codec.cpython-311-x86_64-linux-gnu.so", (0, 0))
    assert f"{package / 'codec.py'} is newer than its library" in run("--old", old, "--new", new).stderr
    (old / "benchmarks" / "stream_stage.py").write_text("raise SystemExit('no broker')")
    (package / "codec.cpython-311-x86_64-linux-gnu.so").unlink()
    said = run("--old", old, "--new", new, "stream")
    assert said.returncode == 1
    assert "old: benchmarks.stream_stage ended with 1\nno broker" in said.stderr
    assert not log.exists(), "nothing was measured"
