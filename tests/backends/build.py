"""`make backends`: builds or installs the servers that are missing.

`python -m tests.backends.build [collector] [jaeger] [weave]`. The first two need Go and some GB of its
caches. Their modules are checked against Go's checksum database. What is there is left alone.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.backends.cache import COLLECTOR, FOLDER, JAEGER, WEAVE
from tests.vendor import venvs

COLLECTOR_VERSION: Final = "v0.155.0"
MANIFEST: Final = f"""\
dist: {{name: otelcol, module: tailrace.test/otelcol, output_path: ./dist}}
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver {COLLECTOR_VERSION}
exporters:
  - gomod: github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter {COLLECTOR_VERSION}
"""
JAEGER_MODULE: Final = "github.com/jaegertracing/jaeger@v1.76.0"
WEAVE_PACKAGES: Final = ("weave[trace-server]==0.53.12", "fastapi", "uvicorn")
STRIPPED: Final = "-ldflags=-s -w"


def go(folder: Path, *arguments: str, **variables: str) -> str:
    """What `go` prints. Raises CalledProcessError, FileNotFoundError."""
    env = {**os.environ, "CGO_ENABLED": "0", **variables}
    return subprocess.run(
        ["go", *arguments], cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def collector(draft: Path) -> Path:
    """Generates the program with the Collector's own builder, and compiles it.

    The builder ends with a `go mod tidy`, which wants modules of tests that cannot all be downloaded. It may
    fail: the build then fails if something that it needs is missing.
    """
    go(draft, "install", f"go.opentelemetry.io/collector/cmd/builder@{COLLECTOR_VERSION}", GOBIN=str(draft))
    (draft / "manifest.yaml").write_text(MANIFEST)
    subprocess.run(
        ["./builder", "--config=manifest.yaml", "--skip-compilation"],
        cwd=draft,
        check=False,
    )
    go(draft / "dist", "build", "-mod=mod", "-trimpath", STRIPPED, "-o", "../built", ".")
    return draft / "built"


def jaeger(draft: Path) -> Path:
    """Compiles Jaeger inside its own module, whose go.sum has the checksums of its dependencies."""
    source = json.loads(go(draft, "mod", "download", "-json", JAEGER_MODULE))["Dir"]
    module = draft / "module"
    shutil.copytree(source, module, copy_function=shutil.copyfile)
    for folder in (module, *(p for p in module.rglob("*") if p.is_dir())):
        folder.chmod(0o755)
    go(module, "build", "-trimpath", STRIPPED, "-o", "../built", "./cmd/jaeger")
    return draft / "built"


def weave(draft: Path) -> Path:
    """Installs the package into an environment, in place: environments cannot be moved."""
    venvs.install(WEAVE.parent, WEAVE_PACKAGES)
    return WEAVE


BACKENDS: Final[dict[str, tuple[Path, Callable[[Path], Path]]]] = {
    "collector": (COLLECTOR, collector),
    "jaeger": (JAEGER, jaeger),
    "weave": (WEAVE, weave),
}
"""Name -> where it is kept, and the function that makes it in an empty folder."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Build or install the servers of make test-backends.")
    parser.add_argument("name", nargs="*", choices=[*BACKENDS, []], help="default: all")
    names = parser.parse_args().name or list(BACKENDS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    failed = False
    with (FOLDER / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            path, make = BACKENDS[name]
            if path.exists():
                print(f"{name}: {path}")
                continue
            began = time.monotonic()
            try:
                with tempfile.TemporaryDirectory(dir=FOLDER, prefix=f".{name}-") as draft:
                    found = make(Path(draft))
                    if found != path:
                        found.rename(path)
            except (subprocess.CalledProcessError, OSError) as e:
                failed = True
                print(f"{name}: {e}", file=sys.stderr)
            else:
                print(f"{name}: {path}, in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
