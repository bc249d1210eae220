"""What an event must have before it is applied: ids, which are completed here, and plausible times. Pure.

Publishers complete the ids of their events (tailrace/identity.py). Here the same rules hold for events of
other producers.
"""

from __future__ import annotations

from typing import Final

from streams.processing.header import NAMES, Header
from tailrace import ids
from tailrace.kinds import CONTROL, JOINING, OWN_ID, OWN_TRACE, WITHOUT_TRACE
from tailrace.times import EARLIEST, LATEST, problem_of

MISSING_ID: Final = "missing_id"
IMPLAUSIBLE_TIME: Final = "implausible_time"
"""Reasons of dead letters."""

_EARLIEST: Final = EARLIEST
_LATEST: Final = LATEST
_OWN_ID: Final[dict[str, str]] = dict(OWN_ID)
_OWN_TRACE: Final = OWN_TRACE
_UNTRACED: Final = WITHOUT_TRACE | CONTROL
_JOINING: Final = tuple(name for name in JOINING if name in NAMES)
_SESSION: Final = "session"
_NO_ID: Final = (
    "source_id is empty, and there is no otel_span_id to derive it from; set it to the operation's own id"
)

Refusal = tuple[str, str]
"""Reason and detail of a dead letter."""


def admit(h: Header) -> Refusal | None:
    """Completes the ids of an event that its producer left out, and checks its times.

    A draft gets a trace of its own, whatever else it names.

    Returns:
        Why the event cannot be applied, or None.
    """
    if not h.source_id or not h.event_id or h.trace_id is None or h.kind in _OWN_TRACE:
        refusal = _complete(h)
        if refusal is not None:
            return refusal
    root = h.root_started_at
    if (
        _EARLIEST <= h.started_at <= _LATEST
        and _EARLIEST <= h.ended_at <= _LATEST
        and _EARLIEST <= h.published_at <= _LATEST
        and (root is None or _EARLIEST <= root <= _LATEST)
    ):
        return None
    return IMPLAUSIBLE_TIME, _problem(h)


def _problem(h: Header) -> str:
    times: list[tuple[str, int | None]] = [
        ("started_at", h.started_at),
        ("ended_at", h.ended_at),
        ("published_at", h.published_at),
        ("root_started_at", h.root_started_at),
    ]
    for name, at in times:
        problem = None if at is None else problem_of(at)
        if problem is not None:
            return f"{name} {problem}"
    raise AssertionError("all times are plausible")


def _complete(h: Header) -> Refusal | None:
    kind = h.kind
    if not h.source_id:
        own = _own_id(h)
        if own is None:
            return MISSING_ID, _NO_ID
        h.source_id = own
    if kind in _OWN_TRACE:
        for name in _JOINING:
            setattr(h, name, None)
        h.trace_id = h.source_id
    elif h.trace_id is None and kind not in _UNTRACED and h.evaluation_target != _SESSION:
        h.trace_id = h.message_id or h.workflow_run_id or _hex(h.otel_trace_id) or h.source_id
    if not h.event_id:
        h.event_id = ids.event_id(
            kind, _text(h.trace_id), h.source_id.decode(), h.revision, _text(h.tenant_id)
        ).encode()
    return None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _own_id(h: Header) -> bytes | None:
    """The id that the kind has in a field of its own, else the hex digits of the OpenTelemetry span id."""
    field = _OWN_ID.get(h.kind)
    own: bytes | None = None if field is None else getattr(h, field)
    if own is not None:
        return own
    found = _hex(h.otel_span_id)
    if found is not None and h.parent_id is None:
        h.parent_id = _hex(h.otel_parent_span_id)
    return found


def _hex(native: bytes | None) -> bytes | None:
    return None if native is None else native.hex().encode()
