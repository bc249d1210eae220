"""The error of this package."""

from __future__ import annotations

from tailrace.errors import TailraceError


class BrokerError(TailraceError):
    """The local broker cannot start, or has ended. The message says why, with the end of its log."""
