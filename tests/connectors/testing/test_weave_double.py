"""The Weave double refuses what Weave refuses, merges as its store does, and fails as scripted."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.request_rules import RequestRefused, basic_authorization
from connectors.testing.doubles.weave import WeaveDouble
from connectors.testing.doubles.weave_rules import (
    EXCEEDED,
    PAYLOAD_BYTES,
    WeaveStore,
    feedback_of,
    problems,
    purged_id,
    redacted,
)

PROJECT = "acme/shop"
CALL = "0123456789abcdef"
TRACE = "00000003-0000-4000-8000-000000000003"
COMPLETE = "/traces/v2/acme/shop/calls/complete"
FEEDBACK = "11111111-1111-1111-1111-111111111111"


def call(**changes: Any) -> dict[str, Any]:
    made = {
        "project_id": PROJECT,
        "id": CALL,
        "trace_id": TRACE,
        "op_name": "message",
        "started_at": "2026-03-01T12:00:00.123000Z",
        "ended_at": "2026-03-01T12:00:01.000000Z",
        "attributes": {},
        "inputs": {"q": 1},
        "output": "a",
        "summary": {"usage": {"m": {"prompt_tokens": 3}}, "status_counts": {"success": 1, "error": 0}},
        **changes,
    }
    return {k: v for k, v in made.items() if v is not ...}


def comment(**changes: Any) -> dict[str, Any]:
    return {
        "project_id": PROJECT,
        "weave_ref": f"weave:///{PROJECT}/call/{CALL}",
        "feedback_type": "wandb.reaction.1",
        "payload": {"emoji": "👍"},
        "id": FEEDBACK,
        **changes,
    }


def purge(wanted: str) -> dict[str, Any]:
    return {
        "project_id": PROJECT,
        "query": {"$expr": {"$eq": [{"$getField": "id"}, {"$literal": wanted}]}},
    }


class Client:
    """A client of the double."""

    def __init__(self, double: WeaveDouble, session: aiohttp.ClientSession) -> None:
        self.double, self._session = double, session

    async def ask(
        self, path: str, document: Any = None, raw: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        data = json.dumps(document).encode() if raw is None else raw
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self._session.post(self.double.endpoint + path, data=data, headers=sent) as answer:
            body = await answer.read()
            return answer.status, [json.loads(line) for line in body.splitlines()]

    async def calls(self, *items: Any) -> int:
        return (await self.ask(COMPLETE, {"batch": list(items)}))[0]


def run(work: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with WeaveDouble(**options) as double, aiohttp.ClientSession() as session:
            await work(Client(double, session))

    asyncio.run(main())


def test_what_it_takes_it_gives_back() -> None:
    async def work(c: Client) -> None:
        assert await c.calls(call(), call(id="0" * 15 + "1", parent_id=CALL)) == 200
        assert (await c.ask("/traces/feedback/create", comment()))[0] == 200
        assert await c.ask("/traces/calls/query_stats", {"project_id": PROJECT, "limit": 1}) == (
            200,
            [{"count": 2}],
        )
        status, calls = await c.ask("/traces/calls/stream_query", {"project_id": PROJECT})
        assert (status, {each["id"] for each in calls}) == (200, {CALL, "0" * 15 + "1"})
        _, [found] = await c.ask("/traces/feedback/query", {"project_id": PROJECT})
        assert found == {"result": [comment()]}
        assert (await c.ask("/traces/feedback/purge", purge(FEEDBACK)))[0] == 200
        assert c.double.store.feedback == []
        _, [viewer] = await c.ask("/graphql", {"query": "…"})
        assert viewer == {"data": {"viewer": {"entity": "acme", "username": "acme"}}}

    run(work)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"id": CALL.upper()},
        {"id": "ABCDEF03-0000-4000-8000-000000000003"},
        {"id": CALL[1:]},
        {"trace_id": CALL},
        {"trace_id": "{" + TRACE + "}"},
        {"parent_id": "conversation-1"},
        {"parent_id": CALL},
        {"op_name": ""},
        {"op_name": "n" * 129},
        {"display_name": "n" * 1025},
        {"started_at": "2026-03-01T12:00:00"},
        {"started_at": 3},
        {"ended_at": ...},
        {"ended_at": "yesterday"},
        {"inputs": "text"},
        {"inputs": ...},
        {"attributes": []},
        {"summary": ...},
        {"summary": {"usage": {"m": 3}}},
        {"summary": {"status_counts": {"success": "1"}}},
        {"exception": {"a": 1}},
        {"thread_id": 4},
        {"metadata": {}},
    ],
)
def test_a_call_that_weave_would_refuse(changes: dict[str, Any]) -> None:
    assert list(problems(call())) == []
    assert len(list(problems(call(**changes)))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"weave_ref": "weave:///other/shop/call/1"},
        {"weave_ref": CALL},
        {"payload": {"emoji": "👍👍"}},
        {"payload": None},
        {"feedback_type": "wandb.note.1"},
        {"feedback_type": "wandb.note.1", "payload": {"note": ""}},
        {"feedback_type": "wandb.note.1", "payload": {"note": "n" * 1025}},
        {"feedback_type": "wandb.annotation.x"},
        {"feedback_type": "tailrace.evaluation.x", "payload": {"text": "嗨" * (PAYLOAD_BYTES // 6)}},
        {"started_at": "now"},
    ],
)
def test_feedback_that_weave_would_refuse(changes: dict[str, Any]) -> None:
    assert feedback_of(comment()) == comment()
    with pytest.raises(RequestRefused) as e:
        feedback_of(comment(**changes))
    assert e.value.status in (400, 422)


def test_feedback_is_purged_by_its_id_only() -> None:
    assert purged_id(purge(FEEDBACK)) == FEEDBACK
    others: tuple[dict[str, Any], ...] = (
        {},
        {"query": {}},
        {"query": {"$expr": {"$eq": [{"$getField": "creator"}, {"$literal": "x"}]}}},
    )
    for query in others:
        with pytest.raises(RequestRefused, match="by specifying one or more feedback ids"):
            purged_id({"project_id": PROJECT, **query})


def test_one_bad_call_refuses_its_request() -> None:
    async def work(c: Client) -> None:
        assert await c.calls(call(), call(id="x")) == 422
        assert await c.calls(call(project_id="acme/other")) == 422
        assert (await c.ask(COMPLETE, {"calls": []}))[0] == 422
        assert (await c.ask(COMPLETE, raw=b"{"))[0] == 422
        assert c.double.store.calls == {}
        body = gzip.compress(json.dumps({"batch": [call()]}).encode())
        assert (await c.ask(COMPLETE, raw=body, Content_Encoding="gzip"))[0] == 200
        c.double.gzip = False
        assert (await c.ask(COMPLETE, raw=body, Content_Encoding="gzip"))[0] == 422

    run(work)


def test_a_request_that_is_too_large_and_a_project_that_does_not_exist() -> None:
    async def work(c: Client) -> None:
        assert await c.calls(call()) == 404
        c.double.projects = [PROJECT]
        assert await c.calls(call()) == 200
        assert await c.calls(call(output="x" * 3000)) == 413
        other = {"project_id": "acme/other"}
        assert (await c.ask("/traces/calls/query_stats", other))[0] == 404
        assert (await c.ask("/traces/feedback/create", comment()))[0] == 200

    run(work, projects=["acme/nothing"], max_bytes=2000)


def test_only_the_key_comes_in() -> None:
    async def work(c: Client) -> None:
        assert await c.calls(call()) == 401
        right = basic_authorization("api", "k")
        assert (await c.ask(COMPLETE, {"batch": [call()]}, Authorization=right))[0] == 200
        assert (await c.ask("/graphql", {}, Authorization=basic_authorization("api", "no")))[0] == 401

    run(work, api_key="k")


def test_faults_of_a_group() -> None:
    async def work(c: Client) -> None:
        assert await c.calls(call()) == 200
        assert (await c.ask("/traces/feedback/create", comment()))[0] == 503
        assert (await c.ask("/traces/feedback/create", comment()))[0] == 200

    run(work, faults=Faults(status=503, status_first=1, only="feedback"))


# -- the store
def test_the_key_of_a_call_is_project_start_and_id() -> None:
    store = WeaveStore()
    store.put(call())
    store.put(call(output="b"))
    assert [c["output"] for c in store.state()["calls"]] == ["b"]
    store.put(call(started_at="2026-03-01T13:00:00.123+01:00"))  # the same instant
    assert len(store.calls) == 1
    store.put(call(started_at="2026-03-01T12:00:00.123001Z"))
    store.put(call(project_id="acme/other"))
    assert len(store.calls) == 3


def test_feedback_that_is_created_twice_is_there_twice() -> None:
    """As on Weave's server in memory, and in its database until a merge."""
    store = WeaveStore()
    store.comment(comment())
    store.comment(comment(payload={"emoji": "👎"}))
    assert [f["payload"] for f in store.state()["feedback"]] == [{"emoji": "👍"}, {"emoji": "👎"}]
    store.purge("acme/other", FEEDBACK)
    assert len(store.feedback) == 2
    store.purge(PROJECT, FEEDBACK)
    assert store.feedback == []


