"""docs/add-a-sink.md: its files are those of `tailrace sinks new`, and both sinks pass the kit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from connectors.commands import scaffold
from connectors.sdk.http_sink import http_sink
from connectors.testing import conformance
from connectors.testing.conformance.kit import Kit
from tests.docs.markdown import ROOT, blocks, rows

PAGE = (ROOT / "docs" / "add-a-sink.md").read_text(encoding="utf-8")
FIRST, SECOND, CLASS, CLASS_TEST = blocks(PAGE, "python")
(PROJECT,) = blocks(PAGE, "toml")
ONE_FUNCTION = {"pyproject.toml": PROJECT, "acme_sink.py": FIRST, "tests/test_acme_sink.py": SECOND}
A_CLASS = {
    "pyproject.toml": PROJECT.replace("acme_sink:acme", "acme_sink:Acme"),
    "acme_sink.py": CLASS,
    "tests/test_acme_sink.py": CLASS_TEST,
}


def test_the_files_are_what_the_command_writes() -> None:
    written = dict(scaffold.files("acme"))
    assert written.pop("README.md").startswith("# tailrace-sink-acme\n")
    assert written == ONE_FUNCTION


@pytest.mark.parametrize("module", [FIRST, CLASS], ids=["function", "class"])
def test_a_sink_is_not_more_than_30_lines(module: str) -> None:
    """From its decorator on, without blank lines."""
    lines = module.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("@"))
    assert len([line for line in lines[start:] if line]) <= 30
    assert max(map(len, lines)) <= 118


@pytest.mark.slow
@pytest.mark.parametrize("files", [ONE_FUNCTION, A_CLASS], ids=["function", "class"])
def test_the_package_installs_and_passes_the_kit(tmp_path: Path, files: Mapping[str, str]) -> None:
    project, target = tmp_path / "project", tmp_path / "target"
    for name, text in {**files, "README.md": "# Acme\n"}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    # without network: the build backend is the environment's, the dependencies are there
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(target), str(project)], check=True)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(target), str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    listed = subprocess.run(
        [sys.executable, "-m", "tailrace", "sinks", "ls"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "acme       Operations to Acme." in listed.stdout
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        env=env,
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (summary,) = re.findall(r"^(\d+) passed(?:, (\d+) skipped)? in", ran.stdout, re.MULTILINE)
    assert int(summary[0]) >= len(conformance.checks()) - 1
    assert sum(int(n or 0) for n in summary) == len(conformance.checks())


def test_the_readme_counts_the_checks() -> None:
    assert f"conformance kit, {len(conformance.checks())} checks" in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )


def _first_cells() -> set[str]:
    return {cells[0] for cells in rows(PAGE)}


def test_the_arguments_are_those_of_http_sink() -> None:
    import inspect

    named = {n for cell in _first_cells() for n in re.findall(r"`(\w+)`", cell)}
    assert set(inspect.signature(http_sink).parameters) - {"name"} <= named


def test_what_may_be_overridden_is_there() -> None:
    part = PAGE.partition("override in the test class")[2].partition("## 5")[0]
    named = {re.findall(r"\w+", cells[0])[0] for cells in rows(part) if cells[0].startswith("`")}
    assert named >= {"accepted", "ids_in", "exceptions"}
    assert all(hasattr(Kit, name) for name in named)
