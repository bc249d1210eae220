"""A local stand-in for a Langfuse server: it enforces the documented rules, keeps what Langfuse would, and
fails as scripted.

    python -m connectors.testing.doubles.langfuse --port 0 --json

Its own paths: `GET /_state` (observations and scores as merged), `POST /_control` (keys and faults while it
runs). Unlike Langfuse it takes OTLP as protobuf only, stores at once, and keeps nothing on the disk."""

from __future__ import annotations

import asyncio
import base64
import datetime
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal, Self

import click
import msgspec
from aiohttp import web

from connectors.testing.doubles import otlp_request
from connectors.testing.doubles.langfuse_store import Invalid, Store, score_of
from connectors.testing.doubles.otlp_request import Refused
from connectors.testing.doubles.serving import Listener, abort

TRACES: Final = "/api/public/otel/v1/traces"
SCORES: Final = "/api/public/scores"
PROJECTS: Final = "/api/public/projects"


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong, by number of the request to `path` since the faults were set: first those answered
    with `status`, then those reset, then those never answered, then all is well. A count of 0 is without end.
    `suspended` comes before all."""

    path: Literal["any", "traces", "scores"] = "any"
    status: int = 0
    """HTTP status of the first `status_first` requests, of which nothing is kept; 0: none."""
    status_first: int = 1
    retry_after: str | None = None
    """Retry-After header that goes with `status`."""
    reset: Literal["request", "response"] | None = None
    """request: connection reset, nothing kept. response: all kept, connection reset before the answer."""
    reset_first: int = 1
    hang: bool = False
    """All kept, never answered (until the double stops)."""
    hang_first: int = 1
    delay: float = 0.0
    """Seconds before each answer."""
    suspended: bool = False
    """403 as for an organisation over its plan."""

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
    """One request and how it was answered."""

    method: str
    path: str
    status: int
    """0: no answer."""
    headers: dict[str, str]
    """Names in lower case, without Authorization."""
    body: bytes
    """As sent."""


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /_control; what is left out stays."""

    public_key: str | None = None
    secret_key: str | None = None
    faults: Faults | None = None


