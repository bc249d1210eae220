"""The receiver's file of spans, one JSON document per line, and views of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec


class SpanLink(msgspec.Struct, frozen=True, kw_only=True):
    trace_id: str
    span_id: str
    attributes: dict[str, Any] = {}


class SpanEvent(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    time_ns: int
    attributes: dict[str, Any] = {}


class ReceivedSpan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One span of one request. Ids are lower-case hex.

    Attribute values keep their type: string, bool, int, float, list, dict or None. Values that JSON cannot
    represent are a dict with one entry: ``{"bytes": "<base64>"}``, ``{"double": "NaN"}`` (``Infinity``,
    ``-Infinity``).
    """

    request: int
    """Number of its request, from 1. The numbers continue after a restart."""
    received_at: int
    """Microseconds UTC."""
    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str
    kind: str
    """unspecified, internal, server, client, producer, consumer; else the number as text."""
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    status: str = "unset"
    """unset, ok, error; else the number as text."""
    status_message: str = ""
    trace_state: str = ""
    events: list[SpanEvent] = []
    links: list[SpanLink] = []
    scope: str = ""
    scope_version: str = ""
    resource: dict[str, Any] = {}


Key = tuple[str, str]
"""Trace id and span id: the key of a store in which a redelivery replaces the former span."""

_decoder: Final = msgspec.json.Decoder(ReceivedSpan)
_encoder: Final = msgspec.json.Encoder()
TEAR: Final = b"\n\n"
"""Marks the line before it as torn. A receiver writes it before it continues a file whose last line was cut
off.

The request of a torn line was never answered.
"""


def encode_lines(spans: Iterable[ReceivedSpan]) -> bytes:
    """The lines of the file for some spans."""
    return b"".join(_encoder.encode(s) + b"\n" for s in spans)


def read_spans(path: str | Path) -> list[ReceivedSpan]:
    """All spans of a receiver's file, in the order received; empty if there is no file yet.

    A torn line, which is the last one or followed by an empty one, is left out: its request was never
    answered.

    Raises:
        ValueError: Any other line is not a span.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    spans = []
    for i, line in enumerate(lines):
        if not line:
            continue
        try:
            spans.append(_decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            if i + 1 < len(lines) and lines[i + 1]:
                raise ValueError(f"{path}, line {i + 1}: {e}") from None
    return spans


def latest(spans: Iterable[ReceivedSpan]) -> dict[Key, ReceivedSpan]:
    """The last span of each trace id and span id, as in a store in which redeliveries replace spans."""
    return {(s.trace_id, s.span_id): s for s in spans}


def tree(spans: Iterable[ReceivedSpan]) -> dict[str, dict[str, str | None]]:
    """Trace id -> span id -> parent span id, for the spans of `latest`."""
    parents: dict[str, dict[str, str | None]] = {}
    for (trace_id, span_id), span in latest(spans).items():
        parents.setdefault(trace_id, {})[span_id] = span.parent_span_id
    return parents
