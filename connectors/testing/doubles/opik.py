"""A double of Opik's server: enforces Opik's rules, merges like its database, fails as scripted.

    python -m connectors.testing.doubles.opik --port 0 --json

The API is below /api. `GET /_state` returns the merged objects and counts of requests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Unpack

import click
from aiohttp import web

from connectors.testing.doubles.command import FaultOptions, double_command
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.opik_rules import Document, OpikStore, items_of, out_of_window, problems
from connectors.testing.doubles.request_rules import RateWindow, RequestRefused, require_header
from connectors.testing.doubles.server import Answer, Double, Incoming, ServerOptions, json_answer

MAX_BYTES: Final = 50 * 1024 * 1024
THREADS: Final = "traces/threads"
_NO_CONTENT: Final = Answer(status=204, content_type=None)


class OpikDouble(Double[Faults]):
    """The server, in this process.

        async with OpikDouble() as opik:
            ...  # requests to opik.url
            opik.store.state()

    All attributes may be changed while it runs.

    Args:
        api_key: The key that requests must have; empty: any.
        workspace: The workspace that requests must have; empty: any.
        window_hours: Most hours between the time in an id and now; 0: no limit.
        events_per_minute: Limit of items; 0: no limit.
        faults: The fault plan.
        clock: Unix seconds.
        server: See `ServerOptions`.
    """

    groups: ClassVar[tuple[str, ...]] = ("traces", "spans", "scores")
    default_max_bytes: ClassVar[int] = MAX_BYTES
    headers_kept: ClassVar[frozenset[str]] = frozenset({"comet-workspace"})

    def __init__(
        self,
        *,
        api_key: str = "",
        workspace: str = "",
        window_hours: float = 0.0,
        events_per_minute: int = 0,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
        **server: Unpack[ServerOptions],
    ) -> None:
        super().__init__(faults or Faults(), server)
        self.api_key, self.workspace, self.window_hours = api_key, workspace, window_hours
        self.quota_used_up = False
        """Whether all writes are answered with 402."""
        self.scores_open_threads = True
        """Whether scores of threads are taken at any time; servers before 2026 wanted them closed (409)."""
        self.clock = clock
        self.store = OpikStore()
        self.rate = RateWindow(events_per_minute)

    @property
    def url(self) -> str:
        """The value for the sink's setting `url`."""
        return f"{self.endpoint}/api"

    def routes(self) -> list[web.RouteDef]:
        private = "/api/v1/private"
        scores = f"{private}/{{entity:traces|spans}}"
        return [
            web.post(f"{private}/traces/batch", self.handle("traces", self._take_batch)),
            web.post(f"{private}/spans/batch", self.handle("spans", self._take_batch)),
            web.put(f"{scores}/feedback-scores", self.handle("scores", self._take_scores)),
            web.put(f"{private}/{THREADS}/feedback-scores", self.handle("scores", self._take_thread_scores)),
            web.post(f"{scores}/{{id}}/feedback-scores/delete", self.handle("scores", self._delete_score)),
            web.get(f"{private}/projects", self._projects),
            web.get(f"{private}/traces/{{id}}", self._trace),
            web.get(f"{private}/spans", self._spans),
            web.get("/api/is-alive/ping", self._ping),
            web.get("/_state", self._state),
        ]

    def admit(self, request: web.Request, group: str) -> Mapping[str, str]:
        self._authorise(request)
        if self.quota_used_up:
            raise RequestRefused(402, "Usage quota exceeded")
        return {}

    def error_answer(self, refused: RequestRefused) -> Answer:
        return json_answer(refused.status, {"code": refused.status, "message": refused.message})

    def _authorise(self, request: web.Request) -> None:
        headers = request.headers
        wrong_key = RequestRefused(401, "API key is not valid")
        require_header(headers, "Authorization", self.api_key, wrong_key)
        wrong_workspace = RequestRefused(403, "User has no access to the workspace")
        require_header(headers, "Comet-Workspace", self.workspace, wrong_workspace)

    # -- writes
    def _document(self, incoming: Incoming) -> Any:
        """Parses the body, and counts its items against the rate limit."""
        if incoming.request.content_type != "application/json":
            raise RequestRefused(415, "HTTP 415 Unsupported Media Type")
        try:
            document = json.loads(self.decompressed(incoming.request, incoming.body))
        except (ValueError, RecursionError):
            raise RequestRefused(400, "Unable to process JSON") from None
        items = len(document.get(incoming.group) or ()) if isinstance(document, dict) else 0
        wait = self.rate.take(max(items, 1), self.clock())
        if wait is not None:
            raise RequestRefused(429, "Too Many Requests", {"RateLimit-Reset": str(max(1, round(wait)))})
        return document

    def _items(self, incoming: Incoming, rules: str = "") -> list[Document]:
        """The items of a batch. Refuses the request if one is not valid by `rules` (its group's)."""
        name = incoming.group
        items = items_of(self._document(incoming), name)
        invalid = [f"{name}[{i}].{p}" for i, item in enumerate(items) for p in problems(rules or name, item)]
        if invalid:
            raise RequestRefused(400, "; ".join(invalid[:5]))
        return items

    def _take_batch(self, incoming: Incoming) -> Answer:
        name, items = incoming.group, self._items(incoming)
        for item in items:
            if self.window_hours and (reason := out_of_window(name, item, self.clock(), self.window_hours)):
                raise RequestRefused(
                    400, f"{reason}: the time of a UUID is more than {self.window_hours:g} h from now"
                )
            if (other := self.store.other_project(name, item)) is not None:
                raise RequestRefused(
                    409, f"Project name and workspace name do not match the existing {name[:-1]}: {other}"
                )
        for item in items:
            self.store.put(name, item)
        return _NO_CONTENT

    def _take_scores(self, incoming: Incoming) -> Answer:
        entity, items = incoming.request.match_info["entity"], self._items(incoming)
        if any(not self.store.knows(entity, i["id"]) for i in items):
            raise RequestRefused(404, f"{entity} not found")
        for item in items:
            self.store.scores[entity, item["id"], item["name"]] = item
        return _NO_CONTENT

    def _take_thread_scores(self, incoming: Incoming) -> Answer:
        """Scores of threads. Opik makes a thread that it does not know."""
        items = self._items(incoming, "thread_scores")
        if not self.scores_open_threads:
            raise RequestRefused(409, f"Threads must be closed before scoring: {items[0]['thread_id']}")
        for item in items:
            self.store.scores[THREADS, item["thread_id"], item["name"]] = item
        return _NO_CONTENT

    def _delete_score(self, incoming: Incoming) -> Answer:
        document, path = self._document(incoming), incoming.request.match_info
        if not isinstance(document, dict) or not isinstance(document.get("name"), str):
            raise RequestRefused(400, "name must not be blank")
        self.store.scores.pop((path["entity"], path["id"], document["name"]), None)
        return _NO_CONTENT

    # -- reads
    def _read_answer(self, request: web.Request, document: Any) -> web.Response:
        try:
            self._authorise(request)
        except RequestRefused as e:
            return web.json_response({"code": e.status, "message": e.message}, status=e.status)
        if document is None:
            return web.json_response({"code": 404, "message": "not found"}, status=404)
        return web.json_response(document)

    async def _projects(self, request: web.Request) -> web.Response:
        names = self.store.projects
        return self._read_answer(
            request,
            {"page": 1, "size": len(names), "total": len(names), "content": [{"name": n} for n in names]},
        )

    async def _trace(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        return self._read_answer(
            request, next((t for t in self.store.traces.values() if t["id"] == wanted), None)
        )

    async def _spans(self, request: web.Request) -> web.Response:
        wanted = request.query.get("trace_id")
        spans = [s for s in self.store.state()["spans"] if wanted in (None, s["trace_id"])]
        return self._read_answer(
            request, {"page": 1, "size": len(spans), "total": len(spans), "content": spans}
        )

    async def _ping(self, request: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    async def _state(self, request: web.Request) -> web.Response:
        counts = {"requests": self.requests, "accepted": self.accepted}
        return web.json_response({**self.store.state(), **counts})

    # -- as a command
    def ready(self) -> Mapping[str, str]:
        return {"url": self.url}

    def greeting(self) -> str:
        return f"Opik's API at {self.url}; what it stored is at {self.endpoint}/_state."


@double_command(max_bytes=MAX_BYTES)
@click.option("--api-key", default="", help="The key that requests must have; empty: any.")
@click.option("--workspace", default="", help="The workspace that requests must have; empty: any.")
@click.option(
    "--window-hours",
    default=0.0,
    help="Most hours between the time in an id and now; 0: no limit. Opik's Cloud has 24.",
)
@click.option("--events-per-minute", default=0, help="Limit of items; 0: no limit. Opik's Cloud has 5000.")
def main(
    server: ServerOptions,
    faults: FaultOptions,
    *,
    api_key: str,
    workspace: str,
    window_hours: float,
    events_per_minute: int,
) -> OpikDouble:
    """Run a double of Opik's server, which stores traces, spans and feedback scores in memory."""
    return OpikDouble(
        api_key=api_key,
        workspace=workspace,
        window_hours=window_hours,
        events_per_minute=events_per_minute,
        faults=Faults(**faults),
        **server,
    )


if __name__ == "__main__":
    main()
