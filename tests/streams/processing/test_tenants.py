"""Whose an event is: the tenant of its trace, and the same id in two tenants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.filters.record_filter import RecordFilter
from connectors.filters.settings import FilterSettings
from connectors.sdk.contract import Enriched
from streams.processing.state import State
from tailrace import codec
from tailrace.ids import otel_trace_id
from tailrace.records import (
    DedupeBucket,
    Feedback,
    Kind,
    Message,
    Tool,
    TraceContext,
    TraceEvent,
    TraceSummary,
)
from tests.streams.events import LIMITS, NOW, Source, apply, event, fresh, record, records, uuid

TURN = uuid(9)


def turn(tenant: str | None, n: int = 1) -> list[TraceEvent]:
    """A message of a tenant, and what Dify sends of its tool: without a tenant."""
    of_turn: dict[str, Any] = {"message_id": uuid(8 + n), "workflow_run_id": None, "app_id": None}
    return [
        event(Kind.MESSAGE, message=Message(query="hi"), **of_turn | {"tenant_id": tenant, "app_id": "a"}),
        event(
            Kind.TOOL,
            source_id=f"call-{n}",
            tool=Tool(call_id="1"),
            tool_name="search",
            tenant_id=None,
            **of_turn,
        ),
    ]


def enriched(events: Iterable[TraceEvent], state: State | None = None) -> list[Enriched]:
    state = state or fresh()
    unit = apply(state, records(list(events), state.next_offset))
    assert not unit.dead_letters
    return [
        Enriched(
            codec.decode(value, TraceEvent), codec.decode(context, TraceContext), "trace.enriched", 0, i, 0
        )
        for i, (value, _, context) in enumerate(unit.outputs)
    ]


def sent(found: Iterable[Enriched], **rules: Any) -> list[str]:
    """Kinds of the records that a sink with these filters gets."""
    admit = RecordFilter(msgspec.convert(rules, FilterSettings)).admit
    return [str(r.event.kind) for r in found if isinstance(admit(r), Enriched)]


# -- the tenant of the trace
def test_an_event_without_a_tenant_has_that_of_its_trace_in_the_context() -> None:
    message, tool = enriched(turn("acme"))
    assert (message.context.tenant_id, tool.context.tenant_id) == ("acme", "acme")
    assert tool.event.tenant_id is None


def test_what_a_list_of_tenants_leaves_out_it_leaves_out_with_its_tool_calls() -> None:
    found = enriched([*turn("acme"), *turn("other", 2)])
    assert sent(found[:2], tenants=["!acme"]) == []
    assert sent(found[:2], tenants=["acme"]) == ["message", "tool"]
    assert sent(found[2:], tenants=["!acme"]) == ["message", "tool"]
    assert sent(found[2:], tenants=["acme"]) == []
    assert [r.context.tenant_id for r in found] == ["acme", "acme", "other", "other"]


def test_an_event_whose_tenant_is_not_known_yet_passes_no_list() -> None:
    message, tool = turn("acme")
    early, late = enriched([tool, message])
    assert (early.context.tenant_id, late.context.tenant_id) == (None, "acme")
    assert sent([early], tenants=["!other"]) == sent([early], tenants=["acme"]) == []
    assert sent([early]) == ["tool"]


def test_the_tenant_is_kept_over_a_restart() -> None:
    state = fresh()
    message, tool = turn("acme")
    apply(state, [record(message, 0)])
    again = State(LIMITS)
    again.restore(state.close(flush=True).state)
    unit = apply(again, [record(tool, 1)])
    assert codec.decode(unit.outputs[0][2], TraceContext).tenant_id == "acme"


def test_a_link_tells_the_tenant_of_a_nested_run_to_its_partition() -> None:
    """The inner run's events come to another partition, where no event of the root does."""
    outer, inner = fresh(), fresh()
    about: dict[str, Any] = {"parent_run_id": uuid(1), "root_trace_id": TURN, "root_run_id": uuid(1)}
    unit = apply(outer, records([event(run=2, tenant_id="acme", **about)]))
    ((run, link),) = unit.links
    assert codec.decode(link, TraceEvent).tenant_id == "acme"
    late = event(run=3, tenant_id=None, parent_run_id=uuid(2))
    made = apply(inner, [Source(0, NOW // 1000, run, link), record(late, 1)])
    context = codec.decode(made.outputs[0][2], TraceContext)
    assert (context.root_trace_id, context.tenant_id) == (TURN, "acme")


# -- the same id in two tenants
def by_tenant(found: Iterable[Enriched]) -> dict[str | None, list[TraceContext]]:
    out: dict[str | None, list[TraceContext]] = defaultdict(list)
    for r in found:
        out[r.event.tenant_id].append(r.context)
    return out


def test_the_same_run_in_two_tenants_is_two_traces() -> None:
    state = fresh()
    alike: dict[str, Any] = {"run": 1, "app_name": None}
    events = [
        event(n=1, tenant_id="acme", user_id="u1", started_at=NOW, **alike),
        event(n=1, tenant_id="other", started_at=NOW + 50_000_000, ended_at=NOW + 60_000_000, **alike),
        event(n=2, tenant_id="other", user_id="u2", **alike),
        event(n=2, tenant_id="acme", **alike),
        event(Kind.WORKFLOW_RUN, tenant_id="acme", **alike),
    ]
    found = by_tenant(enriched(events, state))
    assert (state.duplicates, state.enriched, len(state.traces)) == (0, 5, 2)
    assert {c.trace_started_at for c in found["acme"]} == {NOW}
    assert {c.trace_started_at for c in found["other"]} == {NOW + 50_000_000}
    assert {c.user_id for c in found["acme"]} == {"u1"}
    assert {c.user_id for c in found["other"]} == {None, "u2"}
    assert {c.tenant_id for c in found["other"]} == {"other"}
    assert {(c.root_trace_id, c.run_trace_id) for of in found.values() for c in of} == {
        (uuid(1), otel_trace_id(uuid(1)))
    }, "OpenTelemetry's ids stay those of the seed"
    closed = state.close(flush=True)
    (summary,) = [codec.decode(value or b"", TraceSummary) for _, value in closed.summaries]
    assert (summary.tenant_id, summary.counts) == ("acme", {"node_execution": 2, "workflow_run": 1})
    assert closed.summaries[0][0].startswith(f"{uuid(1)}/".encode())
    again = State(LIMITS)
    again.restore(closed.state)
    assert list(again.traces) == list(state.traces)
    late = by_tenant(enriched([event(n=3, tenant_id=t, **alike) for t in ("other", "acme")], again))
    assert [late[t][0].trace_started_at for t in ("acme", "other")] == [NOW, NOW + 50_000_000]


def test_an_event_without_a_tenant_joins_the_first_tenants_trace() -> None:
    first, second = turn("acme"), turn("other")
    found = enriched([first[0], second[0], first[1]])
    assert [r.context.tenant_id for r in found] == ["acme", "other", "acme"]


def test_the_same_event_id_in_two_tenants_is_two_events_and_in_one_a_duplicate() -> None:
    state = fresh()
    events = [event(event_id="e1", tenant_id=t) for t in ("acme", "other", "acme", None, None, "other")]
    assert len(enriched(events, state)) == 3
    assert (state.duplicates, len(state.dedupe)) == (3, 3)
    pieces = [v for k, v in state.close(flush=False).state if k.startswith(b"d/")]
    assert [len(codec.decode_versioned(v or b"", DedupeBucket).hashes) for v in pieces] == [24]


def test_a_link_of_one_tenant_says_nothing_about_the_same_run_of_another() -> None:
    state = fresh()
    links = [
        event(Kind.LINK, source_id=uuid(2), root_trace_id=uuid(10 + i), tenant_id=t, workflow_run_id=None)
        for i, t in enumerate(("acme", "other"))
    ]
    nodes = [event(run=3, parent_run_id=uuid(2), tenant_id=t) for t in ("acme", "other", "third", None)]
    found = enriched([*links, *nodes], state)
    assert [r.context.root_trace_id for r in found] == [uuid(10), uuid(11), uuid(2), uuid(10)]
    assert [list(r.context.marks) for r in found] == [[], [], ["root_inferred"], []]
    again = State(LIMITS)
    again.restore(state.close(flush=True).state)
    more = [event(run=3, n=2, parent_run_id=uuid(2), tenant_id=t) for t in ("other", "acme")]
    unit = apply(again, records(more, 6))
    assert [codec.decode(c, TraceContext).root_trace_id for _, _, c in unit.outputs] == [uuid(11), uuid(10)]


@pytest.mark.parametrize("name", ["run-1", "ÿ", "a\xffb"])
def test_an_id_that_looks_like_a_key_of_two_parts_is_another_trace(name: str) -> None:
    state = fresh()
    enriched(
        [
            event(workflow_run_id=name, source_id="1", trace_id=name, tenant_id="acme"),
            event(workflow_run_id=name, source_id="2", trace_id=name, tenant_id="other"),
            event(workflow_run_id=f"{name}ÿother", source_id="3", trace_id=f"{name}ÿother", tenant_id="acme"),
        ],
        state,
    )
    assert len(state.traces) == 3


tenants = st.sampled_from(["acme", "other", "third"])


@given(st.lists(st.tuples(tenants, st.integers(1, 3), st.integers(1, 4)), max_size=25), st.integers(0, 24))
@settings(max_examples=60, deadline=None)
def test_the_traces_of_each_tenant_are_those_of_a_log_of_its_own(
    drawn: list[tuple[str, int, int]], cut: int
) -> None:
    """With a tenant in every event, tenants do not see each other, in any order and over a restart."""
    events = [event(n=n, run=run, tenant_id=t, user_id=f"{t}-{n}", started_at=NOW + n) for t, run, n in drawn]
    state = fresh()
    units = [apply(state, records(events[:cut]))]
    again = State(LIMITS)
    again.restore(state.close(flush=True).state)
    units.append(apply(again, records(events[cut:], len(events[:cut]))))
    found = [
        (codec.decode(value, TraceEvent).tenant_id, codec.decode(context, TraceContext))
        for unit in units
        for value, _, context in unit.outputs
    ]

    def shown(c: TraceContext) -> tuple[object, ...]:
        return (
            c.span_id,
            c.root_trace_id,
            c.trace_started_at,
            c.tenant_id,
            c.user_id,
            c.app_id,
            tuple(c.marks),
        )

    for tenant in {t for t, _, _ in drawn}:
        alone = apply(fresh(), records([e for e in events if e.tenant_id == tenant]))
        expected = [shown(codec.decode(c, TraceContext)) for _, _, c in alone.outputs]
        assert [shown(c) for t, c in found if t == tenant] == expected


def test_a_rating_without_a_tenant_is_of_the_message_that_it_names() -> None:
    message, _ = turn("acme")
    rating = event(
        Kind.FEEDBACK,
        source_id="f",
        message_id=TURN,
        workflow_run_id=None,
        tenant_id=None,
        rating="like",
        feedback=Feedback(feedback_id="f"),
    )
    found = enriched([message, rating])
    assert found[1].context.tenant_id == "acme"
