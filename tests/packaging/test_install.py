"""What `pip install .` installs, and that an application's modules of the same names do no harm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tailrace.broker import Broker
from tests.harness.pipeline import Pipeline
from tests.harness.processes import wait_until
from tests.streams.runtime.publishing import publish

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "faust",
    "faust-streaming",
    "mode-streaming",
    "aiokafka",
    "aiohttp",
    "httpx",
    "requests",
    "urllib3",
    "protobuf",
    "orjson",
    "rich",
}


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """A folder with modules that have the names of tailrace's and must not be imported."""
    folder = tmp_path / "application"
    for name in ("schemas.py", "streams/__init__.py", "connectors/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("raise ImportError('this is the application')\n")
    return folder


@pytest.mark.slow
def test_the_base_install_is_small_and_says_what_else_a_command_needs(
    tmp_path: Path, application: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    quick = {**os.environ, "MYPYC_OPT_LEVEL": "0"}  # a wheel all the same, in half the time
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)],
        check=True,
        env=quick,
    )
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
    )
    names = {p["name"].lower() for p in json.loads(listed.stdout)} - {"pip", "setuptools", "wheel"}
    assert "tailrace" in names
    assert len(names) <= 8, names
    assert not names & HEAVY
    code = (
        "import sys; from tailrace import Publisher; print([m for m in sys.modules if m in ('faust', "
        "'aiohttp', 'google.protobuf')])"
    )
    ran = subprocess.run([python, "-c", code], check=True, capture_output=True, cwd=application)
    assert ran.stdout.strip() == b"[]"
    code = "import tailrace.codec.table_decoder as w; print(w.__file__)"
    ran = subprocess.run([python, "-c", code], check=True, capture_output=True, cwd=application)
    assert Path(ran.stdout.decode().strip()).suffix == (
        ".so" if shutil.which("cc") or shutil.which("gcc") else ".py"
    )
    script = str(tmp_path / "venv" / "bin" / "tailrace")
    for command, extra in (("process", "streams"), ("connect", "connectors"), ("broker", "broker")):
        ran = subprocess.run([script, command], check=False, capture_output=True, cwd=application)
        assert ran.returncode == 2 or command == "broker", ran
        assert f"tailrace[{extra}]".encode() in ran.stderr, ran


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize("form", ["script", "module"])
def test_the_commands_work_inside_a_folder_with_modules_of_the_same_names(
    broker: Broker, tmp_path: Path, application: Path, form: str
) -> None:
    pipeline = Pipeline(broker.bootstrap_servers, tmp_path)
    start = (
        [str(Path(sys.executable).with_name("tailrace"))]
        if form == "script"
        else [sys.executable, "-m", "tailrace"]
    )
    process = pipeline.process(cwd=application)
    connect = pipeline.tailrace(
        "connect",
        "file",
        name="connect",
        cwd=application,
        env={"TAILRACE_SINKS_FILE_PATH": str(tmp_path / "out.jsonl")},
    )
    for child in (process, connect):
        child.args[:3] = start
    with process, connect:
        total = publish(pipeline, range(3))
        out = tmp_path / "out.jsonl"
        wait_until(
            lambda: out.exists() and len(out.read_text().splitlines()) == total,
            60,
            "all events are in the file",
            alive=(process, connect),
        )
        assert connect.sigterm(60) == 0
        assert process.sigterm(60) == 0
