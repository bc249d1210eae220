"""The metrics: names, units, kinds and labels, as in docs/metrics.md.

Sources: seed 003, sections 6 and 7; OpenTelemetry GenAI.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from streams.processing.metrics import distribution as d
from streams.processing.metrics.grouping import CHAT, OVERFLOW, Group
from streams.processing.metrics.kinds import BY_KIND, Counted
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


class Rest(NamedTuple):
    """Indices of a counter of what has no class: observations, followed by their sum.

    Groups without classes have no place of their own for it: there it is everything.
    """

    everything: int
    left: int


Part = Counter | Histogram | Rest
EVENTS, ERRORS = Counter(d.EVENTS), Counter(d.ERRORS)
TOTAL_TOKENS = Counter(d.TOTAL_COUNT, d.TOTAL_SUM)
INPUT_TOKENS, OUTPUT_TOKENS = Counter(d.INPUT, d.INPUT + 1), Counter(d.OUTPUT, d.OUTPUT + 1)
COST = Counter(d.COST_COUNT, d.COST_SUM)
DURATION = Histogram(d.DURATION, len(d.SECONDS) + 1, d.SECONDS)
FIRST_TOKEN = Histogram(d.FIRST_TOKEN, len(d.SECONDS) + 1, d.SECONDS)
CALL_DURATION = Histogram(d.DURATION, len(d.SECONDS) + 1, CALL_SECONDS)
INPUT_USAGE = Histogram(d.INPUT, len(d.TOKENS) + 1, d.TOKENS)
OUTPUT_USAGE = Histogram(d.OUTPUT, len(d.TOKENS) + 1, d.TOKENS)


def _of_class(at: int) -> Counter:
    return Counter(at, at + 1)


INFERENCE: Final = "gen_ai.client.inference.usage."
USAGE: Final[tuple[tuple[str, str, Part], ...]] = (
    ("input_tokens", "unknown", Rest(d.INPUT, d.INPUT_UNKNOWN)),
    ("output_tokens", "unknown", Rest(d.OUTPUT, d.OUTPUT_UNKNOWN)),
)
"""Metric, modality and part, for every inference."""
CLASSED_USAGE: Final[tuple[tuple[str, str, Part], ...]] = (
    ("input_tokens", "text", _of_class(d.INPUT_TEXT)),
    ("input_tokens", "audio", _of_class(d.INPUT_AUDIO)),
    ("input_tokens", "image", _of_class(d.INPUT_IMAGE)),
    ("output_tokens", "text", _of_class(d.OUTPUT_TEXT)),
    ("output_tokens", "audio", _of_class(d.OUTPUT_AUDIO)),
    ("output_tokens", "image", _of_class(d.OUTPUT_IMAGE)),
    ("cache_read.input_tokens", "unknown", _of_class(d.READ_UNKNOWN)),
    ("cache_read.input_tokens", "audio", _of_class(d.READ_AUDIO)),
    ("cache_write.input_tokens", "unknown", _of_class(d.WRITE)),
    ("reasoning.output_tokens", "unknown", _of_class(d.REASONING)),
)
"""The same, for inferences with token counts by class."""


class Definition(NamedTuple):
    """One series: its name, unit and labels, and the part of its groups' values that it sums."""

    metric: str
    unit: str
    labels: tuple[tuple[str, str], ...]
    part: Part


_PLUGINS: Final = frozenset({"tool", "knowledge-retrieval", OVERFLOW})
Pairs = tuple[tuple[str, str], ...]


def definitions(group: Group) -> Iterator[Definition]:
    """The series that count the events of a group."""
    kind = BY_KIND[group.kind]
    scope: Pairs = (("tenant_id", group.label("tenant_id")), ("app_id", group.label("app_id")))

    def labels(*names: str) -> Pairs:
        return (*scope, *((n, group.label(n)) for n in names))

    if kind.type is not None:
        typed = (("type", kind.type),)
        yield Definition("dify.requests.total", "{request}", typed + labels(*kind.requests), EVENTS)
        if kind.errors is not None:
            yield Definition("dify.errors.total", "{error}", typed + labels(*kind.errors), ERRORS)
    if kind.tokens:
        yield from _tokens(group, kind, scope)
    if kind.duration is not None:
        metric, names, plugin = kind.duration
        if plugin and group.label("node_type") in _PLUGINS:
            names = (*names, "plugin_name")
        yield Definition(metric, "s", labels(*names), DURATION)
    if kind.first_token is not None:
        yield Definition("dify.message.time_to_first_token", "s", labels(*kind.first_token), FIRST_TOKEN)
    if kind.own is not None:
        yield Definition(kind.own.metric, kind.own.unit, labels(*kind.own.labels), EVENTS)
    for dataset in group.datasets:
        yield Definition(
            "dify.dataset.retrievals.total", "{retrieval}", (*scope, ("dataset_id", dataset)), EVENTS
        )
    if group.label("call"):
        yield from _gen_ai(group, scope)
    if group.label("currency"):
        yield Definition("tailrace.cost", "{currency}", _cost(group, kind, scope), COST)


def _operation_type(group: Group, kind: Counted) -> str:
    return kind.operation_type or group.label("operation_type")


def _tokens(group: Group, kind: Counted, scope: Pairs) -> Iterator[Definition]:
    labels = (
        *scope,
        ("operation_type", _operation_type(group, kind)),
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
    for token, histogram in (("input", INPUT_USAGE), ("output", OUTPUT_USAGE)):
        yield Definition(
            "gen_ai.client.token.usage", "{token}", (*labels, ("gen_ai.token.type", token)), histogram
        )
    if group.label("call") == CHAT:
        for name, modality, part in (*USAGE, *(CLASSED_USAGE if group.label("classes") else ())):
            yield Definition(
                INFERENCE + name, "{token}", (*labels, ("gen_ai.token.modality", modality)), part
            )
    failed = (("error.type", "_OTHER"),) if group.label("failed") else ()
    yield Definition("gen_ai.client.operation.duration", "s", labels + failed, CALL_DURATION)


def _cost(group: Group, kind: Counted, scope: Pairs) -> Pairs:
    return (
        *scope,
        ("operation_type", _operation_type(group, kind)),
        *((n, group.label(n)) for n in ("model_provider", "model_name", "currency", "estimated")),
    )
