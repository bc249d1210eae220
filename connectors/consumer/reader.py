"""From a Kafka record to what a sink maps: the event's bytes and the context header, decoded. Total: no
exception."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from connectors.sdk.contract import Enriched, RecordOrigin
from tailrace import codec, records
from tailrace.codec import schemas, wire
from tailrace.errors import DecodeError, UnknownSchema
from tailrace.records import TraceContext, TraceEvent
from tailrace.topics import HEADER

ALWAYS: Final = frozenset({"event_id", "kind", "trace_id", "tenant_id", "app_id", "started_at", "ended_at"})
"""Fields that are decoded whatever a sink wants: what a dead letter names, and what TraceEvent must have."""

Headers = Sequence[tuple[str, bytes | None]] | None


class Unreadable(NamedTuple):
    """A record whose value or context cannot be decoded, and what could be read of it all the same."""

    reason: str
    detail: str
    event: TraceEvent | None
    """None: the value is what cannot be read."""
    context: TraceContext | None
    frame: bytes = b""
    """With reason unknown_schema: the frame that names the schema."""


class Decoders:
    """Of the values of one class: one decoder a frame (what stands before the body, in either format), made
    when it is first met."""

    def __init__(self, cls: type[Any], want: Iterable[str], build: dict[str, Any]) -> None:
        """want: the class's fields that are to be decoded; build: as for `codec.record_decoder_for`."""
        self._cls, self._want, self._build = cls, frozenset(want), build
        self._by_frame: dict[bytes, Callable[[bytes, int], Any]] = {}

    def decode(self, value: bytes) -> Any:
        """Raises `DecodeError`, whose detail holds no content. A schema that is not known (`UnknownSchema`)
        is looked for from now on where there is a registry: the same value may be readable later."""
        decode, body = self._by_frame.get(value[: wire.BODY]), wire.BODY
        if decode is None:
            decode, body = self._by_frame.get(value[: wire.ID_BODY]), wire.ID_BODY
        if decode is None:
            frame = wire.frame_in(value)
            decode, body = self._decoder_of(frame), len(frame)
            self._by_frame[frame] = decode
        return decode(value, body)

    def _decoder_of(self, frame: bytes) -> Callable[[bytes, int], Any]:
        name, schema = schemas.known.find_or_want(frame)
        if name != self._cls.__name__:
            raise DecodeError("wrong_record", f"the value is a {name}, not a {self._cls.__name__}")
        return codec.record_decoder_for(schema, self._want, self._cls, build=self._build)


class Reader:
    """Decodes for one sink; slices only the fields that it wants. Not for several threads at once."""

    def __init__(self, fields: Iterable[str] | None) -> None:
        want = TraceEvent.__struct_fields__ if fields is None else set(fields) | ALWAYS
        self._events: Final = Decoders(TraceEvent, want, {**records.BY_NAME, **wire.symbols()})
        self._contexts: Final = Decoders(TraceContext, TraceContext.__struct_fields__, wire.build())

    def event(self, value: bytes | None) -> TraceEvent:
        """Raises as `Decoders.decode`."""
        found: TraceEvent = self._events.decode(value or b"")
        return found

    def context(self, headers: Headers) -> TraceContext:
        """Raises as `Decoders.decode`, and `DecodeError` where there is none."""
        found = None
        for name, data in headers or ():
            if name == HEADER:
                found = data
        if not found:
            raise DecodeError(
                "no_context", f"the record has no header {HEADER}; only the processor's records have it"
            )
        context: TraceContext = self._contexts.decode(found)
        return context

    def read(
        self, topic: str, partition: int, offset: int, appended_at: int, value: bytes | None, headers: Headers
    ) -> Enriched | Unreadable:
        try:
            context = self.context(headers)
        except DecodeError as e:
            try:
                event = self.event(value)
            except DecodeError as worse:
                return Unreadable(worse.reason, f"{worse.detail}; context: {e}", None, None, _frame(worse))
            return Unreadable(e.reason, f"header {HEADER}: {e.detail}", event, None, _frame(e))
        try:
            return Enriched(self.event(value), context, topic, partition, offset, appended_at)
        except DecodeError as e:
            return Unreadable(e.reason, e.detail, None, context, _frame(e))


def _frame(error: DecodeError) -> bytes:
    """What names the unknown schema, where that is the error."""
    return error.frame if isinstance(error, UnknownSchema) else b""


def source(
    event: TraceEvent | None,
    context: TraceContext | None,
    topic: str,
    partition: int,
    offset: int,
    appended_at: int,
    key: bytes | None,
) -> RecordOrigin:
    """What a record's dead letter would say about it."""
    return RecordOrigin(
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
