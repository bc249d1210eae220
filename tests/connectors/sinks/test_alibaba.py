"""The Alibaba Cloud sink: endpoints of both families, requests, answers, the check; and gRPC."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from yarl import URL

from connectors import (
    Batch,
    Delivered,
    Enriched,
    Health,
    NoAnswer,
    Paused,
    Payload,
    Rejected,
    Response,
    Retry,
    Split,
)
from connectors.sdk.contract import Item, RecordOrigin
from connectors.sinks.alibaba import Alibaba
from connectors.sinks.alibaba.endpoints import over_grpc, over_http
from connectors.sinks.alibaba.sink import MAX_BYTES
from connectors.testing.doubles import otlp_request
from tailrace.errors import ConfigError
from tests.connectors.enriching import make_context, make_event
from tests.connectors.sinks.test_otlp_grpc import aborting, serving

KEY = "k/ey+0123456789@abcdef"
QUOTED = "k%2Fey%2B0123456789%40abcdef"
WORKSPACE = "default-cms-1-cn-hangzhou"
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


class Scripted:
    """Answers in turn; the last answer stays."""

    def __init__(self, *answers: Response | NoAnswer) -> None:
        self._answers = list(answers) or [Response(200, PROTOBUF)]
        self.requests: list[tuple[str, str, bytes, dict[str, str]]] = []

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = 30.0
    ) -> Response:
        self.requests.append((method, url, body, dict(headers)))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, NoAnswer):
            raise answer
        return answer


def sink(**settings: Any) -> Alibaba:
    given = {"endpoint": "http://tracing-cn-heyuan.arms.aliyuncs.com", "license_key": KEY, **settings}
    return Alibaba(Alibaba.Settings(**given), lambda: 1000.0)


def batch(made: Alibaba, count: int = 2, **event: Any) -> Batch:
    items = []
    for i in range(count):
        each = make_event(i, **event)
        payload = made.map(Enriched(each, make_context(each, i), "t", 0, i, 0))
        assert isinstance(payload, Payload)
        items.append(Item(payload, RecordOrigin("t", 0, i, 0)))
    return Batch(tuple(items))


def sent(made: Alibaba, *answers: Response | NoAnswer, count: int = 2, **event: Any) -> tuple[Any, Scripted]:
    http = Scripted(*answers)
    return asyncio.run(made.send(batch(made, count, **event), http)), http


def target(endpoint: str, **changes: str) -> Any:
    return over_http(endpoint, KEY, **{"family": "auto", "workspace": "", "project": "", **changes})


# -- endpoints
@pytest.mark.parametrize(
    ("endpoint", "changes", "url"),
    [
        (
            "http://tracing-cn-heyuan.arms.aliyuncs.com",
            {},
            f"http://tracing-cn-heyuan.arms.aliyuncs.com/adapt_{QUOTED}/api/otlp/traces",
        ),
        (
            "tracing-analysis-dc-hz.aliyuncs.com/",
            {},
            f"https://tracing-analysis-dc-hz.aliyuncs.com/adapt_{QUOTED}/api/otlp/traces",
        ),
        ("http://proxy:8443/arms/", {}, f"http://proxy:8443/arms/adapt_{QUOTED}/api/otlp/traces"),
        (
            "https://p.cn-hangzhou.log.aliyuncs.com",
            {},
            f"https://p.cn-hangzhou.log.aliyuncs.com/adapt_{QUOTED}/api/v1/traces",
        ),
        ("http://h", {"family": "sls"}, f"http://h/adapt_{QUOTED}/api/v1/traces"),
        ("http://h/api/otlp/traces", {}, f"http://h/adapt_{QUOTED}/api/otlp/traces"),
        ("http://h/api/v1/traces/", {"family": "sls"}, f"http://h/adapt_{QUOTED}/api/v1/traces"),
        (" HTTP://[2001:db8::1]:4318 ", {}, f"http://[2001:db8::1]:4318/adapt_{QUOTED}/api/otlp/traces"),
        ("[::1]:4318", {}, f"https://[::1]:4318/adapt_{QUOTED}/api/otlp/traces"),
        (
            "https://p.cn-hangzhou.log.aliyuncs.com",
            {"family": "xtrace"},
            f"https://p.cn-hangzhou.log.aliyuncs.com/adapt_{QUOTED}/api/otlp/traces",
        ),
        (
            "https://p.cn-hangzhou.log.aliyuncs.com",
            {"workspace": WORKSPACE},
            "https://p.cn-hangzhou.log.aliyuncs.com/apm/trace/opentelemetry/v1/traces",
        ),
        (
            "https://p.cn-hangzhou.log.aliyuncs.com/apm/trace/opentelemetry",
            {"workspace": WORKSPACE},
            "https://p.cn-hangzhou.log.aliyuncs.com/apm/trace/opentelemetry/v1/traces",
        ),
        (
            "p.cn-hangzhou.log.aliyuncs.com/apm/trace/opentelemetry/v1/traces",
            {"family": "cms", "workspace": WORKSPACE},
            "https://p.cn-hangzhou.log.aliyuncs.com/apm/trace/opentelemetry/v1/traces",
        ),
    ],
)
def test_the_url_of_an_endpoint(endpoint: str, changes: dict[str, str], url: str) -> None:
    assert target(endpoint, **changes).url == url


def test_cms_names_project_and_workspace_in_headers() -> None:
    host = "https://proj-xtrace-1-cn-hangzhou.cn-hangzhou.log.aliyuncs.com"
    found = target(host, workspace=WORKSPACE)
    assert found.headers == {
        "x-arms-license-key": KEY,
        "x-arms-project": "proj-xtrace-1-cn-hangzhou",
        "x-cms-workspace": WORKSPACE,
    }
    assert target(host, workspace=WORKSPACE, project="mine").headers["x-arms-project"] == "mine"
    assert target(host).headers == {}


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://tracing-cn-heyuan.arms.aliyuncs.com", "http://tracing-cn-heyuan.arms.aliyuncs.com:8090"),
        ("tracing-cn-heyuan.arms.aliyuncs.com", "http://tracing-cn-heyuan.arms.aliyuncs.com:8090"),
        ("tracing-analysis-dc-hz.aliyuncs.com:8090", "http://tracing-analysis-dc-hz.aliyuncs.com:8090"),
        ("https://h:10010/", "https://h:10010"),
        ("[::1]", "http://[::1]:8090"),
        ("http://[::1]:4317", "http://[::1]:4317"),
    ],
)
def test_over_grpc_the_port_is_8090(endpoint: str, url: str) -> None:
    found = over_grpc(endpoint, KEY, workspace="")
    assert found.url == url
    assert found.headers == {"Authentication": KEY}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"endpoint": ""}, "endpoint"),
        ({"endpoint": "ftp://h"}, "endpoint"),
        ({"endpoint": f"http://h/adapt_{KEY}/api/otlp/traces"}, "license_key"),
        ({"endpoint": f"http://u:{KEY}@h"}, "endpoint"),
        ({"endpoint": f"http://h?token={KEY}"}, "endpoint"),
        ({"endpoint": "http://tracing-analysis-dc-hz.aliyuncs.com:8090"}, "protocol"),
        ({"endpoint": "tracing-cn-heyuan.arms.aliyun.com:8090"}, "protocol"),
        ({"endpoint": f"http://h/%61dapt_{QUOTED}/api/otlp/traces"}, "license_key"),
        ({"endpoint": f"http://h/ADAPT_{KEY}"}, "license_key"),
        ({"endpoint": f"http://h/opentelemetry/{QUOTED}/cn-hangzhou"}, "license_key"),
        ({"endpoint": "http://h ost"}, "endpoint"),
        ({"endpoint": "http://h\n.com"}, "endpoint"),
        ({"endpoint": "http://h:0"}, "endpoint"),
        ({"endpoint": "http://a..b"}, "endpoint"),
        ({"endpoint": "http://h%2Fb"}, "endpoint"),
        ({"endpoint": "http://é.example"}, "endpoint"),
        ({"endpoint": "http://[::1"}, "endpoint"),
        ({"endpoint": "http://[::g]"}, "endpoint"),
        ({"endpoint": "http://[::1]%"}, "endpoint"),
        ({"endpoint": "http://h[::1]:99"}, "endpoint"),
        ({"endpoint": "http://h:65536"}, "endpoint"),
        ({"endpoint": "::1"}, "endpoint"),
        ({"endpoint": "//h"}, "endpoint"),
        ({"endpoint": "https://"}, "endpoint"),
        ({"project": "proj-xtrace-1"}, "workspace"),
        ({"license_key": ""}, "license_key"),
        ({"license_key": f"{KEY}\n"}, "license_key"),
        ({"license_key": f"{KEY} x"}, "license_key"),
        ({"license_key": f"{KEY}é"}, "license_key"),
        ({"family": "cms"}, "workspace"),
        ({"workspace": "a\nb"}, "workspace"),
        ({"app_name": ""}, "app_name"),
        ({"protocol": "grpc", "workspace": WORKSPACE}, "workspace"),
        ({"protocol": "grpc", "project": "p"}, "project"),
        ({"protocol": "grpc", "family": "sls"}, "family"),
        ({"protocol": "grpc", "endpoint": "http://h/path"}, "endpoint"),
        ({"protocol": "grpc", "endpoint": "http://h ost"}, "endpoint"),
        ({"protocol": "grpc", "endpoint": f"http://h/adapt_{KEY}"}, "license_key"),
    ],
)
def test_a_wrong_setting_is_named_and_no_key_is_shown(settings: dict[str, str], names: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sink(**settings)
    assert names in str(raised.value)
    assert KEY not in str(raised.value)
    assert "ey+01234" not in str(raised.value)


PIECES = (
    *("http://", "https://", "HTTP://", "://", "//", "/", ":", ":8090", ":99", "@", "?", "#", "%", "%2F"),
    *("log.aliyuncs.com", "h", ".", "..", "-", "_", "a", "1", "[::1]", "[", "]", "é", "٣", "。", "xn--"),
    *("adapt_", "/v1/traces"),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=7).map("".join), st.booleans()
)
def test_any_endpoint_is_refused_or_is_a_url_that_the_client_takes(endpoint: str, cms: bool) -> None:
    """Else each request would fail, and be sent again."""
    for make in (
        lambda: target(endpoint, workspace=WORKSPACE if cms else ""),
        lambda: over_grpc(endpoint, KEY, workspace=""),
    ):
        found: Any = None
        said = ""
        try:
            found = make()
        except ConfigError as e:
            said = str(e)
        assert KEY not in f"{said}{found!r}"
        if found is None:
            assert "endpoint" in said
            continue
        url = URL(found.url)
        assert url.scheme in ("http", "https")
        assert url.raw_host == urlsplit(found.url).hostname
        if "***" in found.shown:
            assert unquote(url.raw_path).count(f"/adapt_{KEY}/api/") == 1


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (target("http://h:81/a"), "Target(xtrace, http://h:81/adapt_***/api/otlp/traces)"),
        (
            target("https://h", workspace=WORKSPACE),
            "Target(cms, https://h/apm/trace/opentelemetry/v1/traces)",
        ),
        (over_grpc("h", KEY, workspace=""), "Target(xtrace, http://h:8090)"),
    ],
)
def test_a_target_that_is_shown_has_no_key(found: object, shown: str) -> None:
    assert f"{found!r} {found}" == f"{shown} {shown}"


def test_a_key_of_any_characters_arrives_as_it_is() -> None:
    """Through the client's own handling of URLs: it may neither decode nor encode twice."""
    odd = "".join(c for c in map(chr, range(33, 127)))
    for key in (odd, "a%2Fb", "..", "a/../b", "100%"):
        found = over_http("http://h/arms", key, family="auto", workspace="", project="")
        path = URL(found.url).raw_path
        assert path.startswith("/arms/adapt_")
        assert path.endswith("/api/otlp/traces")
        inner = path.removeprefix("/arms/adapt_").removesuffix("/api/otlp/traces")
        assert "/" not in inner
        assert unquote(inner) == key
        assert found.shown == "/adapt_***/api/otlp/traces"


