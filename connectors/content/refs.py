"""What a record's references stand for, and the record with its content again. Pure.

A reference is followed only if it names a field that holds text, a hash, and the record's own tenant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from connectors.sdk.contract import Enriched
from tailrace import ids
from tailrace.content import all_changes
from tailrace.content_store.naming import is_hash
from tailrace.fields import FIELDS
from tailrace.records import (
    ChangeKind,
    ContentChange,
    ContentRef,
    Kind,
    RehydrationFailed,
    TraceContext,
    TraceEvent,
)

MARK: Final = "content_missing"
"""Mark in the context of a record that goes on without content that it refers to."""
MISSING: Final = "missing"
DAMAGED: Final = "damaged"
LATE: Final = "late"
UNREACHABLE: Final = "unreachable"
NOT_CONFIGURED: Final = "not_configured"
OTHER_TENANT: Final = "other_tenant"
TOO_LARGE: Final = "too_large"
UNUSABLE: Final = "unusable"
REASONS: Final[Mapping[str, str]] = {
    MISSING: "the store does not have it",
    DAMAGED: "what the store has is not what the event names",
    LATE: "the store did not answer in time",
    UNREACHABLE: "the store cannot be reached",
    NOT_CONFIGURED: "content.store is not set where the sinks run",
    OTHER_TENANT: "the reference names another tenant",
    TOO_LARGE: "the record has more content than content.max_bytes",
    UNUSABLE: "the reference is not valid",
}
"""Why content does not come back -> the same for a person."""

PATHS: Final = frozenset(path for path, field in FIELDS.items() if field.cut)
"""Fields that may be stored outside the event: those that may be cut, so no id, and nothing that is counted.
"""

_KINDS: Final[Mapping[str, str]] = {
    Kind.WORKFLOW_RUN: "workflow",
    Kind.NODE_EXECUTION: "node",
    Kind.DRAFT_NODE_EXECUTION: "draft_node",
}
"""Kind -> payload_type of seed 003, section 8.2.12. The other kinds have the name of the kind."""


class Failure(NamedTuple):
    """A reference whose content does not come back."""

    ref: ContentRef
    reason: str
    """One of `REASONS`."""


def fetched_paths(fields: Collection[str] | None, removed: Collection[str] = ()) -> frozenset[str]:
    """The paths whose content is worth fetching for a sink.

    Args:
        fields: The fields of `TraceEvent` that the sink decodes; None: all.
        removed: Paths whose content the sink's content policy removes.
    """
    return frozenset(
        path for path in PATHS if path not in removed and (fields is None or path.partition(".")[0] in fields)
    )


def is_whole(ref: ContentRef) -> bool:
    """Whether the reference stands for a whole field.

    A medium inside a field (``inputs#media``) stays a reference, which the text of the field names: vendors
    take no such bytes.
    """
    return "#" not in ref.field


def problem(ref: ContentRef, tenant_id: str | None) -> str | None:
    """Why a reference must not be followed; None if it may be.

    Args:
        ref: A reference of the record.
        tenant_id: The record's own tenant, whose content is fetched, and no other's. A reference without a
            tenant means it, too.
    """
    if ref.tenant_id and ref.tenant_id != tenant_id:
        return OTHER_TENANT
    if ref.field not in PATHS or ref.bytes < 0 or not is_hash(ref.hash):
        return UNUSABLE
    return None


def chosen(event: TraceEvent, paths: Collection[str], most: int) -> tuple[list[ContentRef], list[Failure]]:
    """The references of a record that a sink follows, and those that it may not follow. Never raises.

    Args:
        event: The event.
        paths: As `fetched_paths`.
        most: Bytes of content that one record gets back at most.
    """
    wanted: list[ContentRef] = []
    failures: list[Failure] = []
    room = most
    seen: set[str] = set()
    for ref in event.content_refs:
        if not is_whole(ref) or (ref.field in PATHS and ref.field not in paths) or ref.field in seen:
            continue
        if len(seen) > len(PATHS):  # fields that do not exist
            break
        seen.add(ref.field)
        reason = problem(ref, event.tenant_id)
        if reason is None and ref.bytes > room:
            reason = TOO_LARGE
        if reason is not None:
            failures.append(Failure(ref, reason))
            continue
        room -= ref.bytes
        wanted.append(ref)
    return wanted, failures


def value_of(data: bytes, path: str) -> Any:
    """The value of a field, from what the store has. Raises ValueError if it is not one.

    Args:
        data: UTF-8 text; of a list or a map its JSON.
        path: The field.
    """
    text = data.decode()
    kind = FIELDS[path].type
    if kind == "array":
        return msgspec.json.decode(text, type=tuple[str, ...])
    if kind == "map":
        return msgspec.json.decode(text, type=dict[str, str])
    return text


def filled(
    record: Enriched, found: Sequence[tuple[ContentRef, bytes]], failures: Sequence[Failure]
) -> tuple[Enriched, list[Failure]]:
    """The record with its content, and all failures. Never raises.

    A field whose content does not come back keeps what the publisher left there; it is marked as cut, and
    the record with `MARK`.

    Args:
        record: The record with references.
        found: References and what the store has for them.
        failures: The references that could not be followed.
    """
    event = record.event
    failed = list(failures)
    bodies: dict[str, dict[str, Any]] = {}
    done: set[ContentRef] = set()
    for ref, data in found:
        outer, _, inner = ref.field.rpartition(".")
        try:
            if len(data) != ref.bytes or (outer and getattr(event, outer) is None):
                raise ValueError
            bodies.setdefault(outer, {})[inner] = value_of(data, ref.field)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            failed.append(Failure(ref, DAMAGED))
        else:
            done.add(ref)
    changes = bodies.pop("", {})
    for outer, inside in bodies.items():
        if inside:
            changes[outer] = msgspec.structs.replace(getattr(event, outer), **inside)
    changes["content_refs"] = tuple(ref for ref in event.content_refs if ref not in done)
    context = record.context
    if failed:
        marks = (
            ContentChange(field=f.ref.field, change=ChangeKind.CUT, bytes=max(0, f.ref.bytes)) for f in failed
        )
        changes["content_changes"] = all_changes(event.content_changes, marks)
        context = msgspec.structs.replace(context, marks=(*context.marks, MARK))
    return (
        Enriched(
            msgspec.structs.replace(event, **changes),
            context,
            record.topic,
            record.partition,
            record.offset,
            record.appended_at,
        ),
        failed,
    )


def report(event: TraceEvent, context: TraceContext, failures: Sequence[Failure], now: int) -> TraceEvent:
    """The event `rehydration_failed` of a record (seed 003, section 8.2.12).

    Its ids derive from the record's event id: the reports of several sinks and processes, and those of a
    record that is read again, are duplicates of one event. Its error names fields and reasons, and holds no
    content.

    Args:
        event: The record's event.
        context: Its context.
        failures: What did not come back.
        now: Microseconds UTC.
    """
    source_id = ids.uuid_of(Kind.REHYDRATION_FAILED, event.tenant_id or "", event.event_id or "")
    reasons = dict.fromkeys(f.reason for f in failures)
    fields = {
        reason: sorted({f.ref.field[:100] for f in failures if f.reason == reason}) for reason in reasons
    }
    error = "; ".join(f"{', '.join(fields[reason])}: {REASONS[reason]}" for reason in reasons)
    return TraceEvent(
        kind=Kind.REHYDRATION_FAILED,
        source_id=source_id,
        tenant_id=event.tenant_id,
        app_id=event.app_id,
        started_at=now,
        ended_at=now,
        error=error[:2000],
        rehydration_failed=RehydrationFailed(
            payload_type=_KINDS.get(event.kind, str(event.kind)),
            correlation_id=context.root_run_id or context.root_trace_id or event.trace_id or event.event_id,
        ),
    )
