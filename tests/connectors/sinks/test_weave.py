"""The Weave sink around its mapping: settings, requests, answers, the project, and what a hostile server is
left with."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import sys
import zlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.delivery.batch_sender import BatchSender
from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import Batch, Health, Item, Payload, RecordOrigin, Skip, spec_of
from connectors.sdk.http import NoAnswer, Response
from connectors.sdk.outcomes import Delivered, Outcome, Outcomes, Paused, Rejected, Retry, Split
from connectors.sinks.weave import project, responses
from connectors.sinks.weave.mapping import call_of
from connectors.sinks.weave.row_limits import MOST_LEVELS
from connectors.sinks.weave.sink import Weave
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.weave import WeaveDouble
from tailrace.errors import ConfigError
from tests.golden.events import golden as every_golden

JSON = {"content-type": "application/json"}
golden = functools.cache(every_golden)
SENT = [n for n in sorted(golden()) if not n.startswith(("app_", "rehydration", "evaluation_of_session"))]


def make(**values: Any) -> Weave:
    given: dict[str, Any] = {"api_key": "key-1", "project": "shop", "entity": "acme", "host": "http://w"}
    return Weave(Weave.Settings(**{**given, **values}), now=lambda: 1_772_366_500.0)


def batch(sink: Weave, *names: str) -> Batch:
    items = []
    for i, name in enumerate(names):
        payload = sink.map(golden()[name])
        assert isinstance(payload, Payload), payload
        items.append(Item(payload, RecordOrigin("t", 0, i, 0)))
    return Batch(tuple(items))


Answer = Callable[[str, Any], Response]
"""answer(url, body as JSON)"""


class Http:
    """Answers as it is told and keeps what it was sent."""

    def __init__(self, answer: Answer = lambda url, body: Response(200, JSON, b"{}")) -> None:
        self.answer = answer
        self.sent: list[tuple[str, Any, Mapping[str, str]]] = []

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        assert method == "POST"
        plain = zlib.decompress(body, 31) if headers.get("Content-Encoding") == "gzip" else body
        document = json.loads(plain)
        self.sent.append((url, document, headers))
        return self.answer(url, document)

    @property
    def paths(self) -> list[str]:
        return [url.partition("/traces")[2] for url, _, _ in self.sent]


def send(sink: Weave, http: Http, *names: str) -> Outcomes:
    return asyncio.run(sink.send(batch(sink, *names), http))


def check(sink: Weave, http: Http) -> Health:
    return asyncio.run(sink.check(http))


def refuse(status: int, reason: str = "no", path: str = "", **headers: str) -> Answer:
    def answer(url: str, body: Any) -> Response:
        if path not in url:
            return Response(200, JSON, b'{"count": 0}')
        return Response(status, {**JSON, **headers}, json.dumps({"reason": reason}).encode())

    return answer


def viewer(entity: str | None) -> Answer:
    def answer(url: str, body: Any) -> Response:
        if url.endswith("/graphql"):
            said = None if entity is None else {"entity": entity, "username": "someone"}
            return Response(200, JSON, json.dumps({"data": {"viewer": said}}).encode())
        return Response(200, JSON, b'{"count": 0}')

    return answer


# -- settings
@pytest.mark.parametrize(
    ("values", "traces"),
    [
        ({}, "https://trace.wandb.ai"),
        ({"host": "https://api.wandb.ai/"}, "https://trace.wandb.ai"),
        ({"host": "https://wandb.ai"}, "https://trace.wandb.ai"),
        ({"host": "https://acme.wandb.io"}, "https://acme.wandb.io/traces"),
        ({"host": "http://wandb.example/base/"}, "http://wandb.example/base/traces"),
        ({"host": "http://a", "trace_url": "http://b/traces/"}, "http://b/traces"),
    ],
)
def test_where_calls_go(values: dict[str, Any], traces: str) -> None:
    http = Http()
    send(make(**{"host": "https://api.wandb.ai", **values}), http, "message")
    assert http.sent[0][0] == f"{traces}/v2/acme/shop/calls/complete"


def test_a_key_of_another_host_never_goes_to_the_cloud() -> None:
    http = Http(viewer("acme"))
    sink = make(host="https://acme.wandb.io", entity="")
    send(sink, http, "message", "feedback_like")
    check(sink, http)
    assert {url.partition("://")[2].partition("/")[0] for url, _, _ in http.sent} == {"acme.wandb.io"}


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"api_key": ""}, "api_key"),
        ({"api_key": "a b"}, "api_key"),
        ({"api_key": "a\nb"}, "api_key"),
        ({"api_key": "ключ"}, "api_key"),
        ({"project": " "}, "project"),
        ({"project": "acme/shop"}, "project"),
        ({"project": "\ud800"}, "project"),
        ({"entity": "a/b"}, "entity"),
        ({"host": "acme.wandb.io"}, "host"),
        ({"host": "http://u:p@a"}, "host"),
        ({"trace_url": "http://a?x=1"}, "trace_url"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigError, match=f"^{setting}: ") as e:
        make(**values)
    assert "a\nb" not in str(e.value)


def test_the_sdks_variables() -> None:
    env = {
        "WANDB_API_KEY": "k",
        "WANDB_ENTITY": "e",
        "WANDB_PROJECT": "p",
        "WANDB_BASE_URL": "http://w",
        "WF_TRACE_SERVER_URL": "http://t",
    }
    assert spec_of(Weave).environment(env) == {
        "api_key": "k",
        "entity": "e",
        "project": "p",
        "host": "http://w",
        "trace_url": "http://t",
    }


# -- requests
def test_a_batch_is_its_calls_and_then_its_feedback() -> None:
    http = Http()
    names = ("feedback_like", "node_llm", "message", "feedback_withdrawn", "evaluation_of_trace")
    assert send(make(), http, *names) == [Delivered()] * 5
    assert http.paths == [
        "/v2/acme/shop/calls/complete",
        "/feedback/replace",
        "/feedback/replace",
        "/feedback/purge",
        "/feedback/purge",
        "/feedback/replace",
    ]
    assert [c["display_name"] for c in http.sent[0][1]["batch"]] == [
        "Answer",
        f"message_{golden()['message'].event.message_id}",
    ]
    assert {json.dumps(body).count('"acme/shop"') > 0 for _, body, _ in http.sent} == {True}
    assert {h["Authorization"] for *_, h in http.sent} == {"Basic YXBpOmtleS0x"}  # api:key-1
    assert not any("Content-Encoding" in h for *_, h in http.sent)


def test_gzip_for_hosts_that_take_it() -> None:
    http = Http()
    assert send(make(compression="gzip"), http, "message") == Delivered()
    assert http.sent[0][2]["Content-Encoding"] == "gzip"


def test_names_are_quoted_in_the_path() -> None:
    http = Http()
    send(make(entity="my team", project="a&b?ü"), http, "message")
    assert http.paths == ["/v2/my%20team/a%26b%3F%C3%BC/calls/complete"]
    assert http.sent[0][1]["batch"][0]["project_id"] == "my team/a&b?ü"


@pytest.mark.parametrize("name", SENT)
def test_the_size_of_a_payload(name: str) -> None:
    sink, http = make(), Http()
    payload = sink.map(golden()[name])
    assert isinstance(payload, Payload)
    send(sink, http, name)
    assert payload.events == len(http.sent)
    bodies = [json.dumps(b, separators=(",", ":"), ensure_ascii=False).encode() for _, b, _ in http.sent]
    assert 0 <= payload.size - sum(map(len, bodies)) < 200 * len(http.sent)


def test_more_than_weave_takes_is_split_without_asking() -> None:
    sink, http = make(), Http()
    item = batch(sink, "node_llm").items[0]
    assert asyncio.run(sink.send(Batch((item,) * 1001), http)) == Split()
    assert http.sent == []


# -- the entity
def test_the_entity_of_the_key_is_asked_for_once() -> None:
    http = Http(viewer("team-7"))
    sink = make(entity="")
    assert send(sink, http, "message") == Delivered()
    assert send(sink, http, "node_llm") == Delivered()
    assert [url for url, _, _ in http.sent] == [
        "http://w/graphql",
        *["http://w/traces/v2/team-7/shop/calls/complete"] * 2,
    ]
    assert http.sent[1][1]["batch"][0]["project_id"] == "team-7/shop"
    payload = sink.map(golden()["message"])
    assert isinstance(payload, Payload)
    assert sink.render(payload)["project_id"] == "team-7/shop"
    unknown = make(entity="").render(payload)
    assert unknown["project_id"] == "(the key's own)/shop"


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        *(
            (viewer(odd), Paused("W&B does not know the key's user (unauthorized)", "api_key, host"))
            for odd in ("team/shop", "team\n", "\ud800")
        ),
        (viewer(None), Paused("W&B does not know the key's user (unauthorized)", "api_key, host")),
        (
            refuse(200, path="/graphql"),
            Paused("W&B does not know the key's user (unauthorized)", "api_key, host"),
        ),
        (refuse(401), Paused("unauthorized (status 401): no", "api_key, host")),
        (refuse(404), Paused("not_found (status 404): no", "api_key, host")),
        (refuse(400), Paused("W&B does not say whose key it is (status 400)", "api_key, host")),
        (refuse(413), Paused("W&B does not say whose key it is (status 413)", "api_key, host")),
        (refuse(503), Retry(None, "status 503: no")),
        (refuse(429, **{"retry-after": "9"}), Retry(9.0, "status 429: no", busy=True)),
    ],
)
def test_nothing_is_sent_while_the_entity_is_not_known(answer: Answer, want: Outcome) -> None:
    http = Http(answer)
    assert send(make(entity=""), http, "message", "feedback_like") == want
    assert len(http.sent) == 1


# -- answers
@pytest.mark.parametrize(
    ("status", "headers", "want"),
    [
        (401, {}, Paused("unauthorized (status 401): no", "api_key, entity, project")),
        (403, {}, Paused("forbidden (status 403): no", "api_key, entity, project")),
        (404, {}, Paused("not_found (status 404): no", "entity, project")),
        (302, {}, Paused("redirected (status 302): no", "host, trace_url")),
        (500, {}, Retry(None, "status 500: no")),
        (429, {"retry-after": "7"}, Retry(7.0, "status 429: no", busy=True)),
        (429, {}, Retry(None, "status 429: no", busy=True)),
        (413, {}, Split(status=413)),
    ],
)
def test_statuses(status: int, headers: dict[str, str], want: Outcome) -> None:
    assert send(make(), Http(refuse(status, **headers)), "node_llm", "node_tool") == want


PAGE = b"<!DOCTYPE html><title>Sign in</title>"


def pages(path: str) -> Answer:
    """A login page with status 200 for one path."""

    def answer(url: str, body: Any) -> Response:
        return (
            Response(200, {"content-type": "text/html"}, PAGE) if path in url else Response(200, JSON, b"{}")
        )

    return answer


@pytest.mark.parametrize("body", [PAGE, b"\n <html>", b"ok", b"[1]", b'"', b"\xff"])
def test_a_success_that_is_not_weaves_pauses(body: bytes) -> None:
    """Nothing counts as delivered that a proxy or a login has swallowed."""
    want = Paused("not_weave (status 200): the answer is not that of Weave's API", "host, trace_url")
    assert send(make(), Http(lambda url, _: Response(200, {}, body)), "message", "feedback_like") == want
    held = send(make(), Http(pages("/feedback/")), "message", "feedback_like", "feedback_withdrawn")
    assert held == [Delivered(), want, want]


@pytest.mark.parametrize("body", [b"", b"{}", b' {"id": "a"}', b'{"payload": {"comment": "cut by the client'])
def test_a_success_of_weaves_is_a_delivery(body: bytes) -> None:
    found = send(make(), Http(lambda url, _: Response(200, JSON, body)), "message", "feedback_like")
    assert found == [Delivered(), Delivered()]


def test_a_page_does_not_say_whose_key_it_is() -> None:
    http = Http(pages("/graphql"))
    assert send(make(entity=""), http, "message") == Paused(
        "not_weave (status 200): the answer is not that of Weave's API", "api_key, host"
    )
    assert len(http.sent) == 1


@pytest.mark.parametrize("status", [400, 422])
def test_a_record_is_rejected_for_a_request_of_its_own(status: int) -> None:
    found = send(make(), Http(refuse(status, "bad id, key-1, YXBpOmtleS0x")), "node_llm")
    assert isinstance(found, Rejected)
    assert (found.reason, found.status, found.response) == ("rejected", status, "bad id, ***, ***")
    assert found.request is not None
    assert found.request.startswith("POST http://w, 1 calls, ")
    mixed = send(make(), Http(refuse(status, path="/calls/")), "node_llm", "feedback_like", "message")
    assert mixed == [Split("rejected", status), Delivered(), Split("rejected", status)]


def test_feedback_that_must_wait_holds_the_feedback_after_it_and_no_call() -> None:
    http = Http(refuse(503, path="/feedback/purge"))
    names = ("evaluation_of_trace", "feedback_withdrawn", "message", "feedback_like")
    wait = Retry(None, "status 503: no")
    assert send(make(), http, *names) == [Delivered(), wait, Delivered(), wait]
    assert http.paths[1:] == ["/feedback/replace", "/feedback/purge"]


def test_feedback_without_an_answer_does_not_send_the_calls_again() -> None:
    def answer(url: str, body: Any) -> Response:
        if "feedback" in url:
            raise NoAnswer("timeout")
        return Response(200, JSON, b"{}")

    assert send(make(), Http(answer), "message", "feedback_like") == [Delivered(), Retry(None, "timeout")]


def test_calls_that_must_wait_hold_the_whole_batch() -> None:
    http = Http(refuse(503, path="/calls/"))
    assert send(make(), http, "feedback_like", "message") == Retry(None, "status 503: no")
    assert len(http.sent) == 1


def test_messages_of_answers() -> None:
    def read(document: Any) -> str:
        return responses.message(Response(422, JSON, json.dumps(document).encode()))

    assert read({"reason": "a"}) == "a"
    assert read({"detail": "b"}) == "b"
    assert read({"detail": [{"loc": ["body", "batch", 0, "id"], "msg": "bad"}, 3]}) == "body.batch.0.id bad"
    assert read([1]) == read({"detail": 3}) == ""


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["detail", "reason", "loc", "data", "viewer", "entity"]), x)
        ),
    ).map(lambda d: json.dumps(d).encode())
)
def test_any_answer_can_be_read(body: bytes) -> None:
    answer = Response(422, JSON, body)
    assert isinstance(responses.message(answer), str)
    assert isinstance(responses.entity(answer), str | None)
    assert isinstance(responses.is_count(answer), bool)


# -- the check and the project
def test_a_check_that_is_well() -> None:
    http = Http(viewer("team-7"))
    assert check(make(entity=""), http) == Health(True, "project team-7/shop")
    assert http.sent[-1][1] == {"project_id": "team-7/shop", "limit": 1}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refuse(401), ("http://w: unauthorized", "see api_key, entity, project")),
        (refuse(403), ("http://w: forbidden", "see api_key, entity, project")),
        (refuse(404), ("there is no project acme/shop", "create_project")),
        (refuse(503), ("answers with status 503",)),
        (lambda url, body: Response(200, {}, b"<html>"), ("is not Weave's API", "see host, trace_url")),
        (refuse(200, path=""), ("is not Weave's API",)),
    ],
)
def test_a_check_that_is_not_well(answer: Answer, words: tuple[str, ...]) -> None:
    found = check(make(), Http(answer))
    assert not found.ok
    assert all(word in found.detail for word in words), found.detail


def test_a_check_without_an_answer() -> None:
    def answer(url: str, body: Any) -> Response:
        raise NoAnswer("connection", "refused")

    assert check(make(), Http(answer)) == Health(False, "connection: refused; see host, trace_url")


def fake_weave(folder: Path, code: str) -> Path:
    """A package `weave` with this code."""
    package = folder / "weave"
    package.mkdir()
    (package / "__init__.py").write_text(code)
    return folder


PACKAGE = """
import json, os, pathlib, sys
def init(name):
    said = {"name": name, "words": sys.argv}
    for n in ("WANDB_API_KEY", "WANDB_BASE_URL", "WF_TRACE_SERVER_URL", "WANDB_ERROR_REPORTING",
        "OPIK_API_KEY"):
        said[n] = os.environ.get(n)
    pathlib.Path(__file__).with_name("said.json").write_text(json.dumps(said))
