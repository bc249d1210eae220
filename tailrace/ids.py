"""OpenTelemetry ids from business ids, deterministic: a redelivery writes the same span again.

The rules are those of seed 003 (telemetry data dictionary), section 5: trace_id =
int(UUID(correlation_id)), span_id = SHA256(source_id)[:8]. Three rules are added here. A correlation id
that is not a UUID gives the first 16 bytes of its SHA-256. A source_id that is the text of a span id, as a
publisher derives it for a span that has no other, is that span. An id is never all zeros, which
OpenTelemetry defines as invalid.
"""

from __future__ import annotations

import re
from hashlib import blake2b, sha256
from typing import Final

_UUID: Final = re.compile(
    rb"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}", re.ASCII
)
_DIGITS: Final = re.compile(rb"[0-9a-fA-F]{32}", re.ASCII)
_SPAN: Final = re.compile(rb"[0-9a-fA-F]{16}", re.ASCII)
_ZERO16: Final = bytes(16)
_ZERO8: Final = bytes(8)
_VARIANT: Final = {f"{n:x}": "89ab"[n & 3] for n in range(16)}
"""A hex digit with the two highest bits that a UUID has there (RFC 9562)."""


LONGEST: Final = 8192
"""Largest size in bytes of an id or a name in an event's header, and of a Kafka key, that is processed."""


def canonical(text: str) -> str:
    """A UUID as `str(UUID)` writes it, whichever of the forms of `otel_trace_id` it has.

    Any other text is not changed. 32 hex digits alone are in lower case, but get no dashes: that is how the
    trace id of OpenTelemetry is written, from which ids are derived.
    """
    size = len(text)
    if size < 32 or size > 64 or not text.isascii():
        return text
    lower = text.lower()
    if size == 32:
        return lower if lower != text and _DIGITS.fullmatch(lower.encode()) else text
    if size == 36 and lower == text:
        return text
    raw = text.encode()
    if _UUID.fullmatch(raw):
        return lower
    digits = raw.replace(b"urn:", b"").replace(b"uuid:", b"").strip(b"{}").replace(b"-", b"")
    if not _DIGITS.fullmatch(digits):
        return text
    d = digits.decode("ascii").lower()
    return f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}"


def otel_trace_id(correlation_id: str | bytes) -> bytes:
    """The 16-byte trace id of a correlation id (a workflow run id, a message id, …).

    It is the UUID's value in every form that Python's `UUID` reads: 32 hex digits, with or without dashes,
    braces, ``urn:`` and ``uuid:``. For the nil UUID and for anything else it is the first 16 bytes of
    SHA-256 over the UTF-8 text.
    """
    raw = correlation_id.encode() if isinstance(correlation_id, str) else correlation_id
    if _UUID.fullmatch(raw):
        value = bytes.fromhex(raw.replace(b"-", b"").decode("ascii"))
        if value != _ZERO16:
            return value
    elif len(raw) > 32:
        digits = raw.replace(b"urn:", b"").replace(b"uuid:", b"").strip(b"{}").replace(b"-", b"")
        if _DIGITS.fullmatch(digits):
            value = bytes.fromhex(digits.decode("ascii"))
            if value != _ZERO16:
                return value
    return sha256(raw).digest()[:16]


def otel_span_id(source_id: str | bytes) -> bytes:
    """The 8-byte span id of an operation's id.

    It is the value of 16 hex digits that are not all zeros. For anything else it is the first 8 bytes of
    SHA-256 over the UTF-8 text.
    """
    raw = source_id.encode() if isinstance(source_id, str) else source_id
    if len(raw) == 16 and _SPAN.fullmatch(raw):
        value = bytes.fromhex(raw.decode("ascii"))
        if value != _ZERO8:
            return value
    digest = sha256(raw).digest()
    span = digest[:8]
    return span if span != _ZERO8 else digest[8:16]


def event_id(
    kind: str, trace_id: str | None, source_id: str, revision: int, tenant_id: str | None = None
) -> str:
    """The id of an event whose publisher set none: a UUID of version 8 over what identifies the event.

    Publishing the same operation twice gives a duplicate; publishing it with another revision, or for
    another tenant, does not.
    """
    texts = [kind, trace_id or "", source_id, str(revision)]
    if tenant_id:
        texts.append(tenant_id)
    return _uuid8("\0".join(texts))


def uuid_of(*texts: str) -> str:
    """A UUID of version 8 over texts: BLAKE2b-128 over them, with zero bytes between them."""
    return _uuid8("\0".join(texts))


def _uuid8(text: str) -> str:
    h: str = blake2b(text.encode(), digest_size=16).hexdigest()
    return f"{h[:8]}-{h[8:12]}-8{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"


def dedupe_hash(event_id: bytes) -> bytes:
    """The 8 bytes that stand for an event id in the dedupe state."""
    return blake2b(event_id, digest_size=8).digest()
