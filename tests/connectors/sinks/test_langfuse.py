"""The Langfuse sink around its mapping: settings, requests, answers, and deliveries to a server that enforces
Langfuse's rules."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.delivery.batch_sender import BatchSender
from connectors.delivery.sub_batches import RecordResult
from connectors.sdk.contract import Batch, Enriched, Health, Item, Payload, RecordOrigin, Secret, spec_of
from connectors.sdk.http import NoAnswer, Response
from connectors.sdk.outcomes import Delivered, Outcomes, Paused, Rejected, Retry, Split
from connectors.sdk.policy import Action, action
from connectors.sinks.langfuse.mapping import FIELDS
from connectors.sinks.langfuse.responses import STATUSES, error_text, partly
from connectors.sinks.langfuse.sink import Langfuse, Score, project
from connectors.testing.doubles.langfuse import LangfuseDouble, LangfuseFaults
from tailrace.errors import ConfigError
from tests.golden.events import golden

JSON = {"content-type": "application/json; charset=utf-8"}
KEYS = {"public_key": "pk-lf-1", "secret_key": "sk-lf-secret"}


class Http:
    """Answers in turn (the last one again and again) and keeps what it was sent."""

    def __init__(self, *answers: Response | NoAnswer) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, str, bytes, Mapping[str, str], float]] = []

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        self.sent.append((method, url, body, headers, seconds))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NoAnswer):
            raise answer
        return answer


def make(**values: Any) -> Langfuse:
    return Langfuse(Langfuse.Settings(**{**KEYS, **values}), now=lambda: 0.0)


def batch(sink: Langfuse, names: Sequence[str] | None = None) -> Batch:
    items = []
    for i, (name, found) in enumerate(golden(FIELDS).items()):
        payload = sink.map(found)
        if isinstance(payload, Payload) and (names is None or name in names):
            items.append(Item(payload, RecordOrigin("t", 0, i, 0)))
    return Batch(tuple(items))


SPANS = ("message", "workflow_run", "node_llm")
RATED = ("feedback_like", "feedback_withdrawn")
SCORED = [name for name in golden(FIELDS) if name.startswith(("feedback", "evaluation"))]


def send(sink: Langfuse, names: Sequence[str], *answers: Response | NoAnswer) -> tuple[Outcomes, Http]:
    http = Http(*answers)
    return asyncio.run(sink.send(batch(sink, names), http)), http


def document(status: int, **body: Any) -> Response:
    return Response(status, JSON, json.dumps(body).encode())


# -- requests
def test_spans_go_in_one_request() -> None:
    outcome, http = send(make(timeout=3), SPANS, document(200))
    assert outcome == Delivered()
    [(method, url, body, headers, seconds)] = http.sent
    assert (method, url, seconds) == ("POST", "https://cloud.langfuse.com/api/public/otel/v1/traces", 3)
    assert headers == {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "gzip",
        "x-langfuse-ingestion-version": "4",
        "Authorization": "Basic " + base64.b64encode(b"pk-lf-1:sk-lf-secret").decode(),
    }
    request = ExportTraceServiceRequest.FromString(zlib.decompress(body, 31))
    [group] = request.resource_spans
    assert [s.name.partition("_")[0] for s in group.scope_spans[0].spans] == ["message", "workflow", "Answer"]
    assert (
        group.scope_spans[0].scope.name == "tailrace"
    )  # not the name of an SDK of Langfuse's, which it reads differently


def test_the_same_batch_gives_the_same_bytes() -> None:
    sink = make(compression="none")
    first, second = (send(sink, SPANS, document(200))[1].sent[0] for _ in range(2))
    assert first[2] == second[2]
    assert "Content-Encoding" not in first[3]


def test_a_payload_is_as_large_as_it_says() -> None:
    sink = make()
    found = batch(sink)
    spans = [i.payload for i in found.items if not isinstance(i.payload.body, Score)]
    assert 0 <= len(sink.request([p.body for p in spans])) - sum(p.size for p in spans) < 60


def test_scores_go_one_by_one_or_in_a_list() -> None:
    outcome, http = send(make(), RATED, document(200, id="x"))
    assert outcome == [Delivered(), Delivered()]
    assert [json.loads(body)["value"] for _, _, body, _, _ in http.sent] == [1, 0]
    assert {url for _, url, _, _, _ in http.sent} == {"https://cloud.langfuse.com/api/public/scores"}
    assert {h["Content-Type"] for _, _, _, h, _ in http.sent} == {"application/json"}
    outcome, http = send(make(scores="list"), RATED, document(202, message="Accepted"))
    assert outcome == [Delivered(), Delivered()]
    [(_, _, body, _, _)] = http.sent
    assert [s["value"] for s in json.loads(body)] == [1, 0]


# -- answers
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (document(200), Delivered()),
        (Response(200, {}, b"\xff"), Delivered()),
        (
            document(401, message="Invalid credentials sk-lf-secret"),
            Paused("unauthorized (status 401): Invalid credentials ***", "public_key, secret_key"),
        ),
        (
            document(403, message="no access"),
            Paused("forbidden (status 403): no access", "public_key, secret_key"),
        ),
        (
            document(403, message="Ingestion suspended: Usage threshold exceeded."),
            Paused("quota (status 403): Ingestion suspended: Usage threshold exceeded."),
        ),
        (document(404), Paused("not_found (status 404)", "host")),
        (Response(302, {"location": "/login"}), Paused("redirected (status 302)", "host")),
        (document(413, message="m"), Split(status=413)),
        (
            Response(
                429,
                {**JSON, "retry-after": "17", "x-ratelimit-reset": "Sat Nov 21 2026 18:00:00 GMT+0000"},
                b"{}",
            ),
            Retry(17.0, "status 429", busy=True),
        ),
        (document(500, error="storage"), Retry(None, "status 500: storage")),
        (Response(502, {"content-type": "text/html"}, b"<html>"), Retry(None, "status 502")),
    ],
)
def test_answers(answer: Response, outcome: Outcomes) -> None:
    assert send(make(), SPANS, answer)[0] == outcome


def test_a_rejection_has_langfuses_words_and_what_was_sent() -> None:
    outcome, _ = send(
        make(), SPANS, document(400, error="The entire export was rejected", message="sk-lf-secret")
    )
    assert isinstance(outcome, Rejected)
    assert (outcome.status, outcome.response) == (400, "***: The entire export was rejected")
    assert outcome.request is not None
    assert outcome.request.startswith("POST https://cloud.langfuse.com/api/public/otel/v1/traces, 3 spans, ")


def test_no_answer_is_for_the_runner_to_retry() -> None:
    with pytest.raises(NoAnswer):
        send(make(), SPANS, NoAnswer("timeout"))


MIXED = ("message", "workflow_run", *RATED)


@pytest.mark.parametrize(
    ("answers", "outcomes", "requests"),
    [
        # spans, then scores
        ([document(200)], [Delivered()] * 4, 3),
        # the whole sink is refused: the scores are not tried
        ([document(401)], Paused("unauthorized (status 401)", "public_key, secret_key"), 1),
        ([document(500)], Retry(None, "status 500"), 1),
        # a span is at fault, which one is not known: halved; the scores are delivered
        ([document(400), document(200)], [Split("rejected", status=400)] * 2 + [Delivered()] * 2, 3),
        # the scores' own limit of requests
        (
            [document(200), Response(429, {"retry-after": "9"})],
            [Delivered()] * 2 + [Retry(9.0, "status 429", busy=True)] * 2,
            2,
        ),
        (
            [document(200), document(200), NoAnswer("timeout")],
            [Delivered()] * 3 + [Retry(reason="timeout")],
            3,
        ),
    ],
)
def test_a_batch_of_both(answers: list[Response | NoAnswer], outcomes: Outcomes, requests: int) -> None:
    found, http = send(make(), MIXED, *answers)
    assert found == outcomes
    assert len(http.sent) == requests


def test_a_score_at_fault_does_not_hold_up_the_next() -> None:
    outcome, _ = send(make(), RATED, document(400, message="bad"), document(200))
    assert isinstance(outcome, list)
    assert isinstance(outcome[0], Rejected)
    assert outcome[0].response == "bad"
    assert outcome[1] == Delivered()


def test_a_list_of_scores_that_is_refused_is_halved() -> None:
    assert send(make(scores="list"), RATED, document(400))[0] == [Split("rejected", status=400)] * 2
    assert send(make(scores="list"), RATED, document(413))[0] == [Split(status=413)] * 2
    [one] = send(make(scores="list"), RATED[:1], document(400))[0]  # type: ignore[misc]
    assert isinstance(one, Rejected)


# -- 207
SCORES = [b'{"id":"a"}', b'{"id":"b"}', b'{"id":"c"}']


def answered(**body: Any) -> list[Any]:
    return list(partly(document(207, **body), SCORES, "POST", ["secret-1"]))


def test_rejected_scores_are_dead_letters_where_langfuse_says_which() -> None:
    found = answered(accepted=2, rejected=1, errors=[{"id": "b", "message": "no secret-1"}])
    assert found == [Delivered(), Rejected("rejected", "status 207", 207, "POST", "no ***"), Delivered()]
    assert isinstance(answered(accepted=2, rejected=1, errors=[{"index": 2, "message": "m"}])[2], Rejected)


def test_all_rejected_are_dead_letters_with_their_words() -> None:
    found = answered(accepted=0, rejected=3, errors=[{"message": m} for m in "xyz"])
    assert [r.response for r in found] == ["x", "y", "z"]
    assert [r.response for r in answered(accepted=0, rejected=3, errors=[{"message": "all"}])] == ["all"] * 3


def test_rejected_without_saying_which_are_counted() -> None:
    found = answered(accepted=1, rejected=2, errors=[{"message": "m"}, {"message": "n"}])
    assert sum(isinstance(o, Delivered) and o.unidentified for o in found) == 2
    assert answered(accepted=3, rejected=0, errors=[]) == [Delivered()] * 3


def test_no_207_is_sent_again() -> None:
    for mode in ("single", "list"):
        outcome, http = send(
            make(scores=mode), RATED, document(207, accepted=1, rejected=1, errors=[{"message": "m"}])
        )
        assert isinstance(outcome, list)
        assert not any(isinstance(o, Retry | Split | Paused) for o in outcome)
        assert len(http.sent) == (2 if mode == "single" else 1)


BODIES = st.one_of(
    st.binary(max_size=100),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-2, 9), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(
                st.sampled_from(
                    ["accepted", "rejected", "errors", "message", "error", "id", "index", "data", "name"]
                ),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=12,
    ).map(msgspec.json.encode),
)


@given(BODIES, st.sampled_from((JSON, {"content-type": "text/plain"}, {})), st.integers(1, 3))
def test_any_answer_is_read_without_an_exception(body: bytes, headers: dict[str, str], n: int) -> None:
    answer = Response(207, headers, body)
    found = partly(answer, SCORES[:n], "POST", [])
    assert len(found) == n
    assert all(isinstance(o, Delivered | Rejected) for o in found)
    assert isinstance(error_text(answer), str)
    assert project(answer) is None or isinstance(project(answer), str)


def test_an_answer_nested_without_end_is_read_too() -> None:
    answer = Response(207, JSON, b"[" * 60_000 + b"]" * 60_000)
    assert partly(answer, SCORES, "POST", []) == [Delivered()] * 3
    assert error_text(answer).startswith("[[")
    assert project(answer) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "Invalid credentials.", "error": "UnauthorizedError"}, "Invalid credentials."),
        ({"error": "Failed to parse OTel Protobuf Trace"}, "Failed to parse OTel Protobuf Trace"),
        ({"error": "Forbidden"}, "Forbidden"),
        (
            {
                "message": "Invalid request data",
                "error": [{"path": ["value", 0], "message": "expected number"}, {"message": "m"}, 1],
            },
            "Invalid request data: value.0 expected number: m",
        ),
        ({}, ""),
    ],
)
def test_what_langfuse_says(body: dict[str, Any], words: str) -> None:
    assert error_text(document(400, **body)) == words


def test_the_table_is_complete() -> None:
    kinds = {status: action(STATUSES, status) for status in range(200, 600)}
    assert kinds[400] is Action.REJECT
    assert {kinds[s] for s in (401, 402, 403, 404, 405, 301)} == {Action.PAUSE}
    assert {kinds[s] for s in (408, 425, 429, 500, 502, 503, 504)} == {Action.RETRY}


# -- settings
@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("https://us.cloud.langfuse.com/", "https://us.cloud.langfuse.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://h/base/", "https://h/base"),
        ("https://h/api/public/otel/v1/traces", "https://h"),
        ("https://h/api/public/otel", "https://h"),
        ("https://h/base/api/public", "https://h/base"),
        (" https://h ", "https://h"),
    ],
)
def test_hosts(host: str, base: str) -> None:
    assert send(make(host=host), SPANS, document(200))[1].sent[0][1] == base + "/api/public/otel/v1/traces"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"host": "cloud.langfuse.com"}, "host: "),
        ({"host": "https://h:99999"}, "host: "),
        ({"host": "https://user:secret-1@h"}, "host: "),
        ({"host": "https://h?key=secret-1"}, "host: "),
        ({"public_key": ""}, "public_key: "),
        ({"secret_key": "secret-1\n"}, "secret_key: "),
        ({"secret_key": "sëcret-1"}, "secret_key: "),
        ({"public_key": "pk:secret-1"}, "public_key: has a colon"),
        ({"public_key": "sk-lf-secret-1", "secret_key": "pk-lf-1"}, "public_key: has a secret key"),
        ({"environment": "langfuse"}, "environment: "),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_said(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as e:
        make(**values)
    assert str(e.value).startswith(says)
    assert "secret-1" not in str(e.value)


def test_the_secret_key_is_a_secret() -> None:
    hints = {f.name: f.type for f in msgspec.structs.fields(Langfuse.Settings)}
    assert hints["secret_key"] == Secret


def test_the_variables_of_langfuses_sdks_are_defaults() -> None:
    env = {
        "LANGFUSE_PUBLIC_KEY": "pk",
        "LANGFUSE_SECRET_KEY": "sk",
        "LANGFUSE_BASE_URL": "http://a",
        "LANGFUSE_HOST": "",
        "LANGFUSE_RELEASE": "r",
    }
    assert spec_of(Langfuse).environment(env) == {
        "public_key": "pk",
        "secret_key": "sk",
        "host": "http://a",
        "release": "r",
    }


# -- the check
@pytest.mark.parametrize(
    ("answer", "health"),
    [
        (document(200, data=[{"id": "1", "name": "Support"}]), Health(True, "project Support")),
        (
            Response(200, {"content-type": "text/html"}, b"<html>"),
            Health(False, "https://cloud.langfuse.com answers, but is not Langfuse's API; see host"),
        ),
        (
            document(401, message="Invalid credentials"),
            Health(
                False,
                "https://cloud.langfuse.com: unauthorized (status 401): Invalid credentials; see public_key, "
                "secret_key",
            ),
        ),
        (
            document(403, message="Ingestion suspended"),
            Health(False, "https://cloud.langfuse.com: quota (status 403): Ingestion suspended"),
        ),
        (document(503), Health(False, "https://cloud.langfuse.com answers with status 503")),
        (
            NoAnswer("unreachable", "https://cloud.langfuse.com: refused"),
            Health(False, "unreachable: https://cloud.langfuse.com: refused"),
        ),
    ],
)
def test_the_check(answer: Response | NoAnswer, health: Health) -> None:
    http = Http(answer)
    assert asyncio.run(make().check(http)) == health
    assert http.sent[0][:3] == ("GET", "https://cloud.langfuse.com/api/public/projects", b"")


# -- deliveries to the double
def deliver(
    double: LangfuseDouble,
    batches: Callable[[Langfuse], Sequence[Batch]],
    *,
    meanwhile: Callable[[float], Awaitable[None]] | None = None,
    **values: Any,
) -> list[RecordResult]:
    """Waits take no time: the sender's clock is the time waited. meanwhile: called for each wait."""
    waited = [0.0]

    async def run() -> list[RecordResult]:
        async def sleep(seconds: float) -> None:
            waited[0] += seconds
            if meanwhile is not None:
                await meanwhile(seconds)

        async with double:
            http = AiohttpTransport()
            try:
                keys = {"public_key": "pk-lf-test", "secret_key": "sk-lf-test", "host": double.endpoint}
                sink = make(**{**keys, **values})
                sender = BatchSender(
                    "langfuse", sink, http, sleep=sleep, random=lambda: 0.5, clock=lambda: waited[0]
                )
                return [s for b in batches(sink) for s in await sender.deliver(b)]
            finally:
                await http.close()

    return asyncio.run(run())


