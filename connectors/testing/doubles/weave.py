"""A double of Weave's server: enforces Weave's rules, merges like its database, fails as scripted.

    python -m connectors.testing.doubles.weave --port 0 --json

W&B's GraphQL API is at /graphql, Weave's API below /traces, as on a host of one's own. `GET /_state` returns
the merged objects and counts of requests.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final, Unpack

import click
from aiohttp import web

from connectors.testing.doubles import otlp_request
from connectors.testing.doubles.command import FaultOptions, double_command
from connectors.testing.doubles.faults import Faults
from connectors.testing.doubles.request_rules import RequestRefused, basic_authorization, require_header
from connectors.testing.doubles.server import Answer, Double, Incoming, ServerOptions, json_answer
from connectors.testing.doubles.weave_rules import (
    MOST_BYTES,
    WeaveStore,
    calls_of,
    feedback_of,
    purged_id,
    references,
)

ENTITY: Final = "acme"
"""The entity of the key's own user."""


class WeaveDouble(Double[Faults]):
    """The server, in this process.

        async with WeaveDouble() as weave:
            ...  # requests to weave.endpoint
            weave.store.state()

    All attributes may be changed while it runs.

    Args:
        api_key: The key that requests must have; empty: any.
        projects: The projects that exist, as "entity/project"; None: all.
        entity: The entity of the key's own user; empty: the key has no user.
        gzip: Whether it takes compressed bodies.
        faults: The fault plan.
        server: See `ServerOptions`.
    """

    groups: ClassVar[tuple[str, ...]] = ("calls", "feedback", "spans")
    default_max_bytes: ClassVar[int] = MOST_BYTES

    def __init__(
        self,
        *,
        api_key: str = "",
        projects: Collection[str] | None = None,
        entity: str = ENTITY,
        gzip: bool = True,
        faults: Faults | None = None,
        **server: Unpack[ServerOptions],
    ) -> None:
        super().__init__(faults or Faults(), server)
        self.api_key, self.projects, self.entity, self.gzip = api_key, projects, entity, gzip
        self.store = WeaveStore()

    def routes(self) -> list[web.RouteDef]:
        below = "/traces"
        return [
            web.post(
                f"{below}/v2/{{entity}}/{{project}}/calls/complete", self.handle("calls", self._take_calls)
            ),
            web.post(f"{below}/feedback/create", self.handle("feedback", self._take_feedback)),
            web.post(f"{below}/feedback/replace", self.handle("feedback", self._replace_feedback)),
            web.post(f"{below}/feedback/purge", self.handle("feedback", self._purge)),
            web.post(f"{below}/calls/query_stats", self.handle("", self._stats)),
            web.post(f"{below}/calls/stream_query", self._query_calls),
            web.post(f"{below}/feedback/query", self._query_feedback),
            web.post(f"{below}/agents/otel/v1/traces", self.handle("spans", self._take_spans)),
            web.post("/graphql", self.handle("", self._viewer)),
            web.get("/_state", self._state),
        ]

    def admit(self, request: web.Request, group: str) -> Mapping[str, str]:
        wrong = RequestRefused(401, "Invalid or missing API key")
        wanted = basic_authorization("api", self.api_key) if self.api_key else ""
        require_header(request.headers, "Authorization", wanted, wrong)
        return {}

    def error_answer(self, refused: RequestRefused) -> Answer:
        if refused.status == 422:
            return json_answer(422, {"detail": [{"loc": ["body"], "msg": refused.message}]})
        return json_answer(refused.status, {"reason": refused.message})

    # -- requests
    def _document(self, incoming: Incoming) -> Any:
        if incoming.request.content_type != "application/json":
            raise RequestRefused(422, "the body is not application/json")
        if not self.gzip and incoming.request.headers.get("Content-Encoding"):
            raise RequestRefused(422, "JSON decode error")
        try:
            return json.loads(self.decompressed(incoming.request, incoming.body))
        except (ValueError, RecursionError):
            raise RequestRefused(422, "JSON decode error") from None

    def _known(self, project_id: Any) -> str:
        """The project, if it exists. Raises `RequestRefused`."""
        if not isinstance(project_id, str) or project_id.count("/") != 1:
            raise RequestRefused(422, "project_id: must be entity/project")
        if self.projects is not None and project_id not in self.projects:
            raise RequestRefused(404, f"Project {project_id} not found")
        return project_id

    def _look_up(self, document: Any) -> None:
        """Looks up what a request refers to. Raises `RequestRefused` if a project does not exist."""
        for project_id in references(document):
            self._known(project_id)

    def _take_calls(self, incoming: Incoming) -> Answer:
        path = incoming.request.match_info
        project_id = self._known(f"{path['entity']}/{path['project']}")
        document = self._document(incoming)
        calls = calls_of(document, project_id)
        self._look_up(document)
        for call in calls:
            self.store.put(call)
        return json_answer(200, {})

    def _take_feedback(self, incoming: Incoming) -> Answer:
        document = self._document(incoming)
        feedback = feedback_of(document)
        self._known(feedback["project_id"])
        self._look_up(document)
        self.store.comment(feedback)
        return json_answer(200, {"id": feedback["id"], "payload": feedback["payload"]})

    def _replace_feedback(self, incoming: Incoming) -> Answer:
        document = self._document(incoming)
        feedback = feedback_of(document, replaces=True)
        self._known(feedback["project_id"])
        self._look_up(document)
        self.store.replace(feedback, document["feedback_id"])
        return json_answer(200, {"id": feedback["id"], "payload": feedback["payload"]})

    def _take_spans(self, incoming: Incoming) -> Answer:
        """Stores spans with a project. Drops those without one, and says nothing of it, as Weave does."""
        if incoming.request.content_type != otlp_request.CONTENT_TYPE:
            raise RequestRefused(415, "send application/x-protobuf")
        body = self.decompressed(incoming.request, incoming.body)
        for span in otlp_request.parse(body, incoming.number, 0):
            self._look_up(span.attributes)
            entity, project = span.resource.get("wandb.entity"), span.resource.get("wandb.project")
            if entity and project:
                self.store.span(self._known(f"{entity}/{project}"), span)
        return Answer(body=otlp_request.success(), content_type=otlp_request.CONTENT_TYPE)

    def _purge(self, incoming: Incoming) -> Answer:
        document = self._document(incoming)
        wanted = purged_id(document)
        self.store.purge(self._known(document.get("project_id")), wanted)
        return json_answer(200, {})

    def _stats(self, incoming: Incoming) -> Answer:
        document = self._document(incoming)
        project_id = self._known(document.get("project_id") if isinstance(document, dict) else None)
        return json_answer(200, {"count": sum(key[0] == project_id for key in self.store.calls)})

    def _viewer(self, incoming: Incoming) -> Answer:
        viewer = {"entity": self.entity, "username": self.entity} if self.entity else None
        return json_answer(200, {"data": {"viewer": viewer}})

    # -- reads
    async def _query_calls(self, request: web.Request) -> web.Response:
        """The calls of a project, one JSON document a line."""
        wanted = (await request.json()).get("project_id")
        calls = [call for call in self.store.state()["calls"] if call["project_id"] == wanted]
        return web.Response(
            text="".join(json.dumps(c) + "\n" for c in calls), content_type="application/jsonl"
        )

    async def _query_feedback(self, request: web.Request) -> web.Response:
        wanted = (await request.json()).get("project_id")
        found = [f for f in self.store.state()["feedback"] if f["project_id"] == wanted]
        return web.json_response({"result": found})

    async def _state(self, request: web.Request) -> web.Response:
        counts = {"requests": self.requests, "accepted": self.accepted}
        return web.json_response({**self.store.state(), "usage": self.store.usage(), **counts})

    # -- as a command
    def ready(self) -> Mapping[str, str]:
        return {"host": self.endpoint}

    def greeting(self) -> str:
        return f"Weave's API at {self.endpoint}/traces; what it stored is at {self.endpoint}/_state."


@double_command(max_bytes=MOST_BYTES)
@click.option("--api-key", default="", help="The key that requests must have; empty: any.")
@click.option("--entity", default=ENTITY, show_default=True, help="The entity of the key's own user.")
@click.option(
    "--project", "projects", multiple=True, help="A project that exists, entity/project; none given: all do."
)
@click.option("--gzip/--no-gzip", default=True, show_default=True, help="Whether it takes compressed bodies.")
def main(
    server: ServerOptions,
    faults: FaultOptions,
    *,
    api_key: str,
    entity: str,
    projects: tuple[str, ...],
    gzip: bool,
) -> WeaveDouble:
    """Run a double of Weave's server, which stores calls and feedback in memory."""
    return WeaveDouble(
        api_key=api_key,
        projects=frozenset(projects) or None,
        entity=entity,
        gzip=gzip,
        faults=Faults(**faults),
        **server,
    )


if __name__ == "__main__":
    main()
