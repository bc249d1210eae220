"""Virtual environments with the vendors' SDKs, for tests that check against the vendors' own models.

They are created once, kept, and never imported from. They are large, so they are created on demand only
(`pytest --vendors`). Without it a test uses an existing one or is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tailrace" / "vendors"
STRICT: Final = Path(__file__).with_name("strict.py")
QUIET: Final = {
    "OPIK_SENTRY_ENABLE": "false",
    "OPIK_ANALYTICS_ENABLE": "false",
    "WANDB_ERROR_REPORTING": "false",
}
"""Keeps SDKs from reporting their use to their vendor."""


def python(package: str, version: str, *, install: bool) -> Path:
    """The interpreter of the environment with `package`.

    If it is missing, it is created with `install`, and the test is skipped without.
    """
    folder = CACHE / f"{package}-{version}"
    found = folder / "bin" / "python"
    if not (folder / "complete").exists() and not _has(found, package, version):
        if not install:
            pytest.skip(f"needs {package} {version} in {folder}; pytest --vendors installs it there")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [found, "-m", "pip", "install", "-q", f"{package}=={version}"], check=True, timeout=600
        )
    (folder / "complete").touch()
    return found


def _has(found: Path, package: str, version: str) -> bool:
    if not found.exists():
        return False
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    run = subprocess.run([found, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return run.stdout.strip() == version


def errors(
    interpreter: Path, checks: Sequence[tuple[str, Any]], allow: Sequence[str] = ()
) -> list[list[str]]:
    """What the vendor's models say about each body.

    Args:
        interpreter: of the SDK's environment.
        checks: the model as module:name, and the body.
        allow: keys that the models may not know.
    """
    lines = "".join(json.dumps({"model": m, "body": body, "allow": list(allow)}) + "\n" for m, body in checks)
    found = [json.loads(line) for line in _run(interpreter, [str(STRICT)], lines).splitlines()]
    assert len(found) == len(checks)
    return found


def constants(interpreter: Path, where: str) -> dict[str, str]:
    """The string attributes of a class, given as module:name."""
    module, _, name = where.partition(":")
    code = (
        f"import json, {module} as m; found = vars(m.{name}).items(); "
        "print(json.dumps({k: v for k, v in found if isinstance(v, str) and k.isupper()}))"
    )
    found: dict[str, str] = json.loads(_run(interpreter, ["-c", code], ""))
    return found


def _run(interpreter: Path, arguments: list[str], text: str) -> str:
    environment = {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **QUIET}
    run = subprocess.run(
        [interpreter, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
