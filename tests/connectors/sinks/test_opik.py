"""The Opik sink around its mapping: settings, requests, answers, and what a hostile server is left with."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.delivery.batch_sender import BatchSender
from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import Batch, Enriched, Item, Payload, Rates, RecordOrigin, spec_of
from connectors.sdk.http import NoAnswer, Response
from connectors.sdk.outcomes import Delivered, Outcome, Outcomes, Paused, Rejected, Retry, Split
from connectors.sinks.opik import responses
from connectors.sinks.opik.requests import Call, combine
from connectors.sinks.opik.sink import Opik, base_url, is_cloud
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.opik import OpikDouble
from tailrace.errors import ConfigError
from tests.golden.events import golden as every_golden

JSON = {"content-type": "application/json"}
NOW = 1_772_366_500.0
"""Just after the golden events."""
HOUR = 3600.0
golden = functools.cache(every_golden)
SCORES = [n for n in sorted(golden()) if n.startswith(("feedback", "evaluation"))]
SENT = [n for n in sorted(golden()) if not n.startswith(("app_", "rehydration", "feedback", "evaluation"))]
SENT += SCORES
"""Scores come after what they are about."""


def make(url: str = "http://localhost:5173/api", now: float = NOW, **values: Any) -> Opik:
    return Opik(Opik.Settings(**{"url": url, **values}), now=lambda: now)


def batch(sink: Opik, *names: str, records: Mapping[str, Enriched] | None = None) -> Batch:
    items = []
    for i, name in enumerate(names):
        payload = sink.map((records or golden())[name])
        assert isinstance(payload, Payload), payload
        items.append(Item(payload, RecordOrigin("t", 0, i, 0)))
    return Batch(tuple(items))


Answer = Callable[[str, str, Any], Response]
"""answer(method, path, body as JSON)"""


class Http:
    """Answers as it is told and keeps what it was sent."""

    def __init__(self, answer: Answer = lambda method, path, body: Response(204)) -> None:
        self.answer = answer
        self.sent: list[tuple[str, str, Any, Mapping[str, str]]] = []

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        plain = zlib.decompress(body, 31) if headers.get("Content-Encoding") == "gzip" else body
        path = url.partition("/api")[2]
        document = json.loads(plain) if plain else None
        self.sent.append((method, path, document, headers))
        return self.answer(method, path, document)


def send(sink: Opik, http: Http, *names: str) -> Outcomes:
    return asyncio.run(sink.send(batch(sink, *names), http))


def refuse(status: int, message: str = "no", path: str = "/v1/", **headers: str) -> Answer:
    def answer(method: str, asked: str, body: Any) -> Response:
        if path not in asked:
            return Response(204)
        return Response(
            status, {**JSON, **headers}, json.dumps({"code": status, "message": message}).encode()
        )

    return answer


# -- settings
@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("https://www.comet.com/opik/api", "https://www.comet.com/opik/api"),
        ("https://www.comet.com/opik/api/", "https://www.comet.com/opik/api"),
        ("https://www.comet.com/opik", "https://www.comet.com/opik/api"),
        ("https://www.comet.com", "https://www.comet.com/opik/api"),
        ("http://localhost:5173", "http://localhost:5173/api"),
        ("http://localhost:5173/", "http://localhost:5173/api"),
        ("http://localhost:5173/api/", "http://localhost:5173/api"),
        ("https://llm.example/opik", "https://llm.example/opik/api"),
    ],
)
def test_url(url: str, want: str) -> None:
    assert base_url(url) == want


@pytest.mark.parametrize(
    "url",
    [
        "localhost:5173",
        "",
        "ftp://a/api",
        "http://",
        "http://a:99999",
        "http://u:p@a/api",
        "http://a/api?x=1",
        "http://a/api#x",
        "http://a/api/v1/private",
        "http://a/api/v1",
        "http://[::1",
    ],
)
def test_a_url_that_is_none_of_opiks(url: str) -> None:
    with pytest.raises(ConfigError, match="url: "):
        make(url)


def test_only_comets_hosts_are_the_cloud() -> None:
    assert is_cloud("https://www.comet.com/opik/api")
    assert is_cloud("https://comet.com")
    assert not is_cloud("https://comet.com.example/api")
    assert not is_cloud("https://notcomet.com/api")


def test_the_cloud_has_a_window_and_rates_and_wants_a_key() -> None:
    cloud = make("https://www.comet.com/opik/api", api_key="k", workspace="w")
    assert cloud.rates == Rates(5000, 2000)
    assert make().rates == Rates()
    with pytest.raises(ConfigError, match="api_key"):
        make("https://www.comet.com/opik/api")
    old = golden()["node_llm"]
    old = msgspec.structs.replace(
        old,
        context=msgspec.structs.replace(old.context, appended_at=old.context.appended_at + 25 * 3_600_000),
    )
    assert isinstance(cloud.map(old), Rejected)
    assert isinstance(make().map(old), Payload)
    assert isinstance(make(id_window_hours=1.0).map(old), Rejected)
    assert isinstance(make("https://www.comet.com", api_key="k", id_window_hours=0.0).map(old), Payload)


@pytest.mark.parametrize("values", [{"api_key": "a\nb"}, {"workspace": "a\r"}, {"project_name": " "}])
def test_settings_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))) as e:
        make(**values)
    assert "a\nb" not in str(e.value)


def test_the_sdks_variables() -> None:
    env = {
        "OPIK_URL_OVERRIDE": "http://o/api",
        "OPIK_API_KEY": "k",
        "OPIK_WORKSPACE": "w",
        "OPIK_PROJECT_NAME": "p",
    }
    assert spec_of(Opik).environment(env) == {
        "url": "http://o/api",
        "api_key": "k",
        "workspace": "w",
        "project_name": "p",
    }
    assert spec_of(Opik).environment({"OPIK_API_KEY": ""}) == {}


# -- requests
def test_a_batch_is_traces_then_spans_then_scores() -> None:
    http = Http()
    sink = make(api_key="key-1", workspace="acme", project_name="shop")
    assert (
        send(sink, http, "feedback_like", "node_llm", "message", "feedback_withdrawn", "span_agent")
        == Delivered()
    )
    assert [(m, p) for m, p, _, _ in http.sent[:3]] == [
        ("POST", "/v1/private/traces/batch"),
        ("POST", "/v1/private/spans/batch"),
        ("PUT", "/v1/private/traces/feedback-scores"),
    ]
    traces, spans, scores, withdrawn = (body for _, _, body, _ in http.sent)
    assert [t["name"] for t in traces["traces"]] == ["message", "Plan trip"]
    assert [s["name"] for s in spans["spans"]] == ["Answer", "llm", "Plan trip"]
    assert {o["project_name"] for o in traces["traces"] + spans["spans"] + scores["scores"]} == {"shop"}
    assert [s["id"] for s in scores["scores"]] == [traces["traces"][0]["id"]]
    assert withdrawn == {"name": "admin_feedback"}
    assert http.sent[3][1] == f"/v1/private/traces/{traces['traces'][0]['id']}/feedback-scores/delete"
    assert all(h["Authorization"] == "key-1" and h["Comet-Workspace"] == "acme" for *_, h in http.sent)
    assert all(
        h["Content-Encoding"] == "gzip" and h["Content-Type"] == "application/json" for *_, h in http.sent
    )


def test_evaluations_go_to_the_endpoint_of_what_they_are_about() -> None:
    http = Http()
    names = (
        "evaluation_of_session",
        "evaluation_of_trace",
        "evaluation_of_operation",
        "evaluation_with_label",
    )
    assert send(make(project_name="shop"), http, *names) == Delivered()
    assert [(m, p, [s["name"] for s in b["scores"]]) for m, p, b, _ in http.sent] == [
        ("PUT", "/v1/private/traces/feedback-scores", ["policy", "retrieval"]),
        ("PUT", "/v1/private/spans/feedback-scores", ["correctness"]),
        ("PUT", "/v1/private/traces/threads/feedback-scores", ["resolved"]),
    ]
    assert {s["project_name"] for _, _, b, _ in http.sent for s in b["scores"]} == {"shop"}


def test_without_key_workspace_and_compression() -> None:
    http = Http()
    assert send(make(compression="none"), http, "message") == Delivered()
    assert not {"Authorization", "Comet-Workspace", "Content-Encoding"} & http.sent[0][3].keys()


def test_of_several_ratings_of_one_name_the_last_counts() -> None:
    sink = make()
    like = golden()["feedback_like"]
    records = {
        "like": like,
        "dislike": msgspec.structs.replace(like, event=msgspec.structs.replace(like.event, rating="dislike")),
        "withdrawn": msgspec.structs.replace(like, event=msgspec.structs.replace(like.event, rating=None)),
    }
    http = Http()
    outcome = asyncio.run(sink.send(batch(sink, "like", "withdrawn", "dislike", records=records), http))
    assert outcome == Delivered()
    [(_, _, body, _)] = http.sent
    assert [s["category_name"] for s in body["scores"]] == ["dislike"]
    http = Http()
    asyncio.run(sink.send(batch(sink, "like", "withdrawn", records=records), http))
    assert [(m, p.rpartition("/")[2]) for m, p, _, _ in http.sent] == [("POST", "delete")]


@pytest.mark.parametrize("name", SENT)
def test_size_and_events_of_a_payload(name: str) -> None:
    sink, http = make(compression="none"), Http()
    payload = sink.map(golden()[name])
    assert isinstance(payload, Payload)
    send(sink, http, name)
    assert payload.events == len(http.sent)
    whole = sum(
        len(json.dumps(b, separators=(",", ":"), ensure_ascii=False).encode()) for _, _, b, _ in http.sent
    )
    assert abs(whole - payload.size) < 40 * len(http.sent)


def test_more_than_opik_takes_is_split_without_asking() -> None:
    sink, http = make(), Http()
    item = batch(sink, "node_llm").items[0]
    assert asyncio.run(sink.send(Batch((item,) * 1001), http)) == Split()
    assert http.sent == []


# -- answers
@pytest.mark.parametrize(
    ("status", "headers", "want"),
    [
        (401, {}, Paused("unauthorized (status 401): no", "api_key, workspace")),
        (403, {}, Paused("forbidden (status 403): no", "api_key, workspace")),
        (402, {}, Paused("quota (status 402): no", "workspace")),
        (404, {}, Paused("not_found (status 404): no", "url")),
        (302, {}, Paused("redirected (status 302): no", "url")),
        (408, {}, Retry(None, "status 408: no", busy=True)),
        (500, {}, Retry(None, "status 500: no")),
        (503, {"retry-after": "7"}, Retry(7.0, "status 503: no")),
        (429, {"ratelimit-reset": "12"}, Retry(12.0, "status 429: no", busy=True)),
        (429, {"ratelimit-reset": "12", "retry-after": "30"}, Retry(30.0, "status 429: no", busy=True)),
        (429, {"ratelimit-reset": "soon", "retry-after": "3"}, Retry(3.0, "status 429: no", busy=True)),
        (429, {"ratelimit-reset": "99999"}, Retry(300.0, "status 429: no", busy=True)),
        (413, {}, Split(status=413)),
    ],
)
def test_statuses(status: int, headers: dict[str, str], want: Outcome) -> None:
    http = Http(refuse(status, **headers))
    assert send(make(), http, "node_llm") == want
    assert send(make(), Http(refuse(status, **headers)), "node_llm", "node_tool") in (want, Split())


@pytest.mark.parametrize(
    ("status", "reason"), [(400, "rejected"), (422, "rejected"), (409, "id_in_other_project")]
)
def test_a_record_is_rejected_for_a_request_of_its_own(status: int, reason: str) -> None:
    found = send(make(api_key="key-1"), Http(refuse(status, "bad tags, key-1")), "node_llm")
    assert isinstance(found, Rejected)
    assert (found.reason, found.status, found.response) == (reason, status, "bad tags, ***")
    assert found.request is not None
    assert found.request.startswith("POST http://localhost:5173")
    assert "spans/batch, 1 records" in found.request
    assert send(make(), Http(refuse(status)), "node_llm", "node_tool") == Split()


def test_a_refusal_does_not_touch_records_that_have_no_part_in_the_request() -> None:
    http = Http(refuse(400, path="/spans/"))
    found = send(make(), http, "node_llm", "feedback_like", "message")
    assert isinstance(found, Split)  # the rating waits for its message
    http = Http(refuse(400, path="/traces/batch"))
    assert send(make(), http, "message", "span_agent", "node_llm") == [Split(), Split(), Delivered()]


def test_ratings_wait_for_what_they_rate_where_a_request_is_halved() -> None:
    http = Http(refuse(400, path="/traces/batch"))
    found = send(make(), http, "message", "span_agent", "feedback_like")
    assert found == Split()
    assert [p.rpartition("/")[0] for _, p, _, _ in http.sent] == ["/v1/private/traces", "/v1/private/spans"]


def test_a_refusal_of_one_trace_is_that_records_alone() -> None:
    found = send(make(), Http(refuse(400, path="/traces/batch")), "node_llm", "message", "node_tool")
    assert isinstance(found, list)
    assert [type(o) for o in found] == [Delivered, Rejected, Delivered]


def test_what_must_wait_holds_the_whole_batch() -> None:
    http = Http(refuse(503, path="/spans/"))
    assert send(make(), http, "message", "feedback_like") == Retry(None, "status 503: no")
    assert len(http.sent) == 2  # the ratings are not tried
    assert isinstance(send(make(), Http(refuse(401, path="/feedback")), "message", "feedback_like"), Paused)


def test_an_unknown_id_of_a_rating_is_the_records_fault_and_a_wrong_address_is_not() -> None:
    found = send(make(), Http(refuse(404, "Trace not found", path="/feedback")), "feedback_like")
    assert isinstance(found, Rejected)
    assert (found.reason, found.response) == ("unknown_id", "Trace not found")
    nginx = Http(lambda m, p, b: Response(404, {"content-type": "text/html"}, b"<html>404</html>"))
    assert isinstance(send(make(), nginx, "feedback_like"), Paused)


def test_an_older_server_that_does_not_score_an_open_thread() -> None:
    closed = Http(refuse(409, "Threads must be closed before scoring", path="/threads/"))
    found = send(make(), closed, "evaluation_of_session")
    assert isinstance(found, Rejected)
    assert (found.reason, found.status) == ("thread_open", 409)
    other = send(make(), Http(refuse(409, path="/traces/feedback")), "evaluation_of_trace")
    assert isinstance(other, Rejected)
    assert other.reason == "id_in_other_project"


def test_too_old_names_the_remedy() -> None:
    found = send(make(id_window_hours=24.0), Http(refuse(400, "Trace id too_old")), "node_llm")
    assert isinstance(found, Rejected)
    assert found.reason == "too_old"
    assert all(w in found.detail for w in ("last 24 h", "another instance", "id_time_ms", "id_window_hours"))


def test_a_backlog_that_is_too_old_is_not_asked_for_one_by_one() -> None:
    sink = make(now=NOW + 25 * HOUR, id_window_hours=24.0)
    http = Http(refuse(400, "too_old", path="batch"))
    found = send(sink, http, *SENT)
    assert isinstance(found, list)
    kinds = {name: type(o) for name, o in zip(SENT, found, strict=True)}
    assert {n for n, k in kinds.items() if k is Split} == set(
        SCORES
    )  # they are next: ids of ratings have no window
    assert {o.reason for o in found if isinstance(o, Rejected)} == {"too_old"}


def test_what_is_not_surely_too_old_is_tried_again() -> None:
    old, young = golden()["workflow_run_alone"], golden()["node_llm"]
    started = young.context.trace_started_at + 20 * 3_600_000_000
    young = msgspec.structs.replace(
        young, context=msgspec.structs.replace(young.context, trace_started_at=started)
    )
    sink = make(now=NOW + 25 * HOUR, id_window_hours=24.0)
    records = {"old": old, "young": young}
    whole = batch(sink, "old", "young", records=records)
    found = asyncio.run(sink.send(whole, Http(refuse(400, "too_old"))))
    assert isinstance(found, list)
    assert isinstance(found[0], Rejected)
    assert isinstance(found[1], Retry)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["errors", "message", "details"]), x),
    ).map(lambda d: json.dumps(d).encode())
)
def test_any_answer_can_be_read(body: bytes) -> None:
    assert isinstance(responses.message(Response(400, JSON, body)), str)


def test_messages_of_answers() -> None:
    read = responses.message
    assert read(Response(400, JSON, b'{"errors": ["a", 1, "b"]}')) == "a; b"
    assert read(Response(400, JSON, b'{"code": 400, "message": "a", "details": "b"}')) == "a: b"
    assert read(Response(400, JSON, b"[" * 100_000)) == ""


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(
                st.tuples(
                    st.sets(st.integers(0, n - 1), min_size=1),
                    st.sampled_from([Delivered(), Rejected("r"), Split(), Retry(), Paused("p")]),
                ),
                max_size=3,
            ),
            st.sets(st.integers(0, n - 1)),
            st.sets(st.integers(0, n - 1)),
        )
    )
)
def test_every_record_has_its_outcome_and_none_is_rejected_for_anothers_fault(
    case: tuple[int, list[tuple[set[int], Outcome]], set[int], set[int]],
) -> None:
    count, answers, too_old, held = case
    answered = [(Call("POST", "/x", b"", tuple(sorted(who))), outcome) for who, outcome in answers]
    found = combine(count, answered, frozenset(too_old), frozenset(held))
    if any(isinstance(o, Retry | Paused) for _, o in answered):
        assert isinstance(found, Retry | Paused)
        return
    each = found if isinstance(found, list) else [found] * count
    assert len(each) == count
    if not isinstance(found, list) and count > 1:
        assert isinstance(found, Delivered | Split)
    split = [i for i, o in enumerate(each) if isinstance(o, Split)]
    for i, outcome in enumerate(each):
        mine = [(call, o) for call, o in answered if i in call.records and not isinstance(o, Delivered)]
        assert isinstance(outcome, Delivered) is (not mine and i not in held)
        if isinstance(outcome, Rejected):
            assert any(len(c.records) == 1 or i in too_old for c, o in mine if isinstance(o, Rejected))
        if isinstance(outcome, Split) and len(split) == 1 and count > 1:  # would count as too large
            assert any(o == Split() and len(c.records) == 1 for c, o in mine)


# -- check
@pytest.mark.parametrize(
    ("answer", "ok", "said"),
    [
        (Response(200, JSON, b'{"page":1,"size":0,"total":0,"content":[]}'), True, ""),
        (Response(200, {"content-type": "text/html"}, b"<!doctype html>"), False, "see url"),
        (Response(401, JSON, b'{"message":"API key key-1 is bad"}'), False, "see api_key, workspace"),
        (Response(403, JSON), False, "see api_key, workspace"),
        (Response(404, JSON), False, "see url"),
        (Response(500, JSON), False, "status 500"),
        (Response(400, JSON), False, "status 400"),
    ],
)
def test_check(answer: Response, ok: bool, said: str) -> None:
    http = Http(lambda method, path, body: answer)
    health = asyncio.run(make(api_key="key-1", workspace="acme").check(http))
    assert (health.ok, said in health.detail, "key-1" in health.detail) == (ok, True, False)
    assert [(m, p) for m, p, _, _ in http.sent] == [("GET", "/v1/private/projects?size=1")]
    assert http.sent[0][3]["Authorization"] == "key-1"


def test_check_of_a_server_that_is_not_there() -> None:
    def gone(method: str, path: str, body: Any) -> Response:
        raise NoAnswer("unreachable", "http://localhost:5173: refused")

    health = asyncio.run(make().check(Http(gone)))
    assert not health.ok
    assert "url" in health.detail


# -- against the double
def with_double(work: Callable[[OpikDouble, AiohttpTransport], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with OpikDouble(clock=lambda: NOW, **options) as double:
            http = AiohttpTransport()
            try:
                await work(double, http)
            finally:
                await http.close()

    asyncio.run(run())


async def deliver(sink: Opik, http: AiohttpTransport, whole: Batch) -> list[RecordResult]:
    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    return await BatchSender("opik", sink, http, sleep=at_once, random=lambda: 0.0).deliver(whole)


def test_all_golden_events_are_stored_and_redelivery_changes_nothing() -> None:
    async def work(double: OpikDouble, http: AiohttpTransport) -> None:
        sink = make(double.url, api_key="k", workspace="w", id_window_hours=24.0)
        health = await sink.check(http)
        assert health.ok, health
        await deliver(sink, http, batch(sink, *SENT))
        once = json.dumps(double.store.state())
        for seed in range(3):
            names = SENT[: -len(SCORES)]
            random.Random(seed).shuffle(names)
            settled = await deliver(sink, http, batch(sink, *names, *SCORES))
            assert {s.verdict for s in settled} == {Delivered()}
        assert json.dumps(double.store.state()) == once
        state = double.store.state()
        assert (len(state["traces"]), len(state["spans"]), len(state["scores"])) == (6, 18, 5)
        traces = {t["id"] for t in state["traces"]}
        assert {s["trace_id"] for s in state["spans"]} <= traces

    with_double(work, api_key="k", workspace="w", window_hours=24.0)


def test_a_stale_resend_loses() -> None:
    async def work(double: OpikDouble, http: AiohttpTransport) -> None:
        sink = make(double.url)
        record = golden()["node_llm"]
        event = msgspec.structs.replace(
            record.event, revision=1, name="corrected", published_at=(record.event.published_at or 0) + 1
        )
        records = {"old": record, "new": msgspec.structs.replace(record, event=event)}
        for name in ("new", "old"):
            await deliver(sink, http, batch(sink, name, records=records))
        assert [s["name"] for s in double.store.state()["spans"]] == ["corrected"]

    with_double(work)


def test_poison_is_found_and_all_others_are_stored() -> None:
    """Of twelve spans one trace and two spans are of another project."""

    async def work(double: OpikDouble, http: AiohttpTransport) -> None:
        sink = make(double.url)
        poison = {"span_agent", "node_tool", "moderation"}
        for name in poison:
            document = sink.render(batch(sink, name).items[0].payload)
            for entity in ("traces", "spans"):
                for item in document.get(entity, []) if (entity, name) != ("spans", "span_agent") else []:
                    double.store.put(entity, {**item, "project_name": "elsewhere"})
        settled = await deliver(sink, http, batch(sink, *SENT))
        refused = {n for n, s in zip(SENT, settled, strict=True) if isinstance(s.verdict, Rejected)}
        assert refused == poison
        reasons = {s.verdict.reason for s in settled if isinstance(s.verdict, Rejected)}
        assert reasons == {"id_in_other_project"}
        stored = [s for s in double.store.state()["spans"] if s["project_name"] == "Default Project"]
        assert (
            len(stored) == 18 - 2
        )  # the agent's span is no poison, and was stored while its trace was refused

    with_double(work)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(status=503, status_first=3),
        Faults(status=429, headers={"RateLimit-Reset": "0"}, only="spans"),
        Faults(reset="request", reset_first=2),
        Faults(reset="response", reset_first=2),
        Faults(reset="response", only="scores"),
        Faults(status=413, only="spans"),
        Faults(status=500, only="traces", status_first=2),
    ],
)
def test_faults_leave_the_same_store(faults: Faults) -> None:
    async def work(double: OpikDouble, http: AiohttpTransport) -> None:
        sink = make(double.url)
        await deliver(sink, http, batch(sink, *SENT))
        want = double.store.state()
        async with OpikDouble(faults=faults) as hostile:
            sink = make(hostile.url)
            settled = await deliver(sink, http, batch(sink, *SENT))
            assert {type(s.verdict) for s in settled} == {Delivered}
            assert hostile.store.state() == want
            assert any(e.status != 204 for e in hostile.exchanges)

    with_double(work)


def test_a_hanging_request_is_sent_again() -> None:
    async def work(double: OpikDouble, http: AiohttpTransport) -> None:
        double.faults = Faults(hang=True, only="spans")
        sink = make(double.url, timeout=0.2)
        settled = await deliver(sink, http, batch(sink, "message", "node_llm"))
        assert {type(s.verdict) for s in settled} == {Delivered}
        assert len(double.store.spans) == 2

    with_double(work)


def test_a_key_that_is_changed_at_run_time_pauses_until_it_is_mended() -> None:
    async def work(double: OpikDouble, http: AiohttpTransport) -> None:
        sink = make(double.url, api_key="k")
        assert await sink.send(batch(sink, "message"), http) == Delivered()
        double.api_key = "rotated"
        found = await sink.send(batch(sink, "message"), http)
        assert isinstance(found, Paused)
        assert found.fix == "api_key, workspace"
        double.api_key = "k"
        assert await sink.send(batch(sink, "message"), http) == Delivered()
        double.quota_used_up = True
        assert isinstance(await sink.send(batch(sink, "message"), http), Paused)

    with_double(work, api_key="k")


def test_ids_beyond_the_servers_window_come_back_as_too_old() -> None:
    async def work(double: OpikDouble, http: AiohttpTransport) -> None:
        later = NOW + 30 * HOUR
        double.clock = lambda: later
        sink = make(double.url, now=later, id_window_hours=24.0)
        settled = await deliver(sink, http, batch(sink, *SENT[:8]))
        assert {s.verdict.reason for s in settled if isinstance(s.verdict, Rejected)} == {"too_old"}
        copies = make(double.url, now=later, id_window_hours=24.0, id_time_ms=int(later * 1000))
        settled = await deliver(copies, http, batch(copies, *SENT[:8]))
        assert {type(s.verdict) for s in settled} == {Delivered}

    with_double(work, window_hours=24.0)
