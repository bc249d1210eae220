"""What a payload has no place for: found by mapping without it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connectors.config.instances import Instance
from connectors.delivery.batching import BatchLimits
from connectors.preview.offline import enriched
from connectors.preview.render import render_all
from connectors.preview.unplaced import unplaced, unread
from connectors.sdk.contract import Batch, Enriched, Health, Payload, Skip
from connectors.sdk.http import Http
from connectors.sdk.outcomes import Delivered, Outcomes
from tailrace.identity import complete
from tailrace.records import Kind, NodeExecution, TraceEvent

NOW = 1_772_370_000_000_000
IDS = ("trace_id", "workflow_run_id")


def record(**fields: Any) -> Enriched:
    given = {"source_id": "n", "workflow_run_id": "r", "started_at": NOW, "ended_at": NOW, **fields}
    event = TraceEvent(kind=Kind.NODE_EXECUTION, **given)
    [found] = enriched([complete(event, NOW)])
    assert isinstance(found, Enriched)
    return found


class Sends:
    """A sink that sends what a function makes of a record."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def map(self, event: Enriched) -> Payload | Skip:
        made = self._made(event)
        return made if isinstance(made, Skip) else Payload(msgspec.json.encode(made), 1)

    async def send(self, batch: Batch, http: Http) -> Outcomes:
        return Delivered()

    async def check(self, http: Http) -> Health:
        return Health(True)


def left(made: Any, **fields: Any) -> list[str]:
    found = record(**fields)
    return [path for path in unplaced(Sends(made), found, made(found)) if path not in IDS]


def test_what_is_sent_is_not_listed_and_the_rest_is() -> None:
    fields = {"name": "fetch", "status": "failed", "total_tokens": 3}
    assert left(lambda r: {"n": r.event.name}, **fields) == ["status", "total_tokens"]
    assert left(lambda r: {}, **fields) == ["name", "status", "total_tokens"]
    assert left(lambda r: [r.event.name, r.event.status, r.event.total_tokens], **fields) == []


def test_a_body_and_a_map_are_looked_at_value_by_value() -> None:
    body = NodeExecution(node_id="code-1", index=4)
    found = left(
        lambda r: [r.event.node_execution and r.event.node_execution.index, r.event.attributes.get("a")],
        node_execution=body,
        attributes={"a": "1", "b": "2"},
    )
    assert sorted(found) == ["attributes.b", "node_execution.node_id"]


def test_a_value_that_is_sent_in_another_form_has_a_place() -> None:
    fields = {"time_to_first_token": 1_500_000, "status": "failed", "error": "no such order"}
    found = left(lambda r: [r.event.time_to_first_token / 1e6, r.event.status == "failed"], **fields)
    assert found == ["error"]


def test_a_sink_that_fails_without_a_value_needs_it() -> None:
    assert left(lambda r: {"upper": bool(r.event.name.upper())}, name="fetch") == []


def test_a_value_that_can_be_worked_out_from_others_has_a_place() -> None:
    fields = {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}

    def total(r: Enriched) -> Any:
        e = r.event
        return e.total_tokens or (e.input_tokens or 0) + (e.output_tokens or 0)

    assert left(lambda r: [total(r), r.event.input_tokens, r.event.output_tokens], **fields) == []


def test_a_value_that_comes_from_the_context_has_a_place() -> None:
    assert "trace_id" in unplaced(Sends(lambda r: {}), record(), {})
    assert "trace_id" not in unplaced(Sends(lambda r: {}), record(), {"t": "r"})


def test_a_text_in_json_in_a_text_has_a_place_and_a_part_of_a_text_has_none() -> None:
    found = record(name="fetch", tool_name="get")
    assert "name" not in unplaced(Sends(lambda r: {}), found, {"a": '{"b": ["fetch", "getter"]}'})
    assert "tool_name" in unplaced(Sends(lambda r: {}), found, {"a": '{"b": ["fetch", "getter"]}'})


def test_payloads_of_any_shape_can_be_looked_through() -> None:
    for payload in (None, 1, "[", '"', "[" * 5000, b"", {"a": [None, {"b": 1.5}]}):
        assert "name" in unplaced(Sends(lambda r: {}), record(name="fetch"), payload)


def test_a_large_map_is_looked_at_as_a_whole() -> None:
    many = {f"a{n}": "x" for n in range(65)}
    assert left(lambda r: {}, attributes=many) == ["attributes"]
    assert left(lambda r: r.event.attributes, attributes=many) == []


def test_fields_that_a_sink_does_not_read_are_listed() -> None:
    event = record(name="fetch", status="failed").event
    assert unread(event, None) == []
    assert set(unread(event, frozenset({"status"}))) == {"name", "workflow_run_id"}


@pytest.mark.parametrize("explain", [True, False])
def test_a_row_lists_it_if_that_is_asked_for(explain: bool) -> None:
    def made(r: Enriched) -> Any:
        return Skip("no_place") if r.event.name == "skipped" else {}

    events = [record(name=name, source_id=name).event for name in ("sent", "skipped")]
    instance = Instance("x", "x", Sends(made), BatchLimits(), None)
    sent, skipped = render_all(instance, [complete(e, NOW) for e in events], explain=explain)
    if not explain:
        assert sent.unplaced is skipped.unplaced is msgspec.UNSET
        return
    assert isinstance(sent.unplaced, list)
    assert "name" in sent.unplaced
    assert skipped.unplaced == ["node_execution"]


def test_what_the_sinks_settings_filter_is_not_said_to_have_no_place() -> None:
    instance = Instance("x", "x", Sends(lambda r: {}), BatchLimits(), None)
    [row] = render_all(instance, [record(name="x").event], lambda r: Skip("sampled_out"), explain=True)
    assert (row.filtered, row.unplaced) == ("sampled_out", msgspec.UNSET)
