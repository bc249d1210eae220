"""Metrics from docs/metrics.md: the tables as data, each event's observations counted at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from tailrace.metrics.row_period import ROW_PERIOD_US
from tailrace.records import Kind, SpanKind, TraceEvent
from tests.harness.recount_events import (
    HOUR,
    PRICED,
    Estimate,
    Logged,
    Normalise,
    applied,
    by_partition,
    calls_a_model,
    classes_of,
    cut,
    duration,
    failed,
    price_of,
    repeats,
)

Labels = frozenset[tuple[str, str]]
Series = tuple[int, str, Labels]
"""Partition, metric, labels."""
Row = tuple[int, str, Labels, int]
"""A series and its minute since 1970."""


class Counted(msgspec.Struct, frozen=True):
    """The value of a series, or of one minute of it."""

    count: int
    sum: int
    minimum: int | None
    maximum: int | None
    """None: a counter, or a total."""
    bounds: tuple[int, ...]
    buckets: tuple[int, ...]
    """Empty: a counter."""
    unit: str


class Counts(msgspec.Struct, frozen=True):
    """What a partition left out of its rows."""

    corrections: int
    skewed: int
    late: int


class Metrics(NamedTuple):
    rows: dict[Row, Counted]
    totals: dict[Series, Counted]
    counts: dict[int, Counts]


class Observation(NamedTuple):
    metric: str
    labels: Labels
    value: int


# -- the tables
_SECONDS: Final = (
    "0.01",
    "0.02",
    "0.04",
    "0.08",
    "0.16",
    "0.32",
    "0.64",
    "1.28",
    "2.56",
    "5.12",
    "10.24",
    "20.48",
    "40.96",
    "81.92",
    "163.84",
    "300",
)
_DURATIONS: Final = tuple(int(Decimal(seconds) * 1_000_000) for seconds in _SECONDS)
_CALL_DURATIONS: Final = _DURATIONS[: _SECONDS.index("163.84")]
_TOKENS: Final = (
    1,
    4,
    16,
    64,
    256,
    1024,
    4096,
    16384,
    65536,
    262144,
    1048576,
    4194304,
    16777216,
    67108864,
)

SHAPES: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "dify.requests.total": ("{request}", ()),
    "dify.errors.total": ("{error}", ()),
    "dify.tokens.total": ("{token}", ()),
    "dify.tokens.input": ("{token}", ()),
    "dify.tokens.output": ("{token}", ()),
    "dify.feedback.total": ("{feedback}", ()),
    "tailrace.evaluations": ("{evaluation}", ()),
    "dify.dataset.retrievals.total": ("{retrieval}", ()),
    "dify.app.created.total": ("{app}", ()),
    "dify.app.updated.total": ("{app}", ()),
    "dify.app.deleted.total": ("{app}", ()),
    "dify.workflow.duration": ("s", _DURATIONS),
    "dify.node.duration": ("s", _DURATIONS),
    "dify.message.duration": ("s", _DURATIONS),
    "dify.message.time_to_first_token": ("s", _DURATIONS),
    "dify.tool.duration": ("s", _DURATIONS),
    "dify.prompt_generation.duration": ("s", _DURATIONS),
    "gen_ai.client.token.usage": ("{token}", _TOKENS),
    "gen_ai.client.operation.duration": ("s", _CALL_DURATIONS),
    "gen_ai.client.inference.usage.input_tokens": ("{token}", ()),
    "gen_ai.client.inference.usage.output_tokens": ("{token}", ()),
    "gen_ai.client.inference.usage.cache_read.input_tokens": ("{token}", ()),
    "gen_ai.client.inference.usage.cache_write.input_tokens": ("{token}", ()),
    "gen_ai.client.inference.usage.reasoning.output_tokens": ("{token}", ()),
    "tailrace.cost": ("{currency}", ()),
}
"""Unit and bounds of every metric."""


class Line(NamedTuple):
    """A line of the tables in sections 6 and 7, where the labels are fields of the event."""

    metric: str
    kind: Kind
    type: str | None
    fields: str
    value: Callable[[TraceEvent], int | None]
    """None: the event counts nothing here."""


def _one(event: TraceEvent) -> int:
    return 1


def _error(event: TraceEvent) -> int | None:
    return 1 if failed(event) else None


def _first_token(event: TraceEvent) -> int | None:
    time = event.time_to_first_token
    return time if time is not None and time >= 0 else None


_RUN, _NODE, _DRAFT, _MESSAGE = (
    Kind.WORKFLOW_RUN,
    Kind.NODE_EXECUTION,
    Kind.DRAFT_NODE_EXECUTION,
    Kind.MESSAGE,
)
_TOOL, _PROMPT, _SEARCH = Kind.TOOL, Kind.PROMPT_GENERATION, Kind.DATASET_RETRIEVAL

TABLE: Final = (
    Line("dify.requests.total", _RUN, "workflow", "status invoke_from", _one),
    Line("dify.requests.total", _NODE, "node", "node_type model_provider status", _one),
    Line("dify.requests.total", _DRAFT, "draft_node", "node_type model_provider status", _one),
    Line("dify.requests.total", _MESSAGE, "message", "model_provider model_name status invoke_from", _one),
    Line("dify.requests.total", _TOOL, "tool", "tool_name", _one),
    Line("dify.requests.total", Kind.MODERATION, "moderation", "", _one),
    Line("dify.requests.total", Kind.SUGGESTED_QUESTION, "suggested_question", "", _one),
    Line("dify.requests.total", _SEARCH, "dataset_retrieval", "", _one),
    Line("dify.requests.total", Kind.GENERATE_NAME, "generate_name", "", _one),
    Line(
        "dify.requests.total",
        _PROMPT,
        "prompt_generation",
        "operation_type model_provider model_name status",
        _one,
    ),
    Line("dify.errors.total", _RUN, "workflow", "", _error),
    Line("dify.errors.total", _NODE, "node", "node_type model_provider", _error),
    Line("dify.errors.total", _DRAFT, "draft_node", "node_type model_provider", _error),
    Line("dify.errors.total", _MESSAGE, "message", "model_provider model_name", _error),
    Line("dify.errors.total", _TOOL, "tool", "tool_name", _error),
    Line(
        "dify.errors.total", _PROMPT, "prompt_generation", "operation_type model_provider model_name", _error
    ),
    Line("dify.feedback.total", Kind.FEEDBACK, None, "rating", _one),
    Line("dify.app.created.total", Kind.APP_CREATED, None, "mode", _one),
    Line("dify.app.updated.total", Kind.APP_UPDATED, None, "", _one),
    Line("dify.app.deleted.total", Kind.APP_DELETED, None, "", _one),
    Line("dify.workflow.duration", _RUN, None, "status", duration),
    Line("dify.message.duration", _MESSAGE, None, "model_provider model_name", duration),
    Line("dify.message.time_to_first_token", _MESSAGE, None, "model_provider model_name", _first_token),
    Line("dify.tool.duration", _TOOL, None, "tool_name", duration),
    Line(
        "dify.prompt_generation.duration", _PROMPT, None, "operation_type model_provider model_name", duration
    ),
)

_NODES: Final = (_NODE, _DRAFT)
_WITH_TOKENS: Final = (_RUN, _MESSAGE, _PROMPT, *_NODES)
_WITH_PLUGIN: Final = ("tool", "knowledge-retrieval")


# -- what one event is in them
def _labels(event: TraceEvent, fields: str, **more: str | None) -> Labels:
    texts: dict[str, str | None] = {
        name: getattr(event, name) for name in ("tenant_id app_id " + fields).split()
    }
    return frozenset((name, cut(value or "", 256)) for name, value in (texts | more).items())


def _operation_type(event: TraceEvent) -> str | None:
    match event.kind:
        case Kind.WORKFLOW_RUN:
            return "workflow"
        case Kind.NODE_EXECUTION | Kind.DRAFT_NODE_EXECUTION:
            return "node_execution"
        case Kind.PROMPT_GENERATION:
            return event.operation_type
        case kind:
            return str(kind)  # message, span


def _model(event: TraceEvent) -> dict[str, str | None]:
    """Provider and model as labels of tokens and cost."""
    run = event.kind == _RUN
    return {
        "model_provider": None if run else event.model_provider,
        "model_name": None if run else event.model_name,
    }


def _dify(event: TraceEvent) -> Iterator[Observation]:
    for line in TABLE:
        if line.kind == event.kind and (value := line.value(event)) is not None:
            kind = {} if line.type is None else {"type": line.type}
            yield Observation(line.metric, _labels(event, line.fields, **kind), value)
    if event.kind in _NODES:
        plugin = " plugin_name" if event.node_type in _WITH_PLUGIN else ""
        yield Observation(
            "dify.node.duration", _labels(event, "node_type model_provider" + plugin), duration(event)
        )
    if event.kind == _SEARCH:
        for dataset in set(event.dataset_ids):
            yield Observation("dify.dataset.retrievals.total", _labels(event, "", dataset_id=dataset), 1)


def _tokens(event: TraceEvent) -> Iterator[Observation]:
    if event.kind not in _WITH_TOKENS:
        return
    node = event.kind in _NODES
    labels = _labels(
        event,
        "",
        operation_type=_operation_type(event),
        node_type=event.node_type if node else None,
        **_model(event),
    )
    for name, tokens, least in (
        ("total", event.total_tokens, 1 if node else 0),
        ("input", event.input_tokens, 1),
        ("output", event.output_tokens, 1),
    ):
        if tokens is not None and tokens >= least:
            yield Observation(f"dify.tokens.{name}", labels, tokens)


def _gen_ai(event: TraceEvent, normalise: Normalise) -> Iterator[Observation]:
    if not calls_a_model(event):
        return
    provider, model = normalise(event.model_provider, event.model_name)
    embedding = event.kind == Kind.SPAN and event.span_kind == SpanKind.EMBEDDING
    shared = {
        "gen_ai.operation.name": "embeddings" if embedding else "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
    }
    for name, tokens in (("input", event.input_tokens), ("output", event.output_tokens)):
        if tokens is not None and tokens > 0:
            labels = _labels(event, "", **shared, **{"gen_ai.token.type": name})
            yield Observation("gen_ai.client.token.usage", labels, tokens)
    if not embedding:
        for name, modality, tokens in _by_modality(event):
            labels = _labels(event, "", **shared, **{"gen_ai.token.modality": modality})
            yield Observation(f"gen_ai.client.inference.usage.{name}", labels, tokens)
    error = {"error.type": "_OTHER"} if failed(event) else {}
    yield Observation(
        "gen_ai.client.operation.duration", _labels(event, "", **shared, **error), duration(event)
    )


def _by_modality(event: TraceEvent) -> Iterator[tuple[str, str, int]]:
    """Tokens of an inference: the counter's name, the modality, and how many if above 0."""
    classes = classes_of(event) or {}
    found = []
    for side, total in (("input", event.input_tokens), ("output", event.output_tokens)):
        known = {m: classes[f"{side}_{m}"] for m in ("audio", "image") if f"{side}_{m}" in classes}
        rest = "text" if len(known) == 2 else "unknown"
        found += [(f"{side}_tokens", m, n) for m, n in known.items()]
        found.append((f"{side}_tokens", rest, (total or 0) - sum(known.values())))
    cached = classes.get("cache_read_audio", 0)
    found += [
        ("cache_read.input_tokens", "audio", cached),
        ("cache_read.input_tokens", "unknown", classes.get("cache_read", 0) - cached),
        ("cache_write.input_tokens", "unknown", classes.get("cache_write", 0)),
        ("reasoning.output_tokens", "unknown", classes.get("reasoning", 0)),
    ]
    return (one for one in found if one[2] > 0)


