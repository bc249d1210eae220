"""Turns of Dify through the adapter, the processor and each vendor's sink, read back from the payloads:
one connected trace a turn, with the parents and the tokens that the turn has, and nothing lost in silence."""

from __future__ import annotations

import copy
import functools
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.preview.render import Rendered
from tailrace.kinds import FACTS
from tailrace.records import Kind, TraceEvent
from tests.connectors.vendors import VENDORS
from tests.ingress.dify import samples
from tests.ingress.dify.converting import converted, events
from tests.ingress.dify.reading import NONE, READERS, SETTINGS, Span, Tokens, rows
from tests.ingress.dify.samples import OTHER_APP, Line, u

SINKS = sorted(READERS)
SPANS_OF_OTLP = frozenset({Kind.WORKFLOW_RUN, Kind.NODE_EXECUTION, Kind.DRAFT_NODE_EXECUTION})
"""Seed 003 has spans for these only; the others are logs, which Dify's own exporter writes."""
CALL: Tokens = (1200, 340, 1540)
"""Tokens of one call of a model in the samples."""


def times(calls: int) -> Tokens:
    one, two, three = (calls * count for count in CALL)
    return one, two, three


# -- turns


def everything() -> list[Line]:
    """A chatflow: an iteration of two parallel items, each a nested workflow, one of them with a loop; an
    agent with tools and a retrieval; and all that runs beside a message."""
    of_message = {"message_id": u(3), "conversation_id": u(0x50)}
    agent = {"workflow_run_id": u(1), "node_execution_id": u(0x66)}
    lines = [samples.moderation(3, 0.01, 0.02), samples.node(0x64, 1, 0.05, 0.06, "start")]
    for item, run in ((0, 2), (1, 4)):
        caller = {"parent_workflow_run_id": u(1), "parent_node_execution_id": u(0x80 + item)}
        lines += [
            samples.llm(0x90 + item, run, 1.2, 1.5, app=OTHER_APP, **again(item)),
            samples.run(run, 1.1, 1.9, parent=caller, app=OTHER_APP, total_tokens=1540),
            samples.node(
                0x80 + item,
                1,
                1,
                2,
                "tool",
                iteration_id="each",
                iteration_index=item,
                parallel_id=f"p{item}",
            ),
        ]
    lines.insert(-1, samples.node(0x92, 4, 1.15, 1.6, "loop", node_id="again", app=OTHER_APP))
    return [
        *lines,
        samples.node(0x65, 1, 0.9, 2.1, "iteration", node_id="each", total_tokens=3080),
        samples.tool(3, 2.3, 2.4, metadata={**agent, "tool_name": "track_parcel"}),
        samples.tool(3, 2.5, 2.6, "send_mail", metadata={**agent, "tool_name": "send_mail"}),
        samples.retrieval(3, 2.6, 2.7),
        samples.llm(0x66, 1, 2.2, 3, node_type="agent", node_id="agent"),
        samples.name(0.5, 0.9),
        samples.run(1, 0, 4, total_tokens=4620, prompt_tokens=3600, completion_tokens=1020, **of_message),
        samples.suggested(3, 4.2, 5),
        samples.feedback(3),
    ]


def again(item: int) -> Line:
    return {"loop_id": "again", "loop_index": 0} if item else {}


BESIDE = {"moderation": "message 3", "generate_name": "message 3", "suggested_question": "message 3"}
TURNS: dict[str, tuple[Callable[[], list[Line]], dict[str, str | None], Tokens]] = {
    "chatflow": (
        samples.chatflow,
        {"message 3": None, "run 1": "message 3", **dict.fromkeys(("64", "65", "66"), "run 1"), **BESIDE},
        times(1),
    ),
    "plain chat": (
        samples.plain_chat,
        {"message 3": None, "dataset_retrieval": "message 3", **BESIDE},
        times(1),
    ),
    "agent with tools": (
        samples.agent,
        {
            "message 3": None,
            "track_parcel 1": "message 3",
            "track_parcel 2": "message 3",
            "send_mail": "message 3",
        },
        times(1),
    ),
    "nested workflows as tools": (
        samples.nested,
        {
            "message 3": None,
            "run 1": "message 3",
            "64": "run 1",
            "65": "run 1",
            "run 2": "65",
            "67": "run 2",
            "68": "run 2",
            "run 4": "68",
            "69": "run 4",
        },
        times(1),
    ),
    "iteration with parallel loops": (
        samples.iteration,
        {
            "run 1": None,
            "64": "run 1",
            "65": "run 1",
            "70": "65",
            "71": "65",
            "80": "70",
            "81": "70",
            "82": "71",
            "83": "71",
        },
        times(4),
    ),
    "everything": (
        everything,
        {
            "message 3": None,
            "run 1": "message 3",
            "64": "run 1",
            "65": "run 1",
            "66": "run 1",
            "80": "65",
            "81": "65",
            "run 2": "80",
            "90": "run 2",
            "run 4": "81",
            "92": "run 4",
            "91": "92",
            "track_parcel": "66",
            "send_mail": "66",
            "dataset_retrieval": "message 3",
            **BESIDE,
        },
        times(3),
    ),
    "a draft": (lambda: [samples.draft(0x6A, node_type="code")], {"draft 6a": None}, NONE),
    "a generated prompt": (lambda: [samples.prompt()], {"prompt_generation": None}, (100, 200, 300)),
}
"""Name -> its lines; what -> its parent, by hand; its tokens."""


