"""What a sink gets of a record before its `map`: filters, sampling, reparenting, content policy. Pure.

The rules are compiled once. They apply in this order: superseded revisions; tenants, apps, environments
and kinds that are left out; traces that are not in the sample. For records that pass: a new parent if
their own is left out, then the content policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final

from connectors.filters import reparent
from connectors.filters.content import ContentPolicy
from connectors.filters.settings import FilterSettings
from connectors.sdk.contract import Enriched, Skip
from tailrace.errors import ConfigError
from tailrace.kinds import APART, DROPPABLE, REQUIRED
from tailrace.records import Kind

Admit = Callable[[Enriched], Enriched | Skip]

SUPERSEDED: Final = Skip("superseded")
TENANT: Final = Skip("tenant")
APP: Final = Skip("app")
ENVIRONMENT: Final = Skip("environment")
KIND: Final = Skip("kind")
TARGET: Final = Skip("target")
SAMPLED_OUT: Final = Skip("sampled_out")

_WHOLE: Final = 1 << 64


def current(found: Enriched) -> Enriched | Skip:
    """The filter of a sink without filters: passes everything except superseded revisions."""
    marks = found.context.marks
    return SUPERSEDED if marks and "superseded" in marks else found


def sampled(root: str, threshold: int) -> bool:
    """Whether a trace is in the sample.

    The result is the same everywhere and every time, and a larger sample contains every smaller one.

    Args:
        root: id of the trace's root.
        threshold: the share of 2**64.
    """
    digest = blake2b(root.encode("utf-8", "surrogatepass"), digest_size=8, person=b"tailrace.sample").digest()
    return int.from_bytes(digest, "big") < threshold


Names = tuple[frozenset[str], bool]
"""A set of names, and whether these pass or all others do."""


class RecordFilter:
    """The filter rules of one sink instance.

    Raises:
        ConfigError: names the setting.
    """

    def __init__(self, rules: FilterSettings) -> None:
        self._tenants = _names("tenants", rules.tenants)
        self._apps = _names("apps", rules.apps)
        self._environments = _names("environments", rules.environments)
        self._kinds = _kinds(rules.drop_kinds)
        self._runs, self._messages = Kind.WORKFLOW_RUN in self._kinds, Kind.MESSAGE in self._kinds
        self._threshold = None if rules.sample == 1.0 else int(rules.sample * _WHOLE)
        self._policy = ContentPolicy(rules.content, rules.mask, rules.mask_patterns, rules.hash_key)
        hanging = reparent.READS if self._runs or self._messages else frozenset()
        own = {"environment"} if self._environments else set()
        self.reads: Final = frozenset(own) | hanging | self._policy.reads
        """Fields of TraceEvent that it needs besides those that are always read."""
        self.removed: Final = self._policy.removed
        """Paths whose content the policy removes."""
        chosen = (
            self._tenants or self._apps or self._environments or self._kinds or self._threshold is not None
        )
        self.admit: Final[Admit] = current if self._policy.full and not chosen else self._admit

    def _admit(self, found: Enriched) -> Enriched | Skip:
        event, context = found.event, found.context
        if context.marks and "superseded" in context.marks:
            return SUPERSEDED
        if self._tenants is not None and not _passes(self._tenants, event.tenant_id or context.tenant_id):
            return TENANT
        if self._apps is not None and not _passes(self._apps, context.app_id or event.app_id):
            return APP
        if self._environments is not None and not _passes(self._environments, event.environment):
            return ENVIRONMENT
        if event.kind in self._kinds:
            return KIND
        if self._threshold is not None:
            root = context.root_trace_id or event.trace_id
            if root is not None and not sampled(root, self._threshold):
                return SAMPLED_OUT
        if self._runs or self._messages:
            context = reparent.hang(event, context, runs=self._runs, messages=self._messages)
            if event.kind in APART and context.parent_span_id != found.context.parent_span_id:
                return TARGET  # what was evaluated is left out, and another operation is not meant
        if not self._policy.full:
            event = self._policy.apply(event)
        if event is found.event and context is found.context:
            return found
        return Enriched(event, context, found.topic, found.partition, found.offset, found.appended_at)


def _passes(names: Names, value: str | None) -> bool:
    """Whether a value passes. An unknown value never does: it may be one that is left out."""
    return bool(value) and (value in names[0]) is names[1]


def _names(setting: str, given: Iterable[str]) -> Names | None:
    names = [n.strip() for n in given]
    if not names:
        return None
    excluded = [n[1:].strip() for n in names if n.startswith("!")]
    if excluded and len(excluded) < len(names):
        raise ConfigError(
            f"{setting}: mixes names with and without !; use only one kind, "
            'for example ["a", "b"] to keep or ["!a", "!b"] to leave out'
        )
    if "" in (excluded or names):
        raise ConfigError(f"{setting}: has an empty name")
    twice = next((n for n in excluded if n.startswith("!")), None)
    if twice is not None:
        raise ConfigError(
            f"{setting}: !{twice} has more than one !; write !{twice.lstrip('! ')} to leave it out"
        )
    return frozenset(excluded or names), not excluded


def _kinds(given: Iterable[str]) -> frozenset[str]:
    for kind in given:
        if kind in REQUIRED:
            raise ConfigError(
                f"drop_kinds: {kind} cannot be left out, because other events are its children; "
                f"known are {', '.join(DROPPABLE)}"
            )
        if kind not in DROPPABLE:
            raise ConfigError(f"drop_kinds: there is no kind {kind!r}; known are {', '.join(DROPPABLE)}")
    return frozenset(given)
