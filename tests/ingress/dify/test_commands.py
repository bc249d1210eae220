"""`tailrace render --format dify`: what it prints and says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tailrace.cli import cli
from tests.ingress.dify import samples
from tests.ingress.dify.reading import READERS, SETTINGS
from tests.ingress.dify.samples import Line, raw, u


def render(tmp_path: Path, sink: str, lines: Iterable[Line | bytes], *more: str) -> Result:
    path = tmp_path / "dify.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else raw(line) for line in lines) + b"\n")
    given = [word for setting in SETTINGS.get(sink, ()) for word in ("--set", setting)]
    return CliRunner().invoke(cli, ["render", "--format", "dify", sink, str(path), *given, *more])


@pytest.mark.parametrize("sink", SETTINGS)
def test_a_turn_is_one_connected_trace_at_the_sink(tmp_path: Path, sink: str) -> None:
    """test_at_each_sink.py has all turns; here it is the command's own output."""
    ran = render(tmp_path, sink, samples.nested())
    assert ran.exit_code == 0, ran.output
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert not any("rejected" in row or "dead_letter" in row for row in rows)
    spans = [span for row in rows if "payload" in row for span in READERS[sink](row["payload"])]
    ids = {span.id for span in spans}
    assert len(ids) == len(spans) > 7
    assert len({span.trace for span in spans}) == 1
    assert len([span for span in spans if span.parent is None]) == 1
    assert {span.parent for span in spans} - {None} <= ids
    assert sum(span.tokens[2] for span in spans) == 1540


def test_render_says_what_was_filled_and_what_has_no_place(tmp_path: Path) -> None:
    line = samples.run(1, 0, 4, message_id=u(3), workflow_data={"id": u(1)}, new_field="x")
    ran = render(tmp_path, "otlp", [line], "--explain")
    assert ran.exit_code == 0
    where = f"{tmp_path / 'dify.jsonl'}:1"
    for text in (
        "filled message: made from its run: Dify sends no message of a chatflow",
        "unplaced trace_info.workflow_data: has no field in an event; kept as an attribute",
        "unplaced trace_info.new_field: has no field in an event; kept as an attribute",
        "read started_at: has no zone; read as UTC",
        "unplaced message: otlp does not send it: log_only",
        "unplaced workflow_run.query: otlp has no place for it",
    ):
        assert f"{where}: {text}" in ran.stderr.splitlines()
        assert f"1 x {text}" in ran.stderr.splitlines()
    assert ran.stderr.splitlines()[-1] == "1 lines: 1 rendered, 1 filtered"
    rows = [json.loads(text) for text in ran.stdout.splitlines()]
    assert rows[0]["unplaced"] == ["message"]
    assert "workflow_run.query" in rows[1]["unplaced"]
    assert "attributes.dify.new_field" in rows[1]["unplaced"], "seed 003 has no place for it on a run"


@pytest.mark.parametrize("sink", sorted(SETTINGS.keys() - {"otlp"}))
def test_a_field_that_dify_may_add_is_an_attribute_at_the_sink(tmp_path: Path, sink: str) -> None:
    ran = render(tmp_path, sink, [samples.run(1, 0, 4, new_field="from a later version")], "--explain")
    [row] = [json.loads(text) for text in ran.stdout.splitlines()]
    assert "from a later version" in json.dumps(row["payload"])
    assert "attributes.dify.new_field" not in row["unplaced"]


def test_without_explain_there_is_a_summary_only(tmp_path: Path) -> None:
    ran = render(tmp_path, "console", samples.chatflow())
    assert "dify.jsonl:" not in ran.stderr
    assert "unplaced" not in ran.stdout
    assert "1 x filled message: made from its run" in ran.stderr


def test_the_zone_is_that_of_the_command_line(tmp_path: Path) -> None:
    ran = render(
        tmp_path, "langfuse", [samples.message(3, 8 * 3600, 8 * 3600 + 1)], "--timezone", "Asia/Shanghai"
    )
    [row] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert row["payload"]["startTimeUnixNano"] == str(samples.NOON_US * 1000)


def test_an_unknown_zone_is_a_wrong_option(tmp_path: Path) -> None:
    ran = render(tmp_path, "console", [], "--timezone", "Mars/Base")
    assert ran.exit_code == 2
    assert "--timezone Mars/Base: 'Mars/Base' is not a time zone" in ran.output


def test_bad_lines_are_named_by_number_and_field_and_the_others_rendered(tmp_path: Path) -> None:
    bad = samples.tool(3, 0, 1)
    bad["trace_info"]["tool_name"] = None
    ran = render(
        tmp_path, "console", [samples.message(3, 0, 4), b"{", bad, samples.moderation(9, None, None)]
    )
    assert ran.exit_code == 1
    assert len(ran.stdout.splitlines()) == 1
    said = [line.removeprefix(f"{tmp_path / 'dify.jsonl'}:") for line in ran.stderr.splitlines()]
    assert any(line.startswith("2: line: is not a JSON object") for line in said)
    assert "3: trace_info.tool_name: is missing" in said
    assert any(line.startswith("4: trace_info.start_time: is missing") for line in said)
    assert said[-1] == "4 lines: 1 rendered, 3 invalid"
