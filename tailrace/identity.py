"""Which trace an event belongs to, its ids, and the Kafka key it is published under. Pure functions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final

import msgspec

from tailrace import ids
from tailrace.codec.encoder import wrong
from tailrace.content import LIMITS, Limits, with_json_text
from tailrace.errors import InvalidEvent
from tailrace.kinds import BODIES, BODY, CONTROL, OWN_ID, OWN_TRACE, WITHOUT_TRACE
from tailrace.records import Kind, TraceEvent

_IDS: Final = ("event_id", "trace_id", "source_id", "workflow_run_id", "message_id")
"""Fields that others are derived from. They are checked first, so that an error names the caller's field."""


def mint() -> str:
    """A new id for an operation that has none of its own."""
    return str(uuid.uuid4())


def own_id(event: TraceEvent) -> str | None:
    """The operation's own id, or None if it has none."""
    if event.source_id:
        return event.source_id
    field = OWN_ID.get(event.kind)
    found: str | None = None if field is None else getattr(event, field)
    return found


def trace_of(event: TraceEvent, source_id: str) -> str | None:
    """The business trace id; None for kinds without a trace.

    A trace_id given by the publisher wins. Otherwise it is, for a draft, the draft's own id; else the
    message id, the workflow run id, or the operation's own id, in this order.
    """
    if event.kind in WITHOUT_TRACE:
        return None
    if event.trace_id:
        return event.trace_id
    if event.kind in OWN_TRACE:
        return source_id
    return event.message_id or event.workflow_run_id or source_id


def complete(
    event: TraceEvent, now: int, new_id: Callable[[], str] = mint, limits: Limits = LIMITS
) -> TraceEvent:
    """The event as it is published: ids set, content as JSON text.

    Sets source_id, trace_id, event_id and published_at where they are missing. Completing an event
    twice gives the same ids and times, but its content is encoded twice: the second time it is a JSON
    string.

    Args:
        event: the event from the application.
        now: the current time, microseconds UTC.
        new_id: makes an id for an operation that has none.
        limits: what content is too large.

    Raises:
        EventTooLarge: content is too large and is not to be cut.
        InvalidEvent: names the wrong field. The types of fields that no id depends on are checked
            later, by the encoder.
    """
    if not isinstance(event, TraceEvent):
        raise InvalidEvent("event", f"is {type(event).__name__}, must be a tailrace.TraceEvent")
    kind = event.kind
    if not isinstance(kind, str) or kind not in Kind._value2member_map_:
        raise wrong("kind", kind, "one of " + ", ".join(Kind))
    if kind == Kind.UNKNOWN:
        raise InvalidEvent(
            "kind", "is `unknown`, which only readers use, for kinds they do not know; set another kind"
        )
    allowed = BODY.get(kind)
    for name in BODIES:
        if name != allowed and getattr(event, name) is not None:
            raise InvalidEvent(
                name, f"is the body of another kind; {kind} events take {allowed or 'no body'}"
            )
    for name in _IDS:
        _check_id(name, getattr(event, name))
    if type(event.revision) is not int or not 0 <= event.revision < 1 << 31:
        raise wrong("revision", event.revision, "an integer from 0 to 2147483647")
    source_id = own_id(event)
    if kind == Kind.LINK and not source_id:
        raise InvalidEvent(
            "source_id",
            "is missing: a link needs the inner run that belongs to the root; set it to that run's id",
        )
    if kind == Kind.LINK and not (event.root_trace_id or event.root_run_id):
        raise InvalidEvent(
            "root_trace_id",
            "is missing: a link needs the root of its source_id; set root_trace_id or root_run_id",
        )
    source_id = source_id or new_id()
    trace_id = trace_of(event, source_id)
    return msgspec.structs.replace(
        event,
        source_id=source_id,
        trace_id=trace_id,
        event_id=event.event_id or ids.event_id(kind, trace_id, source_id, event.revision, event.tenant_id),
        published_at=now if event.published_at is None else event.published_at,
        **with_json_text(event, limits),
    )


def _check_id(field: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise wrong(field, value, "a string or None")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as e:
            raise wrong(field, value, f"valid Unicode ({e.reason})") from None


def kafka_key(event: TraceEvent) -> str | None:
    """The key that a completed event is published under.

    It is the first that is set of: the root's trace id, the root run, the parent run, the own trace id.
    Kinds without a trace use the application id. A link uses the inner run's id, so that it lands in
    the partition of that run's events.
    """
    if event.kind in CONTROL:
        return event.source_id
    if event.kind in WITHOUT_TRACE:
        return event.app_id or event.source_id
    return event.root_trace_id or event.root_run_id or event.parent_run_id or event.trace_id
