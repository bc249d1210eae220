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


def others() -> str:
    """What `make test` leaves to other targets."""
    return " or ".join(map(expression, ("test-slow", "test-contract", "test-backends")))


def test_every_test_is_in_one_of_four_targets() -> None:
    assert expression("test") == f"not ({others()})"


def test_ci_runs_all_but_those_that_need_built_servers() -> None:
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    assert {"make test", "make test-slow", "make test-contract"} <= set(run)
    assert not [line for line in run if "backends" in line]


def test_ci_installs_the_vendors_packages_while_it_checks_the_code() -> None:
    """They come from the network, and nothing before the tests needs them."""
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    [start] = [i for i, line in enumerate(run) if line.startswith("make vendors &")]
    assert run[start + 1] == "vendors=$!"
    assert run.index("make setup") < start < run.index("make type")
    assert run.index("make type") < run.index('wait "$vendors"') < run.index("make test-contract")
    assert any("tests.vendor" in command for command in commands("vendors"))


def test_quick_tests_need_no_broker_and_are_not_slow() -> None:
    assert expression("test-quick") == f"not kafka and not ({others()})"


def test_judges_and_servers_have_their_marker() -> None:
    """Else `make test` would install or want them."""
    for folder, marker in (("vendor", "contract"), ("backends", "backends")):
        texts = {f.name: f.read_text() for f in (ROOT / "tests" / folder).glob("test_*.py")}
        needing = [
            name
            for name, text in texts.items()
            if re.search(r"venvs\.python|judges\.verdicts|tests\.backends\.(collector|jaeger|weave)", text)
        ]
        assert len(needing) >= 2
        assert [n for n in needing if f"pytest.mark.{marker}" not in texts[n]] == []


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