# -- requests
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_request_has_the_spans_of_a_batch_by_host(compression: str) -> None:
    made = sink(compression=compression, app_name="shop", workspace=WORKSPACE)
    outcome, http = sent(made, count=3, host_name="h1", environment="live")
    assert outcome == Delivered()
    [(method, _, body, headers)] = http.requests
    assert method == "POST"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers.get("Content-Encoding") == ("gzip" if compression == "gzip" else None)
    request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if compression == "gzip" else body)
    [group] = request.resource_spans
    assert {a.key: a.value.string_value for a in group.resource.attributes} == {
        "service.name": "shop",
        "host.name": "h1",
        "deployment.environment": "live",
        "acs.arms.service.feature": "genai_app",
        "acs.cms.workspace": WORKSPACE,
    }
    [scoped] = group.scope_spans
    assert scoped.scope.name == "tailrace"
    assert [s.span_id for s in scoped.spans] == [make_context(make_event(i)).span_id for i in range(3)]


def test_hosts_and_environments_are_groups_of_their_own_and_keep_their_order() -> None:
    made = sink()
    items: list[Any] = []
    for i, host in enumerate("abab"):
        items += batch(made, 1, host_name=host, name=str(i)).items
    http = Scripted()
    asyncio.run(made.send(Batch(tuple(items)), http))
    request = ExportTraceServiceRequest.FromString(gzip.decompress(http.requests[0][2]))
    found = [[s.name for s in g.scope_spans[0].spans] for g in request.resource_spans]
    assert found == [["0", "2"], ["1", "3"]]


