"""`tailrace render --format dify`: what it says, and the traces at the sinks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tailrace.cli import cli
from tests.connectors.vendors import VENDORS
from tests.ingress.dify import samples
from tests.ingress.dify.samples import Line, raw, u

SETTINGS = {
    "otlp": ("sinks.otlp.endpoint=http://127.0.0.1:4318",),
    "langfuse": ("sinks.langfuse.public_key=pk-lf-1", "sinks.langfuse.secret_key=sk-lf-1"),
    "opik": ("sinks.opik.api_key=key", f"sinks.opik.id_time_ms={samples.NOON_US // 1000}"),
}
TRACES = {**samples.TURNS, "drafts": lambda: [samples.draft(0x6A)], "prompts": lambda: [samples.prompt()]}


def render(tmp_path: Path, sink: str, lines: Iterable[Line | bytes], *more: str) -> Result:
    path = tmp_path / "dify.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else raw(line) for line in lines) + b"\n")
    given = [word for setting in SETTINGS.get(sink, ()) for word in ("--set", setting)]
    return CliRunner().invoke(cli, ["render", "--format", "dify", sink, str(path), *given, *more])


class Span:
    """A span as a vendor gets it."""

    def __init__(self, trace: str, id_: str, parent: str | None, tokens: int) -> None:
        self.trace, self.id, self.parent, self.tokens = trace, id_, parent, tokens


def attributes(payload: dict[str, Any]) -> dict[str, Any]:
    return {a["key"]: next(iter(a["value"].values())) for a in payload["attributes"]}


def otlp(payload: dict[str, Any]) -> list[Span]:
    found = attributes(payload)
    tokens = 0 if found.get("dify.workflow.run_id") and "dify.node.id" not in found else None
    if tokens is None:
        tokens = 0 if found["dify.node.type"] in ("iteration", "loop") else 1
        tokens *= int(found.get("gen_ai.usage.total_tokens", 0))
    return [Span(payload["traceId"], payload["spanId"], payload.get("parentSpanId"), tokens)]


def langfuse(payload: dict[str, Any]) -> list[Span]:
    if "spanId" not in payload:
        return []  # a score
    usage = json.loads(attributes(payload).get("langfuse.observation.usage_details", "{}"))
    return [Span(payload["traceId"], payload["spanId"], payload.get("parentSpanId"), usage.get("total", 0))]


def opik(payload: dict[str, Any]) -> list[Span]:
    return [
        Span(s["trace_id"], s["id"], s.get("parent_span_id"), s.get("usage", {}).get("total_tokens", 0))
        for s in payload.get("spans", ())
    ]


READERS: dict[str, Callable[[dict[str, Any]], list[Span]]] = {
    "otlp": otlp,
    "langfuse": langfuse,
    "opik": opik,
}


def test_every_sink_of_a_vendor_is_looked_at() -> None:
    assert set(READERS) == set(SETTINGS) == set(VENDORS)


@pytest.mark.parametrize("turn", TRACES)
@pytest.mark.parametrize("sink", READERS)
def test_a_turn_is_one_connected_trace_at_the_sink(tmp_path: Path, sink: str, turn: str) -> None:
    ran = render(tmp_path, sink, TRACES[turn]())
    assert ran.exit_code == 0, ran.output
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert not any("rejected" in row or "dead_letter" in row for row in rows)
    spans = [span for row in rows if "payload" in row for span in READERS[sink](row["payload"])]
    if sink == "otlp" and turn in ("plain_chat", "agent", "prompts"):
        # seed 003 has spans for runs and nodes only
        assert spans == []
        assert {row["filtered"] for row in rows} == {"log_only"}
        return
    assert len({span.trace for span in spans}) == 1
    ids = {span.id for span in spans}
    assert len(ids) == len(spans)
    assert len([span for span in spans if span.parent is None]) == 1
    assert {span.parent for span in spans} - {None} <= ids


@pytest.mark.parametrize(
    ("turn", "tokens"),
    [("chatflow", 1540), ("nested", 1540), ("iteration", 6160), ("plain_chat", 1540), ("agent", 1540)],
)
@pytest.mark.parametrize("sink", READERS)
def test_tokens_are_tokens_and_counted_once_at_the_sink(
    tmp_path: Path, sink: str, turn: str, tokens: int
) -> None:
    ran = render(tmp_path, sink, samples.TURNS[turn]())
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    spans = [span for row in rows if "payload" in row for span in READERS[sink](row["payload"])]
    assert sum(span.tokens for span in spans) == (tokens if spans else 0)
    assert spans or sink == "otlp"


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
        "unplaced message: otlp does not read it",
    ):
        assert f"{where}: {text}" in ran.stderr.splitlines()
        assert f"1 x {text}" in ran.stderr.splitlines()
    assert ran.stderr.splitlines()[-1] == "1 lines: 1 rendered, 1 filtered"


def test_without_explain_there_is_a_summary_only(tmp_path: Path) -> None:
    ran = render(tmp_path, "console", samples.chatflow())
    assert "dify.jsonl:" not in ran.stderr
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
