"""A vendor's modules without the rest of its package: the same modules, and nothing else is run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vendor.inside.bare import bare

PACKAGE = "an_sdk_for_tests"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose `__init__` needs what is not installed."""
    folder = tmp_path / PACKAGE
    (folder / "types").mkdir(parents=True)
    (folder / "__init__.py").write_text("import not_installed_here\n")
    (folder / "types" / "__init__.py").write_text("from .row import Row\n")
    (folder / "types" / "row.py").write_text("class Row:\n    key: 'int'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_modules_are_those_of_the_package(package: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="not_installed_here"):
        importlib.import_module(f"{PACKAGE}.types")
    bare(PACKAGE)
    found = importlib.import_module(f"{PACKAGE}.types.row")
    assert found.__file__ == str(package / "types" / "row.py")
    assert importlib.import_module(f"{PACKAGE}.types").Row is found.Row
    bare(PACKAGE)
    assert importlib.import_module(f"{PACKAGE}.types.row") is found


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="not_installed_here"):
        bare("not_installed_here")
