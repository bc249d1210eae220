"""Every page: its code parses, and its commands, options, links and tests exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from connectors.config.instances import Common, sink_class
from connectors.sdk.contract import spec_of
from tailrace.commands.options import settings_from
from tailrace.event_lines import parse
from tailrace.identity import complete
from tailrace.settings import Settings, load
from tests.docs.markdown import (
    PAGES,
    ROOT,
    anchors,
    blocks,
    commands,
    label,
    links,
    modules,
    named_tests,
    parsed,
)

TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
INDEX = ROOT / "docs" / "README.md"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("TAILRACE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_python_blocks_compile(page: Path) -> None:
    for code in blocks(TEXTS[page], "python"):
        ast.parse(code)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_json_blocks_are_events_and_toml_blocks_are_toml(page: Path) -> None:
    for code in blocks(TEXTS[page], "json"):
        for line in code.splitlines():
            complete(parse(line.encode()), 0)
    for code in blocks(TEXTS[page], "toml"):
        document = tomllib.loads(code)
        if "project" not in document:
            Path("tailrace.toml").write_text(code)
            _check_sinks(load(path="tailrace.toml", env={}))


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_command_lines_exist_with_their_options(page: Path) -> None:
    for words in commands(TEXTS[page]):
        _, options = parsed(words)
        given = options.get("assignments") or ()
        assert isinstance(given, (list, tuple))
        _check_sinks(settings_from(None, None, tuple(a for a in given if "section.field" not in a)))


def _check_sinks(settings: Settings) -> None:
    """Every instance names settings that its sink has. Sinks that are only examples are not checked."""
    for name, table in settings.sinks.items():
        kind = str(table.get("type", name))
        if kind == "acme":
            continue
        own = msgspec.structs.fields(spec_of(sink_class(kind, name)).settings)
        known = {f.name for f in (*own, *msgspec.structs.fields(Common))}
        assert set(table) <= known


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(TEXTS[page]):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_named_tests_exist(page: Path) -> None:
    for path, name in named_tests(TEXTS[page]):
        assert re.search(
            rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE
        ), name
    for path in re.findall(r"`(tests/[\w/.]+\.\w+)`", TEXTS[page]):
        assert (ROOT / path).exists(), path


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in TEXTS.items():
        for line in re.findall(r"`make ([^`]*)`", text) + re.findall(
            r"^make (.*)$", "\n".join(blocks(text, "console")), re.MULTILINE
        ):
            named = [w for w in line.split() if "=" not in w]
            assert set(named) <= targets, (label(page), line)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_run_modules_exist(page: Path) -> None:
    for module, options in modules(TEXTS[page]):
        base = ROOT.joinpath(*module.split("."))
        source = base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__main__.py"
        assert source.exists(), module
        if options:
            ran = subprocess.run(
                [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
            )
            assert all(re.search(rf"(?<!\S){o}\b", ran.stdout) for o in options), (module, options)


def test_the_index_has_every_page() -> None:
    linked = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in links(TEXTS[INDEX])}
    expected = {p for p in PAGES if p.is_relative_to(ROOT / "docs") and "adr" not in p.parts} - {INDEX}
    assert expected <= linked
