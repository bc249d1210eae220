"""The processor without Kafka, as `tailrace render` uses it."""

from __future__ import annotations

from streams.offline import enrich
from tailrace import codec
from tailrace.identity import complete
from tailrace.records import DeadLetter, Kind, TraceContext, TraceEvent

NOW = 1_764_000_000_000_000


def event(**changes: object) -> TraceEvent:
    fields = {
        "kind": Kind.WORKFLOW_RUN,
        "tenant_id": "t",
        "workflow_run_id": "r",
        "started_at": NOW,
        "ended_at": NOW,
        **changes,
    }
    return complete(TraceEvent(**fields), NOW)  # type: ignore[arg-type]


def test_each_event_has_its_answer_in_order() -> None:
    run = event()
    node = event(kind=Kind.NODE_EXECUTION, source_id="n", started_at=NOW, ended_at=NOW)
    broken = event(kind=Kind.NODE_EXECUTION, source_id="n" * 9000, started_at=NOW, ended_at=NOW)
    first, duplicate, refused, second = enrich([run, run, broken, node])
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert duplicate is None
    assert isinstance(refused, DeadLetter)
    assert refused.reason == "field_too_long"
    context = codec.decode(second[1], TraceContext)
    assert (second[0], context.parent_source_id, context.sequence) == (codec.encode(node), "r", 1)


def test_links_resolve_what_follows_them_as_they_do_in_the_log() -> None:
    """A chatflow's run calls another one: only a link says that the root is the message."""
    outer = event(kind=Kind.NODE_EXECUTION, source_id="a", message_id="m", workflow_run_id="outer")
    inner = event(kind=Kind.NODE_EXECUTION, source_id="b", workflow_run_id="inner", parent_run_id="outer")
    third = event(kind=Kind.NODE_EXECUTION, source_id="c", workflow_run_id="third", parent_run_id="inner")
    found = []
    for row in enrich([outer, inner, third]):
        assert isinstance(row, tuple)
        found.append(codec.decode(row[1], TraceContext))
    assert [c.root_trace_id for c in found] == ["m", "m", "m"]
    assert [list(c.marks) for c in found] == [[], [], []]
    assert [(c.sequence, c.source_offset) for c in found] == [(0, 0), (1, 1), (2, 2)]
