"""A local stand-in for Opik's server: it demands what Opik demands, merges as its store merges, and fails as
scripted.

    python -m connectors.testing.doubles.opik --port 0 --json

The API is below /api. `GET /_state` reads back what the store holds after merging, with counts of requests.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal, Self

import click
import msgspec
from aiohttp import web

from connectors.testing.doubles.opik_rules import Document, Refused, Store, items_of, out_of_window, problems
from connectors.testing.doubles.serving import Listener, abort

_MINUTE: Final = 60.0


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong, by number of the request among those that `only` names: first those answered with
    `status`, then those reset, then those that hang, then all is well. A count of 0 is without end."""

    only: Literal["", "traces", "spans", "scores"] = ""
    """Requests that writes of this kind make; empty: all writes."""
    status: int = 0
    """HTTP status of the first `status_first` requests, of which nothing is kept; 0: none."""
    status_first: int = 1
    message: str = "as scripted"
    """Of the answer's body."""
    headers: dict[str, str] = {}
    """That go with `status`, e.g. RateLimit-Reset."""
    reset: Literal["request", "response"] | None = None
    """request: nothing kept. response: all kept, and no answer."""
    reset_first: int = 1
    hang: bool = False
    """Keeps what it was sent and does not answer before it is stopped."""
    hang_first: int = 1
    delay: float = 0.0
    """Seconds before each answer."""

    def at(self, n: int) -> Literal["status", "reset", "hang"] | None:
        """What happens to request `n`, from 1."""
        steps: tuple[tuple[Literal["status", "reset", "hang"], bool, int], ...] = (
            ("status", self.status > 0, self.status_first),
            ("reset", self.reset is not None, self.reset_first),
            ("hang", self.hang, self.hang_first),
        )
        for name, active, first in steps:
            if active:
                if first == 0 or n <= first:
                    return name
                n -= first
        return None


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One write and how it was answered."""

    method: str
    path: str
    status: int
    """0: no answer."""
    items: int
    """Items in its body, kept or not."""
    headers: dict[str, str]
    """Names in lower case."""


class OpikDouble:
    """The server, in this process.

        async with OpikDouble() as opik:
            ...  # requests to opik.url
            opik.store.state()

    Everything may be changed while it runs. Not thread-safe; one event loop.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "",
        workspace: str = "",
        window_hours: float = 0.0,
        events_per_minute: int = 0,
        max_bytes: int = 50 * 1024 * 1024,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """api_key, workspace: what requests must have; empty: anything. window_hours: how far the time in an
        id may be from `clock` (Unix seconds); 0: any distance. events_per_minute: items taken a minute; 0:
        any number. max_bytes: of a body, before and after decompression."""
        self.api_key, self.workspace, self.window_hours = api_key, workspace, window_hours
        self.events_per_minute, self.max_bytes = events_per_minute, max_bytes
        self.quota_used_up = False
        """Whether all writes are answered with 402."""
        self.faults = faults or Faults()
        self.clock = clock
        self.store = Store()
        self.exchanges: list[Exchange] = []
        """Every write."""
        self._matching = 0
        self._minute, self._spent = 0.0, 0
        self._listener = Listener(host, port)

    async def start(self) -> None:
        """Listens. Raises OSError."""
        app = web.Application(client_max_size=1 << 40)
        private = "/api/v1/private"
        app.add_routes(
            [
                web.post(f"{private}/traces/batch", self._write("traces", self._batch)),
                web.post(f"{private}/spans/batch", self._write("spans", self._batch)),
                web.put(
                    f"{private}/{{entity:traces|spans}}/feedback-scores", self._write("scores", self._scores)
                ),
                web.post(
                    f"{private}/{{entity:traces|spans}}/{{id}}/feedback-scores/delete",
                    self._write("scores", self._delete),
                ),
                web.get(f"{private}/projects", self._projects),
                web.get(f"{private}/traces/{{id}}", self._trace),
                web.get(f"{private}/spans", self._spans),
                web.get("/api/is-alive/ping", self._ping),
                web.get("/_state", self._state),
            ]
        )
        await self._listener.start(app)

    async def stop(self) -> None:
        await self._listener.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """What the sink's setting `url` takes."""
        return f"{self._listener.url}/api"

    # -- writes
    def _write(
        self, name: str, keep: Callable[[web.Request, str, Any], None]
    ) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            fault = None
            if self.faults.only in ("", name):
                self._matching += 1
                fault = self.faults.at(self._matching)
            faults, items, headers = self.faults, 0, {}
            status, message = 204, ""
            try:
                if fault == "reset" and faults.reset == "request":
                    self._note(request, 0, 0)
                    return abort(request)
                body = await request.read()
                self._authorise(request)
                if fault == "status":
                    raise Refused(faults.status, faults.message, faults.headers)
                if self.quota_used_up:
                    raise Refused(402, "Usage quota exceeded")
                document = self._json(request, body)
                items = len(document.get(name) or ()) if isinstance(document, dict) else 0
                self._spend(max(items, 1))
                keep(request, name, document)
            except Refused as e:
                status, message, headers = e.status, e.message, e.headers
            if fault == "hang":
                self._note(request, 0, items)
                await self._listener.stopping.wait()
                return abort(request)
            if fault == "reset":
                self._note(request, 0, items)
                return abort(request)
            self._note(request, status, items)
            if faults.delay:
                await asyncio.sleep(faults.delay)
            if status == 204:
                return web.Response(status=204)
            return web.json_response({"code": status, "message": message}, status=status, headers=headers)

        return handle

    def _authorise(self, request: web.Request) -> None:
        if self.api_key and request.headers.get("Authorization") != self.api_key:
            raise Refused(401, "API key is not valid")
        if self.workspace and request.headers.get("Comet-Workspace") != self.workspace:
            raise Refused(403, "User has no access to the workspace")

    def _json(self, request: web.Request, body: bytes) -> Any:
        """The body, parsed; its numbers as they are, so that a bool is no int."""
        if request.content_type != "application/json":
            raise Refused(415, "HTTP 415 Unsupported Media Type")
        if len(body) > self.max_bytes:
            raise Refused(413, "Request entity too large")
        if request.headers.get("Content-Encoding") == "gzip":
            try:
                inflate = zlib.decompressobj(31)
                body = inflate.decompress(body, self.max_bytes + 1)
            except zlib.error:
                raise Refused(400, "the body is not gzip") from None
            if len(body) > self.max_bytes:
                raise Refused(413, "Request entity too large")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, "Unable to process JSON") from None

    def _spend(self, events: int) -> None:
        if not self.events_per_minute:
            return
        now = self.clock()
        if now - self._minute >= _MINUTE:
            self._minute, self._spent = now, 0
        if self._spent + events > self.events_per_minute:
            wait = max(1, round(self._minute + _MINUTE - now))
            raise Refused(429, "Too Many Requests", {"RateLimit-Reset": str(wait)})
        self._spent += events

    def _batch(self, request: web.Request, name: str, document: Any) -> None:
        items = items_of(document, name)
        self._check(name, items)
        for item in items:
            if self.window_hours and (reason := out_of_window(name, item, self.clock(), self.window_hours)):
                raise Refused(
                    400, f"{reason}: the time of a UUID is more than {self.window_hours:g} h from now"
                )
            if (other := self.store.other_project(name, item)) is not None:
                raise Refused(
                    409, f"Project name and workspace name do not match the existing {name[:-1]}: {other}"
                )
        for item in items:
            self.store.put(name, item)

    def _check(self, name: str, items: list[Document]) -> None:
        found = [f"{name}[{i}].{p}" for i, item in enumerate(items) for p in problems(name, item)]
        if found:
            raise Refused(400, "; ".join(found[:5]))

    def _scores(self, request: web.Request, name: str, document: Any) -> None:
        entity = request.match_info["entity"]
        items = items_of(document, name)
        self._check(name, items)
        if any(not self.store.knows(entity, i["id"]) for i in items):
            raise Refused(404, f"{entity} not found")
        for item in items:
            self.store.scores[entity, item["id"], item["name"]] = item

    def _delete(self, request: web.Request, name: str, document: Any) -> None:
        if not isinstance(document, dict) or not isinstance(document.get("name"), str):
            raise Refused(400, "name must not be blank")
        self.store.scores.pop(
            (request.match_info["entity"], request.match_info["id"], document["name"]), None
        )

    def _note(self, request: web.Request, status: int, items: int) -> None:
        headers = {k.lower(): v for k, v in request.headers.items()}
        self.exchanges.append(
            Exchange(method=request.method, path=request.path, status=status, items=items, headers=headers)
        )

    # -- reads
    def _read(self, request: web.Request, document: Any) -> web.Response:
        try:
            self._authorise(request)
        except Refused as e:
            return web.json_response({"code": e.status, "message": e.message}, status=e.status)
        if document is None:
            return web.json_response({"code": 404, "message": "not found"}, status=404)
        return web.json_response(document)

    async def _projects(self, request: web.Request) -> web.Response:
        names = self.store.projects
        return self._read(
            request,
            {"page": 1, "size": len(names), "total": len(names), "content": [{"name": n} for n in names]},
        )

    async def _trace(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        return self._read(request, next((t for t in self.store.traces.values() if t["id"] == wanted), None))

    async def _spans(self, request: web.Request) -> web.Response:
        wanted = request.query.get("trace_id")
        found = [s for s in self.store.state()["spans"] if wanted in (None, s["trace_id"])]
        return self._read(request, {"page": 1, "size": len(found), "total": len(found), "content": found})

    async def _ping(self, request: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    async def _state(self, request: web.Request) -> web.Response:
        accepted = sum(e.status == 204 for e in self.exchanges)
        return web.json_response(
            {**self.store.state(), "requests": len(self.exchanges), "accepted": accepted}
        )


async def _serve(double: OpikDouble, as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with double:
        if as_json:
            click.echo(msgspec.json.encode({"url": double.url, "pid": os.getpid()}))
        else:
            click.echo(
                f"Opik at {double.url}, what it holds at {double.url.removesuffix('/api')}/_state. Ctrl-C "
                "stops it."
            )
        await stop.wait()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0 takes a free one.")
@click.option("--api-key", default="", help="What requests must have.")
@click.option("--workspace", default="", help="What requests must have.")
@click.option(
    "--window-hours",
    default=0.0,
    help="How far the time in an id may be from now; Cloud: 24. 0 is any distance.",
)
@click.option("--events-per-minute", default=0, help="Items taken a minute; Cloud: 5000. 0 is any number.")
@click.option("--max-bytes", default=50 * 1024 * 1024, show_default=True, help="Larger bodies get a 413.")
@click.option("--status", default=0, help="Answer the first writes with this status.")
@click.option("--status-first", default=1, show_default=True, help="How many; 0 is all.")
@click.option("--delay", default=0.0, help="Seconds before each answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line with url and pid when ready.")
def main(
    host: str,
    port: int,
    api_key: str,
    workspace: str,
    window_hours: float,
    events_per_minute: int,
    max_bytes: int,
    status: int,
    status_first: int,
    delay: float,
    as_json: bool,
) -> None:
    """Take traces, spans and feedback scores as Opik does, and keep them in memory."""

    async def run() -> None:
        faults = Faults(status=status, status_first=status_first, delay=delay)
        double = OpikDouble(
            host=host,
            port=port,
            api_key=api_key,
            workspace=workspace,
            window_hours=window_hours,
            events_per_minute=events_per_minute,
            max_bytes=max_bytes,
            faults=faults,
        )
        await _serve(double, as_json)

    try:
        asyncio.run(run())
    except OSError as e:
        raise click.ClickException(str(e)) from None


if __name__ == "__main__":
    main()