def test_feedback_that_replaces_is_there_once() -> None:
    async def work(c: Client) -> None:
        for emoji in ("👍", "👍", "👎"):
            body = comment(payload={"emoji": emoji}, feedback_id=FEEDBACK)
            assert (await c.ask("/traces/feedback/replace", body))[0] == 200
        assert c.double.store.feedback == [comment(payload={"emoji": "👎"})]
        wrong = comment(payload={"emoji": "no"}, feedback_id=FEEDBACK)
        assert (await c.ask("/traces/feedback/replace", wrong))[0] == 400
        assert (await c.ask("/traces/feedback/replace", comment()))[0] == 422
        assert (await c.ask("/traces/feedback/create", comment(feedback_id=FEEDBACK)))[0] == 422
        assert c.double.store.feedback == [comment(payload={"emoji": "👎"})]

    run(work)


def test_columns_that_are_too_large_are_replaced_largest_first() -> None:
    store = WeaveStore()
    store.put(call(output="x" * 3_000_000, inputs={"q": "y" * 600_000}))
    assert store.stripped == []
    store.put(call(output="x" * 3_000_000, inputs={"q": "嗨" * 600_000}))  # escapes of six bytes
    [found] = store.state()["calls"]
    assert (found["inputs"], len(found["output"])) == (EXCEEDED, 3_000_000)
    assert store.stripped == [CALL]