def _cost(event: TraceEvent, estimate: Estimate) -> Iterator[Observation]:
    price = price_of(event, estimate) if event.kind in PRICED and not repeats(event) else None
    if price is not None:
        assert event.kind in PRICED
        labels = _labels(
            event,
            "",
            operation_type=_operation_type(event),
            currency=price.currency,
            estimated="true" if price.estimated else "false",
            **_model(event),
        )
        yield Observation("tailrace.cost", labels, price.amount)


def _evaluations(event: TraceEvent) -> Iterator[Observation]:
    body = event.evaluation
    if event.kind != Kind.EVALUATION or body is None:
        return
    flag = None if body.flag is None else str(body.flag).lower()
    labels = _labels(
        event,
        "",
        evaluation_name=event.name,
        evaluation_label=body.label or flag,
        evaluation_source=body.source,
        evaluation_target=event.evaluation_target,
    )
    yield Observation("tailrace.evaluations", labels, 1)


def observations(event: TraceEvent, estimate: Estimate, normalise: Normalise) -> list[Observation]:
    """Everything that one event of revision 0 counts."""
    counted = (*_dify(event), *_tokens(event), *_gen_ai(event, normalise), *_cost(event, estimate))
    return [*counted, *_evaluations(event)]


# -- counting
def _count(metric: str, values: list[int], *, extremes: bool) -> Counted:
    unit, bounds = SHAPES[metric]
    if not bounds:
        return Counted(len(values), sum(values), None, None, (), (), unit)
    upto = [sum(v <= bound for v in values) for bound in bounds] + [len(values)]
    return Counted(
        count=len(values),
        sum=sum(values),
        minimum=min(values) if extremes else None,
        maximum=max(values) if extremes else None,
        bounds=bounds,
        buckets=tuple(this - before for before, this in zip([0, *upto], upto, strict=False)),
        unit=unit,
    )