def named(found: list[TraceEvent]) -> dict[str, TraceEvent]:
    """What the trees above call an event -> the event. Those with ids of ours are named by what they are."""
    names: dict[str, TraceEvent] = {}
    tools = [event.tool_name for event in found if event.kind == Kind.TOOL]
    seen: dict[str | None, int] = {}
    for event in sorted(found, key=lambda e: e.started_at):
        kind, number = str(event.kind.value), event.source_id or ""
        digits = number[:8].lstrip("0")
        if event.kind == Kind.TOOL:
            seen[event.tool_name] = seen.get(event.tool_name, 0) + 1
            own = f" {seen[event.tool_name]}" if tools.count(event.tool_name) > 1 else ""
            kind = f"{event.tool_name}{own}"
        elif event.kind == Kind.NODE_EXECUTION:
            kind = digits
        elif event.kind in (Kind.MESSAGE, Kind.WORKFLOW_RUN, Kind.DRAFT_NODE_EXECUTION):
            short = {Kind.WORKFLOW_RUN: "run", Kind.DRAFT_NODE_EXECUTION: "draft"}.get(event.kind, kind)
            kind = f"{short} {digits}"
        assert kind not in names
        names[kind] = event
    return names


def at(sink: str, found: list[TraceEvent]) -> tuple[dict[str, tuple[Span, TraceEvent]], list[Rendered]]:
    """What a sink has of the events, by their names in the trees, and its answer to each event."""
    answers = rows(sink, found)
    ids = {event.event_id: name for name, event in named(found).items()}
    spans = {}
    for row, event in zip(answers, found, strict=True):
        assert row.outcome in ("rendered", "filtered"), row
        read = READERS[sink](row.payload) if row.outcome == "rendered" else []
        assert len(read) <= 1
        for span in read:
            spans[ids[event.event_id]] = span, event
    return spans, answers


def is_one_trace(spans: list[Span]) -> None:
    """One trace, one root, every parent in it, and no circle."""
    assert len({span.trace for span in spans}) == 1
    parents = {span.id: span.parent for span in spans}
    assert len(parents) == len(spans)
    assert [span.parent for span in spans].count(None) == 1
    assert set(parents.values()) - {None} <= parents.keys()
    for own in parents:
        above: list[str] = []
        at: str | None = own
        while at is not None:
            assert at not in above
            above.append(at)
            at = parents[at]


def checked(sink: str, lines: list[Line], tree: dict[str, str | None]) -> dict[str, tuple[Span, TraceEvent]]:
    """The spans at a sink, which are one trace of that shape and all that it sends."""
    found = events(lines)
    spans, answers = at(sink, found)
    sent = {name for name, event in named(found).items() if event.kind != Kind.FEEDBACK}
    if sink == "otlp":
        kinds = named(found)
        sent = {name for name in sent if kinds[name].kind in SPANS_OF_OTLP}
        tree = {name: parent if parent in sent else None for name, parent in tree.items() if name in sent}
    assert spans.keys() == sent
    left = [row for row in answers if row.outcome == "filtered"]
    filtered = {(row.kind, row.filtered) for row in left}
    logs = {str(event.kind.value) for event in found if event.kind not in SPANS_OF_OTLP}
    expected = {"otlp": logs, "alibaba": logs & {"feedback"}}.get(sink, set())
    assert filtered == {(kind, "log_only") for kind in expected}
    if spans:
        is_one_trace([span for span, _ in spans.values()])
    by_id = {span.id: name for name, (span, _) in spans.items()}
    assert {n: None if s.parent is None else by_id[s.parent] for n, (s, _) in spans.items()} == tree
    rated = [row for row in answers if row.kind == "feedback" and row.outcome == "rendered"]
    roots = [span for span, _ in spans.values() if span.parent is None]
    for row in rated:
        assert target(row) in {(sink, roots[0].trace), (sink, roots[0].id)}
    return spans


