"""Virtual environments with the vendors' SDKs, for tests that check against the vendors' own models.

They are created by `make vendors`, or by the first test that needs them, and kept in
~/.cache/tailrace/vendors.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tailrace" / "vendors"
ROOT: Final = Path(__file__).resolve().parents[2]
QUIET: Final = {
    "OPIK_SENTRY_ENABLE": "false",
    "OPIK_ANALYTICS_ENABLE": "false",
    "WANDB_ERROR_REPORTING": "false",
}
"""Keeps SDKs from reporting their use to their vendor."""
PIP: Final = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile")
COMPLETE: Final = "complete"
"""The file that says what was installed, written at the end."""


def python(*requirements: str) -> Path:
    """The interpreter of the environment with these packages, which is created if it is missing.

    Args:
        requirements: As for pip, with exact versions, e.g. "opik==2.2.122". Of several the first is installed
            without its dependencies: the others are all that its models need. None: this project's
            environment.

    Raises:
        CalledProcessError: pip cannot install them.
    """
    if not requirements:
        return Path(sys.executable)
    package, *needed = requirements
    steps = ([*needed], ["--no-deps", package]) if needed else ([package],)
    return install(CACHE / package.replace("==", "-"), *steps)


def install(folder: Path, *steps: Sequence[str]) -> Path:
    """The same in a folder of one's own.

    Args:
        folder: The environment's.
        steps: What pip is called with, one call after the other.
    """
    found, complete, wanted = folder / "bin" / "python", folder / COMPLETE, "\n".join(chain(*steps))
    with _locked(folder):
        if not complete.exists() or complete.read_text() != wanted:
            venv.create(folder, with_pip=True, clear=True)
            for arguments in steps:
                subprocess.run([found, *PIP, *arguments], check=True)
            complete.write_text(wanted)
    return found


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time creates an environment."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def judged(module: str, interpreter: Path, requests: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """What a judge (tests/vendor/inside) says about each request.

    Args:
        module: Its name there.
        interpreter: Of the SDK's environment.
        requests: The fields of `tests.vendor.inside.Request`.
    """
    lines = [json.dumps(request) for request in requests]
    printed = run(interpreter, ["-m", f"tests.vendor.inside.{module}"], "\n".join(lines) + "\n")
    found = [json.loads(line) for line in printed.splitlines()]
    assert len(found) == len(lines), printed[-1000:]
    return found


def errors(
    interpreter: Path, checks: Sequence[tuple[str, Any]], allow: Sequence[str] = ()
) -> list[list[str]]:
    """What the vendor's models say about each body.

    Args:
        interpreter: Of the SDK's environment.
        checks: The model as module:name, and the body.
        allow: Keys that the models may not know.
    """
    code = (
        "import importlib, json, sys\n"
        "from tests.vendor import strict\n"
        "from tests.vendor.inside.bare import bare\n"
        "for where, body, allow in json.load(sys.stdin):\n"
        "    module, _, name = where.partition(':')\n"
        "    bare(module.partition('.')[0])\n"
        "    hint = getattr(importlib.import_module(module), name)\n"
        "    print(json.dumps(strict.problems(hint, body, allow) + strict.parsed(hint, body)))\n"
    )
    asked = json.dumps([[where, body, list(allow)] for where, body in checks])
    found = [json.loads(line) for line in run(interpreter, ["-c", code], asked).splitlines()]
    assert len(found) == len(checks)
    return found


def run(interpreter: Path, arguments: list[str], text: str) -> str:
    """What the interpreter prints, started in this project's folder. Raises AssertionError if it fails."""
    environment = {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **QUIET}
    done = subprocess.run(
        [interpreter, *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
