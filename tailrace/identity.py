"""Which trace an event belongs to, its ids, and the Kafka key it is published under. Pure functions."""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tailrace import evaluations, ids, money, times, token_classes
from tailrace.codec.encoder import wrong
from tailrace.content import LIMITS, Limits, with_json_text
from tailrace.errors import InvalidEvent
from tailrace.fields import FIELDS
from tailrace.kinds import BODIES, BODY, CONTROL, JOINING, OWN_ID, OWN_TRACE, WITHOUT_TRACE
from tailrace.records import Kind, Origin, TraceEvent
from tailrace.shapes import SHAPED, shaped
from tailrace.times import EARLIEST, LATEST

_KINDS: Final = frozenset(kind.value for kind in Kind)
_UNKNOWN: Final = Kind.UNKNOWN
_LINK: Final = Kind.LINK
_EVALUATION: Final = Kind.EVALUATION
"""Looking a member of an enumeration up takes five times as long as comparing it."""

_IDS: Final = ("event_id", "trace_id", "source_id", "workflow_run_id", "message_id", "tenant_id")
"""Fields that others are derived from. They are checked first, so that an error names the caller's field."""


_UUIDS: Final = (
    "source_id",
    "trace_id",
    "message_id",
    "workflow_run_id",
    "parent_id",
    "parent_node_execution_id",
    "parent_run_id",
    "parent_trace_id",
    "root_run_id",
    "root_trace_id",
)
"""Ids of operations and traces, which are compared as texts, and hashed."""
_all_ids: Final = operator.attrgetter(*dict.fromkeys(_IDS + _UUIDS))
_UUID_SIZE: Final = 36
_SHORTEST_UUID: Final = 32
_UNREAD: Final = {
    *("parent_trace_id", "parent_app_id", "external_trace_id", "environment", "error_type"),
    *("input_price", "output_price"),
}
"""Texts of the header that the processor does not read."""
_TEXTS: Final = sorted(
    (p for p, f in FIELDS.items() if f.type == "string" and not (f.free or "." in p or p in _UNREAD)),
    key=lambda path: {"source_id": 1, "trace_id": 2, "event_id": 3}.get(path, 0),
)
"""Texts that the processor reads; ids that may be derived from others come last."""
_PRICES: Final = ("input_price", "output_price", "total_price")
_NATIVE: Final = ("otel_trace_id", "otel_span_id", "otel_parent_span_id")
_rare: Final = operator.attrgetter(*_PRICES, "currency", *_NATIVE)


def mint() -> str:
    """A new id for an operation that has none of its own."""
    return str(uuid.uuid4())


def hex_id(native: object) -> str | None:
    """An OpenTelemetry id as hex text. None for all zeros, which OpenTelemetry defines as no id."""
    return native.hex() if isinstance(native, bytes) and any(native) else None


def own_id(event: TraceEvent) -> str | None:
    """The operation's own id, or None if it has none.

    It is source_id, else the id that the kind has in a field of its own, else the hex digits of
    otel_span_id.
    """
    if event.source_id:
        return event.source_id
    field = OWN_ID.get(event.kind)
    found: str | None = None if field is None else getattr(event, field)
    return found or hex_id(event.otel_span_id)


def trace_of(event: TraceEvent, source_id: str) -> str | None:
    """The business trace id; None for kinds without a trace.

    That of a draft is the draft's own id. Else it is the trace_id that the publisher gives, the message id,
    the workflow run id, the hex digits of otel_trace_id, or the operation's own id, in this order. An
    evaluation of a session has none; any other is never a trace of its own, and may also name its trace as
    root.
    """
    kind = event.kind
    if kind in WITHOUT_TRACE:
        return None
    if kind in OWN_TRACE:
        return source_id
    if kind == _EVALUATION:
        if evaluations.of_session(event):
            return None
        return evaluations.trace_of(event) or source_id
    return (
        event.trace_id
        or event.message_id
        or event.workflow_run_id
        or hex_id(event.otel_trace_id)
        or source_id
    )


