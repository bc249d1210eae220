"""Requests to Weave: bodies and paths, with the project that the mapping leaves out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import orjson

from connectors.sinks.weave.scores import Feedback

REPLACE: Final = "/feedback/replace"
SPANS: Final = "/agents/otel/v1/traces"
PURGE: Final = "/feedback/purge"
STATS: Final = "/calls/query_stats"
VIEWER: Final = orjson.dumps({"query": "query Viewer { viewer { entity username } }"})
"""The body that asks W&B's GraphQL API whose key it is."""


def calls_path(entity: str, project: str) -> str:
    """Path of the endpoint for complete calls."""
    return f"/v2/{quote(entity, safe='')}/{quote(project, safe='')}/calls/complete"


def calls_body(project_id: str, calls: Sequence[bytes]) -> bytes:
    """A batch of calls, at least one, as `mapping.to_call` returns them."""
    start = b'{"project_id":' + orjson.dumps(project_id) + b","
    first, *rest = calls
    return (b"," + start).join([b'{"batch":[' + start + first, *rest]) + b"]}"


def feedback_body(project_id: str, feedback: Feedback) -> bytes:
    """The body that replaces an item of feedback, whether it exists or not, or deletes it."""
    project = orjson.dumps(project_id)
    if feedback.body is None:
        wanted = {"$expr": {"$eq": [{"$getField": "id"}, {"$literal": feedback.id}]}}
        return b'{"project_id":' + project + b',"query":' + orjson.dumps(wanted) + b"}"
    reference = orjson.dumps(f"weave:///{project_id}/call/{feedback.call}")
    start = b'{"project_id":' + project + b',"feedback_id":' + orjson.dumps(feedback.id)
    return start + b',"weave_ref":' + reference + b"," + feedback.body


def stats_body(project_id: str) -> bytes:
    """The body that counts the calls of a project, one at most."""
    return orjson.dumps({"project_id": project_id, "limit": 1})
