"""Opik's judge: the models of its API's requests, and the SDK's check of ids."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.vendor import strict
from tests.vendor.inside import Request, serve
from tests.vendor.inside.bare import bare

REQUIRES: Final = ("opik==2.2.122", "httpx==0.28.1", "pydantic==2.14.4", "uuid6==2025.0.1")
VARIANTS: Final[tuple[dict[str, str], ...]] = ()
TYPES: Final = "opik.rest_api.types"
REQUESTS: Final = {
    ("POST", "/v1/private/traces/batch"): ("traces", "trace_write:TraceWrite"),
    ("POST", "/v1/private/spans/batch"): ("spans", "span_write:SpanWrite"),
    ("PUT", "/v1/private/traces/feedback-scores"): (
        "scores",
        "feedback_score_batch_item:FeedbackScoreBatchItem",
    ),
    ("PUT", "/v1/private/spans/feedback-scores"): (
        "scores",
        "feedback_score_batch_item:FeedbackScoreBatchItem",
    ),
    ("PUT", "/v1/private/traces/threads/feedback-scores"): (
        "scores",
        "feedback_score_batch_item_thread:FeedbackScoreBatchItemThread",
    ),
}
"""Method and end of the path -> the body's only key, and the model of its items."""
WITHDRAWN: Final = re.compile(r"/v1/private/(traces|spans|traces/threads)/([^/]+)/feedback-scores/delete$")
IDS: Final = frozenset({"id", "trace_id", "parent_span_id"})
"""Which are UUIDs of version 7; those of threads are free."""


def problems(request: Request) -> Iterator[str]:
    withdrawn = WITHDRAWN.search(request.path)
    if withdrawn and request.method == "POST":
        yield from strict.problems(_withdrawn(withdrawn[1]), request.body)
        return
    for (method, end), (key, where) in REQUESTS.items():
        if request.matches(method, end):
            yield from _items(request.body, key, _model(where), threads="threads" in end)
            return
    yield f"{request.method} {request.path}: not a request of Opik's API"


def _items(body: Any, key: str, model: Any, *, threads: bool) -> Iterator[str]:
    yield from (f".{k}: unknown key" for k in body if k != key)
    yield from (f".{key}{text}" for text in strict.problems(list[model], body.get(key)))
    for i, item in enumerate(body.get(key) or ()):
        yield from (f".{key}[{i}]: {text}" for text in strict.parsed(model, item))
        for name in () if threads else IDS & item.keys():
            if not _valid()(item[name]):
                yield f".{key}[{i}].{name}: {item[name]!r} is not a UUID of version 7"


def _model(where: str) -> Any:
    bare("opik")
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(f"{TYPES}.{module}"), name)


def _withdrawn(entity: str) -> Any:
    """The request that deletes one score. The SDK has a model of it only for traces and spans."""
    return _model("delete_feedback_score:DeleteFeedbackScore")


@functools.cache
def _valid() -> Callable[[str], bool]:
    bare("opik")
    found: Callable[[str], bool] = importlib.import_module("opik.id_helpers").is_valid_uuid_v7
    return found


if __name__ == "__main__":
    serve(problems)
