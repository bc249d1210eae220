"""ARCHITECTURE.md names every module, and nothing that isn't there."""

from __future__ import annotations

import re

from tests.docs.markdown import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+)?)`", TEXT))
"""Every path in it: folders end with a slash."""


def test_every_path_exists() -> None:
    assert [p for p in sorted(NAMED) if not (ROOT / p).exists()] == []
    assert [p for p in sorted(NAMED) if (ROOT / p).is_dir() != p.endswith("/")] == []


def test_every_module_is_named() -> None:
    """A package's __init__ is named by its folder."""
    modules = [
        str(path.relative_to(ROOT))
        for folder in ("tailrace", "streams", "connectors")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    assert len(modules) > 50
    missing = [m for m in modules if m not in NAMED and m.removesuffix("__init__.py") not in NAMED]
    assert missing == []


def test_every_method_is_where_it_is_said_to_be() -> None:
    """`Class.method` in `path`, or `path` before it in the same sentence: the name is somewhere in the
    code."""
    code = "\n".join(
        p.read_text(encoding="utf-8")
        for f in ("tailrace", "streams", "connectors")
        for p in (ROOT / f).rglob("*.py")
    )
    for cls, method in re.findall(r"`([A-Z]\w+)\.(\w+)`", TEXT):
        assert re.search(rf"^class {cls}\b", code, re.MULTILINE), cls
        assert re.search(rf"^    (async )?def {method}\(", code, re.MULTILINE), method