class Window:
    """A limit of requests a minute in fixed windows, as Langfuse Cloud has them."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit, self._clock = limit, clock
        self._start, self._used = 0.0, 0

    def over(self) -> float | None:
        """Counts a request; seconds until the next window if it is one too many."""
        now = self._clock()
        if now - self._start >= 60:
            self._start, self._used = now, 0
        self._used += 1
        return self._start + 60 - now if 0 < self.limit < self._used else None

    @property
    def headers(self) -> dict[str, str]:
        """The reset is a date as JavaScript writes it, as Langfuse sends it."""
        end = datetime.datetime.fromtimestamp(self._start + 60, datetime.UTC)
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.limit - self._used)),
            "X-RateLimit-Reset": end.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)"),
        }


class LangfuseDouble:
    """The server, in this process.

        async with LangfuseDouble() as double:
            ...  # host = double.endpoint, keys double.public_key and double.secret_key
            double.store.observations

    ingestion_per_minute, scores_per_minute: 0 is without limit. list_scores: False is a server that takes
    single scores only. max_bytes: of a request, before and after decompression. keep: hold the exchanges.
    Keys and faults may be replaced while it runs. One event loop."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public_key: str = "pk-lf-test",
        secret_key: str = "sk-lf-test",
        project: str = "double",
        faults: Faults | None = None,
        max_bytes: int = 5_000_000,
        ingestion_per_minute: int = 0,
        scores_per_minute: int = 0,
        list_scores: bool = True,
        keep: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.public_key, self.secret_key = public_key, secret_key
        self.store = Store()
        self.exchanges: list[Exchange] = []
        """Every request. Empty without keep."""
        self.requests = 0
        self._keep = keep
        self._faults, self._counts = faults or Faults(), {"traces": 0, "scores": 0, "any": 0}
        self._project, self._max_bytes = project, max_bytes
        self._list_scores = list_scores
        self._windows = {
            "traces": Window(ingestion_per_minute, clock),
            "scores": Window(scores_per_minute, clock),
        }
        self._listener = Listener(host, port)

    @property
    def faults(self) -> Faults:
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults, self._counts = faults, {"traces": 0, "scores": 0, "any": 0}

    async def start(self) -> None:
        """Listens. Raises OSError."""
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                web.post(TRACES, self._traces),
                web.post(SCORES, self._scores),
                web.get(PROJECTS, self._projects),
                web.get("/api/public/health", self._health),
                web.get("/_state", self._state),
                web.post("/_control", self._control),
            ]
        )
        await self._listener.start(app)

    async def stop(self) -> None:
        """Ends what hangs, then closes."""
        await self._listener.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def endpoint(self) -> str:
        return self._listener.url

    @property
    def state(self) -> dict[str, Any]:
        """What `GET /_state` says."""
        found: dict[str, Any] = msgspec.to_builtins({**self.store.state(), "requests": self.requests})
        return found

    # -- Langfuse's paths
    async def _traces(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "traces", self._take_spans)

    async def _scores(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "scores", self._take_scores)

    async def _projects(self, request: web.Request) -> web.StreamResponse:
        def answer(request: web.Request, body: bytes) -> tuple[int, Any]:
            organization = {"id": "organization-1", "name": "double"}
            return 200, {
                "data": [
                    {"id": "project-1", "name": self._project, "organization": organization, "metadata": {}}
                ]
            }

        return await self._answer(request, "any", answer)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "OK", "version": "4.16.0"})

    def _take_spans(self, request: web.Request, body: bytes) -> tuple[int, Any]:
        version = request.headers.get("x-langfuse-ingestion-version")
        if version is None:
            self.store.problems.append(
                "without x-langfuse-ingestion-version: 4 it takes 10 minutes until data are seen"
            )
        elif not version.isdigit() or int(version) > 4:
            raise Refused(
                400, f'Unsupported x-langfuse-ingestion-version: "{version}". Maximum supported: "4".'
            )
        if request.content_type != otlp_request.CONTENT_TYPE:
            raise Refused(400, "Invalid content type")
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        try:
            plain = otlp_request.decompress(body, encoding, self._max_bytes)
            spans = otlp_request.parse(plain, self.requests, 0)
        except Refused as e:
            message = f"The entire export was rejected: {e.message}" if e.status != 413 else e.message
            raise Refused(413 if e.status == 413 else 400, message) from None
        self.store.add_spans(spans)
        return 200, [{"name": "otel-ingestion-job", "spans": len(spans)}] if spans else {}

    def _take_scores(self, request: web.Request, body: bytes) -> tuple[int, Any]:
        if request.content_type != "application/json":
            raise Refused(400, "Invalid content type")
        try:
            document = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise Refused(400, f"Invalid JSON: {e}") from None
        if not isinstance(document, list):
            try:
                score = score_of(document)
            except Invalid as e:
                raise Refused(400, f"Invalid request data: {e}") from None
            self.store.add_score(score)
            return 200, {"id": score.id}
        if not self._list_scores:
            raise Refused(400, "Invalid request data: expected object, received array")
        errors = []
        for one in document:
            try:
                self.store.add_score(score_of(one))
            except Invalid as e:
                errors.append({"message": str(e)})
        if errors:
            return 207, {"accepted": len(document) - len(errors), "rejected": len(errors), "errors": errors}
        return 202, {"message": "Accepted"}

    # -- answering
    async def _answer(
        self,
        request: web.Request,
        what: Literal["traces", "scores", "any"],
        take: Callable[[web.Request, bytes], tuple[int, Any]],
    ) -> web.StreamResponse:
        faults = self._faults
        self._counts[what] += 1
        n = self._counts["traces"] + self._counts["scores"] if faults.path == "any" else self._counts[what]
        fault = faults.at(n) if what != "any" and faults.path in ("any", what) else None
        headers: dict[str, str] = {}
        body = b""
        status, document = 0, None
        try:
            if fault == "reset" and faults.reset == "request":
                self._note(request, 0, b"")
                return abort(request)
            body = await self._body(request)
            if fault == "status":
                if faults.retry_after is not None:
                    headers["Retry-After"] = faults.retry_after
                raise Refused(faults.status, f"status {faults.status} as scripted")
            self._allowed(request, what)
            if what != "any":
                self._within(what, headers)
            status, document = take(request, body)
        except Refused as e:
            status, document = e.status, {"message": e.message, "error": _NAMES.get(e.status, "Error")}
        await self._pause(faults.delay)
        if fault == "hang" and status // 100 == 2:
            self._note(request, 0, body)
            await self._listener.stopping.wait()
            return abort(request)
        if fault == "reset" and status // 100 == 2:
            self._note(request, 0, body)
            return abort(request)
        self._note(request, status, body)
        return web.Response(
            status=status,
            body=msgspec.json.encode(document),
            headers=headers,
            content_type="application/json",
        )

    async def _body(self, request: web.Request) -> bytes:
        too_large = Refused(413, f"the request has more than {self._max_bytes} bytes")
        if (request.content_length or 0) > self._max_bytes:
            raise too_large
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self._max_bytes:
                raise too_large
        return bytes(body)

    def _allowed(self, request: web.Request, what: str) -> None:
        want = base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {want}":
            raise Refused(401, "Invalid credentials. Confirm that you've configured the correct host.")
        if self._faults.suspended and what != "any":
            raise Refused(403, "Ingestion suspended: Usage threshold exceeded. Please upgrade your plan.")

    def _within(self, what: str, headers: dict[str, str]) -> None:
        window = self._windows[what]
        seconds = window.over()
        if window.limit:
            headers.update(window.headers)
        if seconds is not None:
            headers["Retry-After"] = str(int(seconds) + 1)
            raise Refused(429, "Rate limit exceeded")

    def _note(self, request: web.Request, status: int, body: bytes) -> None:
        self.requests += 1
        if self._keep:
            headers = {k.lower(): v for k, v in request.headers.items() if k.lower() != "authorization"}
            self.exchanges.append(
                Exchange(method=request.method, path=request.path, status=status, headers=headers, body=body)
            )

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._listener.stopping.wait(), seconds)
            except TimeoutError:
                pass

    # -- its own paths
    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self.state)

    async def _control(self, request: web.Request) -> web.Response:
        try:
            control = msgspec.json.decode(await request.read(), type=Control)
        except msgspec.MsgspecError as e:
            return web.json_response({"message": str(e)}, status=400)
        self.public_key = self.public_key if control.public_key is None else control.public_key
        self.secret_key = self.secret_key if control.secret_key is None else control.secret_key
        if control.faults is not None:
            self.faults = control.faults
        return web.json_response({})


