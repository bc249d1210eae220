"""Whatever the events hold, every record that a unit writes fits its topic: one that does not fit would be
produced again after each restart."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.processing.apply import CONTEXT_ROOM, LONG_TEXT, EventProcessor, TransactionBatch
from streams.processing.links import PREFIX
from streams.processing.state import ChangedState, State
from tailrace import codec
from tailrace.dead_letters import NAME
from tailrace.identity import complete, kafka_key
from tailrace.records import (
    DatasetRetrieval,
    Kind,
    Message,
    NodeExecution,
    TraceContext,
    TraceEvent,
    TraceSummary,
    WorkflowRun,
)
from tailrace.topics import ROOM
from tests.streams.events import LIMITS, NOW, Source, dead_letters

LEAST = 131_072
"""The smallest topics.max_event_bytes."""
LARGEST = 2 * LEAST + ROOM
"""Most bytes of a record in the internal topics then."""


def long(mark: str, size: int) -> str:
    return (mark + "/" + "x" * size)[:size]


def record(event: TraceEvent, offset: int, key: bytes | None = None) -> Source:
    at = NOW // 1000 + offset
    return Source(offset, at, key or (kafka_key(event) or "").encode(), codec.encode(event))


def processed(log: list[Source], unit_size: int = 50) -> Iterator[tuple[TransactionBatch, ChangedState]]:
    state = State(LIMITS)
    state.next_offset = 0
    processor = EventProcessor("trace.events", 0, LARGEST - CONTEXT_ROOM, LEAST)
    while state.next_offset < len(log):
        unit = TransactionBatch()
        processor.apply(state, log[state.next_offset : state.next_offset + unit_size], unit)
        yield unit, state.close(flush=True)


def size(key: bytes | None, value: bytes | None) -> int:
    return len(key or b"") + len(value or b"")


def check(log: list[Source]) -> list[tuple[TransactionBatch, ChangedState]]:
    """Every record fits, also its key; a link fits trace.events."""
    found = list(processed(log))
    for unit, closed in found:
        for value, key, context in unit.outputs:
            assert size(key, value) + len(context) <= LARGEST
            assert len(context) + len(key or b"") <= CONTEXT_ROOM
        for run, link in unit.links:
            assert size(run, link) <= LEAST
        for key, letter in unit.dead_letters:
            assert size(key, letter) <= LARGEST
            assert len(key or b"") <= NAME
        for records in (closed.rows, closed.totals, closed.summaries, closed.state):
            for name, content in records:
                assert size(name, content) <= LARGEST, name[:40]
    return found


def events(random: Random, texts: int, count: int) -> Iterator[TraceEvent]:
    """Events of one trace with texts of that many bytes wherever the processor reads one."""
    message = long("message", texts)

    def text(name: str) -> str:
        return long(f"{name}{random.randrange(1 << 30)}", texts)

    for n in range(count):
        kind = random.choice([Kind.NODE_EXECUTION, Kind.DATASET_RETRIEVAL, Kind.WORKFLOW_RUN, Kind.SPAN])
        dataset, name = text("dataset"), text("name")
        body: dict[str, object] = {}
        if kind == Kind.NODE_EXECUTION:
            body["node_execution"] = NodeExecution(dataset_names=[name])
        elif kind == Kind.DATASET_RETRIEVAL:
            body["dataset_retrieval"] = DatasetRetrieval(dataset_names=[name])
        elif kind == Kind.WORKFLOW_RUN:
            body["workflow_run"] = WorkflowRun()
        fields = dict.fromkeys(
            ("user_id", "session_id", "conversation_id", "tenant_id", "app_id", "app_name")
        )
        yield complete(
            TraceEvent(
                kind=kind,
                source_id=text("source"),
                message_id=message,
                workflow_run_id=text("run"),
                parent_id=text("parent"),
                workspace_name=text("workspace"),
                name=text("name"),
                status="failed",
                error=long("error", 20_000),
                model_provider=text("provider"),
                model_name=text("model"),
                total_price="0.5",
                currency=text("currency"),
                input_tokens=n,
                output_tokens=n,
                tool_name=text("tool"),
                dataset_ids=[dataset],
                started_at=NOW,
                ended_at=NOW + n,
                **{name: text(name) for name in fields},  # type: ignore[arg-type]
                **body,  # type: ignore[arg-type]
            ),
            NOW,
        )


@given(st.integers(0, 1 << 32), st.sampled_from([40, 500, 4000, LONG_TEXT]), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_every_record_fits_however_long_the_texts_are(seed: int, texts: int, count: int) -> None:
    check([record(e, n) for n, e in enumerate(events(Random(seed), texts, count))])


def test_a_key_that_is_too_long_is_a_dead_letter_without_the_whole_key() -> None:
    event = complete(TraceEvent(kind=Kind.MESSAGE, message_id="m", started_at=NOW, ended_at=NOW), NOW)
    found = check([record(event, 0, b"k" * 3_000_000), record(event, 1)])
    unit, _ = found[0]
    (letter,) = dead_letters(unit)
    assert (letter.reason, len(letter.key or b"")) == ("key_too_long", LEAST)
    assert len(unit.outputs) == 1


def test_a_key_that_is_too_long_may_come_with_bytes_that_cannot_be_read() -> None:
    found = check([Source(0, NOW // 1000, b"k" * 3_000_000, b"garbage" * 40_000)])
    assert len(found[0][0].dead_letters) == 1


def test_a_value_that_fits_only_when_compressed_is_a_dead_letter() -> None:
    event = complete(
        TraceEvent(
            kind=Kind.MESSAGE,
            message_id="m",
            message=Message(query="q" * LARGEST),
            started_at=NOW,
            ended_at=NOW,
        ),
        NOW,
    )
    (unit, _), *_ = check([record(event, 0)])
    assert [letter.reason for letter in dead_letters(unit)] == ["too_large"]


def retrieval(n: int, ids: list[str], names: list[str]) -> TraceEvent:
    body = DatasetRetrieval(dataset_names=names)
    return TraceEvent(
        kind=Kind.DATASET_RETRIEVAL,
        source_id=f"s{n}",
        trace_id="t",
        dataset_ids=ids,
        dataset_retrieval=body,
        started_at=NOW,
        ended_at=NOW,
    )


@pytest.mark.parametrize(
    ("ids", "names"),
    [(["d"], [""] * 90_000), ([""] * 90_000, []), (["d"], ["n"] * 5_000), (["d"] * 5_000, ["n"])],
)
def test_a_list_counts_as_it_is_written(ids: list[str], names: list[str]) -> None:
    """An empty text has no bytes, but a byte in Avro."""
    found = check([record(complete(retrieval(0, ids, names), NOW), 0)])
    (letter,) = dead_letters(found[0][0])
    assert letter.reason == "field_too_long"


def test_a_dataset_that_is_named_many_times_does_not_repeat_a_long_name_without_end() -> None:
    named, many = retrieval(0, ["d"], ["n" * 7_000]), retrieval(1, ["d"] * 4_000, [])
    few = retrieval(2, ["d", "d"], [])
    found = check([record(complete(e, NOW), n) for n, e in enumerate((named, many, few))])
    names = [codec.decode(c, TraceContext).dataset_names for _, _, c in found[0][0].outputs]
    assert [len(n) for n in names] == [1, 0, 2]


def test_a_link_to_a_root_with_an_id_that_is_too_long_is_a_dead_letter() -> None:
    link = TraceEvent(
        kind=Kind.LINK, source_id="run", root_trace_id="r" * 100_000, started_at=NOW, ended_at=NOW
    )
    node = TraceEvent(
        kind=Kind.NODE_EXECUTION, source_id="n", workflow_run_id="run", started_at=NOW, ended_at=NOW
    )
    found = check([record(complete(e, NOW), n, b"run") for n, e in enumerate((link, node))])
    assert [letter.reason for letter in dead_letters(found[0][0])] == ["field_too_long"]
    assert len(found[0][0].outputs) == 1


def test_many_runs_with_long_ids_in_one_message_stay_in_one_state_record() -> None:
    log = [
        record(
            complete(
                TraceEvent(
                    kind=Kind.WORKFLOW_RUN,
                    workflow_run_id=long(f"run{n}", 8000),
                    message_id="m",
                    workflow_run=WorkflowRun(),
                    started_at=NOW,
                    ended_at=NOW,
                ),
                NOW,
            ),
            n,
        )
        for n in range(280)
    ]
    found = check(log)
    assert sum(len(unit.outputs) for unit, _ in found) == 280
    assert sum(len(unit.links) for unit, _ in found) == 280
    assert any(key.startswith(PREFIX) or key.startswith(b"t/") for _, c in found for key, _ in c.state)


@pytest.mark.parametrize("depth", [100, 9000])
def test_a_deep_chain_has_a_summary_that_fits_and_begins_at_the_root(depth: int) -> None:
    def span(n: int) -> TraceEvent:
        return TraceEvent(
            kind=Kind.SPAN,
            source_id=f"s{n}",
            trace_id="s0",
            parent_id=f"s{n - 1}" if n else None,
            name=long(f"name{n}", 200),
            started_at=NOW,
            ended_at=NOW + depth - n,
        )

    found = check([record(complete(span(n), NOW), n) for n in range(depth)])
    summary = codec.decode(found[-1][1].summaries[-1][1] or b"", TraceSummary)
    steps = [step.source_id for step in summary.slowest_path]
    assert steps == [f"s{n}" for n in range(len(steps))]
    assert len(steps) >= min(depth, 100)
