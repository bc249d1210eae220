"""OTLP receivers that keep spans as the bytes that came."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from connectors.testing.doubles.alibaba import AlibabaDouble
from connectors.testing.doubles.otlp import OtlpReceiver

_REQUEST_TO_SPAN: Final = (1, 2, 2)
"""Field numbers: resource_spans, scope_spans, spans."""

Spans = dict[tuple[str, str], list[bytes]]
"""By trace id and span id what was received, in that order."""


def inner(message: bytes, number: int) -> Iterator[bytes]:
    """The values of a length-delimited field of a protobuf message, as they are on the wire."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        match tag & 7:
            case 0:
                varint()
            case 1:
                at += 8
            case 2:
                size = varint()
                if tag >> 3 == number:
                    yield message[at : at + size]
                at += size
            case 5:
                at += 4
            case other:
                raise ValueError(f"wire type {other}")


def raw_spans(request: bytes) -> Iterator[bytes]:
    found = [request]
    for number in _REQUEST_TO_SPAN:
        found = [part for message in found for part in inner(message, number)]
    yield from found


class RawReceiver(OtlpReceiver):
    """Keeps each span as the bytes that came, with the resource left out."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: Spans = {}

    def decompressed(self, request: Any, body: bytes) -> bytes:
        return keep(self.raw, super().decompressed(request, body))

    def take(self) -> Spans:
        """What came since the last call."""
        found, self.raw = self.raw, {}
        return found


class RawAlibaba(AlibabaDouble):
    """The same for Alibaba Cloud."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: Spans = {}

    def decompressed(self, request: Any, body: bytes) -> bytes:
        return keep(self.raw, super().decompressed(request, body))

    def take(self) -> Spans:
        """What came since the last call."""
        found, self.raw = self.raw, {}
        return found


def keep(raw: Spans, plain: bytes) -> bytes:
    """Adds the spans of a request; returns it."""
    for span in raw_spans(plain):
        [trace], [own] = inner(span, 1), inner(span, 2)
        raw.setdefault((trace.hex(), own.hex()), []).append(span)
    return plain
