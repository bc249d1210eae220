"""The generated modules and the schema history follow the schemas, and the check finds each deviation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools import schemas as tool

ROOT = Path(__file__).resolve().parents[2]
HEADER = "streams/processing/header_fields.py"
GENERATED = ("tailrace/records.py", "tailrace/_schema_history.py", HEADER)


def contract(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / "schemas.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the parts of the repository that the contract is made of, for the test to change."""
    for folder in ("tools", "schemas"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*GENERATED, "pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    schema = json.loads(path.read_text())
    edit(schema)
    path.write_text(json.dumps(schema))


def test_the_repository_is_up_to_date() -> None:
    ran = contract(ROOT, "--check")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_changed_schema_needs_a_version_then_the_modules_and_then_is_fine(copy: Path) -> None:
    new = {"name": "weather", "type": ["null", "string"], "default": None, "doc": "The weather."}
    change(copy / "schemas" / "TraceSummary.avsc", lambda s: s["fields"].append(new))
    ran = contract(copy, "--check")
    assert ran.returncode == 1
    assert "schemas/TraceSummary.avsc changed: add it as schemas/history/TraceSummary/2.avsc" in ran.stderr
    assert "tailrace/records.py is out of date: run `make schemas`" in ran.stderr
    shutil.copy(
        copy / "schemas" / "TraceSummary.avsc", copy / "schemas" / "history" / "TraceSummary" / "2.avsc"
    )
    ran = contract(copy, "--check")
    assert ran.stderr.splitlines() == [
        "tailrace/records.py is out of date: run `make schemas`",
        "tailrace/_schema_history.py is out of date: run `make schemas`",
    ]
    assert contract(copy).returncode == 0
    ran = contract(copy, "--check")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "    weather: str | None = None" in (copy / "tailrace" / "records.py").read_text()
    scope: dict[str, Any] = {}
    exec((copy / "tailrace" / "_schema_history.py").read_text(), scope)
    old, current = map(json.loads, scope["HISTORY"]["TraceSummary"])
    assert [f["name"] for f in current["fields"]] == [*(f["name"] for f in old["fields"]), "weather"]


def test_a_new_field_of_the_header_is_read_by_the_processor(copy: Path) -> None:
    """Only the schema is edited. A new field that comes after the header is not read."""
    text: list[Any] = ["null", "string"]
    new = [
        {"name": "weather", "type": text, "default": None, "doc": "The weather."},
        {"name": "rain", "type": ["null", "long"], "default": None, "doc": "Millimetres."},
        {"name": "winds", "type": {"type": "array", "items": "string"}, "default": [], "doc": "Their names."},
    ]
    later = {"name": "season", "type": text, "default": None, "doc": "The season."}

    def add(schema: dict[str, Any]) -> None:
        at = [f["name"] for f in schema["fields"]].index(schema["header_last"])
        schema["fields"][at + 1 : at + 1] = [later]
        schema["fields"][at:at] = new

    change(copy / "schemas" / "TraceEvent.avsc", add)
    versions = copy / "schemas" / "history" / "TraceEvent"
    shutil.copy(copy / "schemas" / "TraceEvent.avsc", versions / f"{len([*versions.iterdir()]) + 1}.avsc")
    assert f"{HEADER} is out of date: run `make schemas`" in contract(copy, "--check").stderr
    assert (contract(copy).returncode, contract(copy, "--check").stderr) == (0, "")

    was: dict[str, Any] = {}
    now: dict[str, Any] = {}
    exec((ROOT / HEADER).read_text(), was)
    exec((copy / HEADER).read_text(), now)
    at = was["NAMES"].index("time_to_first_token")
    names = [*was["NAMES"][:at], "weather", "rain", "winds", *was["NAMES"][at:]]
    assert list(now["NAMES"]) == names
    header = now["Header"](tuple(names))
    assert all(getattr(header, name) == name for name in names)
    types = now["Header"].__annotations__
    assert (types["weather"], types["rain"], types["winds"]) == ("bytes | None", "int | None", "list[bytes]")
    assert set(now["TEXTS"]) - set(was["TEXTS"]) == {"weather"}
    assert set(now["LISTS_OF_TEXTS"]) - set(was["LISTS_OF_TEXTS"]) == {"winds"}
    assert now["defaults"]() == {**was["defaults"](), "winds": []}


def test_a_field_that_the_processor_skips_exists(copy: Path) -> None:
    change(
        copy / "schemas" / "TraceEvent.avsc",
        lambda s: s.update(fields=[f for f in s["fields"] if f["name"] != "host_name"]),
    )
    missing = (
        "tools/header.py: TraceEvent has no field host_name; remove it from NOT_READ, WHOLE or OF_RECORDS"
    )
    assert missing in problems_of(copy)


def test_a_changed_comment_needs_no_version(copy: Path) -> None:
    change(copy / "schemas" / "TraceSummary.avsc", lambda s: s["fields"][0].update(doc="Another comment."))
    assert contract(copy, "--check").stderr.splitlines() == [
        "tailrace/records.py is out of date: run `make schemas`"
    ]


def test_a_version_that_is_missing_is_named(copy: Path) -> None:
    history = copy / "schemas" / "history" / "TraceSummary"
    (history / "1.avsc").rename(history / "3.avsc")
    assert (
        "schemas/history/TraceSummary must be numbered 1, 2, ... without gaps"
        in contract(copy, "--check").stderr
    )
    (history / "3.avsc").unlink()
    ran = contract(copy, "--check")
    assert (
        "schemas/history/TraceSummary/1.avsc is missing: copy schemas/TraceSummary.avsc there" in ran.stderr
    )
    assert ran.returncode == 1


@pytest.mark.parametrize("name", ["records.py", "_schema_history.py"])
def test_a_module_that_was_edited_by_hand_is_named(copy: Path, name: str) -> None:
    with (copy / "tailrace" / name).open("a") as file:
        file.write("\nEDITED = True\n")
    assert contract(copy, "--check").stderr.splitlines() == [
        f"tailrace/{name} is out of date: run `make schemas`"
    ]


def _edited(field: str, /, **changes: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that changes properties of one field. None removes a property."""

    def edit(schema: dict[str, Any]) -> None:
        schema["fields"] = [
            {k: v for k, v in {**f, **changes}.items() if v is not None} if f["name"] == field else f
            for f in schema["fields"]
        ]

    return edit


def _kind(edit: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    """An edit of the enum Kind."""
    return lambda schema: edit(next(f for f in schema["fields"] if f["name"] == "kind")["type"])


def _body(edit: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    """An edit of the record inside the field tool."""
    return lambda schema: edit(next(f for f in schema["fields"] if f["name"] == "tool")["type"][1])


def _moved(schema: dict[str, Any]) -> None:
    """Moves tool_name behind the header."""
    field = next(f for f in schema["fields"] if f["name"] == "tool_name")
    schema["fields"].remove(field)
    schema["fields"].append(field)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (
            lambda s: s["fields"].append({"name": "new", "type": "string", "doc": "New."}),
            "new: has no default, and the writer's schema lacks it",
        ),
        (lambda s: s["fields"].pop(0), "event_id: has no default, and the writer's schema lacks it"),
        (lambda s: s["fields"].pop(-1), "TraceEvent.outputs: was removed or renamed"),
        (
            _edited("source_id", name="own_id"),
            "source_id: has no default, and the writer's schema lacks it",
        ),
        (_edited("user_id", name="end_user_id"), "TraceEvent.user_id: was removed or renamed"),
        (_edited("source_id", type="long"), "source_id: string became long"),
        (_edited("source_id", type="bytes"), ""),
        (_edited("revision", type="long"), "revision: long became int"),
        (_edited("source_id", type=["null", "string"], default="null"), "source_id: null became string"),
        (
            _edited("user_id", type=["null", "string", "long"]),
            "user_id: no branch of the reader's union can read long",
        ),
        (_edited("user_id", default=None), "TraceEvent.user_id: lost its default"),
        (_edited("revision", default=1), "TraceEvent.revision: the default was 0, is 1"),
        (
            _edited("started_at", type={"type": "long", "logicalType": "timestamp-millis"}),
            "the logical type was timestamp-micros, is timestamp-millis",
        ),
        (_kind(lambda k: k["symbols"].remove("moderation")), "Kind: symbols were unknown, workflow_run"),
        (_kind(lambda k: k["symbols"].insert(3, "dream")), "Kind: symbols were unknown, workflow_run"),
        (_kind(lambda k: k.pop("default")), "Kind: the default was unknown, is None"),
        (_kind(lambda k: k.update(name="Sort")), "kind: enum Kind became enum Sort"),
        (_body(lambda t: t.update(name="ToolBody")), "tool: record Tool became record ToolBody"),
        (
            _body(lambda t: t["fields"].append({"name": "n", "type": "int", "doc": "N."})),
            "tool.n: has no default, and the writer's schema lacks it",
        ),
        (_body(lambda t: t["fields"].pop(0)), "Tool.call_id: was removed or renamed"),
        (_moved, "tool_name: was in the header"),
        (lambda s: s.update(header_last="name"), "tool_name: was in the header"),
        (lambda s: s.update(header_last="nothing"), "header_last is not the name of a field"),
    ],
)
def test_a_version_that_breaks_old_readers_or_writers_is_refused(
    copy: Path, edit: Callable[[dict[str, Any]], object], problem: str
) -> None:
    for path in (
        copy / "schemas" / "TraceEvent.avsc",
        copy / "schemas" / "history" / "TraceEvent" / "2.avsc",
    ):
        shutil.copy(ROOT / "schemas" / "TraceEvent.avsc", path)
        change(path, edit)
    found = problems_of(copy)
    if problem:
        assert any(problem in line for line in found), found
    else:
        assert found == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s["fields"].append(
            {"name": "new", "type": ["null", "string"], "default": None, "doc": "New."}
        ),
        lambda s: s["fields"].insert(9, {"name": "new", "type": "int", "default": 7, "doc": "New."}),
        _kind(lambda k: k["symbols"].append("dream")),
        _body(lambda t: t["fields"].insert(0, {"name": "n", "type": "int", "default": 0, "doc": "N."})),
    ],
    ids=["a nullable field", "a field with a default, in the header", "a last symbol", "a field of a body"],
)
def test_a_compatible_version_is_accepted(copy: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    for path in (
        copy / "schemas" / "TraceEvent.avsc",
        copy / "schemas" / "history" / "TraceEvent" / "2.avsc",
    ):
        shutil.copy(ROOT / "schemas" / "TraceEvent.avsc", path)
        change(path, edit)
    assert problems_of(copy) == []


def test_every_version_is_compared_with_every_other(copy: Path) -> None:
    """A version may not take back what the one before added, although older ones never had it."""
    history = copy / "schemas" / "history" / "TraceEvent"
    new = {"name": "new", "type": ["null", "string"], "default": None, "doc": "New."}
    n = len(list(history.glob("*.avsc")))
    shutil.copy(history / f"{n}.avsc", history / f"{n + 1}.avsc")
    change(history / f"{n + 1}.avsc", lambda s: s["fields"].append(new))
    shutil.copy(history / f"{n}.avsc", history / f"{n + 2}.avsc")
    assert problems_of(copy) == [
        (
            f"schemas/TraceEvent.avsc, versions {n + 1} and {n + 2}: TraceEvent.new: was removed or renamed; "
            "stop filling it, but keep it"
        )
    ]


def test_the_command_fails_for_such_a_version(copy: Path) -> None:
    for path in (
        copy / "schemas" / "TraceSummary.avsc",
        copy / "schemas" / "history" / "TraceSummary" / "2.avsc",
    ):
        shutil.copy(ROOT / "schemas" / "TraceSummary.avsc", path)
        change(path, lambda s: s["fields"][0].update(type="long"))
    ran = contract(copy, "--check")
    assert ran.returncode == 1
    assert "trace_id: string became long" in ran.stderr


def problems_of(copy: Path) -> list[str]:
    """What `tools/schemas.py --check` finds in these schemas, without starting a process."""
    schemas = {p.stem: json.loads(p.read_text()) for p in (copy / "schemas").glob("TraceEvent.avsc")}
    return list(tool.problems(schemas, copy / "schemas"))


def test_a_changed_default_or_content_mark_is_a_change(copy: Path) -> None:
    change(copy / "schemas" / "TraceEvent.avsc", lambda s: s["fields"][-1].pop("content"))
    assert "schemas/TraceEvent.avsc changed" in contract(copy, "--check").stderr
