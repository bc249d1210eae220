"""Where the servers are kept once they are built."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.vendor.venvs import COMPLETE

FOLDER: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tailrace" / "backends"
COLLECTOR: Final = FOLDER / "otelcol-0.155.0"
JAEGER: Final = FOLDER / "jaeger-1.76.0"
WEAVE: Final = FOLDER / "weave-0.53.12" / COMPLETE
"""In the environment with the package."""


def built(path: Path) -> Path:
    """`path`, which is there. Raises AssertionError: a test that needs a server fails without it."""
    assert path.exists(), f"{path} is missing: run `make backends`, which builds or installs it there"
    return path
