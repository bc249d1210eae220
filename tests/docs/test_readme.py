"""What README.md says is so: its code runs, its commands exist, its settings are all there with their
defaults."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.config.instances import Common, sink_class
from connectors.sdk.contract import Batch, Enriched, Item, RecordOrigin, Skip, spec_of
from connectors.sdk.http import Response
from connectors.sdk.outcomes import Delivered, Paused
from tailrace.codec import decode
from tailrace.commands.options import settings_from
from tailrace.event_lines import parse
from tailrace.identity import complete
from tailrace.records import Kind, ParentKind, TraceContext, TraceEvent
from tailrace.settings import Settings, load
from tailrace.topics import TopicNames
from tests.docs.markdown import (
    PAGES,
    ROOT,
    anchors,
    blocks,
    commands,
    label,
    links,
    named_tests,
    parsed,
    rows,
)
from tests.tailrace.topic import records

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
SECTIONS = {f.name: f.type for f in msgspec.structs.fields(Settings) if f.name != "sinks"}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("TAILRACE_")]:
        monkeypatch.delenv(name)


# -- every page
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
    """Every sink instance names settings that its sink has; of a sink that is only an example, nothing is
    known."""
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
def test_tests_that_are_named_exist(page: Path) -> None:
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


# -- README.md
def _default(field: Any) -> str:
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return json.dumps(value)


def test_every_setting_is_in_the_table_with_its_variable_and_default() -> None:
    want = {
        f"{section}.{field.name}": (f"TAILRACE_{section}_{field.name}".upper(), _default(field))
        for section, cls in SECTIONS.items()
        for field in msgspec.structs.fields(cls)
    }
    found = {
        cells[0].strip("`"): (cells[1].strip("`"), cells[2].strip("`"))
        for cells in rows(README)
        if cells[0].startswith("`") and cells[0].strip("`").partition(".")[0] in SECTIONS and len(cells) == 4
    }
    assert found == want


def test_what_every_sink_takes_is_in_the_table() -> None:
    found = {cells[0] for cells in rows(README) if cells[0].startswith("`sinks.<name>.")}
    assert found == {f"`sinks.<name>.{f.name}`" for f in msgspec.structs.fields(Common)} | {
        "`sinks.<name>.…`",
        "`sinks.<name>.<secret>_file`",
    }


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
    """Answers with the statuses given, and keeps what it is sent."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.bodies: list[bytes] = []

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        assert url == "https://acme.example/v1"
        self.bodies.append(body)
        return Response(self._statuses.pop(0))


def test_the_sink_example_is_a_sink() -> None:
    scope: dict[str, Any] = {}
    exec(compile(_block("@sink("), "README.md", "exec"), scope)
    spec = spec_of(scope["Acme"])
    assert (spec.name, spec.max_records) == ("acme", 100)
    sink = scope["Acme"](spec.settings(endpoint="https://acme.example/v1"))
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

    def enriched(**fields: Any) -> Enriched:
        event = TraceEvent(kind=Kind.TOOL, started_at=0, ended_at=1, name="search", **fields)
        return Enriched(event, context, "trace.enriched", 0, 0, 0)

    assert sink.map(enriched()) == Skip("no_error")
    payload = sink.map(enriched(error="timeout"))
    batch = Batch((Item(payload, RecordOrigin("trace.enriched", 0, 0, 0)),))
    http = _Http(200, 401)
    assert asyncio.run(sink.send(batch, http)) == Delivered()
    assert json.loads(http.bodies[0]) == [{"id": b"12345678".hex(), "name": "search", "error": "timeout"}]
    assert isinstance(asyncio.run(sink.send(batch, http)), Paused)
    assert asyncio.run(sink.check(http)).ok