def target(row: Rendered) -> tuple[str, str]:
    """The trace or call that a rating is on."""
    payload: Any = row.payload
    if "scores" in payload:
        return "opik", payload["scores"][0]["id"]
    if "feedback" in payload:
        return "weave", payload["feedback"][0]["weave_ref"].rsplit("/", 1)[1]
    return "langfuse", payload["traceId"]


def added(spans: dict[str, tuple[Span, TraceEvent]]) -> Tokens:
    one, two, three = (sum(span.tokens[i] for span, _ in spans.values()) for i in range(3))
    return one, two, three


# -- as Dify writes them


def test_all_vendors_all_classes_and_all_kinds_are_looked_at() -> None:
    assert set(READERS) == set(SETTINGS) == set(VENDORS)
    lines = [line for turn, _, _ in TURNS.values() for line in turn()]
    assert {line["trace_info_type"] for line in lines if "trace_info" in line} == set(samples.CLASSES)
    kinds = {event.kind for turn, _, _ in TURNS.values() for event in events(turn())}
    not_of_a_turn = {"span", "evaluation", "link", "unknown", "rehydration_failed"}
    apps = {"app_created", "app_updated", "app_deleted"}
    assert {kind.value for kind in FACTS} - {kind.value for kind in kinds} <= not_of_a_turn | apps


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("sink", SINKS)
def test_a_turn_is_one_trace_with_its_parents_and_its_tokens(sink: str, turn: str) -> None:
    lines, tree, tokens = TURNS[turn]
    spans = checked(sink, lines(), tree)
    in_spans = tokens if sink != "otlp" or any(name.startswith("run ") for name in tree) else NONE
    assert added(spans) == in_spans


@pytest.mark.parametrize("turn", ["chatflow", "nested workflows as tools", "everything"])
def test_all_sinks_have_the_same_tokens_and_the_four_with_messages_the_same_tree(turn: str) -> None:
    found = events(TURNS[turn][0]())
    spans = {sink: at(sink, found)[0] for sink in SINKS}
    assert len({added(one) for one in spans.values()}) == 1
    assert len({frozenset(one) for sink, one in spans.items() if sink != "otlp"}) == 1


# -- as they may come

Change = Callable[[list[Line]], list[Line]]
ODD_IDS = {
    "hex": "4bf92f3577b34da6a3ce929d0e0e4736",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "dashed": u(9),
    "zeros": "0" * 32,
    "nil": "00000000-0000-0000-0000-000000000000",
    "words": "order_A-1001",
    "long": "Z" * 128,
    "digit": "0",
    "not ascii": "Bestellung №7 – ü",
    "that of its message": u(3),
    "that of its run": u(1),
}


def with_external(external: Any) -> Change:
    def change(lines: list[Line]) -> list[Line]:
        for line in lines:
            if "trace_info" in line:
                line["trace_info"]["trace_id"] = external
        return lines

    return change