def test_a_resend_is_the_same_bytes() -> None:
    made, other = sink(), sink()
    first = sent(made)[1].requests
    assert sent(made)[1].requests == first
    assert sent(other)[1].requests == first


def test_a_request_over_2_mb_is_split_before_it_is_sent() -> None:
    """Settings may raise the limits of a batch."""
    made = sink()
    outcome, http = sent(made, count=2, inputs='"' + "x" * 1_200_000 + '"')
    assert outcome == Split()
    assert http.requests == []


def test_the_sizes_of_payloads_add_up_to_no_less_than_the_request() -> None:
    """So that a batch within max_bytes is a request within the limit, whoever its hosts are."""
    made = sink(app_name="n" * 200)
    items: list[Item] = []
    for i in range(20):
        items += batch(made, 1, host_name=f"host-{i}", environment="e" * i).items
    size = sum(i.payload.size for i in items)
    assert len(made.request([i.payload.body for i in items])) <= size


def test_one_span_of_any_size_fits_a_request() -> None:
    made = sink()
    found = batch(made, 1, outputs='"' + "y" * 20_000_000 + '"', host_name="h" * 300)
    assert len(made.request(found.bodies)) <= MAX_BYTES
    assert found.items[0].payload.size <= MAX_BYTES


# -- answers
@pytest.mark.parametrize("code", ["WriteQuotaExceed", "ShardWriteQuotaExceed"])
@pytest.mark.parametrize(
    "answer",
    [
        lambda code: Response(403, JSON, b'{"errorCode": "%s", "errorMessage": "m"}' % code.encode()),
        lambda code: Response(403, {"content-type": "text/plain"}, code.encode()),
        lambda code: Response(403, PROTOBUF, otlp_request.failure(403, f"{code}: full")),
        lambda code: Response(403, {"x-log-errorcode": code}),
    ],
)
def test_a_403_for_a_quota_is_retried(code: str, answer: Any) -> None:
    assert sent(sink(), answer(code))[0] == Retry(None, f"status 403: {code}", busy=True)


