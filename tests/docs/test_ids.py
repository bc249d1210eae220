"""docs/ids.md: every sink and kind is in its tables, and every cell is what the mappings make."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from hashlib import blake2b, sha256
from typing import Any, Final

import msgspec
import pytest

from connectors.config.instances import installed
from connectors.preview.offline import enriched
from connectors.sdk.contract import Enriched, Payload, Skip
from connectors.sinks.alibaba.sink import Alibaba
from connectors.sinks.langfuse.sink import Langfuse
from connectors.sinks.opik.sink import Opik
from connectors.sinks.otlp.sink import Otlp
from connectors.sinks.weave import Weave
from tailrace.identity import complete
from tailrace.records import Evaluation, Kind, ParentKind, TraceEvent
from tests.docs.markdown import ROOT, rows
from tests.golden.events import completed, golden

TEXT: Final = (ROOT / "docs" / "ids.md").read_text(encoding="utf-8")
SENT, MADE = TEXT.split("## What the context's ids are made of")
PROJECT: Final = "of ids"
NOW: Final = 1_764_000_000_000_000
SINKS: Final[dict[str, Any]] = {
    "alibaba": Alibaba(Alibaba.Settings(endpoint="http://alibaba", license_key="key")),
    "langfuse": Langfuse(Langfuse.Settings(public_key="pk", secret_key="sk")),
    "opik": Opik(Opik.Settings(url="http://opik", project_name=PROJECT)),
    "otlp": Otlp(Otlp.Settings(endpoint="http://collector")),
    "weave": Weave(Weave.Settings(api_key="key", entity="acme", project=PROJECT)),
}
NONE, FILTERED = "none", "filtered"
Ids = tuple[str | None, str | None, str | None]
"""Trace, own, parent."""


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rules() -> Iterator[tuple[str, str, list[str]]]:
    for cells in rows(SENT):
        if len(cells) == 5 and cells[0] in SINKS:
            for kind in names(cells[1]):
                yield cells[0], kind, [c.strip("`") for c in cells[2:]]


def origins() -> Iterator[tuple[str, list[str]]]:
    for cells in rows(MADE):
        if len(cells) == 5:
            for kind in names(cells[0]):
                yield kind, [c.strip("`") for c in cells[1:]]


def records() -> dict[str, Enriched]:
    """The golden records, and a nested run that a node of another run calls, with a node of its own."""
    events = completed()
    caller = events["node_tool"]
    nested = {
        "root_trace_id": caller.message_id,
        "root_run_id": caller.workflow_run_id,
        "root_started_at": caller.started_at,
        "parent_run_id": caller.workflow_run_id,
        "parent_node_execution_id": caller.source_id,
        "parent_trace_id": caller.trace_id,
        "event_id": None,
        "message_id": None,
        "workflow_run_id": "run-inside",
        "trace_id": "run-inside",
    }
    run = msgspec.structs.replace(events["workflow_run_alone"], source_id="run-inside", **nested)
    node = msgspec.structs.replace(events["node_llm"], source_id="node-inside", **nested)
    inside = [complete(e, run.published_at or 0) for e in (run, node)]
    named = [complete(_named(e), run.published_at or 0) for e in events.values()]
    found = [r for r in enriched([*events.values(), *inside, *named]) if isinstance(r, Enriched)]
    assert len(found) == len(events) + len(inside) + len(named)
    others = dict(zip((f"{n} of a trace that is named" for n in events), found[-len(named) :], strict=True))
    return golden() | {"nested run": found[len(events)], "node of it": found[len(events) + 1]} | others


def _named(event: TraceEvent) -> TraceEvent:
    """The same operation from a publisher that sets the event's trace, message and run itself."""
    ids = {name: f"{name} of {event.kind}" for name in ("trace_id", "message_id", "workflow_run_id")}
    again: dict[str, Any] = {"event_id": None, "source_id": f"again {event.source_id}", "otel_trace_id": None}
    about_trace = event.kind == Kind.EVALUATION and event.evaluation_target != "session"
    if event.kind == Kind.FEEDBACK or about_trace:  # Opik must know the start of the root
        ids["message_id"] = ids["trace_id"]
        again |= {"root_trace_id": ids["trace_id"], "root_started_at": event.started_at}
    return msgspec.structs.replace(event, **again, **ids)


RECORDS: Final = records()


# -- the rules, on their own
def hash8(text: str | None) -> bytes | None:
    return None if text is None else sha256(text.encode()).digest()[:8]


def hash16(*texts: str | None) -> bytes | None:
    if None in texts:
        return None
    try:
        return uuid.UUID("\0".join(t or "" for t in texts)).bytes
    except ValueError:
        return sha256("\0".join(t or "" for t in texts).encode()).digest()[:16]


