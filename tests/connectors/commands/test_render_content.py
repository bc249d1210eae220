"""`tailrace render` shows what a sink would send of stored content, as the runner does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tailrace.cli import cli
from tailrace.content_store.folder import Folder
from tailrace.content_store.store import ContentStore

LARGE = json.dumps({"mail": "someone@example.com", "text": "x" * 50_000})
EVENT = {
    "kind": "tool",
    "source_id": "s",
    "name": "search",
    "tenant_id": "t",
    "app_id": "a",
    "started_at": "2026-11-01T12:00:00Z",
    "ended_at": "2026-11-01T12:00:01Z",
    "inputs": "preview",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def render(folder: Path | None, ref: dict[str, Any], *options: str, sink: str = "file") -> Any:
    arguments = ["render", sink, "-", "--set=sinks.file.path=f.jsonl", *options]
    if folder is not None:
        arguments.append(f"--set=content.store={folder}")
    ran = CliRunner().invoke(cli, arguments, input=json.dumps({**EVENT, "content_refs": [ref]}) + "\n")
    assert ran.exit_code == 0, ran.output
    [line] = ran.stdout.splitlines()
    return json.loads(line)["payload"]


def stored(folder: Path, tenant_id: str = "t") -> dict[str, Any]:
    data = LARGE.encode()
    name = ContentStore(Folder(folder)).put(tenant_id, data)
    return {
        "field": "inputs",
        "tenant_id": "t",
        "hash": name,
        "bytes": len(data),
        "media_type": "application/json",
    }


def test_content_is_read_from_the_store_and_masked(folder: Path) -> None:
    ref = stored(folder)
    assert render(folder, ref)["event"]["inputs"] == LARGE
    masked = render(folder, ref, "--set=sinks.file.content=masked")["event"]["inputs"]
    assert json.loads(masked)["mail"] == "[email]"


def test_without_a_store_the_record_is_shown_as_it_is(folder: Path) -> None:
    assert render(None, stored(folder))["event"]["inputs"] == '"preview"'


def test_missing_content_is_marked(folder: Path) -> None:
    shown = render(folder, stored(folder, "other"))
    assert shown["event"]["inputs"] == '"preview"'
    assert [c["field"] for c in shown["event"]["content_changes"]] == ["inputs"]
    assert "content_missing" in shown["context"]["marks"]


def test_what_exceeds_a_request_is_shown_cut(folder: Path) -> None:
    """OTLP sends spans of runs and nodes only."""
    run = {
        **EVENT,
        "kind": "workflow_run",
        "workflow_run_id": "5b0d2f0e-6c3a-4f55-9d43-8a53e7a3a4b1",
        "content_refs": [stored(folder)],
    }
    options = [
        f"--set=content.store={folder}",
        "--set=sinks.otlp.endpoint=http://localhost:4318",
        "--set=sinks.otlp.content_on_spans=true",
        "--set=sinks.otlp.max_bytes=20000",
    ]
    ran = CliRunner().invoke(cli, ["render", "otlp", "-", *options], input=json.dumps(run) + "\n")
    assert ran.exit_code == 0, ran.output
    assert 15_000 < len(ran.stdout) < 30_000
    assert f"cut from {len(LARGE)} bytes" in ran.stdout
