"""From a Kafka record to what a sink maps: the event's bytes and the context header, decoded. Total: no exception."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from connectors.contract import Enriched, Source
from tailrace import codec, records
from tailrace.codec import schemas, wire
from tailrace.errors import DecodeError, UnknownSchema
from tailrace.records import TraceContext, TraceEvent
from tailrace.topics import HEADER

ALWAYS: Final = frozenset({"event_id", "kind", "trace_id", "tenant_id", "app_id", "started_at", "ended_at"})
"""Fields that are decoded whatever a sink wants: what a dead letter names, and what TraceEvent must have."""

Headers = Sequence[tuple[str, bytes | None]] | None


class Unreadable(msgspec.Struct, frozen=True):
    """A record whose value or context cannot be decoded, and what could be read of it all the same."""

    reason: str
    detail: str
    event: TraceEvent | None
    """None: the value is what cannot be read."""
    context: TraceContext | None
    schema: str = ""
    """With reason unknown_schema: which one, the same for all records that have it."""


class Reader:
    """Decodes for one sink; slices only the fields that it wants. Not for several threads at once."""

    def __init__(self, fields: Iterable[str] | None) -> None:
        want = set(TraceEvent.__struct_fields__) if fields is None else set(fields) | ALWAYS
        self._want: Final = frozenset(want)
        self._decoders: dict[bytes, Callable[[bytes, int], TraceEvent]] = {}
        """By frame: what stands before the body, in either format."""

    def event(self, value: bytes | None) -> TraceEvent:
        """Raises `DecodeError`, whose detail holds no content. A schema that is not known (`UnknownSchema`) is looked for from now
        on where there is a registry: the same value may be readable later."""
        value = value or b""
        decode, body = self._decoders.get(value[: wire.BODY]), wire.BODY
        if decode is None:
            decode, body = self._decoders.get(value[: wire.ID_BODY]), wire.ID_BODY
        if decode is None:
            frame = wire.frame_in(value)
            decode, body = self._compile(frame), len(frame)
            self._decoders[frame] = decode
        return decode(value, body)

    def _compile(self, frame: bytes) -> Callable[[bytes, int], TraceEvent]:
        name, schema = schemas.known.find_or_want(frame)
        if name != TraceEvent.__name__:
            raise DecodeError("wrong_record", f"the value is a {name}, not a TraceEvent")
        build: dict[str, Any] = {**records.BY_NAME, **wire.symbols()}
        return codec.compile_builder(schema, self._want, TraceEvent, build=build)

    def read(
        self, topic: str, partition: int, offset: int, appended_at: int, value: bytes | None, headers: Headers
    ) -> Enriched | Unreadable:
        try:
            context = _context(headers)
        except DecodeError as e:
            try:
                event = self.event(value)
            except DecodeError as worse:
                return Unreadable(worse.reason, f"{worse.detail}; context: {e}", None, None, _schema(worse))
            return Unreadable(e.reason, f"header {HEADER}: {e.detail}", event, None, _schema(e))
        try:
            return Enriched(self.event(value), context, topic, partition, offset, appended_at)
        except DecodeError as e:
            return Unreadable(e.reason, e.detail, None, context, _schema(e))


def _schema(error: DecodeError) -> str:
    """What is unknown, where it is a schema: its fingerprint, or the registry's id."""
    if not isinstance(error, UnknownSchema):
        return ""
    return f"id {error.schema_id}" if error.fingerprint is None else error.fingerprint.hex()


def _context(headers: Headers) -> TraceContext:
    found = None
    for name, data in headers or ():
        if name == HEADER:
            found = data
    if not found:
        raise DecodeError("no_context", f"the record has no header {HEADER}; only the processor's records have it")
    return codec.decode(found, TraceContext)


def source(
    event: TraceEvent | None,
    context: TraceContext | None,
    topic: str,
    partition: int,
    offset: int,
    appended_at: int,
    key: bytes | None,
) -> Source:
    """What a record's dead letter would say about it."""
    return Source(
        topic,
        partition,
        offset,
        appended_at,
        key,
        context.sequence if context else None,
        context.generation if context else None,
        event.event_id if event else None,
        event.trace_id if event else None,
        event.kind if event else None,
        event.tenant_id if event else None,
        event.app_id if event else None,
    )
