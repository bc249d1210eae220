"""Decodes a Kafka record, event and context header, to what a sink maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from connectors.sdk.contract import Enriched, RecordOrigin
from tailrace import codec, records
from tailrace.codec import schemas, wire
from tailrace.errors import DecodeError, UnknownSchema
from tailrace.records import TraceContext, TraceEvent
from tailrace.topics import HEADER

ALWAYS: Final = frozenset(
    {"event_id", "kind", "trace_id", "tenant_id", "app_id", "started_at", "ended_at", "content_refs"}
)
"""Fields that are decoded for every sink: those in dead letters, those that `TraceEvent` requires, and the
references to content that is stored outside the event."""

Headers = Sequence[tuple[str, bytes | None]] | None


class Unreadable(NamedTuple):
    """A record whose value or context cannot be decoded, with the part that could be."""

    reason: str
    detail: str
    event: TraceEvent | None
    """None if the value cannot be decoded."""
    context: TraceContext | None
    """None if the context cannot be decoded."""
    frame: bytes = b""
    """With reason unknown_schema: the frame that names the schema."""


class Decoders:
    """Decoders for values of one class, one per frame. Each is made when its frame is first seen.

    A frame is what stands before the body, in either wire format; it names the writer's schema.
    """

    def __init__(
        self, cls: type[Any], want: Iterable[str], build: dict[str, Any], *, empty_is_null: bool = False
    ) -> None:
        """
        Args:
            cls: The class of the values.
            want: The class's fields to decode.
            build: As for `codec.record_decoder_for`.
            empty_is_null: Whether empty texts and ids of zeros are read as null.
        """
        self._cls, self._want, self._build = cls, frozenset(want), build
        self._required: Final = () if empty_is_null else None
        self._by_frame: dict[bytes, Callable[[bytes, int], Any]] = {}

    def decode(self, value: bytes) -> Any:
        """Decodes one value.

        Raises:
            UnknownSchema: The writer's schema is not known. If there is a registry, the schema is fetched in
                the background, and a later call with the same value may succeed.
            DecodeError: The value cannot be decoded. The error's detail has no content.
        """
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
        return codec.record_decoder_for(
            schema, self._want, self._cls, build=self._build, required=self._required
        )


class Reader:
    """Decodes records for one sink, only the fields that it wants. Not thread-safe."""

    def __init__(self, fields: Iterable[str] | None) -> None:
        """
        Args:
            fields: Fields of `TraceEvent` to decode besides `ALWAYS`; None: all.
        """
        want = TraceEvent.__struct_fields__ if fields is None else set(fields) | ALWAYS
        self._events: Final = Decoders(
            TraceEvent, want, {**records.BY_NAME, **wire.symbols()}, empty_is_null=True
        )
        self._contexts: Final = Decoders(TraceContext, TraceContext.__struct_fields__, wire.build())

    def event(self, value: bytes | None) -> TraceEvent:
        """Decodes the event. Raises as `Decoders.decode`."""
        event: TraceEvent = self._events.decode(value or b"")
        return event

    def context(self, headers: Headers) -> TraceContext:
        """Decodes the context. Raises as `Decoders.decode`, and `DecodeError` if the record has none."""
        encoded = None
        for name, data in headers or ():
            if name == HEADER:
                encoded = data
        if not encoded:
            raise DecodeError(
                "no_context", f"the record has no header {HEADER}; only the processor's records have it"
            )
        context: TraceContext = self._contexts.decode(encoded)
        return context

    def read(
        self, topic: str, partition: int, offset: int, appended_at: int, value: bytes | None, headers: Headers
    ) -> Enriched | Unreadable:
        """Decodes one record. Never raises `DecodeError`.

        Args:
            topic: The record's topic.
            partition: Its partition.
            offset: Its offset.
            appended_at: Its append time, milliseconds UTC.
            value: The event, encoded.
            headers: The record's headers, with the context.
        """
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
    """The frame that names the unknown schema; empty for other errors."""
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
    """The record's position and header fields, as a dead letter has them."""
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