def test_a_quota_waits_as_long_as_it_says() -> None:
    answer = Response(403, {**JSON, "retry-after": "7"}, b'{"errorCode": "WriteQuotaExceed"}')
    assert sent(sink(), answer)[0] == Retry(7.0, "status 403: WriteQuotaExceed", busy=True)


@pytest.mark.parametrize(
    ("settings", "fix"),
    [({}, "license_key"), ({"workspace": WORKSPACE}, "license_key, project, workspace")],
)
@pytest.mark.parametrize("status", [401, 403])
def test_any_other_403_pauses_and_names_the_setting(status: int, settings: dict[str, str], fix: str) -> None:
    answer = Response(status, JSON, b'{"errorCode": "Unauthorized", "errorMessage": "who are you"}')
    outcome = sent(sink(**settings), answer)[0]
    why = "unauthorized" if status == 401 else "forbidden"
    assert outcome == Paused(f"{why} (status {status}): Unauthorized: who are you", fix)


def test_a_quota_is_one_only_with_a_403() -> None:
    outcome = sent(sink(), Response(401, JSON, b'{"errorCode": "WriteQuotaExceed"}'))[0]
    assert isinstance(outcome, Paused)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (PROTOBUF, otlp_request.success(1, f"too old {KEY}")),
        (JSON, b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old %s"}}' % KEY.encode()),
    ],
)
def test_a_partial_success_counts_without_saying_which(headers: dict[str, str], body: bytes) -> None:
    assert sent(sink(), Response(200, headers, body))[0] == Delivered(1, "too old ***")


