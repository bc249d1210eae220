"""From a gRPC status to an outcome: the OTLP specification's table, and RetryInfo. Pure; needs no grpcio."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from connectors.sdk.outcomes import Delivered, Outcome, Paused, Rejected, Retry, Split
from connectors.sdk.policy import MAX_AFTER, Action

TABLE: Final[Mapping[str, Action]] = MappingProxyType(
    {
        "OK": Action.DELIVERED,
        "CANCELLED": Action.RETRY,
        # like INTERNAL: not retryable by the specification, but safe because ids do not change, as HTTP 500
        "UNKNOWN": Action.RETRY,
        "INVALID_ARGUMENT": Action.REJECT,
        "DEADLINE_EXCEEDED": Action.RETRY,
        "NOT_FOUND": Action.PAUSE,
        "ALREADY_EXISTS": Action.REJECT,
        "PERMISSION_DENIED": Action.PAUSE,
        "RESOURCE_EXHAUSTED": Action.SPLIT,  # a retry if it has RetryInfo
        "FAILED_PRECONDITION": Action.PAUSE,
        "ABORTED": Action.RETRY,
        "OUT_OF_RANGE": Action.RETRY,
        "UNIMPLEMENTED": Action.PAUSE,
        "INTERNAL": Action.RETRY,
        "UNAVAILABLE": Action.RETRY,
        "DATA_LOSS": Action.RETRY,
        "UNAUTHENTICATED": Action.PAUSE,
    }
)
_QUOTAS: Final = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED")
"""Statuses that a quota may have. Any other may quote a record's content, so its message decides nothing."""
_RETRY_INFO: Final = b"google.rpc.RetryInfo"
_SIZE: Final = ("larger than max", "too large", "message size", "message length")
"""What gRPC libraries say about a message above a size limit."""


def decide(
    code: str,
    detail: str,
    status_details: bytes,
    records: int,
    *,
    fix: str = "",
    quotas: Collection[str] = (),
) -> Outcome:
    """The outcome of one call that ended with status `code`.

    A single record that is refused with RESOURCE_EXHAUSTED and without a word about its size means a
    quota: the sink pauses, so that valid records are not dead-lettered.

    Args:
        detail: the status's message, redacted.
        status_details: metadata grpc-status-details-bin, or empty.
        records: the number of spans sent.
        fix: the settings to look at if the sink has to pause.
        quotas: a vendor's error codes for quotas that end by themselves.
    """
    after = retry_delay(status_details)
    said = f"{code}: {detail}" if detail else code
    if code in _QUOTAS and any(quota in detail for quota in quotas):
        return Retry(after, said, busy=True)
    match TABLE.get(code, Action.RETRY):
        case Action.DELIVERED:
            return Delivered()
        case Action.RETRY:
            return Retry(after, said)
        case Action.SPLIT if after is not None:
            return Retry(after, said)
        case Action.SPLIT if records > 1 or any(words in detail.lower() for words in _SIZE):
            return Split()
        case Action.REJECT:
            return Rejected("rejected", code, response=detail or None)
        case _:
            return Paused(said, fix)


def retry_delay(status_details: bytes) -> float | None:
    """Seconds to wait by the RetryInfo of a google.rpc.Status, at most MAX_AFTER; None without one.

    Garbage counts as none.
    """
    try:
        for number, detail in _fields(status_details):
            if number != 3 or not isinstance(detail, bytes):
                continue
            any_message = dict(_fields(detail))
            kind, value = any_message.get(1), any_message.get(2, b"")
            if isinstance(kind, bytes) and kind.endswith(_RETRY_INFO) and isinstance(value, bytes):
                delay = dict(_fields(value)).get(1, b"")
                duration = dict(_fields(delay)) if isinstance(delay, bytes) else {}
                seconds, nanos = duration.get(1, 0), duration.get(2, 0)
                if (
                    isinstance(seconds, int)
                    and isinstance(nanos, int)
                    and seconds < 1 << 62
                    and nanos < 10**9
                ):
                    return min(seconds + nanos / 1e9, MAX_AFTER)
    except (IndexError, ValueError):
        pass
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a protobuf message: number, and varint or bytes. Raises IndexError, ValueError."""
    p = 0
    while p < len(data):
        key, p = _varint(data, p)
        kind = key & 7
        if kind == 0:
            value, p = _varint(data, p)
            yield key >> 3, value
            continue
        size, p = (8, p) if kind == 1 else (4, p) if kind == 5 else _varint(data, p) if kind == 2 else (-1, p)
        if size < 0 or p + size > len(data):
            raise ValueError("not a protobuf message")
        yield key >> 3, data[p : p + size]
        p += size


def _varint(data: bytes, p: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[p]
        p += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, p
        shift += 7
        if shift > 63:
            raise ValueError("varint over 64 bits")
