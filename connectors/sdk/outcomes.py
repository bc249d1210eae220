"""Outcomes of sending a record, as values. Exceptions are for bugs.

A sink's `send` returns one outcome for the whole batch, or one per record in the batch's order. `Delivered`,
`Filtered` and `Rejected` (of a single record) are final. The runner acts on the others until each record
has a final outcome.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Delivered(msgspec.Struct, frozen=True):
    """The vendor accepted the records. It is not promised that the vendor stores them."""

    unidentified: int = 0
    """For a whole batch: how many records the vendor did not store; it did not say which (OTLP)."""
    detail: str = ""
    """The vendor's explanation of `unidentified`."""


class Filtered(msgspec.Struct, frozen=True):
    """The record is not sent, on purpose."""

    reason: str


class Retry(msgspec.Struct, frozen=True):
    """Not accepted now. The same records are sent again later, before any that follow in their partition."""

    after: float | None = None
    """Minimum wait in seconds that the vendor asked for; None: exponential backoff."""
    reason: str = ""
    busy: bool = False
    """The vendor works but is overloaded (429).

    If `after` is set, nothing is sent to it for that time. The circuit breaker does not count this as a
    failure.
    """


class Rejected(msgspec.Struct, frozen=True):
    """Sending the same again would never be accepted.

    A single record becomes a dead letter. A batch is halved until the record at fault is found.
    """

    reason: str
    """Short and machine-readable."""
    detail: str = ""
    """For a person; without secrets and without the event's content."""
    status: int | None = None
    """HTTP status of the response."""
    request: str | None = None
    """What was sent, redacted."""
    response: str | None = None
    """Known fields of the response."""


class Split(msgspec.Struct, frozen=True):
    """Too large: the batch is sent again in two halves. A single record is rejected as too_large."""

    reason: str = "too_large"
    status: int | None = None


class Paused(msgspec.Struct, frozen=True):
    """The vendor takes nothing from this sink at present: credentials, quota, a wrong address.

    No record is at fault, so nothing is dead-lettered. The whole sink waits and sends only probes.
    """

    reason: str
    fix: str = ""
    """Names of the settings to look at."""


Outcome = Delivered | Filtered | Retry | Rejected | Split | Paused
Outcomes = Outcome | Sequence[Outcome]
Verdict = Delivered | Filtered | Rejected
"""A record's final outcome."""
