"""A double of a Langfuse server: enforces the documented rules, stores what Langfuse would, fails as
scripted.

    python -m connectors.testing.doubles.langfuse --port 0 --json

It has two paths of its own: `GET /_state` returns the merged observations and scores, `POST /_control`
changes keys and faults while it runs. Unlike Langfuse it accepts OTLP as protobuf only, stores at once, and
stores nothing on disk.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Unpack

import click
import msgspec
from aiohttp import web

from connectors.testing.doubles import otlp_request
from connectors.testing.doubles.command import FaultOptions, double_command
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.langfuse_store import InvalidScore, LangfuseStore, score_of
from connectors.testing.doubles.request_rules import (
    RateWindow,
    RequestRefused,
    basic_authorization,
    require_header,
)
from connectors.testing.doubles.server import Answer, Double, Incoming, ServerOptions, json_answer

TRACES: Final = "/api/public/otel/v1/traces"
SCORES: Final = "/api/public/scores"
PROJECTS: Final = "/api/public/projects"
MAX_BYTES: Final = 5_000_000


class LangfuseFaults(Faults, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults of the Langfuse double."""

    suspended: bool = False
    """Whether traces and scores are answered with 403, as for an organisation over its plan."""


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /_control. Fields that are left out are not changed."""

    public_key: str | None = None
    secret_key: str | None = None
    faults: LangfuseFaults | None = None


class LangfuseDouble(Double[LangfuseFaults]):
    """The server, in this process.

        async with LangfuseDouble() as double:
            ...  # host = double.endpoint, keys double.public_key and double.secret_key
            double.store.observations

    Keys and faults may be changed while it runs.

    Args:
        public_key: The public key that requests must have.
        secret_key: The secret key that requests must have.
        project: Name of the project that the keys belong to.
        faults: The fault plan.
        ingestion_per_minute: Limit of requests with spans; 0: no limit.
        scores_per_minute: Limit of requests with scores; 0: no limit.
        list_scores: Whether a list of scores is accepted, as by servers from v4 on.
        clock: Unix seconds.
        server: See `ServerOptions`.
    """

    groups: ClassVar[tuple[str, ...]] = ("traces", "scores")
    default_max_bytes: ClassVar[int] = MAX_BYTES
    headers_kept: ClassVar[frozenset[str]] = frozenset({"x-langfuse-ingestion-version"})

    def __init__(
        self,
        *,
        public_key: str = "pk-lf-test",
        secret_key: str = "sk-lf-test",
        project: str = "double",
        faults: LangfuseFaults | None = None,
        ingestion_per_minute: int = 0,
        scores_per_minute: int = 0,
        list_scores: bool = True,
        clock: Callable[[], float] = time.time,
        **server: Unpack[ServerOptions],
    ) -> None:
        super().__init__(faults or LangfuseFaults(), server)
        self.public_key, self.secret_key = public_key, secret_key
        self.store = LangfuseStore()
        self._project, self._list_scores, self._clock = project, list_scores, clock
        self._windows = {"traces": RateWindow(ingestion_per_minute), "scores": RateWindow(scores_per_minute)}

    @property
    def state(self) -> dict[str, Any]:
        """The answer to `GET /_state`."""
        state: dict[str, Any] = msgspec.to_builtins({**self.store.state(), "requests": self.requests})
        return state

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(TRACES, self.handle("traces", self._take_spans)),
            web.post(SCORES, self.handle("scores", self._take_scores)),
            web.get(PROJECTS, self.handle("", self._projects)),
            web.get("/api/public/health", self._health),
            web.get("/_state", self._state),
            web.post("/_control", self._control),
        ]

    def admit(self, request: web.Request, group: str) -> Mapping[str, str]:
        refusal = RequestRefused(401, "Invalid credentials. Confirm that you've configured the correct host.")
        want = basic_authorization(self.public_key, self.secret_key)
        require_header(request.headers, "Authorization", want, refusal)
        if not group:
            return {}
        if self.faults.suspended:
            raise RequestRefused(
                403, "Ingestion suspended: Usage threshold exceeded. Please upgrade your plan."
            )
        window = self._windows[group]
        wait = window.take(1, self._clock())
        headers = _rate_headers(window) if window.limit else {}
        if wait is not None:
            raise RequestRefused(429, "Rate limit exceeded", {**headers, "Retry-After": str(int(wait) + 1)})
        return headers

    def error_answer(self, refused: RequestRefused) -> Answer:
        name = _ERROR_NAMES.get(refused.status, "Error")
        return json_answer(refused.status, {"message": refused.message, "error": name})

    # -- Langfuse's paths
    def _take_spans(self, incoming: Incoming) -> Answer:
        request = incoming.request
        version = request.headers.get("x-langfuse-ingestion-version")
        if version is None:
            self.store.problems.append(
                "without x-langfuse-ingestion-version: 4 it takes 10 minutes until data are visible"
            )
        elif not version.isdigit() or int(version) > 4:
            raise RequestRefused(
                400, f'Unsupported x-langfuse-ingestion-version: "{version}". Maximum supported: "4".'
            )
        if request.content_type != otlp_request.CONTENT_TYPE:
            raise RequestRefused(400, "Invalid content type")
        try:
            plain = self.decompressed(request, incoming.body)
            spans = otlp_request.parse(plain, incoming.number, 0)
        except RequestRefused as e:
            if e.status == 413:
                raise
            raise RequestRefused(400, f"The entire export was rejected: {e.message}") from None
        self.store.add_spans(spans)
        return json_answer(200, [{"name": "otel-ingestion-job", "spans": len(spans)}] if spans else {})

    def _take_scores(self, incoming: Incoming) -> Answer:
        if incoming.request.content_type != "application/json":
            raise RequestRefused(400, "Invalid content type")
        try:
            document = msgspec.json.decode(incoming.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise RequestRefused(400, f"Invalid JSON: {e}") from None
        if not isinstance(document, list):
            try:
                score = score_of(document)
            except InvalidScore as e:
                raise RequestRefused(400, f"Invalid request data: {e}") from None
            self.store.add_score(score)
            return json_answer(200, {"id": score.id})
        if not self._list_scores:
            raise RequestRefused(400, "Invalid request data: expected object, received array")
        errors = []
        for one in document:
            try:
                self.store.add_score(score_of(one))
            except InvalidScore as e:
                errors.append({"message": str(e)})
        if errors:
            accepted = len(document) - len(errors)
            return json_answer(207, {"accepted": accepted, "rejected": len(errors), "errors": errors})
        return json_answer(202, {"message": "Accepted"})

    def _projects(self, incoming: Incoming) -> Answer:
        organization = {"id": "organization-1", "name": "double"}
        project = {"id": "project-1", "name": self._project, "organization": organization, "metadata": {}}
        return json_answer(200, {"data": [project]})

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "OK", "version": "4.16.0"})

    # -- its own paths
    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(self.state)

    async def _control(self, request: web.Request) -> web.Response:
        try:
            control = msgspec.json.decode(await request.read(), type=Control)
            if control.faults is not None:
                self.faults = control.faults
        except ValueError as e:  # msgspec's errors are ValueErrors
            return web.json_response({"message": str(e)}, status=400)
        self.public_key = self.public_key if control.public_key is None else control.public_key
        self.secret_key = self.secret_key if control.secret_key is None else control.secret_key
        return web.json_response({})

    # -- as a command
    def ready(self) -> Mapping[str, str]:
        return {"endpoint": self.endpoint, "public_key": self.public_key, "secret_key": self.secret_key}

    def greeting(self) -> str:
        return (
            f"Langfuse's API at {self.endpoint}, keys {self.public_key} and {self.secret_key}; "
            f"what it stored is at {self.endpoint}/_state."
        )

    def summary(self) -> str:
        return f"stopped: {len(self.store.observations)} observations, {len(self.store.scores)} scores"


_ERROR_NAMES: Final = {
    400: "InvalidRequestError",
    401: "UnauthorizedError",
    403: "ForbiddenError",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
}


def _rate_headers(window: RateWindow) -> dict[str, str]:
    """Rate-limit headers of Langfuse Cloud, whose reset time is a date in JavaScript's format."""
    end = datetime.datetime.fromtimestamp(window.end, datetime.UTC)
    return {
        "X-RateLimit-Limit": str(window.limit),
        "X-RateLimit-Remaining": str(window.remaining),
        "X-RateLimit-Reset": end.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)"),
    }


@double_command(max_bytes=MAX_BYTES)
@click.option("--public-key", default="pk-lf-test", show_default=True)
@click.option("--secret-key", default="sk-lf-test", show_default=True)
@click.option(
    "--ingestion-per-minute", default=0, show_default=True, help="Limit of requests with spans; 0: no limit."
)
@click.option(
    "--scores-per-minute", default=0, show_default=True, help="Limit of requests with scores; 0: no limit."
)
@click.option("--suspended", is_flag=True, help="Answer with 403, as for an organisation over its plan.")
def main(
    server: ServerOptions,
    faults: FaultOptions,
    *,
    public_key: str,
    secret_key: str,
    ingestion_per_minute: int,
    scores_per_minute: int,
    suspended: bool,
) -> LangfuseDouble:
    """Run a double of a Langfuse server, which stores in memory what Langfuse would store."""
    return LangfuseDouble(
        public_key=public_key,
        secret_key=secret_key,
        ingestion_per_minute=ingestion_per_minute,
        scores_per_minute=scores_per_minute,
        faults=LangfuseFaults(**faults, suspended=suspended),
        **server,
    )


if __name__ == "__main__":
    main()
