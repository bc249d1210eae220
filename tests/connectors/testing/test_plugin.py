"""The kit's pytest plugin shows the rule under a failure, and other runs do not load it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

KIT = """
from connectors.testing import conformance
from tests.connectors.testing.mutants import MUTANTS

class TestBroken(conformance.SinkConformance):
    sink, settings = MUTANTS["NeverWell"], {"endpoint": "{endpoint}"}
"""
ROOT = Path(__file__).resolve().parents[3]


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plugin = ["-p", "no:tailrace", "-p", "connectors.testing.plugin"]  # as if by its entry point
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, *arguments]
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    (folder / "conftest.py").write_text(path)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_failure_says_its_rule(tmp_path: Path) -> None:
    (tmp_path / "test_kit.py").write_text(KIT)
    ran = pytest_in(tmp_path, "-k", "test_check_finds_a_sink_that_works")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "- rule -" in ran.stdout
    assert "must not report a working sink" in " ".join(ran.stdout.split())


def test_other_runs_load_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    ours = [m for m in sys.modules if m.split('.')[0] in ('connectors', 'tailrace', 'msgspec', "
        "'aiohttp')]\n"
        "    assert ours == ['connectors', 'connectors.testing', 'connectors.testing.plugin'], ours\n"
    )
    ran = pytest_in(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