"""


def test_a_project_that_does_not_exist_is_made_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake_weave(tmp_path, PACKAGE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("OPIK_API_KEY", "of another sink")
    assert project.installed()
    exists = folder / "weave" / "said.json"

    def answer(url: str, body: Any) -> Response:
        if exists.exists():
            return Response(200, JSON, b'{"count": 0}')
        return Response(404, JSON, b'{"reason": "Project not found"}')

    found = check(make(create_project=True), Http(answer))
    assert found == Health(True, "project acme/shop")
    said = json.loads(exists.read_text())
    assert said.pop("words")[1:] == ["acme", "shop"]
    assert said == {
        "name": "acme/shop",
        "WANDB_API_KEY": "key-1",
        "WANDB_BASE_URL": "http://w",
        "WF_TRACE_SERVER_URL": "http://w/traces",
        "WANDB_ERROR_REPORTING": "false",
        "OPIK_API_KEY": None,
    }


def test_a_package_that_fails_is_quoted_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os\ndef init(name): raise SystemExit('no ' + os.environ['WANDB_API_KEY'])\n"
    folder = fake_weave(tmp_path, code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    found = check(make(create_project=True), Http(refuse(404)))
    assert not found.ok
    assert found.detail == (
        "there is no project acme/shop, and Weave's package cannot make it: no ***; see api_key"
    )


def test_without_the_package_the_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weave", None)
    monkeypatch.setattr(project, "find_spec", lambda name: None)
    found = check(make(create_project=True), Http(refuse(404)))
    assert not found.ok
    assert "pip install 'tailrace[weave]'" in found.detail


def test_the_package_is_never_imported_by_the_sink() -> None:
    assert "weave" not in sys.modules


# -- the page of a trace
def test_the_link_is_the_page_of_the_root_call() -> None:
    trace = golden()["message"].context.root_trace_id or ""
    page = f"acme/shop/r/call/{call_of(trace)}"
    assert make(host="https://api.wandb.ai").link(trace) == f"https://wandb.ai/{page}"
    own = make(host="https://acme.wandb.io")
    assert own.link(trace) == f"https://acme.wandb.io/{page}"
    assert "key-1" not in (own.link(trace) or "")
    assert make(entity="").link(trace) is None
    assert own.link("\ud800") is None


# -- the double
def with_double(work: Callable[[WeaveDouble, AiohttpTransport], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with WeaveDouble(**options) as double:
            transport = AiohttpTransport()
            try:
                await work(double, transport)
            finally:
                await transport.close()

    asyncio.run(run())


async def deliver(sink: Weave, http: AiohttpTransport, whole: Batch) -> list[RecordResult]:
    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    return await BatchSender("weave", sink, http, sleep=at_once, random=lambda: 0.0).deliver(whole)


def test_all_golden_events_are_stored_and_redelivery_changes_nothing() -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint)
        whole = batch(sink, *SENT)
        results = await deliver(sink, http, whole)
        assert {type(r.verdict) for r in results} == {Delivered}
        once = json.dumps(double.store.state(), sort_keys=True)
        assert len(double.store.calls) == len([n for n in SENT if not n.startswith(("feedback", "eval"))])
        assert len(double.store.feedback) == 5
        assert double.store.cycles() == double.store.stripped == []
        for seed in range(3):
            calls = [i for i in whole.items if isinstance(i.payload.body, bytes)]
            random.Random(seed).shuffle(calls)
            rest = [i for i in whole.items if not isinstance(i.payload.body, bytes)]
            await deliver(sink, http, Batch((*calls, *rest)))
            assert json.dumps(double.store.state(), sort_keys=True) == once

    with_double(work)


def test_a_resend_is_byte_identical() -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint)
        for _ in range(2):
            await deliver(sink, http, batch(sink, *SENT))
        bodies = [exchange.body for exchange in double.exchanges]
        assert bodies[: len(bodies) // 2] == bodies[len(bodies) // 2 :]

    with_double(work)


def test_what_a_trace_has_is_what_its_leaves_have() -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint)
        await deliver(sink, http, batch(sink, "message", "workflow_run", "node_llm", "node_tool"))
        trace = golden()["message"].event.message_id or ""
        assert double.store.usage(trace)["gpt-4o"]["total_tokens"] == 1540

    with_double(work)


def test_poison_is_found_and_all_others_are_stored() -> None:
    """A call that only the server refuses, in a batch of many."""

    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint)
        whole = batch(sink, *SENT)
        at = SENT.index("node_llm")
        bad = msgspec.structs.replace(
            whole.items[at].payload,
            body=whole.items[at].payload.body.replace(b'"op_name":"llm"', b'"op_name":""'),
        )
        items = list(whole.items)
        items[at] = msgspec.structs.replace(items[at], payload=bad)
        results = await deliver(sink, http, Batch(tuple(items)))
        refused = [name for name, r in zip(SENT, results, strict=True) if isinstance(r.verdict, Rejected)]
        assert refused == ["node_llm"]
        [verdict] = [r.verdict for r in results if isinstance(r.verdict, Rejected)]
        assert verdict.response is not None
        assert "op_name" in verdict.response

    with_double(work)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(status=503, status_first=2),
        Faults(status=429, status_first=2, headers={"Retry-After": "1"}),
        Faults(reset="request", reset_first=2),
        Faults(reset="response", reset_first=2),
        Faults(status=500, status_first=2, only="feedback"),
    ],
)
def test_faults_leave_the_same_store(faults: Faults) -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint)
        await deliver(sink, http, batch(sink, *SENT))
        async with WeaveDouble(faults=faults) as hostile:
            again = make(host=hostile.endpoint)
            results = await deliver(again, http, batch(again, *SENT))
            assert {type(r.verdict) for r in results} == {Delivered}
            assert hostile.store.state() == double.store.state()

    with_double(work)


def test_a_request_that_is_too_large_is_halved() -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint)
        results = await deliver(sink, http, batch(sink, *SENT))
        assert {type(r.verdict) for r in results} == {Delivered}
        assert {e.status for e in double.exchanges} == {200, 413}

    with_double(work, max_bytes=6000)


REFERENCES = (
    "weave:///x",
    "weave:///another/project/object/o:v",
    "weave-trace-internal:///p/object/o:v",
    r'{"a": ["weave:\/\/\/x"]}',
    r'{"a": "\u0077eave:\u002F//x"}',
    json.dumps({"a": json.dumps({"b": json.dumps(["weave:///x"])})}),
)
"""Texts that Weave's server looks up before it stores a request."""


