"""What becomes of a record at a sink, as values; exceptions are for bugs.

A sink's `send` answers with one outcome for the whole batch, or with one a record in the batch's order.
`Delivered`, `Filtered` and `Rejected` (of a single record) are final; the runner acts on the others until
each record has a final one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Delivered(msgspec.Struct, frozen=True):
    """The sink has accepted it; whether it stored it is the sink's business."""

    unidentified: int = 0
    """Of a whole batch: so many of its records were not stored, without saying which (OTLP's partial
    success)."""
    detail: str = ""


class Filtered(msgspec.Struct, frozen=True):
    """Left out on purpose."""

    reason: str


class Retry(msgspec.Struct, frozen=True):
    """Not accepted now; the same records again, later, before anything that follows them in their
    partition."""

    after: float | None = None
    """Seconds the sink asked to wait, at the least; None: exponential backoff. See `busy`."""
    reason: str = ""
    busy: bool = False
    """The sink works, and has too much to do (429): if it named a time, nothing at all is sent to it for so
    long; and it is no failure that the circuit breaker counts."""


class Rejected(msgspec.Struct, frozen=True):
    """Never accepted like this. Of one record: it goes to the dead letters. Of a batch: it is halved until
    the record at fault is found."""

    reason: str
    """Short and machine-readable."""
    detail: str = ""
    """For a person; without secrets and without content of the event."""
    status: int | None = None
    """HTTP status of the answer."""
    request: str | None = None
    """What was sent, redacted."""
    response: str | None = None
    """Known fields of the answer."""


class Split(msgspec.Struct, frozen=True):
    """Too much at once: the same records in two halves. Of one record it is a rejection as too_large."""

    reason: str = "too_large"
    status: int | None = None


class Paused(msgspec.Struct, frozen=True):
    """The sink takes nothing from us at present (credentials, quota, a wrong address): it is no record's
    fault, so the whole sink waits and probes, and nothing is dead-lettered."""

    reason: str
    fix: str = ""
    """The sink's settings to look at, by name."""


Outcome = Delivered | Filtered | Retry | Rejected | Split | Paused
Outcomes = Outcome | Sequence[Outcome]
Verdict = Delivered | Filtered | Rejected
"""A record's final outcome."""
