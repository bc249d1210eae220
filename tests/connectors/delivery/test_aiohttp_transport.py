"""The HTTP transport against a server that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from connectors.delivery.aiohttp_transport import BODY, AiohttpTransport
from connectors.sdk.http import NoAnswer, Response
from tailrace.errors import ConfigError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def post(handler: Handler, *, seconds: float = 5.0, times: int = 1) -> list[Response | NoAnswer]:
    async def run() -> list[Response | NoAnswer]:
        app = web.Application()
        app.add_routes([web.post("/{tail:.*}", handler)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        http = AiohttpTransport()
        found: list[Response | NoAnswer] = []
        try:
            for _ in range(times):
                url = f"http://user:s3cret@127.0.0.1:{runner.addresses[0][1]}/s3cret?key=s3cret"
                try:
                    found.append(
                        await http.request("POST", url, b"body", {"X-Key": "s3cret"}, seconds=seconds)
                    )
                except NoAnswer as e:
                    found.append(e)
        finally:
            await http.close()
            await runner.cleanup()
        return found

    return asyncio.run(run())


def test_an_answer_is_an_answer_and_the_connection_is_kept() -> None:
    peers: list[object] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        assert (await request.read(), request.headers["X-Key"]) == (b"body", "s3cret")
        return web.Response(status=418, text="tea", headers={"Retry-After": "3", "Set-Cookie": "a=b"})

    answers = post(handler, times=3)
    for answer in answers:
        assert isinstance(answer, Response)
        assert (answer.status, answer.body, answer.headers["retry-after"]) == (418, b"tea", "3")
    assert len(set(peers)) == 1


def test_redirects_are_not_followed() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    [answer] = post(handler)
    assert isinstance(answer, Response)
    assert answer.status == 307


def test_a_hanging_server_and_a_hanging_body_time_out() -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"x")
        await asyncio.sleep(30)
        return answer

    for handler in (hang, drip):
        [answer] = post(handler, seconds=0.2)
        assert isinstance(answer, NoAnswer)
        assert answer.reason == "timeout"
        assert "s3cret" not in str(answer)


def test_only_the_start_of_an_endless_answer_is_read() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 100_000)

    [answer] = post(handler)
    assert isinstance(answer, Response)
    assert answer.body == b"x" * BODY


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/s3cret",
        "http://nowhere.invalid.:1/s3cret?k=s3cret2",
        "http://127.0.0.1:99999/s3cret",
        "nonsense s3cret",
    ],
)
def test_no_connection_says_where_and_nothing_more(url: str) -> None:
    async def run() -> None:
        http = AiohttpTransport()
        try:
            await http.request("POST", url, b"", {})
        finally:
            await http.close()

    with pytest.raises(NoAnswer) as e:
        asyncio.run(run())
    assert "/s3cret" not in str(e.value)
    assert "s3cret2" not in str(e.value)
    assert e.value.reason in {"unreachable", "bad_request"}


def test_a_reset_is_not_an_answer() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    [answer] = post(handler)
    assert isinstance(answer, NoAnswer)
    assert answer.reason == "broken"


def test_a_ca_file_that_cannot_be_read_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for name in ("bad.pem", "missing.pem"):
        with pytest.raises(ConfigError, match="ca_file: "):
            AiohttpTransport(str(tmp_path / name))
