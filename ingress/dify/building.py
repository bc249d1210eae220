"""The event of an operation, with what other lines told about it. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingress.dify.joining import LATER_CALL, Joined
from ingress.dify.operation import Operation
from tailrace.content import BODY_CONTENT
from tailrace.errors import InvalidEvent
from tailrace.formats import Note
from tailrace.kinds import BODY
from tailrace.records import Kind, Message, Origin, TraceEvent
from tailrace.times import ESTIMATED

_WITHOUT_TIME: Final = frozenset(
    {Kind.FEEDBACK, Kind.APP_CREATED, Kind.APP_UPDATED, Kind.APP_DELETED, Kind.REHYDRATION_FAILED}
)
"""Kinds whose event is read soon after it happened: without a time it is now."""
_OF_RUN: Final = (
    "tenant_id",
    "app_id",
    "app_name",
    "workspace_name",
    "conversation_id",
    "user_id",
    "session_id",
    "external_trace_id",
    "workflow_run_id",
    "root_trace_id",
    "root_run_id",
    "root_app_id",
    "root_started_at",
    "started_at",
    "ended_at",
    "status",
    "error",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "invoke_from",
    "mode",
    "inputs",
    "outputs",
)
"""Fields that the message of a chatflow has from its run."""
MADE: Final = "made from its run: Dify sends no message of a chatflow"


def event_of(operation: Operation, joined: Joined, now: int, notes: list[Note]) -> TraceEvent:
    """The event of an operation.

    Args:
        operation: what its line says.
        joined: what other lines told.
        now: the current time, microseconds UTC.
        notes: where is noted what was filled.

    Raises:
        InvalidEvent: it has no time, and nothing tells one.
    """
    fields, body = dict(operation.fields), dict(operation.body)
    notes += operation.notes
    notes += joined.notes
    for name, value, source in joined.fills:
        if value is not None and fields.get(name) is None:
            fields[name] = value
            if not name.startswith("root_"):
                notes.append(Note("filled", name, source))
    root = [source for name, value, source in joined.fills if name == "root_trace_id" and value is not None]
    notes += [Note("filled", "root", source) for source in root[:1]]
    if any(note.why == LATER_CALL for note in joined.notes):
        body.update(time_cost=None, tool_parameters=None)
        fields.update(error=None, status="succeeded")
        operation.duration = None
    _set_times(operation, fields, joined, now, notes)
    return _event(operation.kind, operation.source_id, fields, body, operation.origin)


def message_of(run: TraceEvent) -> TraceEvent:
    """The message of a chatflow: the turn that its run answers."""
    body = run.workflow_run
    values = {name: getattr(run, name) for name in _OF_RUN}
    origin = run.origin
    return TraceEvent(
        kind=Kind.MESSAGE,
        source_id=run.message_id or "",
        message_id=run.message_id,
        message=Message(query=body.query if body is not None else None),
        origin=origin,
        attributes={k: v for k, v in (run.attributes or {}).items() if k == ESTIMATED[0]},
        **values,
    )


def _set_times(
    operation: Operation, fields: dict[str, Any], joined: Joined, now: int, notes: list[Note]
) -> None:
    """Sets a start and an end that the line lacks, from what is nearest to the truth."""
    started, ended, took = fields.get("started_at"), fields.get("ended_at"), operation.duration
    if started is not None and ended is not None:
        return
    kind = operation.kind
    if started is not None or ended is not None:
        if took is None:
            why = "is missing; taken as that of the other end, without a duration"
        else:
            why = "is missing; taken from the other end and the duration"
        name = "ended_at" if ended is None else "started_at"
        started = ended - (took or 0) if started is None and ended is not None else started
        ended = (started or 0) + (took or 0) if ended is None else ended
    elif kind == Kind.PROMPT_GENERATION:
        notes.append(Note("missing", "started_at", "Dify gives no time; it ended when it was published"))
        return
    elif kind in _WITHOUT_TIME:
        name, why = "started_at", "is missing; taken as now"
        started = ended = now
    else:
        first, last = joined.span
        at = last if kind == Kind.SUGGESTED_QUESTION and last is not None else first
        if at is None:
            raise InvalidEvent(
                "trace_info.start_time", "is missing, as is end_time, and no line tells what it belongs to"
            )
        name, why = "started_at", "is missing; taken from what it belongs to"
        started, ended = at, at + (took or 0)
    fields.update(started_at=started, ended_at=ended)
    attribute, text = ESTIMATED
    fields["attributes"] = {**fields.get("attributes", {}), attribute: text}
    notes.append(Note("filled", name, why))


def _event(
    kind: Kind, source_id: str, fields: dict[str, Any], body: dict[str, Any], origin: dict[str, Any]
) -> TraceEvent:
    values = {name: value for name, value in fields.items() if value is not None}
    for missing in ("started_at", "ended_at"):
        values.setdefault(missing, None)  # of a prompt generation: it is completed when it is published
    name = BODY.get(kind)
    if name is not None and body:
        cls = BODY_CONTENT[name][0]
        values[name] = cls(**{k: v for k, v in body.items() if v is not None})
    found = {k: v for k, v in origin.items() if v not in (None, ())}
    if found:
        values["origin"] = Origin(**found)
    return TraceEvent(kind=kind, source_id=source_id, **values)


def corrected(event: TraceEvent) -> TraceEvent:
    """The event as a correction of one that was made from other lines."""
    return msgspec.structs.replace(event, revision=1)
