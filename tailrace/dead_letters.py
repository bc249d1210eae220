"""Dead letters: what they are called and which records they hold. Shared by the processor and the
connectors."""

from __future__ import annotations

import hashlib
from typing import Final

from tailrace.records import DeadLetter, Stage

TEXT: Final = 2000
"""Most characters of a detail, request or response."""
NAME: Final = 512
"""Most characters of an id or name."""


def dead_letter_id(stage: str, sink: str | None, topic: str, partition: int, offset: int) -> str:
    """The same for every try at the same record: a dead letter written twice is one."""
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
    """The dead letter of a record. Texts are taken as they are: the caller bounds them by `TEXT` and `NAME`.

    Args:
        sink: None: of the processor.
        appended_at: Milliseconds UTC.
        failed_at: Milliseconds UTC.
        value: The record's bytes, where they could not be read or applied; None: they are not kept.
        keep: How many bytes of the value are kept; of a longer one the digest is kept too.
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
