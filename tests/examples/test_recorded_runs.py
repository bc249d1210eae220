"""The recorded runs as trace events, counted exactly and compared with a second reading of the recording."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from examples.recorded_runs import tree
from examples.recorded_runs.adapter import adapt, shift_to
from examples.recorded_runs.publish_runs import events
from examples.recorded_runs.recording import RECORDING, RecordingError, latest, lines
from examples.recorded_runs.salted import renaming
from tailrace import codec, identity
from tailrace.records import Kind, TraceEvent

NOW = 1_800_000_000_123_457


@pytest.fixture(scope="module")
def raw() -> list[bytes]:
    return list(lines())


@pytest.fixture(scope="module")
def recorded(raw: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw]


@pytest.fixture(scope="module")
def all_events(raw: list[bytes]) -> list[TraceEvent]:
    return list(adapt(raw))


@pytest.fixture(scope="module")
def nodes(all_events: list[TraceEvent]) -> list[TraceEvent]:
    return [e for e in all_events if e.kind == Kind.NODE_EXECUTION]


@pytest.fixture(scope="module")
def runs(all_events: list[TraceEvent]) -> dict[str | None, TraceEvent]:
    return {e.source_id: e for e in all_events if e.kind == Kind.WORKFLOW_RUN}


@pytest.fixture(scope="module")
def ends(recorded: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Run id -> its last graph_end."""
    return {line["run_id"]: line for line in recorded if line["kind"] == "graph_end"}


