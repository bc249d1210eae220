"""README.md is short, its examples run, and it names every sink and guarantee."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.config.instances import installed
from connectors.preview.offline import enriched
from connectors.sdk.contract import Batch, Enriched, Item, RecordOrigin, Skip, spec_of
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Delivered, Paused
from tailrace.codec import decode
from tailrace.event_lines import parse
from tailrace.identity import complete
from tailrace.records import Kind, ParentKind, TraceContext, TraceEvent
from tailrace.settings import Settings
from tailrace.topics import TopicNames
from tests.docs.markdown import ROOT, blocks, links, rows
from tests.tailrace.topic import records

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST = 9_000
"""Bytes of README.md: short enough to be read to the end."""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("TAILRACE_")]:
        monkeypatch.delenv(name)


def test_it_is_short() -> None:
    assert len(README.encode()) <= MOST


def test_every_sink_is_linked() -> None:
    ours = {name for name, found in installed().items() if found.value.startswith("connectors.")}
    assert {f"docs/sinks/{name}.md" for name in ours} <= set(links(README))


def test_the_json_line_is_sent_by_every_sink() -> None:
    from tests.docs.test_ids import SINKS

    (line,) = blocks(README, "json")
    (record,) = enriched([complete(parse(line.encode()), 10**15)])
    assert isinstance(record, Enriched)
    for name, sink in SINKS.items():
        assert not isinstance(sink.map(record), Skip), name


def test_every_guarantee_has_its_test() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    holds = page.partition("## What always holds")[2].partition("## ")[0]
    found = [cells for cells in rows(holds) if len(cells) == 2]
    assert len(found) >= 10
    assert [cells[0] for cells in found if "`tests/" not in cells[1]] == []


def _block(word: str) -> str:
    (found,) = [code for code in blocks(README, "python") if word in code]
    return found


@pytest.mark.kafka
def test_the_publishing_example_publishes(
    topics_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = topics_settings(partitions=1)
    monkeypatch.setenv("TAILRACE_TOPICS_PREFIX", settings.topics.prefix)
    code = _block("publisher.publish(").replace("127.0.0.1:9092", settings.kafka.bootstrap_servers)
    exec(compile(code, "README.md", "exec"), {})
    (message,) = records(settings.kafka.bootstrap_servers, TopicNames.of(settings.topics).events)
    event = decode(message.value() or b"", TraceEvent)
    assert (event.kind, event.name, event.input_tokens) == (Kind.SPAN, "answer", 12)


class _Http:
    """Answers with the given statuses and keeps the requests."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.bodies: list[bytes] = []

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        assert (method, url) == ("POST", "https://acme.example/v1/events")
        self.bodies.append(body)
        return Response(self._statuses.pop(0))


def test_the_sink_example_is_a_sink() -> None:
    scope: dict[str, Any] = {}
    exec(compile(_block("@http_sink("), "README.md", "exec"), scope)
    spec = spec_of(scope["acme"])
    assert (spec.name, spec.fields) == ("acme", frozenset({"name", "error"}))
    sink = scope["acme"](spec.settings(endpoint="https://acme.example", compression="none"))
    context = TraceContext(
        generation=0,
        sequence=0,
        source_offset=0,
        appended_at=0,
        span_id=b"12345678",
        parent_kind=ParentKind.NONE,
        marks=(),
        run_trace_id=bytes(16),
        message_trace_id=bytes(16),
        trace_started_at=0,
    )

    def record(**fields: Any) -> Enriched:
        event = TraceEvent(kind=Kind.TOOL, started_at=0, ended_at=1, name="search", **fields)
        return Enriched(event, context, "trace.enriched", 0, 0, 0)

    assert sink.map(record()) == Skip("no_error")
    payload = sink.map(record(error="timeout"))
    batch = Batch((Item(payload, RecordOrigin("trace.enriched", 0, 0, 0)),))
    http = _Http(200, 401, 200)
    assert asyncio.run(sink.send(batch, http)) == Delivered()
    assert json.loads(http.bodies[0]) == [{"id": b"12345678".hex(), "name": "search", "error": "timeout"}]
    assert isinstance(asyncio.run(sink.send(batch, http)), Paused)
    assert asyncio.run(sink.check(http)).ok
