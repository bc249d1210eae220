"""`tailrace publish --format dify`, on a broker: what is published, refused, and kept back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import pytest
from click.testing import CliRunner, Result

from tailrace.cli import cli
from tailrace.commands import publish as command
from tailrace.delivery_reports import OnDelivery
from tailrace.errors import QueueFull
from tailrace.publisher import Publisher
from tailrace.records import Kind, TraceEvent
from tailrace.settings import Settings
from tests.ingress.dify import samples
from tests.ingress.dify.converting import events
from tests.ingress.dify.samples import Line, raw, u
from tests.tailrace import topic

pytestmark = pytest.mark.kafka


def publish(made: Settings, lines: Iterable[Line | bytes], *more: str) -> Result:
    given = ["-b", made.kafka.bootstrap_servers, "--set", f"topics.prefix={made.topics.prefix}"]
    stdin = b"\n".join(line if isinstance(line, bytes) else raw(line) for line in lines)
    return CliRunner().invoke(cli, ["publish", "--format", "dify", *given, *more], input=stdin)


def test_a_turn_is_published_with_what_was_filled(topics_settings: Callable[..., Settings]) -> None:
    made = topics_settings()
    ran = publish(made, samples.chatflow())
    assert ran.exit_code == 0, ran.output
    assert ran.stdout == "8 lines, 9 events: 9 delivered\n"
    assert "1 x filled message: made from its run: Dify sends no message of a chatflow" in ran.stderr
    found = topic.published(made)
    assert {e.event_id for e in found} == {e.event_id for e in events(samples.chatflow())}
    assert {e.trace_id for e in found} == {u(3)}


def test_a_line_that_is_kept_back_is_published_at_the_end(topics_settings: Callable[..., Settings]) -> None:
    made = topics_settings()
    ran = publish(made, [samples.node(0x64, 1, 0, 1), samples.moderation(3, 0, 1)], "--json")
    counts = json.loads(ran.stdout)
    notes = {(note["what"], note["field"]): note["count"] for note in counts.pop("notes")}
    assert counts == {
        "lines": 2,
        "delivered": 2,
        "refused": 0,
        "not_delivered": 0,
        "stopped_at": None,
        "interrupted": None,
        "events": 2,
    }
    assert notes[("missing", "workflow_run_id")] == 1
    assert notes[("missing", "message_id")] == 1
    assert len(topic.published(made)) == 2


def test_a_bad_line_is_named_and_nothing_else_is_lost(topics_settings: Callable[..., Settings]) -> None:
    made = topics_settings()
    turn: list[Line | bytes] = [*samples.plain_chat()]
    turn[1:1] = [b"{", {**samples.run(1, 0, 1), "trace_info": None}, samples.moderation(9, None, None)]
    ran = publish(made, turn)
    assert ran.exit_code == 1
    assert ran.stdout == "9 lines, 6 events: 6 delivered, 3 refused\n"
    said = [line.split(": ")[:2] for line in ran.stderr.splitlines() if line.startswith("stdin:")]
    assert said == [["stdin:2", "line"], ["stdin:3", "trace_info"], ["stdin:4", "trace_info.start_time"]]
    assert len(topic.published(made)) == 6


def test_strict_publishes_the_lines_before_the_first_bad_one(
    topics_settings: Callable[..., Settings],
) -> None:
    """Also those that waited."""
    made = topics_settings()
    ran = publish(made, [samples.node(0x64, 1, 0, 1), b"{", samples.run(1, 0, 1)], "--strict")
    assert ran.exit_code == 1
    assert ran.stdout == "2 lines, 1 events: 1 delivered, 1 refused, stopped at stdin:2\n"
    assert [e.source_id for e in topic.published(made)] == [u(0x64)]


@pytest.mark.slow
def test_a_queue_that_stays_full_counts_what_was_kept_back(
    topics_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = topics_settings()

    class Full(Publisher):
        def publish(self, event: TraceEvent, on_delivery: OnDelivery | None = None) -> str:
            if event.kind == Kind.WORKFLOW_RUN:
                raise QueueFull("the queue is full")
            return super().publish(event, on_delivery)

    monkeypatch.setattr(command, "Publisher", Full)
    lines = [samples.node(0x64, 1, 0, 1), samples.moderation(9, 0, 1), samples.run(1, 0, 2, message_id=u(3))]
    ran = publish(made, lines, "--timeout", "10")
    assert ran.exit_code == 1
    assert "stdin:3: stopped; this line and the following ones are not published" in ran.stderr
    assert "2 more events, of lines before that, are not published" in ran.stderr
    assert ran.stdout == "3 lines, 4 events: 1 delivered, stopped at stdin:3\n"
    assert [e.kind for e in topic.published(made)] == [Kind.MESSAGE]