def test_a_partial_success_of_more_than_was_sent_is_bounded() -> None:
    assert sent(sink(), Response(200, PROTOBUF, otlp_request.success(99, "x")))[0] == Delivered(2, "x")


LOGIN = b"<!DOCTYPE html><title>Sign in</title>"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/html; charset=utf-8"}, LOGIN),
        ({"content-type": "Text/HTML"}, b""),
        ({}, b"\r\n " + LOGIN),
        ({"content-type": "application/xhtml+xml"}, b"<?xml"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"workspace": WORKSPACE}])
def test_a_web_page_with_status_200_is_no_delivery(
    headers: dict[str, str], body: bytes, settings: dict[str, str]
) -> None:
    """A login page in front of a wrong address: nothing has stored the spans."""
    answer = Response(200, headers, body)
    outcome = sent(sink(**settings), answer)[0]
    why = "not_otlp (status 200): the answer is a web page, such as a login"
    assert outcome == Paused(why, "endpoint, family")
    health, _ = checked(sink(**settings), answer)
    assert not health.ok
    assert "endpoint" in health.detail


@pytest.mark.parametrize(
    "answer",
    [
        Response(200),
        Response(200, {"content-type": "text/plain"}, b"OK"),
        Response(202, JSON, b"{}"),
        Response(200, PROTOBUF, b"\xff\xff"),
    ],
)
def test_any_other_2xx_is_a_delivery(answer: Response) -> None:
    assert sent(sink(), answer)[0] == Delivered()


def test_a_partial_success_of_any_length_is_no_web_page() -> None:
    """In protobuf it begins with a line feed, its tag, and its length, which may be that of `<`."""
    for length in range(200):
        body = otlp_request.success(1, "x" * length)
        for headers in (dict[str, str](), PROTOBUF):
            assert sent(sink(), Response(200, headers, body))[0] == Delivered(1, "x" * length)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_pauses_and_is_not_followed(status: int) -> None:
    """The key is part of the URL: another host must not get it."""
    headers = {"location": f"https://elsewhere.example/adapt_{QUOTED}/api/otlp/traces"}
    outcome, http = sent(sink(), Response(status, headers))
    assert outcome == Paused(f"redirected (status {status})", "endpoint, license_key, family")
    assert len(http.requests) == 1


@pytest.mark.parametrize(("status", "after"), [(429, "7"), (503, "7")])
def test_a_busy_server_is_asked_again_when_it_says(status: int, after: str) -> None:
    answer = Response(status, {"retry-after": after}, b"")
    assert sent(sink(), answer)[0] == Retry(7.0, f"status {status}", busy=status == 429)


