"""CONTRIBUTING.md: its paths exist, and its checklist for a built-in sink names every file to change."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.docs.markdown import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = set(re.findall(r"`((?:[\w.<>+-]+/)+(?:[\w.<>+-]+)?|[\w.-]+\.(?:toml|md))`", TEXT))
SINK = "opik"
"""The built-in sink with which the checklist is compared."""
IN_PASSING = {
    "ARCHITECTURE.md",
    "connectors/testing/doubles/__init__.py",
    "docs/add-a-sink.md",
    "docs/content.md",
    "docs/dify.md",
    "docs/guarantees.md",
    "docs/seeds.md",
    "docs/state.md",
    "docs/privacy.md",
    "docs/production.md",
    "docs/replay.md",
    "schemas/README.md",
    "tests/benchmarks/test_naive_sink.py",
    "tests/connectors/mapping/test_changes.py",
    "tests/docs/test_contributing.py",
    "tests/ingress/dify/test_at_each_sink.py",
    "tests/ingress/dify/test_defects.py",
    "tests/seeds/fields.toml",
    "tests/seeds/tables.py",
    "tests/tailrace/test_settings.py",
}
"""Files that name the sink, but that a new one need not change."""


def sources() -> Iterator[tuple[str, str]]:
    """Path and content of every text file of the project."""
    folders = [ROOT / name for name in ("benchmarks", "connectors", "docs", "schemas", "tests", "tools")]
    for path in [*ROOT.glob("*"), *(p for folder in folders for p in folder.rglob("*"))]:
        if path.suffix in (".py", ".toml", ".yaml", ".json", ".md"):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_every_path_exists() -> None:
    whole = [p for p in sorted(PATHS) if not re.search(r"[<>]", p)]
    assert len(whole) > 30
    assert [p for p in whole if not (ROOT / p).exists()] == []


def test_the_checklist_of_a_sink_names_every_file_that_one_touches() -> None:
    part = TEXT.partition("## A built-in sink")[2].partition("\n## ")[0]
    named = {p.replace("<vendor>", SINK) for p in re.findall(r"`([^`\n]+)`", part)}
    touched = [
        path
        for path, text in sources()
        if (SINK in path or SINK in text.lower()) and not path.startswith("docs/adr/")
    ]
    assert len(touched) > 30

    def covered(path: str) -> bool:
        return any(path == n or (path.startswith(n.rstrip("/") + "/") and n.count("/")) for n in named)

    assert [p for p in touched if not covered(p) and p not in IN_PASSING] == ["CONTRIBUTING.md"]
