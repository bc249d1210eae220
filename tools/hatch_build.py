"""Build hook: a wheel contains the compiled record path if there is a C compiler, else plain Python.

TAILRACE_COMPILE=0 omits it, =require fails without it. A checkout (`pip install -e`) is compiled by
`make compile`.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """The name that hatchling expects."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("TAILRACE_COMPILE", "1")
        if version == "editable" or wanted == "0":
            return
        sys.path.insert(0, str(Path(self.root) / "tools"))
        compiling = importlib.import_module("compiling")

        self._made = Path(tempfile.mkdtemp())
        try:
            compiling.compile_to(self._made, self._made / "work")
        except BaseException as e:  # mypyc raises SystemExit, the C compiler errors of setuptools
            if isinstance(e, KeyboardInterrupt) or wanted == "require":
                raise
            self.app.display_warning(
                f"tailrace is not compiled; it runs as plain Python: {type(e).__name__}: {e}"
            )
            return
        for library in self._made.rglob("*.so"):
            if "work" not in library.relative_to(self._made).parts:
                build_data["force_include"][str(library)] = str(library.relative_to(self._made))
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_made"):
            shutil.rmtree(self._made, ignore_errors=True)