def uuid7(us: int, *parts: str | bytes | None) -> str | None:
    if None in parts:
        return None
    name = b"".join(p if isinstance(p, bytes) else f"{p}\0".encode() for p in parts)
    hashed = int.from_bytes(blake2b(name, digest_size=10).digest()) & (1 << 76) - 1
    high, low = hashed >> 64, hashed & (1 << 62) - 1
    return str(uuid.UUID(int=us // 1000 << 80 | 7 << 76 | high << 64 | 2 << 62 | low))


def computed(rule: str, record: Enriched, fields: Any) -> Any:
    """A rule with its names looked up in `fields`, an event or a context."""
    event, context = record.event, record.context
    origin = event.origin

    def rater() -> str | None:
        given = None if origin is None else origin.from_end_user_id or origin.from_account_id
        return given or event.user_id

    functions: dict[str, Callable[..., Any]] = {
        "hex": lambda x: None if x is None else x.hex(),
        "hash8": hash8,
        "hash16": hash16,
        "uuid": lambda x: None if x is None else str(uuid.UUID(bytes=x)),
        "uuid7": uuid7,
        "first": lambda *xs: next((x for x in xs if x is not None), None),
        "operation": lambda x: None if context.parent_kind == ParentKind.MESSAGE else x,
        "called": lambda x: None if context.root_trace_id is None else x,
        "traced": lambda x: None if context.root_trace_id is None else x,
    }

    def value(text: str) -> Any:
        call = re.fullmatch(r"(\w+)\((.*)\)", text)
        if call is not None:
            return functions[call[1]](*map(value, _arguments(call[2])))
        match text:
            case "none":
                return None
            case "project":
                return PROJECT
            case "rater":
                return rater()
            case "user-feedback" | "wandb.reaction.1" | "tailrace.evaluation.":
                return text
            case "call":
                root = context.root_trace_id or ""
                return (context.parent_span_id or hash8(root) or b"").hex()
            case "message_id" | "source_id":
                return getattr(event, text)
            case _:
                return getattr(fields, text)

    return value(rule)


def _arguments(text: str) -> list[str]:
    """Splits at the commas outside of parentheses."""
    return [a.strip() for a in re.findall(r"(?:[^,(]|\([^()]*(?:\([^()]*\)[^()]*)*\))+", text)]


# -- what the sinks make
def sent(sink: str, record: Enriched) -> Ids | None:
    """None: filtered."""
    payload = SINKS[sink].map(record)
    if isinstance(payload, Skip):
        return (None, None, None) if payload.reason == "no_call" else None
    assert isinstance(payload, Payload), payload
    shown = SINKS[sink].render(payload)
    if sink == "weave":
        if "id" in shown:
            return shown["trace_id"], shown["id"], shown.get("parent_id")
        [first, *_] = shown.get("deleted_feedback") or [each["id"] for each in shown["feedback"]]
        return None, first, None
    if sink == "opik":
        if "spans" not in shown:
            [[score]] = [v for v in shown.values() if v]
            return None, score.get("id") or score["thread_id"], None
        [span] = shown["spans"]
        assert [t["id"] for t in shown.get("traces", ())] in ([], [span["trace_id"]])
        return span["trace_id"], span["id"], span.get("parent_span_id")
    if "dataType" in shown:
        return shown.get("traceId"), shown["id"], shown.get("observationId")
    return shown["traceId"], shown["spanId"], shown.get("parentSpanId") or None


def test_every_sink_of_a_vendor_is_listed() -> None:
    ours = {name for name, found in installed().items() if found.value.startswith("connectors.")}
    assert set(SINKS) == ours - {"console", "file"}  # these make no ids


def test_no_sink_and_kind_is_listed_twice() -> None:
    """That each is there once is tested in tests/test_kinds.py."""
    found = [(sink, kind) for sink, kind, _ in rules()]
    assert len(found) == len(set(found))


def test_every_kind_that_is_sent_has_its_origin_once() -> None:
    found = [kind for kind, _ in origins()]
    assert sorted(found) == sorted({kind for _, kind, cells in rules() if cells[0] != FILTERED})


def test_every_kind_has_a_record() -> None:
    assert {str(r.event.kind) for r in RECORDS.values()} == {kind for _, kind, _ in rules()}


@pytest.mark.parametrize(("sink", "kind", "cells"), list(rules()))
def test_a_row_says_what_the_sink_sends(sink: str, kind: str, cells: list[str]) -> None:
    for name, record in RECORDS.items():
        if record.event.kind != kind:
            continue
        want = None if cells == [FILTERED] * 3 else tuple(computed(c, record, record.context) for c in cells)
        assert sent(sink, record) == want, name


@pytest.mark.parametrize(("kind", "cells"), list(origins()))
def test_a_row_says_what_the_context_has(kind: str, cells: list[str]) -> None:
    for name, record in RECORDS.items():
        if record.event.kind != kind:
            continue
        context = record.context
        has = (context.message_trace_id, context.run_trace_id, context.span_id, context.parent_span_id)
        for what, rule in zip(has, cells, strict=True):
            if rule != "learned":
                assert what == computed(rule, record, record.event), f"{name}: {rule}"


def test_the_trace_id_that_a_publisher_does_not_give() -> None:
    table = {n: cells[1] for cells in rows(MADE) if len(cells) == 2 for n in names(cells[0])}
    others = next(cells[1] for cells in rows(MADE) if cells[0] == "all others")
    for kind in sorted({kind for _, kind, _ in rules()}):
        rule = table.get(kind, others).strip("`")
        for run, message in ((None, None), ("R", None), ("R", "M")):
            if kind == Kind.EVALUATION and run is None:
                continue  # refused: it names no trace
            event = TraceEvent(
                kind=Kind(kind),
                started_at=NOW,
                ended_at=NOW,
                source_id="S",
                workflow_run_id=run,
                message_id=message,
                name="n",
                evaluation=Evaluation(flag=True) if kind == Kind.EVALUATION else None,
            )
            what = kind, run, message
            record = msgspec.structs.replace(RECORDS["message"], event=event)
            assert complete(event, NOW).trace_id == computed(rule, record, event), what
            named = msgspec.structs.replace(event, trace_id="T")
            assert complete(named, NOW).trace_id == {"none": None, "source_id": "S"}.get(rule, "T"), what


def test_every_rule_is_explained() -> None:
    used = {
        n
        for line in (SENT, MADE)
        for cells in rows(line)
        if len(cells) == 5
        for c in cells
        for n in re.findall(r"(\w+)\(", c)
    }
    explained = {n for cells in rows(SENT) if len(cells) == 2 for n in re.findall(r"`(\w+)\(", cells[0])}
    assert used == explained