def everything(sink: Langfuse) -> Sequence[Batch]:
    return [batch(sink)]


OBSERVED = 18
"""Golden events that become observations."""


def all_delivered(settled: Sequence[RecordResult]) -> bool:
    return len(settled) == OBSERVED + len(SCORED) and all(s.verdict == Delivered() for s in settled)


def test_a_trace_arrives_as_langfuse_shows_it() -> None:
    double = LangfuseDouble()
    assert all_delivered(deliver(double, everything))
    assert double.store.problems == []
    tree = double.store.tree()["00000003000040008000000000000003"]
    message, run = (
        "message_00000003-0000-4000-8000-000000000003",
        "workflow_00000032-0000-4000-8000-000000000032",
    )
    assert tree == {
        message: None,
        run: message,
        "Answer": run,
        "chat gpt-4o": "Answer",
        "Look up order": run,
        "Send mail": run,
        "moderation": message,
        "suggested_question": message,
        "dataset_retrieval": message,
        "track_parcel": message,
    }
    assert len(double.store.observations) == OBSERVED
    assert {s.value for s in double.store.scores.values()} == {1, 0, 0.8, "relevant"}
    on = {s.name: (s.observation_id, s.session_id) for s in double.store.scores.values()}
    node = next(o for o in double.store.observations.values() if o.name == "Answer")
    assert on["correctness"] == (node.id, "")
    assert on["resolved"] == ("", node.session_id)


