"""Dify's telemetry envelopes: feedback, and applications that are created, changed or deleted. Pure.

`{"case", "tenant_id", "event_id", "payload", "metadata"}`. A large payload is not in the envelope but in
Dify's own storage, which nobody here can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ingress.dify.info import Info, fields_of
from ingress.dify.operation import Operation
from ingress.dify.task import KEPT, LOST, PREFIX, attribute_of
from ingress.dify.zones import ROWS, Zones
from tailrace.errors import InvalidEvent
from tailrace.formats import Note
from tailrace.ids import uuid_of
from tailrace.records import Kind

FEEDBACK: Final = "feedback_created"
CASES: Final[Mapping[str, Kind]] = {
    "app_created": Kind.APP_CREATED,
    "app_updated": Kind.APP_UPDATED,
    "app_deleted": Kind.APP_DELETED,
    FEEDBACK: Kind.FEEDBACK,
}
"""Case of an envelope -> kind of its event."""
_TIMES: Final = {
    Kind.APP_CREATED: "created_at",
    Kind.APP_UPDATED: "updated_at",
    Kind.APP_DELETED: "deleted_at",
    Kind.FEEDBACK: "created_at",
}


def read(line: Info, zones: Zones, notes: list[Note]) -> Operation:
    """The operation of an envelope.

    Args:
        line: the envelope.
        zones: the zones of times without one.
        notes: where is noted what was done.

    Raises:
        InvalidEvent: its case is not one of `CASES`, or it lacks what its event cannot do without.
    """
    case = line.required("case")
    kind = CASES.get(case)
    if kind is None:
        raise InvalidEvent(
            "case",
            f"is {case[:60]!r}; envelopes are read of {', '.join(CASES)}; "
            "other events come as lines with trace_info_type",
        )
    event_id = line.text("event_id")
    raw = line.raw("payload") or b"{}"
    stored = line.inner("metadata")
    reference = None if stored is None else stored.text("payload_ref")
    try:
        payload = Info("payload", fields_of(raw), notes)
    except ValueError:
        raise InvalidEvent("payload", "is not an object") from None
    if reference is not None and raw.replace(b" ", b"") == b"{}":
        return _not_there(line, case, event_id, reference, notes)
    fields: dict[str, Any] = {
        "tenant_id": line.text("tenant_id") or payload.text("tenant_id"),
        "app_id": payload.text("app_id"),
        "app_name": payload.text("app_name", "name"),
        "workspace_name": payload.text("workspace_name"),
        "user_id": payload.text("user_id"),
    }
    payload.skip("tenant_id")
    at = _time(payload, _TIMES[kind], zones, notes)
    fields.update(started_at=at, ended_at=at)
    own = event_id
    body: dict[str, Any] = {}
    origin: dict[str, Any] = {}
    if kind == Kind.FEEDBACK:
        feedback_id = payload.text("feedback_id", "id")
        own = feedback_id or event_id
        body = {"content": payload.text("content"), "feedback_id": feedback_id}
        origin = {
            "from_source": payload.text("from_source"),
            "from_end_user_id": payload.text("from_end_user_id"),
            "from_account_id": payload.text("from_account_id"),
        }
        fields.update(
            message_id=payload.required("message_id"),
            conversation_id=payload.text("conversation_id"),
            workflow_run_id=payload.text("workflow_run_id"),
            rating=_rating(payload),
        )
        fields["user_id"] = fields["user_id"] or origin["from_end_user_id"] or origin["from_account_id"]
    else:
        fields["app_id"] = payload.required("app_id")
        fields["mode"] = payload.text("mode")
    source_id = own or uuid_of("dify", case, raw.decode(errors="replace"))
    found = Operation(kind, source_id, fields, body=body, origin=origin, notes=notes)
    if reference is not None and stored is not None:
        stored.unread("payload_ref", "is left out: the payload is here")
    _place_rest(found, (line, payload, *((stored,) if stored is not None else ())))
    return found


def _not_there(line: Info, case: str, event_id: str | None, reference: str, notes: list[Note]) -> Operation:
    """Dify stored the payload elsewhere: what is known is that it is missing."""
    notes.append(Note("missing", "payload", "is in Dify's storage; the event says so (rehydration_failed)"))
    return Operation(
        Kind.REHYDRATION_FAILED,
        uuid_of("dify", "rehydration_failed", event_id or reference),
        {
            "tenant_id": line.text("tenant_id"),
            "error": f"the payload is not in the envelope; Dify stored it as {reference[:500]}",
        },
        body={"payload_type": case, "correlation_id": event_id},
        notes=notes,
    )


def _rating(payload: Info) -> str | None:
    found = payload.text("rating")
    if found is None or found in ("like", "dislike"):
        return found
    raise InvalidEvent("payload.rating", f"is {found[:40]!r}; must be like, dislike or null")


def _time(payload: Info, name: str, zones: Zones, notes: list[Note]) -> int | None:
    text = payload.text(name)
    if text is None:
        return None
    found, said = zones.read(payload.path(name), text, ROWS)
    if said is not None:
        notes.append(Note("read", "started_at", said))
    return found


def _place_rest(operation: Operation, infos: tuple[Info, ...]) -> None:
    attributes: dict[str, str] = {}
    for info in infos:
        for name, value in info.rest():
            text = attribute_of(PREFIX + name, value, attributes)
            operation.notes.append(Note("unplaced", info.path(name), LOST if text is None else KEPT))
    if attributes:
        operation.fields["attributes"] = attributes
