"""From the application's event to what is produced: completed, encoded, and small enough. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tailrace import codec, ids, loose, oversize
from tailrace.content import Limits
from tailrace.content_store import references
from tailrace.errors import EventTooLarge, InvalidEvent
from tailrace.identity import check_sizes, complete, kafka_key, mint
from tailrace.records import TraceEvent


class Prepared(NamedTuple):
    event: TraceEvent
    key: bytes | None
    value: bytes


def prepared(
    event: TraceEvent,
    now: int,
    limits: Limits,
    frame: bytes | None = None,
    new_id: Callable[[], str] = mint,
    host_name: str | None = None,
) -> Prepared:
    """The event as it is produced.

    Args:
        event: the event from the application.
        now: the current time, microseconds UTC.
        limits: the bytes that key and value may have together, and what becomes of an event with more.
        frame: as for `codec.encode`.
        new_id: as for `complete`.
        host_name: as for `complete`.

    Raises:
        InvalidEvent: the identity of the event, a time or a field of its header is not valid.
        EventTooLarge: it has more bytes than it may, and is not to be cut, or what may be cut is not enough.
    """
    return finished(completed(event, now, limits, new_id, host_name), limits, frame)


def finished(done: TraceEvent, limits: Limits, frame: bytes | None = None) -> Prepared:
    """A completed event as it is produced. Arguments and errors are those of `prepared`."""
    try:
        value, key = codec.encode(done, frame, limits.most), key_of(done)
    except Exception:  # a value of another type, or too long, or of a class that does not behave
        done = loose.converted(done, limits)
        value, key = encoded(done, frame, limits), key_of(done)
    room = limits.most - len(key or b"")
    if len(value) > room:
        done = loose.converted(done, limits)  # what its lists hold now, which another thread may change
        if limits.cut:
            done = oversize.truncate(done, len(value) - room)
            value = codec.encode(done, frame)
        if len(value) > room:
            raise too_large(done, len(value), limits)
    if len(value) > ids.LONGEST:
        check_sizes(done)
    return Prepared(done, key, value)


def completed(
    event: TraceEvent, now: int, limits: Limits, new_id: Callable[[], str], host_name: str | None
) -> TraceEvent:
    """The event with its ids, times and content as they are published. Errors are those of `prepared`."""
    try:
        done = complete(event, now, new_id, limits, host_name)
    except Exception as e:  # a field holds an object of a class that does not behave as its base class
        if isinstance(e, InvalidEvent) and not loose.has_uuids(event):
            raise
        done = _strictly_completed(event, now, limits, new_id, host_name)
    refs = type(done.content_refs)
    if (refs is tuple or refs is list) and done.content_refs:
        references.check(done)
    return done


def _strictly_completed(
    event: TraceEvent, now: int, limits: Limits, new_id: Callable[[], str], host_name: str | None
) -> TraceEvent:
    event = loose.strict(event)
    try:
        return complete(event, now, new_id, limits, host_name)
    except InvalidEvent:
        raise
    except Exception:
        raise loose.refusal(event) from None


def key_of(event: TraceEvent) -> bytes | None:
    """The key of a completed event's record."""
    key = kafka_key(event)
    return None if key is None else key.encode()


def encoded(event: TraceEvent, frame: bytes | None, limits: Limits) -> bytes:
    """The bytes of an event whose fields are converted. Errors are those of `prepared`."""
    try:
        return codec.encode(event, frame, limits.most)
    except EventTooLarge as e:
        raise EventTooLarge(e.field, f"{e.problem}; {limits.help()}") from None
    except InvalidEvent:
        raise
    except Exception:
        raise loose.refusal(event) from None


def too_large(event: TraceEvent, size: int, limits: Limits) -> EventTooLarge:
    """The error for an event that is too large; names its largest field."""
    largest, field = oversize.sizes(event)[0]
    return EventTooLarge(field, f"has {largest} bytes; the event has {size} without its key; {limits.help()}")
