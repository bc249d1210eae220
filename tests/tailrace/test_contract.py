"""The generated modules and the schema history follow the schemas, and the check says what does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def contract(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / "contract.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The parts of the repository that the contract is made of, to change."""
    for folder in ("tools", "schemas"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tailrace").mkdir()
    for name in ("tailrace/records.py", "tailrace/_contract.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    schema = json.loads(path.read_text())
    edit(schema)
    path.write_text(json.dumps(schema))


def test_the_repository_is_up_to_date() -> None:
    ran = contract(ROOT, "--check")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_changed_schema_needs_a_version_then_the_modules_and_then_is_fine(copy: Path) -> None:
    new = {"name": "weather", "type": ["null", "string"], "default": None, "doc": "The weather."}
    change(copy / "schemas" / "TraceSummary.avsc", lambda s: s["fields"].append(new))
    ran = contract(copy, "--check")
    assert ran.returncode == 1
    assert "schemas/TraceSummary.avsc changed: add it as schemas/history/TraceSummary/2.avsc" in ran.stderr
    assert "tailrace/records.py is out of date: run `make schemas`" in ran.stderr
    shutil.copy(copy / "schemas" / "TraceSummary.avsc", copy / "schemas" / "history" / "TraceSummary" / "2.avsc")
    ran = contract(copy, "--check")
    assert ran.stderr.splitlines() == [
        "tailrace/records.py is out of date: run `make schemas`", "tailrace/_contract.py is out of date: run `make schemas`",
    ]  # fmt: skip
    assert contract(copy).returncode == 0
    ran = contract(copy, "--check")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "    weather: str | None = None" in (copy / "tailrace" / "records.py").read_text()
    scope: dict[str, Any] = {}
    exec((copy / "tailrace" / "_contract.py").read_text(), scope)
    old, current = map(json.loads, scope["HISTORY"]["TraceSummary"])
    assert [f["name"] for f in current["fields"]] == [*(f["name"] for f in old["fields"]), "weather"]


def test_a_changed_comment_needs_no_version(copy: Path) -> None:
    change(copy / "schemas" / "TraceSummary.avsc", lambda s: s["fields"][0].update(doc="Another comment."))
    assert contract(copy, "--check").stderr.splitlines() == ["tailrace/records.py is out of date: run `make schemas`"]


def test_a_version_that_is_missing_is_named(copy: Path) -> None:
    history = copy / "schemas" / "history" / "TraceSummary"
    (history / "1.avsc").rename(history / "3.avsc")
    assert "schemas/history/TraceSummary must be numbered 1, 2, ... without gaps" in contract(copy, "--check").stderr
    (history / "3.avsc").unlink()
    ran = contract(copy, "--check")
    assert "schemas/history/TraceSummary/1.avsc is missing: copy schemas/TraceSummary.avsc there" in ran.stderr
    assert ran.returncode == 1


@pytest.mark.parametrize("name", ["records.py", "_contract.py"])
def test_a_module_that_was_edited_by_hand_is_named(copy: Path, name: str) -> None:
    with (copy / "tailrace" / name).open("a") as file:
        file.write("\nEDITED = True\n")
    assert contract(copy, "--check").stderr.splitlines() == [f"tailrace/{name} is out of date: run `make schemas`"]


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (
            lambda s: s["fields"].append({"name": "new", "type": "string"}),
            "new: has no default, and was not always there",
        ),
        (lambda s: s["fields"].pop(0), "trace_id: has no default, and was not always there"),
        (lambda s: s["fields"][0].update(type="long"), "trace_id: string became long"),
        (lambda s: s["fields"][0].update(type=["null", "string"]), "trace_id: null became string"),
    ],
    ids=["a field without a default", "a required field gone", "another type", "a union that old readers lack"],
)
def test_a_version_that_old_readers_or_writers_cannot_live_with_is_refused(
    copy: Path, edit: Callable[[dict[str, Any]], object], problem: str
) -> None:
    for path in (copy / "schemas" / "TraceSummary.avsc", copy / "schemas" / "history" / "TraceSummary" / "2.avsc"):
        shutil.copy(ROOT / "schemas" / "TraceSummary.avsc", path)
        change(path, edit)
    ran = contract(copy, "--check")
    assert ran.returncode == 1
    assert problem in ran.stderr


def test_a_changed_default_or_content_mark_is_a_change(copy: Path) -> None:
    change(copy / "schemas" / "TraceEvent.avsc", lambda s: s["fields"][-1].pop("content"))
    assert "schemas/TraceEvent.avsc changed" in contract(copy, "--check").stderr