def test_a_413_is_split() -> None:
    assert sent(sink(), Response(413))[0] == Split(status=413)


@pytest.mark.parametrize(
    "written", [KEY, QUOTED, QUOTED.lower().replace("%2f", "%2F"), QUOTED.replace("%40", "@")]
)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-protobuf"])
def test_an_echoed_url_shows_no_key(written: str, status: int, kind: str) -> None:
    text = f"no route for /adapt_{written}/api/otlp/traces"
    body = otlp_request.failure(status, text) if "protobuf" in kind else text.encode()
    if kind == "application/json":
        body = msgspec.json.encode({"errorCode": "X", "errorMessage": text})
    said = repr(sent(sink(), Response(status, {"content-type": kind}, body), count=1)[0])
    assert "adapt_***" in said
    assert "0123456789" not in said


def test_a_rejection_says_what_was_sent_without_the_key() -> None:
    outcome = sent(sink(), Response(400, JSON, b'{"errorMessage": "bad"}'), count=1)[0]
    assert isinstance(outcome, Rejected)
    assert outcome.request is not None
    assert outcome.request.startswith(
        "POST http://tracing-cn-heyuan.arms.aliyuncs.com/adapt_***/api/otlp/traces, 1 spans, "
    )


# -- the check
def checked(made: Alibaba, *answers: Response | NoAnswer) -> tuple[Health, Scripted]:
    http = Scripted(*answers)
    return asyncio.run(made.check(http)), http


@pytest.mark.parametrize("status", [200, 405])
def test_with_the_key_in_the_path_the_check_asks_for_the_path(status: int) -> None:
    """405 is what Dify expects: the path is there and takes no HEAD."""
    health, http = checked(sink(), Response(status))
    [(method, url, body, _)] = http.requests
    assert (method, body) == ("HEAD", b"")
    assert url.endswith("/api/otlp/traces")
    assert health.ok
    assert "does not check the licence key" in health.detail
    assert "delivered" not in health.detail


def test_with_cms_the_check_sends_a_request_without_spans() -> None:
    health, http = checked(sink(workspace=WORKSPACE), Response(200))
    [(method, _, body, headers)] = http.requests
    assert (method, body) == ("POST", b"")
    assert headers["x-arms-license-key"] == KEY
    assert "Content-Encoding" not in headers
    assert health.ok
    assert "whether spans are stored is seen when they are sent" in health.detail


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_of_the_empty_request_is_no_proof_and_one_of_head_a_problem(status: int) -> None:
    health, _ = checked(sink(workspace=WORKSPACE), Response(status))
    assert health.ok
    assert "refuses a request without spans" in health.detail
    health, _ = checked(sink(), Response(status))
    assert not health.ok
    assert f"HEAD with status {status}; see endpoint, family" in health.detail


@pytest.mark.parametrize("settings", [{}, {"workspace": WORKSPACE}])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Response(401), "license_key"),
        (Response(403), "license_key"),
        (Response(404), "endpoint"),
        (Response(302), "endpoint"),
        (Response(500), "status 500"),
        (Response(403, JSON, b'{"errorCode": "WriteQuotaExceed"}'), "WriteQuotaExceed"),
        (NoAnswer("timeout", "no answer"), "timeout"),
    ],
)
def test_a_failed_check_says_why(settings: dict[str, str], answer: Response | NoAnswer, says: str) -> None:
    health, _ = checked(sink(**settings), answer)
    assert not health.ok
    assert says in health.detail
    assert KEY not in health.detail


# -- gRPC
def grpc_sent(handler: Any, *, count: int = 2, check: bool = False) -> Any:
    async def run() -> Any:
        async with serving(handler) as port:
            made = sink(endpoint=f"localhost:{port}", protocol="grpc", timeout=10.0)
            none: Any = None
            try:
                return await made.check(none) if check else await made.send(batch(made, count), none)
            finally:
                await made.close()

    return asyncio.run(run())


