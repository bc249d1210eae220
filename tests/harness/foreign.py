"""Events as other producers write them: exactly what they say, with empty texts and without our checks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tailrace import records
from tailrace.codec import compile_encoder, schemas, wire
from tailrace.codec.encoder import Encode
from tailrace.records import TraceEvent

_NULLABLE: Final = [
    (f["name"], f["type"][1]) for f in schemas.current("TraceEvent")["fields"] if isinstance(f["type"], list)
]
TEXTS: Final = tuple(name for name, t in _NULLABLE if t == "string" and name not in ("inputs", "outputs"))
"""Fields that are a text or null, content excepted."""
NATIVE: Final = {"otel_trace_id": 16, "otel_span_id": 8, "otel_parent_span_id": 8}


@functools.cache
def _encoder() -> Encode:
    return compile_encoder(schemas.current("TraceEvent"), records.BY_NAME)


def encode(event: TraceEvent) -> bytes:
    """The value of a record of trace.events."""
    return wire.frame_of("TraceEvent") + b"".join(_encoder()(event))


def emptied(event: TraceEvent, chosen: Callable[[], bool] = lambda: True) -> TraceEvent:
    """The event with an empty text for a null, and zeros for an OpenTelemetry id that it does not have.

    chosen: whether the next such field is changed.
    """
    changes: dict[str, Any] = {name: "" for name in TEXTS if getattr(event, name) is None and chosen()}
    changes |= {name: bytes(n) for name, n in NATIVE.items() if getattr(event, name) is None and chosen()}
    return msgspec.structs.replace(event, **changes)
