"""Builds dead letters and their ids, for the processor and the connectors. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

from tailrace.records import DeadLetter, Stage

TEXT: Final = 2000
"""Most characters of a detail, request or response."""
NAME: Final = 512
"""Most characters of an id or name."""


def dead_letter_id(stage: str, sink: str | None, topic: str, partition: int, offset: int) -> str:
    """The id of a dead letter. It is the same for every attempt with the same record.

    Args:
        stage: The stage at which the record failed.
        sink: The sink's name; None: the processor.
        topic: The record's topic.
        partition: The record's partition.
        offset: The record's offset.
    """
    return f"{stage}:{sink or 'streams'}:{topic}:{partition}:{offset}"


def dead_letter(
    stage: Stage,
    reason: str,
    detail: str,
    *,
    topic: str,
    partition: int,
    offset: int,
    appended_at: int,
    failed_at: int,
    key: bytes | None,
    value: bytes | None,
    keep: int,
    sink: str | None = None,
    sequence: int | None = None,
    event_id: str | None = None,
    trace_id: str | None = None,
    kind: str | None = None,
    tenant_id: str | None = None,
    app_id: str | None = None,
    request: str | None = None,
    response_status: int | None = None,
    response: str | None = None,
    attempts: int = 0,
) -> DeadLetter:
    """The dead letter of a record. Texts are not changed: the caller limits them to `TEXT` and `NAME`.

    Args:
        stage: The stage at which the record failed.
        reason: Short and machine-readable.
        detail: For a person.
        topic: The record's topic.
        partition: The record's partition.
        offset: The record's offset.
        appended_at: When the record was appended, milliseconds UTC.
        failed_at: When it failed, milliseconds UTC.
        key: The record's key.
        value: The record's bytes, if they could not be read or applied; None: they are not kept.
        keep: How many bytes of the value are kept. Of a longer value the SHA-256 digest is kept, too.
        sink: The sink's name; None: the processor.
        sequence: The record's sequence number, if known.
        event_id: The event's id, if known.
        trace_id: The event's trace, if known.
        kind: The event's kind, if known.
        tenant_id: The event's tenant, if known.
        app_id: The event's application, if known.
        request: What was sent, redacted.
        response_status: HTTP status of the response.
        response: What the response said, redacted.
        attempts: Requests that the record was part of.
    """
    cut = value is not None and len(value) > keep
    return DeadLetter(
        dead_letter_id=dead_letter_id(stage, sink, topic, partition, offset),
        stage=stage,
        reason=reason,
        detail=detail,
        sink=sink,
        topic=topic,
        partition=partition,
        offset=offset,
        sequence=sequence,
        appended_at=appended_at,
        failed_at=failed_at,
        event_id=event_id,
        trace_id=trace_id,
        kind=kind,
        tenant_id=tenant_id,
        app_id=app_id,
        key=key,
        raw=value[:keep] if value is not None and cut else value,
        raw_size=len(value or b""),
        raw_sha256=hashlib.sha256(value).digest() if value is not None and cut else None,
        request=request,
        response_status=response_status,
        response=response,
        attempts=attempts,
    )