@pytest.mark.parametrize("mode", ["single", "list"])
def test_redeliveries_change_nothing(mode: str) -> None:
    states = []
    for times in (1, 3):
        double = LangfuseDouble()
        rng = random.Random(times)

        def batches(sink: Langfuse, times: int = times, rng: random.Random = rng) -> Sequence[Batch]:
            found = []
            for _ in range(times):
                items = list(batch(sink).items)
                cut = rng.randrange(1, len(items))
                found += [Batch(tuple(items[:cut])), Batch(tuple(items[cut:]))]
            return found

        settled = deliver(double, batches, scores=mode)
        assert all(s.verdict == Delivered() for s in settled)
        states.append({k: v for k, v in double.state.items() if k != "requests"})
    assert states[0] == states[1]
    assert len(states[0]["observations"]) == OBSERVED
    assert len(states[0]["scores"]) == len(SCORED)


def test_a_rating_replaces_the_one_before() -> None:
    def batches(sink: Langfuse) -> Sequence[Batch]:
        first = golden(FIELDS)["feedback_like"]
        later = msgspec.structs.replace(
            first,
            event=msgspec.structs.replace(
                first.event, rating=None, source_id="other", started_at=first.event.started_at + 60_000_000
            ),
        )
        found = []
        for record in (first, later, first, later):  # redelivered in their order
            payload = sink.map(record)
            assert isinstance(payload, Payload)
            found.append(Batch((Item(payload, RecordOrigin("t", 0, 0, 0)),)))
        return found

    double = LangfuseDouble()
    deliver(double, batches)
    [score] = double.store.scores.values()
    assert score.value == 0


