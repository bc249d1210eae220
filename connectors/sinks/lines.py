"""Enriched events as JSON lines and as lines for a terminal. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from connectors.sdk.contract import Enriched
from connectors.sdk.redact import clean
from tailrace.records import TraceEvent

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_CODES: Final = {"dim": "2", "bold": "1", "red": "31", "green": "32"}


def as_json(record: Enriched) -> bytes:
    """One JSON object without line breaks: topic, partition, offset, context and event.

    Fields without a value are left out; bytes are hex; times are microseconds; content is JSON text
    inside a string, unchanged. Parsing it gives exactly the same event.
    """
    document = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "context": _fields(record.context),
        "event": _fields(record.event),
    }
    return _encode(document)


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in zip(struct.__struct_fields__, msgspec.structs.astuple(struct), strict=True):
        if value is None or value in ((), [], {}):
            continue
        if isinstance(value, bytes):
            out[name] = value.hex()
        else:
            out[name] = _fields(value) if isinstance(value, msgspec.Struct) else value
    return out


def as_text(record: Enriched, *, colour: bool = False) -> str:
    """One line for people: end time (UTC), kind, name, status, duration, tokens, trace and operation.

    An evaluation has its result in the place of tokens.
    """
    event, context = record.event, record.context
    status = event.status or ("failed" if event.error else "-")
    failed = status in ("failed", "exception") or bool(event.error)
    name = event.name or event.tool_name or event.node_type or event.app_name or context.app_name or "-"
    parts = [
        _paint(_clock(event.ended_at), "dim", colour),
        f"{event.kind:<18}",
        _paint(f"{clean(name, 32):<32}", "bold", colour),
        _paint(f"{clean(status, 17):<9}", "red" if failed else "green", colour),
        f"{_duration(event):>9}",
        f"{_result(event) or _tokens(event):>10}",
        _paint(f"trace {context.run_trace_id.hex()} span {context.span_id.hex()}", "dim", colour),
    ]
    if event.error:
        parts.append(_paint(clean(event.error, 120), "red", colour))
    return "  ".join(parts).rstrip()


def _paint(text: str, style: str, colour: bool) -> str:
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if colour else text


def _clock(micros: int) -> str:
    try:
        return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%H:%M:%S.%f")[:-3]
    except (ValueError, OverflowError, OSError):
        return "--:--:--.---"


def _duration(event: TraceEvent) -> str:
    seconds = max(0, event.ended_at - event.started_at) / 1e6
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _result(event: TraceEvent) -> str:
    """Number and label, or flag, of an evaluation."""
    body = event.evaluation
    if body is None:
        return ""
    number = "" if body.number is None else f"{body.number:g}"
    flag = "" if body.flag is None else str(body.flag).lower()
    return " ".join(part for part in (number, clean(body.label or "", 32), flag) if part)


def _tokens(event: TraceEvent) -> str:
    total = event.total_tokens
    if total is None and (event.input_tokens is not None or event.output_tokens is not None):
        total = (event.input_tokens or 0) + (event.output_tokens or 0)
    return "" if total is None else f"{total} tok"
