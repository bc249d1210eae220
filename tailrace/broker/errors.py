"""The error of this package."""

from __future__ import annotations

from tailrace.errors import TailraceError


class BrokerError(TailraceError):
    """The local broker cannot start, or has ended. The message has the reason and the end of its log."""