@pytest.mark.parametrize(
    "faults",
    [
        LangfuseFaults(status=500, status_first=2),
        LangfuseFaults(status=429, headers={"Retry-After": "7"}),
        LangfuseFaults(only="scores", status=429, headers={"Retry-After": "7"}),
        LangfuseFaults(reset="request", reset_first=2),
        LangfuseFaults(reset="response"),
        LangfuseFaults(only="scores", reset="response"),
        LangfuseFaults(status=503, reset="response", only="traces"),
    ],
)
@pytest.mark.parametrize("mode", ["single", "list"])
def test_passing_faults_lose_nothing(faults: LangfuseFaults, mode: str) -> None:
    calm, faulty = LangfuseDouble(), LangfuseDouble(faults=faults)
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    assert all_delivered(deliver(calm, everything, scores=mode))
    assert all_delivered(deliver(faulty, everything, scores=mode, meanwhile=note))
    assert calm.store.state() == faulty.store.state()
    assert waits
    if "Retry-After" in faults.headers:
        assert waits[0] >= 7


def test_an_answer_that_does_not_come_is_a_retry() -> None:
    double = LangfuseDouble(faults=LangfuseFaults(hang=True, only="traces"))
    assert all_delivered(deliver(double, everything, timeout=0.2))
    assert [e.status for e in double.exchanges][:2] == [0, 200]
    assert len(double.store.observations) == OBSERVED