@pytest.mark.parametrize("view", ["calls", "agents"])
@pytest.mark.parametrize("text", REFERENCES)
def test_what_a_user_types_does_not_keep_calls_from_weave(text: str, view: str) -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint, view=view)
        fields = ("inputs", "outputs", "error", "name", "conversation_id", "model_name", "user_id")
        for name in ("message", "node_llm", "span_llm", "feedback_like", "evaluation_of_trace"):
            record = golden()[name]
            event = msgspec.structs.replace(record.event, **dict.fromkeys(fields, text), tags=[text])
            if event.feedback is not None:
                said = msgspec.structs.replace(event.feedback, content=text)
                event = msgspec.structs.replace(event, feedback=said)
            if event.evaluation is not None:
                said_of = msgspec.structs.replace(event.evaluation, explanation=text, evaluator=text)
                event = msgspec.structs.replace(event, evaluation=said_of)
            payload = sink.map(msgspec.structs.replace(record, event=event))
            if isinstance(payload, Skip):
                continue
            assert isinstance(payload, Payload)
            one = Batch((Item(payload, RecordOrigin("t", 0, 0, 0)),))
            assert [r.verdict for r in await deliver(sink, http, one)] == [Delivered()], name
        assert len(double.store.calls) + len(double.store.spans) == 3

    with_double(work, projects=["acme/shop"])


