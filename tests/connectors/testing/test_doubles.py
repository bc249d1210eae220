"""What all doubles share, on a vendor made up here: a new double needs no more than `Notes`."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar, Unpack

import aiohttp
import pytest
from aiohttp import web

from connectors.testing.doubles.alibaba import AlibabaDouble, AlibabaFaults
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.langfuse import LangfuseDouble, LangfuseFaults
from connectors.testing.doubles.opik import OpikDouble
from connectors.testing.doubles.otlp import OtlpFaults, OtlpReceiver
from connectors.testing.doubles.request_rules import RateWindow, RequestRefused, require_header
from connectors.testing.doubles.server import Answer, Double, Incoming, ServerOptions, json_answer
from connectors.testing.doubles.weave import WeaveDouble


class Notes(Double[Faults]):
    """Takes notes and votes; the empty note is refused."""

    groups: ClassVar[tuple[str, ...]] = ("notes", "votes")
    default_max_bytes: ClassVar[int] = 1000
    headers_kept: ClassVar[frozenset[str]] = frozenset({"x-color"})

    def __init__(self, faults: Faults | None = None, **server: Unpack[ServerOptions]) -> None:
        super().__init__(faults or Faults(), server)
        self.kept: list[bytes] = []

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/notes", self.handle("notes", self._take)),
            web.post("/votes", self.handle("votes", self._take)),
            web.post("/whoami", self.handle("", self._take)),
        ]

    def admit(self, request: web.Request, group: str) -> Mapping[str, str]:
        require_header(request.headers, "Authorization", "key", RequestRefused(401, "no key"))
        return {"X-Left": "3"}

    def error_answer(self, refused: RequestRefused) -> Answer:
        return json_answer(refused.status, {"why": refused.message})

    def ready(self) -> Mapping[str, str]:
        return {"endpoint": self.endpoint}

    def greeting(self) -> str:
        return f"Notes at {self.endpoint}."

    def _take(self, incoming: Incoming) -> Answer:
        note = self.decompressed(incoming.request, incoming.body)
        if not note:
            raise RequestRefused(422, "empty", {"X-Why": "empty"})
        self.kept.append(note)
        return json_answer(200, {"number": incoming.number})


Post = Callable[..., Coroutine[Any, Any, tuple[int, bytes, Mapping[str, str]]]]


def run(double: Notes, work: Callable[[Post], Awaitable[None]]) -> None:
    async def main() -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        async with double, aiohttp.ClientSession(connector=connector) as session:

            async def post(path: str, data: Any, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
                sent = {"Authorization": "key", **{k.replace("_", "-"): v for k, v in headers.items()}}
                async with session.post(double.endpoint + path, data=data, headers=sent) as answer:
                    return answer.status, await answer.read(), answer.headers

            await work(post)

    asyncio.run(main())


def test_what_is_taken_refused_and_recorded() -> None:
    double = Notes()

    async def work(post: Post) -> None:
        status, body, headers = await post("/notes", b"a", X_Api_Key="key", X_Color="red")
        assert (status, body, headers["X-Left"]) == (200, b'{"number":1}', "3")
        assert (await post("/notes", b"a", Authorization="other"))[:2] == (401, b'{"why":"no key"}')
        status, _, headers = await post("/notes", b"")
        assert (status, headers["X-Left"], headers["X-Why"]) == (422, "3", "empty")
        assert (await post("/votes", gzip.compress(b"b"), Content_Encoding="gzip"))[0] == 200
        assert (await post("/votes", bytes(1001)))[0] == 413
        assert (await post("/votes", gzip.compress(bytes(1001)), Content_Encoding="gzip"))[0] == 413
        assert (await post("/votes", b"b", Content_Encoding="br"))[0] == 415

    run(double, work)
    assert double.kept == [b"a", b"b"]
    assert [e.status for e in double.exchanges] == [200, 401, 422, 200, 413, 413, 415]
    assert (double.requests, double.accepted) == (7, 2)
    first = double.exchanges[0]
    assert (first.method, first.path, first.body) == ("POST", "/notes", b"a")
    assert not {"authorization", "x-api-key"} & first.headers.keys()
    assert first.headers["x-color"] == "red"  # since the double says that it is harmless
    assert first.headers["content-length"] == "1"


def test_faults_are_counted_by_group_and_from_when_they_were_set() -> None:
    double = Notes(Faults(only="notes", status=503, headers={"Retry-After": "7"}), keep_exchanges=False)

    async def work(post: Post) -> None:
        assert (await post("/votes", b"a"))[0] == 200
        status, _, headers = await post("/notes", b"a", Authorization="other")  # before the key is looked at
        assert (status, headers["Retry-After"]) == (503, "7")
        assert (await post("/notes", b"a"))[0] == 200
        double.faults = Faults(status=500)
        assert (await post("/whoami", b"a"))[0] == 200
        assert (await post("/votes", b"a"))[0] == 500
        assert (await post("/votes", b"a"))[0] == 200

    run(double, work)
    assert double.exchanges == []
    assert double.requests == 6


@pytest.mark.parametrize(
    ("faults", "kept"),
    [(Faults(reset="request"), 0), (Faults(reset="response"), 1)],
)
def test_a_reset_happens_before_or_after_keeping(faults: Faults, kept: int) -> None:
    double = Notes(faults)

    async def work(post: Post) -> None:
        with pytest.raises(aiohttp.ClientError):
            await post("/notes", b"a")
        assert len(double.kept) == kept
        assert (await post("/notes", b"a"))[0] == 200
        double.faults = Faults(reset="response")
        assert (await post("/notes", b""))[0] == 422  # a refusal arrives

    run(double, work)
    assert [e.status for e in double.exchanges] == [0, 200, 422]


def test_stopping_ends_what_hangs_and_answers_what_is_delayed() -> None:
    double = Notes(Faults(hang=True))

    async def work(post: Post) -> None:
        hanging = asyncio.create_task(post("/notes", b"hangs"))
        while not double.kept:
            await asyncio.wait([hanging], timeout=0.01)
        double.faults = Faults(delay=3600.0)
        delayed = asyncio.create_task(post("/notes", b"late"))
        while len(double.kept) < 2:
            await asyncio.wait([delayed], timeout=0.01)
        await double.stop()
        assert (await delayed)[0] == 200
        with pytest.raises(aiohttp.ClientError):
            await hanging

    run(double, work)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AlibabaDouble(faults=AlibabaFaults(only="scores")),
        lambda: LangfuseDouble(faults=LangfuseFaults(only="spans")),
        lambda: OpikDouble(faults=Faults(only="trace")),
        lambda: OtlpReceiver(faults=OtlpFaults(only="scores")),
        lambda: WeaveDouble(faults=Faults(only="traces")),
    ],
)
def test_a_plan_for_a_group_that_a_double_has_not_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"is not one of (traces|calls)"):
        make()


def test_a_rate_window_counts_what_fits() -> None:
    window = RateWindow(3)
    assert window.take(2, 1000.0) is None
    assert window.take(2, 1020.0) == 40.0
    assert window.take(1, 1020.0) is None
    assert (window.remaining, window.end) == (0, 1060.0)
    assert window.take(1, 1059.0) == 1.0
    assert window.take(3, 1060.0) is None
    window.limit = 0
    assert window.take(99, 1060.0) is None


SHARED = {
    "--host",
    "--port",
    "--max-bytes",
    "--delay",
    "--status",
    "--status-first",
    "--retry-after",
    "--reset",
    "--reset-first",
    "--json",
}
OWN = {
    "alibaba": {"--license-key", "--workspace", "--project", "--quota"},
    "langfuse": {
        "--public-key",
        "--secret-key",
        "--ingestion-per-minute",
        "--scores-per-minute",
        "--suspended",
    },
    "opik": {"--api-key", "--workspace", "--window-hours", "--events-per-minute"},
    "otlp": {"--file", "--partial-rejected", "--partial-first"},
    "weave": {"--api-key", "--entity", "--project", "--gzip", "--no-gzip"},
}


@pytest.mark.parametrize(
    ("module", "vendor"),
    [
        ("alibaba_double", "alibaba"),
        ("langfuse_double", "langfuse"),
        ("opik_double", "opik"),
        ("otlp_receiver", "otlp"),
        ("weave_double", "weave"),
        ("doubles.alibaba", "alibaba"),
        ("doubles.langfuse", "langfuse"),
        ("doubles.opik", "opik"),
        ("doubles.otlp", "otlp"),
        ("doubles.weave", "weave"),
    ],
)
def test_every_double_is_a_command_with_the_shared_options_and_its_own(module: str, vendor: str) -> None:
    command = [sys.executable, "-m", f"connectors.testing.{module}", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    options = {word.rstrip(",.") for word in said.split() if word.startswith("--")}
    assert options == SHARED | OWN[vendor] | {"--help"}
