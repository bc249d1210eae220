"""Dead letters: what they are called and which records they hold. Shared by the processor and the
connectors."""

from __future__ import annotations

import hashlib

from tailrace.records import DeadLetter, Stage


def letter_id(stage: str, sink: str | None, topic: str, partition: int, offset: int) -> str:
    """The same for every try at the same record: a dead letter written twice is one."""
    return f"{stage}:{sink or 'streams'}:{topic}:{partition}:{offset}"


def raw_letter(
    stage: Stage,
    reason: str,
    detail: str,
    topic: str,
    partition: int,
    offset: int,
    appended_at: int,
    key: bytes | None,
    value: bytes | None,
    keep: int,
) -> DeadLetter:
    """A record that could not be read or applied, with its bytes; of those over `keep` the start and the
    digest of all."""
    size = len(value or b"")
    cut = size > keep
    return DeadLetter(
        dead_letter_id=letter_id(stage, None, topic, partition, offset),
        stage=stage,
        reason=reason,
        detail=detail[:2000],
        topic=topic,
        partition=partition,
        offset=offset,
        appended_at=appended_at,
        failed_at=appended_at,
        key=key if key is None or len(key) <= keep else key[:keep],
        raw=value[:keep] if value is not None and cut else value,
        raw_size=size,
        raw_sha256=hashlib.sha256(value).digest() if value is not None and cut else None,
    )