def test_over_grpc_the_key_is_metadata() -> None:
    found: list[tuple[bytes, dict[str, Any]]] = []

    async def handler(body: bytes, context: Any) -> bytes:
        found.append((body, dict(context.invocation_metadata())))
        return otlp_request.success(1, f"too old {KEY}")

    assert grpc_sent(handler) == Delivered(1, "too old ***")
    [(body, metadata)] = found
    assert metadata["authentication"] == KEY
    assert len(ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans) == 2


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "UNAVAILABLE", "INVALID_ARGUMENT", "INTERNAL"])
@pytest.mark.parametrize("check", [False, True])
def test_over_grpc_an_echoed_key_is_masked(code: str, check: bool) -> None:
    said = repr(grpc_sent(aborting(code, f"who is {KEY}, {QUOTED}"), count=1, check=check))
    assert "0123456789" not in said
    if not (check and code == "INVALID_ARGUMENT"):  # an empty request may be refused for being empty
        assert "***" in said


def test_over_grpc_a_wrong_key_pauses_and_names_it() -> None:
    outcome = grpc_sent(aborting("UNAUTHENTICATED", "who"))
    assert outcome == Paused("UNAUTHENTICATED: who", "endpoint, license_key")


@pytest.mark.parametrize("quota", ["WriteQuotaExceed", "ShardWriteQuotaExceed"])
@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "PERMISSION_DENIED"])
@pytest.mark.parametrize("count", [1, 2])
def test_over_grpc_a_quota_is_retried(code: str, quota: str, count: int) -> None:
    """Without its code it would be split, down to a record that pauses the sink."""
    outcome = grpc_sent(aborting(code, f"403 {quota}: full"), count=count)
    assert outcome == Retry(None, f"{code}: 403 {quota}: full", busy=True)


def test_over_grpc_a_refused_record_is_no_quota() -> None:
    """The message may quote a record."""
    outcome = grpc_sent(aborting("INVALID_ARGUMENT", "input.value: WriteQuotaExceed"), count=1)
    assert isinstance(outcome, Rejected)


def test_over_grpc_a_request_over_2_mb_is_split_before_it_is_sent() -> None:
    async def handler(body: bytes, context: Any) -> bytes:
        raise AssertionError("nothing may be sent")

    async def run() -> Any:
        async with serving(handler, most=2 * MAX_BYTES) as port:
            made = sink(endpoint=f"localhost:{port}", protocol="grpc")
            none: Any = None
            try:
                return await made.send(batch(made, 2, inputs='"' + "x" * 1_200_000 + '"'), none)
            finally:
                await made.close()

    assert asyncio.run(run()) == Split()


def test_over_grpc_a_body_of_2_mb_arrives_as_over_http() -> None:
    """Byte for byte: the same request, whatever the protocol and the compression."""
    found: list[bytes] = []

    async def handler(body: bytes, context: Any) -> bytes:
        found.append(body)
        return b""

    async def run(compression: str) -> None:
        async with serving(handler, most=MAX_BYTES) as port:
            made = sink(endpoint=f"localhost:{port}", protocol="grpc", compression=compression)
            none: Any = None
            try:
                large = batch(made, 1, inputs='"' + "ü" * 900_000 + '"')
                assert await made.send(large, none) == Delivered()
            finally:
                await made.close()

    for compression in ("gzip", "none"):
        asyncio.run(run(compression))
        http = sent(sink(compression=compression), count=1, inputs='"' + "ü" * 900_000 + '"')[1]
        body = http.requests[0][2]
        found.append(gzip.decompress(body) if compression == "gzip" else body)
    assert len(set(found)) == 1
    assert 1_800_000 < len(found[0]) <= MAX_BYTES


def test_the_check_over_grpc() -> None:
    async def empty(body: bytes, context: Any) -> bytes:
        assert body == b""
        return b""

    health = grpc_sent(empty, check=True)
    assert health.ok
    assert "takes a request without spans" in health.detail
