"""Programs of applications that use the publisher, run as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from tailrace.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def environment(settings: Settings) -> dict[str, str]:
    """The variables with which a process publishes as `settings` say."""
    found = {
        "TAILRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "TAILRACE_TOPICS_PREFIX": settings.topics.prefix,
        "PYTHONPATH": str(ROOT),
    }
    for name, value in msgspec.structs.asdict(settings.publisher).items():
        found[f"TAILRACE_PUBLISHER_{name}".upper()] = str(value)
    return found


def run_script(script: str, settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **environment(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
