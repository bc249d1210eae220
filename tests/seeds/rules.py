"""Conversions and rules that the seeds' YAML files name, for all sinks: from tailrace's units to those that
vendors write.

Written from the vendors' documents, not with the sinks' code: they are what it is compared with.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any, Final

from connectors.sdk.contract import Enriched

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def iso(us: int, unit: str) -> str:
    """ISO 8601 in UTC with a Z; microseconds or milliseconds, cut."""
    return (_EPOCH + datetime.timedelta(microseconds=us)).isoformat(timespec=unit).replace("+00:00", "Z")


CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "hex": lambda v: v.hex(),
    "text": str,
    "json": json.loads,  # JSON text that the payload carries as JSON
    "json_text": lambda v: json.dumps(v, separators=(",", ":"), ensure_ascii=False),  # a value as JSON text
    "list": list,
    "flag": lambda v: "true" if v else "false",
    "seconds": lambda v: v / 1e6,
    "nanoseconds": lambda v: str(v * 1000),  # OTLP/JSON writes 64-bit numbers as strings
    "iso_ms": lambda v: iso(v, "milliseconds"),
    "iso_us": lambda v: iso(v, "microseconds"),
}

RULES: Final[dict[str, Callable[[Enriched], Any]]] = {
    "root": lambda r: r.context.parent_span_id is None,
    "child": lambda r: r.context.parent_span_id is not None,
    "failed": lambda r: r.event.status in {"failed", "exception", "error"} or bool(r.event.error),
    "end": lambda r: max(r.event.started_at, r.event.ended_at),  # microseconds, never before the start
}