_NAMES: Final = {
    400: "InvalidRequestError",
    401: "UnauthorizedError",
    403: "ForbiddenError",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
}


async def _serve(double: LangfuseDouble, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with double:
        ready = {
            "endpoint": double.endpoint,
            "public_key": double.public_key,
            "secret_key": double.secret_key,
            "pid": os.getpid(),
        }
        if as_json:
            click.echo(msgspec.json.encode(ready))
        else:
            click.echo(
                f"Langfuse's API at {double.endpoint}, keys {double.public_key} and {double.secret_key}; "
                f"what it holds at {double.endpoint}/_state. Ctrl-C stops it."
            )
        await stop.wait()
    if not as_json:
        click.echo(
            f"stopped: {len(double.store.observations)} observations, {len(double.store.scores)} scores"
        )


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0 takes a free one.")
@click.option("--public-key", default="pk-lf-test", show_default=True)
@click.option("--secret-key", default="sk-lf-test", show_default=True)
@click.option("--max-bytes", default=5_000_000, show_default=True, help="Larger requests get a 413.")
@click.option(
    "--ingestion-per-minute", default=0, show_default=True, help="Requests with spans; 0 is without limit."
)
@click.option(
    "--scores-per-minute", default=0, show_default=True, help="Requests with scores; 0 is without limit."
)
@click.option("--delay", default=0.0, help="Seconds before each answer.")
@click.option("--status", default=0, help="Answer the first requests with this status.")
@click.option("--status-first", default=1, show_default=True, help="How many; 0 is all.")
@click.option("--retry-after", default=None, help="Retry-After header that goes with --status.")
@click.option(
    "--reset",
    default=None,
    type=click.Choice(["request", "response"]),
    help="Reset connections, before or after keeping.",
)
@click.option("--reset-first", default=1, show_default=True, help="How many; 0 is all.")
@click.option("--suspended", is_flag=True, help="403 as for an organisation over its plan.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON line with endpoint, keys and pid when ready."
)
def main(
    host: str,
    port: int,
    public_key: str,
    secret_key: str,
    max_bytes: int,
    ingestion_per_minute: int,
    scores_per_minute: int,
    delay: float,
    status: int,
    status_first: int,
    retry_after: str | None,
    reset: Literal["request", "response"] | None,
    reset_first: int,
    suspended: bool,
    as_json: bool,
) -> None:
    """Stand in for a Langfuse server."""
    faults = Faults(
        delay=delay,
        status=status,
        status_first=status_first,
        retry_after=retry_after,
        reset=reset,
        reset_first=reset_first,
        suspended=suspended,
    )

    async def run() -> None:
        double = LangfuseDouble(
            host=host,
            port=port,
            public_key=public_key,
            secret_key=secret_key,
            faults=faults,
            max_bytes=max_bytes,
            ingestion_per_minute=ingestion_per_minute,
            scores_per_minute=scores_per_minute,
            keep=False,
        )
        await _serve(double, as_json)

    try:
        asyncio.run(run())
    except OSError as e:
        raise click.ClickException(str(e)) from None


if __name__ == "__main__":
    main()
