"""`http_sink`: requests, results of the function, settings, and the conformance kit."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from connectors import (
    Batch,
    Delivered,
    Enriched,
    HttpSettings,
    Paused,
    Payload,
    Rejected,
    Retry,
    Secret,
    Skip,
    http_sink,
)
from connectors.delivery.aiohttp_transport import AiohttpTransport
from connectors.sdk.contract import Item, RecordOrigin, spec_of
from connectors.sdk.http_sink import Form, HttpSink
from connectors.sdk.policy import Action
from connectors.testing import conformance, samples
from connectors.testing.conformance.hostile_server import Answer, HostileServer, Received
from tailrace.errors import ConfigError


def operation(record: Enriched) -> dict[str, Any] | Skip:
    """Operations."""
    if record.event.kind == "app_deleted":
        return Skip("no_operation")
    return {"id": record.context.span_id.hex(), "name": record.event.name, "error": record.event.error}


def made(function: Callable[..., Any] = operation, **options: Any) -> type[HttpSink]:
    return http_sink("acme", **options)(function)


class TestArray(conformance.SinkConformance):
    sink = made()
    settings = {"endpoint": "{endpoint}", "api_key": "{secret}", "headers": {"x-other": "{secret}"}}


class TestLines(TestArray):
    sink = made(form="lines", path="/ingest")


class TestSingle(TestArray):
    sink = made(form="single", method="PUT", auth="Authorization: Basic {basic}", check_path="/me")


def test_the_class_has_what_the_decorator_was_given() -> None:
    cls = made(max_records=7, max_bytes=99, fields={"name"})
    spec = spec_of(cls)
    assert (spec.name, spec.doc, spec.max_records, spec.max_bytes, spec.fields) == (
        "acme",
        "Operations.",
        7,
        99,
        frozenset({"name"}),
    )
    assert cls.__name__ == "operation"


def exchange(
    cls: type[HttpSink],
    bodies: list[bytes],
    answer: Callable[[Received], Answer] = lambda r: Answer(),
    **settings: Any,
) -> tuple[Any, list[Received]]:
    with HostileServer(answer) as server:

        async def run() -> Any:
            http = AiohttpTransport()
            try:
                sink = cls(cls.Settings(endpoint=server.endpoint, **settings))
                items = [Item(Payload(b, len(b)), RecordOrigin("t", 0, i, 0)) for i, b in enumerate(bodies)]
                return await sink.send(Batch(tuple(items)), http)
            finally:
                await http.close()

        return asyncio.run(run()), server.requests


@pytest.mark.parametrize(
    ("form", "bodies"),
    [
        ("array", [b'[{"a":1},{"a":2}]']),
        ("lines", [b'{"a":1}\n{"a":2}\n']),
        ("single", [b'{"a":1}', b'{"a":2}']),
    ],
)
def test_what_goes_over_the_wire(form: Form, bodies: list[bytes]) -> None:
    cls = made(form=form, path="/v1/events")
    _, requests = exchange(cls, [b'{"a":1}', b'{"a":2}'], api_key="k3y-k3y", headers={"X-Org": "7"})
    assert [r.body for r in requests] == bodies
    for request in requests:
        assert (request.method, request.path) == ("POST", "/v1/events")
        assert request.headers["authorization"] == "Bearer k3y-k3y"
        assert (request.headers["x-org"], request.headers["content-encoding"]) == ("7", "gzip")
    _, (plain, *_) = exchange(cls, [b"{}"], compression="none")
    assert "content-encoding" not in plain.headers
    assert "authorization" not in plain.headers


def test_a_key_in_another_header() -> None:
    _, (request,) = exchange(made(auth="X-API-Key: {api_key}"), [b"1"], api_key="secret")
    assert request.headers["x-api-key"] == "secret"
    _, (request,) = exchange(made(auth="Authorization: Basic {basic}"), [b"1"], api_key="me:secret")
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"me:secret"


def test_one_request_a_record_stops_at_what_has_to_wait() -> None:
    statuses = {b"0": 200, b"1": 400, b"2": 429, b"3": 200}
    outcomes, requests = exchange(
        made(form="single"),
        list(statuses),
        lambda r: Answer(statuses[r.body], {"Retry-After": "9"}),
        compression="none",
    )
    assert [type(o) for o in outcomes] == [Delivered, Rejected, Retry, Retry]
    assert {o.after for o in outcomes[2:]} == {9.0}
    assert [r.body for r in requests] == [b"0", b"1", b"2"]


def test_rows_of_the_table_may_differ() -> None:
    cls = made(table={402: Action.REJECT, 400: Action.PAUSE})
    assert isinstance(exchange(cls, [b"1"], lambda r: Answer(402))[0], Rejected)
    paused = exchange(cls, [b"1"], lambda r: Answer(400))[0]
    assert isinstance(paused, Paused)
    assert paused.fix == "endpoint, api_key, headers"


def mapped(found: Any, **options: Any) -> Any:
    cls = made(lambda record: found, **options)
    return cls(HttpSettings(endpoint="http://h")).map(samples.read(samples.samples()["tool"], None))


def test_what_a_function_may_return() -> None:
    assert mapped({"a": "ö", "b": float("nan")}) == Payload('{"a":"ö","b":null}'.encode(), 20)
    assert mapped(b"[1]") == Payload(b"[1]", 4)
    assert mapped(Skip("x")) == Skip("x")
    assert mapped(Rejected("y")) == Rejected("y")
    for wrong in (object(), {"a": "\ud800"}, {object(): 1}):
        answer = mapped(wrong)
        assert (answer.reason, "\ud800" in answer.detail) == ("not_json", False)
    assert mapped(b"1\n2", form="lines").reason == "not_a_line"


def test_a_function_may_ask_for_the_settings() -> None:
    class More(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
        project: str
        token: Secret = ""

    def with_project(record: Enriched, settings: More) -> dict[str, Any]:
        return {"project": settings.project}

    cls = made(with_project, settings=More)
    payload = cls(More(endpoint="http://h", project="p")).map(samples.read(samples.samples()["tool"], None))
    assert isinstance(payload, Payload)
    assert json.loads(payload.body) == {"project": "p"}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"endpoint": "acme.example"}, "endpoint: must start with"),
        ({"endpoint": "http://"}, "endpoint: "),
        (
            {"endpoint": "http://h", "api_key": "marker\n"},
            "api_key: the value of Authorization has a line break",
        ),
        (
            {"endpoint": "http://h", "headers": {"a b": "marker"}},
            "headers: entry 1 does not have a valid header name",
        ),
    ],
)
def test_wrong_settings_name_the_setting_and_not_its_value(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        made()(HttpSettings(**settings))
    assert str(raised.value).startswith(problem)
    assert "marker" not in str(raised.value)
