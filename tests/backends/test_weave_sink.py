"""What the Weave sink sends, read back from Weave's own server."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from connectors.sdk.contract import Payload, spec_of
from connectors.sinks.weave import Weave
from connectors.testing.doubles.weave_rules import redacted
from examples.recorded_runs.recording import RECORDING
from examples.recorded_runs.tree import Expected, expected
from tailrace.ids import otel_span_id, otel_trace_id
from tests.backends.sending import records_for, send
from tests.backends.weave import WeaveServer
from tests.harness.recorded import RECORDS, recorded

pytestmark = pytest.mark.backends
MOST: Final = 200
"""Records in a batch."""
PLAIN: Final = (
    "id",
    "trace_id",
    "parent_id",
    "op_name",
    "display_name",
    "thread_id",
    "turn_id",
    "exception",
    "output",
)
"""Fields that come back as they are."""
HIDDEN: Final = ("attributes", "inputs")
"""Those in which the server hides what looks like a credential."""

Calls = Mapping[str, Mapping[str, Any]]
"""Id -> call."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WeaveServer]:
    with WeaveServer(tmp_path) as running:
        yield running


def sink(server: WeaveServer) -> Weave:
    return Weave(msgspec.convert(dict(server.settings()), Weave.Settings))


def sent(by: Weave, payloads: list[Payload]) -> tuple[Calls, dict[str, Any]]:
    """What was sent by the sink's own rendering: calls, and the feedback that is left in the end."""
    calls: dict[str, Any] = {}
    feedback: dict[str, Any] = {}
    for shown in map(by.render, payloads):
        if "op_name" in shown:
            calls[shown["id"]] = shown
        for given in shown.get("feedback", ()):
            feedback[given["id"]] = given
        for withdrawn in shown.get("deleted_feedback", ()):
            feedback.pop(withdrawn, None)
    return calls, feedback


def differences(want: Calls, have: Calls) -> Iterator[str]:
    """Where calls are not as they were sent: a sentence a field."""
    yield from (f"{call}: is not there" for call in want.keys() - have.keys())
    yield from (f"{call}: was not sent" for call in have.keys() - want.keys())
    for call in want.keys() & have.keys():
        one, other = want[call], have[call]
        summary = {k: v for k, v in other["summary"].items() if k != "weave"}
        pairs = [(name, one.get(name), other.get(name)) for name in PLAIN]
        pairs += [(name, redacted(one.get(name)), other.get(name)) for name in HIDDEN]
        pairs += [(name, _instant(one[name]), _instant(other[name])) for name in ("started_at", "ended_at")]
        pairs.append(("summary", one["summary"], summary))
        failed = one.get("exception") is not None
        pairs.append(("status", "error" if failed else "success", other["summary"]["weave"]["status"]))
        yield from (f"{call}: {name}: {a!r} is {b!r}" for name, a, b in pairs if a != b)


def _instant(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def misplaced(runs: Mapping[str, Mapping[str, Expected]], have: Calls) -> Iterator[str]:
    """Where trees are not as recorded: a sentence a call."""
    wanted = set()
    for run, operations in runs.items():
        for source, op in operations.items():
            call = otel_span_id(source).hex()
            wanted.add(call)
            found = have.get(call)
            if found is None:
                yield f"run {run}: {op.name} ({source}) is not there"
                continue
            attributes = found["attributes"]
            got = (
                found["trace_id"].replace("-", ""),
                found["parent_id"],
                attributes["app_name"] if op.parent is None else found["display_name"],
                attributes["status"],
                attributes.get("usage_metadata", {}).get("total_tokens", 0),
            )
            want = (
                otel_trace_id(run).hex(),
                None if op.parent is None else otel_span_id(op.parent).hex(),
                op.name,
                op.status,
                op.total_tokens,
            )
            if got != want:
                yield f"run {run}: {op.name} ({source}): {got}, recorded {want}"
    yield from (f"{call}: was not recorded" for call in have.keys() - wanted)


def test_the_server_has_every_field_of_every_call(server: WeaveServer) -> None:
    by = sink(server)
    calls, feedback = sent(by, send(by, records_for(by), MOST))
    assert len(calls) > RECORDS
    assert list(differences(calls, server.calls())) == []
    assert len(feedback) > 3
    fields = ("weave_ref", "feedback_type")
    have = {id_: {name: given[name] for name in fields} for id_, given in server.feedback().items()}
    assert have == {id_: {name: given[name] for name in fields} for id_, given in feedback.items()}


def test_the_trees_of_all_recorded_runs_are_as_recorded(server: WeaveServer) -> None:
    """Compared with a second reading of the recording, which shares no code with the pipeline."""
    by = sink(server)
    send(by, recorded(spec_of(Weave).fields), MOST)
    have = server.calls()
    assert len(have) == RECORDS
    assert list(misplaced(expected(RECORDING), have)) == []


def test_a_changed_field_is_seen(server: WeaveServer) -> None:
    """The comparison can fail: each field of a call, changed."""
    by = sink(server)
    calls, _ = sent(by, send(by, records_for(by)[:50], MOST))
    have = server.calls()
    id_ = next(id_ for id_, call in have.items() if call["parent_id"])
    for name in (*PLAIN[1:], *HIDDEN, "started_at", "ended_at", "summary"):
        value = have[id_][name]
        other: Any = "2026-01-01T00:00:00+00:00" if name.endswith("_at") else "changed"
        if name == "summary":
            other = {**value, "usage": {"another": {"requests": 1}}}
        [said] = differences(calls, {**have, id_: {**have[id_], name: other}})
        assert f"{id_}: {name}: " in said
    assert list(differences(calls, {k: v for k, v in have.items() if k != id_})) == [f"{id_}: is not there"]