def complete(
    event: TraceEvent,
    now: int,
    new_id: Callable[[], str] = mint,
    limits: Limits = LIMITS,
    host_name: str | None = None,
) -> TraceEvent:
    """The event as it is published: ids set, times and prices in one form, content as JSON text.

    Sets source_id, trace_id, event_id and published_at where they are missing. An empty text is as good as
    none: the encoder writes it as null. A draft gets a trace of its own, whatever else it names.
    Completing an event twice gives the same ids and times, but its content is encoded twice: the second
    time it is a JSON string.

    Args:
        event: the event from the application.
        now: the current time, microseconds UTC.
        new_id: makes an id for an operation that has none.
        limits: what content is too large.
        host_name: for an event that names no host.

    Raises:
        EventTooLarge: content is too large and is not to be cut.
        InvalidEvent: names the wrong field. The types of fields that no id depends on are checked
            later, by the encoder.
    """
    if not isinstance(event, TraceEvent):
        raise InvalidEvent("event", f"is {type(event).__name__}, must be a tailrace.TraceEvent")
    kind = event.kind
    if not isinstance(kind, str) or kind not in _KINDS:
        raise wrong("kind", kind, "one of " + ", ".join(Kind))
    if kind == _UNKNOWN:
        raise InvalidEvent(
            "kind", "is `unknown`, which only readers use, for kinds they do not know; set another kind"
        )
    allowed = BODY.get(kind)
    for body in _OTHER_BODIES[kind](event):
        if body is not None:
            raise _other_body(event, allowed)
    for value in _all_ids(event):
        if value is None:
            continue
        if type(value) is not str or not value.isascii():
            event = _in_one_form(_with_texts(event))
            break
        size = len(value)
        if size >= _SHORTEST_UUID and (size != _UUID_SIZE or value.lower() != value):
            event = _in_one_form(_with_texts(event))
            break
    if type(event.revision) is not int or not 0 <= event.revision < 1 << 31:
        raise wrong("revision", event.revision, "an integer from 0 to 2147483647")
    token_classes.check(event)
    if kind == _EVALUATION:
        event = evaluations.prepared(event)
    elif event.evaluation_target is not None:
        raise InvalidEvent("evaluation_target", f"is for evaluations; {kind} events leave it out")
    source_id = own_id(event)
    if kind == _LINK:
        _check_link(event, source_id)
    if event.origin is not None or allowed in SHAPED:
        event = shaped(event, limits)
    changes = _changes(event, now)
    derived = not event.source_id and source_id is not None and source_id == hex_id(event.otel_span_id)
    if derived and _is_absent(event.parent_id):
        changes["parent_id"] = hex_id(event.otel_parent_span_id)
    if event.host_name is None:
        changes["host_name"] = host_name
    if kind in OWN_TRACE:
        changes.update(_APART)
    source_id = source_id or new_id()
    trace_id = trace_of(event, source_id)
    changes["source_id"], changes["trace_id"] = source_id, trace_id
    changes["event_id"] = event.event_id or ids.event_id(
        kind, trace_id, source_id, event.revision, event.tenant_id
    )
    changes.update(with_json_text(event, limits))
    return msgspec.structs.replace(event, **changes)


def _check_link(event: TraceEvent, source_id: str | None) -> None:
    if not source_id:
        raise InvalidEvent(
            "source_id",
            "is missing: a link needs the inner run that belongs to the root; set it to that run's id",
        )
    if _is_absent(event.root_trace_id) and _is_absent(event.root_run_id):
        raise InvalidEvent(
            "root_trace_id",
            "is missing: a link needs the root of its source_id; set root_trace_id or root_run_id",
        )


def _with_texts(event: TraceEvent) -> TraceEvent:
    """The event with `_IDS` that are `str` itself. Raises `InvalidEvent`: one is no text."""
    for name in _IDS:
        value = getattr(event, name)
        if value is not None and not (type(value) is str and value.isascii()):
            _check_id(name, value)
            if type(value) is not str:  # an enumeration, of which `str` shows another text
                event = msgspec.structs.replace(event, **{name: str.__str__(value)})
    return event


