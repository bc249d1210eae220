"""ARCHITECTURE.md is short, and names every package and topic and nothing that does not exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import PurePosixPath

from streams.processing import links, starts, state
from streams.processing.metrics import aggregator
from tailrace.settings import Topics
from tailrace.topics import wanted
from tests.docs.markdown import ROOT, rows

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
MOST = 10_000
"""Bytes of ARCHITECTURE.md."""
NAMED = set(re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+)?)`", TEXT))
"""Every path in it: folders end with a slash."""


def test_every_path_exists() -> None:
    assert [p for p in sorted(NAMED) if not (ROOT / p).exists()] == []
    assert [p for p in sorted(NAMED) if (ROOT / p).is_dir() != p.endswith("/")] == []


def test_it_is_short() -> None:
    assert len(TEXT.encode()) <= MOST


def test_every_package_is_named() -> None:
    """The packages of vendors share a row, that of `connectors/sinks/`."""
    packages = {
        f"{path.parent.relative_to(ROOT)}/"
        for folder in ("tailrace", "streams", "connectors", "ingress")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    named = {p for p in packages if p in NAMED or re.fullmatch(r"connectors/sinks/\w+/", p)}
    assert len(packages) > 25
    assert sorted(packages - named) == []


def test_the_layers_are_those_of_the_import_contracts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    assert len(contracts) == 3
    wanted = []
    for contract in contracts:
        of = "".join(f"`{container}`: " for container in contract.get("containers", ()))
        wanted.append("- " + of + " > ".join(layer.replace(" | ", ", ") for layer in contract["layers"]))
    part = TEXT.partition("## Packages")[2].partition("## ")[0]
    assert [line for line in part.splitlines() if line.startswith("- ")] == wanted


def test_every_topic_and_key_of_the_state_is_in_the_tables() -> None:
    cells = [row[0].strip("`") for row in rows(TEXT.partition("## Topics")[2].partition("## ")[0])]
    assert [c for c in cells if c.startswith("trace.")] == [t.name for t in wanted(Topics())]
    keys = [c.partition("/")[0] for c in cells if not c.startswith("trace.")]
    # every prefix that a record of trace.state is restored by
    known = {state.POSITION, state._TRACE, state._OPERATIONS, links.PREFIX, starts.PREFIX, state._DEDUPE}
    known |= {aggregator.GROUP, aggregator.MINUTES}
    assert sorted(keys) == sorted(k.decode().strip("/") for k in known)


def test_what_is_changed_most_has_a_place_to_start() -> None:
    """ "To change X, start at Y" has what is asked for most. Each row names a file or folder."""
    table = rows(TEXT.partition("## To change X, start at Y")[2].partition("## ")[0])
    asked = (
        "a built-in sink",
        "an event kind",
        "a schema field",
        "what a vendor's status means",
        "waits, 429, `Retry-After`",
        "a metric, its labels",
        "a window of `tailrace metrics`",
        "a mask",
        "which root a nested run gets",
        "an id",
        "a price",
        "a setting",
        "a command",
        "a dead-letter reason",
        "a Kafka topic",
    )
    assert set(asked) <= {row[0] for row in table}
    assert [row[0] for row in table if not NAMED & set(re.findall(r"`([^`]+)`", row[1]))] == []
    for row in table:
        folder = PurePosixPath()
        for path in re.findall(r"`([\w/]+\.(?:py|avsc))`", " ".join(row)):
            if "/" in path:
                folder = PurePosixPath(path).parent
            else:
                assert (ROOT / folder / path).exists(), (row[0], path)
        for path, name in re.findall(r"`([\w/]+\.py)` \(`(\w+)`\)", " ".join(row)):
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(def |class )?{name}\b", source, re.MULTILINE), (path, name)


def test_every_method_is_in_the_file_that_is_named() -> None:
    """`Class.method` in `path`, or `path` before it in the same sentence: the file has the name."""
    code = "\n".join(
        p.read_text(encoding="utf-8")
        for f in ("tailrace", "streams", "connectors", "ingress")
        for p in (ROOT / f).rglob("*.py")
    )
    for cls, method in re.findall(r"`([A-Z]\w+)\.(\w+)`", TEXT):
        assert re.search(rf"^class {cls}\b", code, re.MULTILINE), cls
        assert re.search(rf"^    (async )?def {method}\(", code, re.MULTILINE), method
