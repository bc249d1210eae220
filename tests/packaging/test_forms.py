"""The record path does the same in both of its forms.

One is compiled, as `make setup` leaves it where there is a C compiler, the other is plain Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import compiling

ROOT = compiling.ROOT


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources without any compiled module."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("tailrace", "streams", "connectors", "ingress", "tests", "schemas"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_both_forms_write_the_same_bytes(plain: Path, seed: int) -> None:
    here, _, ours = run(ROOT, "-m", "tests.packaging.applied", str(seed), "3000").rpartition(" ")
    there, _, theirs = run(plain, "-m", "tests.packaging.applied", str(seed), "3000").rpartition(" ")
    assert (Path(there).suffix, Path(there).is_relative_to(plain)) == (".py", True)
    assert Path(here).suffix == (".so" if compiling.compiled(ROOT) else ".py")
    assert ours == theirs


@pytest.mark.slow
def test_plain_python_passes_the_tests_of_the_pass_and_of_the_codec(plain: Path) -> None:
    """The suite itself runs in the form that is installed."""
    said = run(
        plain,
        "-m",
        "pytest",
        "-q",
        "tests/streams/processing/test_admission.py",
        "tests/streams/processing/test_apply.py",
        "tests/streams/processing/test_bytes.py",
        "tests/tailrace/test_codec.py",
        "tests/tailrace/test_partitioner.py",
    )
    assert " passed" in said


def test_a_library_older_than_its_source_is_noticed(tmp_path: Path) -> None:
    module = tmp_path / compiling.MODULES[0]
    module.parent.mkdir(parents=True)
    module.touch()
    assert compiling.stale(tmp_path) == []
    library = module.with_name(module.stem + compiling.SUFFIX)
    library.touch()
    os.utime(library, (1, 1))
    assert compiling.stale(tmp_path) == [compiling.MODULES[0]]
    assert compiling.compiled(tmp_path) == [library]
