"""Weave's server in memory as a web application: `python -m tests.backends.weave_application PORT KEY`.

It runs in the environment that `make backends` installs. The package has the server's functions and the types
of their requests, but not its routes: these are here, by the paths of the vendor's API.
"""

from __future__ import annotations

import base64
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, Final

import pydantic
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PACKAGE: Final = "weave.trace_server"
FUNCTIONS: Final = {
    "/v2/{entity}/{project}/calls/complete": ("CallsUpsertCompleteReq", "calls_complete"),
    "/calls/query_stats": ("CallsQueryStatsReq", "calls_query_stats"),
    "/calls/stream_query": ("CallsQueryReq", "calls_query_stream"),
    "/feedback/create": ("FeedbackCreateReq", "feedback_create"),
    "/feedback/replace": ("FeedbackReplaceReq", "feedback_replace"),
    "/feedback/purge": ("FeedbackPurgeReq", "feedback_purge"),
    "/feedback/query": ("FeedbackQueryReq", "feedback_query"),
}
"""Path -> the type of the request, and the function."""


def without_model_prices() -> None:
    """The wheel lacks one module of the server, a table of models that only completions need."""
    missing = types.ModuleType(f"{PACKAGE}.model_providers.model_providers")
    missing.VERTEX_PROVIDER_NAMES = frozenset()  # type: ignore[attr-defined]
    missing.LLMModelProviderInfo = dict[str, Any]  # type: ignore[attr-defined]
    missing.read_model_to_provider_info_map = lambda *_: {}  # type: ignore[attr-defined]
    sys.modules[missing.__name__] = missing


def converter(base: Any) -> Any:
    """Between the names of projects, runs and users outside, and the server's ids inside."""

    def to_internal(_: Any, name: str) -> str:
        return base64.b64encode(name.encode()).decode()

    def to_external(_: Any, name: str) -> str:
        return base64.b64decode(name).decode()

    both = {"ext_to_int": to_internal, "int_to_ext": to_external}
    methods = {f"{way}_{what}_id": f for way, f in both.items() for what in ("project", "run", "user")}
    return type("Converter", (base,), methods)()


def server() -> Any:
    """The server with the adapter that its own web application has in front of it."""
    without_model_prices()
    memory = importlib.import_module(f"{PACKAGE}.in_memory_trace_server").InMemoryTraceServer()
    adapter = importlib.import_module(f"{PACKAGE}.external_to_internal_trace_server_adapter")
    return adapter.ExternalTraceServer(memory, converter(adapter.IdConverter))


def check_calls(asked: Any) -> None:
    """As the vendor's database layer does before an insert. Raises ValueError or an error of its own.

    The server in memory leaves it out.
    """
    row = importlib.import_module(f"{PACKAGE}.clickhouse_schema").CallCompleteCHInsertable
    for call in asked.batch:
        values = {name: getattr(call, name) for name in row.model_fields if hasattr(call, name)}
        project = base64.b64encode(call.project_id.encode()).decode()
        dumps = dict.fromkeys(("attributes_dump", "inputs_dump", "output_dump", "summary_dump"), "{}")
        row.model_validate({**values, **dumps, "project_id": project, "otel_dump": None})


def endpoint(path: str, model: Any, function: Callable[[Any], Any], wanted: str) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        if request.headers.get("authorization") != wanted:
            return JSONResponse({"reason": "unauthorized"}, 401)
        try:
            asked = model.model_validate_json(await request.body())
            if path in ("/feedback/create", "/feedback/replace"):
                asked.wb_user_id = "user"  # whose key it is
        except pydantic.ValidationError as e:
            return JSONResponse({"detail": e.errors(include_url=False, include_input=False)}, 422)
        if path.endswith("/calls/complete"):
            try:
                check_calls(asked)
            except Exception as e:  # the validators raise errors of different classes
                return JSONResponse({"detail": str(e)}, 422)
        try:
            found = function(asked)
            if path.endswith("/stream_query"):
                return Response("".join(f"{row.model_dump_json()}\n" for row in found), 200)
        except Exception as e:  # as the vendor's application does, which knows its errors
            failed = importlib.import_module(f"{PACKAGE}.errors").handle_server_exception(e)
            return JSONResponse(failed.message, failed.status_code)
        return Response(found.model_dump_json(), media_type="application/json")

    return answer


def application(key: str) -> Starlette:
    wanted = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
    functions, requests = server(), importlib.import_module(f"{PACKAGE}.trace_server_interface")
    return Starlette(
        routes=[
            Route(
                path,
                endpoint(path, getattr(requests, model), getattr(functions, name), wanted),
                methods=["POST"],
            )
            for path, (model, name) in FUNCTIONS.items()
        ]
    )


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