def of_class(recorded: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [line for line in recorded if line.get("event") == name]


def shape(
    events: list[TraceEvent],
) -> dict[str, dict[str | None, tuple[str | None, str | None, str | None, int]]]:
    """From events, in the form of `tree.expected`."""
    found: dict[str, dict[str | None, tuple[str | None, str | None, str | None, int]]] = defaultdict(dict)
    for e in events:
        assert e.workflow_run_id is not None
        parent = None if e.kind == Kind.WORKFLOW_RUN else e.parent_id or e.workflow_run_id
        found[e.workflow_run_id][e.source_id] = (parent, e.name, e.status, e.total_tokens or 0)
    return found


# -- what there is


def test_every_run_that_ended_is_one_event(
    all_events: list[TraceEvent], runs: dict[str | None, TraceEvent], ends: dict[str, dict[str, Any]]
) -> None:
    assert len(ends) == 445
    ended = {run_id: end["status"] for run_id, end in ends.items() if end["status"] != "paused"}
    assert len(ended) == 442  # 445 less the 3 that still wait for a person
    assert {run_id: e.status for run_id, e in runs.items()} == ended
    assert Counter(ended.values()) == {"succeeded": 325, "partial-succeeded": 81, "failed": 19, "stopped": 17}
    assert {e.workflow_run_id for e in all_events} == set(ends)


def test_every_node_execution_that_ended_or_was_cut_off_is_one_event(
    all_events: list[TraceEvent], nodes: list[TraceEvent], recorded: list[dict[str, Any]]
) -> None:
    starts = of_class(recorded, "NodeRunStartedEvent")
    executions = {line["data"]["id"] for line in starts}
    assert (len(starts), len(executions)) == (4463, 4439)  # 24 start again after a pause
    assert len(nodes) == 4436  # less the 3 human-input nodes that still wait
    assert len(all_events) == 4436 + 442
    assert Counter(e.status for e in nodes) == {
        "succeeded": 4335,
        "failed": 44,
        "exception": 44,
        "stopped": 13,
    }
    stopped = Counter(e.node_type for e in nodes if e.status == "stopped")
    assert stopped == {"llm": 6, "iteration": 5, "loop": 2}
    waiting = executions - {e.source_id for e in nodes}
    assert {line["data"]["node_type"] for line in starts if line["data"]["id"] in waiting} == {"human-input"}


def test_a_pause_emits_nothing_and_a_resumed_run_is_one_run(
    runs: dict[str | None, TraceEvent], recorded: list[dict[str, Any]], ends: dict[str, dict[str, Any]]
) -> None:
    segments: dict[str, list[Decimal]] = defaultdict(list)
    first_start: dict[str, str] = {}
    for line in recorded:
        if line["kind"] == "graph_start":
            first_start.setdefault(line["run_id"], line["at"])
        elif line["kind"] == "graph_end":
            segments[line["run_id"]].append(Decimal(str(line["elapsed"])))
    assert sum(len(s) - 1 for s in segments.values()) == 28
    for run_id, run in runs.items():
        assert run_id is not None
        assert run.workflow_run is not None
        assert run.started_at == exact(first_start[run_id])
        assert run.ended_at == exact(ends[run_id]["at"])
        assert run.workflow_run.elapsed_time == sum(segments[run_id]) * 1_000_000


# -- the contract


def test_events_are_valid_and_survive_the_codec(all_events: list[TraceEvent]) -> None:
    for event in all_events:
        complete = identity.complete(event, NOW)
        decoded = codec.decode(codec.encode(complete), TraceEvent)
        assert msgspec.json.encode(decoded) == msgspec.json.encode(
            complete
        )  # arrays come back as lists, not tuples
        assert complete.trace_id == event.workflow_run_id == identity.kafka_key(complete)


def test_no_event_is_emitted_twice(all_events: list[TraceEvent]) -> None:
    assert len({identity.complete(e, NOW).event_id for e in all_events}) == len(all_events)


def test_content_is_what_was_recorded(nodes: list[TraceEvent], recorded: list[dict[str, Any]]) -> None:
    results = {
        line["data"]["id"]: line["data"]["node_run_result"]
        for name in ("Succeeded", "Failed", "Exception")
        for line in of_class(recorded, f"NodeRun{name}Event")
    }
    for event in nodes:
        if event.status != "stopped":
            result = results[str(event.source_id)]
            assert (event.inputs, event.outputs) == (result["inputs"], result["outputs"])
            assert event.node_execution is not None
            assert event.node_execution.process_data == (result["process_data"] or None)
            info = result["metadata"].get("tool_info")
            assert event.node_execution.metadata == ({"tool_info": info} if info else None)


# -- structure


def test_the_tree_is_the_expected_one_for_every_run(all_events: list[TraceEvent]) -> None:
    assert shape(all_events) == tree.expected(RECORDING)


def test_children_end_before_what_contains_them(all_events: list[TraceEvent]) -> None:
    position = {e.source_id: n for n, e in enumerate(all_events)}
    by_id = {e.source_id: e for e in all_events}
    contained = 0
    for n, event in enumerate(all_events):
        container = event.parent_id or event.workflow_run_id
        if event.kind == Kind.NODE_EXECUTION and container in by_id:
            contained += 1
            assert position[container] > n
            assert by_id[container].started_at <= event.started_at
            assert event.started_at <= event.ended_at <= by_id[container].ended_at
    paused = sum(e.workflow_run_id not in by_id for e in all_events)
    assert contained == 4436 - paused
    assert paused > 0


def test_index_is_the_order_of_starts(nodes: list[TraceEvent], recorded: list[dict[str, Any]]) -> None:
    started: dict[str, list[str]] = defaultdict(list)
    for line in of_class(recorded, "NodeRunStartedEvent"):
        if line["data"]["id"] not in started[line["run_id"]]:
            started[line["run_id"]].append(line["data"]["id"])
    for event in nodes:
        assert event.node_execution is not None
        assert (
            event.node_execution.index == started[str(event.workflow_run_id)].index(str(event.source_id)) + 1
        )


def test_predecessors_are_edges_of_the_graph(nodes: list[TraceEvent], recorded: list[dict[str, Any]]) -> None:
    edges = {
        line["run_id"]: {(e["source"], e["target"]) for e in line["edges"]}
        for line in recorded
        if "edges" in line
    }
    for event in nodes:
        body = event.node_execution
        assert body is not None
        assert (body.predecessor_node_id is None) == (event.node_type == "start")
        if body.predecessor_node_id:
            assert (body.predecessor_node_id, body.node_id) in edges[str(event.workflow_run_id)]


def test_rounds_name_the_container(nodes: list[TraceEvent]) -> None:
    by_id = {e.source_id: e.node_execution for e in nodes}
    inside = Counter[tuple[bool, bool]]()
    for event in nodes:
        body = event.node_execution
        assert body is not None
        inside[body.iteration_id is not None, body.loop_id is not None] += 1
        if event.parent_id:
            container = by_id[event.parent_id]
            assert container is not None
            assert container.node_id == (body.loop_id or body.iteration_id)
            assert (body.loop_index if body.loop_id else body.iteration_index) is not None
    assert inside == {
        (False, False): 3099 - 24 - 3,
        (True, False): 742,
        (False, True): 477,
        (True, True): 145,
    }


# -- figures


def test_root_nodes_add_up_to_the_engines_total(
    nodes: list[TraceEvent], runs: dict[str | None, TraceEvent], ends: dict[str, dict[str, Any]]
) -> None:
    totals = Counter[str]()
    for event in nodes:
        if event.parent_id is None:
            totals[str(event.workflow_run_id)] += event.total_tokens or 0
    assert {run_id: totals[run_id] for run_id in ends} == {
        run_id: end["total_tokens"] for run_id, end in ends.items()
    }
    assert {r: (e.total_tokens or 0) for r, e in runs.items()} == {
        r: end["total_tokens"] for r, end in ends.items() if r in runs
    }


def test_prices_are_the_recorded_text_and_never_mix_currencies(
    nodes: list[TraceEvent], runs: dict[str | None, TraceEvent]
) -> None:
    unpriced = {run_id for run_id, e in runs.items() if e.total_tokens and e.total_price is None}
    assert len(unpriced) == 60
    spent: dict[str | None, Counter[str]] = defaultdict(Counter)
    for event in nodes:
        assert (event.total_tokens is None) == (event.total_price is None) == (event.currency is None)
        if event.total_price is not None:
            assert event.currency in {"USD", "CNY"}
            if event.parent_id is None:
                spent[event.workflow_run_id][event.currency] += Decimal(event.total_price)  # type: ignore[assignment]
    for run_id, run in runs.items():
        if run.total_price is not None:
            assert spent[run_id] == {run.currency: Decimal(run.total_price)}
        elif run_id in unpriced:
            assert set(spent[run_id]) == {"USD", "CNY"}


def test_a_container_with_children_in_two_currencies_has_no_price(raw: list[bytes]) -> None:
    def container() -> TraceEvent:
        return next(e for e in adapt(changed) if e.source_id == child.parent_id)

    changed = list(raw)
    child = next(e for e in adapt(raw) if e.parent_id and e.total_price and e.status == "succeeded")
    assert container().total_price is not None
    at = next(
        n for n, x in enumerate(raw) if b"RunSucceeded" in x and f'"id":"{child.source_id}"'.encode() in x
    )
    changed[at] = raw[at].replace(b'"USD"', b'"RMB"')
    assert container().total_price is None
    assert container().total_tokens


def test_five_aborted_runs_have_no_tokens_although_their_children_have(
    nodes: list[TraceEvent], runs: dict[str | None, TraceEvent]
) -> None:
    containers = {e.parent_id for e in nodes}
    spent = Counter[str]()
    for event in nodes:
        if event.source_id not in containers:
            spent[str(event.workflow_run_id)] += event.total_tokens or 0
    silent = {
        run_id: spent[run_id] for run_id in spent if run_id in runs and runs[run_id].total_tokens is None
    }
    assert Counter(runs[r].status for r, tokens in silent.items() if tokens) == {"stopped": 5}
    assert sum(silent.values()) == 1129


def test_retries_are_counted_and_kept(nodes: list[TraceEvent], recorded: list[dict[str, Any]]) -> None:
    attempts = Counter(line["data"]["id"] for line in of_class(recorded, "NodeRunRetryEvent"))
    retried = {e.source_id: e for e in nodes if e.node_execution and e.node_execution.retry_count}
    assert {i: e.node_execution.retry_count for i, e in retried.items() if e.node_execution} == attempts
    assert attempts.total() == 104
    for event in retried.values():
        assert event.node_execution is not None
        starts = [attempt["started_at"] for attempt in event.node_execution.retries]
        assert event.started_at == starts[0]
        assert starts == sorted(starts)
        if event.node_execution.elapsed_time is not None:  # the last attempt's
            assert starts[-1] < event.ended_at - event.node_execution.elapsed_time
        assert {attempt["error_type"] for attempt in event.node_execution.retries} <= {
            "ModelOverloadedError",
            "HTTPResponseCodeError",
        }


def test_failures_say_why(nodes: list[TraceEvent]) -> None:
    for event in nodes:
        failed = event.status in {"failed", "exception"}
        assert (event.error is not None) == failed
        if failed and event.node_type not in {"iteration", "loop"}:  # the engine names no class for those
            assert event.error_type
    classes = Counter(e.error_type for e in nodes if e.status == "exception")
    assert classes == {"HTTPResponseCodeError": 23, "ToolNodeError": 21}


def test_models_tools_and_datasets_are_named(nodes: list[TraceEvent]) -> None:
    for event in nodes:
        assert (
            event.model_name is not None or not event.total_tokens or event.node_type in {"iteration", "loop"}
        )
        assert event.model_name is not None or event.node_type != "llm" or event.status == "stopped"
        assert event.plugin_name == ("shop" if event.node_type == "tool" else None)
        assert event.node_execution is not None
        assert len(event.dataset_ids) == len(event.node_execution.dataset_names)
    retrievals = [e for e in nodes if e.node_type == "knowledge-retrieval"]
    assert (
        sum(bool(e.dataset_ids) for e in retrievals)
        == sum(bool(e.outputs["result"]["value"]) for e in retrievals)
        > 0
    )


def test_time_to_first_token_is_exact_and_only_of_models(
    nodes: list[TraceEvent], recorded: list[dict[str, Any]]
) -> None:
    streamed = {}
    for line in of_class(recorded, "NodeRunSucceededEvent"):
        data = line["data"]
        first_token = data["node_run_result"]["llm_usage"]["time_to_first_token"]
        if first_token is not None and data["node_type"] not in {
            "iteration",
            "loop",
        }:  # those repeat a child's
            streamed[data["id"]] = Decimal(repr(first_token)) * 1_000_000
    assert len(streamed) == 1038
    assert {
        e.source_id: e.time_to_first_token for e in nodes if e.time_to_first_token is not None
    } == streamed


# -- times and ids


def exact(text: str) -> int:
    """Microseconds UTC of a recorded time, computed in another way than by the adapter."""
    whole, fraction = text.rstrip("Z").split(".")
    assert len(fraction) == 6
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 1_000_000 + int(fraction)


def times(event: TraceEvent) -> Iterator[int]:
    yield from (event.started_at, event.ended_at, event.root_started_at or 0)
    if event.node_execution and event.node_execution.retries:
        yield from (attempt["started_at"] for attempt in event.node_execution.retries)


def test_times_are_exact(nodes: list[TraceEvent], recorded: list[dict[str, Any]]) -> None:
    first: dict[str, str] = {}
    for line in of_class(recorded, "NodeRunStartedEvent"):
        first.setdefault(line["data"]["id"], line["data"]["start_at"])
    results = {line["data"]["id"]: line["data"] for line in recorded if "finished_at" in line.get("data", {})}
    for event in nodes:
        assert event.started_at == exact(first[str(event.source_id)])
        if (result := results.get(str(event.source_id))) and event.node_execution:
            assert event.ended_at == exact(result["finished_at"])
            assert event.node_execution.elapsed_time == event.ended_at - exact(result["start_at"])
        elif event.node_execution:
            assert (event.status, event.node_execution.elapsed_time) == ("stopped", None)


def test_a_shift_moves_every_time_and_nothing_else(raw: list[bytes], all_events: list[TraceEvent]) -> None:
    shift = shift_to(NOW, raw)
    shifted = list(events(now=NOW))
    assert max(e.ended_at for e in shifted) == NOW == latest(raw) + shift
    for before, after in zip(all_events, shifted, strict=True):
        assert [t + shift for t in times(before)] == list(times(after))
        body = after.node_execution
        assert after == msgspec.structs.replace(
            before,
            started_at=after.started_at,
            ended_at=after.ended_at,
            root_started_at=after.root_started_at,
            node_execution=body,
        )
        if body and before.node_execution:
            assert msgspec.structs.replace(body, retries=None) == msgspec.structs.replace(
                before.node_execution, retries=None
            )


def test_a_salt_gives_other_trace_ids_and_the_same_shape(all_events: list[TraceEvent]) -> None:
    salted, other = list(events(salt="first")), list(events(salt="second"))
    assert shape(salted) == tree.expected(RECORDING, renaming("first"))
    assert shape(salted) == shape(list(events(salt="first")))
    ids = [
        {i for e in of for i in (e.source_id, e.workflow_run_id, e.conversation_id) if i}
        for of in (all_events, salted, other)
    ]
    assert len(ids[0] | ids[1] | ids[2]) == 3 * len(ids[0])
    for before, after in zip(all_events, salted, strict=True):
        assert (before.app_id, before.user_id, before.name) == (after.app_id, after.user_id, after.name)
        assert after.root_run_id == after.root_trace_id == after.workflow_run_id


def test_the_tenant_is_a_parameter(raw: list[bytes], all_events: list[TraceEvent]) -> None:
    assert {e.tenant_id for e in all_events} == {"demo"}
    assert {e.tenant_id for e in adapt(raw, tenant_id="acme")} == {"acme"}


# -- broken recordings


@pytest.mark.parametrize(
    "garbled",
    [
        b"",
        b"\n",
        b"{",
        b"[]",
        b"null",
        b'{"kind": "event"}',
        b"\xff\xfe",
        b'{"kind": "coffee", "run_id": "", "at": ""}',
    ],
)
def test_a_garbled_line_is_named(raw: list[bytes], garbled: bytes) -> None:
    with pytest.raises(RecordingError, match=r"^line 101: not a line of a recording: ") as e:
        list(adapt([*raw[:100], garbled, *raw[101:]]))
    assert e.value.line == 101


def test_a_line_cut_short_is_named_wherever_it_is_cut(raw: list[bytes]) -> None:
    for number, line in enumerate(raw[:100], 1):
        for length in range(0, len(line.rstrip()), max(1, len(line) // 7)):
            with pytest.raises(RecordingError) as e:
                list(adapt([*raw[: number - 1], line[:length], *raw[number:110]]))
            assert e.value.line == number


def test_a_field_of_the_wrong_type_is_named(raw: list[bytes]) -> None:
    number = next(n for n, line in enumerate(raw, 1) if b'"NodeRunSucceededEvent"' in line)
    line = json.loads(raw[number - 1])
    line["data"]["finished_at"] = 7
    with pytest.raises(RecordingError, match=rf"^line {number}: .*data\.finished_at"):
        list(adapt([*raw[: number - 1], json.dumps(line).encode(), *raw[number:]]))


@pytest.mark.parametrize(
    ("left_out", "problem"),
    [
        (b'"kind":"graph_start"', "its graph_start is missing"),
        (b'"NodeRunStartedEvent"', "node execution .* is not running"),
    ],
)
def test_an_end_without_a_start_is_named(raw: list[bytes], left_out: bytes, problem: str) -> None:
    gone = next(n for n, line in enumerate(raw) if left_out in line)
    with pytest.raises(RecordingError, match=problem):
        list(adapt([*raw[:gone], *raw[gone + 1 :]]))


def test_a_repeated_end_is_named(raw: list[bytes]) -> None:
    end = next(n for n, line in enumerate(raw) if b'"NodeRunSucceededEvent"' in line)
    with pytest.raises(RecordingError, match=rf"^line {end + 2}: node execution .* is not running"):
        list(adapt([*raw[: end + 1], raw[end], *raw[end + 1 :]]))


def test_a_recording_that_stops_early_says_so_after_what_it_has(raw: list[bytes]) -> None:
    got: list[TraceEvent] = []
    with pytest.raises(RecordingError, match=r"^line 5001: the recording ends before \d of its runs$"):
        got.extend(adapt(raw[:5000]))
    assert len(got) > 900


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(RECORDING.read_bytes()[:500_000])
    with pytest.raises(RecordingError, match=r"^line \d+: the compressed file is damaged here"):
        list(adapt(lines(path)))


def test_an_uncompressed_recording_is_the_same(tmp_path: Path, all_events: list[TraceEvent]) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_bytes(gzip.decompress(RECORDING.read_bytes()))
    assert list(events(path)) == all_events
