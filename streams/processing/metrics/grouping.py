"""Assigns an event to a group: its kind, and the label fields that metrics of that kind use.

All series of a group change together, so an event is added in one place and not in a dozen. The rules
are in docs/metrics.md.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from streams.processing.header import Header
from streams.processing.metrics.kinds import BY_KIND, BY_SPAN_KIND, LABELS_OF, WITH_MODEL
from streams.processing.operations import currency_of, cut, failed, repeats

OVERFLOW: Final = "__overflow__"
CHAT: Final = "chat"
"""gen_ai.operation.name of inferences."""
LONGEST: Final = 256
"""Largest size in bytes of a label value."""
MOST_DATASETS: Final = 100

LABELS: Final = (
    "tenant_id",
    "app_id",
    "status",
    "invoke_from",
    "node_type",
    "model_provider",
    "model_name",
    "plugin_name",
    "tool_name",
    "operation_type",
    "rating",
    "mode",
    "currency",
    "estimated",
    "call",
    "failed",
    "classes",
    "evaluation_name",
    "evaluation_label",
    "evaluation_source",
    "evaluation_target",
)
"""Order of a group's labels.

currency, estimated: of its prices. call: the operation name, if it is itself a model call. failed: for
calls, whether they failed. classes: for calls, whether they have token counts by class.
"""

_LABELS_OF: Final = LABELS_OF
_PRICED: Final = frozenset(k for k, c in BY_KIND.items() if c.priced)
_BY_DATASET: Final = frozenset(k for k, c in BY_KIND.items() if c.datasets)
_CALLS: Final[dict[str, str]] = {k: c.call for k, c in BY_KIND.items() if c.call is not None}
_PLUGINS: Final = frozenset({b"tool", b"knowledge-retrieval"})
_EVALUATIONS: Final = frozenset(k for k, names in LABELS_OF.items() if "evaluation_name" in names)


class Group(NamedTuple):
    """What makes a group: kind, label values in the order of `LABELS`, and datasets."""

    kind: str
    labels: tuple[str, ...]
    datasets: tuple[str, ...] = ()

    @property
    def scope(self) -> tuple[str, str]:
        """Tenant and application: groups of one scope expire together."""
        return self.labels[0], self.labels[1]

    def label(self, name: str) -> str:
        return self.labels[LABELS.index(name)]


def call_of(h: Header) -> str:
    """gen_ai.operation.name of an operation that is itself a model call; empty for others.

    An operation that says that its usage repeats that of others is not one.
    """
    rule = _CALLS.get(h.kind)
    if rule is None or h.usage_repeats:
        return ""
    if rule == BY_SPAN_KIND:
        return {"llm": CHAT, "embedding": "embeddings"}.get(h.span_kind or "", "")
    if not h.model_name:
        return ""
    return CHAT if rule == WITH_MODEL or not h.workflow_run_id else ""


def raw_key(h: Header, price: int, classed: bool) -> tuple[Any, ...]:
    """What a group depends on, cheap to build and to look up.

    Args:
        price: 0 for none, 1 for the event's own, 2 for an estimate.
        classed: whether the event has plausible token counts by class.
    """
    key: tuple[Any, ...] = (
        h.kind,
        h.tenant_id,
        h.app_id,
        h.status,
        h.invoke_from,
        h.node_type,
        h.model_provider,
        h.model_name,
        h.plugin_name,
        h.tool_name,
        h.operation_type,
        h.rating,
        h.mode,
        h.span_kind,
        h.currency,
        not h.error,
        not h.workflow_run_id,
        price,
    )
    if classed or h.usage_repeats is not None:
        key = (*key, classed, h.usage_repeats)
    if h.kind in _EVALUATIONS:
        flag, source = h.evaluation_flag, h.evaluation_source
        return (*key, h.name, h.evaluation_label, flag, source, h.evaluation_target)
    return (*key, tuple(h.dataset_ids)) if h.dataset_ids and h.kind in _BY_DATASET else key


def group_of(h: Header, price: int, classed: bool) -> Group | None:
    """The group of an event; None for kinds that no metric counts.

    Calls with an equal `raw_key` give an equal group.
    """
    used = _LABELS_OF.get(h.kind)
    if used is None:
        return None
    values = dict.fromkeys(LABELS, "")
    for name in used:
        values[name] = value_of(h, name)
    if "plugin_name" in used and h.node_type not in _PLUGINS:
        values["plugin_name"] = ""
    if price and h.kind in _PRICED and not repeats(h):
        values["currency"] = "USD" if price == 2 else text(currency_of(h))
        values["estimated"] = "true" if price == 2 else "false"
    call = call_of(h)
    if call:
        values["call"], values["failed"] = call, "true" if failed(h) else ""
        values["classes"] = "true" if classed and call == CHAT else ""
    datasets: tuple[str, ...] = ()
    if h.kind in _BY_DATASET:
        datasets = tuple(sorted({text(d) for d in h.dataset_ids[:MOST_DATASETS]}))
    return Group(h.kind, tuple(values.values()), datasets)


def value_of(h: Header, name: str) -> str:
    """The value of a label. An evaluation with a flag has the label `true` or `false`."""
    match name:
        case "evaluation_name":
            return text(h.name)
        case "evaluation_label":
            flag = h.evaluation_flag
            return text(h.evaluation_label) or ("" if flag is None else "true" if flag else "false")
        case "evaluation_source":
            return h.evaluation_source or ""
        case "evaluation_target":
            return h.evaluation_target or ""
        case _:
            return text(getattr(h, name))


def overflow_of(group: Group) -> Group:
    """The group that stands for all groups of a kind above the limit."""
    used = _LABELS_OF[group.kind]
    keep = {
        "call": group.label("call"),
        "failed": group.label("failed"),
        "estimated": group.label("estimated"),
        "classes": group.label("classes"),
    }
    values = {name: OVERFLOW if name in used else keep.get(name, "") for name in LABELS}
    if group.label("currency"):
        values["currency"] = OVERFLOW
    return Group(group.kind, tuple(values.values()), (OVERFLOW,) if group.datasets else ())


def text(value: bytes | None) -> str:
    """A label value: at most 256 bytes of a field; empty if there is none."""
    return cut(value, LONGEST).decode("utf-8", "ignore")
