"""What the publisher changed in an event, as a text for people. Pure."""

from __future__ import annotations

from typing import Final

from tailrace.records import ChangeKind, TraceContext, TraceEvent

NAME: Final = "tailrace.content_changes"
FIELD: Final = "content_changes"
"""The field of `TraceEvent` that it is made from."""


def content_changes(event: TraceEvent, context: TraceContext) -> str | None:
    """Such as ``outputs: cut from 990002 bytes; inputs: 2 values converted``. None: nothing was changed."""
    if not event.content_changes:
        return None
    return "; ".join(
        f"{c.field}: cut from {c.bytes} bytes"
        if c.change == ChangeKind.CUT
        else f"{c.field}: {c.count} values converted"
        for c in event.content_changes
    )
