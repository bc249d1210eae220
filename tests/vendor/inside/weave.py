"""Weave's judge: the types of the SDK that is generated from its server's API."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import Any, Final

from tests.vendor import strict
from tests.vendor.inside import Request, serve

REQUIRES: Final = ("weave==0.54.0",)
VARIANTS: Final[tuple[dict[str, str], ...]] = ()
TYPES: Final = "weave.vendor.weave_server_sdk.types"
AGENTS: Final = "/agents/otel/v1/traces"
"""OTLP, for which the SDK has no types; the judge of OTLP reads it too."""
PROJECT: Final = frozenset({"wandb.entity", "wandb.project"})
"""Resource attributes without which the server drops a span."""


def problems(request: Request) -> Iterator[str]:
    if request.matches("POST", "/calls/complete"):
        entity, project = request.path.split("/")[-4:-2]
        body = {"entity": entity, "project": project, **request.body}  # parts of the path, as in the type
        yield from _typed("v2_call_complete_params:V2CallCompleteParams", body)
        for i, call in enumerate(request.body.get("batch", ())):
            if call.get("project_id") != f"{entity}/{project}":
                yield f".batch[{i}].project_id: {call.get('project_id')!r} is not the path's"
    elif request.matches("POST", "/feedback/replace"):
        yield from _typed("feedback_replace_params:FeedbackReplaceParams", request.body)
        if request.body.get("feedback_id") != request.body.get("id"):
            yield ".feedback_id: is another id than that of the row, so a resend would add rows"
    elif request.matches("POST", "/feedback/purge"):
        # its keys start with $, which only the SDK's own encoder knows
        yield from strict.problems(_type("feedback_purge_params:FeedbackPurgeParams"), request.body)
    elif request.matches("POST", AGENTS):
        for group in request.body["resourceSpans"]:
            names = {a["key"] for a in group.get("resource", {}).get("attributes", ())}
            yield from (f"resource: no {name}" for name in sorted(PROJECT - names))
    else:
        yield f"{request.method} {request.path}: not a request that the sink may make"


def _typed(where: str, body: Any) -> Iterator[str]:
    yield from strict.problems(_type(where), body)
    yield from strict.parsed(_type(where), body)


@functools.cache
def _type(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(f"{TYPES}.{module}"), name)


if __name__ == "__main__":
    serve(problems)