def test_what_looks_like_a_credential_is_replaced() -> None:
    store = WeaveStore()
    store.put(call(inputs={"api_key": "k", "a": [{"access_token": "t", "total_tokens": 3}]}))
    assert store.state()["calls"][0]["inputs"] == {
        "api_key": "REDACTED",
        "a": [{"access_token": "REDACTED", "total_tokens": 3}],
    }
    assert redacted({"X-Api-Key": "k", "auth-token": "", "page_token": "p", "secret": "s"}) == {
        "X-Api-Key": "REDACTED",
        "auth-token": "",
        "page_token": "p",
        "secret": "s",
    }
    assert redacted({"Authorization": {"x": 1}}) == {"Authorization": {"x": 1}}
    store.put(call(output={"api_key": "k"}))
    assert store.state()["calls"][0]["output"] == {"api_key": "k"}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("weave:///x", 400),
        ("weave:///acme/shop", 400),
        ("weave:///acme/shop/object/o:v", 200),
        ("weave:///other/shop/object/o:v", 404),
        ("weave-trace-internal:///p/object/o:v", 400),
        ('{"deep": ["{\\"in\\": \\"weave:///x\\"}"]}', 400),
        ("see weave:///x", 200),
        ("weave;///x", 200),
    ],
)
def test_texts_are_references(text: str, status: int) -> None:
    async def work(c: Client) -> None:
        for field in ("inputs", "output", "attributes"):
            assert await c.calls(call(**{field: {"a": [text]}})) == status, field
        about = comment(feedback_type="x", payload={"a": text})
        assert (await c.ask("/traces/feedback/create", about))[0] == status

    run(work, projects=[PROJECT])


@pytest.mark.parametrize(("levels", "status"), [(190, 200), (210, 413), (5000, 422)])
def test_a_request_that_is_nested_too_deeply(levels: int, status: int) -> None:
    async def work(c: Client) -> None:
        deep = json.dumps({"batch": [call(output="X")]}).replace('"X"', "[" * levels + "]" * levels)
        assert (await c.ask(COMPLETE, raw=deep.encode()))[0] == status

    run(work)


def test_circles_are_found() -> None:
    store = WeaveStore()
    ids = [f"{n:016x}" for n in range(5)]
    for own, parent in ((0, 1), (1, 0), (2, 0), (3, 4)):
        store.put(call(id=ids[own], parent_id=ids[parent]))
    assert store.cycles() == [ids[0], ids[1]]


def test_usage_is_summed_by_model() -> None:
    store = WeaveStore()
    store.put(call())
    store.put(call(id="f" * 16))
    store.put(call(id="e" * 16, trace_id="a" * 32, summary={}))
    assert store.usage() == {"m": {"prompt_tokens": 6}}
    assert store.usage("a" * 32) == {}
