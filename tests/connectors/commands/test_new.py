"""`tailrace sinks new` writes a complete package and overwrites nothing."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from connectors.commands import scaffold
from connectors.commands.connect import sinks
from tailrace.errors import ConfigError


def new(*arguments: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(sinks, ["new", *arguments])
    return ran.exit_code, ran.stdout, ran.stderr


def test_it_writes_a_package_and_says_what_is_next(tmp_path: Path) -> None:
    code, out, _ = new("acme2", "--dir", str(tmp_path))
    folder = tmp_path / "tailrace-sink-acme2"
    assert code == 0
    assert f"{folder} is created" in out
    assert "pytest" in out
    assert "tailrace render acme2" in out
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["tailrace.sinks"] == {"acme2": "acme2_sink:acme2"}
    module = ast.parse((folder / "acme2_sink.py").read_text())
    assert "acme2" in [n.name for n in module.body if isinstance(n, ast.FunctionDef)]
    ast.parse((folder / "tests" / "test_acme2_sink.py").read_text())
    assert "TAILRACE_SINKS_" in (folder / "README.md").read_text()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert new("acme", "--dir", str(tmp_path))[0] == 0
    module = tmp_path / "tailrace-sink-acme" / "acme_sink.py"
    module.write_text("mine")
    code, _, err = new("acme", "--dir", str(tmp_path))
    assert code == 2
    assert "exists already" in err
    assert module.read_text() == "mine"


@pytest.mark.parametrize("name", ["otlp", "console"])
def test_a_sink_that_exists_is_not_created_again(tmp_path: Path, name: str) -> None:
    code, _, err = new(name, "--dir", str(tmp_path))
    assert code == 2
    assert f"the sink {name} exists already" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "Acme", "a_b", "a-b", "../x", "import", "1a", "a b", "ä", "a" * 41])
def test_a_name_is_checked(name: str) -> None:
    with pytest.raises(ConfigError):
        scaffold.files(name)
