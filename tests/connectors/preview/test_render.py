"""`tailrace render`: what a sink would send, and why it would send nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from connectors.commands.render import render
from connectors.config.instances import Instance
from connectors.delivery.batching import BatchLimits
from connectors.preview.offline import enriched
from connectors.preview.render import render_all, rendered
from connectors.sdk.contract import Batch, Enriched, Health, Payload, Skip
from connectors.sdk.http import Http
from connectors.sdk.outcomes import Delivered, Outcomes, Rejected
from tests.golden.events import FILE, completed


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(json.dumps(e) for e in json.loads(FILE.read_text()).values()) + "\n")
    return path


def run(*arguments: str, stdin: str | None = None) -> tuple[int, list[dict[str, Any]], str]:
    ran = CliRunner().invoke(render, arguments, input=stdin)
    return ran.exit_code, [json.loads(line) for line in ran.stdout.splitlines()], ran.stderr


def test_each_event_is_a_line_in_order(events: Path) -> None:
    code, rows, err = run("console", str(events), "--set", "sinks.console.format=json")
    assert (code, len(rows)) == (0, len(completed()))
    assert [(r["event_id"], r["kind"]) for r in rows] == [(e.event_id, e.kind) for e in completed().values()]
    want = [
        msgspec.to_builtins(r.event.event_id)
        for r in enriched(completed().values())
        if isinstance(r, Enriched)
    ]
    assert [r["payload"]["event"]["event_id"] for r in rows] == want
    assert err == f"{len(rows)} lines: {len(rows)} rendered\n"


def test_an_evaluation_is_a_score_of_what_it_is_about(events: Path) -> None:
    keys = ("--set", "sinks.langfuse.public_key=pk-lf-1", "--set", "sinks.langfuse.secret_key=sk-lf-1")
    code, rows, _ = run("langfuse", str(events), *keys)
    assert code == 0
    found = [r["payload"] for r in rows if r["kind"] == "evaluation"]
    about = [{"traceId", "sessionId", "observationId"} & p.keys() for p in found]
    assert about == [{"traceId", "observationId"}, {"traceId"}, {"traceId"}, {"sessionId"}]
    assert [p["dataType"] for p in found] == ["NUMERIC", "BOOLEAN", "CATEGORICAL", "NUMERIC"]


def test_a_line_has_the_page_of_its_trace_if_the_sink_knows_it(events: Path) -> None:
    keys = ("--set", "sinks.weave.api_key=secret", "--set", "sinks.weave.project=shop")
    code, rows, _ = run("weave", str(events), *keys, "--set", "sinks.weave.entity=acme")
    assert code == 0
    message, *_ = [r for r in rows if r["kind"] == "message"]
    assert message["link"] == f"https://wandb.ai/acme/shop/r/call/{message['payload']['id']}"
    of_turn = [r for r in rows if r["kind"] in ("workflow_run", "moderation", "feedback") and "link" in r]
    assert {r["link"] for r in of_turn if r["payload"].get("thread_id")} == {message["link"]}
    assert not any("link" in r for r in rows if "payload" not in r)
    _, rows, _ = run("weave", str(events), *keys)
    assert not any("link" in r for r in rows)


def test_what_is_not_sent_says_why(events: Path) -> None:
    twice = events.read_text() + events.read_text().splitlines()[0]
    code, rows, err = run("otlp", "-", "--set", "sinks.otlp.endpoint=http://h", stdin=twice)
    assert code == 0
    assert rows[-1]["filtered"] == "duplicate"
    assert [list(r) for r in rows] == [["event_id", "kind", r_key] for r_key in (list(r)[2] for r in rows)]
    assert {list(r)[2] for r in rows} == {"payload", "filtered"}
    assert f"{len(rows)} lines: " in err
    assert " filtered" in err


def test_lines_that_are_not_events_are_named_and_the_others_rendered() -> None:
    good = '{"kind": "tool", "name": "x", "started_at": 1764000000000000, "ended_at": 1764000000000000}'
    lines = [
        good,
        "",
        "{",
        '{"kind": "tool", "started_at": 1764000000000000}',
        good.replace("1", "99999999999999999999"),
        good,
    ]
    code, rows, err = run("console", stdin="\n".join(lines))
    assert (code, len(rows)) == (1, 2)
    said = err.splitlines()
    assert said[0].startswith("stdin:3: line: is not a JSON object")
    assert said[1].startswith("stdin:4: ended_at: is missing")
    assert said[2].startswith("stdin:5: started_at: ")
    assert said[3] == "5 lines: 2 rendered, 3 invalid"


def test_pretty_is_the_same_indented(events: Path) -> None:
    line = events.read_text().splitlines()[0]
    out = CliRunner().invoke(render, ["console", "-", "--pretty"], input=line).stdout
    assert out.startswith('{\n  "event_id": ')
    assert json.loads(out) == run("console", stdin=line)[1][0]


def test_half_a_surrogate_pair_can_be_printed() -> None:
    line = r'{"kind": "tool", "inputs": "\\ud83d", "outputs": "ö", "started_at": 1e15, "ended_at": 1e15}'
    code, rows, _ = run("console", "-", "--set", "sinks.console.format=json", stdin=line)
    assert code == 0
    assert rows[0]["payload"]["event"]["outputs"] == '"ö"'


def test_wrong_settings_end_it_with_2() -> None:
    code, rows, err = run("otlp", stdin="")
    assert (code, rows) == (2, [])
    assert "sinks.otlp" in err
    assert "endpoint" in err


class Fake:
    """A sink without `render`. Its map answers as the event's name says."""

    def map(self, event: Enriched) -> Any:
        answers: dict[str | None, Any] = {
            "message": Payload({"a": (1, b"x")}, 1),
            "moderation": Skip("no_place"),
            "tool": Rejected("too_odd", "because"),
            "span": None,
        }
        if event.event.kind == "feedback":
            raise ValueError("content of the event")
        return answers.get(event.event.kind, Payload(b"\xff\x00", 2))

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        return Delivered()

    async def check(self, http: Http) -> Health:
        return Health(True)


