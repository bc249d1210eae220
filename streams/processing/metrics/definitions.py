"""The metrics: names, units, kinds and labels, as in docs/metrics.md.

Sources: seed 003, sections 6 and 7; OpenTelemetry GenAI.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from streams.processing.metrics import distribution as d
from streams.processing.metrics.grouping import OVERFLOW, Group
from streams.processing.providers import normalised

CALL_SECONDS: Final = d.SECONDS[:14]
"""OpenTelemetry's bucket bounds for gen_ai.client.operation.duration."""


class Counter(NamedTuple):
    """Indices of a counter's observations and sum in a group's values.

    If `sum` is None, each observation counts 1.
    """

    seen: int
    sum: int | None = None


class Histogram(NamedTuple):
    """Index of a histogram in a group's values, and its bounds.

    Values above the last bound count in its last bucket.
    """

    at: int
    kept: int
    bounds: tuple[int, ...]


Part = Counter | Histogram
EVENTS, ERRORS = Counter(d.EVENTS), Counter(d.ERRORS)
TOTAL_TOKENS = Counter(d.TOTAL_COUNT, d.TOTAL_SUM)
INPUT_TOKENS, OUTPUT_TOKENS = Counter(d.INPUT, d.INPUT + 1), Counter(d.OUTPUT, d.OUTPUT + 1)
COST = Counter(d.COST_COUNT, d.COST_SUM)
DURATION = Histogram(d.DURATION, len(d.SECONDS) + 1, d.SECONDS)
FIRST_TOKEN = Histogram(d.FIRST_TOKEN, len(d.SECONDS) + 1, d.SECONDS)
CALL_DURATION = Histogram(d.DURATION, len(d.SECONDS) + 1, CALL_SECONDS)
INPUT_USAGE = Histogram(d.INPUT, len(d.TOKENS) + 1, d.TOKENS)
OUTPUT_USAGE = Histogram(d.OUTPUT, len(d.TOKENS) + 1, d.TOKENS)


class Definition(NamedTuple):
    """One series: its name, unit and labels, and the part of its groups' values that it sums."""

    metric: str
    unit: str
    labels: tuple[tuple[str, str], ...]
    part: Part


_TYPES: Final = {"workflow_run": "workflow", "node_execution": "node", "draft_node_execution": "draft_node"}
_REQUESTS: Final[dict[str, tuple[str, ...]]] = {
    "workflow_run": ("status", "invoke_from"),
    "node_execution": ("node_type", "model_provider", "status"),
    "draft_node_execution": ("node_type", "model_provider", "status"),
    "message": ("model_provider", "model_name", "status", "invoke_from"),
    "tool": ("tool_name",),
    "moderation": (),
    "suggested_question": (),
    "dataset_retrieval": (),
    "generate_name": (),
    "prompt_generation": ("operation_type", "model_provider", "model_name", "status"),
}
_ERRORS: Final[dict[str, tuple[str, ...]]] = {
    "workflow_run": (),
    "node_execution": ("node_type", "model_provider"),
    "draft_node_execution": ("node_type", "model_provider"),
    "message": ("model_provider", "model_name"),
    "tool": ("tool_name",),
    "prompt_generation": ("operation_type", "model_provider", "model_name"),
}
_OPERATION_TYPES: Final = {
    "workflow_run": "workflow",
    "node_execution": "node_execution",
    "draft_node_execution": "node_execution",
    "message": "message",
    "span": "span",
}
"""operation_type by kind; a prompt_generation has its own."""
_TOKENS: Final = frozenset(
    {"workflow_run", "node_execution", "draft_node_execution", "message", "prompt_generation"}
)
_DURATIONS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "workflow_run": ("dify.workflow.duration", ("status",)),
    "node_execution": ("dify.node.duration", ("node_type", "model_provider")),
    "draft_node_execution": ("dify.node.duration", ("node_type", "model_provider")),
    "message": ("dify.message.duration", ("model_provider", "model_name")),
    "tool": ("dify.tool.duration", ("tool_name",)),
    "prompt_generation": (
        "dify.prompt_generation.duration",
        ("operation_type", "model_provider", "model_name"),
    ),
}
_PLUGINS: Final = frozenset({"tool", "knowledge-retrieval", OVERFLOW})
_SINGLE: Final = {
    "feedback": ("dify.feedback.total", "{feedback}", ("rating",)),
    "app_created": ("dify.app.created.total", "{app}", ("mode",)),
    "app_updated": ("dify.app.updated.total", "{app}", ()),
    "app_deleted": ("dify.app.deleted.total", "{app}", ()),
}