@pytest.mark.parametrize("mode", ["single", "list"])
def test_wrong_keys_pause_until_they_are_right(mode: str) -> None:
    double = LangfuseDouble(secret_key="rotated")

    async def fix(seconds: float) -> None:
        double.secret_key = "sk-lf-test"

    assert all_delivered(deliver(double, everything, meanwhile=fix, scores=mode))
    assert double.exchanges[0].status == 401


def test_a_suspended_organisation_pauses_and_loses_nothing() -> None:
    double = LangfuseDouble(faults=LangfuseFaults(suspended=True))

    async def upgrade(seconds: float) -> None:
        double.faults = LangfuseFaults()

    assert all_delivered(deliver(double, everything, meanwhile=upgrade))
    assert double.exchanges[0].status == 403


def test_a_request_that_is_too_large_is_halved() -> None:
    double = LangfuseDouble(max_bytes=12_000)
    assert all_delivered(deliver(double, everything, compression="none"))
    assert 413 in {e.status for e in double.exchanges}
    assert len(double.store.observations) == OBSERVED


def test_a_span_at_fault_is_found_and_the_others_arrive() -> None:
    def batches(sink: Langfuse) -> Sequence[Batch]:
        items = list(batch(sink).items)
        bad = bytearray(items[4].payload.body)
        trace = bytes.fromhex("00000003000040008000000000000003")
        at = bytes(bad).index(trace)
        bad[at : at + 16] = bytes(16)
        items[4] = Item(Payload(bytes(bad), len(bad)), items[4].source)
        return [Batch(tuple(items))]

    double = LangfuseDouble()
    settled = deliver(double, batches)
    assert [i for i, s in enumerate(settled) if isinstance(s.verdict, Rejected)] == [4]
    verdict = settled[4].verdict
    assert isinstance(verdict, Rejected)
    assert "The entire export was rejected" in str(verdict.response)
    assert len(double.store.observations) == OBSERVED - 1
    assert len(double.store.scores) == len(SCORED)