def aware(lines: list[Line]) -> list[Line]:
    """All times with a zone, each line with another one."""
    zones = [ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/St_Johns"), UTC]
    for number, line in enumerate(lines):
        info: dict[str, Any] = line.get("trace_info") or line.get("payload") or {}
        for name in ("start_time", "end_time", "created_at"):
            if info.get(name):
                moment = datetime.fromisoformat(info[name]).replace(tzinfo=UTC)
                info[name] = moment.astimezone(zones[number % 3]).isoformat()
    return lines


STRUCTURE = frozenset(
    {
        "message_id",
        "conversation_id",
        "workflow_run_id",
        "node_execution_id",
        "node_id",
        "node_type",
        "iteration_id",
        "iteration_index",
        "loop_id",
        "loop_index",
        "tool_name",
        "tool_inputs",
        "start_time",
        "end_time",
        "parent_trace_context",
    }
)


def bare(lines: list[Line]) -> list[Line]:
    """Only what says where an operation belongs and when it was: no tenant, application, status, content."""
    for line in lines:
        if "trace_info" in line:
            info = {k: v for k, v in line["trace_info"].items() if k in STRUCTURE}
            metadata = {k: v for k, v in line["trace_info"]["metadata"].items() if k in STRUCTURE}
            line["trace_info"] = {**info, "metadata": metadata}
    return lines


def shuffled(lines: list[Line]) -> list[Line]:
    """Ratings, which do not wait, stay last."""
    first = [line for line in lines if "trace_info" in line]
    random.Random(12).shuffle(first)
    return [*first, *(line for line in lines if "trace_info" not in line)]


def twice(lines: list[Line]) -> list[Line]:
    return [*lines, *copy.deepcopy(lines)]


def reversed_(lines: list[Line]) -> list[Line]:
    first = [line for line in lines if "trace_info" in line]
    return [*reversed(first), *(line for line in lines if "trace_info" not in line)]


CHANGES: dict[str, Change] = {
    "zones": aware,
    "bare": bare,
    "shuffled": shuffled,
    "reversed": reversed_,
    **{f"external id: {name}": with_external(text) for name, text in ODD_IDS.items()},
}


@functools.cache
def as_written(sink: str, turn: str) -> dict[str, tuple[Span, TraceEvent]]:
    lines, tree, _ = TURNS[turn]
    return checked(sink, lines(), tree)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sink", SINKS)
def test_a_turn_is_the_same_trace_however_it_is_written(sink: str, change: str) -> None:
    for turn, (lines, tree, _) in TURNS.items():
        if change == "bare" and turn == "a generated prompt":
            continue  # it has no times, and nothing else says when it was
        plain = as_written(sink, turn)
        spans = checked(sink, CHANGES[change](lines()), tree)
        if plain and change != "bare":
            assert added(spans) == added(plain)
        traces = {span.trace for span, _ in plain.values()}
        own = "a generated prompt" if change.startswith("external") else ""  # its id is a hash of its line
        assert turn == own or {span.trace for span, _ in spans.values()} == traces, "the id is not theirs"


@pytest.mark.parametrize("sink", SINKS)
def test_a_callers_id_is_at_the_sink_as_it_was_given(sink: str) -> None:
    for text in ODD_IDS.values():
        [run] = [
            event
            for event in events(with_external(text)(samples.chatflow()))
            if event.workflow_run is not None
        ]
        [row] = rows(sink, [run], explain=True)
        assert isinstance(row.unplaced, list)
        listed = "external_trace_id" in row.unplaced
        assert listed or text in json.dumps(row.payload, ensure_ascii=False)
        assert sink == "otlp" or not listed


@pytest.mark.parametrize("sink", SINKS)
def test_a_file_that_is_published_twice_is_the_same_trace_and_the_copies_are_duplicates(sink: str) -> None:
    lines, tree, tokens = TURNS["everything"]
    once = events(lines())
    again = events(twice(lines()))
    assert {e.event_id for e in again} == {e.event_id for e in once}
    copies = [row for row in rows(sink, again, explain=True) if row.filtered == "duplicate"]
    assert len(copies) == len(again) - len(once) > 0
    assert [row.unplaced for row in copies if isinstance(row.unplaced, list)] == []
    first: dict[str | None, TraceEvent] = {}
    for event in again:
        first.setdefault(event.event_id, event)
    assert added(at(sink, list(first.values()))[0]) == tokens
    assert at(sink, list(first.values()))[0].keys() == checked(sink, lines(), tree).keys()


def moved(lines: list[Line], by: int, tenant: str = samples.TENANT) -> list[Line]:
    """The same turn with other ids."""
    text = json.dumps(lines)
    for number in [*range(1, 5), 0x50, *range(0x64, 0x95)]:
        text = text.replace(u(number), u(number + by))
    found: list[Line] = json.loads(text.replace(samples.TENANT, tenant))
    return found


@pytest.mark.parametrize("sink", SINKS)
def test_turns_whose_lines_are_mixed_are_traces_of_their_own(sink: str) -> None:
    """Three turns at the same time, line by line, one of them of another tenant."""
    turns = [moved(everything(), 0x1000 * n, "other" if n == 2 else samples.TENANT) for n in range(3)]
    mixed = [line for lines in zip(*turns, strict=True) for line in lines]
    found = events(mixed)
    traces: dict[str, list[tuple[Span, TraceEvent]]] = {}
    for row, event in zip(rows(sink, found), found, strict=True):
        spans = READERS[sink](row.payload) if row.outcome == "rendered" else []
        for span in spans:
            traces.setdefault(span.trace, []).append((span, event))
    assert len(traces) == 3
    for members in traces.values():
        is_one_trace([span for span, _ in members])
        assert len({event.tenant_id for _, event in members}) == 1
        assert len({event.root_trace_id for _, event in members}) == 1
    sizes = {len(members) for members in traces.values()}
    assert sizes == {len(checked(sink, everything(), TURNS["everything"][1]))}


# -- nothing is lost in silence


def marked(line: Line) -> tuple[Line, dict[str, str]]:
    """A line with another text or number in each field whose value may be any, and field -> what is there."""
    line, marks = copy.deepcopy(line), {}
    fixed = ("start_time", "end_time", "tenant_id", "app_id", "message_id", "conversation_id", "currency")
    ids = ("workflow_run_id", "node_execution_id", "iteration_id", "loop_id", "parent_trace_context")
    for holder, path in ((line["trace_info"], "trace_info"), (line["trace_info"]["metadata"], "metadata")):
        for number, (name, value) in enumerate(list(holder.items()), 1):
            if name in fixed + ids or name == "metadata":
                continue
            if path == "metadata" and name in line["trace_info"]:
                continue  # the same once more
            mark = 4200 + number
            if isinstance(value, bool):
                continue
            if isinstance(value, (int, float)):
                holder[name] = mark
                marks[f"{path}.{name}"] = str(mark)
            elif value is None or isinstance(value, str):
                holder[name] = f"{path}-{name}"
                marks[f"{path}.{name}"] = f"{path}-{name}"
            elif isinstance(value, dict):
                holder[name] = {**value, "mark": f"{path}-{name}"}
                marks[f"{path}.{name}"] = f"{path}-{name}"
    return line, marks


@pytest.mark.parametrize("cls", samples.CLASSES)
def test_every_value_of_a_line_is_in_its_event_or_the_line_says_that_it_is_not(cls: str) -> None:
    line, marks = marked(samples.CLASSES[cls])
    assert len(marks) >= 3
    found = converted([line])
    [event] = [one.event for one in found if one.event is not None and one.event.kind != Kind.MESSAGE] or [
        one.event for one in found if one.event is not None
    ]
    text = repr(event)
    said = {note.field.removeprefix("trace_info.") for one in found for note in one.notes}
    lost = [
        path
        for path, mark in marks.items()
        if mark not in text and path.removeprefix("trace_info.") not in said
    ]
    assert lost == []


@pytest.mark.parametrize("sink", SINKS)
def test_every_value_of_an_event_is_in_the_payload_or_listed(sink: str) -> None:
    """Not listed: it is there. Listed: it is not."""
    found = events(everything()) + events([samples.draft(0x6A)]) + events([samples.prompt()])
    looked_at = listed = 0
    for event, row in zip(found, rows(sink, found, explain=True), strict=True):
        if row.outcome != "rendered":
            assert row.unplaced == [row.kind]
            continue
        texts, left = json.dumps(row.payload, ensure_ascii=False), row.unplaced
        assert isinstance(left, list)
        for path, value in values_of(event):
            if not isinstance(value, str) or len(value) < 8 or value[0] in '{["':
                continue
            inside = value in texts
            is_listed = path in left or path.partition(".")[0] in left
            assert inside or is_listed, (row.kind, path, value)
            assert not (is_listed and json.dumps(value, ensure_ascii=False) in texts), (row.kind, path)
            looked_at, listed = looked_at + 1, listed + is_listed
    assert looked_at > 50
    assert listed or sink == "opik"


def values_of(event: TraceEvent) -> list[tuple[str, Any]]:
    """The fields of an event that a sink may show, and those of its body, by their paths."""
    ours = {"event_id", "source_id", "trace_id", "kind", "status"}  # the status is that of the span
    found: list[tuple[str, Any]] = []
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name in ours or name.startswith(("root_", "parent_")):
            continue
        if hasattr(value, "__struct_fields__"):
            found += [(f"{name}.{inner}", getattr(value, inner)) for inner in value.__struct_fields__]
        else:
            found.append((name, value))
    return found
