"""One event of every kind as a sink gets it, and any number of distinct copies of it.

`samples.json` holds what the processor made of at least one event of every kind, so that a sink's tests
need neither the processor nor Kafka (`make samples` writes it). A copy has its own ids everywhere,
consistently, so that it can be recognised in a request; tenant and application stay.
"""

from __future__ import annotations

import functools
import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec

from connectors.consumer.reader import Reader
from connectors.sdk.contract import Enriched
from tailrace import codec
from tailrace.ids import otel_span_id, otel_trace_id
from tailrace.records import TraceContext, TraceEvent
from tailrace.topics import HEADER

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SPACE: Final = uuid.UUID("6e0f6d5c-6b7a-5d0e-9d43-3a7b1c9e5f21")
_KEPT: Final = ("tenant_id", "app_id", "parent_app_id", "root_app_id")
_OWN: Final = ("source_id", "parent_id", "parent_source_id", "trace_id", "root_trace_id")
"""Fields whose ids need not be UUIDs."""


class Sample(msgspec.Struct, frozen=True):
    """An event as published, and the context that the processor gave it."""

    event: TraceEvent
    context: TraceContext


@functools.cache
def samples() -> Mapping[str, Sample]:
    """Name -> sample, for every kind."""
    return msgspec.json.decode(
        files("connectors.testing").joinpath("samples.json").read_bytes(), type=dict[str, Sample]
    )


def read(sample: Sample, fields: Iterable[str] | None, offset: int = 0) -> Enriched:
    """The sample as the runner passes it to a sink that reads these fields (None: all)."""
    return reader(fields)(sample, offset)


def reader(fields: Iterable[str] | None) -> Callable[[Sample, int], Enriched]:
    """`read` for one choice of fields. Raises ValueError for a sample that the codec cannot encode."""
    decoder = _decoder(None if fields is None else frozenset(fields))

    def decode(sample: Sample, offset: int) -> Enriched:
        header = [(HEADER, codec.encode(sample.context))]
        found = decoder.read("trace.enriched", 0, offset, offset, codec.encode(sample.event), header)
        if not isinstance(found, Enriched):
            raise ValueError(f"sample is unreadable: {found.reason}: {found.detail}")
        return found

    return decode


@functools.cache
def _decoder(fields: frozenset[str] | None) -> Reader:
    return Reader(fields)


def marker(number: int) -> str:
    """The text in the name of copy `number`."""
    return f"kit{hashlib.sha256(str(number).encode()).hexdigest()[:12]}"


def copy(sample: Sample, number: int, **changed: Any) -> Sample:
    """Copy `number` of a sample: with other ids, and a `marker` in its name.

    Args:
        changed: fields of the event to change.
    """
    before = msgspec.to_builtins(sample)
    event, context = before["event"], before["context"]
    kept = {event[k] for k in _KEPT if event.get(k)}
    found = set(_UUID.findall(msgspec.json.encode(before).decode())) | {
        part[name] for part in (event, context) for name in _OWN if part.get(name)
    }
    ids = {old: _other(old, number) for old in found - kept}
    raw = {make(old): make(new) for old, new in ids.items() for make in (otel_span_id, otel_trace_id)}

    def renamed(value: Any) -> Any:
        match value:
            case str():
                whole = ids.get(value)
                return whole or _UUID.sub(lambda m: ids.get(m[0], m[0]), value)
            case bytes():
                return raw.get(value) or hashlib.sha256(b"%d:" % number + value).digest()[: len(value)]
            case dict():
                return {k: renamed(v) for k, v in value.items()}
            case list() | tuple():
                return [renamed(v) for v in value]
            case _:
                return value

    new = {
        name: renamed(_as_data(getattr(sample.event, name)))
        if name not in _KEPT
        else getattr(sample.event, name)
        for name in sample.event.__struct_fields__
    }
    if new["name"] is not None:
        new["name"] = f"{new['name']} {marker(number)}"
    return Sample(
        msgspec.convert({**new, **changed}, TraceEvent),
        msgspec.convert({k: renamed(v) for k, v in _as_data(sample.context).items()}, TraceContext),
    )


def _as_data(value: Any) -> Any:
    """Structs as dicts; bytes stay bytes."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def _other(old: str, number: int) -> str:
    if _UUID.fullmatch(old):
        return str(uuid.uuid5(_SPACE, f"{number}:{old}"))
    return f"{old}-{marker(number)}"