@pytest.mark.parametrize("mode", ["single", "list"])
def test_a_score_at_fault_is_a_dead_letter_and_the_others_arrive(mode: str) -> None:
    def batches(sink: Langfuse) -> Sequence[Batch]:
        good = batch(sink, RATED[:1]).items[0]
        data = msgspec.json.encode({**json.loads(good.payload.body.data), "id": "other", "value": "text"})
        bad = Item(Payload(Score(data), len(data)), RecordOrigin("t", 0, 99, 0))
        return [Batch((bad, good))]

    double = LangfuseDouble()
    bad, good = deliver(double, batches, scores=mode)
    assert len(double.store.scores) == 1
    posts = [e for e in double.exchanges if e.path.endswith("scores")]
    if mode == "single":
        assert isinstance(bad.verdict, Rejected)
        assert "NUMERIC" in str(bad.verdict.response)
        assert good.verdict == Delivered()
        assert len(posts) == 2
    else:  # Langfuse says how many it refused and why, not which
        assert bad.unidentified + good.unidentified == 1
        assert [e.status for e in posts] == [207]


def test_the_rate_of_scores_is_kept_to() -> None:
    now = [1000.0]
    double = LangfuseDouble(scores_per_minute=1, clock=lambda: now[0])

    async def wait(seconds: float) -> None:
        now[0] += seconds

    assert all_delivered(deliver(double, everything, meanwhile=wait))
    assert [e.status for e in double.exchanges if e.path.endswith("scores")].count(429) >= 1
    assert now[0] >= 1060
    assert [e.status for e in double.exchanges if e.path.endswith("traces")] == [200]


def test_the_check_names_the_project() -> None:
    async def run() -> tuple[Health, Health]:
        async with LangfuseDouble(project="Support") as double:
            http = AiohttpTransport()
            try:
                good = make(public_key="pk-lf-test", secret_key="sk-lf-test", host=double.endpoint)
                return await good.check(http), await make(host=double.endpoint).check(http)
            finally:
                await http.close()

    right, wrong = asyncio.run(run())
    assert right == Health(True, "project Support")
    assert not wrong.ok
    assert wrong.detail.endswith("see public_key, secret_key")


def test_enriched_records_with_only_the_sinks_fields_map_the_same() -> None:
    """FIELDS leaves out nothing that the mapping reads."""
    sink = make()
    whole: dict[str, Enriched] = golden(None)
    for name, found in golden(FIELDS).items():
        assert sink.map(found) == sink.map(whole[name]), name
