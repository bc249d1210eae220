"""A sink's dead letters: what they say about a record. Pure; `connectors.consumer.dead_letter_producer`
writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from connectors.sdk.contract import RecordOrigin
from connectors.sdk.outcomes import Rejected
from connectors.sdk.redact import clean
from tailrace.dead_letters import letter_id
from tailrace.records import DeadLetter, Stage

TEXT: Final = 2000
"""Characters of a detail, request or response."""
NAME: Final = 512
"""Characters of an id or name."""


class DeadLetterRequest(msgspec.Struct, frozen=True):
    """A record to be dead-lettered."""

    stage: Stage
    source: RecordOrigin
    rejected: Rejected
    attempts: int
    value: bytes | None
    """The record's bytes, where they could not be decoded."""
    settle: Callable[[], None]
    """To be called, in the consumer's thread, once the dead letter is durable."""


def dead_letter(
    stage: Stage,
    sink: str,
    source: RecordOrigin,
    rejected: Rejected,
    failed_at: int,
    *,
    attempts: int = 0,
    value: bytes | None = None,
    keep: int = 0,
) -> DeadLetter:
    """The record at `source` as a dead letter of `sink`. failed_at: milliseconds UTC.

    value: the record's bytes, only where they could not be decoded; of those over `keep` bytes the start and
    the digest of all. Of what could be decoded nothing but header fields: content is as the sink's policy
    leaves it, and the record can be found by topic, partition and offset. Every text is bounded, so the
    dead letter fits its topic."""
    raw = value or b""
    cut = len(raw) > keep
    return DeadLetter(
        dead_letter_id=letter_id(stage, sink, source.topic, source.partition, source.offset),
        stage=stage,
        reason=clean(rejected.reason, NAME),
        detail=clean(rejected.detail, TEXT),
        sink=sink,
        topic=source.topic,
        partition=source.partition,
        offset=source.offset,
        sequence=source.sequence,
        appended_at=source.appended_at,
        failed_at=failed_at,
        event_id=_name(source.event_id),
        trace_id=_name(source.trace_id),
        kind=_name(source.kind),
        tenant_id=_name(source.tenant_id),
        app_id=_name(source.app_id),
        key=None if source.key is None else source.key[:NAME],
        raw=None if value is None else raw[:keep],
        raw_size=len(raw),
        raw_sha256=hashlib.sha256(raw).digest() if cut else None,
        request=None if rejected.request is None else clean(rejected.request, TEXT),
        response_status=rejected.status,
        response=None if rejected.response is None else clean(rejected.response, TEXT),
        attempts=attempts,
    )


def letter_key(source: RecordOrigin) -> bytes | None:
    """Key of the dead letter: its trace, else the record's own key."""
    return source.trace_id.encode() if source.trace_id else source.key


def _name(text: str | None) -> str | None:
    return None if text is None else clean(text, NAME)
