"""How each kind of event counts in the metrics, in one table; docs/metrics.md describes the same in prose.

The table has a row for each symbol of `Kind`. A kind without a row is not counted; tests/test_kinds.py
lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from tailrace.records import Kind

WITH_MODEL: Final = "with_model"
"""It is a call of a model if the event names a model."""
WITHOUT_RUN: Final = "without_run"
"""As `WITH_MODEL`, but not in a workflow run, because its nodes are counted themselves."""
BY_SPAN_KIND: Final = "by_span_kind"
"""It is a call of a model if its span kind is one."""

_MODEL: Final = ("model_provider", "model_name")


class Duration(NamedTuple):
    """A histogram of durations."""

    metric: str
    labels: tuple[str, ...]
    plugin: bool = False
    """Whether plugin_name is another label, for node types that have plugins."""


class Own(NamedTuple):
    """A counter of the kind's own events."""

    metric: str
    unit: str
    labels: tuple[str, ...]


class Counted(NamedTuple):
    """How one kind counts. It does not count in metrics that its row leaves out.

    Labels are fields of the event, and what `value_of` in grouping.py makes of an evaluation; tenant_id and
    app_id are labels of every metric.
    """

    type: str | None = None
    """Label `type` of dify.requests.total and dify.errors.total; None: it does not count there."""
    requests: tuple[str, ...] = ()
    """Further labels of dify.requests.total."""
    errors: tuple[str, ...] | None = None
    """Further labels of dify.errors.total; None: it does not count there."""
    duration: Duration | None = None
    first_token: tuple[str, ...] | None = None
    """Labels of dify.message.time_to_first_token."""
    own: Own | None = None
    tokens: bool = False
    """Whether it counts in dify.tokens.*."""
    no_tokens: bool = False
    """Whether a total of 0 tokens counts in dify.tokens.*, too."""
    priced: bool = False
    """Whether it counts in tailrace.cost."""
    operation_type: str | None = None
    """Label operation_type of tokens and cost; None: the event's own."""
    usage: tuple[str, ...] = ()
    """Further labels of tokens and cost. Those that are left out here are empty."""
    datasets: bool = False
    """Whether each of its datasets counts in dify.dataset.retrievals.total."""
    call: str | None = None
    """When it counts as a call of a model (gen_ai.*): `WITH_MODEL`, `WITHOUT_RUN`, `BY_SPAN_KIND`.

    None: never.
    """


_NODE: Final = Counted(
    type="node",
    requests=("node_type", "model_provider", "status"),
    errors=("node_type", "model_provider"),
    duration=Duration("dify.node.duration", ("node_type", "model_provider"), plugin=True),
    tokens=True,
    priced=True,
    operation_type="node_execution",
    usage=(*_MODEL, "node_type"),
    call=WITH_MODEL,
)
_PROMPT: Final = ("operation_type", *_MODEL)

COUNTED: Final[Mapping[Kind, Counted | None]] = {
    Kind.UNKNOWN: Counted(),
    Kind.WORKFLOW_RUN: Counted(
        type="workflow",
        requests=("status", "invoke_from"),
        errors=(),
        duration=Duration("dify.workflow.duration", ("status",)),
        tokens=True,
        no_tokens=True,
        priced=True,
        operation_type="workflow",
    ),
    Kind.NODE_EXECUTION: _NODE,
    Kind.DRAFT_NODE_EXECUTION: _NODE._replace(type="draft_node"),
    Kind.MESSAGE: Counted(
        type="message",
        requests=(*_MODEL, "status", "invoke_from"),
        errors=_MODEL,
        duration=Duration("dify.message.duration", _MODEL),
        first_token=_MODEL,
        tokens=True,
        no_tokens=True,
        priced=True,
        operation_type="message",
        usage=_MODEL,
        call=WITHOUT_RUN,
    ),
    Kind.MODERATION: Counted(type="moderation"),
    Kind.SUGGESTED_QUESTION: Counted(type="suggested_question"),
    Kind.DATASET_RETRIEVAL: Counted(type="dataset_retrieval", datasets=True),
    Kind.TOOL: Counted(
        type="tool",
        requests=("tool_name",),
        errors=("tool_name",),
        duration=Duration("dify.tool.duration", ("tool_name",)),
    ),
    Kind.GENERATE_NAME: Counted(type="generate_name"),
    Kind.PROMPT_GENERATION: Counted(
        type="prompt_generation",
        requests=(*_PROMPT, "status"),
        errors=_PROMPT,
        duration=Duration("dify.prompt_generation.duration", _PROMPT),
        tokens=True,
        no_tokens=True,
        priced=True,
        usage=_MODEL,
        call=WITH_MODEL,
    ),
    Kind.SPAN: Counted(priced=True, operation_type="span", usage=_MODEL, call=BY_SPAN_KIND),
    Kind.FEEDBACK: Counted(own=Own("dify.feedback.total", "{feedback}", ("rating",))),
    Kind.EVALUATION: Counted(
        own=Own(
            "tailrace.evaluations",
            "{evaluation}",
            ("evaluation_name", "evaluation_label", "evaluation_source", "evaluation_target"),
        )
    ),
    Kind.APP_CREATED: Counted(own=Own("dify.app.created.total", "{app}", ("mode",))),
    Kind.APP_UPDATED: Counted(own=Own("dify.app.updated.total", "{app}", ())),
    Kind.APP_DELETED: Counted(own=Own("dify.app.deleted.total", "{app}", ())),
    Kind.REHYDRATION_FAILED: Counted(),
    Kind.LINK: None,
}
"""Kind -> how it counts. None: it is in no group. `Counted()`: it is in a group, but in no series."""

BY_KIND: Final[Mapping[str, Counted]] = {k.value: c for k, c in COUNTED.items() if c is not None}


def _fields(c: Counted) -> frozenset[str]:
    """The label fields of all series in which an event counts; its group depends on them."""
    fields = {"tenant_id", "app_id", *c.requests, *(c.errors or ()), *(c.first_token or ()), *c.usage}
    if c.duration is not None:
        fields |= {*c.duration.labels, *(("plugin_name",) if c.duration.plugin else ())}
    if c.own is not None:
        fields |= {*c.own.labels}
    if (c.tokens or c.priced) and c.operation_type is None:
        fields.add("operation_type")
    return frozenset(fields)


LABELS_OF: Final[Mapping[str, frozenset[str]]] = {k: _fields(c) for k, c in BY_KIND.items()}
"""Kind -> label fields; without the kinds that are in no group."""