def clock(appended: Iterable[int]) -> Iterator[int]:
    """The partition's clock at each record: the latest append time, which one record alone moves an hour."""
    now, waiting = 0, 0
    for at in appended:
        ahead = now > 0 and at - now > HOUR // 1000
        if ahead and waiting:
            now = min(at, waiting)
        elif not ahead:
            now = max(now, at)
        waiting = at if ahead and not waiting else 0
        yield now


def metrics(
    log: Iterable[Logged], *, estimate: Estimate, normalise: Normalise, horizon_hours: int = 192
) -> Metrics:
    """What trace.metrics and trace.totals must say of a log.

    The log has each partition in order, with duplicates and links. Groups that overflow or age out, and
    rows that close early, are not modelled. Keep below those limits.
    """
    rows: dict[Row, list[int]] = defaultdict(list)
    totals: dict[Series, list[int]] = defaultdict(list)
    counts = {}
    for partition, records in by_partition(log).items():
        clocks = dict(zip([r.offset for r in records], clock(r.appended_at_ms for r in records), strict=True))
        events = applied(records)
        first = [e for e in events if e.event.revision == 0]
        skewed = {e.offset for e in first if e.event.started_at - e.appended_at_ms * 1000 > HOUR}
        late = {
            e.offset
            for e in first
            if e.offset not in skewed
            and e.event.started_at // ROW_PERIOD_US
            < (clocks[e.offset] * 1000 - horizon_hours * HOUR) // ROW_PERIOD_US
        }
        counts[partition] = Counts(len(events) - len(first), len(skewed), len(late))
        for e in first:
            for metric, labels, value in observations(e.event, estimate, normalise):
                totals[partition, metric, labels].append(value)
                if e.offset not in skewed and e.offset not in late:
                    rows[partition, metric, labels, e.event.started_at // ROW_PERIOD_US].append(value)
    return Metrics(
        rows={key: _count(key[1], values, extremes=True) for key, values in rows.items()},
        totals={key: _count(key[1], values, extremes=False) for key, values in totals.items()},
        counts=counts,
    )
