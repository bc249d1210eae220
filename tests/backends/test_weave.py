"""Weave's own server in memory: that it judges, keeps, replaces and hides as the sink's tests suppose."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.sinks.weave.sink import Weave
from tests.backends.sending import send
from tests.backends.weave import ENTITY, PROJECT, WeaveServer
from tests.golden.events import golden

pytestmark = pytest.mark.backends
COMPLETE = f"/v2/{ENTITY}/{PROJECT}/calls/complete"
TRACE, ROOT, CHILD = "0" * 31 + "1", "0" * 15 + "1", "0" * 15 + "2"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WeaveServer]:
    with WeaveServer(tmp_path) as running:
        yield running


def call(**fields: Any) -> dict[str, Any]:
    return {
        "project_id": f"{ENTITY}/{PROJECT}",
        "id": ROOT,
        "trace_id": TRACE,
        "op_name": "workflow",
        "started_at": "2026-03-01T12:00:00.000001+00:00",
        "ended_at": "2026-03-01T12:00:01.000001+00:00",
        "attributes": {"kind": "workflow"},
        "inputs": {"question": "?"},
        "output": {"answer": "!"},
        "summary": {"usage": {"gpt-4o": {"prompt_tokens": 3, "total_tokens": 3, "requests": 1}}},
        **fields,
    }


def send_message(server: WeaveServer, **changes: Any) -> None:
    """By the sink."""
    record = golden()["message"]
    changed = msgspec.structs.replace(record, event=msgspec.structs.replace(record.event, **changes))
    send(Weave(msgspec.convert(server.settings(), Weave.Settings)), [changed], 1)


def test_calls_come_back_as_they_were_sent_and_once(server: WeaveServer) -> None:
    batch = [
        call(),
        call(id=CHILD, parent_id=ROOT, op_name="llm", exception="boom", thread_id="t", turn_id="u"),
    ]
    for _ in range(3):
        server.post(COMPLETE, {"batch": batch})
    found = server.calls()
    assert set(found) == {ROOT, CHILD}
    assert found[CHILD]["parent_id"] == ROOT
    for sent in batch:
        have = found[sent["id"]]
        assert {k: have[k] for k in ("trace_id", "op_name", "inputs", "output")} == {
            k: sent[k] for k in ("trace_id", "op_name", "inputs", "output")
        }
        assert have["attributes"].items() >= sent["attributes"].items()
        assert have["summary"]["usage"]["gpt-4o"].items() >= sent["summary"]["usage"]["gpt-4o"].items()
    assert (found[ROOT]["summary"]["weave"]["status"], found[CHILD]["summary"]["weave"]["status"]) == (
        "success",
        "error",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "not-an-id"},
        {"trace_id": "x"},
        {"parent_id": "x"},
        {"op_name": "o" * 129},
        {"started_at": "yesterday"},
        {"inputs": "text"},
    ],
)
def test_what_is_wrong_is_refused(server: WeaveServer, wrong: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post(COMPLETE, {"batch": [call(**wrong)]})
    assert refused.value.code == 422
    assert server.calls() == {}


@pytest.mark.parametrize("text", ["weave:///x", "weave-trace-internal:///p", '{"a": "weave:///x"}'])
def test_texts_that_are_no_references_are_refused_and_what_the_sink_sends_is_stored(
    server: WeaveServer, text: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post(COMPLETE, {"batch": [call(output=text)]})
    assert refused.value.code == 400
    send_message(server, inputs=text, outputs=text, user_id=text)
    [found] = server.calls().values()
    assert ";///" in json.dumps(found["output"])


def test_what_is_nested_too_deeply_is_refused_and_what_the_sink_sends_is_stored(server: WeaveServer) -> None:
    deep = "[" * 400 + "]" * 400
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post(COMPLETE, {"batch": [call(output=json.loads(deep))]})
    assert refused.value.code // 100 == 4
    send_message(server, inputs=deep, outputs=deep)
    [found] = server.calls().values()
    assert "tailrace.cut_for_weave" in found["attributes"]


def test_keys_in_inputs_are_hidden(server: WeaveServer) -> None:
    server.post(COMPLETE, {"batch": [call(inputs={"api_key": "s3cret"})]})
    assert "s3cret" not in json.dumps(server.calls())


def test_feedback_is_appended_when_created_and_replaced_by_its_id(server: WeaveServer) -> None:
    """So the sink replaces."""
    body: dict[str, Any] = {
        "project_id": f"{ENTITY}/{PROJECT}",
        "weave_ref": f"weave:///{ENTITY}/{PROJECT}/call/{ROOT}",
        "feedback_type": "wandb.reaction.1",
        "payload": {"emoji": "👍"},
        "id": "019ca945-0a7b-7daa-baca-e7a955b452fa",
    }
    for _ in range(2):
        server.post("/feedback/create", body)
    assert len(server.feedback_rows()) == 2
    for _ in range(3):
        server.post("/feedback/replace", {**body, "feedback_id": body["id"]})
    [found] = server.feedback_rows()
    assert found["payload"].items() >= {"emoji": "👍"}.items()  # the server adds the emoji's names
    assert {k: found[k] for k in body if k != "payload"} == {k: body[k] for k in body if k != "payload"}
    wrong = {**body, "feedback_id": body["id"], "payload": {"emoji": "no"}}
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post("/feedback/replace", wrong)
    assert refused.value.code == 400