def test_what_looks_like_a_reference_is_changed_by_one_character() -> None:
    record = golden()["message"]
    event = msgspec.structs.replace(
        record.event, inputs='{"q": "see weave:///a/b, https://x/y"}', outputs="weave: ///"
    )
    payload = make().map(msgspec.structs.replace(record, event=event))
    assert isinstance(payload, Payload)
    call = make().render(payload)
    assert call["inputs"] == {"q": "see weave;///a/b, https://x/y"}
    assert call["output"] == "weave: ///"
    assert call["attributes"]["weave"] == {"kind": "chain"}


@pytest.mark.parametrize("levels", [140, 160, 400, 100_000])
def test_what_is_nested_too_deeply_is_stored(levels: int) -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint)
        record = golden()["node_llm"]
        deep = "[" * levels + "]" * levels
        assert record.event.node_execution is not None
        node = msgspec.structs.replace(record.event.node_execution, process_data=deep)
        event = msgspec.structs.replace(record.event, inputs=deep, outputs=deep, node_execution=node)
        payload = sink.map(msgspec.structs.replace(record, event=event))
        assert isinstance(payload, Payload)
        one = Batch((Item(payload, RecordOrigin("t", 0, 0, 0)),))
        assert [r.verdict for r in await deliver(sink, http, one)] == [Delivered()]
        [call] = double.store.calls.values()
        assert double.store.stripped == []
        marked = "tailrace.cut_for_weave" in call["attributes"]
        assert marked == (MOST_LEVELS < levels < 1000)  # deeper: a text, not read as JSON

    with_double(work)


def test_a_project_that_is_missing_pauses_until_it_exists() -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint)
        found = await sink.send(batch(sink, "message", "feedback_like"), http)
        assert isinstance(found, Paused)
        assert found.fix == "entity, project"
        assert "acme/shop not found" in found.reason
        double.projects = ["acme/shop"]
        results = await deliver(sink, http, batch(sink, "message", "feedback_like"))
        assert {type(r.verdict) for r in results} == {Delivered}

    with_double(work, projects=["acme/other"])


def test_the_entity_is_learned_from_the_double() -> None:
    async def work(double: WeaveDouble, http: AiohttpTransport) -> None:
        sink = make(host=double.endpoint, entity="")
        assert await sink.check(http) == Health(True, "project team-7/shop")
        await deliver(sink, http, batch(sink, "message"))
        assert {key[0] for key in double.store.calls} == {"team-7/shop"}
        wrong = make(host=double.endpoint, entity="", api_key="another")
        assert not (await wrong.check(http)).ok

    with_double(work, entity="team-7", api_key="key-1")