Pairs = tuple[tuple[str, str], ...]


def definitions(group: Group) -> Iterator[Definition]:
    """The series that count the events of a group."""
    kind = group.kind
    scope: Pairs = (("tenant_id", group.label("tenant_id")), ("app_id", group.label("app_id")))

    def labels(*names: str) -> Pairs:
        return (*scope, *((n, group.label(n)) for n in names))

    if kind in _REQUESTS:
        typed = (("type", _TYPES.get(kind, kind)),)
        yield Definition("dify.requests.total", "{request}", typed + labels(*_REQUESTS[kind]), EVENTS)
        if kind in _ERRORS:
            yield Definition("dify.errors.total", "{error}", typed + labels(*_ERRORS[kind]), ERRORS)
    if kind in _TOKENS:
        yield from _tokens(group, scope)
    if kind in _DURATIONS:
        metric, names = _DURATIONS[kind]
        if metric == "dify.node.duration" and group.label("node_type") in _PLUGINS:
            names = (*names, "plugin_name")
        yield Definition(metric, "s", labels(*names), DURATION)
    if kind == "message":
        yield Definition(
            "dify.message.time_to_first_token", "s", labels("model_provider", "model_name"), FIRST_TOKEN
        )
    if kind in _SINGLE:
        metric, unit, names = _SINGLE[kind]
        yield Definition(metric, unit, labels(*names), EVENTS)
    for dataset in group.datasets:
        yield Definition(
            "dify.dataset.retrievals.total", "{retrieval}", (*scope, ("dataset_id", dataset)), EVENTS
        )
    if group.label("call"):
        yield from _gen_ai(group, scope)
    if group.label("currency"):
        yield Definition("tailrace.cost", "{currency}", _cost(group, scope), COST)


def _operation_type(group: Group) -> str:
    return _OPERATION_TYPES.get(group.kind) or group.label("operation_type")


def _tokens(group: Group, scope: Pairs) -> Iterator[Definition]:
    labels = (
        *scope,
        ("operation_type", _operation_type(group)),
        *((n, group.label(n)) for n in ("model_provider", "model_name", "node_type")),
    )
    yield Definition("dify.tokens.total", "{token}", labels, TOTAL_TOKENS)
    yield Definition("dify.tokens.input", "{token}", labels, INPUT_TOKENS)
    yield Definition("dify.tokens.output", "{token}", labels, OUTPUT_TOKENS)


def _gen_ai(group: Group, scope: Pairs) -> Iterator[Definition]:
    given = group.label("model_provider"), group.label("model_name")
    names = given
    if OVERFLOW not in given:
        found = normalised(*(g.encode() or None for g in given))
        names = (found[0] or b"").decode("utf-8", "ignore"), (found[1] or b"").decode("utf-8", "ignore")
    labels = (
        *scope,
        ("gen_ai.operation.name", group.label("call")),
        ("gen_ai.provider.name", names[0]),
        ("gen_ai.request.model", names[1]),
    )
    for token, part in (("input", INPUT_USAGE), ("output", OUTPUT_USAGE)):
        yield Definition(
            "gen_ai.client.token.usage", "{token}", (*labels, ("gen_ai.token.type", token)), part
        )
    failed = (("error.type", "_OTHER"),) if group.label("failed") else ()
    yield Definition("gen_ai.client.operation.duration", "s", labels + failed, CALL_DURATION)


def _cost(group: Group, scope: Pairs) -> Pairs:
    return (
        *scope,
        ("operation_type", _operation_type(group)),
        *((n, group.label(n)) for n in ("model_provider", "model_name", "currency", "estimated")),
    )
