"""Samples with more fields than they have, so that each field that `map` reads shows in what it returns."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from connectors.testing.samples import Sample, samples
from tailrace.records import (
    ChangeKind,
    ContentChange,
    ContentRef,
    TokenClasses,
    TraceContext,
    TraceEvent,
)

_INVENTED: Final[Mapping[str, Any]] = {
    "revision": 1,
    "root_started_at": 1_772_366_400_000_000,
    "otel_trace_id": bytes(range(16)),
    "otel_span_id": bytes(range(8)),
    "otel_parent_span_id": bytes(range(1, 9)),
    "token_classes": TokenClasses(cache_read=1, reasoning=2),
    "usage_repeats": True,
    "content_changes": [ContentChange(field="inputs", change=ChangeKind.CUT, bytes=9)],
    "content_refs": [ContentRef(field="outputs", hash="sha256:00", bytes=9)],
}
"""Values for fields that are not texts and that no sample has."""
_KEPT: Final = frozenset({"event_id", "source_id", "published_at"})
"""Fields that every published event has, though TraceEvent has a default for them."""


def filled() -> Iterator[tuple[str, Sample]]:
    """(what it is, sample): each sample with a value in every field; also where the context knows nothing."""
    for name, sample in samples().items():
        empty = {k: v for k, v in _values().items() if not getattr(sample.event, k)}
        event = msgspec.structs.replace(sample.event, **empty)
        yield f"{name}, with every field", Sample(event, sample.context)
        yield f"{name}, with every field and a bare context", Sample(event, _bare_context(sample))
        marked = msgspec.structs.replace(sample.context, marks=["start_unknown"])
        yield f"{name}, with every field and an unknown start", Sample(event, marked)


def alone(field: str) -> Iterator[tuple[str, Sample]]:
    """(what it is, sample): each sample with this field only, of those that may be left out."""
    defaults = {k: v for k, v in _defaults(TraceEvent).items() if k not in _KEPT and k != field}
    for name, sample in samples().items():
        value = getattr(sample.event, field) or _values()[field]
        event = msgspec.structs.replace(sample.event, **defaults, **{field: value})
        yield f"{name}, with only {field}", Sample(event, _bare_context(sample))


@functools.cache
def _values() -> Mapping[str, Any]:
    """Field -> the value of the first sample that has one, or an invented one."""
    found = samples().values()
    first = {
        name: next((v for s in found if (v := getattr(s.event, name))), None)
        for name in TraceEvent.__struct_fields__
    }
    return {name: _INVENTED.get(name, f"kit {name}") if v is None else _whole(v) for name, v in first.items()}


def _whole(value: Any) -> Any:
    """A body with a text in each of its empty text fields; other values as they are."""
    if not isinstance(value, msgspec.Struct):
        return value
    empty = {
        f.name: f"kit {f.name}"
        for f in msgspec.structs.fields(value)
        if f.type == str | None and getattr(value, f.name) is None
    }
    return msgspec.structs.replace(value, **empty)


def _bare_context(sample: Sample) -> TraceContext:
    """The context of an event of which the processor knows no other."""
    context = sample.context
    return msgspec.structs.replace(
        context, **_defaults(TraceContext), marks=(), trace_started_at=sample.event.started_at
    )


def _defaults(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Field -> default, of the fields that have one."""
    return {
        f.name: f.default if f.default is not msgspec.NODEFAULT else f.default_factory()
        for f in msgspec.structs.fields(cls)
        if not f.required
    }