def _in_one_form(event: TraceEvent) -> TraceEvent:
    """The event with its UUIDs in one form, so that they are the same for whoever compares texts."""
    changes: dict[str, str] = {}
    for name in _UUIDS:
        value = getattr(event, name)
        if type(value) is str and (same := ids.canonical(value)) != value:
            changes[name] = same
    return msgspec.structs.replace(event, **changes) if changes else event


def check_sizes(event: TraceEvent) -> None:
    """Checks the size of what the processor reads of a completed event: it refuses longer texts.

    Raises:
        InvalidEvent: names the field that is too long.
    """
    for name in _TEXTS:
        value = getattr(event, name)
        if value is None or str.__len__(value) <= ids.LONGEST // 4:
            continue
        size = len(str.encode(value))
        if size > ids.LONGEST:
            raise InvalidEvent(name, f"has {size} bytes; it may have {ids.LONGEST}")


_LONGEST_SOURCE: Final = 256
"""Longest `origin.triggered_from` that is taken for `invoke_from`; longer labels of metrics are cut."""
_APART: Final[dict[str, Any]] = dict.fromkeys(JOINING)


def _changes(event: TraceEvent, now: int) -> dict[str, Any]:
    """Fields other than ids and content that are published in another form. Raises `InvalidEvent`."""
    started, ended, root = event.started_at, event.ended_at, event.root_started_at
    if (
        type(started) is int
        and type(ended) is int
        and EARLIEST <= started <= LATEST
        and EARLIEST <= ended <= LATEST
        and (root is None or (type(root) is int and EARLIEST <= root <= LATEST))
        and event.published_at is None
    ):
        changes: dict[str, Any] = {"published_at": now}
    else:
        changes = times.completed(event, now)
    for value in _rare(event):
        if value is not None:
            _add_rare(changes, event)
            break
    origin = event.origin
    if type(origin) is Origin and _is_absent(event.invoke_from):
        source = origin.triggered_from
        if type(source) is str and source.isascii() and len(source) <= _LONGEST_SOURCE:
            changes["invoke_from"] = source
    return changes


def _add_rare(changes: dict[str, Any], event: TraceEvent) -> None:
    """Adds the prices, the currency and OpenTelemetry's ids to what changes."""
    for name in _PRICES:
        price = getattr(event, name)
        if price is not None:
            changes[name] = money.price_text(name, price)
    if event.currency is not None:
        changes["currency"] = money.currency_code(event.currency)
    for name in _NATIVE:
        if _is_zero(getattr(event, name)):
            changes[name] = None


def _is_absent(value: object) -> bool:
    return value is None or (type(value) is str and not value)


_OTHER_BODIES: Final = {
    kind.value: operator.attrgetter(*(name for name in BODIES if name != BODY.get(kind))) for kind in Kind
}
"""Kind -> what reads all bodies of other kinds."""


def _other_body(event: TraceEvent, allowed: str | None) -> InvalidEvent:
    name = next(n for n in BODIES if n != allowed and getattr(event, n) is not None)
    return InvalidEvent(name, f"is the body of another kind; {event.kind} events take {allowed or 'no body'}")


def _is_zero(native: object) -> bool:
    return type(native) is bytes and len(native) > 0 and not any(native)


def _check_id(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise wrong(field, value, "a string or None")
    try:
        value.encode()
    except UnicodeEncodeError as e:
        raise wrong(field, value, f"valid Unicode ({e.reason})") from None


def kafka_key(event: TraceEvent) -> str | None:
    """The key that a completed event is published under.

    It is the first that is set of: the root's trace id, the root run, the parent run, the own trace id.
    Kinds without a trace use the application id, and the evaluation of a session the session, so that
    its corrections follow it. A link uses the inner run's id, so that it lands in the partition of that
    run's events.
    """
    if event.kind in CONTROL:
        return event.source_id
    if event.kind in WITHOUT_TRACE:
        return event.app_id or event.source_id
    if event.kind == _EVALUATION and evaluations.of_session(event):
        return evaluations.session_of(event) or event.app_id or event.source_id
    return event.root_trace_id or event.root_run_id or event.parent_run_id or event.trace_id
