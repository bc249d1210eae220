"""How environments are made: what pip is asked for, once."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.vendor import venvs
from tests.vendor.venvs import python


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pip is called with, which does nothing."""
    calls: list[list[str]] = []

    def run(command: list[Any], **options: Any) -> None:
        assert options == {"check": True}
        calls.append([str(part) for part in command[1 + len(venvs.PIP) :]])

    def create(folder: Path, **options: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(venv, "create", create)
    monkeypatch.setattr(venvs, "CACHE", tmp_path)
    return calls


def test_a_package_comes_with_its_dependencies_and_once(asked: list[list[str]], tmp_path: Path) -> None:
    for _ in range(2):
        assert python("sdk==1.0") == tmp_path / "sdk-1.0" / "bin" / "python"
    assert asked == [["sdk==1.0"]]


def test_a_package_with_what_its_models_need_comes_without_the_rest(asked: list[list[str]]) -> None:
    python("sdk==1.0", "pydantic==2", "httpx==1")
    assert asked == [["pydantic==2", "httpx==1"], ["--no-deps", "sdk==1.0"]]
    python("sdk==1.0", "pydantic==3", "httpx==1")  # another environment in the same place
    assert len(asked) == 4


def test_what_failed_is_installed_again(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[Any], **options: Any) -> None:
        raise subprocess.CalledProcessError(1, command)

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", fail)
        with pytest.raises(subprocess.CalledProcessError):
            python("sdk==1.0")
    assert not (tmp_path / "sdk-1.0" / venvs.COMPLETE).exists()
    python("sdk==1.0")
    assert asked == [["sdk==1.0"]]


def test_a_judge_without_a_package_runs_here() -> None:
    assert python() == Path(sys.executable)