def test_everything_that_map_can_answer_has_its_line() -> None:
    events = completed()
    chosen = [
        events[n] for n in ("message", "moderation", "tool", "span_llm", "feedback_like", "workflow_run")
    ]
    found = list(render_all(Instance("fake", "fake", Fake(), BatchLimits(), None), chosen))
    assert [r.outcome for r in found] == [
        "rendered",
        "filtered",
        "rejected",
        "rejected",
        "rejected",
        "rendered",
    ]
    assert (found[0].payload, found[5].payload) == ({"a": (1, "eA==")}, {"base64": "/wA="})
    assert found[1].filtered == "no_place"
    assert found[2].rejected == {"reason": "too_odd", "detail": "because"}
    assert found[3].rejected == {"reason": "map_failed", "detail": "map returned NoneType"}
    assert isinstance(found[4].rejected, dict)
    assert found[4].rejected["detail"].startswith("ValueError in Fake.map")
    assert "content" not in found[4].rejected["detail"]


def test_what_the_runner_does_before_map_is_done_by_render_too() -> None:
    events = completed()

    def admit(record: Enriched) -> Enriched | Skip:
        if record.event.kind == "message":
            return Skip("sampled_out")
        return msgspec.structs.replace(record, event=msgspec.structs.replace(record.event, inputs=None))

    class Shows(Fake):
        def map(self, event: Enriched) -> Payload:
            return Payload(msgspec.json.encode(event.event.inputs), 1)

    instance = Instance("shows", "shows", Shows(), BatchLimits(), None)
    one, two = render_all(instance, [events["message"], events["workflow_run"]], admit)
    assert (one.filtered, two.payload) == ("sampled_out", None)


def test_a_sinks_own_render_wins() -> None:
    class Own(Fake):
        def render(self, payload: Payload) -> Any:
            return {"size": payload.size}

    assert rendered(Own(), Payload(b"[1]", 7)) == {"size": 7}
    assert rendered(Fake(), Payload(b"[1]", 7)) == [1]
    assert rendered(Fake(), Payload("[NaN]", 7)) == "[NaN]"
    assert rendered(Fake(), Payload("a line", 7)) == "a line"
