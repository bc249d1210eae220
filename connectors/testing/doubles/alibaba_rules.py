"""Rules of the Alibaba Cloud double: who may write, and what is odd about a span. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from connectors.testing.doubles.received import ReceivedSpan
from connectors.testing.doubles.request_rules import RequestRefused

CURRENT: Final = frozenset(
    {
        "AGENT",
        "EMBEDDING",
        "ENTRY",
        "LLM",
        "MCP",
        "RERANKER",
        "RETRIEVER",
        "STEP",
        "TOOL",
        "WORKFLOW",
    }
)
"""Values of gen_ai.span.kind."""
OLDER: Final = frozenset({"CHAIN", "TASK"})
"""Values that seed 002 and Dify use, and today's conventions no longer list."""
WHOLE: Final = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.total_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.response.time_to_first_token",
    "gen_ai.user.time_to_first_token",
)
"""Attributes that are integers. Dify sends tokens as text, which the console cannot add up."""


def check_headers(headers: Mapping[str, str], license_key: str, workspace: str, project: str) -> None:
    """The three headers of CMS 2.0.

    Args:
        headers: The request's; names in any case.
        license_key: The right one; empty: any.
        workspace: The right one; empty: any.
        project: The right one; empty: any.

    Raises:
        RequestRefused: 401 for a missing or wrong key, 403 for another workspace or project.
    """
    for name, value, status in (
        ("x-arms-license-key", license_key, 401),
        ("x-cms-workspace", workspace, 403),
        ("x-arms-project", project, 403),
    ):
        said = headers.get(name)
        if not said or (value and said != value):
            raise RequestRefused(status, f"{name} is {'missing' if not said else 'not known'}")


def check_token(token: str, license_key: str) -> None:
    """The licence key in the path; an empty `license_key` accepts any. Raises `RequestRefused` 401."""
    if license_key and token != license_key:
        raise RequestRefused(401, "the token in the path is not known")


def problems(span: ReceivedSpan) -> Iterator[str]:
    """What the server would accept, and the console would not show as it should."""
    where = f"{span.name} {span.span_id}"
    if not span.resource.get("service.name"):
        yield f"{where}: no service.name, so it belongs to no application"
    if span.resource.get("acs.arms.service.feature") != "genai_app":
        yield f"{where}: acs.arms.service.feature is not genai_app: no views for LLM applications"
    kind = span.attributes.get("gen_ai.span.kind")
    if kind not in CURRENT | OLDER:
        yield f"{where}: gen_ai.span.kind is {kind!r}"
    for name in WHOLE:
        value = span.attributes.get(name)
        if value is not None and type(value) is not int:
            yield f"{where}: {name} is {type(value).__name__}, must be an integer"
    if span.end_ns < span.start_ns:
        yield f"{where}: ends before it starts"


def tokens(spans: Iterable[ReceivedSpan]) -> dict[str, int]:
    """Trace id -> its tokens, added up as the console does: without agents, which repeat their calls'."""
    found: dict[str, int] = defaultdict(int)
    for span in spans:
        if span.attributes.get("gen_ai.span.kind") != "AGENT":
            used: Any = span.attributes.get("gen_ai.usage.total_tokens", 0)
            found[span.trace_id] += used if type(used) is int else 0
    return {trace: n for trace, n in found.items() if n}
