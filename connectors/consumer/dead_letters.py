"""Builds a sink's dead letters. Pure; `connectors.consumer.dead_letter_producer` writes them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from connectors.sdk.contract import RecordOrigin
from connectors.sdk.outcomes import Rejected
from connectors.sdk.redact import clean
from tailrace.dead_letters import NAME, TEXT, dead_letter
from tailrace.records import DeadLetter, Stage


class DeadLetterRequest(msgspec.Struct, frozen=True):
    """A record to dead-letter."""

    stage: Stage
    source: RecordOrigin
    rejected: Rejected
    attempts: int
    value: bytes | None
    """The record's bytes, if they could not be decoded."""
    settle: Callable[[], None]
    """Acknowledges the record. Called in the consumer's thread once the dead letter is durable."""


def sink_dead_letter(
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
    """The record at `source` as a dead letter of `sink`.

    A record that could be decoded is represented by header fields only, without content: topic, partition and
    offset say where it is. The length of every text is bounded, so the dead letter fits its topic.

    Args:
        stage: Where it failed.
        sink: The sink's name.
        source: The record's position and header fields.
        rejected: The reason.
        failed_at: Milliseconds UTC.
        attempts: Requests that the record was part of.
        value: The record's bytes, only if they could not be decoded.
        keep: How many bytes of the value are kept.
    """
    return dead_letter(
        stage,
        clean(rejected.reason, NAME),
        clean(rejected.detail, TEXT),
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
        value=value,
        keep=keep,
        request=None if rejected.request is None else clean(rejected.request, TEXT),
        response_status=rejected.status,
        response=None if rejected.response is None else clean(rejected.response, TEXT),
        attempts=attempts,
    )


def dead_letter_key(source: RecordOrigin) -> bytes | None:
    """The dead letter's key: the trace id if it is known, else the record's own key; at most `NAME` bytes."""
    key = source.trace_id.encode() if source.trace_id else source.key
    return None if key is None else key[:NAME]


def _name(text: str | None) -> str | None:
    return None if text is None else clean(text, NAME)
