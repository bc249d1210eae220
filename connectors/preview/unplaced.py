"""What of an event a sink's payload has no place for. It is found by mapping the record without each value.

So it holds for every sink, kind and setting, and needs no table of its own. A value has a place if the
payload changes when it is removed or replaced, or if it is in the payload anyway: from the context, or from
another field with the same value.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from connectors.consumer.reader import ALWAYS
from connectors.sdk.contract import Enriched, Payload, Sink
from tailrace.kinds import JOINING
from tailrace.records import TraceEvent

_OURS: Final = frozenset({"event_id", "source_id", "revision", "published_at", *JOINING})
"""Fields that say which event it is and where it belongs: the context has that for sinks."""
_NOT_TRIED: Final = _OURS | ALWAYS - {"tenant_id", "app_id", "trace_id"} | {"content_changes"}
_NOTHING: Final[tuple[object, ...]] = (None, (), [], {}, "")
_KEYS: Final = 64
"""Entries of a map that are tried; of a larger one, only whether all of it is left out."""


def unread(event: TraceEvent, fields: frozenset[str] | None) -> list[str]:
    """The fields of an event that have a value and that a sink does not read, of whatever kind.

    Args:
        event: a completed event.
        fields: those that the sink reads; None: all.
    """
    if fields is None:
        return []
    known = fields | ALWAYS | _OURS
    names = (name for name in TraceEvent.__struct_fields__ if name not in known)
    return [name for name in names if getattr(event, name) not in _NOTHING]


def unplaced(sink: Sink, record: Enriched, payload: Any) -> list[str]:
    """The values of a record's event that are not in the sink's payload, by their paths.

    Args:
        sink: a sink, whose `map` is pure.
        record: what it maps.
        payload: what it makes of it, as JSON-able Python.
    """
    whole, there = _body(sink, record), set(_texts(payload))
    return [
        path
        for path, value, others in _variants(record.event)
        if not _is_in(value, there) and all(_body(sink, _with(record, other)) == whole for other in others)
    ]


def _is_in(value: Any, there: set[str]) -> bool:
    """Whether a text, or each text of a list, is one of these."""
    if isinstance(value, str):
        return value in there
    return isinstance(value, (list, tuple)) and all(isinstance(v, str) and v in there for v in value)


def _texts(data: Any) -> Iterator[str]:
    """The texts in JSON-able data, also those in JSON that is itself a text."""
    open_ = [data]
    while open_:
        value = open_.pop()
        if isinstance(value, dict):
            open_ += value.values()
        elif isinstance(value, list):
            open_ += value
        elif isinstance(value, str):
            yield value
            if value[:1] in ("{", "[", '"'):
                with contextlib.suppress(ValueError, RecursionError):
                    open_.append(json.loads(value))


def _body(sink: Sink, record: Enriched) -> Any:
    try:
        answer = sink.map(record)
    except Exception:  # the sink needs the value that is missing
        return None
    return answer.body if isinstance(answer, Payload) else answer


def _with(record: Enriched, event: TraceEvent) -> Enriched:
    return msgspec.structs.replace(record, event=event)


def _variants(event: TraceEvent) -> Iterator[tuple[str, Any, list[TraceEvent]]]:
    """Path and value of each field that has one, and the event without it or with another value there."""
    for name in TraceEvent.__struct_fields__:
        value = getattr(event, name)
        if name in _NOT_TRIED or value in _NOTHING:
            continue
        if isinstance(value, msgspec.Struct):
            for path, inner, bodies in _of_struct(name, value):
                yield path, inner, [_changed(event, name, body) for body in bodies]
        elif isinstance(value, dict):
            if len(value) > _KEYS:
                yield name, value, [_changed(event, name, {})]
                continue
            for key in value:
                rest = {k: v for k, v in value.items() if k != key}
                yield f"{name}.{key}", value[key], [_changed(event, name, rest)]
        else:
            default = _default(TraceEvent, name)
            yield name, value, [_changed(event, name, other) for other in (default, *_others(value))]


def _of_struct(name: str, body: msgspec.Struct) -> Iterator[tuple[str, Any, list[msgspec.Struct]]]:
    for field in body.__struct_fields__:
        value = getattr(body, field)
        if value in _NOTHING:
            continue
        others = (_default(type(body), field), *_others(value))
        yield f"{name}.{field}", value, [_changed(body, field, other) for other in others]


def _changed(struct: Any, name: str, value: Any) -> Any:
    return msgspec.structs.replace(struct, **{name: value})


def _default(cls: type[msgspec.Struct], name: str) -> Any:
    return _defaults(cls)[name]


@functools.cache
def _defaults(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Field -> its value if nothing is given; None for one that must be given. Defaults are immutable."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(cls):
        if field.default_factory is not msgspec.NODEFAULT:
            found[field.name] = field.default_factory()
        else:
            found[field.name] = None if field.default is msgspec.NODEFAULT else field.default
    return found


def _others(value: Any) -> Iterator[Any]:
    """Another value of the same type, for a field that a sink can work out from others if it is missing."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
    elif isinstance(value, str):
        yield f"{value}0"
