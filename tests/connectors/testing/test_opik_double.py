"""The Opik double refuses what Opik refuses, merges as its store does, and fails as scripted."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from connectors.sinks.opik.ids import uuid7
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.opik import OpikDouble
from connectors.testing.doubles.opik_rules import OpikStore, out_of_window, problems, version

NOW = 1_772_366_500.0
MS = int(NOW * 1000)
TRACE, SPAN = uuid7(MS, b"trace"), uuid7(MS, b"span")
WHEN = "2026-03-01T12:00:00.123000Z"


def trace(**changes: Any) -> dict[str, Any]:
    return {"id": TRACE, "start_time": WHEN, "project_name": "p", **changes}


def span(**changes: Any) -> dict[str, Any]:
    return {"id": SPAN, "trace_id": TRACE, "start_time": WHEN, "project_name": "p", **changes}


def score(**changes: Any) -> dict[str, Any]:
    return {"id": TRACE, "name": "user_feedback", "value": 1, "source": "sdk", "project_name": "p", **changes}


class Client:
    """A client of the double."""

    def __init__(self, double: OpikDouble, session: aiohttp.ClientSession) -> None:
        self.double, self._session = double, session

    async def ask(
        self, method: str, path: str, document: Any = None, raw: bytes | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        data = raw if raw is not None else None if document is None else json.dumps(document).encode()
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        url = self.double.url.removesuffix("/api") + path
        async with self._session.request(method, url, data=data, headers=sent) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body else None, dict(answer.headers)

    async def traces(self, *items: Any) -> int:
        return (await self.ask("POST", "/api/v1/private/traces/batch", {"traces": list(items)}))[0]

    async def spans(self, *items: Any) -> int:
        return (await self.ask("POST", "/api/v1/private/spans/batch", {"spans": list(items)}))[0]

    async def scores(self, *items: Any, of: str = "traces") -> int:
        return (await self.ask("PUT", f"/api/v1/private/{of}/feedback-scores", {"scores": list(items)}))[0]


def run(work: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with (
            OpikDouble(**{"clock": lambda: NOW, **options}) as double,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
        ):
            await work(Client(double, session))

    asyncio.run(main())


def test_what_it_takes_it_gives_back() -> None:
    async def work(c: Client) -> None:
        assert await c.traces(trace(name="a"), trace(id=uuid7(MS, b"other"))) == 204
        assert await c.spans(span()) == 204
        assert await c.scores(score()) == 204
        assert await c.scores(score(id=SPAN), of="spans") == 204
        assert (await c.ask("GET", f"/api/v1/private/traces/{TRACE}"))[:2] == (200, trace(name="a"))
        assert (await c.ask("GET", f"/api/v1/private/traces/{SPAN}"))[0] == 404
        assert (await c.ask("GET", f"/api/v1/private/spans?trace_id={TRACE}"))[1]["content"] == [span()]
        assert (await c.ask("GET", "/api/v1/private/projects?size=1"))[1]["content"] == [{"name": "p"}]
        assert (await c.ask("GET", "/api/is-alive/ping"))[0] == 200
        _, state, _ = await c.ask("GET", "/_state")
        assert (len(state["traces"]), len(state["spans"]), len(state["scores"])) == (2, 1, 2)
        assert (state["requests"], state["accepted"]) == (4, 4)

    run(work)


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("traces", trace(id="00000003-0000-4000-8000-000000000003")),
        ("traces", trace(id=TRACE[:19] + "0" + TRACE[20:])),
        ("traces", trace(id=None)),
        ("traces", trace(start_time=None)),
        ("traces", trace(start_time="2026-03-01T12:00:00")),
        ("traces", trace(end_time="1969-01-01T00:00:00Z")),
        ("traces", trace(end_time="2262-01-01T00:00:00Z")),
        ("traces", trace(input=3)),
        ("traces", trace(tags=[1])),
        ("traces", trace(source="me")),
        ("traces", trace(error_info={"message": "m"})),
        ("traces", trace(error_info={"exception_type": "E", "traceback": " "})),
        ("traces", trace(ttft=-1)),
        ("traces", trace(environment="e" * 151)),
        ("traces", trace(thread_id=4)),
        ("traces", trace(project_name=" ")),
        ("spans", span(trace_id=None)),
        ("spans", span(parent_span_id="x")),
        ("spans", span(type="retriever")),
        ("spans", span(usage={"n": 1.0})),
        ("spans", span(usage={"n": True})),
        ("spans", span(usage={"n": 2**31})),
        ("spans", span(total_estimated_cost="1")),
        ("spans", span(total_estimated_cost=-1)),
        ("scores", score(value=None)),
        ("scores", score(value="1")),
        ("scores", score(name=" ")),
        ("scores", score(source="me")),
        ("scores", score(id="x")),
    ],
)
def test_an_item_that_opik_would_refuse(name: str, item: dict[str, Any]) -> None:
    good = {"traces": trace(), "spans": span(), "scores": score()}[name]
    assert list(problems(name, good)) == []
    assert len(list(problems(name, item))) == 1


def test_one_bad_item_refuses_its_request() -> None:
    async def work(c: Client) -> None:
        assert await c.traces(trace(), trace(id="x")) == 400
        assert c.double.store.traces == {}
        assert await c.traces() == 400
        assert await c.traces(*[trace()] * 1001) == 400
        assert await c.traces("x") == 400
        path = "/api/v1/private/traces/batch"
        assert (await c.ask("POST", path, raw=b"{"))[0] == 400
        assert (await c.ask("POST", path, raw=b"[1]"))[0] == 400
        assert (await c.ask("POST", path, raw=b"junk", Content_Encoding="gzip"))[0] == 400
        assert (await c.ask("POST", path, {"traces": [trace()]}, Content_Type="text/plain"))[0] == 415
        body = gzip.compress(json.dumps({"traces": [trace()]}).encode())
        assert (await c.ask("POST", path, raw=body, Content_Encoding="gzip"))[0] == 204

    run(work)


def test_times_outside_the_window_are_refused() -> None:
    for field in ("id", "trace_id", "parent_span_id"):
        for hours, want in ((-23.9, None), (-24.1, "too_old"), (23.9, None), (24.1, "too_far_future")):
            item = span(**{field: uuid7(MS + round(hours * 3_600_000), b"x")})
            assert out_of_window("spans", item, NOW, 24.0) == want

    async def work(c: Client) -> None:
        assert await c.traces(trace()) == 204
        c.double.clock = lambda: NOW + 25 * 3600
        status, answer, _ = await c.ask("POST", "/api/v1/private/traces/batch", {"traces": [trace()]})
        assert (status, "too_old" in answer["message"]) == (400, True)
        assert await c.scores(score()) == 204  # ratings have none
        c.double.window_hours = 0.0
        assert await c.traces(trace()) == 204

    run(work, window_hours=24.0)


def test_newest_wins_and_keys_are_those_of_the_store() -> None:
    def updated(second: int, **changes: Any) -> dict[str, Any]:
        return {"last_updated_at": f"2026-03-01T12:00:{second:02}.000000Z", **changes}

    store = OpikStore()
    for second, name in ((5, "new"), (1, "old"), (5, "same time, later")):
        store.put("traces", trace(**updated(second, name=name)))
        store.put("spans", span(**updated(second, name=name)))
    assert [t["name"] for t in store.state()["traces"]] == ["same time, later"]
    assert [s["name"] for s in store.state()["spans"]] == ["same time, later"]
    store.put("spans", span(parent_span_id=TRACE))
    store.put("spans", span(trace_id=SPAN))
    assert len(store.spans) == 3  # another parent or trace is another row


def test_an_id_of_another_project_and_unknown_ids() -> None:
    async def work(c: Client) -> None:
        assert await c.traces(trace()) == 204
        assert await c.traces(trace(project_name="q")) == 409
        assert (
            await c.spans(span(trace_id=uuid7(MS, b"not there"))) == 204
        )  # spans may come before their trace
        assert await c.scores(score(id=uuid7(MS, b"x"))) == 404
        assert await c.scores(score(), of="spans") == 404

    run(work)


def test_threads_are_scored_by_their_own_id() -> None:
    async def work(c: Client) -> None:
        of_thread = {k: v for k, v in score(thread_id="c").items() if k != "id"}
        assert await c.scores(of_thread, of="traces/threads") == 204  # it makes the thread
        assert await c.scores({**of_thread, "value": 0.5}, of="traces/threads") == 204
        [kept] = c.double.store.state()["scores"]
        assert (kept["of"], kept["thread_id"], kept["value"]) == ("traces/threads", "c", 0.5)
        for wrong in ({"thread_id": " "}, {"thread_id": None}, {"value": 1e9}, {"value": None}, {"name": ""}):
            assert await c.scores({**of_thread, **wrong}, of="traces/threads") == 400, wrong
        c.double.scores_open_threads = False
        assert await c.scores(of_thread, of="traces/threads") == 409

    run(work)


def test_scores_are_replaced_and_deleted_by_name() -> None:
    async def work(c: Client) -> None:
        await c.traces(trace())
        for value in (1, 0):
            assert await c.scores(score(value=value), score(name="other")) == 204
        assert [(s["name"], s["value"]) for s in c.double.store.state()["scores"]] == [
            ("other", 1),
            ("user_feedback", 0),
        ]
        path = f"/api/v1/private/traces/{TRACE}/feedback-scores/delete"
        for _ in range(2):
            assert (await c.ask("POST", path, {"name": "user_feedback"}))[0] == 204
        assert [s["name"] for s in c.double.store.state()["scores"]] == ["other"]
        assert (await c.ask("POST", path, {}))[0] == 400

    run(work)


def test_credentials() -> None:
    async def work(c: Client) -> None:
        path = "/api/v1/private/projects"
        assert (await c.ask("GET", path))[0] == 401
        assert (await c.ask("GET", path, Authorization="k"))[0] == 403
        assert (await c.ask("GET", path, Authorization="Bearer k", Comet_Workspace="w"))[0] == 401
        assert (await c.ask("GET", path, Authorization="k", Comet_Workspace="w"))[0] == 200
        assert await c.traces(trace()) == 401
        c.double.api_key = c.double.workspace = ""
        assert await c.traces(trace()) == 204

    run(work, api_key="k", workspace="w")


def test_rates_quota_and_size() -> None:
    async def work(c: Client) -> None:
        now = [NOW]
        c.double.clock = lambda: now[0]
        assert await c.traces(trace(), trace()) == 204
        now[0] += 20
        status, _, headers = await c.ask("POST", "/api/v1/private/spans/batch", {"spans": [span(), span()]})
        assert (status, headers["RateLimit-Reset"]) == (429, "40")
        assert await c.spans(span()) == 204
        now[0] += 40
        assert await c.spans(span(), span()) == 204
        c.double.rate.limit = 0
        assert await c.traces(trace(name="n" * 2000)) == 413
        big = gzip.compress(json.dumps({"traces": [trace(name="n" * 2000)]}).encode())
        assert len(big) < 1000
        assert (await c.ask("POST", "/api/v1/private/traces/batch", raw=big, Content_Encoding="gzip"))[
            0
        ] == 413
        c.double.quota_used_up = True
        assert await c.traces(trace()) == 402

    run(work, events_per_minute=3, max_bytes=1000)


def test_faults_come_in_order_and_of_the_writes_named() -> None:
    async def work(c: Client) -> None:
        assert await c.traces(trace()) == 204
        assert await c.spans(span()) == 500
        for kept in (0, 1):
            c.double.faults = Faults(
                only="spans", reset="request" if kept == 0 else "response", reset_first=0
            )
            with pytest.raises(aiohttp.ClientError):
                await c.spans(span())
            assert len(c.double.store.spans) == kept
        c.double.faults = Faults()
        assert await c.spans(span()) == 204
        assert [e.status for e in c.double.exchanges] == [204, 500, 0, 0, 204]

    run(work, faults=Faults(only="spans", status=500))


def test_numbers_of_faults() -> None:
    faults = Faults(status=503, status_first=2, reset="request", hang=True, hang_first=0)
    assert [faults.at(n) for n in (1, 2, 3, 4, 99)] == ["status", "status", "reset", "hang", "hang"]
    assert Faults().at(1) is None


def test_uuid_versions() -> None:
    assert version(TRACE) == 7
    assert version("00000003-0000-4000-8000-000000000003") == 4
    assert [version(v) for v in ("", None, 7, TRACE[:-1], TRACE.replace("-", ""))] == [None] * 5


def test_as_a_process() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "connectors.testing.doubles.opik", "--port", "0", "--json", "--api-key", "k"],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with urllib.request.urlopen(url.removesuffix("/api") + "/_state", timeout=30) as answer:
            assert json.load(answer) == {
                "traces": [],
                "spans": [],
                "scores": [],
                "requests": 0,
                "accepted": 0,
            }
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
