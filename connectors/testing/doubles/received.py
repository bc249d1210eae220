"""Spans as a receiver kept them: a JSON-lines file, one span a line, and views of it."""

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

    Attribute values keep their type: a string, bool, int, float, list, dict or None. What JSON cannot say is
    a dict of one entry: ``{"bytes": "<base64>"}``, ``{"double": "NaN"}`` (``Infinity``, ``-Infinity``)."""

    request: int
    """Number of the request that brought it, from 1; goes on after a restart."""
    received_at: int
    """Microseconds UTC."""
    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str
    kind: str
    """unspecified, internal, server, client, producer, consumer; the number where it is none of them."""
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    status: str = "unset"
    """unset, ok, error; the number where it is none of them."""
    status_message: str = ""
    trace_state: str = ""
    events: list[SpanEvent] = []
    links: list[SpanLink] = []
    scope: str = ""
    scope_version: str = ""
    resource: dict[str, Any] = {}


Key = tuple[str, str]
"""Trace id and span id: what a store that replaces by key goes by."""

_decoder: Final = msgspec.json.Decoder(ReceivedSpan)
_encoder: Final = msgspec.json.Encoder()
TEAR: Final = b"\n\n"
"""Ends a line that was cut off. A receiver writes it before it goes on in a file; nothing in a torn line was
answered."""


def encode_lines(spans: Iterable[ReceivedSpan]) -> bytes:
    return b"".join(_encoder.encode(s) + b"\n" for s in spans)


def read_spans(path: str | Path) -> list[ReceivedSpan]:
    """Every span of a receiver's file, in the order received; none if there is no file yet.

    A torn line, last or followed by an empty one, is left out: its request was never answered. Raises
    ValueError for any other line that is no span."""
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
    """What a store that replaces by key holds: the last one of each trace and span id."""
    return {(s.trace_id, s.span_id): s for s in spans}


def tree(spans: Iterable[ReceivedSpan]) -> dict[str, dict[str, str | None]]:
    """Trace id -> span id -> parent span id, of what `latest` holds."""
    found: dict[str, dict[str, str | None]] = {}
    for (trace_id, span_id), span in latest(spans).items():
        found.setdefault(trace_id, {})[span_id] = span.parent_span_id
    return found
