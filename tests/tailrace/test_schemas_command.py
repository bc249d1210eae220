"""`tailrace schemas`: which records there are, and which one given bytes are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tailrace import codec
from tailrace.cli import cli
from tailrace.codec import schemas
from tailrace.records import Kind, TraceEvent

VALUE = codec.encode(
    TraceEvent(event_id="e", source_id="s", kind=Kind.TOOL, started_at=1, ended_at=2, published_at=3)
)
FINGERPRINT = VALUE[2:10]


def run(*arguments: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(cli, ["schemas", *arguments])
    return ran.exit_code, ran.stdout, ran.stderr


def test_ls_has_every_version_of_every_record() -> None:
    code, out, _ = run("ls", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {(r["record"], r["version"]) for r in rows} == {
        (n, i + 1) for n in schemas.NAMES for i in range(len(schemas.history(n)))
    }
    (event,) = [r for r in rows if r["record"] == "TraceEvent" and r["current"]]
    assert event["fingerprint"] == FINGERPRINT.hex()
    assert event["fields"] == len(schemas.current("TraceEvent")["fields"])
    code, out, _ = run("ls")
    assert code == 0
    assert out.count("\n") == len(rows)
    assert FINGERPRINT.hex() in out


@pytest.mark.parametrize("name", schemas.NAMES)
def test_show_prints_the_schema(name: str) -> None:
    code, out, _ = run("show", name)
    assert code == 0
    assert json.loads(out) == schemas.current(name)
    assert json.loads(run("show", name, "--version", "1")[1]) == schemas.history(name)[0]


def test_show_names_what_there_is() -> None:
    code, _, err = run("show", "TraceEvent", "--version", "99")
    assert code == 2
    assert f"TraceEvent has versions 1 to {len(schemas.history('TraceEvent'))}" in err
    code, _, err = run("show", "Nothing")
    assert code == 2
    assert "TraceSummary" in err


def test_the_example_in_the_help_is_identified() -> None:
    found = re.search(r"tailrace schemas identify ([0-9a-f]+)", run("identify", "--help")[1])
    assert found is not None
    code, out, _ = run("identify", found[1])
    assert code == 0
    assert out.startswith("TraceEvent, ")


@pytest.mark.parametrize("text", [VALUE.hex(), VALUE[:10].hex(), VALUE.hex().upper(), FINGERPRINT.hex()])
def test_a_value_or_a_fingerprint_is_identified(text: str) -> None:
    version = len(schemas.history("TraceEvent"))
    assert run("identify", text)[:2] == (0, f"TraceEvent, version {version}\n")
    code, out, _ = run("identify", text, "--json")
    assert code == 0
    answer = json.loads(out)
    assert (answer["record"], answer["version"], answer["fingerprint"]) == (
        "TraceEvent",
        version,
        FINGERPRINT.hex(),
    )


def test_a_fingerprint_as_a_number_is_identified_as_reversed() -> None:
    code, out, _ = run("identify", FINGERPRINT[::-1].hex())
    assert code == 0
    assert "reversed" in out


def test_a_file_is_identified(tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(VALUE)
    code, out, _ = run("identify", str(tmp_path / "value"))
    assert code == 0
    assert out.startswith("TraceEvent, ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("c301" + "ab" * 8, "no known schema has the fingerprint abababababababab"),
        ("ab" * 8, "no known schema has the fingerprint abababababababab"),
        ("c301ab", "3 bytes are too few: marker and fingerprint are 10"),
        ("0000000007c0ffee", "no known schema has the fingerprint"),
        ("0000000007c0ffee00", "schema registry, schema id 7"),
        ("7b7d", "starts with 7b7d, not c301"),
    ],
)
def test_foreign_bytes_are_named_as_such(text: str, said: str) -> None:
    code, out, err = run("identify", text)
    assert (code, out) == (1, "")
    assert said in err


def test_what_is_neither_hex_nor_a_file_is_a_wrong_option() -> None:
    code, _, err = run("identify", "nothing-here")
    assert code == 2
    assert "neither hex nor a readable file" in err


def test_an_empty_file_is_not_a_record(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    code, _, err = run("identify", str(tmp_path / "empty"))
    assert code == 1
    assert "starts with nothing" in err
